//! HTTPS from inside the region, over a byte stream that the host relays.
//!
//! [`request`] checks what the cryptlet asks for and writes it down, [`tls`] makes the stream trustworthy,
//! [`response`] reads the answer. Every completed exchange leaves a [`SourceProof`].

mod relay;
mod request;
mod response;
mod tls;

pub use response::{Response, ResponseError, read_response};
pub use tls::Roots;

use crate::{channel::SharedHost, deadline::Deadline, recording::Answers};
use cryptlet_seal::sha256;
use cryptlet_types::{
    UnixSeconds,
    bounded::clip,
    policy::EgressRule,
    region::{CallOut, SourceProof},
};
use relay::RelayStream;
use std::{collections::BTreeMap, io};

pub use relay::Abort;
pub use request::{Checked, Request};

/// Why there is no response.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// Policy or the interface does not allow the request.
    #[error("{0}")]
    Refused(String),
    /// The place could not be reached, or the connection broke.
    #[error("{0}")]
    Unreachable(String),
    /// The source could not prove who it is, or bytes were altered.
    #[error("{0}")]
    Insecure(String),
    /// The source did not speak HTTP.
    #[error("{0}")]
    Malformed(String),
    /// The answer is longer than this many bytes.
    #[error("answer is longer than {0} bytes")]
    TooLarge(u64),
    /// The run is over.
    #[error(transparent)]
    Abort(#[from] Abort),
}

/// Where a region may connect, and whom it believes there.
#[derive(Debug)]
pub struct Egress {
    rules: BTreeMap<String, Roots>,
}

impl Egress {
    /// Reads the rules of the region's settings.
    ///
    /// # Errors
    /// Names the rule whose roots cannot be read.
    pub fn new(rules: &[EgressRule]) -> Result<Self, String> {
        let mut read = BTreeMap::new();
        for (index, rule) in rules.iter().enumerate() {
            let roots = Roots::new(&rule.trust)
                .map_err(|reason| format!("settings.egress[{index}].trust: {reason}"))?;
            if read.insert(rule.place.clone(), roots).is_some() {
                return Err(format!("settings.egress[{index}].place: named twice"));
            }
        }
        Ok(Self { rules: read })
    }
}

/// What an exchange depends on beside the request.
pub struct Surroundings<'a> {
    /// Who relays.
    pub host: &'a SharedHost,
    /// Where the region may connect.
    pub egress: &'a Egress,
    /// When the run must be over.
    pub deadline: Deadline,
    /// The job's time: certificates are judged by it.
    pub now: UnixSeconds,
    /// Longest response, headers included.
    pub response_bytes: u64,
}

/// Sends a request and reads the whole response, or reads back what was answered to it.
///
/// # Errors
/// See [`ExchangeError`].
pub fn exchange(
    request: &Request,
    around: &Surroundings<'_>,
    answers: &mut Answers,
) -> Result<(Response, SourceProof), ExchangeError> {
    let checked = Checked::new(request).map_err(ExchangeError::Refused)?;
    let Some(roots) = around.egress.rules.get(&checked.place) else {
        return Err(ExchangeError::Refused(format!(
            "{} is not among the places that manifest and policy allow",
            clip(&checked.place)
        )));
    };
    match answers {
        Answers::Sources(_) => ask(&checked, roots, around),
        Answers::Recorded(_, recorder) => {
            let result = ask(&checked, roots, around);
            recorder.note(&checked, &result);
            result
        }
        Answers::Replayed(replayer) => replayer.answer(&checked),
    }
}

fn ask(
    checked: &Checked,
    roots: &Roots,
    around: &Surroundings<'_>,
) -> Result<(Response, SourceProof), ExchangeError> {
    let mut relay = RelayStream::connect(around.host, around.deadline, &checked.place)?;
    let result = converse(checked, roots, around, &mut relay);
    let aborted = relay.take_abort();
    let closed = match aborted {
        Some(abort) => return Err(abort.into()),
        None => around.host.borrow_mut().call(CallOut::Close),
    };
    closed.map_err(Abort::Channel)?.map_err(unreachable)?;
    result
}

fn converse(
    checked: &Checked,
    roots: &Roots,
    around: &Surroundings<'_>,
    relay: &mut RelayStream<'_>,
) -> Result<(Response, SourceProof), ExchangeError> {
    let mut stream = tls::connect(roots, &checked.host, around.now, relay)?;
    stream.send(&checked.bytes).map_err(broken)?;
    let certificate = stream.certificate()?;
    let response =
        read_response(&mut stream, around.response_bytes).map_err(|error| match error {
            ResponseError::Io(error) => broken(error),
            ResponseError::Malformed(reason) => ExchangeError::Malformed(reason.into()),
            ResponseError::TooLarge(limit) => ExchangeError::TooLarge(limit),
        })?;
    let proof = SourceProof {
        url: checked.url.clone(),
        status: response.status,
        certificate: sha256(&certificate),
        request: sha256(&checked.bytes),
        body: sha256(&response.body),
    };
    Ok((response, proof))
}

fn unreachable(reason: String) -> ExchangeError {
    ExchangeError::Unreachable(clip(&reason))
}

/// Sorts what went wrong on a TLS stream: the wire, or somebody on it.
fn broken(error: io::Error) -> ExchangeError {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(tls) => ExchangeError::Insecure(clip(&tls.to_string())),
        None => unreachable(error.to_string()),
    }
}
