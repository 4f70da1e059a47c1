//! What the command line says, word for word: helps, usage errors, refusals. Goldens lie in `snapshots/`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lint allows these in test functions; helpers of tests are the same"
)]

use assert_cmd::Command;

/// The command, its exit code and everything that it said.
fn transcript(arguments: &[&str]) -> String {
    let run = Command::cargo_bin("cryptlet")
        .unwrap()
        .args(arguments)
        .env("COLUMNS", "100")
        .env_remove("RUST_LOG")
        .output()
        .unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&run.stdout),
        String::from_utf8_lossy(&run.stderr),
    );
    let code = run.status.code().unwrap();
    format!(
        "$ cryptlet {}\n{said}{complained}[exit {code}]",
        arguments.join(" ")
    )
}

#[test]
fn helps() {
    for command in [
        "",
        "demo",
        "node",
        "host",
        "verify",
        "trace",
        "bench",
        "completions",
    ] {
        let words: Vec<&str> = [command, "--help"]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect();
        insta::assert_snapshot!(
            format!("help_{command}").trim_end_matches('_'),
            transcript(&words)
        );
    }
}

#[test]
fn usage_errors() {
    insta::assert_snapshot!("no_command", transcript(&[]));
    insta::assert_snapshot!("unknown_command", transcript(&["demos"]));
    insta::assert_snapshot!("bad_date", transcript(&["demo", "--from", "yesterday"]));
    insta::assert_snapshot!(
        "bad_currency",
        transcript(&["demo", "--pairs", "USD,euros"])
    );
    insta::assert_snapshot!("no_file_to_verify", transcript(&["verify"]));
    insta::assert_snapshot!("bad_job", transcript(&["trace", "0x12"]));
    insta::assert_snapshot!(
        "mining_twice",
        transcript(&["node", "--block-time", "1", "--no-mining"])
    );
}

#[test]
fn refusals() {
    insta::assert_snapshot!(
        "days_the_wrong_way",
        transcript(&["demo", "--from", "2026-10-02", "--to", "2026-10-01"])
    );
    insta::assert_snapshot!(
        "missing_receipt",
        transcript(&["verify", "--trust", "no-trust.json", "no-receipt.json"])
    );
    insta::assert_snapshot!(
        "missing_configuration",
        transcript(&["host", "--config", "no-host.json"])
    );
    insta::assert_snapshot!(
        "missing_journal",
        transcript(&["trace", "--data", "no-folder"])
    );
}
