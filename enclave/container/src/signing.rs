//! The cryptlet's key, and what was signed with it.
//!
//! Where the key stays in its vault, the region signs its own statement alone and leaves the cryptlet's signature
//! all zero, which no delegate takes: the vault puts its own there.
//!
//! A region speaks for one cryptlet at one delegate, and as long as it lives it never goes back in a
//! subscription. The latest number may be signed again, because a report that was not delivered in time has to
//! be issued anew. Neither outlives the region: a host that creates another one can ask again. What makes a
//! second word on a number worthless is the delegate, which consumes each number once.

use alloy_primitives::{Address, B256, Bytes};
use cryptlet_seal::{SealError, SigningKey};
use cryptlet_types::{
    CryptletId, Measurement, ReportDomain, SignedReport, Subject,
    region::{FrameError, RegionStatement, RunInput, SourceProof, sources_digest},
    report::CompactSignature,
};
use std::collections::BTreeMap;

/// Most subscriptions that one region signs for.
const MAX_SUBJECTS: usize = 100_000;

/// Why a region does not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The first run was of another cryptlet, or for another delegate.
    #[error("this region speaks for cryptlet {0} at the delegate of its first run only")]
    Another(CryptletId),
    /// A later number was signed already.
    #[error("sequence {asked} after {signed} was signed")]
    Backwards {
        /// The number asked for.
        asked: u64,
        /// The latest that was signed.
        signed: u64,
    },
    /// The region remembers as many subscriptions as it can.
    #[error("region has signed for {MAX_SUBJECTS} subscriptions: create another")]
    Full,
    /// The input has no encoding.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Signing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl SigningError {
    /// Whether trying again in this region can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Who signs for the cryptlet.
#[derive(Debug)]
pub enum Signer {
    /// This region, with the cryptlet's key.
    Here(SigningKey),
    /// The vault, with the key of this address.
    InVault(Address),
}

impl Signer {
    /// Address of the key.
    #[must_use]
    pub fn address(&self) -> Address {
        match self {
            Self::Here(key) => key.address(),
            Self::InVault(address) => *address,
        }
    }

    fn sign(&self, digest: B256) -> Result<CompactSignature, SealError> {
        match self {
            Self::Here(key) => key.sign(digest),
            Self::InVault(_) => Ok(CompactSignature::default()),
        }
    }
}

/// The cryptlet's signer, and what was signed.
#[derive(Debug)]
pub struct Record {
    signer: Signer,
    speaker: Option<(CryptletId, ReportDomain)>,
    signed: BTreeMap<Subject, u64>,
}

impl Record {
    /// A record of a signer that has signed nothing.
    #[must_use]
    pub fn new(signer: Signer) -> Self {
        Self {
            signer,
            speaker: None,
            signed: BTreeMap::new(),
        }
    }

    /// Whether a report on `input` would be signed; the first input decides for whom the region speaks.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&mut self, input: &RunInput) -> Result<(), SigningError> {
        let asked = (input.subscription.cryptlet, input.domain);
        let speaker = *self.speaker.get_or_insert(asked);
        if speaker != asked {
            return Err(SigningError::Another(speaker.0));
        }
        match self.signed.get(&input.subscription.subject) {
            Some(signed) if input.sequence < *signed => Err(SigningError::Backwards {
                asked: input.sequence,
                signed: *signed,
            }),
            None if self.signed.len() >= MAX_SUBJECTS => Err(SigningError::Full),
            _ => Ok(()),
        }
    }

    /// Signs a report with the cryptlet's key, and how it came about with the region's.
    ///
    /// # Errors
    /// As [`Record::check`].
    pub fn sign(
        &mut self,
        input: &RunInput,
        payload: Bytes,
        sources: &[SourceProof],
        region: Measurement,
        region_key: &SigningKey,
    ) -> Result<SignedReport, SigningError> {
        self.check(input)?;
        let report = input.report(region, payload);
        let digest = report.digest(&input.domain);
        let statement = RegionStatement {
            measurement: region,
            report: digest,
            input: input.digest()?,
            sources: sources_digest(sources)?,
        };
        let signed = SignedReport {
            report,
            signer: self.signer.address(),
            signature: self.signer.sign(digest)?,
            region_signature: region_key.sign(statement.digest())?,
        };
        self.signed
            .insert(input.subscription.subject, input.sequence);
        Ok(signed)
    }
}
