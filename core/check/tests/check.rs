//! Real components, written ones, and bytes of every kind.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cryptlet_check::{Check, Place, Severity, Verdict, check};
use cryptlet_types::manifest::ManifestConfig;
use proptest::prelude::*;
use std::time::{Duration, Instant};

const MARKET_WATCHER: &[u8] = include_bytes!("../../../cryptlets/dist/market-watcher.wasm");
const HOSTILE: &[u8] = include_bytes!("../../../cryptlets/dist/hostile.wasm");

fn config(imports: &[&str], egress: &[&str]) -> ManifestConfig {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    ManifestConfig {
        imports: owned(imports),
        egress: owned(egress),
        ..ManifestConfig::default()
    }
}

fn codes(check: &Check) -> Vec<&'static str> {
    check.findings.iter().map(|finding| finding.code).collect()
}

/// A component around one core module, which exports nothing of the world.
fn around(module: &str) -> Check {
    let text = format!("(component (core module $m {module}) (core instance (instantiate $m)))");
    check(&wat::parse_str(text).unwrap(), &ManifestConfig::default())
}

#[test]
fn the_market_watcher_is_deterministic_and_does_what_it_declares() {
    let found = check(
        MARKET_WATCHER,
        &config(&["http"], &["rates.bletchley.example:443"]),
    );
    assert_eq!(found.findings, []);
    assert_eq!(
        (found.verdict, found.imports.as_slice()),
        (Verdict::Deterministic, ["http".to_owned()].as_slice())
    );
    assert!(found.is_accepted() && found.reasons.is_empty());
}

#[test]
fn imports_and_manifest_must_agree() {
    let found = check(
        MARKET_WATCHER,
        &config(&[], &["rates.bletchley.example:443"]),
    );
    assert_eq!(codes(&found), ["import-undeclared"]);
    assert_eq!(
        found.findings[0].place,
        Place::Manifest("config.imports".into())
    );
    assert!(!found.is_accepted());

    let found = check(MARKET_WATCHER, &config(&["http", "log", "clock"], &[]));
    assert_eq!(
        codes(&found),
        ["import-unused", "import-unknown", "egress-empty"]
    );
    assert_eq!(found.errors().count(), 1);
}

#[test]
fn what_depends_on_the_machine_is_named_with_its_place() {
    let cases = [
        ("(memory 1 1 shared)", "shared memory"),
        (
            "(memory 1) (func (drop (i32.atomic.rmw.add (i32.const 0) (i32.const 1))))",
            "threads",
        ),
        (
            "(func (param v128 v128) (drop (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 0))))",
            "relaxed_simd",
        ),
        ("(memory i64 1)", "profile"),
        ("(memory 1) (memory 1)", "profile"),
        ("(tag)", "profile"),
    ];
    for (module, reason) in cases {
        let found = around(module);
        assert_eq!(found.verdict, Verdict::NotDeterministic, "{module}");
        let named = found
            .reasons
            .iter()
            .any(|why| why.message.contains(reason) && why.offset > 0);
        assert!(named, "{module}: {:?}", found.reasons);
        assert!(codes(&found).contains(&"not-deterministic"), "{module}");
    }
}

#[test]
fn no_number_of_warnings_hides_an_error() {
    let quiet = "(core module (func $f) (start $f))".repeat(200);
    let text = format!(r#"(component {quiet} (import "wasi:clocks/wall-clock@0.2.0" (instance)))"#);
    let found = check(&wat::parse_str(text).unwrap(), &ManifestConfig::default());
    let of = |severity| {
        let same = |finding: &&cryptlet_check::Finding| finding.severity == severity;
        found.findings.iter().filter(same).count()
    };
    assert_eq!((of(Severity::Warning), of(Severity::Error)), (64, 3));
    assert_eq!(found.errors().count(), 3);
    assert!(!found.is_accepted());
}

#[test]
fn floats_need_canonical_nans() {
    let found = around("(func (param f64) (result f64) (f64.div (local.get 0) (f64.const 3)))");
    assert_eq!(found.verdict, Verdict::CanonicalNan);
    assert_eq!(found.reasons.len(), 1);
    let moved =
        around("(func (param f64) (result i64) (i64.reinterpret_f64 (f64.abs (local.get 0))))");
    assert_eq!(moved.verdict, Verdict::Deterministic);
}

#[test]
fn the_world_s_functions_are_required_with_their_types() {
    let found = around("(func)");
    assert_eq!(codes(&found), ["export-missing", "export-missing"]);

    let text = r#"(component
        (core module $m (func (export "f") (result i32) (i32.const 0)))
        (core instance $i (instantiate $m))
        (func $f (result u32) (canon lift (core func $i "f")))
        (export "describe" (func $f)))"#;
    let found = check(&wat::parse_str(text).unwrap(), &ManifestConfig::default());
    assert_eq!(codes(&found), ["export-type", "export-missing"]);
    assert!(
        found.findings[0]
            .message
            .contains("func() -> u32, not func() -> string")
    );
}

