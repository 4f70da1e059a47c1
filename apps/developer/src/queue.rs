//! Audits a message queue (`contracts/src/MessageQueue.sol`): makes its hash chain again from the delegate's logs, and compares
//! each message that it shows with the log of its delivery.
//!
//! What the logs are is the node's word. Payloads are compared with receipts: a digest is of the report that has them.

use crate::{ChainClient, DeveloperError};
use alloy::eips::BlockId;
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{SolCall, SolEvent, sol};
use cryptlet_audit::{QueueLink, queue_chain};
use cryptlet_chain::{
    ChainError, EvmConfig, EvmLogChain, LogChain, LogFilter, LogPayload, RawLog,
    evm::abi::CryptoDelegate,
};
use cryptlet_types::{ReportDomain, Subject, subscription::Finality};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

sol! {
    #[derive(Debug, PartialEq, Eq)]
    struct Message {
        uint64 sequence;
        uint64 time;
        address signer;
        bytes32 digest;
        bytes payload;
    }

    function delegate() external view returns (address);
    function subject() external view returns (bytes32);
    function count() external view returns (uint256);
    function chainHash() external view returns (bytes32);
    function message(uint256 index) external view returns (Message memory);
}

const READING: &str = "cannot read the queue";
const LOGS: &str = "cannot read the delegate's logs";
/// Questions that a node is asked at once.
const AT_ONCE: usize = 16;
/// Most messages that are named where they differ.
const NAMED: usize = 20;

/// What an audit has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueAudit {
    /// The queue.
    pub queue: Address,
    /// Its subscription.
    pub subject: Subject,
    /// The delegate by whose logs it was judged.
    pub delegate: Address,
    /// EIP-155 id of the chain.
    pub chain_id: u64,
    /// The block as of which it was judged.
    pub block: u64,
    /// Messages that the queue has.
    pub messages: u64,
    /// Deliveries whose callback failed: they left gaps in the sequences.
    pub failed: u64,
    /// The last link of the queue's hash chain, as the queue says.
    pub chain_hash: B256,
    /// The same, made from the logs.
    pub replayed: B256,
    /// What does not agree, in words; empty where the queue holds.
    pub differences: Vec<String>,
}

impl QueueAudit {
    /// Whether the queue is what the logs say.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.differences.is_empty()
    }
}

/// What a queue says of itself.
struct State {
    count: u64,
    /// The first of them, as many as were logged: a queue may say any count.
    messages: Vec<QueueLink>,
    chain_hash: B256,
}

/// What the delegate logged.
#[derive(Default)]
struct Logged {
    messages: Vec<QueueLink>,
    failed: u64,
}

/// Audits the queue as of the newest block, by the logs of the delegate at `domain` from block `first` on, by the node at `url`.
///
/// # Errors
/// The node does not answer, serves another chain, or its chain was reorganised meanwhile; there is no queue at that address.
pub async fn audit(
    url: &str,
    domain: ReportDomain,
    queue: Address,
    first: u64,
) -> Result<QueueAudit, DeveloperError> {
    let chain = ChainClient::open(url, domain.chain_id).await?;
    let logs = EvmLogChain::open(EvmConfig::new(url, Address::ZERO)).await;
    let logs = logs.map_err(failed)?;
    let head = logs.head(Finality::Latest).await.map_err(failed)?;
    let head = head.ok_or_else(|| unread("there is no block"))?;
    let listens: Address = read(&chain, head.number, queue, &delegateCall {}).await?;
    let subject = Subject(read(&chain, head.number, queue, &subjectCall {}).await?);
    let logged = logged(&logs, domain.delegate, subject, first..=head.number).await?;
    let state = state(&chain, head.number, queue, logged.messages.len()).await?;
    let still = logs.header(head.number).await.map_err(failed)?;
    if still.is_none_or(|still| still.hash != head.hash) {
        return Err(unread("the chain was reorganised meanwhile"));
    }
    let mut differences = Vec::new();
    if listens != domain.delegate {
        let delegate = domain.delegate;
        differences.push(format!(
            "the queue takes messages from delegate {listens}, not from {delegate}"
        ));
    }
    let replayed = queue_chain(subject, &logged.messages);
    differences.extend(compare(&state, &logged.messages, replayed));
    Ok(QueueAudit {
        queue,
        subject,
        delegate: domain.delegate,
        chain_id: domain.chain_id,
        block: head.number,
        messages: state.count,
        failed: logged.failed,
        chain_hash: state.chain_hash,
        replayed,
        differences,
    })
}

/// What of the queue is not what was logged.
fn compare(state: &State, logged: &[QueueLink], replayed: B256) -> Vec<String> {
    let mut differences = Vec::new();
    let (has, should) = (state.count, logged.len());
    if u64::try_from(should) != Ok(has) {
        differences.push(format!("the queue has {has} messages, the logs {should}"));
    }
    let pairs = state.messages.iter().zip(logged).enumerate();
    let others = pairs.filter(|(_, (message, logged))| message != logged);
    differences.extend(others.take(NAMED).map(|(index, (message, logged))| {
        format!("message {index}: the queue has {message:?}, the logs {logged:?}")
    }));
    if replayed != state.chain_hash {
        let claimed = state.chain_hash;
        differences.push(format!(
            "the queue's chain ends in {claimed}, that of the logs in {replayed}"
        ));
    }
    differences
}

