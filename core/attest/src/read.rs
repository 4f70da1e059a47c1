//! Reads structures of fixed fields, one after the other, and names the field where one ends too early.

use crate::AttestError;

/// What is left of a structure.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next `length` bytes.
    pub(crate) fn bytes(
        &mut self,
        length: usize,
        field: &'static str,
    ) -> Result<&'a [u8], AttestError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or_else(|| malformed(field, "ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], AttestError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk()
            .ok_or_else(|| malformed(field, "ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next `length` bytes, which the standard reserves and sets to zero.
    pub(crate) fn zeros(&mut self, length: usize, field: &'static str) -> Result<(), AttestError> {
        if self.bytes(length, field)?.iter().all(|byte| *byte == 0) {
            return Ok(());
        }
        Err(malformed(field, "is reserved and not zero"))
    }

    /// Refuses bytes behind the last field.
    pub(crate) fn end(self, field: &'static str) -> Result<(), AttestError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        Err(malformed(field, "bytes follow its last field"))
    }
}

/// An attestation that is not in the form that its vendor documents.
pub(crate) fn malformed(field: &'static str, reason: impl Into<String>) -> AttestError {
    AttestError::Malformed {
        field,
        reason: reason.into(),
    }
}

/// A signature or certificate that does not hold.
pub(crate) fn unproven(what: &'static str, reason: impl Into<String>) -> AttestError {
    AttestError::Unproven {
        what,
        reason: reason.into(),
    }
}
