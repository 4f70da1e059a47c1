//! [`RegisterChain`] over JSON-RPC.

use super::{
    abi::CryptletRegister,
    decode::LogPosition,
    reader::{EvmConfig, Reader},
    register_log::{self, TOPICS},
};
use crate::{ChainError, Head, RegisterChain};
use alloy::{rpc::types::Filter, sol_types::SolCall};
use alloy_primitives::{Address, Log};
use async_trait::async_trait;
use cryptlet_types::{
    CryptletId, Sha256Digest,
    bounded::clip,
    register::{Board, PolicyRecord, RegisterChange, RegisterDomain},
};
use std::ops::RangeInclusive;

/// A register on a chain of Ethereum's kind, as one node serves it, or several.
#[derive(Debug)]
pub struct EvmRegister {
    reader: Reader,
    domain: RegisterDomain,
}

impl EvmRegister {
    /// Connects with the defaults of [`EvmConfig::new`].
    ///
    /// # Errors
    /// As [`EvmRegister::open`].
    pub async fn connect(url: &str, register: Address) -> Result<Self, ChainError> {
        Self::open(EvmConfig::new(url, register)).await
    }

    /// Connects, reads the chain id, and makes sure that there is a contract at the register's address.
    ///
    /// # Errors
    /// The node cannot be reached, answers nonsense, or holds no code at that address.
    pub async fn open(config: EvmConfig) -> Result<Self, ChainError> {
        let register = config.contract;
        let reader = Reader::open(&config, "register").await?;
        let chain_id = reader.connection().chain_id();
        let domain = RegisterDomain { chain_id, register };
        Ok(Self { reader, domain })
    }

    async fn ask<C: SolCall>(&self, call: C) -> Result<C::Return, ChainError> {
        let answer = self.reader.ask(call.abi_encode()).await?;
        C::abi_decode_returns_validate(&answer).map_err(|error| ChainError::Malformed {
            method: "eth_call",
            message: clip(&error.to_string()),
        })
    }
}

fn read(logs: Vec<(Log, LogPosition)>) -> Result<Vec<(u64, RegisterChange)>, ChainError> {
    let mut changes = Vec::new();
    for (log, at) in logs {
        let change = register_log::change(&log, at).map_err(|message| ChainError::Malformed {
            method: "eth_getLogs",
            message: format!("block {}, log {}: {message}", at.block, at.index),
        })?;
        changes.extend(change.map(|change| (at.block, change)));
    }
    Ok(changes)
}

#[async_trait]
impl RegisterChain for EvmRegister {
    fn domain(&self) -> RegisterDomain {
        self.domain
    }

    async fn head(&self) -> Result<Head, ChainError> {
        self.reader.head().await
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        self.reader.header(number).await
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        self.reader.next_head(after).await
    }

    async fn changes(
        &self,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<(u64, RegisterChange)>, ChainError> {
        let filter = Filter::new().event_signature(TOPICS.to_vec());
        read(self.reader.dated_logs(&filter, blocks).await?)
    }

    async fn changes_of(&self, block: &Head) -> Result<Vec<(u64, RegisterChange)>, ChainError> {
        let filter = Filter::new().event_signature(TOPICS.to_vec());
        read(self.reader.dated_logs_of_block(&filter, block).await?)
    }

    async fn is_signer(&self, cryptlet: CryptletId, signer: Address) -> Result<bool, ChainError> {
        let cryptlet = cryptlet.0;
        self.ask(CryptletRegister::isSignerCall { cryptlet, signer })
            .await
    }

    async fn policy(&self) -> Result<Option<PolicyRecord>, ChainError> {
        let found = self.ask(CryptletRegister::policyCall {}).await?;
        Ok((found.epoch != 0).then_some(PolicyRecord {
            epoch: found.epoch,
            digest: Sha256Digest(found.digest),
            uri: found.uri,
        }))
    }

    async fn board(&self) -> Result<Board, ChainError> {
        let found = self.ask(CryptletRegister::administratorsCall {}).await?;
        let board = register_log::board(found.members, found.threshold, found.term);
        board.map_err(|message| ChainError::Malformed {
            method: "eth_call",
            message,
        })
    }
}
