//! The register as its chain says it, and the developer's transactions with it.

use crate::{
    ChainClient, DeveloperError, Mined, SignedTransaction, Wallet,
    chain::{Fate, Revert},
};
use alloy_primitives::{Address, U256};
use alloy_sol_types::SolCall;
use cryptlet_chain::evm::abi::CryptletRegister as abi;
use cryptlet_types::{
    CryptletId,
    register::{Board, HostRecord, PolicyRecord, RegisterDomain, SignerRecord, VersionRecord},
};
use futures::{StreamExt, TryStreamExt, stream};
use std::time::Duration;

const READING: &str = "cannot read the register";
/// Questions that a node is asked at once.
const AT_ONCE: usize = 16;

/// The register's contract.
#[derive(Clone, Debug)]
pub struct RegisterClient {
    chain: ChainClient,
    domain: RegisterDomain,
}

/// Who a cryptlet is, as the register says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Its id.
    pub cryptlet: CryptletId,
    /// Its name.
    pub name: String,
    /// Who registered it.
    pub publisher: Address,
    /// Who holds its token.
    pub owner: Address,
    /// Whether it was revoked as a whole.
    pub revoked: bool,
}

impl RegisterClient {
    /// The register at `domain`, by the node at `url`.
    ///
    /// # Errors
    /// The node does not answer, or serves another chain.
    pub async fn open(url: &str, domain: RegisterDomain) -> Result<Self, DeveloperError> {
        let chain = ChainClient::open(url, domain.chain_id).await?;
        Ok(Self { chain, domain })
    }

