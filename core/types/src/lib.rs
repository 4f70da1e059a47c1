//! The values that travel through the fabric, and nothing else: no I/O, no clocks, no randomness.
//!
//! Read in this order, the modules retell the path of one wake-up:
//! [`subscription`] (what a contract asked for) and [`delegation`] (in whose name) → [`event`] (it is due)
//! → [`job`] (work to be done once) → [`region`] (how the work is asked of an isolated region) → [`report`] (what a cryptlet says to a
//! contract; many of them: [`batch`]) → [`receipt`] (what an auditor checks, offline)
//! → [`recording`] (from which a run can be repeated).
//! [`answer`] is what a contract gets that asks off the chain and waits; [`message`] is for anybody else.
//! [`manifest`], [`register`], [`policy`] and [`evidence`] are the documents that say what is allowed and what ran; [`secret_code`] is
//! how code runs that is in none of them.

pub mod answer;
pub mod attestation;
pub mod batch;
pub mod bounded;
pub mod channel;
mod decimal;
pub mod delegation;
pub mod descriptor;
pub mod event;
pub mod evidence;
pub mod ids;
pub mod job;
pub mod limits;
pub mod manifest;
pub mod message;
pub mod outbox;
pub mod policy;
pub mod receipt;
pub mod recording;
pub mod region;
pub mod register;
pub mod report;
pub mod secret_code;
pub mod subscription;

pub use answer::{Answer, SignedAnswer};
pub use attestation::Attestation;
pub use batch::Batch;
pub use delegation::{Delegation, SignedDelegation};
pub use descriptor::DelegateDescriptor;
pub use event::{Event, Trigger};
pub use evidence::{Evidence, EvidenceStatement, Provider};
pub use ids::{CryptletId, EventId, JobId, Measurement, Sha256Digest, Subject};
pub use job::{Job, JobState};
pub use limits::Limits;
pub use manifest::Manifest;
pub use message::{CryptletMessage, MessageSignatures, MessageStatement};
pub use outbox::{RunId, RunRecord, Submission};
pub use policy::Policy;
pub use receipt::Receipt;
pub use report::{Report, ReportDomain, SignedReport};
pub use secret_code::{CodeAgreement, CodeGrant, SecretCode};
pub use subscription::{ClockSpec, Subscription, TriggerSpec};

/// Seconds since 1970-01-01T00:00:00Z without leap seconds: what `block.timestamp` counts.
pub type UnixSeconds = u64;
