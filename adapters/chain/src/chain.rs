//! The trait that every chain implements, and the values that pass through it.

use crate::{BroadcastError, ChainError};
use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use cryptlet_types::{
    CryptletId, ReportDomain, SignedDelegation, SignedReport, Subject, Subscription, UnixSeconds,
    receipt::Inclusion, report::CompactSignature,
};
use std::{collections::BTreeMap, ops::RangeInclusive};

/// A blockchain with a delegate on it, as one node serves it.
///
/// Every method asks the node once and gives up after a bounded time, [`Chain::next_head`] excepted; retries
/// are the caller's (see [`ChainError::is_retryable`]). All futures may be dropped at any point.
#[async_trait]
pub trait Chain: Send + Sync {
    /// Chain id and delegate: where reports may be delivered.
    fn domain(&self) -> ReportDomain;

    /// The newest block.
    async fn head(&self) -> Result<Head, ChainError>;

    /// The canonical block of that number, if there is one yet.
    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError>;

    /// Waits until the newest block is another one than `after`, for as long as that takes. By hash, so that a
    /// block that was replaced by one of the same number counts.
    async fn next_head(&self, after: &Head) -> Result<Head, ChainError>;

    /// What the delegate logged about subscriptions in these blocks, in order.
    async fn subscription_changes(
        &self,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<SubscriptionChange>, ChainError>;

    /// As [`Chain::subscription_changes`], of this very block: of no other one of its number, whatever the chain has
    /// there now. Asks nothing where the block's header says that there is nothing.
    async fn subscription_changes_of(
        &self,
        block: &Head,
    ) -> Result<Vec<SubscriptionChange>, ChainError>;

    /// How many reports the subscription has consumed; `None` if there is no such subscription. The next report
    /// is number `sequence + 1`.
    async fn sequence(
        &self,
        cryptlet: CryptletId,
        subject: Subject,
    ) -> Result<Option<u64>, ChainError>;

    /// Asks the delegate, without a transaction, whether it would consume the report in the pending block. With the
    /// delegation that the report names, if it names one: then the delegate judges its signature too.
    async fn preflight(
        &self,
        report: &SignedReport,
        delegation: Option<&SignedDelegation>,
        from: Address,
        gas_limit: u64,
    ) -> Result<Result<(), Rejection>, ChainError>;

    /// As [`Chain::preflight`], of a batch as a whole: its signature, its signer, its gas. What the delegate would leave
    /// out of it is not said.
    async fn preflight_batch(
        &self,
        reports: &[SignedReport],
        signature: &CompactSignature,
        from: Address,
        gas_limit: u64,
    ) -> Result<Result<(), Rejection>, ChainError>;

    /// The delivery of a subscription's report by number, whoever submitted it. `from_block`: the search's start.
    async fn delivery(
        &self,
        subject: Subject,
        sequence: u64,
        from_block: u64,
    ) -> Result<Option<Delivery>, ChainError>;

    /// Whether the delegate has the delegation with this digest as revoked.
    async fn is_delegation_revoked(&self, digest: B256) -> Result<bool, ChainError>;

    /// Whether `signature` over `digest` is of `account`, as the chain judges it: an account's by recovery (65 bytes `r`,
    /// `s`, `v`, low `s`), a contract's by asking it (ERC-1271).
    async fn is_signed_by(
        &self,
        account: Address,
        digest: B256,
        signature: &Bytes,
    ) -> Result<bool, ChainError>;

    /// How many transactions the account has sent: mined ones, or with those that wait in the node's pool.
    async fn nonce(&self, account: Address, pending: bool) -> Result<u64, ChainError>;

    /// What a transaction costs at present.
    async fn fees(&self) -> Result<Fees, ChainError>;

    /// Call data and recipient that deliver the report, on behalf of whoever gave the delegation.
    fn delivery_call(
        &self,
        report: &SignedReport,
        delegation: Option<&SignedDelegation>,
    ) -> (Address, Bytes);

    /// Call data and recipient that deliver reports together. They are those of a [batch](cryptlet_types::Batch), and
    /// `signature` is over its digest.
    fn batch_call(
        &self,
        reports: &[SignedReport],
        signature: &CompactSignature,
    ) -> (Address, Bytes);

    /// Hands a signed transaction (EIP-2718) to the node. Returns its hash.
    async fn broadcast(&self, transaction: &Bytes) -> Result<B256, BroadcastError>;

    /// What became of a transaction; `None` while it is in no block.
    async fn transaction_outcome(
        &self,
        transaction: B256,
    ) -> Result<Option<TransactionOutcome>, ChainError>;

    /// As [`Chain::transaction_outcome`], of many, in their order.
    async fn transaction_outcomes(
        &self,
        transactions: &[B256],
    ) -> Result<Vec<Option<TransactionOutcome>>, ChainError>;

    /// What became of every transaction of a block, in their order, by one question; `None` if the node does not have
    /// that block (any more).
    async fn block_outcomes(
        &self,
        block: B256,
    ) -> Result<Option<Vec<TransactionOutcome>>, ChainError>;

    /// Proof that a mined transaction and its receipt belong to their block, checked before it is returned.
    async fn inclusion(&self, transaction: B256) -> Result<Inclusion, ChainError>;

    /// As [`Chain::inclusion`], of many transactions of one block. [`ChainError::NotIncluded`] if the node does not have
    /// that block (any more).
    async fn inclusions(
        &self,
        block: B256,
        transactions: &[B256],
    ) -> Result<BTreeMap<B256, Inclusion>, ChainError>;
}

/// A block, as far as time and order go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Height.
    pub number: u64,
    /// Block hash.
    pub hash: B256,
    /// Hash of the block before.
    pub parent: B256,
    /// `block.timestamp`.
    pub timestamp: UnixSeconds,
}

