//! The transaction pool: transactions that were accepted and wait for a block.
//!
//! Messages are geth's, because clients match on them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    sync::Arc,
};

use alloy_consensus::{Transaction as _, Typed2718};
use alloy_evm::FromRecoveredTx;
use alloy_primitives::{Address, B256, U256};
use revm::context::TxEnv;

use crate::{
    chain::Transaction,
    execution::{TRANSACTION_GAS_CAP, cost, intrinsic_gas},
    state::State,
};

/// Most transactions that one sender may have in the pool.
const MAX_PER_SENDER: usize = 4_096;
/// Most transactions of one sender that wait behind a missing nonce.
const MAX_QUEUED_PER_SENDER: usize = 64;
/// Most transactions in the pool.
const MAX_TRANSACTIONS: usize = 16_384;
/// Largest encoded transaction, in bytes (geth's limit).
const MAX_TRANSACTION_BYTES: usize = 128 * 1024;
/// Largest initcode, in bytes (EIP-3860).
const MAX_INITCODE_BYTES: usize = 49_152;
/// How much more a replacement has to pay, in percent.
const PRICE_BUMP: u128 = 10;

/// Why a transaction was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PoolError {
    #[error("already known")]
    AlreadyKnown,
    #[error("nonce too low: address {address}, tx: {nonce} state: {expected}")]
    NonceTooLow {
        address: Address,
        nonce: u64,
        expected: u64,
    },
    #[error("nonce has max value: address {0}, nonce: 18446744073709551615")]
    NonceMax(Address),
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    #[error("insufficient funds for gas * price + value: {0}")]
    InsufficientFunds(Box<Shortfall>),
    #[error("intrinsic gas too low: gas {gas}, minimum needed {needed}")]
    IntrinsicGas { gas: u64, needed: u64 },
    #[error("exceeds block gas limit")]
    BlockGasLimit,
    #[error("transaction gas limit too high (cap: {TRANSACTION_GAS_CAP}, tx: {0})")]
    GasCap(u64),
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFeeCap,
    #[error(
        "max fee per gas less than block base fee: maxFeePerGas: {fee_cap}, baseFee: {base_fee}"
    )]
    FeeCapTooLow { fee_cap: u128, base_fee: u64 },
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId { have: u64, want: u64 },
    #[error("transaction type not supported: blob transactions (EIP-4844) are refused")]
    Blob,
    #[error("oversized data: transaction size {0}, limit {MAX_TRANSACTION_BYTES}")]
    Oversized(usize),
    #[error("max initcode size exceeded: code size {0}, limit {MAX_INITCODE_BYTES}")]
    Initcode(usize),
    #[error("set code transaction with empty auth list")]
    EmptyAuthorizationList,
    #[error("account limit exceeded: {MAX_PER_SENDER} transactions of one sender")]
    AccountLimit,
    #[error("account limit exceeded: {MAX_QUEUED_PER_SENDER} transactions behind a nonce gap")]
    QueueLimit,
    #[error("txpool is full")]
    Full,
}

/// What the sender has, and what it would need for all its transactions; in wei.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("balance {balance}, queued cost {queued}, tx cost {cost}, overshot {overshot}")]
pub(crate) struct Shortfall {
    balance: U256,
    queued: U256,
    cost: U256,
    overshot: U256,
}

/// What a transaction is checked against.
pub(crate) struct Rules<'a> {
    pub(crate) chain_id: u64,
    pub(crate) block_gas_limit: u64,
    /// The state after the latest block.
    pub(crate) state: &'a State,
    /// The least fee cap that is accepted, in wei: the next block's base fee if a transaction
    /// below it would never be mined, else none.
    pub(crate) base_fee: Option<u64>,
}

#[derive(Debug, Clone)]
struct Entry {
    transaction: Arc<Transaction>,
    cost: U256,
    /// Rises with each acceptance; the older of two equal offers goes first.
    arrival: u64,
}

/// Transactions by sender and nonce. Cloning copies the maps, not the transactions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pool {
    senders: HashMap<Address, BTreeMap<u64, Entry>>,
    by_hash: HashMap<B256, (Address, u64)>,
    arrivals: u64,
}

