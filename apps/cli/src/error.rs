//! What the user is told when something does not work: what, why, and the next step.

use cryptlet_developer::DeveloperError;
use std::fmt::Display;

/// A failed command.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub(crate) struct CliError {
    what: String,
    next: Option<String>,
}

impl CliError {
    /// A failure that speaks for itself.
    pub(crate) fn new(what: impl Display) -> Self {
        Self {
            what: what.to_string(),
            next: None,
        }
    }

    /// A failure of the machine: what was tried, and what the system said.
    pub(crate) fn system(what: impl Display, cause: impl Display) -> Self {
        Self::new(format_args!("{what}: {cause}"))
    }

    /// Adds what the user can do next.
    pub(crate) fn next(mut self, step: impl Into<String>) -> Self {
        self.next = Some(step.into());
        self
    }

    /// What the user can do next.
    pub(crate) fn next_step(&self) -> Option<&str> {
        self.next.as_deref()
    }
}

impl From<DeveloperError> for CliError {
    fn from(error: DeveloperError) -> Self {
        let next = error.next_step().to_owned();
        Self::new(error).next(next)
    }
}

/// Turns any error into one for the user, with what was being done.
pub(crate) trait Doing<T> {
    /// Says what was being done when it failed.
    fn doing(self, what: impl Display) -> Result<T, CliError>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Display) -> Result<T, CliError> {
        self.map_err(|cause| CliError::system(what, cause))
    }
}
