//! An author's walk: new, build, check, test, with the real compiler and the real container.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cryptlet_author::{
    AuthorError, BuildOptions, Built, CaseResult, Checked, Project, build, check, new, test,
};
use cryptlet_check::{Place, Verdict};
use cryptlet_types::manifest::Kind;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Where this test program was built: `TARGET/release/deps/walk-…`.
fn release() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.ancestors().nth(2).unwrap().to_owned()
}

fn container() -> PathBuf {
    let path = release().join("cryptlet-container");
    assert!(
        path.exists(),
        "{} is missing: cargo build --release -p cryptlet-container",
        path.display()
    );
    path
}

/// Builds with a target folder that outlives the test, so that dependencies are compiled once.
fn built(project: &Path) -> Built {
    let options = BuildOptions {
        target_dir: Some(release().with_file_name("author")),
        offline: false,
    };
    let mut lines = Vec::new();
    let built = build(project, &options, &mut |line| lines.push(line.to_owned()));
    built.unwrap_or_else(|error| panic!("{error}\n{}", lines.join("\n")))
}

async fn tested(project: &Path) -> Vec<CaseResult> {
    test(project, &container()).await.unwrap()
}

fn replace(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).unwrap();
    assert!(text.contains(from), "{} has no {from}", file.display());
    fs::write(file, text.replacen(from, to, 1)).unwrap();
}

fn codes(checked: &Checked) -> Vec<&'static str> {
    checked
        .findings
        .iter()
        .map(|finding| finding.code)
        .collect()
}

#[tokio::test]
async fn a_new_project_is_built_checked_and_tested_as_it_stands() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("gold-price");
    new(&project, "gold-price", Kind::Utility).unwrap();
    assert!(matches!(check(&project), Err(AuthorError::NotBuilt(_))));

    let first = built(&project);
    assert_eq!(first.path, project.join("target/cryptlet/gold-price.wasm"));
    assert_eq!(
        usize::try_from(fs::metadata(&first.path).unwrap().len()).unwrap(),
        first.size
    );

    let checked = check(&project).unwrap();
    assert_eq!(checked.findings, []);
    let component = checked.component.as_ref().unwrap();
    assert_eq!(
        (component.verdict, component.imports.as_slice()),
        (
            Verdict::Deterministic,
            ["http".to_owned(), "log".to_owned()].as_slice()
        )
    );
    assert!(checked.is_accepted());

    let results = tested(&project).await;
    let names: Vec<_> = results.iter().map(|result| result.name.as_str()).collect();
    assert_eq!(
        names,
        ["closed-day", "feed-down", "open-day", "unknown-currency"]
    );
    for result in &results {
        assert!(result.passed, "{result:?}");
    }
    assert_eq!(results[2].got, "report (1792108800, 1125300000000000000)");
    assert!(results[2].fuel_used.unwrap() > 0);
    let asked = "info asking https://rates.bletchley.example/?date=2026-10-16";
    assert_eq!(results[2].log, [asked]);
    settings_of_a_case_replace_the_manifest_s(&project).await;

    // In another folder, the same bytes.
    let other = folder.path().join("elsewhere/deeper");
    new(&other, "gold-price", Kind::Utility).unwrap();
    assert_eq!(built(&other).digest, first.digest);

    cases_fail_when_the_world_or_the_code_is_another(&project).await;
    findings_name_their_place(&project);
}

async fn settings_of_a_case_replace_the_manifest_s(project: &Path) {
    let case = fs::read_to_string(project.join("tests/open-day.json")).unwrap();
    let feed =
        "\"settings\": { \"feed\": \"https://rates.bletchley.example/v2/\" },\n  \"responses\"";
    let case = case
        .replace("\"responses\"", feed)
        .replace("example/?date", "example/v2/?date");
    let file = project.join("tests/v2.json");
    fs::write(&file, case).unwrap();
    let results = tested(project).await;
    assert!(
        results
            .iter()
            .any(|result| result.name == "v2" && result.passed),
        "{results:?}"
    );
    fs::remove_file(file).unwrap();
}