impl Pool {
    /// Accepts `transaction`, in the place of one with the same nonce if it pays enough more.
    pub(crate) fn add(&mut self, tx: Arc<Transaction>, rules: &Rules<'_>) -> Result<(), PoolError> {
        let hash = *tx.tx_hash();
        if self.by_hash.contains_key(&hash) {
            return Err(PoolError::AlreadyKnown);
        }
        check_shape(&tx, rules)?;
        check_sender(&tx, rules)?;
        let cost = cost(&tx);
        self.check_funds(&tx, cost, rules.state)?;
        let replaced = self.check_place(&tx, rules.state)?;
        if let Some(replaced) = replaced {
            self.by_hash.remove(&replaced);
        }
        self.arrivals = self.arrivals.saturating_add(1);
        let (sender, nonce) = (tx.signer(), tx.nonce());
        let entry = Entry {
            transaction: tx,
            cost,
            arrival: self.arrivals,
        };
        self.by_hash.insert(hash, (sender, nonce));
        self.senders.entry(sender).or_default().insert(nonce, entry);
        Ok(())
    }

    /// The sender's balance has to cover all that it has in the pool.
    fn check_funds(&self, tx: &Transaction, cost: U256, state: &State) -> Result<(), PoolError> {
        let queued = self.senders.get(&tx.signer()).map_or(U256::ZERO, |own| {
            let others = own.iter().filter(|(nonce, _)| **nonce != tx.nonce());
            others.fold(U256::ZERO, |sum, (_, entry)| sum.saturating_add(entry.cost))
        });
        let balance = state.balance(tx.signer());
        let needed = queued.saturating_add(cost);
        if needed > balance {
            let overshot = needed.saturating_sub(balance);
            let shortfall = Shortfall {
                balance,
                queued,
                cost,
                overshot,
            };
            return Err(PoolError::InsufficientFunds(Box::new(shortfall)));
        }
        Ok(())
    }

    /// Checks the limits, or the price if a transaction is replaced; returns the replaced hash.
    fn check_place(&self, tx: &Transaction, state: &State) -> Result<Option<B256>, PoolError> {
        let sender = tx.signer();
        let own = self.senders.get(&sender);
        if let Some(old) = own.and_then(|own| own.get(&tx.nonce())) {
            let old = &old.transaction;
            let pays_enough = bumped(old.max_fee_per_gas()) <= tx.max_fee_per_gas()
                && bumped(tip_cap(old)) <= tip_cap(tx);
            return if pays_enough {
                Ok(Some(*old.tx_hash()))
            } else {
                Err(PoolError::ReplacementUnderpriced)
            };
        }
        if self.by_hash.len() >= MAX_TRANSACTIONS {
            return Err(PoolError::Full);
        }
        if own.is_some_and(|own| own.len() >= MAX_PER_SENDER) {
            return Err(PoolError::AccountLimit);
        }
        let next = self.next_nonce(sender, state);
        let queued = own.map_or(0, |own| own.range(next..).count());
        if tx.nonce() > next && queued >= MAX_QUEUED_PER_SENDER {
            return Err(PoolError::QueueLimit);
        }
        Ok(None)
    }

    /// The nonce after the sender's last transaction that can be executed: `pending` in
    /// `eth_getTransactionCount`.
    pub(crate) fn next_nonce(&self, sender: Address, state: &State) -> u64 {
        let mut next = state.nonce(sender);
        if let Some(own) = self.senders.get(&sender) {
            while own.contains_key(&next) {
                next = next.saturating_add(1);
            }
        }
        next
    }

    pub(crate) fn get(&self, hash: B256) -> Option<&Arc<Transaction>> {
        let (sender, nonce) = self.by_hash.get(&hash)?;
        Some(&self.senders.get(sender)?.get(nonce)?.transaction)
    }

    /// Whether a transaction waits that the next block could take.
    pub(crate) fn has_ready(&self, state: &State, base_fee: u64) -> bool {
        self.senders.iter().any(|(sender, own)| {
            own.get(&state.nonce(*sender))
                .is_some_and(|entry| entry.transaction.max_fee_per_gas() >= u128::from(base_fee))
        })
    }

