//! What sources said is kept where policy asks for it, and nowhere else; a delivered run is repeated from it. Code that is
//! less sure to do the same again than policy demands is not taken, and does not run.
use crate::support::{
    Play,
    account::{job_in, jobs},
    container, due, end_of,
    office::{Draft, client, make, new_package, open, with_api},
    retry,
};
use cryptlet_api::{ClientError, types::Role};
use cryptlet_audit::Claim;
use cryptlet_host::{DataFolder, Progress};
use cryptlet_isolation::ProcessProvider;
use cryptlet_register::PackageStore;
use cryptlet_stage::CryptletSource;
use cryptlet_types::{
    JobState, Policy,
    policy::{CodeRule, Determinism, RecordingRule},
    recording::{Recorded, RecordingFile},
};
use std::{fs, os::unix::fs::PermissionsExt, path::Path};

const MONTE_CARLO: &[u8] = include_bytes!("../../../cryptlets/dist/monte-carlo.wasm");

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn what_sources_said_is_kept_where_policy_asks_and_repeats_the_delivered_run() {
    let mut play = Play::market(retry(3)).await;
    let watched = play.price_consumer(&["USD", "GBP"]).await;
    let mut host = play.host().await;
    let data = DataFolder::at(&play.config().data);
    play.noon(12).await;
    job_in(&host, watched, due(12), &[JobState::Delivered]).await;
    assert!(!data.recordings().exists(), "policy did not ask for it");

    let recording = Policy {
        epoch: 2,
        recording: RecordingRule::Exchanges,
        ..play.stage.policy.policy.clone()
    };
    play.stage.enact(recording).await.unwrap();
    play.in_force(&host, 2).await;
    play.noon(13).await;
    let job = job_in(&host, watched, due(13), &[JobState::Delivered]).await;
    let path = data.recordings().join(RecordingFile::name_of(job.present));
    assert_eq!((mode(&path), mode(&data.recordings())), (0o600, 0o700));
    assert_eq!(fs::read_dir(data.recordings()).unwrap().count(), 1);
    let file = RecordingFile::from_json(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((file.run, file.package), (job.present, job.job.package));
    let stored = host.journal().receipt(job.job.id).await.unwrap().unwrap();
    host.stop().await;

    let packages = PackageStore::open(&data.packages(), u64::MAX).unwrap();
    let package = packages.get(job.job.package).unwrap();
    let isolation = ProcessProvider::new(&container()).unwrap();
    let claim = Claim {
        fuel_used: Some(job.run.unwrap().fuel_used),
        ..Claim::from(&stored.receipt)
    };
    let verdict = cryptlet_run::replay(&isolation, package.clone(), &claim, &file).await;
    let verdict = verdict.unwrap();
    assert!(verdict.holds(), "{verdict:?}");
    assert!(!stored.receipt.sources.is_empty());

    let mut nothing = file;
    nothing.recorded = Recorded::Whole(Default::default());
    let verdict = cryptlet_run::replay(&isolation, package, &claim, &nothing).await;
    assert!(!verdict.unwrap().holds());
}

/// A cryptlet that computes with floats, woken by the clock.
fn with_floats() -> CryptletSource {
    let manifest = br#"{"name": "floating", "version": "0.1.0", "config": {
        "description": "Computes with floats.", "isolation": true, "triggers": ["clock"],
        "limits": {"fuel": 50000000, "memoryBytes": 16777216, "wallMillis": 5000, "responseBytes": 65536}}}"#;
    CryptletSource {
        manifest: manifest.to_vec(),
        interface: "interface IFloating {\n    function onReport(uint256 word) external;\n}\n"
            .into(),
        code: MONTE_CARLO.to_vec(),
    }
}

fn demanding(play: &Play, epoch: u64, determinism: Determinism) -> Policy {
    Policy {
        epoch,
        code: CodeRule {
            determinism: Some(determinism),
        },
        ..play.stage.policy.policy.clone()
    }
}

#[tokio::test]
async fn code_that_is_less_sure_than_policy_demands_gets_no_job() {
    let mut play = Play::with(with_floats(), retry(1)).await;
    let watched = play
        .consumer(
            crate::support::STORE_WORD,
            crate::support::CALLBACK_GAS,
            b"no parameters of its own",
        )
        .await;
    let strict = demanding(&play, 2, Determinism::Deterministic);
    play.stage.enact(strict).await.unwrap();
    let mut host = play.host().await;
    let mut news = host.watch();
    play.noon(12).await;
    match end_of(&mut news, watched.subject, due(12)).await.last {
        Progress::Refused { reason, .. } => {
            assert!(reason.contains("`code.determinism` demands"), "{reason}");
            assert!(reason.contains("byte 0x"), "{reason}");
        }
        other => panic!("not refused: {other:?}"),
    }
    assert!(jobs(host.journal(), watched.subject).await.is_empty());

    let canonical = demanding(&play, 3, Determinism::CanonicalNan);
    play.stage.enact(canonical).await.unwrap();
    play.in_force(&host, 3).await;
    play.noon(13).await;
    // It runs, and refuses such parameters by itself.
    let job = job_in(&host, watched, due(13), &[JobState::Failed]).await;
    let note = job.note.unwrap_or_default();
    assert!(note.contains("cryptlet"), "{note}");
    host.stop().await;
}

#[tokio::test]
async fn code_that_is_less_sure_than_policy_demands_is_not_taken() {
    let mut play = Play::market(retry(1)).await;
    let config = with_api(play.config());
    let mut host = open(&config).await;
    play.in_force(&host, 1).await;
    let publisher = client(&host, &config, Role::Publisher);
    let draft = Draft::of(with_floats());
    let made = make(&play, &publisher, &draft).await;

    let strict = demanding(&play, 2, Determinism::Deterministic);
    play.stage.enact(strict).await.unwrap();
    play.in_force(&host, 2).await;
    let package = new_package(&made.files);
    match publisher.store_package(&package).await {
        Err(ClientError::Problem(problem)) => {
            assert_eq!(problem.status, 422);
            let said = problem.detail;
            assert!(said.starts_with("policy: `code.determinism`"), "{said}");
            assert!(said.contains("byte 0x"), "{said}");
        }
        other => panic!("taken: {other:?}"),
    }
    let canonical = demanding(&play, 3, Determinism::CanonicalNan);
    play.stage.enact(canonical).await.unwrap();
    play.in_force(&host, 3).await;
    publisher.store_package(&package).await.unwrap();
    host.stop().await;
}
