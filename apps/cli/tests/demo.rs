//! The demo as a user runs it: its figures, its receipts, and what it says when it is asked for nonsense.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lint allows these in test functions; helpers of tests are the same"
)]

use assert_cmd::Command;
use serde_json::Value;
use std::{fs, path::Path};

fn cryptlet() -> Command {
    let mut command = Command::cargo_bin("cryptlet").unwrap();
    command.env_remove("RUST_LOG");
    command
}

/// Runs the demo and reads the JSON object on its last line.
fn demo(out: &Path, arguments: &[&str]) -> Value {
    let run = cryptlet()
        .args(["demo", "--json", "--out"])
        .arg(out)
        .args(arguments)
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{errors}");
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn receipts(out: &Path) -> Vec<(String, Value)> {
    let mut files: Vec<_> = fs::read_dir(out.join("receipts"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .map(|path| {
            (
                path.file_name().unwrap().to_string_lossy().into_owned(),
                read(&path),
            )
        })
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

#[test]
fn a_week_over_the_end_of_summer_time_wakes_at_four_in_berlin() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let summary = demo(&out, &["--from", "2026-10-23", "--to", "2026-10-27"]);
    let figure = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!(
        (figure("days"), figure("due"), figure("delivered")),
        (5, 3, 3)
    );
    assert_eq!(
        (
            figure("missed"),
            figure("duplicates"),
            figure("receipts_verified")
        ),
        (0, 0, 3)
    );
    assert_eq!(
        (summary["from"].as_str(), summary["to"].as_str()),
        (Some("2026-10-23"), Some("2026-10-27"))
    );
    assert_eq!(figure("chain_id"), 31337);
    assert!((21_000..150_000).contains(&figure("gas_per_delivery")));

    // 16:00 in Berlin is 14:00 UTC until 24 October 2026 and 15:00 UTC from the 25th on.
    let hours: Vec<_> = receipts(&out)
        .iter()
        .map(|(_, receipt)| receipt["event"]["trigger"]["due"].as_u64().unwrap() % 86_400 / 3_600)
        .collect();
    assert_eq!(hours, [14, 15, 15]);
}

#[test]
fn receipts_are_checked_offline_and_forgeries_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    demo(
        &out,
        &[
            "--from",
            "2026-10-05",
            "--to",
            "2026-10-06",
            "--pairs",
            "JPY",
        ],
    );
    let file = out.join("receipts/2026-10-05-1.json");
    cryptlet().arg("verify").arg(&file).assert().success();

    let mut forged = read(&file);
    forged["report"]["report"]["sequence"] = 2.into();
    forged["input"]["sequence"] = 2.into();
    let place = out.join("receipts/forged.json");
    fs::write(&place, serde_json::to_vec(&forged).unwrap()).unwrap();
    let run = cryptlet().arg("verify").arg(&place).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert_eq!(run.status.code(), Some(1), "{said}");
    assert!(
        said.contains("FAIL") && said.contains("signature:") && said.contains("transaction:"),
        "{said}"
    );

    let run = cryptlet()
        .args(["verify", "--json"])
        .arg(&place)
        .output()
        .unwrap();
    let verdict: Value = serde_json::from_slice(&run.stdout).unwrap();
    assert_eq!(verdict["holds"], false);
    assert!(verdict.get("region_proof").is_none(), "of what is forged");

    // What a contract is shown of a region, as the contracts' own tests have it.
    let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../vectors");
    let run = cryptlet()
        .args(["verify", "--json", "--trust"])
        .arg(vectors.join("receipt/trust.json"))
        .arg(vectors.join("receipt/market-watcher.json"))
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&run.stdout).unwrap();
    let golden = read(&vectors.join("region/receipt.json"));
    let proof = &shown["region_proof"];
    assert_eq!(proof["arguments"], golden["arguments"]);
    let said = |value: &Value| value.as_str().unwrap().to_lowercase();
    assert_eq!(said(&proof["host"]), said(&golden["host"]));
    assert_eq!(proof["measurement"], golden["evidence"]["measurement"]);

    fs::write(&place, b"{\"version\":1}").unwrap();
    let run = cryptlet().arg("verify").arg(&place).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    assert!(
        !run.status.success() && said.contains("form: not a receipt: missing field"),
        "{said}"
    );

    let alone = folder.path().join("alone.json");
    fs::copy(&file, &alone).unwrap();
    let run = cryptlet().arg("verify").arg(&alone).output().unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(
        !run.status.success() && said.contains("--trust FILE"),
        "{said}"
    );
}

#[test]
fn the_journal_of_a_stopped_host_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    demo(&out, &["--from", "2026-10-09", "--to", "2026-10-10"]);
    let data = out.join("host");
    let run = cryptlet()
        .args(["trace", "--json", "--data"])
        .arg(&data)
        .output()
        .unwrap();
    let jobs: Vec<Value> = String::from_utf8(run.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let states: Vec<_> = jobs
        .iter()
        .map(|job| job["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["delivered", "skipped"]);
    let id = jobs[0]["job"].as_str().unwrap();
    let run = cryptlet()
        .args(["trace", id, "--data"])
        .arg(&data)
        .output()
        .unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    let order: Vec<_> = ["routed", "reported", "submitted", "delivered"]
        .iter()
        .map(|state| said.rfind(state).unwrap())
        .collect();
    assert!(order.is_sorted(), "{said}");
}

#[test]
fn folders_of_others_are_never_replaced() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
    let run = cryptlet()
        .args(["demo", "--out"])
        .arg(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(!run.status.success() && said.contains("--out"), "{said}");
    assert!(folder.path().join("thesis.txt").exists());
}

#[test]
fn nonsense_is_refused_before_anything_is_started() {
    let refused = |arguments: &[&str], word: &str| {
        let run = cryptlet().arg("demo").args(arguments).output().unwrap();
        let said = String::from_utf8(run.stderr).unwrap();
        assert!(!run.status.success() && said.contains(word), "{said}");
    };
    refused(&["--from", "2026-10-09", "--to", "2026-10-08"], "swap them");
    refused(
        &["--from", "2035-01-01", "--to", "2035-01-02"],
        "2026-10-30",
    );
    refused(&["--from", "2026-02-30"], "2026-02-30");
    refused(&["--pairs", "dollars"], "currency code");
}

/// No figure is judged: a busy machine is slow. That it measures at all is not a matter of the machine.
#[test]
fn the_bench_measures_the_path_beside_its_limits() {
    let run = cryptlet()
        .args([
            "bench",
            "path",
            "--deliveries",
            "10",
            "--no-faults",
            "--json",
        ])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{errors}");
    let text = String::from_utf8(run.stdout).unwrap();
    let figures: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    for figure in [
        "p50_ms",
        "p95_ms",
        "bare_tx_p50_ms",
        "deliveries_per_s",
        "gas_single",
    ] {
        assert!(figures[figure].as_f64().unwrap() > 0.0, "{figures}");
    }
}

#[test]
fn the_bench_of_isolation_measures_regions_beside_their_limits() {
    let run = cryptlet()
        .args(["bench", "isolation", "--json"])
        .args(["--regions", "10", "--calls", "20"])
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{errors}");
    let measured: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    for figure in [
        "fresh_region_p50_ms",
        "call_p50_us",
        "in_process_call_p50_us",
        "fresh_calls_per_s",
        "in_process_fresh_calls_per_s",
        "wasmtime_fresh_calls_per_s",
        "idle_rss_mib",
    ] {
        let value = measured[figure].as_f64();
        assert!(value.is_some_and(|value| value > 0.0), "{figure}: {text}");
    }
}
