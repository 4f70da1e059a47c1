//! Isolated regions behind one interface: the paper's `IsolatedRegionCreate`, `IsolatedRegionIoControl`,
//! `IsolatedAppIoControl`, `IsolatedAppSignMessage`, `IsolatedRegionGetDigest` and `IsolatedRegionCheckSignature`.
//!
//! An [`IsolationProvider`] creates a [`Region`] for a package under settings that policy decided. What the
//! region asks of the world comes to a [`CallOutHandler`]; [`Relay`] is the one that hosts use. The
//! [`process`] provider runs the container as a process of its own, the [`microvm`] provider one whose component runs in
//! a virtual machine, the [`remote`] one a container on another machine; [`providers`] are those that one host has. The region's protocol is described in
//! `cryptlet_types::region`.

mod busy_poll;
mod dial;
mod frames;
pub mod microvm;
pub mod process;
pub mod providers;
mod region;
pub mod relay;
pub mod remote;
mod zygote;

pub use microvm::MicrovmProvider;
pub use process::ProcessProvider;
pub use providers::Providers;
pub use relay::{LogSink, Relay, TracingLog};
pub use remote::{HostKey, RemoteProvider};

use alloy_primitives::{Address, B256, Bytes};
use async_trait::async_trait;
use cryptlet_channel::ChannelError;
use cryptlet_seal::{SealError, recover};
use cryptlet_types::{
    Attestation, CodeGrant, EvidenceStatement, Measurement, Provider, ReportDomain, Sha256Digest,
    SignedReport,
    recording::{ReplayInput, Replayed},
    region::{
        CallAnswer, CallInput, CallOut, CallOutAnswer, Created, FrameError, KeyGrant,
        ObserveAnswer, ObserveInput, Package, RegionFault, RegionSettings, RegionStatement,
        RunAnswer, RunInput,
    },
    report::CompactSignature,
};
use std::sync::Arc;

