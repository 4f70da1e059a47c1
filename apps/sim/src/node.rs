//! A chain in memory, as one node serves it: blocks, a pool, fees, reorganisations. Pure: chance is handed in.

use crate::{
    delegate::{Call, Delegate, Logged, Sent},
    dice::Dice,
    settings::Settings,
};
use alloy_consensus::{Transaction, TxEnvelope, transaction::SignerRecoverable};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::SolCall;
use cryptlet_chain::{
    BroadcastError, ChangeKind, Delivery, Fees, Head, LogFilter, LogPayload, RawLog,
    SubscriptionChange, TransactionOutcome, evm::abi::CryptoDelegate,
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
    /// Its pause, or the end of that.
    Pause(Subject, bool),
    /// That so many equal logs are heard, with that topic, of a transaction that is found again by its number.
    Emit {
        /// Which transaction.
        number: u64,
        /// How many logs.
        logs: u32,
        /// Their topic.
        topic: B256,
    },
}

/// The contract whose logs others wait for.
pub const EMITTER: Address = Address::repeat_byte(0xe1);

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
    call: Sent,
}

/// A transaction in a block.
#[derive(Clone, Debug)]
pub struct Mined {
    /// What was sent.
    pub waiting: Waiting,
    /// What the delegate consumed and left out; none if it reverted.
    pub logged: Option<Logged>,
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
    /// What the emitter logged.
    pub logs: Vec<RawLog>,
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
                logs: vec![],
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

