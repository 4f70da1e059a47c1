//! What the register says while the host runs: new versions, revocations, contradictions, a reorganisation, silence.
use crate::support::{
    Play,
    account::{Watched, job_in, jobs, receipts},
    due, end_of, eventually,
    gate::Gate,
    is_held,
    office::{Draft, client, hand_in, make, mined, open, other_digest, shown, told, with_api},
    retry,
};
use alloy::{providers::Provider, sol_types::SolValue};
use cryptlet_api::{Client, types::Role};
use cryptlet_audit::{TrustRoots, verify};
use cryptlet_chain::evm::abi::CryptoDelegate;
use cryptlet_host::{DataFolder, Host, HostConfig, Progress};
use cryptlet_stage::PRICE_CONSUMER;
use cryptlet_types::{
    JobState::{Delivered, Failed, Routed},
    Receipt,
};
use cryptlet_vault::{FileVault, KeyId, Unlock, Vault};
use std::os::unix::fs::DirBuilderExt;

const NAME: &str = "market-watcher";

/// A stage with a contract, and a host with an API and its publisher.
async fn opened(play: &Play, config: &HostConfig) -> (Watched, Host, Client) {
    let watched = play.price_consumer(&["USD"]).await;
    let host = open(config).await;
    play.in_force(&host, 1).await;
    let publisher = client(&host, config, Role::Publisher);
    (watched, host, publisher)
}

async fn delivered_at(host: &Host, watched: Watched, day: u64) -> Receipt {
    job_in(host, watched, due(day), &[Delivered]).await;
    let receipts = receipts(host.journal(), watched.subject).await;
    let found = receipts
        .into_iter()
        .find(|stored| stored.receipt.event.trigger.due() == due(day));
    let stored = found.unwrap();
    assert!(stored.success);
    stored.receipt
}

/// Why the event of that day got no job.
async fn refused_at(
    news: &mut tokio::sync::broadcast::Receiver<Progress>,
    watched: Watched,
    day: u64,
) -> String {
    match end_of(news, watched.subject, due(day)).await.last {
        Progress::Refused { reason, .. } => reason,
        other => panic!("not refused: {other:?}"),
    }
}

fn assert_holds(receipt: &Receipt, roots: &TrustRoots) {
    let verdict = verify(receipt, roots);
    let failures: Vec<_> = verdict.failures().collect();
    assert!(verdict.holds(), "{failures:?}");
}

#[tokio::test]
async fn the_newest_version_runs_and_after_its_revocation_the_one_before() {
    let mut play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let (watched, host, publisher) = opened(&play, &config).await;
    let first = play.stage.cryptlet.package;
    play.noon(12).await;
    assert_eq!(delivered_at(&host, watched, 12).await.package, first);

    let draft = Draft::market_watcher(NAME, "0.2.0");
    let second = play.publish(&publisher, &draft, u64::MAX).await;
    shown(&publisher, NAME, |found| found.current == Some(2)).await;
    play.noon(13).await;
    assert_eq!(
        delivered_at(&host, watched, 13).await.package,
        second.package()
    );

    // The report is made, and revoked before anybody takes it.
    play.feed.hold();
    play.noon(14).await;
    play.feed.holds().await;
    mined(play.register().revokeVersion(second.cryptlet.0, 2)).await;
    shown(&publisher, NAME, |found| found.current == Some(1)).await;
    play.feed.open();
    let record = job_in(&host, watched, due(14), &[Failed, Delivered]).await;
    let note = record.note.unwrap();
    assert!(note.contains("its version was revoked"), "{note}");
    let report = record.run.expect("the region had signed it").report;
    let delegate = CryptoDelegate::new(play.stage.delegate, &play.stage.provider);
    let call = cryptlet_chain::evm::abi::deliver_call(&report);
    let tried = delegate.deliver(call.report, call.r, call.vs).call().await;
    let revert = tried.unwrap_err();
    let error = revert.as_decoded_error::<CryptoDelegate::SignerNotEnrolled>();
    assert_eq!(
        error.unwrap().signer,
        second.signer,
        "the chain refuses too"
    );

    play.noon(15).await;
    assert_eq!(delivered_at(&host, watched, 15).await.package, first);
    let consumed = play.consumed(watched.subject).await;
    assert_eq!(consumed, [(1, true), (2, true), (3, true)]);

    let mut roots = play.roots().await;
    let trusted = roots.cryptlets.get_mut(&second.cryptlet).unwrap();
    trusted.signers.push(second.signer);
    trusted.measurements.push(play.measurement(&second.files));
    for stored in receipts(host.journal(), watched.subject).await {
        assert_holds(&stored.receipt, &roots);
    }
}

