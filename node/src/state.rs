//! World state: accounts, code and storage, in persistent tries.
//!
//! The trie is the only copy of the state, so a state root can never disagree with what the EVM
//! reads. Reads cost one keccak of the key.

use std::sync::Arc;

use alloy_primitives::{
    Address, B256, Bytes, KECCAK256_EMPTY, U256, keccak256, map::AddressMap as AddressHashMap,
};
use alloy_trie::TrieAccount;
use revm::{
    Database, DatabaseCommit,
    context::DBErrorMarker,
    state::{Account as ExecutedAccount, AccountInfo, Bytecode},
};

use crate::{
    chain::Chain,
    trie::{Leaf, Trie},
};

/// One account with its code and storage.
#[derive(Debug, Clone)]
pub(crate) struct Account {
    pub(crate) nonce: u64,
    pub(crate) balance: U256,
    code: Bytecode,
    code_hash: B256,
    storage: Trie<U256>,
}

impl Default for Account {
    fn default() -> Self {
        Self {
            nonce: 0,
            balance: U256::ZERO,
            code: Bytecode::default(),
            code_hash: KECCAK256_EMPTY,
            storage: Trie::default(),
        }
    }
}

impl Account {
    /// Empty in the sense of EIP-161: such an account is not part of the state.
    fn is_empty(&self) -> bool {
        self.nonce == 0 && self.balance.is_zero() && self.code_hash == KECCAK256_EMPTY
    }

    /// Whether there is code at its address.
    pub(crate) fn is_contract(&self) -> bool {
        self.code_hash != KECCAK256_EMPTY
    }

    /// The deployed code; empty for an externally owned account.
    pub(crate) fn code(&self) -> Bytes {
        if self.code_hash == KECCAK256_EMPTY {
            Bytes::new()
        } else {
            self.code.original_bytes()
        }
    }

    pub(crate) fn set_code(&mut self, code: Bytecode) {
        self.code_hash = code.hash_slow();
        self.code = code;
    }

    /// The value in `slot`; zero if it was never written.
    pub(crate) fn storage(&self, slot: U256) -> U256 {
        self.storage
            .get(storage_key(slot))
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn set_storage(&mut self, slot: U256, value: U256) {
        if self.storage(slot) == value {
            return;
        }
        if value.is_zero() {
            self.storage.remove(storage_key(slot));
        } else {
            self.storage.insert(storage_key(slot), value);
        }
    }

    /// What the state trie commits to.
    pub(crate) fn commitment(&self) -> TrieAccount {
        TrieAccount::new(
            self.nonce,
            self.balance,
            self.storage.root(),
            self.code_hash,
        )
    }

    /// The storage trie's nodes on the way to `slot`.
    pub(crate) fn storage_proof(&self, slot: U256) -> Vec<Bytes> {
        self.storage.proof(storage_key(slot))
    }

    fn info(&self) -> AccountInfo {
        AccountInfo {
            balance: self.balance,
            nonce: self.nonce,
            code_hash: self.code_hash,
            code: Some(self.code.clone()),
            ..Default::default()
        }
    }
}

fn storage_key(slot: U256) -> B256 {
    keccak256(B256::from(slot))
}

impl Leaf for U256 {
    fn rlp(&self) -> Vec<u8> {
        alloy_rlp::encode(self)
    }
}

impl Leaf for Arc<Account> {
    fn rlp(&self) -> Vec<u8> {
        alloy_rlp::encode(self.commitment())
    }
}

/// One version of the world state. Cloning costs one reference count.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    accounts: Trie<Arc<Account>>,
}

impl State {
    pub(crate) fn account(&self, address: Address) -> Option<&Account> {
        self.accounts.get(keccak256(address)).map(Arc::as_ref)
    }

    pub(crate) fn nonce(&self, address: Address) -> u64 {
        self.account(address).map_or(0, |account| account.nonce)
    }

    pub(crate) fn balance(&self, address: Address) -> U256 {
        self.account(address)
            .map_or(U256::ZERO, |account| account.balance)
    }

