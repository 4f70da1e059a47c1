//! Runs that were recorded are repeated by the runner's own words: a real container, the market watcher, a real source.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that fails panics"
)]

mod support;

use cryptlet_audit::{Claim, Verdict};
use cryptlet_isolation::{IsolationError, IsolationProvider, ProcessProvider};
use cryptlet_run::{Ran, RunRecording, replay};
use cryptlet_seal::package;
use cryptlet_types::{
    Job, RunId, RunRecord,
    policy::RecordingRule,
    recording::{Exchange, ExchangeOutcome, Recorded, RecordingFile},
    region::{Package, RegionFault},
};
use support::{DUE, Watched, container};

/// A run with its recording, as a host would keep it.
struct Kept {
    job: Job,
    run: RunRecord,
    file: RecordingFile,
}

async fn record(world: &Watched, currency: &str, sequence: u64) -> Kept {
    let job = world.watch(currency, sequence);
    let mut turn = world.runner.turn(job.subscription.cryptlet).await;
    let ran = turn.run(&job, sequence, DUE, None).await.unwrap();
    let Ran::Reported { run, recording, .. } = ran else {
        panic!("no report: {ran:?}")
    };
    let RunRecording { settings, recorded } = *recording.expect("no recording");
    let file = RecordingFile {
        version: 1,
        run: RunId::first(job.id),
        package: job.package,
        settings,
        fuel_used: run.fuel_used,
        state: None,
        recorded,
    };
    let run = *run;
    Kept { job, run, file }
}

fn exchanges(file: &mut RecordingFile) -> &mut Vec<Exchange> {
    match &mut file.recorded {
        Recorded::Whole(recording) => &mut recording.exchanges,
        Recorded::TooLarge => panic!("nothing was recorded"),
    }
}

async fn judge(package: Package, of: &Kept) -> Verdict {
    let isolation = ProcessProvider::new(&container()).unwrap();
    let claim = Claim::of(of.job.package, &of.run);
    replay(&isolation, package, &claim, &of.file).await.unwrap()
}

/// Names of the checks that failed, with what they say.
fn failed(verdict: &Verdict) -> Vec<(&'static str, String)> {
    let failures = verdict.failures();
    failures
        .map(|check| (check.name, check.failure.clone().unwrap_or_default()))
        .collect()
}

#[tokio::test]
async fn a_run_that_was_recorded_is_repeated_and_says_the_same() {
    let world = Watched::new(RecordingRule::Exchanges).await;
    let mut recorded = record(&world, "USD", 1).await;
    assert_eq!(exchanges(&mut recorded.file).len(), 1);
    let json = recorded.file.to_json().unwrap();
    recorded.file = RecordingFile::from_json(&json).unwrap();
    // Nobody has to be there any more.
    let package = world.package.clone();
    drop(world);
    let verdict = judge(package, &recorded).await;
    assert!(verdict.holds(), "{verdict:?}");
}

#[tokio::test]
async fn without_policys_word_nothing_is_recorded() {
    let world = Watched::new(RecordingRule::Off).await;
    let job = world.watch("USD", 1);
    let mut turn = world.runner.turn(job.subscription.cryptlet).await;
    let ran = turn.run(&job, 1, DUE, None).await.unwrap();
    assert!(matches!(
        ran,
        Ran::Reported {
            recording: None,
            ..
        }
    ));
}