#[test]
fn imports_of_the_system_are_refused_with_what_they_would_give() {
    let cases = [
        ("wasi:clocks/wall-clock@0.2.0", "reads a clock"),
        ("wasi:random/random@0.2.0", "reads randomness"),
        ("bletchley:cryptlet/files@0.2.0", "none of ours"),
        ("bletchley:cryptlet/http@0.3.0", "none of ours"),
    ];
    for (name, reason) in cases {
        let text = format!(r#"(component (import "{name}" (instance)))"#);
        let found = check(&wat::parse_str(text).unwrap(), &ManifestConfig::default());
        assert_eq!(found.verdict, Verdict::NotDeterministic);
        let finding = found
            .findings
            .iter()
            .find(|finding| finding.message.contains(reason));
        let finding = finding.unwrap_or_else(|| panic!("{name}: {:?}", found.findings));
        assert!(matches!(finding.place, Place::Offset(offset) if offset > 0));
    }
    // The container has no resource to give, by whatever name.
    let resources = [
        r#"(component (import "token" (type (sub resource))))"#,
        r#"(component (import "bletchley:cryptlet/types@0.2.0" (instance (export "token" (type (sub resource))))))"#,
    ];
    for (text, code) in resources.iter().zip(["not-deterministic", "import-type"]) {
        let found = check(&wat::parse_str(text).unwrap(), &ManifestConfig::default());
        assert!(
            codes(&found).contains(&code),
            "{text}: {:?}",
            found.findings
        );
    }
    let plain = r#"(component (type $t (record (field "a" u8))) (import "t" (type (eq $t))))"#;
    let found = check(&wat::parse_str(plain).unwrap(), &ManifestConfig::default());
    assert_eq!(codes(&found), ["export-missing", "export-missing"]);
    let text = r#"(component (import "bletchley:cryptlet/log@0.2.0" (instance (export "write" (func)) (export "read" (func)))))"#;
    let found = check(&wat::parse_str(text).unwrap(), &config(&["log"], &[]));
    assert_eq!(
        codes(&found),
        [
            "import-type",
            "import-type",
            "export-missing",
            "export-missing"
        ]
    );
}

#[test]
fn limits_are_compared_with_what_it_needs_to_begin_with() {
    let small = ManifestConfig {
        limits: cryptlet_types::Limits {
            memory_bytes: 1 << 16,
            ..Default::default()
        },
        ..config(&["http"], &["rates.bletchley.example:443"])
    };
    let found = check(MARKET_WATCHER, &small);
    assert_eq!(codes(&found), ["memory"]);
    assert_eq!(
        found.findings[0].place,
        Place::Manifest("config.limits.memoryBytes".into())
    );

    assert!(codes(&around("(table 100001 funcref)")).contains(&"table-too-large"));
    let start = around("(func $f) (start $f)");
    let warned = start
        .findings
        .iter()
        .find(|finding| finding.code == "start-function")
        .unwrap();
    assert_eq!(warned.severity, Severity::Warning);
}

fn written(text: &str) -> Check {
    check(&wat::parse_str(text).unwrap(), &ManifestConfig::default())
}

#[test]
fn every_instance_counts_what_its_module_takes() {
    let copies = |module: &str, count: usize| {
        let instances = "(core instance (instantiate $m))".repeat(count);
        written(&format!(
            "(component (core module $m {module}) {instances})"
        ))
    };
    assert!(!codes(&copies("", 32)).contains(&"too-many-parts"));
    for module in ["", "(memory 1)", "(table 1 funcref)"] {
        assert!(
            codes(&copies(module, 33)).contains(&"too-many-parts"),
            "{module}"
        );
    }
    // Two memories of 1,000 pages each are more than the 64 MiB of the default limits; one is not.
    assert!(!codes(&copies("(memory 1000)", 1)).contains(&"memory"));
    assert!(codes(&copies("(memory 1000)", 2)).contains(&"memory"));
    // A module that nobody instantiates takes nothing.
    assert!(!codes(&copies("(memory 2000)", 0)).contains(&"memory"));
    // Nor is it mistaken for the one behind it.
    let second = written(
        "(component (core module (memory 1)) (core module $m (memory 2000)) (core instance (instantiate $m)))",
    );
    assert!(codes(&second).contains(&"memory"));
}

/// Each instantiates the one before twice: 2^24 instances in a kilobyte.
#[test]
fn nested_components_cannot_multiply() {
    let mut text = String::from(
        "(component $c0 (core module $m (memory 1)) (core instance (instantiate $m)))",
    );
    for level in 1..=24 {
        let below = level - 1;
        text = format!(
            "(component $c{level} {text} (instance (instantiate $c{below})) (instance (instantiate $c{below})))"
        );
    }
    let found = written(&text);
    let why = found
        .errors()
        .find(|finding| finding.code == "nested-instances");
    let why = why.unwrap_or_else(|| panic!("{:?}", found.findings));
    // All but the outermost two, and the module's instance.
    assert!(why.message.contains("47 times"), "{}", why.message);
    assert!(matches!(why.place, Place::Offset(offset) if offset > 0));
}

#[test]
fn what_nested_components_may_do_is_what_cannot_be_missed() {
    let copies = |count| {
        let instances = "(instance (instantiate $c))".repeat(count);
        written(&format!("(component (component $c) {instances})"))
    };
    assert_eq!(codes(&copies(32)), ["export-missing", "export-missing"]);
    assert!(codes(&copies(33)).contains(&"too-many-parts"));
    let refused = [
        // An instance in a nested component that is instantiated again and again.
        "(component (component $c (core module $m) (core instance (instantiate $m))))",
        // A module that hides in a nested component until it is counted as another.
        r#"(component (component $c (core module $m (memory 2000)) (export "m" (core module $m)))
            (instance $i (instantiate $c)) (alias export $i "m" (core module $n))
            (core instance (instantiate $n)))"#,
        "(component $top (core module $m (memory 2000)) (component (alias outer $top $m (core module $n))))",
    ];
    for text in refused {
        let found = written(text);
        assert!(
            codes(&found).contains(&"nested-instances"),
            "{text}: {:?}",
            found.findings
        );
    }
}

