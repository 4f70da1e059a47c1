//! The host: joins the stages of the path, and nothing else does.
//!
//! ```text
//! chain, clock ─ watch ─▶ Event ─ route ─▶ Job ─ run ─▶ Report ─ deliver ─▶ Receipt
//!                    journal       journal      journal        journal (before broadcast, and after)
//! ```
//!
//! Each arrow is a write to the journal before the next stage sees anything, so that a host that is killed at
//! any moment takes up where it was: `intake` turns what chain and clock say into jobs, one `crew` a cryptlet takes
//! that cryptlet's jobs from the journal, oldest first, and hands their reports over to `delivery`.
//! The journal is the queue; a crew is only ever told that there is something in it.
//!
//! Beside the path, the `follower` keeps a replica of the register, `rules` decides which policy is in force, and `api`
//! answers who asks over HTTPS. An event becomes a job, and a job a run, only while a policy is in force and the register's
//! word is fresh; until then it waits in the journal.

mod admission;
mod api;
mod applications;
pub mod calls;
mod checks;
mod config;
mod crew;
mod delegations;
mod delivery;
mod desk;
mod elsewhere;
mod error;
mod feeds;
mod fetcher;
mod files;
mod follower;
mod host;
mod intake;
mod known;
mod layout;
mod manifests;
mod parts;
mod ports;
mod progress;
mod proofs;
mod queue;
mod read_until;
mod receipt;
mod recordings;
mod register_link;
mod retries;
mod rules;
mod secret_codes;
mod sequences;
pub mod setup;
mod spare_keys;
mod streams;
mod yard;

pub use api::ApiServer;
pub use config::{
    ApiConfig, CertificateFiles, ClockSource, HostConfig, OtherChain, PackagesConfig, PinConfig,
    RegisterConfig, RemoteContainer, VaultConfig, VaultUnlock,
};
pub use delegations::Delegations;
pub use error::HostError;
pub use host::Host;
pub use layout::DataFolder;
pub use parts::{Given, HostClock, Parts};
pub use progress::Progress;
pub use rules::{Rules, Standing};
