//! The content store on disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

mod support;

use alloy_primitives::{B256, Bytes, hex};
use cryptlet_register::{PackageStore, RegisterError, source};
use cryptlet_seal::{package::PackageFiles, sha256};
use cryptlet_types::{Sha256Digest, region::Package};
use proptest::prelude::*;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};
use support::ROOM;

/// A package with source: `fn main() {}` in one file.
fn files(code: &[u8]) -> PackageFiles {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("main.rs"), "fn main() {}").unwrap();
    let packed = source::pack(folder.path()).unwrap().bytes;
    support::files(code, Some(&packed))
}

fn open(folder: &Path) -> PackageStore {
    PackageStore::open(folder, ROOM).unwrap()
}

/// Every file of a package.
fn blobs(files: &PackageFiles) -> [&Bytes; 5] {
    let package = &files.package;
    let source = files.source.as_ref().unwrap();
    [
        &package.index,
        &package.manifest,
        &package.code,
        &files.header,
        source,
    ]
}

fn blob(folder: &Path, bytes: &[u8]) -> PathBuf {
    let name = hex::encode(sha256(bytes).0);
    folder.join("blobs/sha256").join(name)
}

#[test]
fn a_package_comes_back_as_it_was_put() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let (one, two) = (files(b"one"), support::files(b"two", None));
    let digest = store.put(&one).unwrap();
    assert_eq!(digest, sha256(&one.package.index));
    assert_eq!(
        store.put(&one).unwrap(),
        digest,
        "once more changes nothing"
    );
    let second = store.put(&two).unwrap();
    let reopened = open(folder.path());
    assert_eq!(reopened.get(digest).unwrap(), one.package);
    assert_eq!(reopened.header(digest).unwrap(), one.header);
    assert_eq!(reopened.source(digest).unwrap(), one.source);
    assert_eq!(reopened.files(digest).unwrap(), one);
    assert_eq!(reopened.files(second).unwrap(), two);
    assert_eq!(reopened.list().unwrap(), [digest, second]);
    let unknown = Sha256Digest(B256::ZERO);
    for error in [
        store.get(unknown).unwrap_err(),
        store.header(unknown).unwrap_err(),
    ] {
        assert!(matches!(error, RegisterError::UnknownPackage(_)), "{error}");
    }
}

#[test]
fn the_folder_is_an_oci_image_layout() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(b"code");
    open(folder.path()).put(&files).unwrap();
    let json = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(folder.path().join(name)).unwrap()).unwrap()
    };
    assert_eq!(json("oci-layout")["imageLayoutVersion"], "1.0.0");
    let index = json("index.json");
    assert_eq!(index["schemaVersion"], 2);
    let entry = &index["manifests"][0];
    assert_eq!(
        entry["mediaType"],
        "application/vnd.oci.image.manifest.v1+json"
    );
    assert_eq!(entry["size"], files.package.index.len());
    let digest = entry["digest"].as_str().unwrap().strip_prefix("sha256:");
    assert_eq!(digest.unwrap(), hex::encode(sha256(&files.package.index).0));
    for bytes in blobs(&files) {
        assert_eq!(&fs::read(blob(folder.path(), bytes)).unwrap(), bytes);
    }
}

#[test]
fn entries_and_annotations_of_other_tools_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let foreign = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "digest":"sha256:00","size":1,"annotations":{"org.opencontainers.image.ref.name":"base"}}]}"#;
    fs::write(folder.path().join("index.json"), foreign).unwrap();
    let digest = store.put(&files(b"code")).unwrap();
    assert_eq!(store.list().unwrap(), [digest]);
    assert_eq!(store.sweep().unwrap(), 0, "what they name is not known");
    let index: Value =
        serde_json::from_slice(&fs::read(folder.path().join("index.json")).unwrap()).unwrap();
    let name = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    assert_eq!(name, "base");
}

#[test]
fn altered_files_are_refused_and_put_right_by_putting_again() {
    let files = files(b"code");
    for bytes in blobs(&files) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        let digest = store.put(&files).unwrap();
        let path = blob(folder.path(), bytes);
        let mut altered = bytes.to_vec();
        altered[0] ^= 1;
        for content in [
            altered,
            b"longer than anything that was there before".repeat(99),
        ] {
            fs::write(&path, content).unwrap();
            let error = store.files(digest).unwrap_err();
            assert!(!error.is_retryable(), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(store.files(digest).is_err());
        fs::write(&path, "garbage").unwrap();
        store.put(&files).unwrap();
        assert_eq!(store.files(digest).unwrap(), files);
    }
}

#[test]
fn a_package_that_does_not_hold_together_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let good = files(b"code");
    let evil = Bytes::from_static(b"evil");
    let code = PackageFiles {
        package: Package {
            code: evil.clone(),
            ..good.package.clone()
        },
        ..good.clone()
    };
    let header = PackageFiles {
        header: evil.clone(),
        ..good.clone()
    };
    let source = PackageFiles {
        source: Some(evil.clone()),
        ..good.clone()
    };
    for (swapped, what) in [(code, "code"), (header, "header"), (source, "source")] {
        let error = store.put(&swapped).unwrap_err().to_string();
        assert!(
            error.contains(&format!("{what}: digest does not match")),
            "{error}"
        );
    }
    assert_eq!(store.list().unwrap(), []);
    assert_eq!(store.used().unwrap(), 0);
    assert!(!blob(folder.path(), &evil).exists());
}

