//! What a run was told, word for word, so that it can be repeated without who told it: what sources said, and what it had signed.
//!
//! A region records where policy asks for it ([`RecordingRule`](crate::policy::RecordingRule)), because what sources say may be
//! secret. Of each request that left the region it keeps what the cryptlet got: a response, or why there was none. What the
//! region refuses by itself is not kept: it refuses the same again.
//!
//! Responses are bound to what the region signed, headers aside: their digests are those of the run's
//! [`SourceProof`](crate::region::SourceProof)s. Headers, and why there was no response, are the host's word; that they were
//! others shows in what the cryptlet makes of them, or not at all.

use crate::{
    MessageSignatures, RunId, Sha256Digest,
    manifest::DocumentError,
    message::MAX_SIGNED_MESSAGES,
    region::{RegionSettings, RunInput},
};
use alloy_primitives::{B256, Bytes};
use serde::{Deserialize, Serialize};

/// Largest recording, in bytes: 4 MiB, as [`Recording::size`] counts. A run with more has none.
pub const MAX_RECORDING_BYTES: usize = 4 << 20;
/// Most exchanges of a recording: as many as a run may make.
pub const MAX_EXCHANGES: usize = 64;
/// Largest recording file that is read, in bytes: 32 MiB. JSON writes bytes as two digits and some characters as six.
pub const MAX_RECORDING_FILE_BYTES: usize = 32 << 20;

/// What an exchange takes beside its texts and its body, in bytes: digests, numbers, names of fields.
const EXCHANGE_BYTES: usize = 256;
/// The same of a header.
const HEADER_BYTES: usize = 16;
/// What a signed message takes, in bytes.
const SIGNED_BYTES: usize = 256;

/// What was kept of a run, where policy asks for recordings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Recorded {
    /// All of it.
    Whole(Recording),
    /// Nothing: it is larger than [`MAX_RECORDING_BYTES`].
    TooLarge,
}

/// What a run asked for and got, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Recording {
    /// The exchanges, in the order in which they were made.
    pub exchanges: Vec<Exchange>,
    /// What was signed, in the order in which it was asked for: who repeats a run has no key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed: Vec<SignedMessage>,
}

/// A message that the cryptlet had signed while it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedMessage {
    /// [`CryptletMessage::digest`](crate::CryptletMessage::digest).
    pub message: B256,
    /// What it got.
    pub signatures: MessageSignatures,
}

/// One request that left the region, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Exchange {
    /// The URL that was asked for.
    pub url: String,
    /// SHA-256 of the request as it is sent.
    pub request: Sha256Digest,
    /// What the cryptlet got.
    pub outcome: ExchangeOutcome,
}

/// What came of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ExchangeOutcome {
    /// A response.
    Response(RecordedResponse),
    /// None, for this reason.
    Failure(ExchangeFailure),
}

/// A response as the cryptlet saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordedResponse {
    /// HTTP status.
    pub status: u16,
    /// SHA-256 of the certificate that the source showed (DER).
    pub certificate: Sha256Digest,
    /// In the source's order, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
}

/// Why there was no response, as the cryptlet was told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ExchangeFailure {
    /// The place could not be reached, or the connection broke.
    Unreachable(String),
    /// The source could not prove who it is, or bytes were altered.
    Insecure(String),
    /// The source did not speak HTTP.
    Malformed(String),
    /// The answer was longer than this many bytes.
    TooLarge(u64),
}

impl Recording {
    /// What it takes, in bytes: texts and bodies, and an allowance for each exchange and header.
    #[must_use]
    pub fn size(&self) -> usize {
        let signed = self.signed.len().saturating_mul(SIGNED_BYTES);
        self.exchanges
            .iter()
            .map(Exchange::size)
            .fold(signed, usize::saturating_add)
    }

    /// Whether it is one that a region could have made.
    ///
    /// # Errors
    /// Names the field that is too large.
    pub fn check(&self) -> Result<(), DocumentError> {
        if self.exchanges.len() > MAX_EXCHANGES {
            let reason = format!("{}, at most {MAX_EXCHANGES}", self.exchanges.len());
            return Err(DocumentError::field("recording.exchanges", reason));
        }
        if self.signed.len() > MAX_SIGNED_MESSAGES {
            let reason = format!("{}, at most {MAX_SIGNED_MESSAGES}", self.signed.len());
            return Err(DocumentError::field("recording.signed", reason));
        }
        let size = self.size();
        if size > MAX_RECORDING_BYTES {
            let reason = format!("{size} bytes, at most {MAX_RECORDING_BYTES}");
            return Err(DocumentError::field("recording", reason));
        }
        Ok(())
    }
}

