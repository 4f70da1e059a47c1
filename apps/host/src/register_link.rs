//! The way to the register's chain, which need not be open when the host starts.
//!
//! Which register a host follows is written down at its first start. From then on it starts with what it knows, marked
//! with its age, and goes on trying; and it never takes another register's word for the one it follows.

use crate::{HostError, files};
use alloy_primitives::Address;
use async_trait::async_trait;
use cryptlet_chain::{ChainError, EvmRegister, Head, RegisterChain};
use cryptlet_types::{
    CryptletId,
    register::{Board, PolicyRecord, RegisterChange, RegisterDomain},
};
use std::{ops::RangeInclusive, path::Path};
use tokio::sync::OnceCell;

/// A register that is connected to as soon as its node answers.
pub(crate) struct RegisterLink {
    url: String,
    domain: RegisterDomain,
    connected: OnceCell<EvmRegister>,
}

impl RegisterLink {
    /// The register at `address`, as the node at `url` serves it. `memory` remembers which one the host follows.
    ///
    /// # Errors
    /// The node serves another register than the one that is remembered, or none; or it does not answer and none is
    /// remembered.
    pub(crate) async fn open(
        url: &str,
        address: Address,
        memory: &Path,
    ) -> Result<Self, HostError> {
        let remembered = read(memory)?;
        if let Some(known) = remembered.filter(|known| known.register != address) {
            return Err(broken(memory, other(known, address)));
        }
        match EvmRegister::connect(url, address).await {
            Ok(register) => {
                let domain = register.domain();
                match remembered {
                    Some(known) if known != domain => {
                        return Err(changed(known, domain).into());
                    }
                    Some(_) => {}
                    None => write(memory, domain)?,
                }
                Ok(Self {
                    url: url.to_owned(),
                    domain,
                    connected: OnceCell::new_with(Some(register)),
                })
            }
            Err(error) => match remembered.filter(|_| error.is_retryable()) {
                Some(domain) => {
                    tracing::error!(%error, "register: node does not answer; the host starts with the last known state");
                    Ok(Self {
                        url: url.to_owned(),
                        domain,
                        connected: OnceCell::new(),
                    })
                }
                None => Err(error.into()),
            },
        }
    }

    async fn chain(&self) -> Result<&EvmRegister, ChainError> {
        let connect = || async {
            let register = EvmRegister::connect(&self.url, self.domain.register).await?;
            if register.domain() == self.domain {
                Ok(register)
            } else {
                Err(changed(self.domain, register.domain()))
            }
        };
        self.connected.get_or_try_init(connect).await
    }
}

#[async_trait]
impl RegisterChain for RegisterLink {
    fn domain(&self) -> RegisterDomain {
        self.domain
    }

    async fn head(&self) -> Result<Head, ChainError> {
        self.chain().await?.head().await
    }

    async fn header(&self, number: u64) -> Result<Option<Head>, ChainError> {
        self.chain().await?.header(number).await
    }

    async fn next_head(&self, after: &Head) -> Result<Head, ChainError> {
        self.chain().await?.next_head(after).await
    }

    async fn changes(
        &self,
        blocks: RangeInclusive<u64>,
    ) -> Result<Vec<(u64, RegisterChange)>, ChainError> {
        self.chain().await?.changes(blocks).await
    }

    async fn changes_of(&self, block: &Head) -> Result<Vec<(u64, RegisterChange)>, ChainError> {
        self.chain().await?.changes_of(block).await
    }

    async fn is_signer(&self, cryptlet: CryptletId, signer: Address) -> Result<bool, ChainError> {
        self.chain().await?.is_signer(cryptlet, signer).await
    }

    async fn policy(&self) -> Result<Option<PolicyRecord>, ChainError> {
        self.chain().await?.policy().await
    }

    async fn board(&self) -> Result<Board, ChainError> {
        self.chain().await?.board().await
    }
}

fn changed(known: RegisterDomain, found: RegisterDomain) -> ChainError {
    ChainError::ChainChanged {
        expected: known.chain_id,
        found: found.chain_id,
    }
}

fn other(known: RegisterDomain, wanted: Address) -> String {
    format!(
        "this folder follows the register {} on chain {}, not {wanted}: give the other register another data folder",
        known.register, known.chain_id
    )
}

fn read(path: &Path) -> Result<Option<RegisterDomain>, HostError> {
    let bytes = files::read_if_there(path).map_err(|error| broken(path, error))?;
    let domain = bytes.map(|bytes| serde_json::from_slice(&bytes));
    domain.transpose().map_err(|error| broken(path, error))
}

fn write(path: &Path, domain: RegisterDomain) -> Result<(), HostError> {
    let bytes = serde_json::to_vec_pretty(&domain).map_err(|error| broken(path, error))?;
    files::replace(path, &bytes).map_err(|error| broken(path, error))
}

fn broken(path: &Path, reason: impl ToString) -> HostError {
    HostError::Config {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
