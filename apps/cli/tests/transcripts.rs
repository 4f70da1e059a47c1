//! What the command line says, word for word: helps, usage errors, refusals. Goldens lie in `snapshots/`.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "the lint allows these in test functions; helpers of tests are the same"
)]

use assert_cmd::Command;
use std::path::Path;

/// The command, its exit code and everything that it said.
fn transcript(arguments: &[&str]) -> String {
    said(arguments, &mut Command::cargo_bin("cryptlet").unwrap())
}

/// As [`transcript`], run in a folder that also is the user's home; the folder's path is left out.
fn transcript_in(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::cargo_bin("cryptlet").unwrap();
    command.current_dir(folder).env("HOME", folder);
    let folder = folder.display().to_string();
    said(arguments, &mut command).replace(&folder, "[FOLDER]")
}

fn said(arguments: &[&str], command: &mut Command) -> String {
    let run = command
        .args(arguments)
        .env("COLUMNS", "100")
        .env_remove("RUST_LOG")
        .env_remove("CRYPTLET_HOST")
        .env_remove("CRYPTLET_PASSWORD")
        .env_remove("CRYPTLET_APPLICATION_SECRET")
        .env_remove("XDG_STATE_HOME")
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

/// All commands below `command`, itself included, as its helps list them, each with its help.
fn helps_below(command: &str) -> Vec<(String, String)> {
    let words = command.split_whitespace().chain(["--help"]);
    let help = transcript(&words.collect::<Vec<_>>());
    let listed = help.split("\nCommands:\n").nth(1).unwrap_or_default();
    let listed = listed.split("\n\n").next().unwrap_or_default();
    let names = listed.lines().filter_map(|line| {
        let name = line.strip_prefix("  ")?.split_whitespace().next()?;
        (!line.starts_with("   ") && name != "help").then_some(name)
    });
    let below = names.flat_map(|name| helps_below(format!("{command} {name}").trim_start()));
    let mut all: Vec<_> = below.collect();
    all.push((command.to_owned(), help));
    all
}

#[test]
fn helps() {
    let helps = helps_below("");
    assert!(helps.len() > 40, "{}", helps.len());
    for (command, help) in helps {
        let name = format!("help_{}", command.replace(' ', "_"));
        insta::assert_snapshot!(name.trim_end_matches('_'), help);
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
fn runs_to_repeat_that_are_not_named_rightly() {
    let job = format!("0x{}", "11".repeat(32));
    let cases: [&[&str]; 5] = [
        &["replay"],
        &["replay", &job],
        &["replay", "0x12", "--data", "no-folder"],
        &["replay", "--receipt", "receipt.json"],
        &["replay", &job, "--data", "no-folder"],
    ];
    let said: Vec<_> = cases.iter().map(|words| transcript(words)).collect();
    insta::assert_snapshot!("runs_to_repeat", said.join("\n\n"));
}

#[test]
fn usage_errors_of_developers() {
    let id = "0x00000000000000000000000000000000000000a1";
    let cases: [&[&str]; 16] = [
        &["subscribe", "gold-price"],
        &["jobs", "--state", "stuck"],
        &["jobs", "retry", "0x12"],
        &["application", "add", "CRM"],
        &["application", "add", "crm", "--ed25519", "whpk_AAAA"],
        &["application", "rotate", "crm", "--overlap", "9999999"],
        &["application", "send", "crm", "--type", "order.paid"],
        &["show"],
        &["show", "Gold Price"],
        &["search", "g\u{43e}ld"],
        &["import"],
        &["import", "--check", "--accept"],
        &["revoke", "gold-price"],
        &["revoke", "gold-price", "--all", "--signer", id],
        &["publish", "--keystore", "key.json", "--dev-account", "1"],
        &["token", "create", "--role", "king", "--label", "x"],
    ];
    let said: Vec<_> = cases.iter().map(|words| transcript(words)).collect();
    insta::assert_snapshot!("usage_errors_of_developers", said.join("\n\n"));
}

/// What each command says in a folder from which no host is found.
#[test]
fn no_host() {
    let folder = tempfile::tempdir().unwrap();
    let digest = format!("0x{}", "11".repeat(32));
    std::fs::write(folder.path().join("foundry.toml"), "").unwrap();
    std::fs::write(folder.path().join("d.json"), "{}").unwrap();
    let cases: [&[&str]; 34] = [
        &[
            "subscribe",
            "gold-price",
            "--callback",
            "f(uint256)",
            "--every",
            "2h",
        ],
        &[
            "subscribe",
            "gold-price",
            "--callback",
            "f(uint256)",
            "--every",
            "0s",
        ],
        &[
            "subscribe",
            "gold-price",
            "--callback",
            "f(uint256)",
            "--at",
            "2001-01-01T00:00:00Z",
        ],
        &["jobs"],
        &["jobs", "retry", &digest],
        &["application", "add", "crm"],
        &["application", "list"],
        &["application", "remove", "crm"],
        &["application", "rotate", "crm"],
        &["application", "send", "crm", "--data", "d.json"],
        &["status"],
        &["search"],
        &["show", "gold-price"],
        &["explain", "gold-price"],
        &["subscriptions"],
        &["trace"],
        &["trace", &digest],
        &["import", "gold-price"],
        &["import", "--check"],
        &["keys", "list"],
        &["keys", "export-public"],
        &["revoke", "gold-price", "--all"],
        &["policy", "new"],
        &["policy", "show"],
        &["delegation", "sign", "gold-price"],
        &["delegation", "revoke", &digest],
        &["delegation", "submit", "d.json"],
        &["mirror", "gold-price"],
        &["source", "gold-price"],
        &["host", "register"],
        &["policy", "sign", "d.json"],
        &["token", "create", "--role", "reader", "--label", "x"],
        &["token", "list"],
        &["status", "--host-file", "no-connection.json"],
    ];
    let said: Vec<_> = cases
        .iter()
        .map(|words| transcript_in(folder.path(), words))
        .collect();
    insta::assert_snapshot!("no_host", said.join("\n\n"));
}

/// What the author's commands say in a folder without a project.
#[test]
fn no_project() {
    let folder = tempfile::tempdir().unwrap();
    let cases: [&[&str]; 7] = [
        &["build"],
        &["check"],
        &["test"],
        &["publish"],
        &["keys", "rotate", "gold-price"],
        &["import", "gold-price"],
        &["new", "Gold"],
    ];
    let said: Vec<_> = cases
        .iter()
        .map(|words| transcript_in(folder.path(), words))
        .collect();
    insta::assert_snapshot!("no_project", said.join("\n\n"));
}

#[test]
fn completions_cover_every_command_and_option() {
    let script = transcript(&["completions", "bash"]);
    for (command, help) in helps_below("") {
        // The script's word for a subcommand; it writes the hyphen of a name in the same way.
        let name = format!("cryptlet {command}");
        let name = name.trim_end().replace([' ', '-'], "__subcmd__");
        assert!(script.contains(&name), "{command}: {name}");
        let options = help.split_whitespace().filter_map(|word| {
            let word = word.trim_end_matches(|c: char| !c.is_ascii_lowercase());
            word.strip_prefix("--").filter(|rest| !rest.is_empty())
        });
        for option in options {
            assert!(
                script.contains(&format!("--{option}")),
                "{command} --{option}"
            );
        }
    }
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
        "missing_configuration_to_set_up",
        transcript(&["host", "init", "--config", "no-host.json"])
    );
    insta::assert_snapshot!("no_place", transcript(&["dev", "--allow", "api.example"]));
    insta::assert_snapshot!(
        "missing_journal",
        transcript(&["trace", "--data", "no-folder"])
    );
}
