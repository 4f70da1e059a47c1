//! Whether another cryptlet said something in its region. The manifest declares `regions`.

use crate::{Failure, bindings::bletchley::cryptlet::regions as wire};

pub use wire::Claim;

/// True only if the claim's host vouched for a region that runs what the claim names, and its key signed just this message; false for
/// whatever is malformed. It says nothing about when that was, and nothing about hardware. Up to 64 in one run.
///
/// # Errors
/// [`Failure::Refused`] if it was not looked at.
pub fn check_signature(claim: &Claim) -> Result<bool, Failure> {
    wire::check_signature(claim)
        .map_err(|reason| Failure::Refused(format!("nothing checked: {reason}")))
}
