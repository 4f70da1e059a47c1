//! What a running region has, seen from outside: no network, no files, no environment, no way back.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::{collections::BTreeSet, fs, path::Path};
use support::{HOSTILE, Setup, behave, process::newest_region, said};

fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .unwrap();
    line.trim_start_matches(':').trim().to_owned()
}

fn namespace(pid: &str, kind: &str) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

#[tokio::test]
async fn a_region_has_given_up_what_it_says_it_has() {
    let mut region = Setup::new(HOSTILE).ready().await;
    let pid = newest_region();
    let controls: BTreeSet<_> = region.statement().controls.iter().cloned().collect();
    for floor in [
        "descriptors",
        "resource-limits",
        "not-dumpable",
        "no-new-privileges",
        "no-capabilities",
        "empty-environment",
        "ends-with-parent",
        "seccomp-kill",
    ] {
        assert!(
            controls.contains(floor),
            "{floor} is not among {controls:?}"
        );
    }
    assert_eq!(status(pid, "Seccomp"), "2");
    assert_eq!(status(pid, "NoNewPrivs"), "1");
    assert_eq!(status(pid, "CapEff"), "0000000000000000");
    assert_eq!(status(pid, "CapPrm"), "0000000000000000");
    for thread in fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let text = fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        assert!(text.contains("Seccomp:\t2"), "a thread outside the filter");
        assert!(text.contains("CapEff:\t0000000000000000"));
    }
    assert_eq!(said(&region.run(behave("echo", "x")).await.unwrap()), "x");
}

#[tokio::test]
async fn namespaces_that_are_named_are_new() {
    let region = Setup::new(HOSTILE).ready().await;
    let pid = newest_region();
    for (control, kind) in [
        ("user-namespace", "user"),
        ("network-namespace", "net"),
        ("ipc-namespace", "ipc"),
        ("uts-namespace", "uts"),
        ("mount-namespace", "mnt"),
        ("pid-namespace", "pid"),
    ] {
        let named = region
            .statement()
            .controls
            .iter()
            .any(|name| name == control);
        // An ordinary user may not look into a process that is not dumpable.
        if let Some(theirs) = namespace(&pid.to_string(), kind) {
            assert_eq!(named, namespace("self", kind) != Some(theirs), "{control}");
        }
    }
}

#[tokio::test]
async fn a_region_holds_nothing_but_its_stream() {
    let region = Setup::new(HOSTILE).ready().await;
    let pid = newest_region();
    let root = Path::new("/proc").join(pid.to_string());
    // Only root may look into a process that is not dumpable.
    let Ok(descriptors) = fs::read_dir(root.join("fd")) else {
        assert!(fs::read(root.join("environ")).is_err());
        return;
    };
    let mut streams = BTreeSet::new();
    for entry in descriptors {
        let target = fs::read_link(entry.unwrap().path()).unwrap();
        streams.insert(target.to_string_lossy().into_owned());
    }
    assert_eq!(streams.len(), 1, "{streams:?}");
    assert!(streams.iter().all(|target| target.starts_with("socket:")));
    assert_eq!(fs::read(root.join("environ")).unwrap(), b"");
    assert_eq!(
        fs::read(root.join("cmdline")).unwrap(),
        b"cryptlet-container\0"
    );
    drop(region);
}
