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
//!
//! Beside the path, the `follower` keeps a replica of the register, `rules` decides which policy is in force, and `api`
//! answers who asks over HTTPS. An event becomes a job, and a job a run, only while a policy is in force and the register's
//! word is fresh; until then it waits in the journal.

mod api;
mod checks;
mod config;
mod delegations;
mod error;
mod fetcher;
mod files;
mod follower;
mod host;
mod intake;
mod layout;
mod manifests;
mod parts;
mod ports;
mod progress;
mod receipt;
mod register_link;
mod rules;
pub mod setup;
mod spare_keys;
mod worker;
mod workers;

pub use api::ApiServer;
pub use config::{
    ApiConfig, CertificateFiles, ClockSource, HostConfig, PackagesConfig, PinConfig,
    RegisterConfig, VaultConfig, VaultUnlock,
};
pub use delegations::Delegations;
pub use error::HostError;
pub use host::Host;
pub use layout::DataFolder;
pub use parts::{Given, HostClock, Parts};
pub use progress::Progress;
pub use rules::{Rules, Standing};
