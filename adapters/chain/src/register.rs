//! A register on its chain, which may be another than the consumers'.

use crate::{ChainError, Head};
use alloy_primitives::Address;
use async_trait::async_trait;
use cryptlet_types::{
    CryptletId,
    register::{Board, PolicyRecord, RegisterChange, RegisterDomain},
};
use std::ops::RangeInclusive;

/// A blockchain with a register on it, as one node serves it.
///
/// Every method asks the node once and gives up after a bounded time, [`RegisterChain::next_head`] excepted; retries
/// are the caller's (see [`ChainError::is_retryable`]). All futures may be dropped at any point.
#[async_trait]
pub trait RegisterChain: Send + Sync {
    /// Chain id and register: what approvals of administrators are bound to.
    fn domain(&self) -> RegisterDomain;

    /// The newest block.
    async fn head(&self) -> Result<Head, ChainError>;

    /// The canonical block of that number, if there is one yet.
    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError>;

    /// Waits until the newest block is another one than `after`, for as long as that takes.
    async fn next_head(&self, after: &Head) -> Result<Head, ChainError>;

    /// What the register logged in these blocks, in order, each with its block's number. That a new token belongs to
    /// its publisher is part of [`RegisterChange::Registered`]; [`RegisterChange::Transferred`] is any later owner.
    async fn changes(
        &self,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<(u64, RegisterChange)>, ChainError>;

    /// As [`RegisterChain::changes`], of this very block: of no other one of its number, whatever the chain has there now.
    async fn changes_of(&self, block: &Head) -> Result<Vec<(u64, RegisterChange)>, ChainError>;

    /// Whether `signer` may speak for `cryptlet` at the newest block.
    async fn is_signer(&self, cryptlet: CryptletId, signer: Address) -> Result<bool, ChainError>;

    /// The policy in force at the newest block; none if none was ever set.
    async fn policy(&self) -> Result<Option<PolicyRecord>, ChainError>;

    /// Who approves policy at the newest block.
    async fn board(&self) -> Result<Board, ChainError>;
}
