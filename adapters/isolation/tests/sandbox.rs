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

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities, set_no_new_privs};
use std::{
    collections::BTreeSet,
    fs, io,
    path::Path,
    process::{Command, Stdio},
    thread,
};
use support::{
    HOSTILE, Setup, behave,
    process::{newest_loaded, newest_region},
    said,
};

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
    // What it is a copy of has kept what gives regions their namespaces, at most.
    let (all, needed) = (status(newest_loaded(), "CapPrm"), 1_u64 << 21);
    assert_eq!(u64::from_str_radix(&all, 16).unwrap() & !needed, 0, "{all}");
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

/// None would be named where none was tried.
#[tokio::test]
async fn what_the_system_grants_is_taken() {
    let region = Setup::new(HOSTILE).ready().await;
    let controls = &region.statement().controls;
    let named = |name: &str| controls.iter().any(|control| control == name);
    // Beside `--pid` stands `--fork`: who leaves that namespace stays in the old one, and its children do not.
    let flags = "--user --net --ipc --uts --mount --pid --fork true".split(' ');
    let granted = Command::new("unshare").args(flags).output();
    if granted.is_ok_and(|output| output.status.success()) {
        for kind in ["user", "network", "ipc", "uts", "mount", "pid"] {
            let control = format!("{kind}-namespace");
            assert!(named(&control), "{control} is not among {controls:?}");
        }
    } else {
        eprintln!("skipped: no namespaces are granted here, or there is no `unshare` to tell");
    }
    if landlock_version() > 0 {
        assert!(
            named("landlock") || named("landlock-partial"),
            "{controls:?}"
        );
    } else {
        eprintln!("skipped: this kernel has no landlock");
    }
}

/// Which version of landlock the kernel has; below 1, it has none.
#[allow(
    unsafe_code,
    reason = "no safe interface to landlock_create_ruleset(2)"
)]
fn landlock_version() -> i64 {
    const VERSION: u32 = 1;
    let nothing = std::ptr::null::<u8>();
    // SAFETY: with this flag the call takes no attributes, and makes nothing.
    unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0_usize, VERSION) }
}

#[tokio::test]
async fn a_regions_limits_are_what_they_are_said_to_be() {
    let region = Setup::new(HOSTILE).ready().await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", newest_region())).unwrap();
    for (name, most) in [
        ("Max core file size", 0_u64),
        ("Max file size", 0),
        ("Max locked memory", 0),
        ("Max open files", 0),
        ("Max address space", 256 << 30),
        ("Max data size", 3 << 30),
    ] {
        let line = limits.lines().find_map(|line| line.strip_prefix(name));
        let found: Vec<_> = line.unwrap().split_whitespace().take(2).collect();
        let most = most.to_string();
        assert_eq!(found, [&most, &most], "{name}");
    }
    drop(region);
}

/// Root looks into everything by its capabilities. Without them it is like any user towards a process of the same user.
#[tokio::test]
async fn whoever_has_no_power_over_others_does_not_look_into_a_region() {
    let region = Setup::new(HOSTILE).ready().await;
    let pid = newest_region();
    let looking = thread::spawn(move || {
        let none = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        set_capabilities(None, none).unwrap();
        // Or a program that root starts would have them again.
        set_no_new_privs(true).unwrap();
        let look = |pid: u32| fs::read(format!("/proc/{pid}/environ")).map(|bytes| bytes.len());
        let mut other = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let looked = (look(other.id()), look(pid));
        drop(other.stdin.take());
        other.wait().unwrap();
        looked
    });
    let (other, own) = looking.join().unwrap();
    assert!(
        other.is_ok(),
        "not even into a program of its own: {other:?}"
    );
    let refused = own.unwrap_err().kind();
    assert_eq!(refused, io::ErrorKind::PermissionDenied);
    drop(region);
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
