//! A chain in memory, as one node serves it: blocks, a pool, fees, reorganisations. Pure: chance is handed in.

use crate::{
    delegate::{Call, Delegate},
    dice::Dice,
    settings::Settings,
};
use alloy_consensus::{Transaction, TxEnvelope, transaction::SignerRecoverable};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::SolCall;
use cryptlet_chain::{
    BroadcastError, ChangeKind, DeliveredReport, Delivery, Fees, Head, SubscriptionChange,
    TransactionOutcome, evm::abi::CryptoDelegate,
};
use cryptlet_types::{
    CryptletId, Measurement, Report, Subject, Subscription, UnixSeconds, report::CompactSignature,
};
use std::collections::{BTreeMap, VecDeque};

/// One gwei.
const GWEI: u128 = 1_000_000_000;
/// Gas of every delivery.
const GAS: u64 = 60_000;

/// What a contract wants of the delegate.
#[derive(Clone, Debug)]
pub enum Wish {
    /// A subscription; its `since` is that of the block that takes it.
    Subscribe(Box<Subscription>),
    /// Its end.
    Unsubscribe(Subject),
}

/// A transaction of the transmitter.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its hash.
    pub hash: B256,
    /// Its bytes.
    pub raw: Bytes,
    /// Its nonce.
    pub nonce: u64,
    max_fee: u128,
    priority_fee: u128,
    call: Call,
}

/// A transaction in a block.
#[derive(Clone, Debug)]
pub struct Mined {
    /// What was sent.
    pub waiting: Waiting,
    /// What the delegate consumed; none if it reverted.
    pub delivered: Option<DeliveredReport>,
}

/// A block.
#[derive(Clone, Debug)]
pub struct Block {
    /// Number, hash and time.
    pub head: Head,
    /// The transmitter's transactions.
    pub mined: Vec<Mined>,
    /// What the delegate logged about subscriptions.
    pub changes: Vec<SubscriptionChange>,
    wishes: Vec<Wish>,
    delegate: Delegate,
    nonce: u64,
}

/// What a reorganisation did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replaced {
    /// Blocks that are gone.
    pub blocks: u64,
    /// Transactions that went back to the pool.
    pub back: u64,
    /// Transactions that are gone for good.
    pub lost: u64,
}

/// The chain.
#[derive(Debug)]
pub struct Node {
    chain_id: u64,
    transmitter: Address,
    first: Block,
    later: Vec<Block>,
    pool: BTreeMap<u64, Waiting>,
    wishes: VecDeque<Wish>,
    base_fee: u128,
    salt: u64,
}

impl Node {
    /// A chain of one block, made at `time`.
    #[must_use]
    pub fn new(chain_id: u64, delegate: Delegate, transmitter: Address, time: UnixSeconds) -> Self {
        let head = Head {
            number: 0,
            hash: keccak256("genesis"),
            parent: B256::ZERO,
            timestamp: time,
        };
        Self {
            chain_id,
            transmitter,
            first: Block {
                head,
                mined: vec![],
                changes: vec![],
                wishes: vec![],
                delegate,
                nonce: 0,
            },
            later: vec![],
            pool: BTreeMap::new(),
            wishes: VecDeque::new(),
            base_fee: 10 * GWEI,
            salt: 0,
        }
    }

