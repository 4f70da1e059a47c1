//! What host and region say to each other.
//!
//! One stream, one conversation at a time. Each frame is a big-endian `u32` length (at most
//! [`MAX_FRAME_BYTES`](crate::bounded::MAX_FRAME_BYTES)) and one CBOR item (RFC 8949). The host calls in
//! ([`CallIn`]); until the region has answered ([`ToHost::Answer`]) it may call out any number of times
//! ([`CallOut`]), and the host answers each ([`ToRegion::Answer`]). These are the paper's
//! `IsolatedRegionIoControl` and `IsolatedAppIoControl`. A region believes nothing that the host says about
//! the world: bytes from a source are protected by TLS that ends inside the region.

mod input;
mod lengths;

pub use input::{CallInput, InputError, ObserveInput, RunInput};

use crate::{
    Attestation, CodeGrant, EvidenceStatement, Limits, Manifest, Measurement, Policy, ReportDomain,
    Sha256Digest, SignedAnswer, SignedReport, UnixSeconds,
    event::{Observation, Step},
    policy::{EgressRule, RecordingRule},
    recording::{Divergence, Recorded, ReplayInput, Replayed},
    report::CompactSignature,
};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Host to region.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ToRegion {
    /// A call of the host.
    Call(CallIn),
    /// The answer to the region's last [`CallOut`]; the text of an error is for people.
    Answer(Result<CallOutAnswer, String>),
}

/// Region to host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum ToHost {
    /// A call of the region.
    Call(CallOut),
    /// The answer to the host's last [`CallIn`].
    Answer(Result<CallInAnswer, RegionFault>),
}

/// What a host asks of a region.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum CallIn {
    /// Load a package: check it, compile it. Once, and first. A container that can divide itself does so from here on: each
    /// region then begins as a copy of the loaded one, before any key is made.
    Load(Box<RegionConfig>),
    /// Make the region's keys and say what it is. Once, after [`CallIn::Load`].
    Create {
        /// The host's challenge, repeated in the evidence.
        nonce: B256,
    },
    /// Take the cryptlet's signing key, or learn who signs. Once, after [`CallIn::Create`].
    Provision(KeyGrant),
    /// [`CallIn::Provision`] with what the region's predecessor left: its last sealed image.
    Resume {
        /// As in [`CallIn::Provision`].
        grant: KeyGrant,
        /// The image, at most [`MAX_SEALED_BYTES`](crate::bounded::MAX_SEALED_BYTES) long.
        image: Bytes,
    },
    /// Wake the cryptlet. Any number of times, after [`CallIn::Provision`].
    Run(Box<RunInput>),
    /// Ask the cryptlet for the value of a feed. As [`CallIn::Run`].
    Observe(Box<ObserveInput>),
    /// Have the cryptlet answer a contract that asks off the chain. As [`CallIn::Run`].
    Call(Box<CallInput>),
    /// Repeat a run from what was recorded of it, without asking anybody. Any number of times, after [`CallIn::Create`]: nothing is
    /// signed, so that no key is needed.
    Replay(Box<ReplayInput>),
    /// Sign reports that this cryptlet's key has signed one by one once more, as one [batch](crate::batch), so that they can be
    /// delivered in one transaction. As [`CallIn::Run`].
    SignBatch {
        /// Where they may be delivered.
        domain: ReportDomain,
        /// 1 to 64, in the order in which they are to be consumed.
        reports: Vec<SignedReport>,
    },
    /// Leave what was promised to a successor, as a sealed image. Once, after [`CallIn::Provision`], and last: the region signs
    /// nothing any more.
    Seal,
}

/// What a region answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum CallInAnswer {
    /// The package is loaded; what regions of it measure.
    Loaded(Measurement),
    /// The region has its keys; this is what it says about itself.
    Created(Box<Created>),
    /// The key is in place, or will sign in the vault; its address.
    Provisioned(Address),
    /// The cryptlet has answered.
    Ran(Box<RunAnswer>),
    /// The feed has a value.
    Observed(Box<ObserveAnswer>),
    /// The contract has its answer.
    Called(Box<CallAnswer>),
    /// The run has been repeated.
    Replayed(Box<Replayed>),
    /// The cryptlet's signature over the batch.
    BatchSigned(CompactSignature),
    /// The sealed image.
    Sealed(Bytes),
}

/// What a region asks of its host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum CallOut {
    /// Write a line of the cryptlet's log.
    Log {
        /// How grave.
        level: LogLevel,
        /// The line.
        message: String,
    },
    /// Open a byte stream to a place that policy allows.
    Connect {
        /// `host:port`.
        place: String,
    },
    /// Send bytes down the stream.
    Send(Bytes),
    /// Wait for at most this many bytes; none means that the other side has closed.
    Receive(u32),
    /// Close the stream.
    Close,
    /// Give the key of the package's secret code. Once, while it is loaded, by a region that has shown who it is with keys that
    /// it uses for nothing else, or on another machine with its own.
    CodeKey(Box<Created>),
}

