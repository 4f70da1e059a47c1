//! Event → Job: which package answers an event, and whether policy lets it.
//!
//! A pure function of documents and history: the same event, subscription, register entry and policy, with the same
//! job before it, always give the same job.

use alloy_primitives::Address;
use cryptlet_check::Code;
use cryptlet_types::{
    CryptletId, Event, EventId, Job, Manifest, Provider, Sha256Digest, Subject, Subscription,
    UnixSeconds,
    manifest::TriggerKind,
    policy::{Policy, PolicyInForce, ServeRule},
};
use std::sync::{Arc, PoisonError, RwLock};

/// What the register knows of a cryptlet.
#[derive(Clone, Debug)]
pub struct Registered {
    /// Who registered it.
    pub publisher: Address,
    /// Who holds its token now, and decides what it runs.
    pub owner: Address,
    /// Its current package.
    pub package: Sha256Digest,
    /// The manifest in that package.
    pub manifest: Manifest,
    /// What was found in the package's code. None if nobody has looked, which is enough where policy demands nothing of code.
    pub code: Option<Arc<Code>>,
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
    /// Policy does not let this publisher's cryptlets run.
    #[error("policy: publisher {publisher} of cryptlet {cryptlet} is not among `publishers`")]
    PublisherRefused {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// Who registered it.
        publisher: Address,
    },
    /// Policy does not let cryptlets run that this account decides about, whoever registered them.
    #[error("policy: owner {owner} of cryptlet {cryptlet} is not among `publishers`")]
    OwnerRefused {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// Who holds its token.
        owner: Address,
    },
    /// The cryptlet does not answer triggers of this kind.
    #[error(
        "cryptlet {0} does not answer this kind of trigger: its manifest lists others in `config.triggers`"
    )]
    TriggerRefused(CryptletId),
    /// Policy does not let this contract be served.
    #[error("policy: consumer {0} is not among `serve.consumers`")]
    ConsumerRefused(Address),
    /// The callback asks for more gas than the host pays for.
    #[error("policy: callback asks for {asked} gas, `serve.maximumCallbackGas` is {most}")]
    CallbackGas {
        /// What the subscription asks for.
        asked: u32,
        /// What policy allows.
        most: u32,
    },
    /// The subscription's reports would expire too soon.
    #[error(
        "policy: reports of the subscription are valid for {asked} s, `serve.minimumValiditySeconds` is {least}"
    )]
    ValidityTooShort {
        /// Seconds that the subscription asks for.
        asked: u32,
        /// What policy asks for.
        least: u32,
    },
    /// The subscription was woken too short a time ago.
    #[error(
        "policy: due {since} s after the subscription was last woken, `serve.minimumIntervalSeconds` is {least}"
    )]
    TooSoon {
        /// Seconds between the two.
        since: u64,
        /// What policy asks for.
        least: u64,
    },
    /// Policy accepts nothing of the isolation that this host offers.
    #[error("policy: isolation by {} is not accepted; list it in `isolation` or run a host with another provider", either(.0))]
    IsolationRefused(Vec<Provider>),
    /// The cryptlet wants sources, and policy allows none of them.
    #[error("policy: none of the sources that cryptlet {cryptlet} names is allowed ({})", .wanted.join(", "))]
    EgressRefused {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// What its manifest names.
        wanted: Vec<String>,
    },
    /// The code is not what policy demands.
    #[error("policy: code of cryptlet {cryptlet}: {reason}")]
    CodeRefused {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// What is demanded and what was found, with the places.
        reason: String,
    },
}

impl Refusal {
    /// Whether the same event could be routed later: only after somebody has changed register or policy.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

fn either(providers: &[Provider]) -> String {
    let names: Vec<_> = providers.iter().map(|provider| provider.as_str()).collect();
    names.join(" or ")
}

/// Routes events, under the policy in force, to regions of a host's providers.
#[derive(Debug)]
pub struct Router {
    policy: RwLock<Arc<PolicyInForce>>,
    providers: Vec<Provider>,
}

impl Router {
    /// A router for a host whose regions come from one of `providers`.
    #[must_use]
    pub fn new(policy: PolicyInForce, providers: Vec<Provider>) -> Self {
        Self {
            policy: RwLock::new(Arc::new(policy)),
            providers,
        }
    }