#[tokio::test]
async fn a_recording_that_was_altered_is_noticed_with_the_place() {
    let world = Watched::new(RecordingRule::Exchanges).await;
    let mut recorded = record(&world, "USD", 1).await;
    let honest = recorded.file.clone();
    let package = || world.package.clone();

    let ExchangeOutcome::Response(response) = &mut exchanges(&mut recorded.file)[0].outcome else {
        panic!("no response")
    };
    let text = String::from_utf8(response.body.to_vec()).unwrap();
    response.body = text.replace("1.1172", "1.1173").into_bytes().into();
    let failures = failed(&judge(package(), &recorded).await);
    let names: Vec<_> = failures.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["recording", "payload", "sources"]);
    assert!(
        failures[0].1.starts_with("response 1: body"),
        "{failures:?}"
    );

    recorded.file = honest.clone();
    exchanges(&mut recorded.file).clear();
    let failures = failed(&judge(package(), &recorded).await);
    assert_eq!(failures[0].0, "recording");
    let (name, reason) = &failures[1];
    assert_eq!(*name, "replay");
    assert!(
        reason.contains("exchange 1: asked for https://"),
        "{reason}"
    );

    recorded.file = honest.clone();
    let twice = exchanges(&mut recorded.file)[0].clone();
    exchanges(&mut recorded.file).push(twice);
    let failures = failed(&judge(package(), &recorded).await);
    assert!(
        failures[0].1.contains("has responses: 2, stated is 1"),
        "{failures:?}"
    );
    assert!(failures[1].1.contains("exchange 2"), "{failures:?}");

    recorded.file = honest;
    recorded.file.fuel_used += 1;
    let failures = failed(&judge(package(), &recorded).await);
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].0, "fuel");
}

#[tokio::test]
async fn the_recording_of_another_job_is_none_of_this_one() {
    let world = Watched::new(RecordingRule::Exchanges).await;
    let mut one = record(&world, "USD", 1).await;
    let other = record(&world, "GBP", 2).await;
    // The same page of the same source, asked for by two jobs: only the job tells them apart, and the certificate's
    // digest, the request and the body are the same.
    one.file = other.file;
    let failures = failed(&judge(world.package.clone(), &one).await);
    assert_eq!(failures[0].0, "run", "{failures:?}");
}

#[tokio::test]
async fn other_settings_or_another_package_than_ran_are_noticed() {
    let world = Watched::new(RecordingRule::Exchanges).await;
    let mut recorded = record(&world, "USD", 1).await;
    recorded.file.settings.limits.fuel -= 1;
    let failures = failed(&judge(world.package.clone(), &recorded).await);
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].0, "measurement");
    recorded.file.settings.limits.fuel += 1;

    // More than the manifest asks for is no region at all.
    recorded.file.settings.limits.fuel *= 2;
    let failures = failed(&judge(world.package.clone(), &recorded).await);
    let refused = failures.iter().find(|(name, _)| *name == "replay").unwrap();
    assert!(refused.1.contains("settings.limits"), "{failures:?}");
    recorded.file.settings.limits.fuel /= 2;

    let mut manifest = package::open(&world.package).unwrap().manifest;
    manifest.config.description = "another".into();
    let other = package::build(&manifest, &world.package.code, b"{}", None).unwrap();
    let failures = failed(&judge(other.package, &recorded).await);
    let names: Vec<_> = failures.iter().map(|(name, _)| *name).collect();
    assert!(
        names.starts_with(&["package", "measurement", "replay"]),
        "{failures:?}"
    );
    assert!(failures[2].1.contains("another package"), "{failures:?}");
}

#[tokio::test]
async fn what_was_too_large_to_be_kept_is_not_repeated() {
    let world = Watched::new(RecordingRule::Exchanges).await;
    let mut recorded = record(&world, "USD", 1).await;
    recorded.file.recorded = Recorded::TooLarge;
    let failures = failed(&judge(world.package.clone(), &recorded).await);
    assert_eq!(failures[0].0, "recording");
    assert!(failures[0].1.contains("too large"), "{failures:?}");
    assert_eq!(failures[1].0, "replay");
}

#[tokio::test]
async fn a_region_that_repeats_has_no_key_and_signs_nothing() {
    let world = Watched::new(RecordingRule::Exchanges).await;
    let recorded = record(&world, "USD", 1).await;
    let isolation = ProcessProvider::new(&container()).unwrap();
    let (package, settings) = (world.package.clone(), recorded.file.settings.clone());
    let region = isolation.create(package, settings, Default::default(), world.relay());
    let run = region.await.unwrap().run(recorded.run.input).await;
    assert!(
        matches!(run, Err(IsolationError::Fault(RegionFault::Protocol(_)))),
        "{run:?}"
    );
}
