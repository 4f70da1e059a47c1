//! The cryptlet's key, and what was signed with it.
//!
//! Where the key stays in its vault, the region signs its own statement alone and leaves the cryptlet's signature
//! all zero, which no delegate takes: the vault puts its own there.
//!
//! A region speaks for one cryptlet at one delegate. Reports of one subscription may be signed ahead of the chain, and in any
//! order. What holds as long as the region lives:
//!
//! > Two reports of one number of one subscription that differ are never deliverable at the same time: the later
//! > one is issued after the last second of the earlier one.
//!
//! So a report that was not delivered in time can be issued anew, and none beside it. The times are those of the reports
//! themselves, which the delegate holds against its block: a host that lies about the time gets reports that nobody takes.
//! The invariant outlives the region if the region is asked to seal what it promised ([`Record::seal`]): its successor takes that
//! over ([`Record::resumed`]), and without it refuses to sign. It does not outlive a region that was killed: its successor
//! knows what was sealed before it, and a host that asks it again is told something new. What makes a second word on a number
//! worthless even so is the delegate, which consumes each number once.

use crate::promises::{MAX_PROMISES, Promises};
use alloy_primitives::{Address, B256, Bytes, I256};
use cryptlet_seal::{
    SealError, SigningKey, check,
    sealed::{Seal, SealedError},
};
use cryptlet_types::{
    Answer, Batch, CryptletId, CryptletMessage, Measurement, MessageSignatures, MessageStatement,
    ReportDomain, SignedAnswer, SignedReport, Subject, Trigger, UnixSeconds,
    batch::BatchError,
    event::{Observation, Step},
    region::{FrameError, ObserveInput, RegionStatement, RunInput, SourceProof, sources_digest},
    report::CompactSignature,
};
use std::rc::Rc;

/// The interface by which messages are signed, as manifests name it.
pub const SIGNING: &str = "signing";

/// Why a region does not sign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigningError {
    /// The first run was of another cryptlet, or for another delegate.
    #[error("this region speaks for cryptlet {0} at the delegate of its first run only")]
    Another(CryptletId),
    /// Something else was signed under this number, and can still be delivered.
    #[error("sequence {sequence} was signed already, and can be delivered until {until}")]
    Promised {
        /// The number asked for.
        sequence: u64,
        /// The last second of what was signed.
        until: UnixSeconds,
    },
    /// The region has forgotten reports that can be delivered at the time of this one.
    #[error("issued at {0}, a time that this region has left behind: create another")]
    Past(UnixSeconds),
    /// The region remembers as many reports as it can.
    #[error("region has signed {MAX_PROMISES} reports that can be delivered: create another")]
    Full,
    /// The manifest does not declare the interface `signing`.
    #[error("the manifest does not declare {SIGNING}")]
    NotDeclared,
    /// What only the cryptlet's key may sign was asked of a region that does not have it.
    #[error("the key stays in its vault, which signs reports alone: {0}")]
    InVault(&'static str),
    /// The state of a predecessor is refused, or none can be left to a successor.
    #[error(transparent)]
    Sealed(#[from] SealedError),
    /// The vault gave this region nothing to seal with.
    #[error("sealed image: the vault keeps no seal, so nothing opens one or makes one")]
    NoSeal,
    /// Reports cannot go into one batch.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// What was handed back was not signed by this cryptlet's key.
    #[error("{0} is not signed by this cryptlet's key")]
    NotOurs(String),
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

    /// Of a report, which the vault signs where the key stays there.
    fn sign_report(&self, digest: B256) -> Result<CompactSignature, SealError> {
        match self {
            Self::Here(key) => key.sign(digest),
            Self::InVault(_) => Ok(CompactSignature::default()),
        }
    }

    /// Of everything else, which a vault does not sign: it could not tell what it is.
    fn sign(&self, digest: B256, what: &'static str) -> Result<CompactSignature, SigningError> {
        match self {
            Self::Here(key) => Ok(key.sign(digest)?),
            Self::InVault(_) => Err(SigningError::InVault(what)),
        }
    }
}

/// Whose words those of a run are, for whom it was woken, and where they count.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    /// The cryptlet.
    pub cryptlet: CryptletId,
    /// The subscription; zero for a feed or a call.
    pub subject: Subject,
    /// The delegate's.
    pub domain: ReportDomain,
}

impl Voice {
    /// Of a job.
    #[must_use]
    pub fn of(input: &RunInput) -> Self {
        Self {
            cryptlet: input.subscription.cryptlet,
            subject: input.subscription.subject,
            domain: input.domain,
        }
    }

    /// Of what no subscription asks for.
    #[must_use]
    pub fn of_nobody(cryptlet: CryptletId, domain: ReportDomain) -> Self {
        Self {
            cryptlet,
            subject: Subject(B256::ZERO),
            domain,
        }
    }

