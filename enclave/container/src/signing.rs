//! The cryptlet's key, and what was signed with it.
//!
//! A region speaks for one cryptlet at one delegate, and as long as it lives it never goes back in a
//! subscription. The latest number may be signed again, because a report that was not delivered in time has to
//! be issued anew. Neither outlives the region: a host that creates another one can ask again. What makes a
//! second word on a number worthless is the delegate, which consumes each number once.

use alloy_primitives::Bytes;
use cryptlet_seal::{SealError, SigningKey};
use cryptlet_types::{
    CryptletId, Measurement, Report, ReportDomain, SignedReport, Subject,
    region::{FrameError, RegionStatement, RunInput, SourceProof, sources_digest},
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

/// The cryptlet's key, and what was signed with it.
#[derive(Debug)]
pub struct Record {
    key: SigningKey,
    speaker: Option<(CryptletId, ReportDomain)>,
    signed: BTreeMap<Subject, u64>,
}

impl Record {
    /// A record of a key that has signed nothing.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        Self {
            key,
            speaker: None,
            signed: BTreeMap::new(),
        }
    }

    /// Whether a report on `input` would be signed; the first input decides for whom the region speaks.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&mut self, input: &RunInput) -> Result<(), SigningError> {
        let speaker = *self.speaker.get_or_insert((input.cryptlet, input.domain));
        if speaker != (input.cryptlet, input.domain) {
            return Err(SigningError::Another(speaker.0));
        }
        match self.signed.get(&input.subject) {
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
        let report = Report {
            cryptlet: input.cryptlet,
            subject: input.subject,
            sequence: input.sequence,
            issued_at: input.issued_at,
            valid_until: input.valid_until,
            region,
            payload,
        };
        let digest = report.digest(&input.domain);
        let statement = RegionStatement {
            measurement: region,
            report: digest,
            input: input.digest()?,
            sources: sources_digest(sources)?,
        };
        let signed = SignedReport {
            report,
            signer: self.key.address(),
            signature: self.key.sign(digest)?,
            region_signature: region_key.sign(statement.digest())?,
        };
        self.signed.insert(input.subject, input.sequence);
        Ok(signed)
    }
}
