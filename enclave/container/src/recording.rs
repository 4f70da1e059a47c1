//! What sources said to a run: written down as it goes, or read back in their place.

use crate::http::{Abort, Checked, ExchangeError, Response};
use cryptlet_seal::sha256;
use cryptlet_types::{
    Sha256Digest,
    bounded::clip,
    recording::{
        Divergence, Exchange, ExchangeFailure, ExchangeOutcome, MAX_RECORDING_BYTES, Recorded,
        RecordedResponse, Recording,
    },
    region::{RegionFault, SourceProof},
};

/// Who answers the requests of a run.
pub enum Answers {
    /// Its sources.
    Sources,
    /// Its sources, and what they say is written down.
    Recorded(Recorder),
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
            Self::Sources => Ok(None),
            Self::Recorded(recorder) => Ok(Some(recorder.end())),
            Self::Replayed(replayer) => replayer.end().map(|()| None),
        }
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
        self.size = self.size.saturating_add(exchange.size());
        self.too_large = self.size > MAX_RECORDING_BYTES;
        if self.too_large {
            self.recording = Recording::default();
        } else {
            self.recording.exchanges.push(exchange);
        }
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

/// Reads exchanges back, in their order.
pub struct Replayer {
    left: std::vec::IntoIter<Exchange>,
    answered: usize,
}

impl Replayer {
    /// Reads `recording`.
    #[must_use]
    pub fn new(recording: Recording) -> Self {
        Self {
            left: recording.exchanges.into_iter(),
            answered: 0,
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
        match self.left.next() {
            None => Ok(()),
            Some(left) => Err(RegionFault::Diverged(Divergence::NotAsked {
                exchange: self.answered.saturating_add(1),
                recorded: clip(&left.url),
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