    /// Puts another policy in force for every event that is routed from now on.
    pub fn set_policy(&self, policy: PolicyInForce) {
        *self.policy.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(policy);
    }

    /// The policy in force.
    #[must_use]
    pub fn policy(&self) -> Arc<PolicyInForce> {
        let policy = self.policy.read();
        Arc::clone(&policy.unwrap_or_else(PoisonError::into_inner))
    }

    /// The job for `event`. `last_due`: when the latest job of the subscription before this event was due; none if
    /// there was none yet.
    ///
    /// # Errors
    /// Says what is missing or what policy refuses; see [`Refusal`].
    pub fn route(
        &self,
        event: Event,
        subscription: Option<Subscription>,
        registered: Option<&Registered>,
        last_due: Option<UnixSeconds>,
    ) -> Result<Job, Refusal> {
        let subscription = subscription.ok_or(Refusal::NoSubscription {
            event: event.id,
            subject: event.subject,
        })?;
        let cryptlet = subscription.cryptlet;
        let registered = registered.ok_or(Refusal::NotPublished(cryptlet))?;
        let in_force = self.policy();
        let policy = &in_force.policy;
        self.check(policy, &subscription, registered)?;
        let least = policy.serve.minimum_interval_seconds;
        check_interval(&event, last_due, least)?;
        Ok(Job {
            id: Job::id_of(&event),
            event,
            subscription,
            package: registered.package,
            limits: registered.manifest.config.limits.within(policy.limits),
            policy_epoch: policy.epoch,
        })
    }

    /// Whether the policy in force still lets a job of this subscription run: it may be another than the one under
    /// which the job was routed.
    ///
    /// # Errors
    /// Says what policy refuses.
    pub fn admits(
        &self,
        subscription: &Subscription,
        registered: &Registered,
    ) -> Result<(), Refusal> {
        self.check(&self.policy().policy, subscription, registered)
    }

    fn check(
        &self,
        policy: &Policy,
        subscription: &Subscription,
        registered: &Registered,
    ) -> Result<(), Refusal> {
        self.check_cryptlet(policy, subscription.cryptlet, registered)?;
        check_trigger(&registered.manifest, subscription)?;
        check_service(&policy.serve, subscription)
    }

    /// Whether the policy in force lets the cryptlet run here at all, whoever subscribes.
    ///
    /// # Errors
    /// What policy refuses.
    pub fn runs(&self, cryptlet: CryptletId, registered: &Registered) -> Result<(), Refusal> {
        self.check_cryptlet(&self.policy().policy, cryptlet, registered)
    }

    /// Whether the policy in force trusts who registered the cryptlet, and who owns it now: the owner publishes its versions.
    ///
    /// # Errors
    /// Whom policy refuses.
    pub fn trusts(
        &self,
        cryptlet: CryptletId,
        publisher: Address,
        owner: Address,
    ) -> Result<(), Refusal> {
        check_people(&self.policy().policy, cryptlet, publisher, owner)
    }