    /// The digest of a message in this voice.
    #[must_use]
    pub fn digest(&self, message: Bytes) -> B256 {
        let said = CryptletMessage {
            cryptlet: self.cryptlet,
            subject: self.subject,
            message,
        };
        said.digest(&self.domain)
    }
}

/// Who signs what a cryptlet says beside its answers, while one run of it lasts.
#[derive(Clone, Debug)]
pub struct MessageSigner {
    /// Who signs for the cryptlet.
    pub signer: Rc<Signer>,
    /// The region's own key.
    pub region_key: Rc<SigningKey>,
    /// What runs.
    pub measurement: Measurement,
    /// Whether the manifest says that the cryptlet signs messages. Code was asked already, but not by this process where it
    /// runs in a virtual machine.
    pub is_declared: bool,
    /// Whose words these are.
    pub voice: Voice,
}

impl MessageSigner {
    /// Signs `message`, of which the digest is returned beside the signatures. The vault is not asked: it signs reports alone.
    ///
    /// # Errors
    /// The manifest does not declare it, or signing failed.
    pub fn sign(&self, message: Bytes) -> Result<(B256, MessageSignatures), SigningError> {
        if !self.is_declared {
            return Err(SigningError::NotDeclared);
        }
        let digest = self.voice.digest(message);
        let statement = MessageStatement {
            measurement: self.measurement,
            message: digest,
        };
        let cryptlet = match self.signer.as_ref() {
            Signer::Here(key) => Some(key.sign(digest)?),
            Signer::InVault(_) => None,
        };
        let region = self.region_key.sign(statement.digest())?;
        Ok((digest, MessageSignatures { cryptlet, region }))
    }
}

/// The cryptlet's signer, and what was signed.
#[derive(Debug)]
pub struct Record {
    signer: Rc<Signer>,
    speaker: Option<(CryptletId, ReportDomain)>,
    promises: Promises,
    seal: Option<Seal>,
}

impl Record {
    /// A record that goes on from the last sealed image of the vault, `image`, or from nothing where there is no such image.
    ///
    /// # Errors
    /// [`SigningError::Sealed`] if `image` is not the last one of the cryptlet under this measurement, or missing;
    /// [`SigningError::NoSeal`] if it is one too many.
    pub fn resumed(
        signer: Signer,
        seal: Option<Seal>,
        measurement: Measurement,
        image: Option<&[u8]>,
    ) -> Result<Self, SigningError> {
        let state = match (&seal, image) {
            (Some(seal), image) => seal.open(measurement, image)?,
            (None, None) => None,
            (None, Some(_)) => return Err(SigningError::NoSeal),
        };
        let promises = match state {
            Some(state) => Promises::from_state(&state, MAX_PROMISES)?,
            None => Promises::new(MAX_PROMISES),
        };
        Ok(Self {
            signer: Rc::new(signer),
            speaker: None,
            promises,
            seal,
        })
    }

    /// What was promised, as the image that follows the last one. Whoever signs after this breaks the successor's word.
    ///
    /// # Errors
    /// [`SigningError::NoSeal`], or that the image cannot be made.
    pub fn seal(&self, measurement: Measurement) -> Result<Vec<u8>, SigningError> {
        let seal = self.seal.as_ref().ok_or(SigningError::NoSeal)?;
        let state = self.promises.to_state()?;
        Ok(seal.close(measurement, &state)?)
    }

    /// Whether the region speaks for this cryptlet at this delegate; the vault decides on the cryptlet where it gave a seal for
    /// it, and otherwise the first to be asked for.
    ///
    /// # Errors
    /// [`SigningError::Another`].
    pub fn speaks_for(
        &mut self,
        cryptlet: CryptletId,
        domain: ReportDomain,
    ) -> Result<(), SigningError> {
        if let Some(seal) = &self.seal
            && seal.cryptlet != cryptlet
        {
            return Err(SigningError::Another(seal.cryptlet));
        }
        let asked = (cryptlet, domain);
        let speaker = *self.speaker.get_or_insert(asked);
        if speaker == asked {
            Ok(())
        } else {
            Err(SigningError::Another(speaker.0))
        }
    }

    /// Who signs for the cryptlet.
    #[must_use]
    pub fn signer(&self) -> &Rc<Signer> {
        &self.signer
    }

    /// Whether the key is here, which `what` needs.
    ///
    /// # Errors
    /// [`SigningError::InVault`].
    pub fn needs_key(&self, what: &'static str) -> Result<(), SigningError> {
        match self.signer.as_ref() {
            Signer::Here(_) => Ok(()),
            Signer::InVault(_) => Err(SigningError::InVault(what)),
        }
    }