async fn cases_fail_when_the_world_or_the_code_is_another(project: &Path) {
    // The recording is altered: the report is another.
    replace(&project.join("tests/2026-10-16.csv"), "1.1253", "1.1254");
    // The recording is of another URL: what is asked for is named.
    replace(
        &project.join("tests/closed-day.json"),
        "?date=2026-10-17",
        "?date=2026-10-18",
    );
    // What the cryptlet says of the missing answer would fit: the case fails all the same.
    let expected = "\"skip\": \"market closed on 2026-10-17\"";
    replace(
        &project.join("tests/closed-day.json"),
        expected,
        "\"unavailable\": \"status 404\"",
    );
    // The expectation is another.
    replace(
        &project.join("tests/feed-down.json"),
        "status 503",
        "status 500",
    );
    // What is expected is of another kind.
    replace(
        &project.join("tests/unknown-currency.json"),
        "\"refuse\"",
        "\"skip\"",
    );
    let results = tested(project).await;
    assert!(results.iter().all(|result| !result.passed), "{results:?}");
    let [closed, down, open, unknown] = results.as_slice() else {
        panic!("{} results", results.len())
    };
    assert_eq!(open.got, "report (1792108800, 1125400000000000000)");
    assert_eq!(open.expected, "report (1792108800, 1125300000000000000)");
    assert_eq!(
        closed.unrecorded,
        ["GET https://rates.bletchley.example/?date=2026-10-17"]
    );
    assert!(closed.got.contains("status 404"), "{}", closed.got);
    assert!(down.got.contains("status 503") && down.fuel_used.is_none());
    assert_eq!(unknown.got, "refuse: no rate for XYZ on 2026-10-16");

    // A place that the manifest does not name cannot be recorded.
    replace(
        &project.join("tests/open-day.json"),
        "rates.bletchley",
        "other.bletchley",
    );
    let error = test(project, &container()).await.unwrap_err();
    assert!(
        error
            .to_string()
            .contains("other.bletchley.example:443 is not in config.egress"),
        "{error}"
    );
}

fn findings_name_their_place(project: &Path) {
    let manifest = project.join("cryptlet.json");
    replace(&manifest, "[\"http\", \"log\"]", "[\"log\", \"clock\"]");
    let checked = check(project).unwrap();
    assert_eq!(codes(&checked), ["import-undeclared", "import-unknown"]);
    assert!(!checked.is_accepted());

    replace(
        &project.join("interface.sol"),
        "uint256 rate) external;",
        "uint256 rate) public;",
    );
    let checked = check(project).unwrap();
    assert_eq!(codes(&checked).first(), Some(&"interface"));
    assert!(
        matches!(
            checked.findings[0].place,
            Place::File {
                name: "interface.sol",
                line: Some(15)
            }
        ),
        "{:?}",
        checked.findings[0]
    );

    replace(
        &manifest,
        "rates.bletchley.example:443",
        "rates.bletchley.example",
    );
    let checked = check(project).unwrap();
    assert_eq!(codes(&checked), ["manifest"]);
    assert_eq!(
        checked.findings[0].place,
        Place::Manifest("config.egress[0]".into())
    );
    assert!(Project::open(project).is_err() && !checked.is_accepted());
}

#[test]
fn code_that_does_not_compile_is_said_with_the_compiler_s_words() {
    let folder = tempfile::tempdir().unwrap();
    let project = folder.path().join("broken");
    new(&project, "broken", Kind::Utility).unwrap();
    replace(&project.join("src/lib.rs"), "date(due)", "dates(due)");
    let options = BuildOptions {
        target_dir: Some(release().with_file_name("author")),
        offline: false,
    };
    let mut lines = Vec::new();
    let error = build(&project, &options, &mut |line| lines.push(line.to_owned())).unwrap_err();
    assert!(matches!(error, AuthorError::Failed { .. }), "{error}");
    assert!(
        lines.join("\n").contains("cannot find function `dates`"),
        "{lines:?}"
    );
    let nowhere = build(folder.path(), &options, &mut |_| {}).unwrap_err();
    assert!(matches!(nowhere, AuthorError::NoProject(_)));
}