#[tokio::test]
async fn jobs_of_the_version_before_still_finish() {
    let mut play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let (watched, host, publisher) = opened(&play, &config).await;
    play.feed.shut().await;
    let mut news = host.watch();
    // Until the feed is back, the job is tried again and again.
    let patient = cryptlet_types::Policy {
        epoch: 2,
        retry: retry(1_000),
        ..play.stage.policy.policy.clone()
    };
    play.stage.enact(patient).await.unwrap();
    play.in_force(&host, 2).await;
    play.noon(12).await;
    job_in(&host, watched, due(12), &[Routed]).await;
    let draft = Draft::market_watcher(NAME, "0.2.0");
    let second = play.publish(&publisher, &draft, u64::MAX).await;
    shown(&publisher, NAME, |found| found.current == Some(2)).await;
    play.feed.open();
    let end = end_of(&mut news, watched.subject, due(12)).await;
    assert_eq!(end.delivery(), (1, true));
    play.noon(13).await;
    let packages = [
        delivered_at(&host, watched, 12).await.package,
        delivered_at(&host, watched, 13).await.package,
    ];
    assert_eq!(packages, [play.stage.cryptlet.package, second.package()]);
}

#[tokio::test]
async fn a_revoked_cryptlet_is_not_woken_and_does_not_come_back() {
    let play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let (watched, mut host, publisher) = opened(&play, &config).await;
    play.noon(12).await;
    delivered_at(&host, watched, 12).await;
    mined(
        play.register()
            .revokeCryptlet(play.stage.cryptlet.cryptlet.0),
    )
    .await;
    let found = shown(&publisher, NAME, |found| found.revoked).await;
    assert!(!found.policy.allowed);
    assert!(found.policy.reasons.concat().contains("revoked"));
    let mut news = host.watch();
    play.noon(13).await;
    let reason = refused_at(&mut news, watched, 13).await;
    assert!(reason.contains("was revoked"), "{reason}");
    host.stop().await;
    drop(host);
    let host = open(&config).await;
    let mut news = host.watch();
    play.noon(14).await;
    let reason = refused_at(&mut news, watched, 14).await;
    assert!(reason.contains("was revoked"), "{reason}");
    assert_eq!(play.consumed(watched.subject).await, [(1, true)]);
}

#[tokio::test]
async fn a_signer_serves_until_its_expiry() {
    let play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let (watched, host, publisher) = opened(&play, &config).await;
    let draft = Draft::market_watcher(NAME, "0.2.0");
    let second = play.publish(&publisher, &draft, due(13) - 1).await;
    shown(&publisher, NAME, |found| found.current == Some(2)).await;
    play.noon(12).await;
    assert_eq!(
        delivered_at(&host, watched, 12).await.package,
        second.package()
    );
    play.noon(13).await;
    let record = job_in(&host, watched, due(13), &[Failed, Delivered]).await;
    let note = record.note.unwrap();
    assert!(note.contains("no signer that is valid now"), "{note}");
    let found = shown(&publisher, NAME, |_| true).await;
    assert!(found.policy.reasons.concat().contains("no signer"));

    let cryptlet = second.cryptlet.0;
    mined(
        play.register()
            .enrolSigner(cryptlet, 2, second.signer, u64::MAX),
    )
    .await;
    shown(&publisher, NAME, |found| {
        found.signers.iter().all(|signer| signer.expiry == u64::MAX)
    })
    .await;
    play.noon(14).await;
    assert_eq!(
        delivered_at(&host, watched, 14).await.package,
        second.package()
    );
    assert_eq!(play.consumed(watched.subject).await, [(1, true), (2, true)]);
}

/// Another key of the same version does not help a package that signs with its own.
#[tokio::test]
async fn the_key_that_a_package_signs_with_has_to_be_valid_itself() {
    let play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let (watched, host, publisher) = opened(&play, &config).await;
    let (cryptlet, signer) = (play.stage.cryptlet.cryptlet.0, play.stage.cryptlet.signer);
    let another = alloy::primitives::Address::repeat_byte(0x77);
    mined(play.register().enrolSigner(cryptlet, 1, another, u64::MAX)).await;
    mined(play.register().revokeSigner(cryptlet, signer)).await;
    shown(&publisher, NAME, |found| {
        found.signers.iter().any(|signer| signer.revoked)
    })
    .await;
    play.noon(12).await;
    let record = job_in(&host, watched, due(12), &[Failed, Delivered]).await;
    let note = record.note.unwrap();
    assert!(note.contains("no signer that is valid now"), "{note}");
    assert!(record.run.is_none(), "it was not even run");
}

