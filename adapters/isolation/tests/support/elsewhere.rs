//! A container that listens, and a host that trusts its simulator.

use super::{Setup, container, provision, watch};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_channel::InForce;
use cryptlet_isolation::{HostKey, IsolationError, Region, RemoteProvider, check_signature};
use cryptlet_seal::{
    SigningKey,
    attester::Simulator,
    certificate::{Draft, Identity},
    check,
    evidence::{Expected, vouch},
    sha256,
};
use cryptlet_types::{
    Evidence, Measurement, Policy, Provider, Sha256Digest, UnixSeconds,
    channel::Party,
    policy::PolicyInForce,
    region::{RegionStatement, RunOutcome, sources_digest},
    report::CompactSignature,
};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

/// `cryptlet-container --listen ... --attest simulator`, until it is dropped.
pub struct Machine {
    pub address: String,
    pub listener: Child,
}

impl Machine {
    pub fn start() -> Self {
        Self::start_at("127.0.0.1:0")
    }

    pub fn start_at(address: &str) -> Self {
        let mut listener = Command::new(container())
            .args(["--listen", address, "--attest", "simulator"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut said = BufReader::new(listener.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap()
            .to_owned();
        Self { address, listener }
    }

    /// Processes that it started and that have not ended.
    pub fn regions(&self) -> Vec<u32> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.listener.id())).unwrap();
        let children = tasks.map(|task| {
            std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default()
        });
        let children: Vec<_> = children.collect();
        let numbers = children.iter().flat_map(|text| text.split_whitespace());
        numbers.map(|number| number.parse().unwrap()).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.listener.kill().unwrap();
        self.listener.wait().unwrap();
    }
}

/// A host, and what is in force there.
pub struct Host {
    pub key: SigningKey,
    pub policy: Mutex<Arc<PolicyInForce>>,
}

impl Host {
    pub fn new() -> Arc<Self> {
        let mut policy = Policy::closed(1);
        policy.isolation = vec![Provider::Simulator];
        policy.controls = vec!["seccomp-kill".into()];
        policy.evidence.simulator = Some(Simulator::everybodys().unwrap().address());
        Arc::new(Self {
            key: SigningKey::generate(),
            policy: Mutex::new(Arc::new(PolicyInForce {
                policy,
                digest: Sha256Digest(B256::ZERO),
            })),
        })
    }

    pub fn change(&self, change: impl FnOnce(&mut Policy)) {
        let mut policy = self.policy.lock().unwrap();
        let mut changed = policy.as_ref().clone();
        change(&mut changed.policy);
        *policy = Arc::new(changed);
    }

    /// A certificate of this host, for one connection.
    pub fn identity(&self) -> Identity {
        let draft = Draft::new(now(), 600).unwrap();
        let signature = self.key.sign(draft.digest(Party::Host)).unwrap();
        draft.of_host(self.key.address(), signature).unwrap()
    }

    pub fn provider(self: &Arc<Self>, address: &str) -> RemoteProvider {
        self.provider_of(address, digest(), Provider::Simulator)
            .unwrap()
    }

    pub fn provider_of(
        self: &Arc<Self>,
        address: &str,
        container: Sha256Digest,
        provider: Provider,
    ) -> Result<RemoteProvider, IsolationError> {
        RemoteProvider::new(address, container, provider, self.clone(), self.clone())
    }
}

impl InForce for Host {
    fn now(&self) -> UnixSeconds {
        now()
    }
    fn policy(&self) -> Arc<PolicyInForce> {
        self.policy.lock().unwrap().clone()
    }
    fn is_host(&self, host: Address) -> bool {
        host == self.key.address()
    }
}

#[async_trait]
impl HostKey for Host {
    fn address(&self) -> Address {
        self.key.address()
    }
    async fn sign(&self, digest: B256) -> Result<CompactSignature, String> {
        self.key.sign(digest).map_err(|error| error.to_string())
    }
}

/// The container's digest, which operators have from its build.
pub fn digest() -> Sha256Digest {
    sha256(&std::fs::read(container()).unwrap())
}

pub fn now() -> UnixSeconds {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// Has a market watcher's region report, and looks at what it says of itself: its evidence holds under what is in force at
/// `host`, and not without what attests it; both signatures are over what it was asked and what its one source said.
pub async fn reports(
    region: &mut dyn Region,
    host: &Host,
    setup: &Setup,
    measurement: Measurement,
) -> Evidence {
    let mut evidence = vouch(region.statement().clone(), now(), &host.key).unwrap();
    evidence.attestation = region.attestation().cloned();
    let in_force = host.policy.lock().unwrap().clone();
    let expected = Expected {
        policy: &in_force.policy,
        measurement,
        nonce: region.nonce(),
        host: host.key.address(),
        from: 0,
        to: now(),
    };
    assert_eq!(cryptlet_attest::verify(&evidence, &expected), Ok(()));
    let before = evidence.attestation.take();
    assert!(cryptlet_attest::verify(&evidence, &expected).is_err());
    evidence.attestation = before;

    provision(region, &setup.key).await.unwrap();
    let input = watch(false, &["USD"]);
    let answer = region.run(input.clone()).await.unwrap();
    let RunOutcome::Report(report) = &answer.outcome else {
        panic!("skipped")
    };
    let said = RegionStatement {
        measurement,
        report: report.report.digest(&input.domain),
        input: input.digest().unwrap(),
        sources: sources_digest(&answer.sources).unwrap(),
    };
    assert_eq!(
        answer.sources.len(),
        1,
        "its source was asked through this host"
    );
    let signature = &report.region_signature;
    assert!(check_signature(
        &evidence.statement,
        measurement,
        &said,
        signature
    ));
    assert_eq!(
        check(said.report, &report.signature, setup.key.address()),
        Ok(())
    );
    evidence
}
