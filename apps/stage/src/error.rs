//! Why a stage could not be built or used.

use std::fmt::Display;

/// What could not be done, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct StageError(String);

impl StageError {
    pub(crate) fn new(what: impl Display) -> Self {
        Self(what.to_string())
    }

    /// Whether trying again may help: a stage is built anew, on ports and in a folder of its own.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        true
    }
}

/// Turns any error into one that says what was being done.
pub(crate) trait Doing<T> {
    fn doing(self, what: &str) -> Result<T, StageError>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, StageError> {
        self.map_err(|cause| StageError(format!("{what}: {cause}")))
    }
}
