//! Whether register and policy let a job go on now. Asked before each run and again before each sending: either may have
//! changed since the job was made.

use crate::{Delegations, HostClock, HostError, Parts, Rules, manifests::Manifests, rules::Basis};
use cryptlet_chain::{Chain, ChainError};
use cryptlet_register::{Register, Replica};
use cryptlet_route::{Registered, Router};
use cryptlet_run::Runner;
use cryptlet_types::{
    Job, SignedDelegation, Subscription, UnixSeconds,
    delegation::DelegationError,
    policy::{PolicyInForce, Retry},
    register::{CryptletRecord, SignerRecord, VersionRecord},
};
use std::sync::{Arc, Mutex, PoisonError};

/// Why a job may not go on.
pub(crate) enum Hold {
    /// Nobody can say now.
    Later(String),
    /// It may not.
    Refused(String),
    /// Its subscription is gone.
    Unserved(String),
    /// It was tried, which policy lets be done again as often as this.
    Failed(Retry, Hindrance),
}

/// Why a job comes no further for now.
pub(crate) struct Hindrance {
    pub(crate) reason: String,
    /// Whether the same job, tried again, may end better.
    pub(crate) passes: bool,
}

impl Hindrance {
    fn lasting(reason: String) -> Self {
        Self {
            reason,
            passes: false,
        }
    }
}

impl From<cryptlet_run::RunError> for Hindrance {
    fn from(error: cryptlet_run::RunError) -> Self {
        Self {
            reason: error.to_string(),
            passes: error.is_retryable(),
        }
    }
}

impl From<DelegationError> for Hindrance {
    fn from(error: DelegationError) -> Self {
        Self {
            reason: format!("delegation: {error}"),
            passes: error.is_retryable(),
        }
    }
}

/// Register, policy and delegations, as jobs are measured by them.
pub(crate) struct Admission {
    chain: Arc<dyn Chain>,
    clock: HostClock,
    rules: Arc<Rules>,
    replica: Arc<Replica>,
    router: Arc<Router>,
    runner: Arc<Runner>,
    manifests: Arc<Manifests>,
    delegations: Arc<Delegations>,
    /// In force where no policy is.
    nothing: PolicyInForce,
    obeying: Mutex<()>,
}

impl Admission {
    pub(crate) fn new(
        parts: &Parts,
        router: Arc<Router>,
        runner: Arc<Runner>,
        nothing: PolicyInForce,
    ) -> Self {
        Self {
            chain: parts.chain.clone(),
            clock: parts.clock.clone(),
            rules: parts.rules.clone(),
            replica: parts.replica.clone(),
            manifests: parts.manifests.clone(),
            delegations: parts.delegations.clone(),
            router,
            runner,
            nothing,
            obeying: Mutex::default(),
        }
    }

    /// Routes and runs by what is in force from now on, and says what that is. Regions of another policy are dropped, and all
    /// of them where there is none. Nobody else sets policy, and one at a time: of two who ask, the later one has the last word.
    pub(crate) fn obey(&self) -> Basis {
        let _turn = self.obeying.lock().unwrap_or_else(PoisonError::into_inner);
        let basis = self.rules.basis();
        let policy = basis.standing().policy.as_deref().unwrap_or(&self.nothing);
        if self.runner.policy().digest != policy.digest {
            self.runner.set_policy(policy.clone());
        }
        if self.router.policy().digest != policy.digest {
            self.router.set_policy(policy.clone());
        }
        basis
    }

    /// Whether register and policy let the job go on now, run or have its report sent: the policy under which it may, or why
    /// it may not.
    pub(crate) async fn leave(
        &self,
        job: &Job,
    ) -> Result<Result<Arc<PolicyInForce>, Hold>, HostError> {
        let now = self.clock.now();
        let basis = self.obey();
        let policy = match basis.standing().admits_jobs(now) {
            Ok(policy) => policy.clone(),
            Err(reason) => return Ok(Err(Hold::Later(reason))),
        };
        let reason = match self.admits(job, now).await {
            Ok(Ok(())) => return Ok(Ok(policy)),
            Ok(Err(reason)) => reason,
            Err(error) if error.is_retryable() => return Ok(Err(Hold::Later(error.to_string()))),
            Err(error) => return Err(error),
        };
        // A no from what has changed in the meantime is none.
        Ok(Err(if basis.stands(self.clock.now()) {
            Hold::Refused(reason)
        } else {
            Hold::Later(reason)
        }))
    }

