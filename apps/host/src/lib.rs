//! The host: joins the stages of the path, and nothing else does.
//!
//! ```text
//! chain, clock ─ watch ─▶ Event ─ route ─▶ Job ─ run ─▶ Report ─ deliver ─▶ Receipt
//!                    journal       journal      journal        journal (before broadcast, and after)
//! ```
//!
//! Each arrow is a write to the journal before the next stage sees anything, so that a host that is killed at
//! any moment takes up where it was: `intake` turns what chain and clock say into jobs, one
//! worker a subscription takes that subscription's jobs from the journal, one after the other, oldest first.
//! The journal is the queue; a worker is only ever told that there is something in it.

mod config;
mod error;
mod host;
mod intake;
mod layout;
mod parts;
mod ports;
mod progress;
mod publish;
mod receipt;
mod worker;
mod workers;

pub use config::{ClockSource, HostConfig, VaultUnlock};
pub use error::HostError;
pub use host::Host;
pub use layout::DataFolder;
pub use parts::{HostClock, Parts};
pub use progress::Progress;
pub use publish::{Published, prepare_package};
