//! HTTPS to the places that the manifest asks for and policy allows.
//!
//! TLS ends inside the region, certificates are judged at the job's time, redirects are not followed.

use crate::{Failure, bindings::bletchley::cryptlet::http as wire};

pub use wire::{Error, Method, Request, Response};

/// Sends a request and waits for the whole response.
///
/// # Errors
/// See [`Error`]; `?` turns it into the [`Failure`] that fits.
pub fn send(request: &Request) -> Result<Response, Error> {
    wire::send(request)
}

/// `GET url` without headers of its own.
///
/// # Errors
/// As [`send`].
pub fn get(url: &str) -> Result<Response, Error> {
    send(&Request {
        method: Method::Get,
        url: url.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    })
}

impl From<Error> for Failure {
    /// What is against policy stays so; everything else may pass.
    fn from(error: Error) -> Self {
        match error {
            Error::Refused(reason) => Self::Refused(reason),
            Error::Unreachable(reason) | Error::Insecure(reason) | Error::Malformed(reason) => {
                Self::Unavailable(reason)
            }
            Error::TooLarge(limit) => {
                Self::Unavailable(format!("the answer is longer than {limit} bytes"))
            }
        }
    }
}
