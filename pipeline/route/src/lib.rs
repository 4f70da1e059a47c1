//! Event → Job: which package answers an event, and whether policy lets it.
//!
//! A pure function of documents: the same event, register entry and policy always give the same job.

use cryptlet_types::{
    CryptletId, Event, EventId, Job, Manifest, Provider, Sha256Digest, Subject, Subscription,
    policy::PolicyInForce,
};

/// What the register knows of a cryptlet.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Its current package.
    pub package: Sha256Digest,
    /// The manifest in that package.
    pub manifest: Manifest,
}

/// Why an event gets no job. The event is final: it is journalled with this reason and not tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The subscription has ended, or never was.
    #[error("event {event}: no active subscription {subject}")]
    NoSubscription {
        /// The event.
        event: EventId,
        /// What it was for.
        subject: Subject,
    },
    /// This host has no package of the cryptlet.
    #[error("cryptlet {0} is not published at this host")]
    NotPublished(CryptletId),
    /// Policy does not accept the isolation that this host offers.
    #[error("policy: isolation by {} is not accepted; list it in `isolation` or run a host with another provider", .0.as_str())]
    IsolationRefused(Provider),
    /// The cryptlet wants sources, and policy allows none of them.
    #[error("policy: none of the sources that cryptlet {cryptlet} names is allowed ({})", .wanted.join(", "))]
    EgressRefused {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// What its manifest names.
        wanted: Vec<String>,
    },
}

impl Refusal {
    /// Whether the same event could be routed later: only after somebody has changed register or policy.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Routes events under one policy to regions of one provider.
#[derive(Clone, Debug)]
pub struct Router {
    policy: PolicyInForce,
    provider: Provider,
}

impl Router {
    /// A router for a host whose regions come from `provider`.
    #[must_use]
    pub fn new(policy: PolicyInForce, provider: Provider) -> Self {
        Self { policy, provider }
    }

    /// The job for `event`.
    ///
    /// # Errors
    /// Says what is missing or what policy refuses; see [`Refusal`].
    pub fn route(
        &self,
        event: Event,
        subscription: Option<Subscription>,
        registered: Option<&Registered>,
    ) -> Result<Job, Refusal> {
        let subscription = subscription.ok_or(Refusal::NoSubscription {
            event: event.id,
            subject: event.subject,
        })?;
        let cryptlet = subscription.cryptlet;
        let Registered { package, manifest } = registered.ok_or(Refusal::NotPublished(cryptlet))?;
        let policy = &self.policy.policy;
        if !policy.accepts(self.provider) {
            return Err(Refusal::IsolationRefused(self.provider));
        }
        let wanted = &manifest.config.egress;
        if !wanted.is_empty() && policy.egress_of(manifest).is_empty() {
            return Err(Refusal::EgressRefused {
                cryptlet,
                wanted: wanted.clone(),
            });
        }
        Ok(Job {
            id: Job::id_of(&event),
            event,
            subscription,
            package: *package,
            limits: manifest.config.limits.within(policy.limits),
            policy_epoch: policy.epoch,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{Address, B256, Bytes, FixedBytes};
    use cryptlet_types::{
        ClockSpec, Limits, Policy, ReportDomain, Trigger, TriggerSpec,
        manifest::ManifestConfig,
        policy::{EgressRule, Retry, Trust},
    };

    const SUBJECT: Subject = Subject(B256::repeat_byte(3));

    fn event() -> Event {
        let domain = ReportDomain {
            chain_id: 1,
            delegate: Address::repeat_byte(1),
        };
        Event::new(&domain, SUBJECT, Trigger::Clock { due: 1_000 })
    }

    fn subscription() -> Subscription {
        let spec = ClockSpec {
            cron: "0 16 * * *".into(),
            time_zone: "Europe/Berlin".into(),
        };
        Subscription {
            subject: SUBJECT,
            consumer: Address::repeat_byte(4),
            cryptlet: CryptletId(Address::repeat_byte(5)),
            callback: FixedBytes([1; 4]),
            callback_gas: 100_000,
            validity: 3_600,
            trigger: TriggerSpec::Clock(spec),
            params: Bytes::new(),
            since: 0,
        }
    }

    fn registered() -> Registered {
        let config = ManifestConfig {
            description: String::new(),
            isolation: true,
            limits: Limits {
                fuel: 5,
                ..Limits::default()
            },
            egress: vec!["rates.example:443".into()],
            settings: Default::default(),
        };
        let public_key = Address::repeat_byte(9);
        let manifest = Manifest {
            name: "m".into(),
            public_key,
            version: "1".into(),
            config,
        };
        Registered {
            package: Sha256Digest(B256::repeat_byte(8)),
            manifest,
        }
    }

    fn router(isolation: Vec<Provider>, places: &[&str]) -> Router {
        let rule = |place: &&str| EgressRule {
            place: (*place).into(),
            trust: Trust::WebPki,
        };
        let policy = Policy {
            version: 1,
            epoch: 7,
            isolation,
            egress: places.iter().map(rule).collect(),
            limits: Limits {
                memory_bytes: 1 << 20,
                ..Limits::default()
            },
            retry: Retry {
                attempts: 1,
                first_millis: 1,
                longest_millis: 1,
            },
        };
        Router::new(
            PolicyInForce {
                policy,
                digest: Sha256Digest(B256::ZERO),
            },
            Provider::Process,
        )
    }

    #[test]
    fn a_job_takes_the_smaller_limit_of_manifest_and_policy() {
        let router = router(vec![Provider::Process], &["rates.example:443"]);
        let job = router
            .route(event(), Some(subscription()), Some(&registered()))
            .unwrap();
        assert_eq!((job.limits.fuel, job.limits.memory_bytes), (5, 1 << 20));
        assert_eq!((job.id, job.policy_epoch), (Job::id_of(&event()), 7));
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_falls_open() {
        let open = router(vec![Provider::Process], &["rates.example:443"]);
        let (event, subscription) = (event(), subscription());
        let no_subscription = open.route(event.clone(), None, Some(&registered()));
        assert!(matches!(
            no_subscription,
            Err(Refusal::NoSubscription { .. })
        ));
        let unpublished = open.route(event.clone(), Some(subscription.clone()), None);
        assert_eq!(
            unpublished,
            Err(Refusal::NotPublished(subscription.cryptlet))
        );
        let isolation = router(vec![], &["rates.example:443"]);
        let refused = isolation.route(
            event.clone(),
            Some(subscription.clone()),
            Some(&registered()),
        );
        assert_eq!(refused, Err(Refusal::IsolationRefused(Provider::Process)));
        let egress = router(vec![Provider::Process], &["other.example:443"]);
        let refused = egress.route(event, Some(subscription), Some(&registered()));
        assert!(matches!(refused, Err(Refusal::EgressRefused { .. })));
    }
}
