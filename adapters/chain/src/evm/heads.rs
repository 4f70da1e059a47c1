//! Blocks' headers as nodes give them, and what has been seen of a chain's head so far.
//!
//! A header is believed by what it hashes to. A newest block that is lower than one seen before is believed only where
//! a reorganisation explains it, that is where it is not one of the blocks that led to the one seen; or where nobody
//! knows better for a while.

use crate::{ChainError, Head};
use alloy::rpc::types::Header;
use alloy_primitives::{B256, Bloom, U64};
use serde::Deserialize;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// How many of the newest blocks are remembered.
const REMEMBERED: usize = 256;

/// What is asked of a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderRule {
    /// It hashes to the block's hash by Ethereum's rule.
    Hashes,
    /// It is believed: for chains whose headers have fields of their own.
    Believed,
}

/// A header, as far as it is used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) head: Head,
    /// Filter over the block's logs; none where the header is not checked.
    pub(super) bloom: Option<Bloom>,
}

/// What every chain of Ethereum's kind has.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Least {
    number: U64,
    hash: B256,
    parent_hash: B256,
    timestamp: U64,
}

/// Reads a header, or a block that begins with one.
///
/// # Errors
/// It is none, or does not hash to what it says.
pub(super) fn parse(json: &str, rule: HeaderRule) -> Result<Block, ChainError> {
    let malformed = |error: serde_json::Error| ChainError::Malformed {
        method: "eth_getBlockByNumber",
        message: cryptlet_types::bounded::clip(&error.to_string()),
    };
    if rule == HeaderRule::Believed {
        let least: Least = serde_json::from_str(json).map_err(malformed)?;
        let head = Head {
            number: least.number.to(),
            hash: least.hash,
            parent: least.parent_hash,
            timestamp: least.timestamp.to(),
        };
        return Ok(Block { head, bloom: None });
    }
    let header: Header = serde_json::from_str(json).map_err(malformed)?;
    if header.inner.hash_slow() != header.hash {
        let message = format!("header of block {} does not hash to it", header.number);
        return Err(ChainError::Inconsistent(message));
    }
    let head = Head {
        number: header.number,
        hash: header.hash,
        parent: header.parent_hash,
        timestamp: header.timestamp,
    };
    let bloom = Some(header.logs_bloom);
    Ok(Block { head, bloom })
}

/// What has been seen of a chain, whoever showed it.
#[derive(Debug)]
pub(super) struct Seen {
    blocks: HashMap<B256, Block>,
    order: VecDeque<B256>,
    newest: Option<Head>,
    moved: Instant,
    doubted: Option<Instant>,
    patience: Duration,
}

