//! `cryptlet bench isolation`: what a region costs, beside the same work without one and beside wasmtime alone.

use super::{progress::Steps, stats::percentile};
use crate::{
    args::IsolationBenchOptions,
    commands::{
        demo::stage::find_container,
        region::{Sample, job},
    },
    error::{CliError, Doing},
    screen::say,
};
use cryptlet_isolation::{IsolationProvider, ProcessProvider, Region};
use serde::{Deserialize, Serialize};
use std::{
    fs,
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// What `--json` prints.
#[derive(Serialize)]
struct Outcome {
    regions: u32,
    calls: u64,
    /// The first region of a package: the program's start and the compilation included.
    first_region_ms: f64,
    fresh_region_p50_ms: f64,
    fresh_region_p95_ms: f64,
    /// A job in a live region, from the host's call to the signed report.
    call_p50_us: f64,
    #[serde(flatten)]
    beside: Beside,
    idle_rss_mib: f64,
}

/// What the program beside this one measures.
#[derive(Serialize, Deserialize)]
struct Beside {
    in_process_call_p50_us: f64,
    fresh_calls_per_s: f64,
    in_process_fresh_calls_per_s: f64,
    wasmtime_fresh_calls_per_s: f64,
}

pub(crate) async fn run(options: IsolationBenchOptions) -> Result<ExitCode, CliError> {
    let steps = Steps::new();
    let json = options.json;
    // As a host does: on a worker of the runtime, where its input and output is as well.
    let measured = tokio::spawn(async move { measure(&options, &steps).await });
    let outcome = measured.await.doing("the bench did not end")??;
    if json {
        say(serde_json::to_string(&outcome).doing("cannot write JSON")?);
    } else {
        print(&outcome);
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure(options: &IsolationBenchOptions, steps: &Steps) -> Result<Outcome, CliError> {
    let container = find_container()?;
    let provider = ProcessProvider::new(&container).doing("cannot read the container")?;
    let sample = Sample::new()?;
    let started = Instant::now();
    let mut region = sample.create(&provider).await?;
    let first = started.elapsed();
    let idle_rss_mib = idle_rss_mib()?;
    sample.provision(region.as_mut()).await?;
    steps.begin("regions", options.regions.into());
    let mut fresh = fresh_regions(&sample, &provider, options.regions, steps).await?;
    fresh.sort_unstable();
    // Before and after what it is compared with: a machine does not do the same all the time.
    steps.begin("calls into a region", options.calls);
    let half = options.calls / 2;
    let mut calls = calls_into(region.as_mut(), 1..=half, steps).await?;
    steps.begin("the same without a region, and wasmtime alone", 1);
    let beside = beside(&container)?;
    steps.begin("calls into a region", options.calls);
    calls.extend(calls_into(region.as_mut(), half + 1..=options.calls, steps).await?);
    calls.sort_unstable();
    Ok(Outcome {
        regions: options.regions,
        calls: options.calls,
        first_region_ms: first.as_secs_f64() * 1e3,
        fresh_region_p50_ms: percentile(&fresh, 50),
        fresh_region_p95_ms: percentile(&fresh, 95),
        call_p50_us: percentile(&calls, 50) * 1e3,
        beside,
        idle_rss_mib,
    })
}

async fn fresh_regions(
    sample: &Sample,
    provider: &dyn IsolationProvider,
    count: u32,
    steps: &Steps,
) -> Result<Vec<Duration>, CliError> {
    let mut times = Vec::new();
    for number in 0..count {
        let started = Instant::now();
        let region = sample.create(provider).await?;
        times.push(started.elapsed());
        drop(region);
        steps.at(number.into());
    }
    Ok(times)
}

async fn calls_into(
    region: &mut dyn Region,
    sequences: std::ops::RangeInclusive<u64>,
    steps: &Steps,
) -> Result<Vec<Duration>, CliError> {
    let mut times = Vec::new();
    for sequence in sequences {
        let input = job(sequence);
        let started = Instant::now();
        region.run(input).await.doing("cannot run a job")?;
        times.push(started.elapsed());
        steps.at(sequence);
    }
    Ok(times)
}

fn beside(container: &std::path::Path) -> Result<Beside, CliError> {
    let program = container.with_file_name("cryptlet-region-bench");
    let doing = format!("cannot run {}", program.display());
    let output = Command::new(&program)
        .output()
        .doing(&doing)
        .map_err(|error| error.next("build it: cargo build --release -p cryptlet-container"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(CliError::new(format_args!("{doing}: {said}")));
    }
    serde_json::from_slice(&output.stdout).doing(doing)
}

/// Resident memory of the newest region that this program's containers became.
fn idle_rss_mib() -> Result<f64, CliError> {
    let doing = "cannot find the region's process";
    let own = std::process::id();
    let program = newest_child(own)?;
    let region = newest_child(newest_child(program)?)?;
    let status = fs::read_to_string(format!("/proc/{region}/status")).doing(doing)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    let kib: f64 = kib.unwrap_or_default().parse().doing(doing)?;
    Ok(kib / 1024.0)
}

/// The process that one of the threads of `process` started last.
fn newest_child(process: u32) -> Result<u32, CliError> {
    let doing = "cannot find the region's process";
    let mut newest = None;
    for thread in fs::read_dir(format!("/proc/{process}/task")).doing(doing)? {
        let children = thread.doing(doing)?.path().join("children");
        let children = fs::read_to_string(children).doing(doing)?;
        let numbers = children
            .split_whitespace()
            .filter_map(|child| child.parse().ok());
        newest = newest.max(numbers.max());
    }
    newest.ok_or_else(|| CliError::new(doing))
}

fn print(outcome: &Outcome) {
    let row = |name: &str, value: f64, unit: &str, digits: usize| {
        say(format_args!("{name:<58} {value:>10.digits$} {unit}"));
    };
    row(
        "first region of a package, program start included",
        outcome.first_region_ms,
        "ms",
        1,
    );
    row(
        "fresh region of a loaded package, p50",
        outcome.fresh_region_p50_ms,
        "ms",
        2,
    );
    row(
        "fresh region of a loaded package, p95",
        outcome.fresh_region_p95_ms,
        "ms",
        2,
    );
    row(
        "resident memory of an idle region",
        outcome.idle_rss_mib,
        "MiB",
        1,
    );
    say("");
    row(
        "job in a live region, call to signed report, p50",
        outcome.call_p50_us,
        "us",
        1,
    );
    row(
        "limit: the same job in one process, p50",
        outcome.beside.in_process_call_p50_us,
        "us",
        1,
    );
    say("");
    let rate = "a second of processor time";
    row(
        "fresh instances called in a region",
        outcome.beside.fresh_calls_per_s,
        rate,
        0,
    );
    row(
        "the same outside of one",
        outcome.beside.in_process_fresh_calls_per_s,
        rate,
        0,
    );
    row(
        "limit: wasmtime alone, without limits",
        outcome.beside.wasmtime_fresh_calls_per_s,
        rate,
        0,
    );
}