    /// Whether a report on `input` would be signed, and whether what it hands back of earlier runs is of this cryptlet's key.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&mut self, input: &RunInput) -> Result<(), SigningError> {
        let subscription = &input.subscription;
        self.speaks_for(subscription.cryptlet, input.domain)?;
        match &input.trigger {
            Trigger::Threshold { observation } => {
                self.check_ours("observation", observation.digest(), &observation.signature)?;
            }
            Trigger::Step(step) => {
                let digest = step.digest(&input.domain, subscription.subject);
                self.check_ours("step", digest, &step.signature)?;
            }
            _ => {}
        }
        self.promises
            .check(subscription.subject, input.sequence, input.issued_at)
    }

    fn check_ours(
        &self,
        what: &str,
        digest: B256,
        signature: &CompactSignature,
    ) -> Result<(), SigningError> {
        check(digest, signature, self.signer.address())
            .map_err(|_| SigningError::NotOurs(what.to_owned()))
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
        let report = input.report(region, payload);
        let digest = report.digest(&input.domain);
        self.promises.keep(&report, digest)?;
        let statement = RegionStatement {
            measurement: region,
            report: digest,
            input: input.digest()?,
            sources: sources_digest(sources)?,
        };
        let signed = SignedReport {
            report,
            signer: self.signer.address(),
            signature: self.signer.sign_report(digest)?,
            region_signature: region_key.sign(statement.digest())?,
        };
        Ok(signed)
    }

    /// Signs where a computation goes on, for the subscription of `input` alone.
    ///
    /// # Errors
    /// [`SigningError::InVault`].
    pub fn sign_step(&self, input: &RunInput, mut step: Step) -> Result<Step, SigningError> {
        let digest = step.digest(&input.domain, input.subscription.subject);
        step.signature = self.signer.sign(digest, STEPS)?;
        Ok(step)
    }

    /// Signs the value of a feed.
    ///
    /// # Errors
    /// [`SigningError::InVault`].
    pub fn sign_observation(
        &self,
        input: &ObserveInput,
        value: I256,
    ) -> Result<Observation, SigningError> {
        let mut observation = Observation {
            feed: input.feed(),
            value,
            at: input.at,
            signature: CompactSignature::default(),
        };
        observation.signature = self.signer.sign(observation.digest(), FEEDS)?;
        Ok(observation)
    }

    /// Signs an answer to a contract that asked off the chain.
    ///
    /// # Errors
    /// [`SigningError::InVault`].
    pub fn sign_answer(
        &self,
        domain: &ReportDomain,
        answer: Answer,
    ) -> Result<SignedAnswer, SigningError> {
        Ok(SignedAnswer {
            signature: self.signer.sign(answer.digest(domain), CALLS)?,
            signer: self.signer.address(),
            answer,
        })
    }

    /// Signs reports as one batch, if the cryptlet's key has signed each of them already: the batch says nothing new.
    ///
    /// # Errors
    /// Names the report that does not fit.
    pub fn sign_batch(
        &mut self,
        domain: ReportDomain,
        reports: &[SignedReport],
    ) -> Result<CompactSignature, SigningError> {
        self.needs_key(BATCHES)?;
        let batch = Batch::of(reports.iter().map(|signed| &signed.report))?;
        if let Some(first) = reports.first() {
            self.speaks_for(first.report.cryptlet, domain)?;
        }
        for (place, signed) in reports.iter().enumerate() {
            let digest = signed.report.digest(&domain);
            self.check_ours(&format!("reports[{place}]"), digest, &signed.signature)?;
        }
        self.signer.sign(batch.digest(&domain), BATCHES)
    }
}

/// What a region without the key refuses, and why that is so.
pub const STEPS: &str = "nobody could sign the state of a further step";
/// As [`STEPS`].
pub const FEEDS: &str = "nobody could sign the value of a feed";
/// As [`STEPS`].
pub const CALLS: &str = "nobody could sign the answer to a call";
/// As [`STEPS`].
pub const BATCHES: &str = "its reports are delivered one by one";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_signed_for_whose_manifest_does_not_say_so() {
        let key = SigningKey::generate();
        let mut signer = MessageSigner {
            signer: Rc::new(Signer::Here(SigningKey::generate())),
            region_key: Rc::new(key),
            measurement: Measurement(B256::ZERO),
            is_declared: true,
            voice: Voice::of_nobody(
                CryptletId(Address::ZERO),
                ReportDomain {
                    chain_id: 1,
                    delegate: Address::ZERO,
                },
            ),
        };
        assert!(signer.sign(Bytes::new()).is_ok());
        signer.is_declared = false;
        let refused = signer.sign(Bytes::new()).unwrap_err();
        assert_eq!(refused, SigningError::NotDeclared);
        assert!(!refused.is_retryable() && refused.to_string().contains("signing"));
    }
}
