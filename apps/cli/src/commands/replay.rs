//! `cryptlet replay`: a run, repeated from what was recorded of it, and compared with what is claimed of it.

use super::{demo::stage::find_container, read_bounded, session::object, trace};
use crate::{
    args::developer::ReplayOptions,
    error::{CliError, Doing},
    screen::{Paint, painted, say},
};
use cryptlet_audit::{Check, Claim, Verdict};
use cryptlet_host::DataFolder;
use cryptlet_isolation::ProcessProvider;
use cryptlet_register::PackageStore;
use cryptlet_run::replay;
use cryptlet_types::{
    JobId, Receipt, RunId, RunRecord, Sha256Digest,
    bounded::MAX_RECEIPT_BYTES,
    recording::{MAX_RECORDING_FILE_BYTES, RecordingFile},
    region::Package,
};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

const NOT_RECORDED: &str = "policy has to ask for it before the run: recording, \"exchanges\"";

/// What is repeated: a run of a host's journal, or of a receipt, with the places of what it takes.
struct Case {
    said: Said,
    recording: PathBuf,
    packages: PathBuf,
}

/// Who says what the run came to.
enum Said {
    Journal(Sha256Digest, Box<RunRecord>),
    Receipt(Box<Receipt>),
}

impl Said {
    fn claim(&self) -> Claim<'_> {
        match self {
            Self::Journal(package, run) => Claim::of(*package, run),
            Self::Receipt(receipt) => Claim::from(&**receipt),
        }
    }
}

/// The result, as `--json` prints it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome<'a> {
    job: JobId,
    run: u32,
    package: Sha256Digest,
    recording: &'a Path,
    same: bool,
    checks: &'a [Check],
}

pub(crate) async fn run(options: &ReplayOptions) -> Result<ExitCode, CliError> {
    let case = case(options).await?;
    let file = read_recording(&case.recording)?;
    let claim = case.said.claim();
    let package = read_package(&case.packages, claim.package)?;
    let isolation = ProcessProvider::new(&find_container()?).doing("no region can be made")?;
    let verdict = replay(&isolation, package, &claim, &file)
        .await
        .doing("the run cannot be repeated")?;
    let outcome = Outcome {
        job: claim.input.job,
        run: file.run.number,
        package: claim.package,
        recording: &case.recording,
        same: verdict.holds(),
        checks: &verdict.checks,
    };
    if options.json {
        object(&outcome)?;
    } else {
        show(&outcome, &verdict);
    }
    Ok(if verdict.holds() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

async fn case(options: &ReplayOptions) -> Result<Case, CliError> {
    if let (Some(receipt), Some(recording), Some(packages)) =
        (&options.receipt, &options.recording, &options.package)
    {
        let bytes = read_bounded(receipt, MAX_RECEIPT_BYTES)?;
        let read = Receipt::from_json(&bytes).doing(receipt.display())?;
        return Ok(Case {
            said: Said::Receipt(Box::new(read)),
            recording: recording.clone(),
            packages: packages.clone(),
        });
    }
    let (Some(job), Some(data)) = (options.job, &options.data) else {
        return Err(CliError::new("no job and no receipt"));
    };
    let (id, package, run) = latest_run(data, job).await?;
    let data = DataFolder::at(data);
    let named = RecordingFile::name_of(id);
    let recording = options.recording.clone();
    let packages = options.package.clone();
    Ok(Case {
        said: Said::Journal(package, Box::new(run)),
        recording: recording.unwrap_or_else(|| data.recordings().join(named)),
        packages: packages.unwrap_or_else(|| data.packages()),
    })
}

/// The journal is closed again: a replay may take as long as the run did.
async fn latest_run(data: &Path, job: JobId) -> Result<(RunId, Sha256Digest, RunRecord), CliError> {
    let journal = trace::open_journal(data).await?;
    let record = trace::job_of(&journal, job).await?;
    journal.close().await.doing("cannot close the journal")?;
    let state = record.state.as_str();
    let run = record.run.ok_or_else(|| {
        CliError::new(format_args!("job {job} is {state} and has said nothing"))
            .next("runs are recorded that end in a report: cryptlet trace --data DIR")
    })?;
    Ok((record.present, record.job.package, run))
}

fn read_recording(path: &Path) -> Result<RecordingFile, CliError> {
    if !path.is_file() {
        let what = format!("there is no recording at {}", path.display());
        return Err(CliError::new(what).next(NOT_RECORDED));
    }
    let bytes = read_bounded(path, MAX_RECORDING_FILE_BYTES)?;
    RecordingFile::from_json(&bytes).doing(path.display())
}

/// The package from an OCI layout that is there already.
fn read_package(folder: &Path, digest: Sha256Digest) -> Result<Package, CliError> {
    if !folder.is_dir() {
        let what = format!("there are no packages at {}", folder.display());
        return Err(CliError::new(what).next("name an OCI layout that holds it: --package DIR"));
    }
    let store = PackageStore::open(folder, u64::MAX).doing(folder.display())?;
    store.get(digest).doing(folder.display())
}

fn show(outcome: &Outcome<'_>, verdict: &Verdict) {
    say(format_args!("job       {}", outcome.job));
    say(format_args!("run       {}", outcome.run));
    say(format_args!("package   {}", outcome.package));
    say(format_args!("recording {}", outcome.recording.display()));
    for check in &verdict.checks {
        let (word, how) = match check.failure {
            None => ("same   ", Paint::Good),
            Some(_) => ("differs", Paint::Bad),
        };
        let reason = check.failure.as_deref();
        let reason = reason.map_or_else(String::new, |reason| format!(": {reason}"));
        let what = compared(check.name);
        say(format_args!("{}   {what}{reason}", painted(word, how)));
    }
    let differ = verdict.failures().count();
    if differ == 0 {
        say("The run, repeated from its recording, says the same.");
    } else {
        say(format_args!(
            "The run, repeated from its recording, does not say the same: {differ} of {} comparisons differ.",
            verdict.checks.len()
        ));
    }
}

/// What a check compares, in plain words.
fn compared(name: &str) -> &str {
    match name {
        "run" => "job of the recording",
        "package" => "package",
        "measurement" => "measurement of container, settings and package",
        "recording" => "digests of what sources said",
        "replay" => "requests, in their order, to the end of the run",
        "payload" => "payload of the report",
        "sources" => "digest of what the cryptlet was told",
        "fuel" => "fuel, by the host's word",
        "state" => "state of the next step, by the host's word",
        other => other,
    }
}
