//! Signatures on what a cryptlet says to others than the contract that it answers. The manifest declares `signing`.

use crate::{Failure, bindings::bletchley::cryptlet::signing as wire};

pub use wire::Signatures;

/// Signs `message`, of at most 16 KiB; up to 64 in one run. What the host says of the world may be its invention: sign what you
/// know. The region's signature is another one in another region.
///
/// # Errors
/// [`Failure::Refused`] says why there is none.
pub fn sign(message: &[u8]) -> Result<Signatures, Failure> {
    wire::sign(message).map_err(|reason| Failure::Refused(format!("nothing signed: {reason}")))
}