    /// Number of its chain's newest block.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn block_number(&self) -> Result<u64, DeveloperError> {
        self.chain.block_number().await
    }

    /// Where it is.
    #[must_use]
    pub fn domain(&self) -> RegisterDomain {
        self.domain
    }

    pub(crate) async fn read<C: SolCall>(&self, call: C) -> Result<C::Return, DeveloperError> {
        self.chain.read(READING, self.domain.register, &call).await
    }

    /// The cryptlet of exactly this name.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn by_name(&self, name: &str) -> Result<Option<Registration>, DeveloperError> {
        let name_ = name.to_owned();
        let found = self.read(abi::cryptletByNameCall { name_ }).await?;
        if found == Address::ZERO {
            return Ok(None);
        }
        self.registration(found.into()).await.map(Some)
    }

    /// A cryptlet.
    ///
    /// # Errors
    /// [`DeveloperError::Unknown`] if there is none.
    pub async fn registration(&self, cryptlet: CryptletId) -> Result<Registration, DeveloperError> {
        let record = self
            .read(abi::cryptletOfCall {
                cryptlet: cryptlet.0,
            })
            .await?;
        let token = U256::from_be_slice(cryptlet.0.as_slice());
        Ok(Registration {
            cryptlet,
            name: record.name_,
            publisher: record.publisher,
            owner: self.read(abi::ownerOfCall { token }).await?,
            revoked: record.revoked,
        })
    }

    /// A version; none if there is none of that number.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn version(
        &self,
        cryptlet: CryptletId,
        number: u32,
    ) -> Result<Option<VersionRecord>, DeveloperError> {
        let call = abi::versionOfCall {
            cryptlet: cryptlet.0,
            number,
        };
        let register = self.domain.register;
        let found = self.chain.read_known(READING, register, &call).await?;
        Ok(found.map(|found| VersionRecord {
            number,
            label: found.version.label,
            package: found.version.packageDigest.into(),
            header: found.version.headerDigest.into(),
            manifest: found.version.manifestDigest.into(),
            uri: found.version.uri,
            published_at: found.publishedAt,
            revoked: found.revoked,
        }))
    }

    /// All versions, oldest first.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn versions(
        &self,
        cryptlet: CryptletId,
    ) -> Result<Vec<VersionRecord>, DeveloperError> {
        let count = self.version_count(cryptlet).await?;
        let versions = stream::iter(1..=count)
            .map(|number| self.version(cryptlet, number))
            .buffered(AT_ONCE);
        let versions: Vec<_> = versions.try_collect().await?;
        Ok(versions.into_iter().flatten().collect())
    }

    async fn version_count(&self, cryptlet: CryptletId) -> Result<u32, DeveloperError> {
        let call = abi::versionCountCall {
            cryptlet: cryptlet.0,
        };
        self.read(call).await
    }

    /// The version that runs: the newest that was not revoked.
    ///
    /// # Errors
    /// The chain cannot be read, or the cryptlet is unknown.
    pub async fn current(
        &self,
        cryptlet: CryptletId,
    ) -> Result<Option<VersionRecord>, DeveloperError> {
        let call = abi::currentVersionCall {
            cryptlet: cryptlet.0,
        };
        match self.read(call).await? {
            0 => Ok(None),
            number => self.version(cryptlet, number).await,
        }
    }

    /// Whether `signer` may speak for the cryptlet now.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn is_signer(
        &self,
        cryptlet: CryptletId,
        signer: Address,
    ) -> Result<bool, DeveloperError> {
        let cryptlet = cryptlet.0;
        self.read(abi::isSignerCall { cryptlet, signer }).await
    }

    /// What is recorded of a signer; none if it was never enrolled.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn signer(
        &self,
        cryptlet: CryptletId,
        signer: Address,
    ) -> Result<Option<SignerRecord>, DeveloperError> {
        let cryptlet = cryptlet.0;
        let found = self.read(abi::signerOfCall { cryptlet, signer }).await?;
        Ok((found.version != 0).then_some(SignerRecord {
            signer,
            version: found.version,
            expiry: found.expiry,
            revoked: found.revoked,
        }))
    }

    /// All signers that a version ever had, oldest first.
    ///
    /// # Errors
    /// The chain cannot be read, or there is no such version.
    pub async fn signers(
        &self,
        cryptlet: CryptletId,
        number: u32,
    ) -> Result<Vec<SignerRecord>, DeveloperError> {
        let call = abi::signersOfCall {
            cryptlet: cryptlet.0,
            number,
        };
        let mut signers = Vec::new();
        for signer in self.read(call).await? {
            signers.extend(self.signer(cryptlet, signer).await?);
        }
        Ok(signers)
    }

    /// All signers that a cryptlet ever had, version by version.
    ///
    /// # Errors
    /// The chain cannot be read, or the cryptlet is unknown.
    pub async fn all_signers(
        &self,
        cryptlet: CryptletId,
    ) -> Result<Vec<SignerRecord>, DeveloperError> {
        let count = self.version_count(cryptlet).await?;
        let signers: Vec<_> = stream::iter(1..=count)
            .map(|number| self.signers(cryptlet, number))
            .buffered(AT_ONCE)
            .try_collect()
            .await?;
        Ok(signers.into_iter().flatten().collect())
    }

    /// Hosts that are assigned to a cryptlet.
    ///
    /// # Errors
    /// The chain cannot be read, or the cryptlet is unknown.
    pub async fn hosts_of(&self, cryptlet: CryptletId) -> Result<Vec<Address>, DeveloperError> {
        let cryptlet = cryptlet.0;
        self.read(abi::hostsOfCall { cryptlet }).await
    }

    /// A host; none if the register does not know it.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn host(&self, host: Address) -> Result<Option<HostRecord>, DeveloperError> {
        let call = abi::hostOfCall { host };
        let register = self.domain.register;
        let found = self.chain.read_known(READING, register, &call).await?;
        Ok(found.map(|found| HostRecord {
            host,
            url: found.url,
            authority: found.authority.into(),
        }))
    }

    /// Who approves policies.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn board(&self) -> Result<Board, DeveloperError> {
        let found = self.read(abi::administratorsCall {}).await?;
        Ok(Board {
            members: found.members,
            threshold: found.threshold.saturating_to(),
            term: found.term,
        })
    }

    /// The policy in force; none if none was set yet.
    ///
    /// # Errors
    /// The chain cannot be read.
    pub async fn policy(&self) -> Result<Option<PolicyRecord>, DeveloperError> {
        let found = self.read(abi::policyCall {}).await?;
        Ok((found.epoch != 0).then_some(PolicyRecord {
            epoch: found.epoch,
            digest: found.digest.into(),
            uri: found.uri,
        }))
    }

    /// Tries a transaction without sending it.
    pub(crate) async fn attempt<C: SolCall>(
        &self,
        doing: &str,
        from: Address,
        call: &C,
    ) -> Result<Result<(), Revert>, DeveloperError> {
        let register = self.domain.register;
        self.chain.attempt(doing, from, register, call).await
    }

    /// Signs a transaction, to be sent by [`RegisterClient::submit`].
    pub(crate) async fn sign<C: SolCall>(
        &self,
        doing: &str,
        wallet: &Wallet,
        call: &C,
    ) -> Result<SignedTransaction, DeveloperError> {
        let register = self.domain.register;
        self.chain.sign(doing, wallet, register, call).await
    }

    pub(crate) async fn submit(
        &self,
        doing: &str,
        transaction: &SignedTransaction,
        patience: Duration,
    ) -> Result<Mined, DeveloperError> {
        self.chain.submit(doing, transaction, patience).await
    }

    /// Signs, sends and waits: for transactions that do no harm when they are sent twice.
    pub(crate) async fn send<C: SolCall>(
        &self,
        doing: &str,
        wallet: &Wallet,
        call: &C,
        patience: Duration,
    ) -> Result<Mined, DeveloperError> {
        let signed = self.sign(doing, wallet, call).await?;
        self.submit(doing, &signed, patience).await
    }

    pub(crate) async fn fate(
        &self,
        wallet: Address,
        transaction: &SignedTransaction,
    ) -> Result<Fate, DeveloperError> {
        self.chain.fate(READING, wallet, transaction).await
    }
}