    /// EIP-155 id.
    #[must_use]
    pub fn chain_id(&self) -> u64 {
        self.chain_id
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
        let mut logs = vec![];
        let mut wishes = vec![];
        while let Some(wish) = self.wishes.pop_front() {
            let log_index = (changes.len() + logs.len()).try_into().unwrap_or(u64::MAX);
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
                Wish::Pause(subject, paused) => {
                    if !delegate.pause(*subject, *paused) {
                        continue;
                    }
                    let at = timestamp;
                    let kind = match paused {
                        true => ChangeKind::Paused,
                        false => ChangeKind::Resumed { at },
                    };
                    (*subject, kind)
                }
                Wish::Emit { .. } => {
                    logs.extend(emitted(&wish, &head, log_index));
                    wishes.push(wish);
                    continue;
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
            let logged = delegate.take(&waiting.call, timestamp).ok();
            for report in logged.iter().flat_map(|(delivered, _)| delivered) {
                let sequence = report.sequence;
                changes.push(SubscriptionChange {
                    block: number,
                    log_index: (changes.len() + logs.len()).try_into().unwrap_or(u64::MAX),
                    subject: report.subject,
                    kind: ChangeKind::Consumed { sequence },
                });
            }
            mined.push(Mined { waiting, logged });
        }
        self.later.push(Block {
            head,
            mined,
            changes,
            logs,
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

    /// What the emitter logged in these blocks and `filter` selects.
    #[must_use]
    pub fn logs(&self, filter: &LogFilter, first: u64, last: u64) -> Vec<RawLog> {
        let within = |block: &&Block| (first..=last).contains(&block.head.number);
        let among = |wanted: &[B256], topic: Option<&B256>| {
            wanted.is_empty() || topic.is_some_and(|topic| wanted.contains(topic))
        };
        let selects = |log: &&RawLog| {
            let mut topics = filter.topics.iter().enumerate();
            (filter.emitters.is_empty() || filter.emitters.contains(&log.emitter))
                && topics.all(|(place, wanted)| among(wanted, log.topics.get(place)))
        };
        let logs = self.blocks().filter(within).flat_map(|block| &block.logs);
        logs.filter(selects).cloned().collect()
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
            let _reverts_or_not = delegate.take(&waiting.call, time);
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
        let call = read_call(envelope.input()).ok_or_else(|| refuse("not a delivery"))?;
        Ok(Waiting {
            hash: *envelope.tx_hash(),
            raw: raw.clone(),
            nonce: envelope.nonce(),
            max_fee: envelope.max_fee_per_gas(),
            priority_fee: envelope.max_priority_fee_per_gas().unwrap_or_default(),
            call,
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
            .find_map(|block| block.outcomes().find(|outcome| outcome.transaction == hash))
    }

    /// The canonical block of that hash.
    #[must_use]
    pub fn by_hash(&self, hash: B256) -> Option<&Block> {
        self.blocks().rfind(|block| block.head.hash == hash)
    }

    /// All consumed reports, in the order in which they were consumed.
    pub fn deliveries(&self) -> impl Iterator<Item = Delivery> {
        self.blocks().flat_map(|block| {
            block.outcomes().flat_map(|outcome| {
                let reports = outcome.delivered.into_iter();
                reports.map(move |report| Delivery {
                    transaction: outcome.transaction,
                    block: outcome.block,
                    block_hash: outcome.block_hash,
                    gas_used: outcome.gas_used,
                    report,
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
    pub fn reports(&self) -> &[Report] {
        self.call.reports()
    }
}

impl Block {
    /// What became of its transactions.
    pub fn outcomes(&self) -> impl Iterator<Item = TransactionOutcome> {
        let Head { number, hash, .. } = self.head;
        self.mined.iter().zip(0..).map(move |(mined, index)| {
            let (delivered, undelivered) = mined.logged.clone().unwrap_or_default();
            TransactionOutcome {
                transaction: mined.waiting.hash,
                block: number,
                block_hash: hash,
                index,
                success: mined.logged.is_some(),
                gas_used: GAS,
                delivered,
                undelivered,
            }
        })
    }
}

/// The logs of an emission in the block of `head`, from place `index` on.
fn emitted(wish: &Wish, head: &Head, index: u64) -> Vec<RawLog> {
    let Wish::Emit {
        number,
        logs,
        topic,
    } = wish
    else {
        return vec![];
    };
    let log = |ordinal: u32| RawLog {
        block: head.number,
        block_hash: head.hash,
        at: head.timestamp,
        transaction: keccak256(number.to_be_bytes()),
        index: index + u64::from(ordinal),
        ordinal,
        emitter: EMITTER,
        topics: vec![*topic],
        data: LogPayload::Whole(Bytes::new()),
    };
    (0..*logs).map(log).collect()
}

fn read_call(input: &Bytes) -> Option<Sent> {
    if let Ok(call) = CryptoDelegate::deliverBatchCall::abi_decode(input) {
        let CryptoDelegate::deliverBatchCall { batch, r, vs } = call;
        let report = |item: CryptoDelegate::BatchItem| Report {
            cryptlet: CryptletId(batch.cryptlet),
            subject: Subject(item.subject),
            sequence: item.sequence,
            issued_at: item.issuedAt,
            valid_until: item.validUntil,
            region: Measurement(batch.region),
            delegation: B256::ZERO,
            payload: item.payload,
        };
        let reports = batch.items.into_iter().map(report).collect();
        return Some(Sent::Batch(reports, CompactSignature { r, vs }));
    }
    let call = CryptoDelegate::deliverCall::abi_decode(input).ok()?;
    let report = call.report;
    Some(Sent::One(Box::new(Call {
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
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Switches, delegate::Delegate};
    use alloy_primitives::FixedBytes;
    use cryptlet_chain::Rejection;
    use cryptlet_seal::SigningKey;
    use cryptlet_types::{ClockSpec, ReportDomain, TriggerSpec};

    const TIME: UnixSeconds = 1_000_000;

    struct Scene {
        node: Node,
        dice: Dice,
        settings: Settings,
        key: SigningKey,
        domain: ReportDomain,
        subject: Subject,
    }

    fn scene() -> Scene {
        let domain = ReportDomain {
            chain_id: 1,
            delegate: Address::repeat_byte(1),
        };
        let key = SigningKey::from_secret(&[7; 32]).unwrap();
        let cryptlet = CryptletId(Address::repeat_byte(2));
        let dice = Dice::new(5);
        let settings = Settings {
            losses: 0,
            ..Settings::of(&dice, Switches::default())
        };
        let delegate = Delegate::new(domain, cryptlet, key.address());
        let subscription = Subscription {
            subject: Subject(B256::ZERO),
            consumer: Address::repeat_byte(3),
            nonce: 0,
            cryptlet,
            on_behalf_of: Address::ZERO,
            callback: FixedBytes([1; 4]),
            callback_gas: 50_000,
            validity: 60,
            trigger: TriggerSpec::Clock(ClockSpec {
                cron: "* * * * *".into(),
                time_zone: "UTC".into(),
            }),
            params: Bytes::new(),
            since: 0,
        }
        .with_subject_in(&domain);
        let subject = subscription.subject;
        let mut node = Node::new(1, delegate, Address::repeat_byte(9), TIME);
        node.wish(Wish::Subscribe(Box::new(subscription)));
        node.mine(TIME + 1, &dice, &settings);
        Scene {
            node,
            dice,
            settings,
            key,
            domain,
            subject,
        }
    }

    impl Scene {
        fn call(&self, sequence: u64, valid_until: UnixSeconds) -> Call {
            let report = Report {
                cryptlet: CryptletId(Address::repeat_byte(2)),
                subject: self.subject,
                sequence,
                issued_at: TIME,
                valid_until,
                region: Measurement(B256::ZERO),
                delegation: B256::ZERO,
                payload: Bytes::new(),
            };
            let signature = self.key.sign(report.digest(&self.domain)).unwrap();
            Call { report, signature }
        }

        fn waiting(&self, nonce: u64, sequence: u64) -> Waiting {
            Waiting {
                hash: B256::left_padding_from(&[1, u8::try_from(sequence).unwrap()]),
                raw: Bytes::new(),
                nonce,
                max_fee: 500 * GWEI,
                priority_fee: GWEI,
                call: Sent::One(Box::new(self.call(sequence, TIME + 60))),
            }
        }

        fn mine(&mut self) {
            self.node.mine(TIME + 2, &self.dice, &self.settings);
        }
    }

    #[test]
    fn the_delegate_takes_each_number_once_in_order_in_time_and_from_its_signer() {
        let scene = scene();
        let mut delegate = scene.node.delegate(0).clone();
        let wrong = |expected, given| Err(Rejection::WrongSequence { expected, given });
        let good = scene.call(1, TIME + 60);
        assert_eq!(delegate.check(&scene.call(2, TIME + 60), TIME), wrong(1, 2));
        assert_eq!(delegate.check(&good, TIME - 1), Err(Rejection::NotYetValid));
        assert_eq!(delegate.check(&good, TIME + 61), Err(Rejection::Expired));
        let mut forged = good.clone();
        forged.report.valid_until += 1;
        let refused = delegate.check(&forged, TIME);
        assert!(matches!(
            refused,
            Err(Rejection::SignerNotEnrolled { .. } | Rejection::InvalidSignature)
        ));
        delegate.consume(&good, TIME + 60).unwrap();
        assert_eq!(delegate.check(&good, TIME), wrong(2, 1));
        assert!(delegate.unsubscribe(scene.subject));
        assert_eq!(
            delegate.check(&good, TIME),
            Err(Rejection::UnknownSubscription)
        );
    }

    #[test]
    fn what_was_in_a_replaced_block_goes_back_to_the_pool_or_is_lost() {
        for (losses, kept) in [(0, 1), (1_000_000, 0)] {
            let mut scene = scene();
            let waiting = scene.waiting(0, 1);
            scene.node.take(waiting).unwrap();
            while scene.node.deliveries().count() == 0 {
                scene.mine();
            }
            scene.settings.losses = losses;
            scene.settings.block_room = 0;
            let tip = scene.node.tip().head;
            let Scene {
                node,
                dice,
                settings,
                ..
            } = &mut scene;
            let replaced = node.replace(1, TIME + 9, dice, settings);
            assert_eq!((replaced.blocks, replaced.back), (1, kept));
            assert_eq!(scene.node.deliveries().count(), 0);
            assert_ne!(
                scene.node.block(tip.number).map(|block| block.head),
                Some(tip)
            );
            scene.settings.block_room = 9;
            for _ in 0..9 {
                scene.mine();
            }
            let back = usize::try_from(kept).unwrap();
            assert_eq!(scene.node.deliveries().count(), back);
        }
    }

    #[test]
    fn nonces_are_mined_in_order_and_a_replacement_has_to_pay_more() {
        let mut scene = scene();
        let later = scene.waiting(1, 1);
        scene.node.take(later.clone()).unwrap();
        scene.mine();
        assert_eq!(scene.node.deliveries().count(), 0, "nonce 0 is missing");
        assert!(matches!(
            scene.node.take(later.clone()),
            Err(BroadcastError::AlreadyKnown)
        ));
        let other = Waiting {
            hash: B256::repeat_byte(9),
            ..later
        };
        assert!(matches!(
            scene.node.take(other),
            Err(BroadcastError::Underpriced(_))
        ));
    }
}