    fn check_cryptlet(
        &self,
        policy: &Policy,
        cryptlet: CryptletId,
        registered: &Registered,
    ) -> Result<(), Refusal> {
        check_people(policy, cryptlet, registered.publisher, registered.owner)?;
        if !self
            .providers
            .iter()
            .any(|provider| policy.accepts(*provider))
        {
            return Err(Refusal::IsolationRefused(self.providers.clone()));
        }
        let wanted = &registered.manifest.config.egress;
        if !wanted.is_empty() && policy.egress_of(&registered.manifest).is_empty() {
            return Err(Refusal::EgressRefused {
                cryptlet,
                wanted: wanted.clone(),
            });
        }
        check_code(policy, cryptlet, registered)
    }
}

/// Whether the code is what policy demands, if it demands anything.
fn check_code(
    policy: &Policy,
    cryptlet: CryptletId,
    registered: &Registered,
) -> Result<(), Refusal> {
    let refuse = |reason| Refusal::CodeRefused { cryptlet, reason };
    match &registered.code {
        Some(code) => code.meets(&policy.code).map_err(refuse),
        None if policy.code.demands_nothing() => Ok(()),
        None => Err(refuse(
            "it is secret, or not here: nobody looked at it".to_owned(),
        )),
    }
}

fn check_people(
    policy: &Policy,
    cryptlet: CryptletId,
    publisher: Address,
    owner: Address,
) -> Result<(), Refusal> {
    if !policy.publishers.includes(publisher) {
        return Err(Refusal::PublisherRefused {
            cryptlet,
            publisher,
        });
    }
    if !policy.publishers.includes(owner) {
        return Err(Refusal::OwnerRefused { cryptlet, owner });
    }
    Ok(())
}

fn check_trigger(manifest: &Manifest, subscription: &Subscription) -> Result<(), Refusal> {
    let kind = TriggerKind::of(&subscription.trigger);
    if manifest.config.triggers.contains(&kind) {
        Ok(())
    } else {
        Err(Refusal::TriggerRefused(subscription.cryptlet))
    }
}

/// Whether policy lets this subscription be served.
fn check_service(rule: &ServeRule, subscription: &Subscription) -> Result<(), Refusal> {
    if !rule.consumers.includes(subscription.consumer) {
        return Err(Refusal::ConsumerRefused(subscription.consumer));
    }
    let (asked, most) = (subscription.callback_gas, rule.maximum_callback_gas);
    if asked > most {
        return Err(Refusal::CallbackGas { asked, most });
    }
    let (asked, least) = (subscription.validity, rule.minimum_validity_seconds);
    if asked < least {
        return Err(Refusal::ValidityTooShort { asked, least });
    }
    Ok(())
}

/// Whether the subscription may be woken again. A schedule may be uneven (twice within a minute, once a day), so that
/// only the distance to the last wake-up itself says whether this one comes too soon.
fn check_interval(event: &Event, last_due: Option<UnixSeconds>, least: u64) -> Result<(), Refusal> {
    let since = last_due.map(|last| event.trigger.due().saturating_sub(last));
    match since {
        Some(since) if since < least => Err(Refusal::TooSoon { since, least }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::{B256, Bytes, FixedBytes};
    use cryptlet_types::{
        ClockSpec, Limits, ReportDomain, Trigger, TriggerSpec,
        manifest::{Kind, ManifestConfig},
        policy::{Determinism, EgressRule, EvidenceRule, Retry, Signing, Trust, Whom},
    };

    const CONSUMER: Address = Address::repeat_byte(4);
    const PUBLISHER: Address = Address::repeat_byte(6);
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
            consumer: CONSUMER,
            nonce: 0,
            cryptlet: CryptletId(Address::repeat_byte(5)),
            on_behalf_of: Address::ZERO,
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
            kind: Kind::Utility,
            isolation: true,
            imports: vec!["http".into()],
            triggers: vec![TriggerKind::Clock],
            limits: Limits {
                fuel: 5,
                ..Limits::default()
            },
            egress: vec!["rates.example:443".into()],
            settings: Default::default(),
            secret_code: None,
        };
        let public_key = Address::repeat_byte(9);
        let manifest = Manifest {
            name: "m".into(),
            public_key,
            version: "1".into(),
            config,
        };
        Registered {
            publisher: PUBLISHER,
            owner: PUBLISHER,
            package: Sha256Digest(B256::repeat_byte(8)),
            manifest,
            code: None,
        }
    }

    fn in_force(isolation: Vec<Provider>, places: &[&str]) -> PolicyInForce {
        let rule = |place: &&str| EgressRule {
            place: (*place).into(),
            trust: Trust::WebPki,
        };
        let policy = Policy {
            version: 1,
            epoch: 7,
            publishers: Whom::Only(vec![PUBLISHER]),
            isolation,
            controls: vec![],
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
            signing: Signing::Ecdsa,
            evidence: EvidenceRule {
                max_age_seconds: 60,
                ..EvidenceRule::default()
            },
            serve: ServeRule {
                consumers: Whom::Only(vec![CONSUMER]),
                minimum_interval_seconds: 300,
                minimum_validity_seconds: 60,
                maximum_callback_gas: 100_000,
            },
            ..Policy::closed(1)
        };
        PolicyInForce {
            policy,
            digest: Sha256Digest(B256::ZERO),
        }
    }

    fn router(isolation: Vec<Provider>, places: &[&str]) -> Router {
        Router::new(in_force(isolation, places), vec![Provider::Process])
    }

    /// A router under a policy that was changed.
    fn under(change: impl FnOnce(&mut Policy)) -> Router {
        let mut in_force = in_force(vec![Provider::Process], &["rates.example:443"]);
        change(&mut in_force.policy);
        Router::new(in_force, vec![Provider::Process])
    }

    fn refusal(router: &Router) -> Refusal {
        let routed = router.route(event(), Some(subscription()), Some(&registered()), None);
        routed.unwrap_err()
    }

    #[test]
    fn a_job_takes_the_smaller_limit_of_manifest_and_policy() {
        let router = router(vec![Provider::Process], &["rates.example:443"]);
        let job = router
            .route(event(), Some(subscription()), Some(&registered()), None)
            .unwrap();
        assert_eq!((job.limits.fuel, job.limits.memory_bytes), (5, 1 << 20));
        assert_eq!((job.id, job.policy_epoch), (Job::id_of(&event()), 7));
    }

    #[test]
    fn what_is_missing_is_named_and_nothing_falls_open() {
        let open = router(vec![Provider::Process], &["rates.example:443"]);
        let (event, subscription) = (event(), subscription());
        let no_subscription = open.route(event.clone(), None, Some(&registered()), None);
        assert!(matches!(
            no_subscription,
            Err(Refusal::NoSubscription { .. })
        ));
        let unpublished = open.route(event, Some(subscription.clone()), None, None);
        assert_eq!(
            unpublished,
            Err(Refusal::NotPublished(subscription.cryptlet))
        );
        let isolation = router(vec![], &["rates.example:443"]);
        assert_eq!(
            refusal(&isolation),
            Refusal::IsolationRefused(vec![Provider::Process])
        );
        let egress = router(vec![Provider::Process], &["other.example:443"]);
        assert!(matches!(refusal(&egress), Refusal::EgressRefused { .. }));
    }

    #[test]
    fn policy_says_whose_cryptlets_serve_whom_and_at_whose_cost() {
        let cryptlet = subscription().cryptlet;
        let nobody = || Whom::Only(vec![]);
        let publisher = PUBLISHER;
        assert_eq!(
            refusal(&under(|policy| policy.publishers = nobody())),
            Refusal::PublisherRefused {
                cryptlet,
                publisher
            }
        );
        assert_eq!(
            refusal(&under(|policy| policy.serve.consumers = nobody())),
            Refusal::ConsumerRefused(CONSUMER)
        );
        assert_eq!(
            refusal(&under(|policy| policy.serve.maximum_callback_gas = 99_999)),
            Refusal::CallbackGas {
                asked: 100_000,
                most: 99_999
            }
        );
        let (asked, least) = (3_600, 3_601);
        assert_eq!(
            refusal(&under(
                |policy| policy.serve.minimum_validity_seconds = least
            )),
            Refusal::ValidityTooShort { asked, least }
        );
        let anyone = under(|policy| {
            policy.publishers = Whom::Anyone;
            policy.serve.consumers = Whom::Anyone;
        });
        let routed = anyone.route(event(), Some(subscription()), Some(&registered()), None);
        assert!(routed.is_ok());
    }

    #[test]
    fn who_was_given_a_cryptlet_has_to_be_trusted_as_well() {
        let cryptlet = subscription().cryptlet;
        let owner = Address::repeat_byte(7);
        let sold = Registered {
            owner,
            ..registered()
        };
        let router = under(|_| ());
        let refused = Err(Refusal::OwnerRefused { cryptlet, owner });
        assert_eq!(router.runs(cryptlet, &sold), refused);
        assert_eq!(router.trusts(cryptlet, PUBLISHER, owner), refused);
        let routed = router.route(event(), Some(subscription()), Some(&sold), None);
        assert_eq!(routed.map(drop), refused);
        let both = under(|policy| policy.publishers = Whom::Only(vec![owner, PUBLISHER]));
        assert_eq!(both.runs(cryptlet, &sold), Ok(()));
    }

    #[test]
    fn code_is_as_sure_to_do_the_same_as_policy_demands_or_gets_no_job() {
        use cryptlet_check::Verdict::{CanonicalNan, Deterministic, NotDeterministic};
        let demand = |determinism| under(|policy| policy.code.determinism = determinism);
        let found = |verdict| Registered {
            code: Some(Arc::new(Code {
                verdict,
                reasons: vec![cryptlet_check::Reason {
                    offset: 0x30,
                    message: "2 float instructions".into(),
                }],
            })),
            ..registered()
        };
        let asks = |router: &Router, registered: &Registered| {
            let routed = router.route(event(), Some(subscription()), Some(registered), None);
            let admitted = router.admits(&subscription(), registered);
            assert_eq!(routed.map(drop), admitted, "before the run as at the event");
            admitted
        };
        let nothing = demand(None);
        assert_eq!(asks(&nothing, &registered()), Ok(()));
        assert_eq!(asks(&nothing, &found(NotDeterministic)), Ok(()));
        let canonical = demand(Some(Determinism::CanonicalNan));
        assert_eq!(asks(&canonical, &found(CanonicalNan)), Ok(()));
        assert!(asks(&canonical, &found(NotDeterministic)).is_err());
        let strict = demand(Some(Determinism::Deterministic));
        assert_eq!(asks(&strict, &found(Deterministic)), Ok(()));
        let said = asks(&strict, &found(CanonicalNan)).unwrap_err().to_string();
        let places = "byte 0x30: 2 float instructions";
        assert!(
            said.contains("`code.determinism`") && said.ends_with(places),
            "{said}"
        );
        let unseen = asks(&strict, &registered()).unwrap_err().to_string();
        assert!(unseen.ends_with("nobody looked at it"), "{unseen}");
    }

    #[test]
    fn a_trigger_that_the_manifest_does_not_name_wakes_nobody() {
        let mut registered = registered();
        registered.manifest.config.triggers.clear();
        let routed = under(|_| ()).route(event(), Some(subscription()), Some(&registered), None);
        assert_eq!(
            routed,
            Err(Refusal::TriggerRefused(subscription().cryptlet))
        );
    }

    #[test]
    fn a_subscription_is_not_woken_more_often_than_policy_allows() {
        let router = under(|_| ());
        let route =
            |last_due| router.route(event(), Some(subscription()), Some(&registered()), last_due);
        assert!(route(None).is_ok());
        assert!(route(Some(700)).is_ok());
        let (since, least) = (299, 300);
        assert_eq!(route(Some(701)), Err(Refusal::TooSoon { since, least }));
        // Events that were missed may be routed after later ones: they come too soon as well.
        let since = 0;
        assert_eq!(route(Some(5_000)), Err(Refusal::TooSoon { since, least }));
    }

    #[test]
    fn another_policy_is_in_force_for_the_next_event() {
        let router = under(|_| ());
        let mut stricter = in_force(vec![Provider::Process], &["rates.example:443"]);
        stricter.policy.epoch = 8;
        stricter.policy.serve.maximum_callback_gas = 0;
        router.set_policy(stricter);
        assert_eq!(router.policy().policy.epoch, 8);
        let admitted = router.admits(&subscription(), &registered());
        assert!(matches!(admitted, Err(Refusal::CallbackGas { .. })));
        assert!(matches!(refusal(&router), Refusal::CallbackGas { .. }));
    }
}