impl Seen {
    /// `patience`: how long a chain that has become shorter is not believed.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            blocks: HashMap::new(),
            order: VecDeque::new(),
            newest: None,
            moved: Instant::now(),
            doubted: None,
            patience,
        }
    }

    /// Remembers a block.
    pub(super) fn learn(&mut self, block: Block) {
        if self.blocks.insert(block.head.hash, block).is_none() {
            self.order.push_back(block.head.hash);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.blocks.remove(&oldest);
            }
        }
    }

    pub(super) fn block(&self, hash: B256) -> Option<Block> {
        self.blocks.get(&hash).copied()
    }

    /// Number of the newest block, and since when it is the newest.
    pub(super) fn newest(&self) -> Option<(u64, Instant)> {
        self.newest.map(|head| (head.number, self.moved))
    }

    /// Takes what somebody says is the newest block.
    ///
    /// # Errors
    /// [`ChainError::Behind`] if a newer one was seen, and this is one that led to it, or far below.
    pub(super) fn take_newest(&mut self, block: Block) -> Result<Head, ChainError> {
        let head = block.head;
        if let Some(newest) = self.newest
            && head.number < newest.number
            && !self.is_fork(&head)
        {
            self.doubt(head.number)?;
        }
        if self.newest.is_none_or(|newest| newest.hash != head.hash) {
            self.moved = Instant::now();
        }
        self.forget_above(head.number);
        self.learn(block);
        self.newest = Some(head);
        self.doubted = None;
        Ok(head)
    }

    /// The newest block, where an answer says `found` and others were pushed while it was on its way: at the time of the
    /// question the newest had the number `asked`.
    pub(super) fn overtaken(&self, asked: Option<u64>, found: &Head) -> Option<Head> {
        let newest = self.newest?;
        let was_newest = asked.is_none_or(|asked| asked <= found.number);
        let is_older = found.number < newest.number && !self.is_fork(found);
        (was_newest && is_older).then_some(newest)
    }

    /// Somebody says that there is no block of that number.
    ///
    /// # Errors
    /// [`ChainError::Behind`] if there was one, or a higher one.
    pub(super) fn miss(&mut self, number: u64) -> Result<(), ChainError> {
        if self.highest().is_some_and(|highest| number <= highest) {
            return self.doubt(number.saturating_sub(1));
        }
        Ok(())
    }

    /// Number of the highest block that was seen, as the newest or in passing.
    fn highest(&self) -> Option<u64> {
        let blocks = self.blocks.values().map(|block| block.head.number);
        blocks.chain(self.newest.map(|head| head.number)).max()
    }

    /// The chain is shorter now: what was above is not part of it.
    fn forget_above(&mut self, number: u64) {
        self.blocks.retain(|_, block| block.head.number <= number);
        self.order.retain(|hash| self.blocks.contains_key(hash));
    }

    /// Whether another block of that height was seen, and not this one.
    fn is_fork(&self, head: &Head) -> bool {
        !self.blocks.contains_key(&head.hash)
            && self
                .blocks
                .values()
                .any(|block| block.head.number == head.number)
    }

    fn doubt(&mut self, found: u64) -> Result<(), ChainError> {
        let since = *self.doubted.get_or_insert_with(Instant::now);
        if since.elapsed() >= self.patience {
            return Ok(());
        }
        let seen = self.highest().unwrap_or_default();
        Err(ChainError::Behind { seen, found })
    }

    /// Whether `after` is one of the blocks that led to `head`, as far as they were seen.
    pub(super) fn follows(&self, head: &Head, after: &Head) -> bool {
        let mut below = *head;
        while below.number > after.number.saturating_add(1) {
            match self.blocks.get(&below.parent) {
                Some(parent) if parent.head.number < below.number => below = parent.head,
                _ => return false,
            }
        }
        below.number == after.number.saturating_add(1) && below.parent == after.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Block `number` of fork `fork`, upon `parent`.
    fn block(number: u64, fork: u8, parent: B256) -> Block {
        let mut hash = B256::repeat_byte(fork);
        hash.0[..8].copy_from_slice(&number.to_be_bytes());
        let head = Head {
            number,
            hash,
            parent,
            timestamp: number,
        };
        Block { head, bloom: None }
    }

    fn chain(fork: u8, numbers: std::ops::RangeInclusive<u64>) -> Vec<Block> {
        let mut parent = B256::ZERO;
        let made = numbers.map(|number| {
            let made = block(number, fork, parent);
            parent = made.head.hash;
            made
        });
        made.collect()
    }

    fn seen(patience: Duration) -> (Seen, Vec<Block>) {
        let blocks = chain(1, 0..=10);
        let mut seen = Seen::new(patience);
        for block in &blocks {
            seen.take_newest(*block).unwrap();
        }
        (seen, blocks)
    }

    const LONG: Duration = Duration::from_secs(3600);

    #[test]
    fn an_answer_that_was_overtaken_by_a_pushed_block_is_no_old_one() {
        let (seen, blocks) = seen(LONG);
        let [old, asked, newest] = [7, 8, 10].map(|number| blocks[number].head);
        assert_eq!(seen.overtaken(Some(asked.number), &asked), Some(newest));
        assert_eq!(seen.overtaken(None, &asked), Some(newest));
        assert_eq!(
            seen.overtaken(Some(asked.number), &old),
            None,
            "older when it was asked for"
        );
        assert_eq!(seen.overtaken(Some(newest.number), &newest), None);
        let fork = block(9, 2, blocks[8].head.hash).head;
        assert_eq!(
            seen.overtaken(Some(asked.number), &fork),
            None,
            "the chain was reorganised"
        );
    }

    #[test]
    fn an_older_block_is_no_newest_one_and_a_forks_is() {
        let (mut seen, blocks) = seen(LONG);
        let behind = seen.take_newest(blocks[7]).unwrap_err();
        assert!(
            matches!(behind, ChainError::Behind { seen: 10, found: 7 }) && behind.is_retryable(),
            "{behind}"
        );
        let fork = block(9, 2, blocks[8].head.hash);
        assert_eq!(seen.take_newest(fork).unwrap(), fork.head);
        assert!(seen.take_newest(blocks[8]).is_err());
        assert!(seen.take_newest(blocks[10]).is_ok(), "higher again");
    }

    #[test]
    fn one_far_below_what_is_remembered_is_no_fork() {
        let mut seen = Seen::new(LONG);
        seen.take_newest(block(1_000, 1, B256::ZERO)).unwrap();
        assert!(seen.take_newest(block(10, 2, B256::ZERO)).is_err());
    }

    #[test]
    fn what_nobody_knows_better_is_believed_after_a_while() {
        let (mut seen, blocks) = seen(Duration::ZERO);
        assert_eq!(seen.take_newest(blocks[7]).unwrap(), blocks[7].head);
        assert!(seen.miss(8).is_ok());
    }

    #[test]
    fn a_block_that_was_there_is_not_missing() {
        let (mut seen, blocks) = seen(LONG);
        assert!(matches!(seen.miss(10), Err(ChainError::Behind { .. })));
        assert!(seen.miss(11).is_ok());
        seen.take_newest(block(11, 1, blocks[10].head.hash))
            .unwrap();
        assert!(seen.miss(11).is_err());
    }

    #[test]
    fn a_block_follows_another_by_the_hashes_between_them() {
        let (seen, blocks) = seen(LONG);
        let follows = |head: &Block, after: &Block| seen.follows(&head.head, &after.head);
        assert!(follows(&blocks[10], &blocks[9]));
        assert!(follows(&blocks[10], &blocks[3]));
        assert!(!follows(&blocks[9], &blocks[10]));
        assert!(!follows(&blocks[9], &blocks[9]));
        assert!(!follows(&blocks[10], &block(9, 2, B256::ZERO)));
        assert!(!follows(&block(13, 1, B256::ZERO), &blocks[10]));
    }

    proptest! {
        #[test]
        fn few_blocks_are_remembered_and_the_newest_is_among_them(numbers in proptest::collection::vec((0_u64..2_000, 0_u8..3), 1..600)) {
            let mut seen = Seen::new(Duration::ZERO);
            for (number, fork) in numbers {
                let block = block(number, fork, B256::ZERO);
                prop_assert!(seen.take_newest(block).is_ok());
                prop_assert!(seen.block(block.head.hash).is_some());
                prop_assert!(seen.blocks.len() <= REMEMBERED && seen.blocks.len() == seen.order.len());
            }
        }

        #[test]
        fn what_is_no_header_is_refused(text in ".{0,80}") {
            prop_assert!(parse(&text, HeaderRule::Hashes).is_err());
            prop_assert!(parse(&text, HeaderRule::Believed).is_err());
        }
    }

    #[test]
    fn a_header_that_does_not_hash_to_its_block_is_refused() {
        let header = Header::new(alloy_consensus::Header {
            number: 7,
            timestamp: 9,
            ..Default::default()
        });
        let mut json = serde_json::to_value(&header).unwrap();
        let parsed = |json: &serde_json::Value, rule| parse(&json.to_string(), rule);
        let block = parsed(&json, HeaderRule::Hashes).unwrap();
        assert_eq!((block.head.hash, block.head.number), (header.hash, 7));
        for (field, value) in [("timestamp", "0xa"), ("number", "0x8"), ("gasUsed", "0x1")] {
            let mut forged = json.clone();
            forged[field] = value.into();
            let error = parsed(&forged, HeaderRule::Hashes).unwrap_err();
            assert!(
                matches!(error, ChainError::Inconsistent(_)),
                "{field}: {error}"
            );
        }
        json["ofThatChainOnly"] = "0x1".into();
        json["gasUsed"] = "0x1".into();
        let block = parsed(&json, HeaderRule::Believed).unwrap();
        assert_eq!((block.head.timestamp, block.bloom), (9, None));
    }
}
