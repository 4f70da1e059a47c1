//! The content store and the catalog on disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

use alloy_primitives::{Address, B256, Bytes, hex};
use cryptlet_register::{Catalog, Entry, LocalRegister, PackageStore, Register, RegisterError};
use cryptlet_seal::{package::build, sha256};
use cryptlet_types::{
    CryptletId, Limits, Manifest, Sha256Digest, manifest::ManifestConfig, region::Package,
};
use proptest::prelude::*;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

fn package(code: &[u8]) -> Package {
    let config = ManifestConfig {
        description: "d".into(),
        isolation: true,
        limits: Limits::default(),
        egress: vec![],
        settings: Default::default(),
    };
    let manifest = Manifest {
        name: "market-watcher".into(),
        public_key: Address::repeat_byte(1),
        version: "1".into(),
        config,
    };
    build(&manifest, code).unwrap()
}

fn blob(folder: &Path, bytes: &[u8]) -> PathBuf {
    let name = hex::encode(sha256(bytes).0);
    folder.join("blobs/sha256").join(name)
}

fn cryptlet(n: u8) -> CryptletId {
    CryptletId(Address::repeat_byte(n))
}

#[test]
fn a_package_comes_back_as_it_was_put() {
    let folder = tempfile::tempdir().unwrap();
    let store = PackageStore::open(folder.path()).unwrap();
    let (one, two) = (package(b"one"), package(b"two"));
    let digest = store.put(&one).unwrap();
    assert_eq!(digest, sha256(&one.index));
    assert_eq!(
        store.put(&one).unwrap(),
        digest,
        "once more changes nothing"
    );
    let second = store.put(&two).unwrap();
    let reopened = PackageStore::open(folder.path()).unwrap();
    assert_eq!(reopened.get(digest).unwrap(), one);
    assert_eq!(reopened.get(second).unwrap(), two);
    assert_eq!(reopened.list().unwrap(), [digest, second]);
    let unknown = store.get(Sha256Digest(B256::ZERO)).unwrap_err();
    assert!(matches!(unknown, RegisterError::UnknownPackage(_)));
}

#[test]
fn the_folder_is_an_oci_image_layout() {
    let folder = tempfile::tempdir().unwrap();
    let package = package(b"code");
    let store = PackageStore::open(folder.path()).unwrap();
    store.put(&package).unwrap();
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
    assert_eq!(entry["size"], package.index.len());
    let digest = entry["digest"].as_str().unwrap().strip_prefix("sha256:");
    assert_eq!(digest.unwrap(), hex::encode(sha256(&package.index).0));
    for bytes in [&package.index, &package.manifest, &package.code] {
        assert_eq!(&fs::read(blob(folder.path(), bytes)).unwrap(), bytes);
    }
}

#[test]
fn entries_and_annotations_of_other_tools_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = PackageStore::open(folder.path()).unwrap();
    let foreign = r#"{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",
        "digest":"sha256:00","size":1,"annotations":{"org.opencontainers.image.ref.name":"base"}}]}"#;
    fs::write(folder.path().join("index.json"), foreign).unwrap();
    let digest = store.put(&package(b"code")).unwrap();
    assert_eq!(store.list().unwrap(), [digest]);
    let index: Value =
        serde_json::from_slice(&fs::read(folder.path().join("index.json")).unwrap()).unwrap();
    let name = &index["manifests"][0]["annotations"]["org.opencontainers.image.ref.name"];
    assert_eq!(name, "base");
}

#[test]
fn altered_files_are_refused_and_put_right_by_putting_again() {
    let package = package(b"code");
    for bytes in [&package.index, &package.manifest, &package.code] {
        let folder = tempfile::tempdir().unwrap();
        let store = PackageStore::open(folder.path()).unwrap();
        let digest = store.put(&package).unwrap();
        let path = blob(folder.path(), bytes);
        let mut altered = bytes.to_vec();
        altered[0] ^= 1;
        for content in [
            altered,
            b"longer than anything that was there before".repeat(99),
        ] {
            fs::write(&path, content).unwrap();
            let error = store.get(digest).unwrap_err();
            assert!(!error.is_retryable(), "{error}");
        }
        fs::remove_file(&path).unwrap();
        assert!(store.get(digest).is_err());
        fs::write(&path, "garbage").unwrap();
        store.put(&package).unwrap();
        assert_eq!(store.get(digest).unwrap(), package);
    }
}

