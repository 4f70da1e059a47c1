//! [`LogChain`] over JSON-RPC.

use super::reader::{EvmConfig, Reader};
use crate::{ChainError, Head, LogChain, LogFilter, RawLog, log_chain::LogPayload};
use alloy::{
    eips::BlockNumberOrTag,
    rpc::types::{Filter, Log},
};
use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use cryptlet_types::{UnixSeconds, subscription::Finality};
use std::{collections::HashMap, ops::RangeInclusive};

/// Most data of a log that is read at all, in bytes: more does not fit into any block.
const MAX_LOG: usize = 16 << 20;

/// A chain of Ethereum's kind without a contract of ours.
#[derive(Debug)]
pub struct EvmLogChain {
    reader: Reader,
}

impl EvmLogChain {
    /// Connects and reads the chain id. The configuration's contract does not matter.
    ///
    /// # Errors
    /// No node can be reached, one answers nonsense, or two serve different chains.
    pub async fn open(config: EvmConfig) -> Result<Self, ChainError> {
        let reader = Reader::without_contract(&config).await?;
        Ok(Self { reader })
    }
}

#[async_trait]
impl LogChain for EvmLogChain {
    fn chain_id(&self) -> u64 {
        self.reader.connection().chain_id()
    }

    async fn head(&self, finality: Finality) -> Result<Option<Head>, ChainError> {
        match finality {
            Finality::Latest => self.reader.head().await.map(Some),
            Finality::Safe => self.reader.tagged(BlockNumberOrTag::Safe).await,
            Finality::Finalized => self.reader.tagged(BlockNumberOrTag::Finalized).await,
        }
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        self.reader.header(number).await
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        self.reader.next_head(after).await
    }

    async fn logs(
        &self,
        filter: &LogFilter,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<RawLog>, ChainError> {
        let logs = self.reader.logs(&asked(filter), blocks, MAX_LOG).await?;
        let times = self.reader.times(&logs).await?;
        Ok(raw(logs, &times))
    }

    async fn logs_of_block(
        &self,
        block: &Head,
        filter: &LogFilter,
    ) -> Result<Vec<RawLog>, ChainError> {
        let filter = asked(filter);
        let logs = self.reader.logs_of_block(&filter, block, MAX_LOG).await?;
        Ok(raw(logs, &HashMap::from([(block.hash, block.timestamp)])))
    }
}

fn asked(filter: &LogFilter) -> Filter {
    let mut asked = Filter::new().address(filter.emitters.clone());
    for (place, topics) in asked.topics.iter_mut().zip(&filter.topics) {
        *place = topics.clone().into();
    }
    asked
}

/// What tells a log from another one of its transaction that says something else.
type Said = (B256, Address, Vec<B256>, Bytes);

/// Logs that have passed [`super::logs::check`], in their order.
fn raw(logs: Vec<Log>, times: &HashMap<B256, UnixSeconds>) -> Vec<RawLog> {
    let mut said: HashMap<Said, u32> = HashMap::new();
    let read = logs.into_iter().filter_map(|log| {
        let block_hash = log.block_hash?;
        let transaction = log.transaction_hash?;
        let (topics, data) = (log.topics().to_vec(), log.data().data.clone());
        let before = said
            .entry((transaction, log.address(), topics.clone(), data.clone()))
            .or_default();
        let ordinal = *before;
        *before += 1;
        Some(RawLog {
            block: log.block_number?,
            block_hash,
            at: *times.get(&block_hash)?,
            transaction,
            index: log.log_index?,
            ordinal,
            emitter: log.address(),
            topics,
            data: LogPayload::of(data),
        })
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::LogData;
    use cryptlet_types::event::MAX_TRIGGER_BYTES;

    fn log(index: u64, transaction: u8, data: &[u8]) -> Log {
        let data = Bytes::copy_from_slice(data);
        Log {
            inner: alloy_primitives::Log {
                address: Address::repeat_byte(7),
                data: LogData::new_unchecked(vec![B256::repeat_byte(1)], data),
            },
            block_hash: Some(B256::repeat_byte(2)),
            block_number: Some(5),
            block_timestamp: Some(1),
            transaction_hash: Some(B256::repeat_byte(transaction)),
            transaction_index: Some(0),
            log_index: Some(index),
            removed: false,
        }
    }

    #[test]
    fn equal_logs_of_a_transaction_are_numbered_and_dated_by_their_block() {
        let logs = vec![
            log(0, 3, b"a"),
            log(1, 3, b"b"),
            log(2, 3, b"a"),
            log(3, 4, b"a"),
            log(4, 3, b"a"),
        ];
        let times = HashMap::from([(B256::repeat_byte(2), 1_000)]);
        let read = raw(logs, &times);
        let ordinals: Vec<_> = read.iter().map(|log| log.ordinal).collect();
        assert_eq!(ordinals, [0, 0, 1, 0, 2]);
        assert!(read.iter().all(|log| log.at == 1_000));
        let entry = read[2].entry(8).unwrap();
        assert_eq!((entry.chain_id, entry.ordinal, entry.index), (8, 1, 2));
    }

    #[test]
    fn what_is_too_large_for_a_cryptlet_is_said_to_be() {
        let times = HashMap::from([(B256::repeat_byte(2), 1_000)]);
        for (size, fits) in [(MAX_TRIGGER_BYTES, true), (MAX_TRIGGER_BYTES + 1, false)] {
            let read = raw(vec![log(0, 3, &vec![1; size])], &times);
            assert_eq!(read[0].entry(1).is_some(), fits);
            assert_eq!(read[0].data == LogPayload::Oversize { size }, !fits);
        }
    }

    #[test]
    fn a_filter_is_asked_for_place_by_place() {
        let filter = LogFilter {
            emitters: vec![Address::repeat_byte(7), Address::repeat_byte(8)],
            topics: [
                vec![],
                vec![B256::repeat_byte(1), B256::repeat_byte(2)],
                vec![],
                vec![],
            ],
        };
        let asked = asked(&filter);
        let matches = |topics: &[B256]| asked.matches_topics(topics);
        assert!(matches(&[B256::ZERO, B256::repeat_byte(2)]));
        assert!(!matches(&[B256::repeat_byte(2), B256::ZERO]));
        assert!(!matches(&[B256::ZERO]));
        assert!(asked.matches_address(Address::repeat_byte(8)));
        assert!(!asked.matches_address(Address::ZERO));
    }
}