    /// Whether register and policy still let the job run: it may be older than a revocation, or than the policy in force.
    async fn admits(&self, job: &Job, now: UnixSeconds) -> Result<Result<(), String>, HostError> {
        let cryptlet = job.subscription.cryptlet;
        let Some(known) = self.replica.by_id(cryptlet).await? else {
            return Ok(Err(format!("the register knows no cryptlet {cryptlet}")));
        };
        let version = match version_of(&known.record, job, now) {
            Ok(version) => version,
            Err(reason) => return Ok(Err(reason)),
        };
        let name = &known.record.name;
        let manifest = match self.manifests.of(name, version).await {
            Ok(Some(manifest))
                if !known
                    .record
                    .admits(manifest.public_key, version.number, now) =>
            {
                return Ok(Err(no_signer(&known.record, job)));
            }
            Ok(Some(manifest)) => manifest,
            Ok(None) => return Ok(Err(format!("package {} is not at this host", job.package))),
            Err(error) if error.is_retryable() => return Err(error),
            // One cryptlet's damaged package is no reason to stop serving the others.
            Err(error) => return Ok(Err(error.to_string())),
        };
        let rule = self.router.policy().policy.code;
        let code = match self.manifests.code(job.package, &rule).await {
            Ok(code) => code,
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => return Ok(Err(error.to_string())),
        };
        let registered = Registered {
            package: job.package,
            publisher: known.record.publisher,
            owner: known.record.owner,
            manifest,
            code,
        };
        let admitted = self.router.admits(&job.subscription, &registered);
        Ok(admitted.map_err(|refusal| refusal.to_string()))
    }

    /// The word of the identity that the subscription names, as the chain takes it now: one that it has as revoked, or
    /// whose signature it does not believe any more, must not stand in the way of one that holds.
    pub(crate) async fn delegation(
        &self,
        subscription: &Subscription,
        now: UnixSeconds,
    ) -> Result<Result<Option<SignedDelegation>, Hindrance>, ChainError> {
        if !subscription.needs_delegation() {
            return Ok(Ok(None));
        }
        let domain = self.chain.domain();
        // Of what is missing more may come, of what is there only the last says why it does not do.
        let mut hindrance = DelegationError::Missing(subscription.on_behalf_of).into();
        // The report is to be valid for a moment at least.
        let until = now.saturating_add(1);
        for signed in self.delegations.of(subscription, until) {
            if let Err(error) = signed.check(subscription, until) {
                hindrance = error.into();
                continue;
            }
            let (delegation, signature) = (&signed.delegation, &signed.signature);
            let digest = delegation.digest(&domain);
            if self.chain.is_delegation_revoked(digest).await? {
                hindrance = Hindrance::lasting(format!("delegation {digest} was revoked"));
                continue;
            }
            let by = delegation.identity;
            if self.chain.is_signed_by(by, digest, signature).await? {
                return Ok(Ok(Some(signed)));
            }
            hindrance = Hindrance::lasting(format!("delegation {digest} is not signed by {by}"));
        }
        Ok(Err(hindrance))
    }
}

/// The version that the job runs, if the register still lets it: it was not revoked and has a signer that is valid now.
fn version_of<'r>(
    record: &'r CryptletRecord,
    job: &Job,
    now: UnixSeconds,
) -> Result<&'r VersionRecord, String> {
    let cryptlet = record.cryptlet;
    if record.revoked {
        return Err(format!("cryptlet {cryptlet} was revoked"));
    }
    let mut versions = record.versions.iter();
    let usable = versions.find(|version| {
        let signs = |known: &SignerRecord| record.admits(known.signer, version.number, now);
        version.package == job.package && record.signers.iter().any(signs)
    });
    usable.ok_or_else(|| no_signer(record, job))
}

fn no_signer(record: &CryptletRecord, job: &Job) -> String {
    format!(
        "package {} of cryptlet {} has no signer that is valid now: its version was revoked, or its signers have expired \
         or were revoked",
        job.package, record.cryptlet
    )
}
