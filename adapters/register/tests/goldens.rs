//! Every golden manifest and policy is read as its folder says, and the schema speaks of the same fields.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

use cryptlet_types::{Manifest, Policy, manifest::DocumentError};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path)
}

/// The JSON files of a folder, ordered; there must be some.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(project(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{folder} is empty");
    files
}

/// Reads all of `kind` with `read`, which gives back the bytes that it writes.
fn check(kind: &str, read: impl Fn(&[u8]) -> Result<Vec<u8>, DocumentError>) {
    for path in files(&format!("vectors/{kind}/valid")) {
        let written = read(&fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(
            read(&written).unwrap(),
            written,
            "{}: what is written is read back",
            path.display()
        );
    }
    for path in files(&format!("vectors/{kind}/invalid")) {
        let words = fs::read_to_string(path.with_extension("error")).unwrap();
        let error = match read(&fs::read(&path).unwrap()) {
            Ok(_) => panic!("{} was accepted", path.display()),
            Err(error) => error.to_string(),
        };
        assert!(
            !words.trim().is_empty() && error.contains(words.trim()),
            "{}: {error:?} does not say {words:?}",
            path.display()
        );
    }
}

#[test]
fn manifests() {
    check("manifest", |bytes| Manifest::from_json(bytes)?.to_json());
}

#[test]
fn policies() {
    check("policy", |bytes| Policy::from_json(bytes)?.to_json());
}

fn names(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// The schema's objects have exactly the fields that the type writes, and are closed.
#[test]
fn the_schema_has_the_fields_of_the_type() {
    let schema = fs::read(project("docs/schema/manifest.schema.json")).unwrap();
    let schema: Value = serde_json::from_slice(&schema).unwrap();
    let full = fs::read(project("vectors/manifest/valid/full.json")).unwrap();
    let written = Manifest::from_json(&full).unwrap().to_json().unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(schema["title"], "Cryptlet Schema");
    for (place, example) in [("", ""), ("/properties/config", "/config")]
        .into_iter()
        .chain([("/properties/config/properties/limits", "/config/limits")])
    {
        let object = schema.pointer(place).unwrap();
        assert_eq!(object["additionalProperties"], false, "{place}");
        let example = written.pointer(example).unwrap();
        assert_eq!(names(&object["properties"]), names(example), "{place}");
        for field in object["required"].as_array().unwrap() {
            let mut without = written.clone();
            let target = match place {
                "" => &mut without,
                "/properties/config" => &mut without["config"],
                _ => &mut without["config"]["limits"],
            };
            target
                .as_object_mut()
                .unwrap()
                .remove(field.as_str().unwrap());
            let error = Manifest::from_json(&serde_json::to_vec(&without).unwrap()).unwrap_err();
            assert!(
                error.to_string().contains(field.as_str().unwrap()),
                "{error}"
            );
        }
    }
}
