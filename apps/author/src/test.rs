//! Runs recorded cases in the real container, without a chain.
//!
//! Everything is as on a host, but for what stands around: the region is made for one case, its key for one run, its one
//! source is a server of recordings that policy trusts in place of the real ones, and nobody takes the report.

use crate::{
    AuthorError, Project,
    case::{self, Case, Expect},
    server::Server,
};
use alloy_primitives::{Address, B256};
use cryptlet_isolation::{IsolationError, IsolationProvider, LogSink, ProcessProvider, Relay};
use cryptlet_seal::{SigningKey, key_binding, package, wrap};
use cryptlet_types::{
    ClockSpec, CryptletId, Job, JobId, ReportDomain, Subject, Subscription, Trigger, TriggerSpec,
    manifest::split_place,
    policy::{EgressRule, RecordingRule, Trust},
    region::{KeyGrant, LogLevel, RegionFault, RegionSettings, RunAnswer, RunInput, RunOutcome},
};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Seconds that a report of a case would be valid for.
const VALIDITY: u32 = 3_600;

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseResult {
    /// Name of its file without `.json`.
    pub name: String,
    /// Whether the cryptlet said what the case expects, and asked for nothing that was not recorded.
    pub passed: bool,
    /// What the case expects, for people.
    pub expected: String,
    /// What the cryptlet said, for people.
    pub got: String,
    /// Requests without a recording: method and URL.
    pub unrecorded: Vec<String>,
    /// Fuel used up; unknown for a run without an answer.
    pub fuel_used: Option<u64>,
    /// Milliseconds of the run, starting a region not included.
    pub millis: u64,
    /// The cryptlet's log, each line behind its level.
    pub log: Vec<String>,
}

/// Runs every case of the project in `folder`, one after the other. `container` is the program `cryptlet-container`. Build
/// the project first: what is run is the component that lies there.
///
/// # Errors
/// See [`AuthorError`]; a case that does not hold is a result, not an error.
pub async fn test(folder: &Path, container: &Path) -> Result<Vec<CaseResult>, AuthorError> {
    let project = Project::open(folder)?;
    let code = project.code()?;
    let cases = case::load(folder, &project.manifest.config.egress)?;
    let provider = ProcessProvider::new(container)?;
    let mut results = Vec::new();
    for case in &cases {
        results.push(run(&project, &code, case, &provider).await?);
    }
    Ok(results)
}

async fn run(
    project: &Project,
    code: &[u8],
    case: &Case,
    provider: &ProcessProvider,
) -> Result<CaseResult, AuthorError> {
    let egress = &project.manifest.config.egress;
    let hosts: BTreeSet<_> = egress
        .iter()
        .filter_map(|place| split_place(place))
        .map(|(host, _)| host.to_owned())
        .collect();
    let server = Server::start(hosts.into_iter().collect(), case.responses.clone()).await?;
    let lines = Lines::default();
    let addresses: BTreeMap<_, _> = egress
        .iter()
        .map(|place| (place.clone(), server.address()))
        .collect();
    let relay = Relay::new(addresses, Arc::new(lines.clone()));
    let (outcome, spent) = wake(project, code, case, provider, &server, relay).await?;
    let unrecorded = server.unrecorded();
    let (said, got) = judge(&case.expect, &outcome);
    Ok(CaseResult {
        name: case.name.clone(),
        passed: said && unrecorded.is_empty(),
        expected: expected(&case.expect),
        got,
        unrecorded,
        fuel_used: outcome.as_ref().ok().map(|answer| answer.fuel_used),
        millis: u64::try_from(spent.as_millis()).unwrap_or(u64::MAX),
        log: lines.take(),
    })
}

