//! What a run is told by sources and by who signs for it: written down as it goes, or read back in their place.

use crate::{
    http::{Abort, Checked, ExchangeError, Response},
    signing::{MessageSigner, Voice},
};
use alloy_primitives::Bytes;
use cryptlet_seal::sha256;
use cryptlet_types::{
    MessageSignatures, ReportDomain, Sha256Digest,
    bounded::clip,
    recording::{
        Divergence, Exchange, ExchangeFailure, ExchangeOutcome, MAX_RECORDING_BYTES, Recorded,
        RecordedResponse, Recording, SignedMessage,
    },
    region::{RegionFault, SourceProof},
};

/// Who answers the requests of a run, and signs for it.
pub enum Answers {
    /// Its sources, and the keys of its region.
    Sources(MessageSigner),
    /// The same, and what they say is written down.
    Recorded(MessageSigner, Recorder),
    /// A recording.
    Replayed(Replayer),
}

impl Answers {
    /// What is left when the run is over.
    ///
    /// # Errors
    /// The run has ended before its recording.
    pub(crate) fn end(self) -> Result<Option<Recorded>, RegionFault> {
        match self {
            Self::Sources(_) => Ok(None),
            Self::Recorded(_, recorder) => Ok(Some(recorder.end())),
            Self::Replayed(replayer) => replayer.end().map(|()| None),
        }
    }

    /// Where the run's words count.
    pub(crate) fn domain(&self) -> ReportDomain {
        match self {
            Self::Sources(signer) | Self::Recorded(signer, _) => signer.voice.domain,
            Self::Replayed(replayer) => replayer.voice.domain,
        }
    }

    /// The signatures of a message. The inner error says why there are none.
    ///
    /// # Errors
    /// [`Abort::Diverged`] if another one was signed when the run was recorded, or none.
    pub(crate) fn sign(
        &mut self,
        message: Bytes,
    ) -> Result<Result<MessageSignatures, String>, Abort> {
        let (signer, recorder) = match self {
            Self::Sources(signer) => (signer, None),
            Self::Recorded(signer, recorder) => (signer, Some(recorder)),
            Self::Replayed(replayer) => return replayer.signatures(message).map(Ok),
        };
        let signed = signer.sign(message);
        if let (Ok((digest, signatures)), Some(recorder)) = (&signed, recorder) {
            recorder.note_signed(SignedMessage {
                message: *digest,
                signatures: *signatures,
            });
        }
        let signatures = signed.map(|(_, signatures)| signatures);
        Ok(signatures.map_err(|error| error.to_string()))
    }
}

/// Writes exchanges down, as many as a recording holds.
#[derive(Default)]
pub struct Recorder {
    recording: Recording,
    size: usize,
    too_large: bool,
}

impl Recorder {
    /// Takes an exchange that was made.
    pub(crate) fn note(
        &mut self,
        asked: &Checked,
        result: &Result<(Response, SourceProof), ExchangeError>,
    ) {
        if self.too_large {
            return;
        }
        let Some(outcome) = outcome(result) else {
            return;
        };
        let exchange = Exchange {
            url: asked.url.clone(),
            request: sha256(&asked.bytes),
            outcome,
        };
        if self.has_room(exchange.size()) {
            self.recording.exchanges.push(exchange);
        }
    }

    /// Takes a message that was signed.
    fn note_signed(&mut self, signed: SignedMessage) {
        if self.has_room(signed.size()) {
            self.recording.signed.push(signed);
        }
    }

    /// Counts more bytes, with which the recording may be too large.
    fn has_room(&mut self, bytes: usize) -> bool {
        self.size = self.size.saturating_add(bytes);
        self.too_large = self.size > MAX_RECORDING_BYTES;
        if self.too_large {
            self.recording = Recording::default();
        }
        !self.too_large
    }

    fn end(self) -> Recorded {
        match self.too_large {
            true => Recorded::TooLarge,
            false => Recorded::Whole(self.recording),
        }
    }
}