impl Exchange {
    /// Its part of [`Recording::size`], in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        let outcome = match &self.outcome {
            ExchangeOutcome::Response(response) => response
                .headers
                .iter()
                .map(|(name, value)| name.len().saturating_add(value.len()) + HEADER_BYTES)
                .fold(response.body.len(), usize::saturating_add),
            ExchangeOutcome::Failure(failure) => failure.reason().len(),
        };
        outcome
            .saturating_add(self.url.len())
            .saturating_add(EXCHANGE_BYTES)
    }
}

impl SignedMessage {
    /// Its part of [`Recording::size`], in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        SIGNED_BYTES
    }
}

impl ExchangeFailure {
    fn reason(&self) -> &str {
        match self {
            Self::Unreachable(reason) | Self::Insecure(reason) | Self::Malformed(reason) => reason,
            Self::TooLarge(_) => "",
        }
    }
}

/// What a region is to repeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReplayInput {
    /// What the run depended on.
    pub input: RunInput,
    /// What its sources said.
    pub recording: Recording,
}

/// What came of repeating a run. Nothing is signed: a region that repeats needs no key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Replayed {
    /// The cryptlet's word.
    pub outcome: ReplayedOutcome,
    /// Keccak-256 of the state in which the computation goes on, if this was not all.
    pub state: Option<B256>,
    /// [`sources_digest`](crate::region::sources_digest) of what the cryptlet was told.
    pub sources: B256,
    /// Fuel used up.
    pub fuel_used: u64,
}

/// The cryptlet's word when a run was repeated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum ReplayedOutcome {
    /// Deliver this.
    Payload(Bytes),
    /// Nothing to deliver, for a reason.
    Skip(String),
}

/// Where a repeated run left its recording. Exchanges and messages are counted from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Divergence {
    /// It asked for something else.
    #[error(
        "exchange {exchange}: asked for {asked} (request {asked_digest}), recorded is {recorded} (request {recorded_digest})"
    )]
    #[serde(rename_all = "camelCase")]
    Other {
        /// Which one.
        exchange: usize,
        /// URL that was asked for.
        asked: String,
        /// SHA-256 of that request.
        asked_digest: Sha256Digest,
        /// URL of the recording.
        recorded: String,
        /// SHA-256 of the request of the recording.
        recorded_digest: Sha256Digest,
    },
    /// It asked once more than was recorded.
    #[error("exchange {exchange}: asked for {asked}, the recording has ended")]
    #[serde(rename_all = "camelCase")]
    OneTooMany {
        /// Which one.
        exchange: usize,
        /// URL that was asked for.
        asked: String,
    },
    /// It ended before it had asked for all that was recorded.
    #[error("exchange {exchange}: recorded is {recorded}, which was not asked for")]
    #[serde(rename_all = "camelCase")]
    NotAsked {
        /// The first that was not asked for.
        exchange: usize,
        /// Its URL.
        recorded: String,
    },
    /// It had another message signed, or one more, or one less.
    #[error(
        "message {message}: signed was {}, recorded is {}",
        named(asked),
        named(recorded)
    )]
    #[serde(rename_all = "camelCase")]
    Message {
        /// Which one.
        message: usize,
        /// Digest of what was to be signed.
        asked: Option<B256>,
        /// Digest of what was signed.
        recorded: Option<B256>,
    },
}

fn named(digest: &Option<B256>) -> String {
    digest.map_or_else(|| "none".into(), |digest| digest.to_string())
}

/// A recording with what a replay needs beside receipt and package. Holds what sources said and what was signed: whoever reads it
/// reads that, and can show the signatures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RecordingFile {
    /// Version of this format: 1.
    pub version: u32,
    /// The run.
    pub run: RunId,
    /// Package that ran.
    pub package: Sha256Digest,
    /// What policy had decided for its region; the measurement proves it.
    pub settings: RegionSettings,
    /// Units of WebAssembly fuel that the run used up.
    pub fuel_used: u64,
    /// Keccak-256 of the state in which the computation goes on, if this was not all.
    pub state: Option<B256>,
    /// What was recorded.
    pub recorded: Recorded,
}