/// Creates a region for the case, gives it a key, and wakes the cryptlet.
async fn wake(
    project: &Project,
    code: &[u8],
    case: &Case,
    provider: &ProcessProvider,
    server: &Server,
    relay: Relay,
) -> Result<(Result<RunAnswer, RegionFault>, Duration), AuthorError> {
    let key = SigningKey::generate();
    let mut source = project.manifest.clone();
    source.config.settings.extend(case.settings.clone());
    // It is no secret to its author, and nobody has agreed to it yet.
    source.config.secret_code = None;
    let manifest = source
        .with_key(key.address())
        .map_err(|source| AuthorError::Manifest {
            path: project.folder.join(crate::project::MANIFEST),
            source,
        })?;
    let trust = Trust::Roots(server.root_pem().to_owned());
    let rule = |place: &String| EgressRule {
        place: place.clone(),
        trust: trust.clone(),
    };
    let settings = RegionSettings {
        limits: manifest.config.limits,
        egress: manifest.config.egress.iter().map(rule).collect(),
        recording: RecordingRule::Off,
    };
    // A region is measured with the package's index, which names a header; it never sees the header itself.
    let package = package::build(&manifest, code, b"{}", None)?.package;
    let nonce = B256::from(rand::random::<[u8; 32]>());
    let mut region = match provider
        .create(package, settings, nonce, Arc::new(relay))
        .await
    {
        Err(IsolationError::Fault(fault)) => return Ok((Err(fault), Duration::ZERO)),
        other => other?,
    };
    let statement = region.statement().clone();
    let wrapped = wrap(
        statement.exchange_key,
        &key_binding(&statement),
        key.secret().as_slice(),
    )?;
    region.provision(KeyGrant::Wrapped(wrapped)).await?;
    let started = Instant::now();
    let outcome = match region.run(input(case, manifest.config.settings)).await {
        Ok(answer) => Ok(answer),
        Err(IsolationError::Fault(fault)) => Err(fault),
        Err(other) => return Err(other.into()),
    };
    Ok((outcome, started.elapsed()))
}

/// What a host would hand to the region for a subscription with the case's parameters.
fn input(case: &Case, settings: BTreeMap<String, String>) -> RunInput {
    let domain = ReportDomain {
        chain_id: 31_337,
        delegate: Address::repeat_byte(0xde),
    };
    let clock = ClockSpec {
        cron: "* * * * *".into(),
        time_zone: "UTC".into(),
    };
    let subscription = Subscription {
        subject: Subject(B256::ZERO),
        consumer: Address::repeat_byte(0xc0),
        nonce: 0,
        cryptlet: CryptletId(Address::repeat_byte(0xc1)),
        on_behalf_of: Address::ZERO,
        callback: [1; 4].into(),
        callback_gas: 100_000,
        validity: VALIDITY,
        trigger: TriggerSpec::Clock(clock),
        params: case.params.clone(),
        since: 1,
    };
    let mut input = RunInput {
        job: JobId(B256::ZERO),
        subscription: subscription.with_subject_in(&domain),
        domain,
        trigger: Trigger::Clock { due: case.due },
        sequence: 1,
        issued_at: case.due,
        valid_until: case.due.saturating_add(VALIDITY.into()),
        delegation: None,
        settings,
    };
    input.job = Job::id_of(&input.event());
    input
}

/// Whether the cryptlet said what was expected, and what it said.
fn judge(expect: &Expect, outcome: &Result<RunAnswer, RegionFault>) -> (bool, String) {
    match outcome.as_ref().map(|answer| &answer.outcome) {
        Ok(RunOutcome::Report(signed)) => {
            let payload = &signed.report.payload;
            match expect {
                Expect::Report(wanted) => (
                    wanted.bytes == *payload,
                    format!("report {}", wanted.show(payload)),
                ),
                _ => (false, format!("report {payload}")),
            }
        }
        Ok(RunOutcome::Skip(reason)) => {
            let fits = matches!(expect, Expect::Skip(part) if reason.contains(part));
            (fits, format!("skip: {reason}"))
        }
        Err(RegionFault::Refused(reason)) => {
            let fits = matches!(expect, Expect::Refuse(part) if reason.contains(part));
            (fits, format!("refuse: {reason}"))
        }
        Err(RegionFault::Unavailable(reason)) => {
            let fits = matches!(expect, Expect::Unavailable(part) if reason.contains(part));
            (fits, format!("unavailable: {reason}"))
        }
        Err(fault) => (false, fault.to_string()),
    }
}

fn expected(expect: &Expect) -> String {
    match expect {
        Expect::Report(wanted) => format!("report {}", wanted.show(&wanted.bytes)),
        Expect::Skip(part) => format!("skip: {part}"),
        Expect::Refuse(part) => format!("refuse: {part}"),
        Expect::Unavailable(part) => format!("unavailable: {part}"),
    }
}

/// Log lines, kept.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl LogSink for Lines {
    fn line(&self, level: LogLevel, message: &str) {
        let level = match level {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(format!("{level} {message}"));
    }
}