/// What a host answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum CallOutAnswer {
    /// Done, nothing to say.
    Done,
    /// Bytes that were received.
    Received(Bytes),
    /// The key of the package's secret code, and who agreed to it.
    CodeKey(Box<CodeGrant>),
}

/// Gravity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum LogLevel {
    /// For the author.
    Debug,
    /// For the operator, in passing.
    Info,
    /// For the operator, soon.
    Warn,
    /// For the operator, now.
    Error,
}

/// What a region is made of.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegionConfig {
    /// The package's files.
    pub package: Package,
    /// The settings that policy decided; part of the measurement.
    pub settings: RegionSettings,
    /// The host's challenge, which the evidence repeats that asks for the key of secret code ([`CallOut::CodeKey`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<B256>,
}

/// The files of a package: an OCI artifact, taken apart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Package {
    /// The OCI image manifest; its SHA-256 is the package digest, and it holds the digests of the other two.
    pub index: Bytes,
    /// The cryptlet's manifest (JSON).
    pub manifest: Bytes,
    /// The component (WebAssembly), encrypted where it is [secret](crate::secret_code).
    pub code: Bytes,
}

/// What policy decided for a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegionSettings {
    /// What one run may use up.
    pub limits: Limits,
    /// Where it may connect, and whom it believes there.
    pub egress: Vec<EgressRule>,
    /// Whether it hands over what sources said to a run. Left out where it does not, so that such settings measure what they
    /// measured before there were recordings.
    #[serde(default, skip_serializing_if = "RecordingRule::is_off")]
    pub recording: RecordingRule,
}

impl RegionSettings {
    /// What `policy` decides for a package with this manifest, of which a run may use up `limits` at most.
    #[must_use]
    pub fn decided_by(policy: &Policy, manifest: &Manifest, limits: Limits) -> Self {
        Self {
            limits: limits.within(policy.limits),
            egress: policy.egress_of(manifest),
            recording: policy.recording,
        }
    }
}

/// How a region's reports get the cryptlet's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum KeyGrant {
    /// The key itself, for this region alone: it signs.
    Wrapped(WrappedKey),
    /// The key never leaves its vault. The region countersigns with its own key and leaves the cryptlet's signature
    /// all zero; the vault checks evidence and countersignature, and signs.
    InVault {
        /// Address of the key.
        signer: Address,
    },
}

/// A signing key, and with it what seals the region's state where the vault keeps that, encrypted to a region's exchange key
/// (HPKE, RFC 9180).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct WrappedKey {
    /// HPKE's encapsulated key.
    pub encapsulated: Bytes,
    /// The encrypted secret: 32 bytes of the key, with a seal 92 more. Bound to the region's measurement and nonce.
    pub ciphertext: Bytes,
}

/// What a region says about itself, and what vouches for it below its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Created {
    /// What the region says.
    pub statement: EvidenceStatement,
    /// What hardware says, for providers that attest.
    pub attestation: Option<Attestation>,
}

/// What came of a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunAnswer {
    /// The cryptlet's word.
    pub outcome: RunOutcome,
    /// Where the computation goes on, if this was not all; signed by the cryptlet's key. A run that has nothing to tell
    /// until then has skipped.
    pub proceed: Option<Step>,
    /// What sources said, in the order in which they were asked.
    pub sources: Vec<SourceProof>,
    /// Fuel used up.
    pub fuel_used: u64,
    /// What sources said, word for word, or that it is too much to be kept; none where the settings ask for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Recorded>,
}

/// What came of an observation.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObserveAnswer {
    /// The value, signed by the cryptlet's key.
    pub observation: Observation,
    /// What sources said, in the order in which they were asked.
    pub sources: Vec<SourceProof>,
    /// Fuel used up.
    pub fuel_used: u64,
}

/// What came of a call.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallAnswer {
    /// The answer, signed by the cryptlet's key.
    pub answer: SignedAnswer,
    /// What sources said, in the order in which they were asked.
    pub sources: Vec<SourceProof>,
    /// Fuel used up.
    pub fuel_used: u64,
}

/// The cryptlet's word.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum RunOutcome {
    /// Deliver this.
    Report(Box<SignedReport>),
    /// Nothing to deliver, for a reason (the market was closed).
    Skip(String),
}

/// What a source said and how it proved who it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SourceProof {
    /// The URL that was asked for.
    pub url: String,
    /// HTTP status.
    pub status: u16,
    /// SHA-256 of the certificate that the source showed (DER).
    pub certificate: Sha256Digest,
    /// SHA-256 of the request as it was sent.
    pub request: Sha256Digest,
    /// SHA-256 of the response's body.
    pub body: Sha256Digest,
}

