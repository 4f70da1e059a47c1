//! The register's chain: the delegate's, with a register that said all it has to say in the first block.

use super::chain::{chain_error, read_head, wait_for_head};
use crate::world::World;
use alloy_primitives::Address;
use async_trait::async_trait;
use cryptlet_chain::{ChainError, Head, RegisterChain};
use cryptlet_types::{
    CryptletId,
    register::{Board, PolicyRecord, RegisterChange, RegisterDomain},
};
use std::{ops::RangeInclusive, sync::Arc};

/// A register.
pub struct SimulatedRegister {
    /// Where it is.
    pub world: Arc<World>,
    /// Its address and chain.
    pub domain: RegisterDomain,
    /// What it said in the first block.
    pub said: Vec<RegisterChange>,
    /// The policy in force.
    pub policy: PolicyRecord,
    /// The administrators.
    pub board: Board,
}

impl SimulatedRegister {
    async fn ask<T>(
        &self,
        place: &'static str,
        answer: impl FnOnce() -> T,
    ) -> Result<T, ChainError> {
        let settings = &self.world.settings;
        let (faults, millis) = (settings.rpc_faults, settings.rpc_millis);
        let entered = self.world.enter(place, faults, millis).await;
        let call = entered.map_err(|trouble| chain_error(place, trouble))?;
        let answer = answer();
        let left = self.world.leave(call).await;
        left.map_err(|trouble| chain_error(place, trouble))?;
        Ok(answer)
    }
}

#[async_trait]
impl RegisterChain for SimulatedRegister {
    fn domain(&self) -> RegisterDomain {
        self.domain
    }

    async fn head(&self) -> Result<Head, ChainError> {
        let place = "register.head";
        self.ask(place, || read_head(&self.world, place)).await
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        let head = || {
            self.world
                .state()
                .node
                .block(number)
                .map(|block| block.head)
        };
        self.ask("register.header", head).await
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        wait_for_head(&self.world, "register.next_head", after).await
    }

    async fn changes(
        &self,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<(u64, RegisterChange)>, ChainError> {
        let said = || match blocks.start() {
            0 => self.said.iter().map(|change| (0, change.clone())).collect(),
            _ => vec![],
        };
        self.ask("register.changes", said).await
    }

    async fn changes_of(&self, block: &Head) -> Result<Vec<(u64, RegisterChange)>, ChainError> {
        self.changes(block.number..=block.number).await
    }

    async fn is_signer(&self, cryptlet: CryptletId, _signer: Address) -> Result<bool, ChainError> {
        let own = || cryptlet == self.world.cryptlet;
        self.ask("register.is_signer", own).await
    }

    async fn policy(&self) -> Result<Option<PolicyRecord>, ChainError> {
        self.ask("register.policy", || Some(self.policy.clone()))
            .await
    }

    async fn board(&self) -> Result<Board, ChainError> {
        self.ask("register.board", || self.board.clone()).await
    }
}
