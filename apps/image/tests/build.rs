//! Whole images, of a small kernel and of real programs.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cryptlet_image::{ImageDescriptor, Linking, Parts, SnpMachine, nitro, snp, tdx};
use cryptlet_seal::sha256;
use cryptlet_types::{Provider, policy::ImageRule};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};
use tempfile::TempDir;

const MACHINE: SnpMachine = SnpMachine {
    processors: 2,
    signature: 0x0080_0f12,
    features: 1,
};

/// What looks like a kernel as far as anything here looks.
fn kernel() -> Vec<u8> {
    let mut kernel = vec![0x90; 0x1000];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel
}

/// The smallest program for x86-64 that is linked statically: a header of ELF, and nothing to load.
fn program() -> Vec<u8> {
    let mut program = vec![0; 64];
    program[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    program[16..20].copy_from_slice(&[2, 0, 62, 0]); // an executable, x86-64
    program[20] = 1; // version
    program[52] = 64; // size of this header
    program[54] = 56; // size of a program header, of which there are none
    program
}

fn firmware() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ovmf_AmdSev_suffix.bin")
}

fn parts(folder: &TempDir) -> Parts {
    let path = |name: &str| folder.path().join(name);
    fs::write(path("bzImage"), kernel()).unwrap();
    fs::write(path("container"), program()).unwrap();
    Parts {
        kernel: path("bzImage"),
        cmdline: "console=ttyS0 panic=-1".into(),
        modules: Vec::new(),
        container: path("container"),
        linking: Linking::Static,
    }
}

/// Every kind of image of these parts, each in a folder of its own.
fn all(parts: &Parts, into: &Path) -> [ImageDescriptor; 3] {
    [
        nitro(parts, &into.join("nitro")).unwrap(),
        snp(parts, &firmware(), MACHINE, &into.join("snp")).unwrap(),
        tdx(parts, &into.join("tdx")).unwrap(),
    ]
}

fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

fn relative(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    files(folder)
        .into_iter()
        .map(|(path, bytes)| (path.strip_prefix(folder).unwrap().to_owned(), bytes))
        .collect()
}

#[test]
fn the_same_inputs_make_the_same_bytes_wherever_and_whenever() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (into_one, into_other) = (one.path().join("out"), other.path().join("elsewhere"));
    let first = all(&parts(&one), &into_one);
    let second = all(&parts(&other), &into_other);
    assert_eq!(first, second);
    let (first, second) = (relative(&into_one), relative(&into_other));
    assert_eq!(first.len(), 2 + 5 + 4);
    assert!(first == second, "bytes differ");
}

#[test]
fn descriptors_are_golden_and_say_what_lies_beside_them() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("out");
    for (descriptor, name) in all(&parts(&folder), &into)
        .iter()
        .zip(["nitro", "snp", "tdx"])
    {
        let json = fs::read(into.join(name).join("image.json")).unwrap();
        assert_eq!(ImageDescriptor::from_json(&json).unwrap(), *descriptor);
        insta::assert_snapshot!(name, String::from_utf8(json).unwrap());
        assert_eq!(descriptor.container, sha256(&program()));
        for file in &descriptor.files {
            let bytes = fs::read(into.join(name).join(&file.name)).unwrap();
            assert_eq!(
                (file.size, file.sha256),
                (bytes.len() as u64, sha256(&bytes))
            );
        }
    }
}

#[test]
fn a_policy_can_name_what_was_predicted_and_only_that() {
    let folder = tempfile::tempdir().unwrap();
    let [nitro, snp, tdx] = all(&parts(&folder), &folder.path().join("out"));
    let names = |rule: Option<ImageRule>| {
        rule.map(|rule| {
            (
                rule.provider,
                rule.registers.into_keys().collect::<Vec<_>>(),
            )
        })
    };
    let pcrs = ["pcr0", "pcr1", "pcr2"].map(String::from).to_vec();
    assert_eq!(names(nitro.rule()), Some((Provider::Nitro, pcrs)));
    let measurement = vec!["measurement".to_owned()];
    assert_eq!(names(snp.rule()), Some((Provider::SevSnp, measurement)));
    assert_eq!(names(tdx.rule()), None);
    assert_eq!(tdx.not_predicted.len(), 5);
}

#[test]
fn another_container_is_another_image() {
    let folder = tempfile::tempdir().unwrap();
    let parts = parts(&folder);
    let before = all(&parts, &folder.path().join("before"));
    let mut other = program();
    other.push(0);
    fs::write(&parts.container, other).unwrap();
    let after = all(&parts, &folder.path().join("after"));
    for (before, after) in before.iter().zip(&after) {
        assert_ne!(before.container, after.container);
    }
    let register = |image: &ImageDescriptor, name: &str| image.registers[name].clone();
    assert_ne!(register(&before[0], "pcr0"), register(&after[0], "pcr0"));
    assert_eq!(register(&before[0], "pcr1"), register(&after[0], "pcr1"));
    assert_ne!(register(&before[0], "pcr2"), register(&after[0], "pcr2"));
    assert_ne!(
        register(&before[1], "measurement"),
        register(&after[1], "measurement")
    );
}

#[test]
fn what_cannot_boot_is_refused_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let good = parts(&folder);
    let into = folder.path().join("out");
    let refused = |parts: &Parts| nitro(parts, &into).unwrap_err().to_string();
    let itself = good.container.clone();
    let kernel = refused(&Parts {
        kernel: itself,
        ..good.clone()
    });
    assert!(kernel.contains("is no bzImage"), "{kernel}");
    let container = good.kernel.clone();
    let container = refused(&Parts {
        container,
        ..good.clone()
    });
    assert!(
        container.contains("container: is no ELF file"),
        "{container}"
    );
    let dynamic = std::env::current_exe().unwrap();
    let dynamic = refused(&Parts {
        container: dynamic,
        ..good.clone()
    });
    assert!(dynamic.contains("build it statically"), "{dynamic}");
    let kernel = folder.path().join("nowhere");
    let missing = refused(&Parts {
        kernel,
        ..good.clone()
    });
    assert!(missing.contains("nowhere: "), "{missing}");
    let firmware = good.kernel.clone();
    let error = snp(&good, &firmware, MACHINE, &into)
        .unwrap_err()
        .to_string();
    assert!(error.contains("firmware: has no table"), "{error}");
    assert!(!into.exists());
    nitro(&good, &into).unwrap();
    assert!(
        refused(&good).contains("image.eif: "),
        "an image was replaced"
    );
}