#[tokio::test]
async fn a_package_that_is_missing_is_named_and_runs_once_it_is_there() {
    let play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let (watched, host, publisher) = opened(&play, &config).await;
    let draft = Draft::market_watcher(NAME, "0.2.0");
    let second = make(&play, &publisher, &draft).await;
    play.announce(&second, u64::MAX).await;
    shown(&publisher, NAME, |found| found.current == Some(2)).await;
    let mut news = host.watch();
    play.noon(12).await;
    let reason = refused_at(&mut news, watched, 12).await;
    let package = second.package().to_string();
    assert!(
        reason.contains(&package) && reason.contains("not at this host"),
        "{reason}"
    );
    hand_in(&publisher, &second).await;
    play.noon(13).await;
    let receipt = delivered_at(&host, watched, 13).await;
    assert_eq!(
        (receipt.package, receipt.report.report.sequence),
        (second.package(), 1)
    );
}

#[tokio::test]
async fn a_version_that_contradicts_its_package_does_not_run_and_others_do() {
    let play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let (watched, host, publisher) = opened(&play, &config).await;
    let other = Draft::market_watcher("honest-watcher", "0.1.0");
    let other = play.register_as(&publisher, &other).await;
    shown(&publisher, "honest-watcher", |_| true).await;
    let arguments = (
        play.stage.delegate,
        other.cryptlet.0,
        vec!["USD".to_owned()],
    );
    let arguments = arguments.abi_encode_params();
    let deployed = play.stage.deploy_consumer(PRICE_CONSUMER, &arguments);
    let (consumer, subject) = deployed.await.unwrap();
    let honest = Watched { consumer, subject };

    let mut news = host.watch();
    for (number, day) in [(2_u32, 12), (3, 13)] {
        let draft = Draft::market_watcher(NAME, &format!("0.{number}.0"));
        let mut lie = make(&play, &publisher, &draft).await;
        hand_in(&publisher, &lie).await;
        if number == 2 {
            lie.version.manifestDigest = other_digest();
        } else {
            lie.version.headerDigest = other_digest();
        }
        play.announce(&lie, u64::MAX).await;
        shown(&publisher, NAME, |found| found.current == Some(number)).await;
        play.noon(day).await;
        let reason = refused_at(&mut news, watched, day).await;
        let package = lie.package().to_string();
        assert!(
            reason.contains("others in the register") && reason.contains(&package),
            "{reason}"
        );
        delivered_at(&host, honest, day).await;
    }
    assert!(play.consumed(watched.subject).await.is_empty());
}

/// A package under a name that is not the cryptlet's own.
#[tokio::test]
async fn a_package_of_another_name_does_not_run() {
    let play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let (watched, host, publisher) = opened(&play, &config).await;
    let mut made = make(&play, &publisher, &Draft::market_watcher(NAME, "0.2.0")).await;
    let false_name = Draft::market_watcher("gold-price", "0.2.0");
    made.files = false_name.files(made.cryptlet, made.signer);
    made.version = false_name.version(&made.files);
    hand_in(&publisher, &made).await;
    play.announce(&made, u64::MAX).await;
    shown(&publisher, NAME, |found| found.current == Some(2)).await;
    let mut news = host.watch();
    play.noon(12).await;
    let reason = refused_at(&mut news, watched, 12).await;
    assert!(reason.starts_with("name"), "{reason}");
}