/// Something that happened to a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionChange {
    /// Block that holds the log.
    pub block: u64,
    /// Place of the log within the block.
    pub log_index: u64,
    /// The subscription.
    pub subject: Subject,
    /// What happened.
    pub kind: ChangeKind,
}

/// What happened to a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// A contract subscribed.
    Subscribed(Box<Subscription>),
    /// The contract ended it.
    Unsubscribed,
    /// The contract wants nothing from now on, until it resumes.
    Paused,
    /// The contract wants reports again. What would have been due meanwhile is not made up.
    Resumed {
        /// Timestamp of the log's block.
        at: UnixSeconds,
    },
    /// The delegate has consumed a report, whoever submitted it.
    Consumed {
        /// The report's number.
        sequence: u64,
    },
    /// A contract subscribed to something that this version cannot serve.
    Refused {
        /// Why, naming the field.
        reason: String,
    },
}

/// Why the delegate would not consume a report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// There is no such subscription to this cryptlet (any more).
    #[error("unknown subscription")]
    UnknownSubscription,
    /// The contract has paused the subscription.
    #[error("subscription is paused")]
    Paused,
    /// The report is not the subscription's next one.
    #[error("sequence {given} given, {expected} expected")]
    WrongSequence {
        /// The number that the delegate would accept.
        expected: u64,
        /// The report's number.
        given: u64,
    },
    /// The report was not the subscription's next one; which one was, a batch does not say.
    #[error("sequence {given} was not the next")]
    NotTheNext {
        /// The report's number.
        given: u64,
    },
    /// It ends before it begins.
    #[error("validUntil is not after issuedAt")]
    InvalidValidity,
    /// The block's time is before `issuedAt`.
    #[error("not yet valid")]
    NotYetValid,
    /// The block's time is after `validUntil`.
    #[error("expired")]
    Expired,
    /// The signature is malformed or was made for another report, chain or delegate.
    #[error("invalid signature")]
    InvalidSignature,
    /// The signer may not (or no longer) speak for the cryptlet.
    #[error("signer {signer} is not enrolled for cryptlet {cryptlet}")]
    SignerNotEnrolled {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// Who signed, as recovered by the delegate.
        signer: Address,
    },
    /// The report's delegation is another, missing, out of scope, expired, revoked or not signed by its identity.
    #[error("delegation: {0}")]
    DelegationRefused(&'static str),
    /// The transaction's gas cannot give the callback what it subscribed.
    #[error("gas: {required} required, {available} available")]
    InsufficientGas {
        /// What the delegate wanted to see before the callback.
        required: u64,
        /// What was left.
        available: u64,
    },
    /// Anything else that the chain said, clipped.
    #[error("{0}")]
    Other(String),
}

impl Rejection {
    /// Whether the same report may be accepted later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::NotYetValid | Self::Paused)
    }
}

/// What the delegate logged when it consumed a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveredReport {
    /// The subscription.
    pub subject: Subject,
    /// The cryptlet that spoke.
    pub cryptlet: CryptletId,
    /// The report's number.
    pub sequence: u64,
    /// EIP-712 digest of the report.
    pub digest: B256,
    /// Who signed it.
    pub signer: Address,
    /// Whether the callback succeeded.
    pub success: bool,
    /// First 256 bytes of the revert data of a failed callback.
    pub reason: Option<Bytes>,
}

/// What the delegate logged when it left a report of a batch out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UndeliveredReport {
    /// The subscription.
    pub subject: Subject,
    /// The cryptlet that spoke.
    pub cryptlet: CryptletId,
    /// The report's number.
    pub sequence: u64,
    /// Why it was not consumed.
    pub reason: Rejection,
}

/// A consumed report and the transaction that brought it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Transaction hash.
    pub transaction: B256,
    /// Number of its block.
    pub block: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Gas that the transaction used.
    pub gas_used: u64,
    /// What the delegate logged.
    pub report: DeliveredReport,
}

/// What became of a mined transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionOutcome {
    /// Transaction hash.
    pub transaction: B256,
    /// Number of its block.
    pub block: u64,
    /// Hash of its block.
    pub block_hash: B256,
    /// Place within the block.
    pub index: u64,
    /// Whether it succeeded; a reverted one consumed nothing but gas.
    pub success: bool,
    /// Gas that it used.
    pub gas_used: u64,
    /// Reports that the delegate consumed in it.
    pub delivered: Vec<DeliveredReport>,
    /// Reports of a batch that the delegate left out.
    pub undelivered: Vec<UndeliveredReport>,
}

impl TransactionOutcome {
    /// The delivery of that report, if this transaction brought it.
    #[must_use]
    pub fn delivery(&self, subject: Subject, sequence: u64) -> Option<Delivery> {
        let report = self
            .delivered
            .iter()
            .find(|report| report.subject == subject && report.sequence == sequence)?;
        Some(Delivery {
            transaction: self.transaction,
            block: self.block,
            block_hash: self.block_hash,
            gas_used: self.gas_used,
            report: report.clone(),
        })
    }
}

/// What a transaction costs at present, in wei a unit of gas (EIP-1559).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fees {
    /// Base fee of the newest block: burnt.
    pub base_fee: u128,
    /// What the node suggests on top: paid to the block's producer.
    pub priority_fee: u128,
}