#[test]
fn a_package_that_does_not_hold_together_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let store = PackageStore::open(folder.path()).unwrap();
    let swapped = Package {
        code: Bytes::from_static(b"evil"),
        ..package(b"code")
    };
    let error = store.put(&swapped).unwrap_err();
    assert!(
        error.to_string().contains("code: digest does not match"),
        "{error}"
    );
    assert_eq!(store.list().unwrap(), []);
    assert!(!blob(folder.path(), b"evil").exists());
}

#[test]
fn an_image_manifest_cannot_name_files_outside() {
    let folder = tempfile::tempdir().unwrap();
    let store = PackageStore::open(folder.path()).unwrap();
    fs::write(folder.path().join("secret"), "secret").unwrap();
    let good = String::from_utf8(package(b"code").index.to_vec()).unwrap();
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
    let store = PackageStore::open(folder.path()).unwrap();
    let package = package(b"code");
    let digest = store.put(&package).unwrap();
    let huge = fs::File::create(blob(folder.path(), &package.code)).unwrap();
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
                let store = PackageStore::open(folder).unwrap();
                for m in 0..4u8 {
                    store.put(&package(&[n, m])).unwrap();
                }
            });
        }
    });
    let store = PackageStore::open(folder.path()).unwrap();
    let digests = store.list().unwrap();
    assert_eq!(digests.len(), 32);
    for digest in digests {
        store.get(digest).unwrap();
    }
}

#[test]
fn the_catalog_names_the_last_package_that_was_published() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(folder.path()).unwrap();
    assert_eq!(catalog.current(cryptlet(1)).unwrap(), None);
    let [one, two] = [1, 2].map(|n| Sha256Digest(B256::repeat_byte(n)));
    for (id, package) in [(2, one), (1, one), (1, two)] {
        catalog.publish(cryptlet(id), package).unwrap();
    }
    let reopened = Catalog::open(folder.path()).unwrap();
    let entry = |id, package| Entry {
        cryptlet: cryptlet(id),
        package,
    };
    assert_eq!(reopened.current(cryptlet(1)).unwrap(), Some(entry(1, two)));
    assert_eq!(reopened.list().unwrap(), [entry(1, two), entry(2, one)]);
}

#[test]
fn a_damaged_catalog_is_an_error_and_not_an_absence() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(folder.path()).unwrap();
    catalog
        .publish(cryptlet(1), Sha256Digest(B256::repeat_byte(1)))
        .unwrap();
    let path = folder.path().join(format!("{}.json", "01".repeat(20)));
    let good = fs::read_to_string(&path).unwrap();
    let cases = [
        (String::new(), "EOF"),
        (good.replace("package", "pakcage"), "pakcage"),
        (good.replace(&"01".repeat(20), &"02".repeat(20)), "is about"),
    ];
    for (text, words) in cases {
        fs::write(&path, text).unwrap();
        let error = catalog.current(cryptlet(1)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
        assert!(catalog.list().is_err());
    }
}

#[tokio::test]
async fn a_register_answers_what_was_published() {
    let folder = tempfile::tempdir().unwrap();
    let register = LocalRegister::open(folder.path()).unwrap();
    let package = package(b"code");
    let digest = register.publish(cryptlet(1), &package).unwrap();
    let register: &dyn Register = &register;
    let entry = register.current(cryptlet(1)).await.unwrap().unwrap();
    assert_eq!(entry.package, digest);
    assert_eq!(register.package(digest).await.unwrap(), package);
    assert_eq!(register.current(cryptlet(2)).await.unwrap(), None);
}

proptest! {
    #[test]
    fn arbitrary_files_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let folder = tempfile::tempdir().unwrap();
        let store = PackageStore::open(folder.path()).unwrap();
        fs::write(folder.path().join("index.json"), &bytes).unwrap();
        prop_assert!(store.list().is_err());
        fs::write(blob(folder.path(), &bytes), &bytes).unwrap();
        prop_assert!(store.get(sha256(&bytes)).is_err());
        fs::write(folder.path().join("oci-layout"), &bytes).unwrap();
        prop_assert!(PackageStore::open(folder.path()).is_err());
    }
}