    /// The transactions that can be executed on `state`, in the order in which a block takes
    /// them: by tip, then by arrival, each sender's by nonce.
    pub(crate) fn ready(&self, state: &State, base_fee: u64) -> Vec<Arc<Transaction>> {
        let mut heads = BinaryHeap::new();
        let head = |sender: Address, nonce: u64| {
            let entry = self.senders.get(&sender)?.get(&nonce)?;
            let tip = entry.transaction.effective_tip_per_gas(base_fee)?;
            Some((tip, Reverse(entry.arrival), sender, nonce))
        };
        heads.extend(
            self.senders
                .keys()
                .filter_map(|sender| head(*sender, state.nonce(*sender))),
        );
        let mut ready = Vec::new();
        while let Some((_, _, sender, nonce)) = heads.pop() {
            if let Some(entry) = self.senders.get(&sender).and_then(|own| own.get(&nonce)) {
                ready.push(Arc::clone(&entry.transaction));
            }
            heads.extend(nonce.checked_add(1).and_then(|nonce| head(sender, nonce)));
        }
        ready
    }

    pub(crate) fn remove(&mut self, hash: B256) {
        let Some((sender, nonce)) = self.by_hash.remove(&hash) else {
            return;
        };
        if let Some(own) = self.senders.get_mut(&sender) {
            own.remove(&nonce);
            if own.is_empty() {
                self.senders.remove(&sender);
            }
        }
    }

    /// Drops what can no longer be mined on `state`.
    pub(crate) fn prune(&mut self, state: &State) {
        let by_hash = &mut self.by_hash;
        self.senders.retain(|sender, own| {
            let nonce = state.nonce(*sender);
            if own
                .first_key_value()
                .is_some_and(|(first, _)| *first < nonce)
            {
                let live = own.split_off(&nonce);
                for stale in std::mem::replace(own, live).into_values() {
                    by_hash.remove(stale.transaction.tx_hash());
                }
            }
            !own.is_empty()
        });
    }
}

/// The least price that replaces `price`.
fn bumped(price: u128) -> u128 {
    price
        .saturating_add(price.saturating_mul(PRICE_BUMP).div_ceil(100))
        .max(1)
}

fn tip_cap(tx: &Transaction) -> u128 {
    tx.max_priority_fee_per_gas()
        .unwrap_or_else(|| tx.max_fee_per_gas())
}

/// Checks what does not depend on the sender's account.
fn check_shape(tx: &Transaction, rules: &Rules<'_>) -> Result<(), PoolError> {
    if tx.is_eip4844() {
        return Err(PoolError::Blob);
    }
    // Only a legacy transaction may leave the chain id out (EIP-155).
    let have = tx
        .chain_id()
        .unwrap_or(if tx.is_legacy() { rules.chain_id } else { 0 });
    if have != rules.chain_id {
        return Err(PoolError::ChainId {
            have,
            want: rules.chain_id,
        });
    }
    let size = alloy_eips::Encodable2718::encode_2718_len(tx.inner());
    if size > MAX_TRANSACTION_BYTES {
        return Err(PoolError::Oversized(size));
    }
    if tx.is_create() && tx.input().len() > MAX_INITCODE_BYTES {
        return Err(PoolError::Initcode(tx.input().len()));
    }
    if tx.gas_limit() > TRANSACTION_GAS_CAP {
        return Err(PoolError::GasCap(tx.gas_limit()));
    }
    if tx.gas_limit() > rules.block_gas_limit {
        return Err(PoolError::BlockGasLimit);
    }
    if tx.authorization_list().is_some_and(<[_]>::is_empty) {
        return Err(PoolError::EmptyAuthorizationList);
    }
    check_fees(tx, rules)
}

fn check_fees(tx: &Transaction, rules: &Rules<'_>) -> Result<(), PoolError> {
    let fee_cap = tx.max_fee_per_gas();
    if tip_cap(tx) > fee_cap {
        return Err(PoolError::TipAboveFeeCap);
    }
    if let Some(base_fee) = rules.base_fee
        && fee_cap < u128::from(base_fee)
    {
        return Err(PoolError::FeeCapTooLow { fee_cap, base_fee });
    }
    let needed = intrinsic_gas(&TxEnv::from_recovered_tx(tx.inner(), tx.signer()));
    if tx.gas_limit() < needed {
        return Err(PoolError::IntrinsicGas {
            gas: tx.gas_limit(),
            needed,
        });
    }
    Ok(())
}

/// Checks the transaction against the sender's account.
fn check_sender(tx: &Transaction, rules: &Rules<'_>) -> Result<(), PoolError> {
    let (address, nonce) = (tx.signer(), tx.nonce());
    if nonce == u64::MAX {
        return Err(PoolError::NonceMax(address));
    }
    let expected = rules.state.nonce(address);
    if nonce < expected {
        return Err(PoolError::NonceTooLow {
            address,
            nonce,
            expected,
        });
    }
    Ok(())
}
