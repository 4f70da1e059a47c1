//! Job → Report: asks an isolated region to wake the cryptlet, and brings back what it signed.
//!
//! One region serves one cryptlet under one package, one set of limits and one policy; it is created at the
//! first job that needs it (requirement E10), and lives until it dies, faults, its evidence is older than policy
//! accepts, or another policy comes into force. Its evidence is verified before it may sign: either the vault gives it
//! the cryptlet's key, or the vault keeps the key and signs what the region has signed with its own. Runs of one region
//! are one after the other, and those of all regions are few at a time: a cryptlet's jobs wait for its turn first
//! ([`Runner::turn`]), and only then is it said when a report is issued. Beside jobs, a cryptlet observes feeds, answers contracts
//! that ask off the chain, and signs reports of its own together. What was recorded of a run is repeated by [`replay()`].

mod error;
mod recorded;
mod regions;
mod replay;
mod secret_code;

pub use error::RunError;
pub use recorded::RunRecording;
pub use regions::{Ports, Program, Runner, Turn};
pub use replay::replay;
pub use secret_code::{KeptCode, SecretCodes};

use cryptlet_types::{event::Step, outbox::RunRecord};

/// What came of a run.
#[derive(Clone, Debug)]
pub enum Ran {
    /// A signed report.
    Reported {
        /// What was said, and how it came about.
        run: Box<RunRecord>,
        /// Where the computation goes on, if this is not its last word.
        next: Option<Box<Step>>,
        /// What its sources said, where policy has that kept.
        recording: Option<Box<RunRecording>>,
    },
    /// Nothing to deliver.
    Skipped {
        /// Why.
        reason: String,
        /// Where the computation goes on, if it has only nothing to tell yet.
        next: Option<Box<Step>>,
    },
}