    /// Changes one account. An account that ends up empty leaves the state (EIP-161).
    pub(crate) fn update(&mut self, address: Address, change: impl FnOnce(&mut Account)) {
        let key = keccak256(address);
        let mut account = self
            .accounts
            .get(key)
            .map_or_else(Account::default, |a| (**a).clone());
        change(&mut account);
        if account.is_empty() {
            self.accounts.remove(key);
        } else {
            self.accounts.insert(key, Arc::new(account));
        }
    }

    pub(crate) fn root(&self) -> B256 {
        self.accounts.root()
    }

    /// The state trie's nodes on the way to `address`.
    pub(crate) fn proof(&self, address: Address) -> Vec<Bytes> {
        self.accounts.proof(keccak256(address))
    }

    fn remove(&mut self, address: Address) {
        self.accounts.remove(keccak256(address));
    }
}

/// The EVM asked the state for something that it cannot hold.
#[derive(Debug, thiserror::Error)]
#[error("code {0} was asked for without its account")]
pub(crate) struct StateError(B256);

impl DBErrorMarker for StateError {}

/// The state as the EVM reads and writes it: one version of the state, and the chain for BLOCKHASH.
#[derive(Debug, Clone)]
pub(crate) struct ExecutionState {
    pub(crate) state: State,
    chain: Chain,
}

impl ExecutionState {
    pub(crate) fn new(state: State, chain: Chain) -> Self {
        Self { state, chain }
    }
}

impl Database for ExecutionState {
    type Error = StateError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, StateError> {
        Ok(self.state.account(address).map(Account::info))
    }

    fn code_by_hash(&mut self, code_hash: B256) -> Result<Bytecode, StateError> {
        // `basic` always hands the code out with the account.
        Err(StateError(code_hash))
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, StateError> {
        Ok(self
            .state
            .account(address)
            .map_or(U256::ZERO, |account| account.storage(slot)))
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, StateError> {
        Ok(self
            .chain
            .block(number)
            .map_or(B256::ZERO, |block| block.hash()))
    }
}

impl DatabaseCommit for ExecutionState {
    fn commit(&mut self, changes: AddressHashMap<ExecutedAccount>) {
        for (address, executed) in changes {
            if !executed.is_touched() {
                continue;
            }
            if executed.is_selfdestructed() {
                self.state.remove(address);
                continue;
            }
            let created = executed.is_created();
            self.state
                .update(address, |account| apply(account, executed, created));
        }
    }
}

fn apply(account: &mut Account, executed: ExecutedAccount, created: bool) {
    if created {
        account.storage = Trie::default();
    }
    account.nonce = executed.info.nonce;
    account.balance = executed.info.balance;
    if account.code_hash != executed.info.code_hash
        && let Some(code) = executed.info.code
    {
        account.code_hash = executed.info.code_hash;
        account.code = code;
    }
    for (slot, value) in executed.storage {
        if value.is_changed() {
            account.set_storage(slot, value.present_value());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_becomes_empty_leaves_the_state() {
        let mut state = State::default();
        let empty = state.root();
        let address = Address::repeat_byte(1);
        state.update(address, |account| account.balance = U256::ONE);
        assert_ne!(state.root(), empty);
        state.update(address, |account| account.balance = U256::ZERO);
        assert_eq!(state.root(), empty);
        assert!(state.account(address).is_none());
    }

    #[test]
    fn an_older_version_keeps_its_values() {
        let mut state = State::default();
        let address = Address::repeat_byte(1);
        state.update(address, |account| {
            account.nonce = 1;
            account.set_storage(U256::ONE, U256::from(7));
        });
        let old = state.clone();
        state.update(address, |account| {
            account.set_storage(U256::ONE, U256::from(8))
        });
        assert_eq!(
            old.account(address).unwrap().storage(U256::ONE),
            U256::from(7)
        );
        assert_ne!(old.root(), state.root());
    }
}