impl RecordingFile {
    /// Reads and checks a recording file. Whether it is of a receipt is for `cryptlet-audit` to say.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_RECORDING_FILE_BYTES {
            let reason = format!("{} bytes, at most {MAX_RECORDING_FILE_BYTES}", bytes.len());
            return Err(DocumentError::field("recording file", reason));
        }
        let file: Self = serde_json::from_slice(bytes)
            .map_err(|error| DocumentError::Malformed(error.to_string()))?;
        if file.version != 1 {
            let reason = "this program reads version 1";
            return Err(DocumentError::field("version", reason));
        }
        if let Recorded::Whole(recording) = &file.recorded {
            recording
                .check()
                .map_err(|error| error.within("recorded"))?;
        }
        Ok(file)
    }

    /// The file's bytes: compact JSON, newline at the end.
    ///
    /// # Errors
    /// None in practice: every value of this type has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        let mut bytes = serde_json::to_vec(self)
            .map_err(|error| DocumentError::Malformed(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// The name of a run's file: `JOB-RUN.json`.
    #[must_use]
    pub fn name_of(run: RunId) -> String {
        format!("{:x}-{}.json", run.job.0, run.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{JobId, Limits};
    use proptest::prelude::*;

    fn exchange(body: usize) -> Exchange {
        Exchange {
            url: "https://a.example/".into(),
            request: Sha256Digest(B256::repeat_byte(1)),
            outcome: ExchangeOutcome::Response(RecordedResponse {
                status: 200,
                certificate: Sha256Digest(B256::repeat_byte(2)),
                headers: vec![("etag".into(), "\u{1}".into())],
                body: vec![0xff; body].into(),
            }),
        }
    }

    fn file(exchanges: Vec<Exchange>) -> RecordingFile {
        RecordingFile {
            version: 1,
            run: RunId::first(JobId(B256::repeat_byte(3))),
            package: Sha256Digest(B256::repeat_byte(4)),
            settings: RegionSettings {
                limits: Limits::default(),
                egress: vec![],
                recording: crate::policy::RecordingRule::Exchanges,
            },
            fuel_used: 7,
            state: None,
            recorded: Recorded::Whole(Recording {
                exchanges,
                signed: Vec::new(),
            }),
        }
    }

    #[test]
    fn the_largest_recording_fits_its_file() {
        let room = MAX_RECORDING_BYTES - exchange(0).size();
        let most = file(vec![exchange(room)]);
        let json = most.to_json().unwrap();
        assert_eq!(RecordingFile::from_json(&json), Ok(most));
        let more = file(vec![exchange(room + 1)]).to_json().unwrap();
        let error = RecordingFile::from_json(&more).unwrap_err().to_string();
        assert!(error.starts_with("recorded.recording"), "{error}");
    }

    #[test]
    fn what_is_wrong_with_a_file_is_named() {
        let json = String::from_utf8(file(vec![]).to_json().unwrap()).unwrap();
        let cases = [
            (json.replace("\"version\":1", "\"version\":2"), "version"),
            (json.replace("\"fuelUsed\"", "\"fuelUsd\""), "fuelUsd"),
            (json.replace("\"whole\"", "\"half\""), "half"),
        ];
        for (text, field) in cases {
            let error = RecordingFile::from_json(text.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(field), "{error}: {field}");
        }
        let many = file(vec![exchange(0); MAX_EXCHANGES + 1]).to_json();
        let error = RecordingFile::from_json(&many.unwrap()).unwrap_err();
        assert!(error.to_string().contains("exchanges"), "{error}");
        assert!(
            !json.contains("signed"),
            "files of runs that signed nothing are as they were"
        );
        let signed = SignedMessage {
            message: B256::ZERO,
            signatures: MessageSignatures {
                cryptlet: None,
                region: crate::report::CompactSignature::default(),
            },
        };
        for (count, fits) in [
            (MAX_SIGNED_MESSAGES, true),
            (MAX_SIGNED_MESSAGES + 1, false),
        ] {
            let mut many = file(vec![]);
            many.recorded = Recorded::Whole(Recording {
                exchanges: vec![],
                signed: vec![signed; count],
            });
            let read = RecordingFile::from_json(&many.to_json().unwrap());
            assert_eq!(read.is_ok(), fits, "{read:?}");
        }
    }

    #[test]
    fn a_runs_file_is_named_by_job_and_number() {
        let run = RunId {
            job: JobId(B256::repeat_byte(0xab)),
            number: 2,
        };
        let name = RecordingFile::name_of(run);
        assert_eq!(name, format!("{}-2.json", "ab".repeat(32)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = RecordingFile::from_json(&bytes);
        }
    }
}