/// Each host serves what it has the package of; what the register takes back, it takes back from both.
#[tokio::test]
async fn two_hosts_go_by_one_register() {
    let play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let (watched, first, here) = opened(&play, &config).await;
    let config = with_api(play.another_host().await);
    let second = open(&config).await;
    play.in_force(&second, 1).await;
    let there = client(&second, &config, Role::Publisher);
    assert_ne!(first.address(), second.address());
    let (mut news, mut other_news) = (first.watch(), second.watch());
    play.noon(12).await;
    delivered_at(&first, watched, 12).await;
    let reason = refused_at(&mut other_news, watched, 12).await;
    assert!(reason.contains("not at this host"), "{reason}");

    let draft = Draft::market_watcher(NAME, "0.2.0");
    let published = play.publish(&there, &draft, u64::MAX).await;
    for publisher in [&here, &there] {
        shown(publisher, NAME, |found| found.current == Some(2)).await;
    }
    play.noon(13).await;
    let receipt = delivered_at(&second, watched, 13).await;
    assert_eq!(
        (receipt.package, receipt.report.report.sequence),
        (published.package(), 2)
    );
    let reason = refused_at(&mut news, watched, 13).await;
    assert!(reason.contains("not at this host"), "{reason}");

    mined(play.register().revokeVersion(published.cryptlet.0, 2)).await;
    for publisher in [&here, &there] {
        shown(publisher, NAME, |found| found.current == Some(1)).await;
    }
    play.noon(14).await;
    delivered_at(&first, watched, 14).await;
    let reason = refused_at(&mut other_news, watched, 14).await;
    assert!(reason.contains("not at this host"), "{reason}");
    let consumed = play.consumed(watched.subject).await;
    assert_eq!(consumed, [(1, true), (2, true), (3, true)]);
}

impl Play {
    /// A second host on the same stage, with keys and a folder of its own.
    async fn another_host(&self) -> HostConfig {
        let folder = self.folder.path().join("another");
        std::fs::create_dir(&folder).unwrap();
        let key = folder.join("vault.key");
        FileVault::create_key_file(&key).unwrap();
        let config = HostConfig {
            data: folder.join("host"),
            vault: cryptlet_host::VaultConfig::File {
                unlock: cryptlet_host::VaultUnlock::KeyFile(key.clone()),
                path: None,
            },
            ..self.config()
        };
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&config.data)
            .unwrap();
        let path = DataFolder::at(&config.data).vault();
        let vault = FileVault::create(&path, &Unlock::KeyFile(key)).unwrap();
        for key in [KeyId::Host, KeyId::Transmitter, KeyId::Authority] {
            vault.create(&key).await.unwrap();
        }
        let transmitter = vault.address(&KeyId::Transmitter).await.unwrap();
        self.fund(transmitter).await;
        config
    }
}

#[tokio::test]
async fn a_reorganisation_takes_a_publication_back() {
    let play = Play::market(retry(3)).await;
    let config = with_api(play.config());
    let (watched, host, publisher) = opened(&play, &config).await;
    let snapshot = play.snapshot().await;
    let draft = Draft::market_watcher(NAME, "0.2.0");
    let second = play.publish(&publisher, &draft, u64::MAX).await;
    shown(&publisher, NAME, |found| found.current == Some(2)).await;
    play.revert(&snapshot).await;
    let found = shown(&publisher, NAME, |found| found.current == Some(1)).await;
    assert_eq!(found.versions.len(), 1);
    assert!(
        found
            .signers
            .iter()
            .all(|known| known.signer != second.signer.into())
    );
    play.noon(12).await;
    assert_eq!(
        delivered_at(&host, watched, 12).await.package,
        play.stage.cryptlet.package
    );

    // The same version, in another block. The wallet counts by what was before.
    let account = play.stage.account.address();
    let count = play.stage.provider.get_transaction_count(account);
    let count = count.await.unwrap();
    let version = second.version.clone();
    mined(
        play.register()
            .publishVersion(second.cryptlet.0, version, second.signer, u64::MAX)
            .nonce(count),
    )
    .await;
    shown(&publisher, NAME, |found| found.current == Some(2)).await;
    play.noon(13).await;
    assert_eq!(
        delivered_at(&host, watched, 13).await.package,
        second.package()
    );
}

/// Waits until so many events are in the journal and have no job.
async fn events_wait(host: &Host, count: usize) {
    eventually("the events wait", || async {
        let events = host.journal().unrouted_events().await.unwrap();
        (events.len() == count).then_some(())
    })
    .await;
}

/// The register's node, behind a gate of its own.
async fn apart(play: &Play) -> (Gate, HostConfig) {
    let place = play.stage.url().replace("http://", "");
    let gate = Gate::before(place.trim_end_matches('/').parse().unwrap());
    let mut config = with_api(play.config());
    config.register.rpc = Some(format!("http://{}", gate.address));
    (gate, config)
}

