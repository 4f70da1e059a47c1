//! Every golden manifest, policy and package is read as its folder says, and by the schemas as by the types.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

use alloy_primitives::Bytes;
use boon::{Compiler, Schemas};
use cryptlet_register::{RegisterError, source::inspect};
use cryptlet_seal::package::{PackageFiles, build, oci_digest, open_files};
use cryptlet_types::{Manifest, policy::SignedPolicy, region::Package};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fmt::Display,
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
fn check<E: Display>(kind: &str, read: impl Fn(&[u8]) -> Result<Vec<u8>, E>) {
    for path in files(&format!("vectors/{kind}/valid")) {
        let written = read(&fs::read(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let again = read(&written).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(
            again,
            written,
            "{}: what is written is read back",
            path.display()
        );
    }
    let mut wrong = vec![];
    for path in files(&format!("vectors/{kind}/invalid")) {
        let words = fs::read_to_string(path.with_extension("error")).unwrap();
        let words = words.trim();
        match read(&fs::read(&path).unwrap()) {
            Ok(_) => wrong.push(format!("{} was accepted", path.display())),
            Err(error) if !words.is_empty() && error.to_string().contains(words) => {}
            Err(error) => wrong.push(format!(
                "{}: {error} does not say {words:?}",
                path.display()
            )),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The schema of `kind` takes every valid golden, and refuses every invalid one but those `beyond` it: what no schema can
/// say, such as that a name is there twice, and 2^64, which readers of JSON round to what the largest number rounds to.
fn check_schema(kind: &str, beyond: &[&str]) {
    let path = project(&format!("docs/schema/{kind}.schema.json"));
    let schema: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let id = schema["$id"].as_str().unwrap().to_owned();
    let mut schemas = Schemas::new();
    let mut compiler = Compiler::new();
    compiler.add_resource(&id, schema).unwrap();
    let schema = compiler.compile(&id, &mut schemas).unwrap();
    for path in files(&format!("vectors/{kind}/valid")) {
        let document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        if let Err(error) = schemas.validate(&document, schema) {
            panic!("{}: {error}", path.display());
        }
    }
    let mut taken = vec![];
    for path in files(&format!("vectors/{kind}/invalid")) {
        // What is no JSON at all is refused before a schema is asked.
        let document = serde_json::from_slice::<Value>(&fs::read(&path).unwrap());
        if document.is_ok_and(|document| schemas.validate(&document, schema).is_ok()) {
            taken.push(path.file_stem().unwrap().to_string_lossy().into_owned());
        }
    }
    assert_eq!(taken, beyond);
}

#[test]
fn the_manifests_schema_judges_as_the_type_does() {
    check_schema(
        "manifest",
        &["doubled-field", "fuel-too-large", "settings-doubled"],
    );
}

#[test]
fn the_policys_schema_judges_as_the_type_does() {
    let beyond = [
        "doubled-field",
        "epoch-too-large",
        "place-twice",
        "roots-cut-short",
        "roots-no-certificate",
        "roots-not-base64",
        "roots-second-no-certificate",
    ];
    check_schema("policy", &beyond);
}

#[test]
fn manifests() {
    check("manifest", |bytes| Manifest::from_json(bytes)?.to_json());
}

#[test]
fn policies() {
    check("policy", |bytes| SignedPolicy::from_json(bytes)?.to_json());
}

/// A package in one file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    digest: Option<String>,
    index: String,
    manifest: String,
    code: Bytes,
    header: String,
    source: Option<Bytes>,
}

impl Golden {
    fn files(self) -> PackageFiles {
        PackageFiles {
            package: Package {
                index: self.index.into_bytes().into(),
                manifest: self.manifest.into_bytes().into(),
                code: self.code,
            },
            header: self.header.into_bytes().into(),
            source: self.source,
        }
    }
}

#[test]
fn packages() {
    check("package", |bytes| {
        let golden: Golden = serde_json::from_slice(bytes).unwrap();
        let digest = golden.digest.clone();
        let files = golden.files();
        let opened = open_files(&files).map_err(|error| error.to_string())?;
        let source = files.source.as_ref().map(Bytes::as_ref);
        let inspected = source.map(inspect).transpose();
        inspected.map_err(|error: RegisterError| error.to_string())?;
        assert_eq!(digest, Some(oci_digest(opened.digest)));
        let built = build(&opened.manifest, &files.package.code, &files.header, source).unwrap();
        assert_eq!(built, files, "the same input gives the same bytes");
        Ok::<_, String>(bytes.to_vec())
    });
}

fn names(value: &Value) -> BTreeSet<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// A schema, and what the type writes of an example that has every field.
fn schema(kind: &str, write: impl Fn(&[u8]) -> Vec<u8>) -> (Value, Value) {
    let schema = fs::read(project(&format!("docs/schema/{kind}.schema.json"))).unwrap();
    let full = fs::read(project(&format!("vectors/{kind}/valid/full.json"))).unwrap();
    let parsed = |bytes: &[u8]| serde_json::from_slice(bytes).unwrap();
    (parsed(&schema), parsed(&write(&full)))
}

/// An object of a schema has exactly the fields that the type writes, and is closed; without a field that it
/// requires the document is refused by that field's name.
fn same_fields(
    schema: &Value,
    written: &Value,
    at: (&str, &str),
    read: impl Fn(&[u8]) -> Option<String>,
) {
    let (place, example) = at;
    let object = schema.pointer(place).unwrap();
    assert_eq!(object["additionalProperties"], false, "{place}");
    let fields = written.pointer(example).unwrap();
    assert_eq!(names(&object["properties"]), names(fields), "{place}");
    for field in object["required"].as_array().into_iter().flatten() {
        let field = field.as_str().unwrap();
        let mut without = written.clone();
        let target = without.pointer_mut(example).unwrap();
        target.as_object_mut().unwrap().remove(field);
        let error = read(&serde_json::to_vec(&without).unwrap());
        assert!(
            error.as_ref().is_some_and(|error| error.contains(field)),
            "{place}: {field}: {error:?}"
        );
    }
}

#[test]
fn the_manifests_schema_has_the_fields_of_the_type() {
    let (schema, written) = schema("manifest", |full| {
        Manifest::from_json(full).unwrap().to_json().unwrap()
    });
    assert_eq!(schema["title"], "Cryptlet Schema");
    for at in [
        ("", ""),
        ("/properties/config", "/config"),
        ("/properties/config/properties/limits", "/config/limits"),
        (
            "/properties/config/properties/secretCode",
            "/config/secretCode",
        ),
    ] {
        same_fields(&schema, &written, at, |bytes| {
            Manifest::from_json(bytes)
                .err()
                .map(|error| error.to_string())
        });
    }
}

#[test]
fn the_policys_schema_has_the_fields_of_the_type() {
    let (schema, written) = schema("policy", |full| {
        SignedPolicy::from_json(full).unwrap().to_json().unwrap()
    });
    let policy = "/properties/policy/properties";
    for (place, example) in [
        (String::new(), ""),
        ("/properties/policy".into(), "/policy"),
        (format!("{policy}/egress/items"), "/policy/egress/0"),
        (format!("{policy}/limits"), "/policy/limits"),
        (format!("{policy}/retry"), "/policy/retry"),
        (format!("{policy}/evidence"), "/policy/evidence"),
        (
            format!("{policy}/evidence/properties/images/items"),
            "/policy/evidence/images/0",
        ),
        (
            format!("{policy}/evidence/properties/snp"),
            "/policy/evidence/snp",
        ),
        (format!("{policy}/code"), "/policy/code"),
        (format!("{policy}/serve"), "/policy/serve"),
        ("/properties/approvals/items".into(), "/approvals/0"),
    ] {
        same_fields(&schema, &written, (&place, example), |bytes| {
            SignedPolicy::from_json(bytes)
                .err()
                .map(|error| error.to_string())
        });
    }
}
