//! The real compiler takes the generated file, and says the same of its interface as we do.
//!
//! solc is an npm package of `contracts/`, so this runs only where `CRYPTLET_CLIENT_TESTS=1` says that packages may be
//! installed; `make test` sets it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests"
)]

use std::{path::Path, process::Command};

fn run(program: &str, folder: &Path, args: &[&str]) {
    let output = Command::new(program)
        .args(args)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program} {args:?}:\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn solc_compiles_the_header_and_gives_the_same_abi() {
    if std::env::var("CRYPTLET_CLIENT_TESTS").as_deref() != Ok("1") {
        eprintln!("skipped: CRYPTLET_CLIENT_TESTS is not 1, so npm packages may not be installed");
        return;
    }
    let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts");
    if !contracts.join("node_modules/solc").exists() {
        run("npm", &contracts, &["ci", "--ignore-scripts"]);
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/solc.mjs");
    run("node", &contracts, &[script.to_str().unwrap()]);
}
