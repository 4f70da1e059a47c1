//! What must hold before a cryptlet's key does anything.

use crate::{Result, VaultError};
use cryptlet_seal::{SealError, check, evidence::Expected};
use cryptlet_types::{CryptletId, Evidence, region::RegionStatement, report::CompactSignature};

/// The evidence is what is expected.
pub(crate) fn region(
    cryptlet: CryptletId,
    evidence: &Evidence,
    expected: &Expected<'_>,
) -> Result<()> {
    cryptlet_attest::verify(evidence, expected)
        .map_err(|source| VaultError::Refused { cryptlet, source })
}

/// The evidence is what is expected, and the region that it speaks of signed `statement` about what runs in it.
pub(crate) fn report(
    cryptlet: CryptletId,
    evidence: &Evidence,
    expected: &Expected<'_>,
    statement: &RegionStatement,
    signature: &CompactSignature,
) -> Result<()> {
    region(cryptlet, evidence, expected)?;
    let refused = |source| VaultError::Refused { cryptlet, source };
    if statement.measurement != evidence.statement.measurement {
        return Err(refused(SealError::WrongMeasurement {
            expected: evidence.statement.measurement,
            found: statement.measurement,
        }));
    }
    check(statement.digest(), signature, evidence.statement.region_key).map_err(refused)
}