/// Why a region did not do what it was asked.
///
/// After [`IsolationError::Fault`] the region can go on; after everything else it has ended, and a new one
/// has to be created.
#[derive(Debug, thiserror::Error)]
pub enum IsolationError {
    /// The region answered with a fault.
    #[error(transparent)]
    Fault(#[from] RegionFault),
    /// The container could not be read or started.
    #[error("container {what}: {source}")]
    Start {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The region ended in the middle of a call, or before it.
    #[error("region ended: {0}")]
    Died(String),
    /// The region did not answer in this many milliseconds, and was ended.
    #[error("region did not answer in {0} ms and was ended")]
    Timeout(u64),
    /// The region is not what was asked for; it was ended.
    #[error("region's {what} is {found}, not {expected}")]
    Mismatch {
        /// What differs.
        what: &'static str,
        /// What was asked for.
        expected: String,
        /// What the region says.
        found: String,
    },
    /// The region does not keep to the protocol; it was ended.
    #[error("region broke the protocol: {0}")]
    Protocol(String),
    /// The region's machine could not be reached, or is not believed.
    #[error("remote region: {0}")]
    Channel(#[from] ChannelError),
    /// The package cannot be measured.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl IsolationError {
    /// Whether the same work, tried again (in a new region, unless this is a fault), may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Fault(fault) => fault.is_retryable(),
            Self::Start { .. } | Self::Died(_) | Self::Timeout(_) => true,
            Self::Mismatch { .. } | Self::Protocol(_) => false,
            Self::Channel(error) => error.is_retryable(),
            Self::Seal(error) => error.is_retryable(),
        }
    }

    /// Whether the region has ended: all errors but a fault.
    #[must_use]
    pub fn is_end_of_region(&self) -> bool {
        !matches!(self, Self::Fault(_))
    }
}

impl From<FrameError> for IsolationError {
    fn from(error: FrameError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// Makes isolated regions.
#[async_trait]
pub trait IsolationProvider: Send + Sync {
    /// Which one it is, as policy names it.
    fn provider(&self) -> Provider;

    /// What a region of `package` under `settings` will measure (`IsolatedRegionGetDigest`).
    ///
    /// # Errors
    /// The package is not what its digests say.
    fn measurement(
        &self,
        package: &Package,
        settings: &RegionSettings,
    ) -> Result<Measurement, IsolationError>;

    /// Creates a region (`IsolatedRegionCreate`). Its measurement is that of what was asked for, and its nonce answers the
    /// challenge ([`Region::nonce`]), or it is ended and refused.
    ///
    /// # Errors
    /// See [`IsolationError`].
    async fn create(
        &self,
        package: Package,
        settings: RegionSettings,
        nonce: B256,
        call_out: Arc<dyn CallOutHandler>,
    ) -> Result<Box<dyn Region>, IsolationError>;
}

/// An isolated region (`IsolatedRegionIoControl`). Dropping it ends it. A call that is dropped before it is
/// over ends the region too, since the conversation cannot be picked up again.
#[async_trait]
pub trait Region: Send {
    /// What the region says about itself.
    fn statement(&self) -> &EvidenceStatement;

    /// What hardware says about the statement, for providers that [attest](Provider::attests). Whether it is believed, those decide
    /// who verify evidence.
    fn attestation(&self) -> Option<&Attestation>;

    /// The challenge that the statement has to repeat, as this side knows it: the one that was asked for, or, on another machine,
    /// that one bound to the connection.
    fn nonce(&self) -> B256;

    /// Hands over the cryptlet's signing key, wrapped to [`EvidenceStatement::exchange_key`] and bound by
    /// `cryptlet_seal::key_binding`, or says that the vault signs in the region's stead. Once. Returns the key's
    /// address, which is the manifest's.
    ///
    /// # Errors
    /// See [`IsolationError`].
    async fn provision(&mut self, grant: KeyGrant) -> Result<Address, IsolationError>;

    /// [`Region::provision`] with the last sealed image of the cryptlet under this measurement: the region goes on from what its
    /// predecessor promised. After a refusal it may be tried again, with the image that is the last one.
    ///
    /// # Errors
    /// See [`IsolationError`]; [`RegionFault::Sealed`] if the image is not the last one, or nothing is sealed here.
    async fn resume(&mut self, _grant: KeyGrant, _image: Bytes) -> Result<Address, IsolationError> {
        Err(seals_nothing())
    }

    /// Has the region leave what it promised to its successor: a sealed image, which the vault is to take as the last one
    /// (`Vault::advance`). The region signs nothing any more.
    ///
    /// # Errors
    /// See [`IsolationError`]; [`RegionFault::Sealed`] where the vault gave nothing to seal with, or nothing is sealed here.
    /// Then the region signs as before.
    async fn seal(&mut self) -> Result<Bytes, IsolationError> {
        Err(seals_nothing())
    }

    /// Wakes the cryptlet. What it says is signed where it runs, by keys that are there alone: the region's, and the cryptlet's unless
    /// that stays in its vault (`IsolatedAppSignMessage`).
    ///
    /// # Errors
    /// See [`IsolationError`].
    async fn run(&mut self, input: RunInput) -> Result<RunAnswer, IsolationError>;

    /// Asks the cryptlet for the value of a feed.
    ///
    /// # Errors
    /// See [`IsolationError`]; [`RegionFault::Key`] where the key stays in its vault.
    async fn observe(&mut self, input: ObserveInput) -> Result<ObserveAnswer, IsolationError>;

    /// Has the cryptlet answer a contract that asks off the chain.
    ///
    /// # Errors
    /// As [`Region::observe`].
    async fn call(&mut self, input: CallInput) -> Result<CallAnswer, IsolationError>;

    /// Repeats a run from its recording, which answers in the place of sources. Needs no key, and signs nothing.
    ///
    /// # Errors
    /// See [`IsolationError`]; [`RegionFault::Diverged`] if the run asks for something else than was recorded.
    async fn replay(&mut self, input: ReplayInput) -> Result<Replayed, IsolationError>;

    /// The cryptlet's signature over 1 to 64 reports as one batch; its key has signed each of them already.
    ///
    /// # Errors
    /// As [`Region::observe`].
    async fn sign_batch(
        &mut self,
        domain: ReportDomain,
        reports: Vec<SignedReport>,
    ) -> Result<CompactSignature, IsolationError>;
}

fn seals_nothing() -> IsolationError {
    RegionFault::Sealed("sealed image: regions of this kind seal nothing".into()).into()
}

/// What the world is to regions (`IsolatedAppIoControl`): opens a session for each region.
#[async_trait]
pub trait CallOutHandler: Send + Sync {
    /// A session for a region with these settings; it is dropped with the region.
    fn open(&self, settings: &RegionSettings) -> Box<dyn CallOutSession>;

    /// The key of a package's secret code, for who is about to load it. Whether what it says of itself is believed, is for whoever
    /// has the key to decide. Nobody has one, unless a handler says otherwise.
    ///
    /// # Errors
    /// Why not, for people: it is told to the region.
    async fn code_key(&self, _asked: CodeAsked) -> Result<CodeGrant, String> {
        Err("nobody here has keys of secret code".into())
    }
}

/// A question for the key of secret code.
#[derive(Clone, Debug)]
pub struct CodeAsked {
    /// SHA-256 of the package's image manifest.
    pub package: Sha256Digest,
    /// What who asks says of itself, and what hardware says of that. Provider, measurement and challenge have been compared with
    /// what is expected.
    pub created: Created,
    /// The challenge that it answers, as [`Region::nonce`].
    pub nonce: B256,
}

/// Answers one region's calls out; connections are its state.
#[async_trait]
pub trait CallOutSession: Send {
    /// Answers a call. The error is told to the region, for people. The future may be dropped when the run's
    /// time is up.
    async fn call_out(&mut self, call: CallOut) -> Result<CallOutAnswer, String>;

    /// The run is over: what it left open is closed.
    fn run_ended(&mut self);
}

/// Whether the region of `evidence`, running what `digest` measures, made `said`
/// (`IsolatedRegionCheckSignature`). The evidence itself is verified by `cryptlet_seal`.
#[must_use]
pub fn check_signature(
    evidence: &EvidenceStatement,
    digest: Measurement,
    said: &RegionStatement,
    signature: &CompactSignature,
) -> bool {
    evidence.measurement == digest
        && said.measurement == digest
        && recover(said.digest(), signature).is_ok_and(|signer| signer == evidence.region_key)
}