#[tokio::test]
async fn while_the_registers_chain_is_silent_what_is_known_grows_old_and_work_waits() {
    let play = Play::market(retry(3)).await;
    let (mut register, config) = apart(&play).await;
    let (watched, mut host, publisher) = opened(&play, &config).await;
    let draft = Draft::market_watcher(NAME, "0.2.0");
    let second = play.publish(&publisher, &draft, u64::MAX).await;
    mined(play.register().revokeVersion(second.cryptlet.0, 2)).await;
    shown(&publisher, NAME, |found| {
        found.versions.len() == 2 && found.current == Some(1)
    })
    .await;

    register.shut().await;
    // 23 hours later the register's word still counts, a day after that it is too old.
    play.noon(12).await;
    delivered_at(&host, watched, 12).await;
    play.noon(13).await;
    let info = told(&publisher, |info| info.register_state.stale).await;
    assert!(info.register_state.age_seconds > 86_400);
    events_wait(&host, 1).await;
    let found = shown(&publisher, NAME, |found| found.stale).await;
    assert!(!found.policy.allowed);
    assert!(
        found
            .policy
            .reasons
            .concat()
            .contains("evidence.maxAgeSeconds")
    );
    assert_eq!(
        found.current,
        Some(1),
        "nothing that was revoked comes back"
    );

    // A host that starts meanwhile starts with the same knowledge.
    host.stop().await;
    drop(host);
    let host = open(&config).await;
    let publisher = client(&host, &config, Role::Reader);
    let info = told(&publisher, |_| true).await;
    assert!(info.register_state.stale && info.register_state.synced_block > 0);
    let found = shown(&publisher, NAME, |_| true).await;
    assert!(found.stale && found.current == Some(1) && found.versions[1].revoked);
    play.noon(14).await;
    events_wait(&host, 2).await;
    assert_eq!(jobs(host.journal(), watched.subject).await.len(), 1);

    register.open();
    for day in [13, 14] {
        let receipt = delivered_at(&host, watched, day).await;
        assert_eq!(receipt.package, play.stage.cryptlet.package);
    }
    told(&publisher, |info| !info.register_state.stale).await;
    let consumed = play.consumed(watched.subject).await;
    assert_eq!(consumed, [(1, true), (2, true), (3, true)]);
}

/// What was reported before the register fell silent, and revoked meanwhile, is the delegate's to refuse.
#[tokio::test]
async fn a_revocation_that_the_host_has_not_heard_of_counts_at_the_delegate() {
    let play = Play::market(retry(3)).await;
    let (mut register, config) = apart(&play).await;
    let (watched, host, _) = opened(&play, &config).await;
    register.shut().await;
    let (cryptlet, signer) = (play.stage.cryptlet.cryptlet.0, play.stage.cryptlet.signer);
    mined(play.register().revokeSigner(cryptlet, signer)).await;
    play.noon(12).await;
    let record = job_in(&host, watched, due(12), &[Failed, Delivered]).await;
    let note = record.note.unwrap();
    assert!(
        note.contains("refused") && note.contains(&signer.to_string()),
        "{note}"
    );
    assert!(play.consumed(watched.subject).await.is_empty());
}

#[tokio::test]
async fn what_a_killed_upload_left_behind_is_gone_after_a_start() {
    let play = Play::market(retry(3)).await;
    let config = play.config();
    let left = config.data.join("packages/blobs/sha256/00.1.0.new");
    std::fs::write(&left, "half").unwrap();
    let _host = open(&config).await;
    assert!(!left.exists());
}

#[tokio::test]
async fn a_folder_follows_one_register() {
    let play = Play::market(retry(3)).await;
    let config = play.config();
    open(&config).await.stop().await;
    let mut other = config.clone();
    other.register.address = play.stage.delegate;
    let refused = eventually("the folder is free", || async {
        match Host::open(&other).await.map(drop) {
            Err(error) if is_held(&error) => None,
            ended => Some(ended),
        }
    });
    let said = refused.await.unwrap_err().to_string();
    assert!(said.contains(&play.stage.register.to_string()), "{said}");
    let never = HostConfig {
        data: play.folder.path().join("never"),
        register: cryptlet_host::RegisterConfig {
            rpc: Some("http://127.0.0.1:1".into()),
            ..config.register.clone()
        },
        ..config
    };
    let refused = Host::open(&never).await.map(drop);
    assert!(refused.is_err(), "which register it is was never heard");
}