    /// The canonical blocks, oldest first.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = &Block> {
        std::iter::once(&self.first).chain(&self.later)
    }

    /// The newest block.
    #[must_use]
    pub fn tip(&self) -> &Block {
        self.later.last().unwrap_or(&self.first)
    }

    /// The canonical block of that number.
    #[must_use]
    pub fn block(&self, number: u64) -> Option<&Block> {
        let Some(place) = number.checked_sub(1) else {
            return Some(&self.first);
        };
        self.later.get(usize::try_from(place).ok()?)
    }

    /// The block that lies `lag` blocks before the newest.
    #[must_use]
    pub fn behind(&self, lag: u64) -> &Block {
        let number = self.tip().head.number.saturating_sub(lag);
        self.block(number).unwrap_or(&self.first)
    }

    /// Something that a contract wants waits for a block.
    pub fn wish(&mut self, wish: Wish) {
        self.wishes.push_back(wish);
    }

    /// Makes a block at `now`.
    pub fn mine(&mut self, now: UnixSeconds, dice: &Dice, settings: &Settings) {
        let up = dice.between("node", "fee", 0..=2);
        self.base_fee = match up {
            0 => (self.base_fee / 8 * 7).max(GWEI),
            1 => self.base_fee,
            _ => (self.base_fee / 8 * 9).min(120 * GWEI),
        };
        self.salt += 1;
        let parent = self.tip();
        let timestamp = now.max(parent.head.timestamp.saturating_add(1));
        let (mut delegate, mut nonce) = (parent.delegate.clone(), parent.nonce);
        let number = parent.head.number + 1;
        let head = Head {
            number,
            hash: keccak256([number.to_be_bytes(), self.salt.to_be_bytes()].concat()),
            parent: parent.head.hash,
            timestamp,
        };
        let mut changes = vec![];
        let mut wishes = vec![];
        while let Some(wish) = self.wishes.pop_front() {
            let log_index = changes.len().try_into().unwrap_or(u64::MAX);
            let (subject, kind) = match &wish {
                Wish::Subscribe(asked) => {
                    let subscription = Subscription {
                        since: timestamp,
                        ..(**asked).clone()
                    };
                    delegate.subscribe(subscription.clone());
                    let kind = ChangeKind::Subscribed(Box::new(subscription));
                    (asked.subject, kind)
                }
                Wish::Unsubscribe(subject) => {
                    // Of a subscription that is not there it reverts, and is forgotten.
                    if !delegate.unsubscribe(*subject) {
                        continue;
                    }
                    (*subject, ChangeKind::Unsubscribed)
                }
            };
            changes.push(SubscriptionChange {
                block: number,
                log_index,
                subject,
                kind,
            });
            wishes.push(wish);
        }
        let mut mined = vec![];
        for _ in 0..settings.block_room {
            let pays = |waiting: &&Waiting| waiting.max_fee >= self.base_fee;
            let Some(waiting) = self.pool.get(&nonce).filter(pays).cloned() else {
                break;
            };
            if dice.happens("node", "left out", 100_000) {
                break;
            }
            self.pool.remove(&nonce);
            nonce += 1;
            let delivered = delegate.consume(&waiting.call, timestamp).ok();
            mined.push(Mined { waiting, delivered });
        }
        self.later.push(Block {
            head,
            mined,
            changes,
            wishes,
            delegate,
            nonce,
        });
        self.pool.retain(|waiting, _| *waiting >= nonce);
    }

    /// Loses transactions of the pool for good; how many.
    pub fn forget(&mut self, dice: &Dice, chance: u64) -> usize {
        let before = self.pool.len();
        self.pool
            .retain(|_, _| !dice.happens("node", "forgets", chance));
        before - self.pool.len()
    }

    /// Takes back up to `depth` blocks and makes as many others as the dice say, one more at most.
    pub fn replace(
        &mut self,
        depth: u64,
        now: UnixSeconds,
        dice: &Dice,
        settings: &Settings,
    ) -> Replaced {
        let mut replaced = Replaced::default();
        let mut wishes = VecDeque::new();
        let mut times = VecDeque::new();
        while replaced.blocks < depth {
            let Some(block) = self.later.pop() else { break };
            replaced.blocks += 1;
            times.push_front(block.head.timestamp);
            for mined in block.mined.into_iter().rev() {
                if dice.happens("node", "loses", settings.losses) {
                    replaced.lost += 1;
                } else {
                    replaced.back += 1;
                    self.pool.insert(mined.waiting.nonce, mined.waiting);
                }
            }
            for wish in block.wishes.into_iter().rev() {
                if dice.happens("node", "loses wish", settings.losses) {
                    replaced.lost += 1;
                } else {
                    wishes.push_front(wish);
                }
            }
        }
        // They go into a later block than the first, sometimes.
        let at_once = dice.happens("node", "wishes first", 500_000);
        let waiting = std::mem::take(&mut self.wishes);
        if at_once {
            self.wishes.append(&mut wishes);
        }
        let blocks = dice.between("node", "new blocks", 1..=replaced.blocks + 1);
        for _ in 0..blocks {
            // Blocks of one height are made at about the same time, on any fork.
            let time = times.pop_front().unwrap_or(now);
            self.mine(time.min(now), dice, settings);
            self.wishes.append(&mut wishes);
        }
        self.wishes.extend(waiting);
        replaced
    }

    /// What the delegate logged about subscriptions in these blocks.
    #[must_use]
    pub fn changes(&self, first: u64, last: u64) -> Vec<SubscriptionChange> {
        let within = |block: &&Block| (first..=last).contains(&block.head.number);
        let blocks = self.blocks().filter(within);
        blocks.flat_map(|block| block.changes.clone()).collect()
    }

    /// The delegate as of the block `lag` blocks before the newest.
    #[must_use]
    pub fn delegate(&self, lag: u64) -> &Delegate {
        &self.behind(lag).delegate
    }

    /// The delegate of the pending block, if the node knows of what is in its pool.
    #[must_use]
    pub fn pending(&self, time: UnixSeconds) -> Delegate {
        let tip = self.tip();
        let (mut delegate, mut nonce) = (tip.delegate.clone(), tip.nonce);
        while let Some(waiting) = self.pool.get(&nonce) {
            let _reverts_or_not = delegate.consume(&waiting.call, time);
            nonce += 1;
        }
        delegate
    }

    /// How many transactions the transmitter has sent.
    #[must_use]
    pub fn nonce(&self, account: Address, pending: bool, lag: u64) -> u64 {
        if account != self.transmitter {
            return 0;
        }
        let mut nonce = self.behind(lag).nonce;
        while pending && self.pool.contains_key(&nonce) {
            nonce += 1;
        }
        nonce
    }

    /// What a transaction costs.
    #[must_use]
    pub fn fees(&self) -> Fees {
        Fees {
            base_fee: self.base_fee,
            priority_fee: GWEI,
        }
    }

    /// Reads a transaction.
    ///
    /// # Errors
    /// It is none that this node takes.
    pub fn read(&self, raw: &Bytes) -> Result<Waiting, BroadcastError> {
        let refuse = |reason: &str| BroadcastError::Refused(reason.to_owned());
        let envelope = TxEnvelope::decode_2718(&mut raw.as_ref());
        let envelope = envelope.map_err(|_| refuse("malformed"))?;
        let sender = envelope.recover_signer();
        if sender.ok() != Some(self.transmitter) || envelope.chain_id() != Some(self.chain_id) {
            return Err(refuse("invalid sender"));
        }
        let call = CryptoDelegate::deliverCall::abi_decode(envelope.input());
        let call = call.map_err(|_| refuse("not a delivery"))?;
        Ok(Waiting {
            hash: *envelope.tx_hash(),
            raw: raw.clone(),
            nonce: envelope.nonce(),
            max_fee: envelope.max_fee_per_gas(),
            priority_fee: envelope.max_priority_fee_per_gas().unwrap_or_default(),
            call: read_call(call),
        })
    }

    /// Takes a transaction into the pool.
    ///
    /// # Errors
    /// Why not.
    pub fn take(&mut self, waiting: Waiting) -> Result<B256, BroadcastError> {
        let hash = waiting.hash;
        if waiting.nonce < self.tip().nonce {
            return Err(BroadcastError::NonceTooLow);
        }
        if let Some(known) = self.pool.get(&waiting.nonce) {
            if known.hash == hash {
                return Err(BroadcastError::AlreadyKnown);
            }
            let enough = |new: u128, old: u128| new >= old + old / 10;
            let outbids = enough(waiting.max_fee, known.max_fee)
                && enough(waiting.priority_fee, known.priority_fee);
            if !outbids {
                let reason = "replacement transaction underpriced".to_owned();
                return Err(BroadcastError::Underpriced(reason));
            }
        }
        self.pool.insert(waiting.nonce, waiting);
        Ok(hash)
    }

    /// What became of a transaction, up to the block `lag` blocks before the newest.
    #[must_use]
    pub fn outcome(&self, hash: B256, lag: u64) -> Option<TransactionOutcome> {
        let last = self.behind(lag).head.number;
        self.blocks()
            .filter(|block| block.head.number <= last)
            .find_map(|block| {
                let index = block
                    .mined
                    .iter()
                    .position(|mined| mined.waiting.hash == hash)?;
                let mined = block.mined.get(index)?;
                Some(TransactionOutcome {
                    transaction: hash,
                    block: block.head.number,
                    block_hash: block.head.hash,
                    index: index.try_into().ok()?,
                    success: mined.delivered.is_some(),
                    gas_used: GAS,
                    delivered: mined.delivered.iter().cloned().collect(),
                })
            })
    }

    /// All consumed reports, in the order in which they were consumed.
    pub fn deliveries(&self) -> impl Iterator<Item = Delivery> {
        self.blocks().flat_map(|block| {
            block.mined.iter().filter_map(|mined| {
                Some(Delivery {
                    transaction: mined.waiting.hash,
                    block: block.head.number,
                    block_hash: block.head.hash,
                    gas_used: GAS,
                    report: mined.delivered.clone()?,
                })
            })
        })
    }

    /// Nonces and hashes of what waits in the pool.
    pub fn pool(&self) -> impl Iterator<Item = &Waiting> {
        self.pool.values()
    }
}

impl Waiting {
    /// What it delivers.
    #[must_use]
    pub fn report(&self) -> &Report {
        &self.call.report
    }
}

fn read_call(call: CryptoDelegate::deliverCall) -> Call {
    let report = call.report;
    Call {
        report: Report {
            cryptlet: CryptletId(report.cryptlet),
            subject: Subject(report.subject),
            sequence: report.sequence,
            issued_at: report.issuedAt,
            valid_until: report.validUntil,
            region: Measurement(report.region),
            delegation: report.delegation,
            payload: report.payload,
        },
        signature: CompactSignature {
            r: call.r,
            vs: call.vs,
        },
    }
}