async fn state(
    chain: &ChainClient,
    block: u64,
    queue: Address,
    logged: usize,
) -> Result<State, DeveloperError> {
    let chain_hash = read(chain, block, queue, &chainHashCall {}).await?;
    let count: U256 = read(chain, block, queue, &countCall {}).await?;
    let count =
        u64::try_from(count).map_err(|_| unread("it says that it has more than 2^64 messages"))?;
    let most = u64::try_from(logged).unwrap_or(u64::MAX).min(count);
    let ask = |index: u64| async move {
        let index = U256::from(index);
        read(chain, block, queue, &messageCall { index }).await
    };
    let messages = stream::iter(0..most).map(ask).buffered(AT_ONCE);
    let messages = messages.map_ok(|message: Message| QueueLink {
        sequence: message.sequence,
        time: message.time,
        digest: message.digest,
        signer: message.signer,
    });
    Ok(State {
        count,
        messages: messages.try_collect().await?,
        chain_hash,
    })
}

async fn logged(
    chain: &EvmLogChain,
    delegate: Address,
    subject: Subject,
    blocks: std::ops::RangeInclusive<u64>,
) -> Result<Logged, DeveloperError> {
    let topic = CryptoDelegate::Delivered::SIGNATURE_HASH;
    let filter = LogFilter {
        emitters: vec![delegate],
        topics: [vec![topic], vec![subject.0], vec![], vec![]],
    };
    let mut logged = Logged::default();
    for log in chain.logs(&filter, blocks).await.map_err(failed)? {
        let delivered = decode(&log)?;
        if !delivered.success {
            logged.failed = logged.failed.saturating_add(1);
            continue;
        }
        logged.messages.push(QueueLink {
            sequence: delivered.sequence,
            time: log.at,
            digest: delivered.digest,
            signer: delivered.signer,
        });
    }
    Ok(logged)
}

fn decode(log: &RawLog) -> Result<CryptoDelegate::Delivered, DeveloperError> {
    let LogPayload::Whole(data) = &log.data else {
        return Err(unread("a log of the delegate is too large"));
    };
    let topics = log.topics.iter().copied();
    let decoded = CryptoDelegate::Delivered::decode_raw_log_validate(topics, data);
    decoded.map_err(|error| unread(&error.to_string()))
}

async fn read<C: SolCall>(
    chain: &ChainClient,
    block: u64,
    queue: Address,
    call: &C,
) -> Result<C::Return, DeveloperError> {
    chain
        .read_at(BlockId::number(block), READING, queue, call)
        .await
}

fn failed(error: ChainError) -> DeveloperError {
    DeveloperError::Chain {
        doing: LOGS.to_owned(),
        reason: error.to_string(),
    }
}

fn unread(reason: &str) -> DeveloperError {
    DeveloperError::Chain {
        doing: READING.to_owned(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUBJECT: Subject = Subject(B256::repeat_byte(1));

    fn link(sequence: u64) -> QueueLink {
        QueueLink {
            sequence,
            time: 100 + sequence,
            digest: B256::with_last_byte(7),
            signer: Address::repeat_byte(4),
        }
    }

    fn honest(logged: &[QueueLink]) -> State {
        State {
            count: u64::try_from(logged.len()).unwrap(),
            messages: logged.to_vec(),
            chain_hash: queue_chain(SUBJECT, logged),
        }
    }

    #[test]
    fn whatever_a_queue_forges_is_named() {
        let logged = [link(1), link(3), link(4)];
        let compare = |state: &State, logged: &[QueueLink]| {
            let replayed = queue_chain(SUBJECT, logged);
            super::compare(state, logged, replayed)
        };
        assert_eq!(compare(&honest(&logged), &logged), [""; 0]);

        let mut altered = honest(&logged);
        altered.messages[1].digest = B256::ZERO;
        let said = compare(&altered, &logged);
        assert!(
            said.len() == 1 && said[0].contains("message 1:"),
            "{said:?}"
        );

        let mut dropped = honest(&logged);
        dropped.messages.pop();
        dropped.count = 2;
        let said = compare(&dropped, &logged);
        assert!(
            said.len() == 1 && said[0].contains("has 2 messages, the logs 3"),
            "{said:?}"
        );

        let mut added = honest(&logged);
        added.count = 4;
        assert!(compare(&added, &logged)[0].contains("has 4 messages, the logs 3"));

        let mut chained = honest(&logged);
        chained.chain_hash = B256::ZERO;
        let said = compare(&chained, &logged);
        assert!(
            said.len() == 1 && said[0].contains("chain ends in"),
            "{said:?}"
        );

        // One that forges all of it alike still differs from the logs.
        let forged = honest(&[link(1), link(2), link(4)]);
        assert_eq!(compare(&forged, &logged).len(), 2);
    }
}