/// What the cryptlet gets; none where it gets nothing: refused by the region itself, or over.
fn outcome(result: &Result<(Response, SourceProof), ExchangeError>) -> Option<ExchangeOutcome> {
    let failure = match result {
        Ok((response, proof)) => {
            return Some(ExchangeOutcome::Response(RecordedResponse {
                status: response.status,
                certificate: proof.certificate,
                headers: response.headers.clone(),
                body: response.body.clone().into(),
            }));
        }
        Err(ExchangeError::Unreachable(reason)) => ExchangeFailure::Unreachable(reason.clone()),
        Err(ExchangeError::Insecure(reason)) => ExchangeFailure::Insecure(reason.clone()),
        Err(ExchangeError::Malformed(reason)) => ExchangeFailure::Malformed(reason.clone()),
        Err(ExchangeError::TooLarge(limit)) => ExchangeFailure::TooLarge(*limit),
        Err(ExchangeError::Refused(_) | ExchangeError::Abort(_)) => return None,
    };
    Some(ExchangeOutcome::Failure(failure))
}

/// Reads exchanges and signatures back, each in their order.
pub struct Replayer {
    left: std::vec::IntoIter<Exchange>,
    answered: usize,
    signed: std::vec::IntoIter<SignedMessage>,
    messages: usize,
    voice: Voice,
}

impl Replayer {
    /// Reads the `recording` of a run that spoke in this voice.
    #[must_use]
    pub fn new(recording: Recording, voice: Voice) -> Self {
        Self {
            left: recording.exchanges.into_iter(),
            answered: 0,
            signed: recording.signed.into_iter(),
            messages: 0,
            voice,
        }
    }

    /// With what this message was signed.
    ///
    /// # Errors
    /// [`Abort::Diverged`] if it was not.
    fn signatures(&mut self, message: Bytes) -> Result<MessageSignatures, Abort> {
        let asked = self.voice.digest(message);
        self.messages = self.messages.saturating_add(1);
        match self.signed.next() {
            Some(signed) if signed.message == asked => Ok(signed.signatures),
            recorded => Err(Abort::Diverged(Divergence::Message {
                message: self.messages,
                asked: Some(asked),
                recorded: recorded.map(|signed| signed.message),
            })),
        }
    }

    /// What was answered to this request.
    ///
    /// # Errors
    /// As it was told to the cryptlet; [`Abort::Diverged`] if another request was made here, or none.
    pub(crate) fn answer(
        &mut self,
        asked: &Checked,
    ) -> Result<(Response, SourceProof), ExchangeError> {
        let exchange = self.answered.saturating_add(1);
        let Some(recorded) = self.left.next() else {
            return Err(diverged(Divergence::OneTooMany {
                exchange,
                asked: clip(&asked.url),
            }));
        };
        let request = sha256(&asked.bytes);
        if (request, &asked.url) != (recorded.request, &recorded.url) {
            return Err(diverged(Divergence::Other {
                exchange,
                asked: clip(&asked.url),
                asked_digest: request,
                recorded: clip(&recorded.url),
                recorded_digest: recorded.request,
            }));
        }
        self.answered = exchange;
        match recorded.outcome {
            ExchangeOutcome::Response(response) => Ok(read(recorded.url, request, response)),
            ExchangeOutcome::Failure(failure) => Err(failed(failure)),
        }
    }

    fn end(mut self) -> Result<(), RegionFault> {
        if let Some(left) = self.left.next() {
            return Err(RegionFault::Diverged(Divergence::NotAsked {
                exchange: self.answered.saturating_add(1),
                recorded: clip(&left.url),
            }));
        }
        let recorded = self.signed.next().map(|signed| signed.message);
        match recorded {
            None => Ok(()),
            Some(_) => Err(RegionFault::Diverged(Divergence::Message {
                message: self.messages.saturating_add(1),
                asked: None,
                recorded,
            })),
        }
    }
}

fn diverged(divergence: Divergence) -> ExchangeError {
    Abort::Diverged(divergence).into()
}

fn read(url: String, request: Sha256Digest, said: RecordedResponse) -> (Response, SourceProof) {
    let proof = SourceProof {
        url,
        status: said.status,
        certificate: said.certificate,
        request,
        body: sha256(&said.body),
    };
    let response = Response {
        status: said.status,
        headers: said.headers,
        body: said.body.into(),
    };
    (response, proof)
}

fn failed(failure: ExchangeFailure) -> ExchangeError {
    match failure {
        ExchangeFailure::Unreachable(reason) => ExchangeError::Unreachable(reason),
        ExchangeFailure::Insecure(reason) => ExchangeError::Insecure(reason),
        ExchangeFailure::Malformed(reason) => ExchangeError::Malformed(reason),
        ExchangeFailure::TooLarge(limit) => ExchangeError::TooLarge(limit),
    }
}