#[test]
fn what_is_no_component_is_said_to_be_none() {
    let module = wat::parse_str("(module)").unwrap();
    for bytes in [module.as_slice(), b"", b"\0asm", b"<html>"] {
        let found = check(bytes, &ManifestConfig::default());
        assert_eq!(
            (codes(&found), found.verdict),
            (vec!["not-a-component"], Verdict::NotDeterministic)
        );
    }
    let huge = vec![0; (16 << 20) + 1];
    assert_eq!(
        codes(&check(&huge, &ManifestConfig::default())),
        ["too-large"]
    );
}

/// Nearly as many functions as a type may describe, each longer than what is written out.
#[test]
fn an_import_with_as_many_functions_as_fit_takes_no_time() {
    let fields: String = (0..400)
        .map(|n| format!("(field \"field-{n}\" u64)"))
        .collect();
    let functions: String = (0..2_000)
        .map(|n| format!("(export \"f{n}\" (func (type $f)))"))
        .collect();
    let text = format!(
        r#"(component (import "bletchley:cryptlet/log@0.2.0" (instance (type $r (record {fields}))
            (export "r" (type $e (eq $r))) (type $f (func (param "r" $e))) {functions})))"#
    );
    let bytes = wat::parse_str(text).unwrap();
    let started = Instant::now();
    let found = check(&bytes, &ManifestConfig::default());
    assert_eq!(found.findings.len(), 64);
    assert!(started.elapsed() < Duration::from_secs(2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..4000), magic in any::<bool>()) {
        if magic {
            bytes.splice(0..0, *b"\0asm\x0d\0\x01\0");
        }
        let _ = check(&bytes, &ManifestConfig::default());
    }

    #[test]
    fn altered_components_never_panic(
        hostile in any::<bool>(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = if hostile { HOSTILE.to_vec() } else { MARKET_WATCHER.to_vec() };
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let _ = check(&bytes, &ManifestConfig::default());
    }
}
