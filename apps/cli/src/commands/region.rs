//! Regions of a small cryptlet that is built in, to look at or to measure: no host, no chain, no register.

use crate::error::{CliError, Doing};
use alloy::primitives::{Address, B256};
use cryptlet_isolation::{CallOutHandler, IsolationProvider, Region, Relay, TracingLog};
use cryptlet_seal::{SigningKey, key_binding, package, wrap};
use cryptlet_stage::RELAY;
use cryptlet_types::{
    ClockSpec, CryptletId, Job, JobId, Limits, Manifest, ReportDomain, Subject, Subscription,
    Trigger, TriggerSpec,
    manifest::{Kind, ManifestConfig, TriggerKind},
    policy::RecordingRule,
    region::{KeyGrant, Package, RegionSettings, RunInput},
};
use std::{collections::BTreeMap, sync::Arc};

/// The cryptlet, its key, and what its regions are made of.
pub(crate) struct Sample {
    key: SigningKey,
    package: Package,
    settings: RegionSettings,
    call_out: Arc<dyn CallOutHandler>,
}

impl Sample {
    pub(crate) fn new() -> Result<Self, CliError> {
        let (key, limits) = (SigningKey::generate(), Limits::default());
        let manifest = Manifest {
            name: "relay".into(),
            public_key: key.address(),
            version: "1".into(),
            config: ManifestConfig {
                kind: Kind::Utility,
                isolation: true,
                triggers: vec![TriggerKind::Clock],
                limits,
                ..ManifestConfig::default()
            },
        };
        let built = package::build(&manifest, RELAY, b"{}", None);
        Ok(Self {
            key,
            package: built.doing("cannot pack the sample")?.package,
            settings: RegionSettings {
                limits,
                egress: Vec::new(),
                recording: RecordingRule::Off,
            },
            call_out: Arc::new(Relay::new(
                BTreeMap::new(),
                Arc::new(TracingLog::new("cryptlet")),
            )),
        })
    }

    /// A region without its key.
    pub(crate) async fn create(
        &self,
        provider: &dyn IsolationProvider,
    ) -> Result<Box<dyn Region>, CliError> {
        let (package, settings) = (self.package.clone(), self.settings.clone());
        provider
            .create(package, settings, B256::ZERO, self.call_out.clone())
            .await
            .doing("cannot create a region")
    }

    /// Gives the region its key.
    pub(crate) async fn provision(&self, region: &mut dyn Region) -> Result<(), CliError> {
        let doing = "cannot hand over a key";
        let statement = region.statement();
        let (to, binding) = (statement.exchange_key, key_binding(statement));
        let wrapped = wrap(to, &binding, self.key.secret().as_slice()).doing(doing)?;
        let provisioned = region.provision(KeyGrant::Wrapped(wrapped)).await;
        provisioned.doing(doing)?;
        Ok(())
    }
}

/// A job: its report has this number.
pub(crate) fn job(sequence: u64) -> RunInput {
    let domain = ReportDomain {
        chain_id: 1,
        delegate: Address::ZERO,
    };
    let clock = ClockSpec {
        cron: "* * * * *".into(),
        time_zone: "UTC".into(),
    };
    let subscription = Subscription {
        subject: Subject(B256::ZERO),
        consumer: Address::ZERO,
        nonce: 0,
        cryptlet: CryptletId(Address::ZERO),
        on_behalf_of: Address::ZERO,
        callback: [1; 4].into(),
        callback_gas: 50_000,
        validity: 10,
        trigger: TriggerSpec::Clock(clock),
        params: Vec::new().into(),
        since: 1,
    };
    let mut input = RunInput {
        job: JobId(B256::ZERO),
        domain,
        subscription: subscription.with_subject_in(&domain),
        trigger: Trigger::Clock { due: 10 },
        sequence,
        issued_at: 10,
        valid_until: 20,
        delegation: None,
        settings: BTreeMap::new(),
    };
    input.job = Job::id_of(&input.event());
    input
}