/// Why a region could not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
pub enum RegionFault {
    /// The host called out of turn or with something malformed.
    #[error("protocol: {0}")]
    Protocol(String),
    /// The package is not what its digests say, or not a cryptlet.
    #[error("package: {0}")]
    Package(String),
    /// The host gave no key for the package's secret code, or one with which nothing can be opened that all have agreed to. It
    /// counts as one that may end better: once somebody has brought what is missing, or taken out what is wrong.
    #[error("secret code: {0}")]
    SecretCode(String),
    /// The signing key could not be opened or is not the manifest's.
    #[error("key: {0}")]
    Key(String),
    /// What a predecessor left was refused, or is missing; or nothing can be left to a successor.
    #[error("{0}")]
    Sealed(String),
    /// The cryptlet trapped.
    #[error("cryptlet trapped: {0}")]
    Trap(String),
    /// The cryptlet used up its fuel.
    #[error("cryptlet used up its fuel of {0}")]
    OutOfFuel(u64),
    /// The cryptlet asked for more memory than it may have.
    #[error("cryptlet used up its memory of {0} bytes")]
    OutOfMemory(u64),
    /// The run took longer than it may.
    #[error("run took longer than {0} ms")]
    Deadline(u64),
    /// The cryptlet said no, and that trying again will not help.
    #[error("cryptlet refused: {0}")]
    Refused(String),
    /// The cryptlet said that it could not for now (its source was down or wrong).
    #[error("cryptlet could not answer: {0}")]
    Unavailable(String),
    /// This region has said something else under the same number, and that can still be delivered.
    #[error("sequence {sequence} was signed already, and can be delivered until {until}")]
    Promised {
        /// The number asked for.
        sequence: u64,
        /// The last second at which what was signed can be delivered.
        until: UnixSeconds,
    },
    /// The region remembers as many reports as it can; another one has to be created.
    #[error("region has signed as many reports as it can remember")]
    Exhausted,
    /// The answer is larger than a report may be.
    #[error("payload of {0} bytes, at most 16384")]
    PayloadTooLarge(u64),
    /// The cryptlet's answer is none to what it was asked.
    #[error("cryptlet answered {0}")]
    Answer(String),
    /// A repeated run left its recording.
    #[error("replay diverged at {0}")]
    Diverged(Divergence),
}

impl RegionFault {
    /// Whether the same run, tried again, may end better.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::SecretCode(_)
                | Self::Unavailable(_)
                | Self::Deadline(_)
                | Self::Promised { .. }
                | Self::Exhausted
        )
    }
}

/// What the region's own key signs beside a report: this ran, on this input, from these sources, and said that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionStatement {
    /// What ran.
    pub measurement: Measurement,
    /// EIP-712 digest of the report.
    pub report: B256,
    /// [`RunInput::digest`].
    pub input: B256,
    /// [`sources_digest`].
    pub sources: B256,
}

impl RegionStatement {
    /// The 32 bytes that are signed.
    #[must_use]
    pub fn digest(&self) -> B256 {
        keccak256(
            (
                "bletchley region v1",
                self.measurement.0,
                self.report,
                self.input,
                self.sources,
            )
                .abi_encode_params(),
        )
    }
}

/// Keccak-256 of the CBOR encoding of what the sources said.
///
/// # Errors
/// None in practice: every value of this type has a CBOR form.
pub fn sources_digest(sources: &[SourceProof]) -> Result<B256, FrameError> {
    encode(&sources).map(keccak256)
}

/// Why a frame was refused. The peer is broken or hostile: no retry helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The value has no CBOR form.
    #[error("frame cannot be encoded: {0}")]
    Encode(String),
    /// The bytes are not the message that was expected.
    #[error("frame is malformed: {0}")]
    Malformed(String),
    /// Bytes follow the message.
    #[error("frame has {0} bytes too many")]
    Trailing(usize),
}

impl FrameError {
    /// Whether trying again can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// The CBOR encoding of a message.
///
/// # Errors
/// [`FrameError::Encode`], in practice never.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::new();
    ciborium::into_writer(message, &mut bytes)
        .map_err(|error| FrameError::Encode(error.to_string()))?;
    Ok(bytes)
}

/// Reads a message that fills `bytes` exactly.
///
/// # Errors
/// Says what is malformed.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    lengths::check(bytes)?;
    let mut rest = bytes;
    let message = ciborium::de::from_reader_with_recursion_limit(&mut rest, 32)
        .map_err(|error| FrameError::Malformed(error.to_string()))?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(FrameError::Trailing(rest.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn messages_survive_a_round_trip() {
        let sent = ToHost::Call(CallOut::Send(Bytes::from(vec![7; 70_000])));
        let bytes = encode(&sent).unwrap();
        assert!(
            bytes.len() < 70_050,
            "byte strings are not arrays of numbers"
        );
        let ToHost::Call(CallOut::Send(received)) = decode(&bytes).unwrap() else {
            panic!("another message")
        };
        assert_eq!(received.len(), 70_000);
    }

    #[test]
    fn nothing_may_follow_a_message() {
        let mut bytes = encode(&ToHost::Call(CallOut::Close)).unwrap();
        bytes.push(0);
        assert_eq!(
            decode::<ToHost>(&bytes).unwrap_err(),
            FrameError::Trailing(1)
        );
    }

    #[test]
    fn deep_nesting_is_refused() {
        assert!(decode::<ToHost>(&[0x81; 100_000]).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = decode::<ToHost>(&bytes);
            let _ = decode::<ToRegion>(&bytes);
        }
    }
}