#[test]
fn a_source_that_is_no_archive_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let error = store
        .put(&support::files(b"code", Some(b"no archive")))
        .unwrap_err();
    assert!(matches!(error, RegisterError::Source { .. }), "{error}");
    assert_eq!(store.used().unwrap(), 0);
}

#[test]
fn a_store_that_is_full_says_so_and_keeps_what_it_has() {
    let folder = tempfile::tempdir().unwrap();
    let (small, large) = (files(b"small"), files(&[7; 50_000]));
    let size = |files: &PackageFiles| {
        blobs(files)
            .iter()
            .map(|bytes| bytes.len() as u64)
            .sum::<u64>()
    };
    let quota = size(&small) + 49_999;
    let store = PackageStore::open(folder.path(), quota).unwrap();
    let digest = store.put(&small).unwrap();
    assert_eq!(store.used().unwrap(), size(&small));
    let error = store.put(&large).unwrap_err();
    assert!(
        matches!(error, RegisterError::StoreFull { quota: said, used, .. } if said == quota && used == size(&small)),
        "{error}"
    );
    assert_eq!(store.used().unwrap(), size(&small));
    assert_eq!(
        store.put(&small).unwrap(),
        digest,
        "what is there needs no room"
    );
    PackageStore::open(folder.path(), ROOM)
        .unwrap()
        .put(&large)
        .unwrap();
    let nothing = PackageStore::open(&folder.path().join("none"), 0).unwrap();
    assert!(matches!(
        nothing.put(&small),
        Err(RegisterError::StoreFull { .. })
    ));
}

#[test]
fn a_list_that_is_full_stays_readable() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let known = store.put(&files(b"known")).unwrap();
    let path = folder.path().join("index.json");
    let mut index: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let filler = "x".repeat((8 << 20) - 1_500);
    index["manifests"][0]["annotations"] = serde_json::json!({ "filler": filler });
    fs::write(&path, serde_json::to_vec_pretty(&index).unwrap()).unwrap();
    let error = (0_u8..9).find_map(|number| store.put(&files(&[number])).err());
    let error = error.expect("it never was full");
    assert!(
        matches!(error, RegisterError::TooManyPackages { packages } if packages > 0),
        "{error}"
    );
    assert_eq!(store.list().unwrap().first(), Some(&known));
    assert_eq!(store.put(&files(b"known")).unwrap(), known);
    assert!(store.has(known) && !store.has(Sha256Digest(B256::ZERO)));
}

#[test]
fn what_no_package_names_is_swept_away() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let files = files(b"code");
    let digest = store.put(&files).unwrap();
    assert_eq!(store.sweep().unwrap(), 0);
    fs::write(blob(folder.path(), b"left behind"), "left behind").unwrap();
    fs::write(folder.path().join("blobs/sha256/00.1.0.new"), "half").unwrap();
    assert_eq!(store.sweep().unwrap(), 15);
    assert_eq!(store.files(digest).unwrap(), files);

    fs::write(blob(folder.path(), b"left behind"), "left behind").unwrap();
    fs::write(blob(folder.path(), &files.package.index), "damaged").unwrap();
    assert!(
        store.sweep().is_err(),
        "what a damaged package names is not known"
    );
    assert!(blob(folder.path(), b"left behind").exists());
}

#[test]
fn an_image_manifest_cannot_name_files_outside() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    fs::write(folder.path().join("secret"), "secret").unwrap();
    let good = String::from_utf8(files(b"code").package.index.to_vec()).unwrap();
    let (before, rest) = good.split_once("sha256:").unwrap();
    let (_, after) = rest.split_at(64);
    for name in [
        "sha256:../../secret",
        "../../secret",
        "sha256:",
        "sha512:00",
    ] {
        let index = format!("{before}{name}{after}");
        fs::write(blob(folder.path(), index.as_bytes()), &index).unwrap();
        let error = store.get(sha256(index.as_bytes())).unwrap_err();
        assert!(error.to_string().contains("64 hex digits"), "{error}");
    }
}

#[test]
fn oversized_blobs_are_not_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path());
    let files = files(b"code");
    let digest = store.put(&files).unwrap();
    let huge = fs::File::create(blob(folder.path(), &files.package.code)).unwrap();
    huge.set_len(1 << 34).unwrap();
    let error = store.get(digest).unwrap_err();
    assert!(matches!(error, RegisterError::TooLarge { .. }), "{error}");
}

#[test]
fn publishers_at_the_same_time_lose_nothing() {
    let folder = tempfile::tempdir().unwrap();
    thread::scope(|scope| {
        for n in 0..8u8 {
            let folder = folder.path();
            scope.spawn(move || {
                let store = open(folder);
                for m in 0..4u8 {
                    store.put(&support::files(&[n, m], None)).unwrap();
                }
            });
        }
    });
    let store = open(folder.path());
    let digests = store.list().unwrap();
    assert_eq!(digests.len(), 32);
    for digest in digests {
        store.get(digest).unwrap();
    }
}

proptest! {
    #[test]
    fn arbitrary_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let store = open(folder.path());
        fs::write(folder.path().join("index.json"), &bytes).unwrap();
        prop_assert!(store.list().is_err());
        fs::write(blob(folder.path(), &bytes), &bytes).unwrap();
        prop_assert!(store.get(sha256(&bytes)).is_err());
        fs::write(folder.path().join("oci-layout"), &bytes).unwrap();
        prop_assert!(PackageStore::open(folder.path(), ROOM).is_err());
    }
}
