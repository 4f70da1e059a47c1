//! Where a host's regions come from is policy's word, and what they promised outlives the host.
use crate::{
    secret_code::{agreement, draft, party},
    support::{
        Play,
        account::{Watched, job_in, receipts, story},
        container, due,
        office::{client, open, with_api},
        retry,
    },
};
use cryptlet_api::types::{Hex, NewCodeKey, Role};
use cryptlet_audit::{TrustRoots, verify};
use cryptlet_host::{DataFolder, Host, HostConfig, RemoteContainer, setup};
use cryptlet_seal::{CodeKey, attester::Simulator, sha256};
use cryptlet_types::{
    JobState::{Delivered, Failed, Parked},
    Measurement, Policy, Provider,
    policy::EvidenceRule,
};
use std::{
    fs,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

/// A container that listens on a machine of its own, as far as anybody can tell. It ends with this value.
struct Machine {
    listener: Child,
    address: String,
}

impl Machine {
    fn start() -> Self {
        let mut listener = Command::new(container())
            .args(["--listen", "127.0.0.1:0", "--attest", "simulator"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(listener.stdout.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("listening on ").unwrap();
        Self {
            address: address.to_owned(),
            listener,
        }
    }

    /// What a host's configuration says of it.
    fn named(&self) -> RemoteContainer {
        RemoteContainer {
            address: self.address.clone(),
            container: sha256(&fs::read(container()).unwrap()),
            provider: Provider::Simulator,
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.listener.kill().unwrap();
        self.listener.wait().unwrap();
    }
}

/// A host that knows of `machine`.
async fn host_with(play: &Play, machine: &Machine) -> Host {
    let config = HostConfig {
        remote: vec![machine.named()],
        ..play.config()
    };
    Host::open(&config).await.unwrap()
}

/// Accepts regions of `isolation`, the simulator's by everybody's root.
async fn accept(play: &mut Play, isolation: &[Provider], root: bool) {
    let simulator = root.then(|| Simulator::everybodys().unwrap().address());
    let mut policy = Policy {
        epoch: 2,
        isolation: isolation.to_vec(),
        ..play.stage.policy.policy.clone()
    };
    policy.evidence.simulator = simulator;
    play.stage.enact(policy).await.unwrap();
}

/// Who isolated the regions of what was delivered, in order.
async fn isolated_by(host: &Host, watched: Watched) -> Vec<Provider> {
    let receipts = receipts(host.journal(), watched.subject).await;
    let provider =
        |stored: &cryptlet_journal::StoredReceipt| stored.receipt.evidence.statement.provider;
    receipts.iter().map(provider).collect()
}

#[tokio::test]
async fn a_region_on_another_machine_is_preferred_where_policy_accepts_it() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD", "GBP"]).await;
    let machine = Machine::start();
    let mut host = host_with(&play, &machine).await;
    play.noon(12).await;
    job_in(&host, watched, due(12), &[Delivered]).await;

    accept(&mut play, &[Provider::Process, Provider::Simulator], true).await;
    play.in_force(&host, 2).await;
    play.noon(13).await;
    job_in(&host, watched, due(13), &[Delivered]).await;
    let by = isolated_by(&host, watched).await;
    assert_eq!(by, [Provider::Process, Provider::Simulator]);
    host.stop().await;
    assert_eq!(play.consumed(watched.subject).await, [(1, true), (2, true)]);

    // An auditor believes the second receipt only who believes the simulator.
    let receipts = receipts(host.journal(), watched.subject).await;
    let simulated = &receipts[1].receipt;
    let careful = play.roots().await;
    assert!(verify(&receipts[0].receipt, &careful).holds());
    assert!(!verify(simulated, &careful).holds());
    let named = TrustRoots {
        providers: vec![Provider::Simulator],
        evidence: Some(EvidenceRule {
            max_age_seconds: 86_400,
            simulator: Some(Simulator::everybodys().unwrap().address()),
            ..EvidenceRule::default()
        }),
        ..careful
    };
    let verdict = verify(simulated, &named);
    let failures: Vec<_> = verdict.failures().collect();
    assert!(verdict.holds(), "{failures:?}");
}

/// Policy names no simulator: the machine is not believed, and nothing else is taken in its stead.
#[tokio::test]
async fn a_machine_that_is_not_believed_gets_no_package_and_nothing_weaker_is_used() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let machine = Machine::start();
    accept(&mut play, &[Provider::Simulator, Provider::Process], false).await;
    let host = host_with(&play, &machine).await;
    play.in_force(&host, 2).await;
    play.noon(12).await;
    let job = job_in(&host, watched, due(12), &[Failed, Delivered]).await;
    let story = story(host.journal(), &job).await;
    assert_eq!(job.state, Failed, "{story:?}");
    let said = story.last().unwrap().1.clone().unwrap();
    assert!(said.contains("simulator"), "{said}");
}

/// The key of secret code goes to what policy believes. Another machine has to have everything that policy demands before it is
/// even spoken to.
#[tokio::test]
async fn secret_code_on_another_machine_is_opened_where_policy_believes_it() {
    let mut play = Play::market(retry(1)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let machine = Machine::start();
    accept(&mut play, &[Provider::Simulator], true).await;
    let config = with_api(HostConfig {
        remote: vec![machine.named()],
        ..play.config()
    });
    let host = open(&config).await;
    play.in_force(&host, 2).await;
    let publisher = client(&host, &config, Role::Publisher);
    let (key, counterparty) = (CodeKey::generate().unwrap(), party(1));
    let (draft, component) = draft(&key, &[party(1)]);
    let made = play.publish(&publisher, &draft, u64::MAX).await;
    play.synced(&host).await;
    let id: Hex<32> = made.package().into();
    let new = NewCodeKey {
        key: Hex((*key.bytes()).into()),
    };
    publisher.set_code_key(id, &new).await.unwrap();
    let agreed = agreement(&counterparty, made.package(), sha256(&component));
    publisher.add_code_agreement(id, &agreed).await.unwrap();

    // A control that processes take when they have divided, and that this machine's regions never have.
    let mut demanding = play.stage.policy.policy.clone();
    demanding.epoch = 3;
    demanding.controls.push("pid-namespace".into());
    let modest = play.stage.policy.policy.clone();
    play.stage.enact(demanding).await.unwrap();
    play.in_force(&host, 3).await;
    play.noon(12).await;
    let job = job_in(&host, watched, due(12), &[Parked, Failed, Delivered]).await;
    let said = story(host.journal(), &job).await.last().unwrap().1.clone();
    let said = said.unwrap();
    assert_eq!(job.state, Failed, "{said}");
    assert!(said.starts_with("remote region: evidence: "), "{said}");
    assert!(said.contains("pid-namespace"), "{said}");

    play.stage
        .enact(Policy { epoch: 4, ..modest })
        .await
        .unwrap();
    play.in_force(&host, 4).await;
    play.noon(13).await;
    job_in(&host, watched, due(13), &[Delivered]).await;
    assert_eq!(isolated_by(&host, watched).await, [Provider::Simulator]);
}

#[tokio::test]
async fn a_machine_that_is_gone_is_waited_for_and_nothing_weaker_is_used() {
    let mut play = Play::market(retry(2)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let machine = Machine::start();
    accept(&mut play, &[Provider::Simulator, Provider::Process], true).await;
    let host = host_with(&play, &machine).await;
    drop(machine);
    play.in_force(&host, 2).await;
    play.noon(12).await;
    let job = job_in(&host, watched, due(12), &[Parked, Delivered]).await;
    let story = story(host.journal(), &job).await;
    assert_eq!(job.state, Parked, "{story:?}");
    assert!(
        story[1].1.as_ref().unwrap().contains("remote region"),
        "{story:?}"
    );
}

fn sealed(play: &Play) -> Vec<PathBuf> {
    let folder = DataFolder::at(&play.config().data).sealed();
    let files = fs::read_dir(folder).unwrap();
    files.map(|file| file.unwrap().path()).collect()
}

#[tokio::test]
async fn what_regions_promised_outlives_the_host_and_is_given_up_only_by_its_operator() {
    let play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let mut host = play.host().await;
    play.noon(12).await;
    let job = job_in(&host, watched, due(12), &[Delivered]).await;
    assert_eq!(
        sealed(&play),
        Vec::<PathBuf>::new(),
        "the region is at work"
    );
    host.stop().await;
    drop(host);
    let first = sealed(&play);
    assert_eq!(first.len(), 1, "{first:?}");

    // The successor goes on from it, and leaves another one.
    let mut host = play.host().await;
    play.noon(13).await;
    job_in(&host, watched, due(13), &[Delivered]).await;
    let measurement = measured(&host, watched).await;
    host.stop().await;
    drop(host);
    let second = sealed(&play);
    assert_eq!(second.len(), 1, "{second:?}");
    assert_ne!(first, second);

    fs::remove_file(&second[0]).unwrap();
    let mut host = play.host().await;
    play.noon(14).await;
    let lost = job_in(&host, watched, due(14), &[Failed, Delivered]).await;
    let story = story(host.journal(), &lost).await;
    let said = story.last().unwrap().1.clone().unwrap_or_default();
    assert!(said.contains("sealed image: missing"), "{story:?}");
    host.stop().await;
    drop(host);

    let cryptlet = job.job.subscription.cryptlet;
    let config = play.config();
    let other = Measurement(alloy::primitives::B256::ZERO);
    assert!(setup::reset_sealed(&config, cryptlet, other).await.is_err());
    setup::reset_sealed(&config, cryptlet, measurement)
        .await
        .unwrap();
    let host = play.host().await;
    play.noon(15).await;
    job_in(&host, watched, due(15), &[Delivered]).await;
}

async fn measured(host: &Host, watched: Watched) -> Measurement {
    let receipts = receipts(host.journal(), watched.subject).await;
    receipts[0].receipt.evidence.statement.measurement
}
