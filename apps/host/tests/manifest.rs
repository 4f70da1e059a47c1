//! Documents with fields that nobody knows, and a folder in which something is missing: refused by name, before
//! anything runs.
use crate::support::{
    Play,
    account::{assert_delivered, job_in, jobs},
    container, due, end_of, retry,
};
use cryptlet_host::{Host, HostConfig, Progress};
use cryptlet_stage::{
    CryptletSource, FEED_NAME, MARKET_WATCHER_MANIFEST, Source, Stage, StageOptions,
};
use cryptlet_types::{JobState, Policy};
use serde_json::{Value, json};
use std::{fs, path::Path};

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn write(path: &Path, value: &Value) {
    fs::write(path, serde_json::to_vec(value).unwrap()).unwrap();
}

/// Why a host does not start with this configuration.
async fn refusal(config: &HostConfig) -> String {
    let refused = Host::open(config).await.map(drop);
    refused.expect_err("the host started").to_string()
}

#[tokio::test]
async fn a_manifest_with_an_unknown_field_is_not_published() {
    let feed = cryptlet_feed::Feed::start(
        cryptlet_feed::Rates::parse(crate::support::RATES).unwrap(),
        FEED_NAME,
        (std::net::Ipv4Addr::LOCALHOST, 0).into(),
    );
    let feed = feed.await.unwrap();
    let mut manifest: Value = serde_json::from_slice(MARKET_WATCHER_MANIFEST).unwrap();
    manifest["config"]["privileged"] = json!(true);
    let folder = tempfile::tempdir().unwrap();
    let options = StageOptions {
        out: folder.path().to_owned(),
        container: container(),
        genesis: due(11),
        cryptlet: CryptletSource {
            manifest: serde_json::to_vec(&manifest).unwrap(),
            ..CryptletSource::market_watcher()
        },
        source: Source::Other {
            address: feed.address(),
            root: feed.root_pem().to_owned(),
        },
        retry: retry(1),
        max_age_seconds: 86_400,
    };
    let refused = Stage::build(options).await.map(drop).unwrap_err();
    let said = refused.to_string();
    assert!(
        said.contains("manifest") && said.contains("privileged"),
        "{said}"
    );
}

#[tokio::test]
async fn unknown_fields_and_missing_parts_keep_a_host_from_starting() {
    let play = Play::market(retry(1)).await;
    let config = play.config();

    let path = config.policy.clone().unwrap();
    let policy = read(&path);
    let mut odd = policy.clone();
    odd["policy"]["egress"][0]["anybody"] = json!(true);
    write(&path, &odd);
    let said = refusal(&config).await;
    assert!(said.contains("anybody"), "{said}");
    let mut nothing = policy.clone();
    nothing["policy"]["retry"]["attempts"] = json!(0);
    write(&path, &nothing);
    let said = refusal(&config).await;
    assert!(said.contains("policy.retry.attempts"), "{said}");
    fs::remove_file(&path).unwrap();
    refusal(&config).await;
    write(&path, &policy);

    let file = play.folder.path().join("host.json");
    let mut odd = read(&file);
    odd["trustEverybody"] = json!(true);
    write(&file, &odd);
    let said = HostConfig::load(&file).unwrap_err().to_string();
    assert!(
        said.contains("trustEverybody") && said.contains("host.json"),
        "{said}"
    );

    let key = path.with_file_name("vault.key");
    let kept = key.with_extension("kept");
    fs::rename(&key, &kept).unwrap();
    let said = refusal(&config).await;
    assert!(said.contains("vault.key"), "{said}");
    fs::rename(&kept, &key).unwrap();

    let without_container = HostConfig {
        container: config.container.with_file_name("nothing-here"),
        ..config.clone()
    };
    let said = refusal(&without_container).await;
    assert!(said.contains("container"), "{said}");
    Host::open(&config).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_policy_that_accepts_no_isolation_lets_nothing_run() {
    let mut play = Play::market(retry(1)).await;
    let watched = play.price_consumer(&["USD"]).await;
    let open = play.stage.policy.policy.clone();
    let closed = Policy {
        epoch: 2,
        isolation: vec![],
        ..open.clone()
    };
    play.stage.enact(closed).await.unwrap();
    let mut host = play.host().await;
    let mut news = host.watch();
    play.noon(12).await;
    match end_of(&mut news, watched.subject, due(12)).await.last {
        Progress::Refused { reason, .. } => assert!(reason.contains("isolation"), "{reason}"),
        other => panic!("not refused: {other:?}"),
    }
    assert!(jobs(host.journal(), watched.subject).await.is_empty());

    play.stage.enact(Policy { epoch: 3, ..open }).await.unwrap();
    play.in_force(&host, 3).await;
    play.noon(13).await;
    job_in(&host, watched, due(13), &[JobState::Delivered]).await;
    assert_delivered(&play, host.journal(), watched, &[due(13)], true).await;
    host.stop().await;
}
