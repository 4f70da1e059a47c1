//! The OpenAPI document is current, and answers are what it says.

use crate::support::{TestHost, raw::Request};
use serde_json::Value;
use std::path::Path;

fn checked_in() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api/openapi.json")
}

/// `UPDATE_GOLDENS=1` writes it anew.
#[test]
fn the_checked_in_document_is_current() {
    let generated = cryptlet_api::openapi_json().unwrap();
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::create_dir_all(checked_in().parent().unwrap()).unwrap();
        std::fs::write(checked_in(), &generated).unwrap();
    }
    let kept = std::fs::read_to_string(checked_in()).unwrap();
    assert!(
        kept == generated,
        "docs/api/openapi.json is not what the table of operations says; run this test with UPDATE_GOLDENS=1"
    );
}

#[tokio::test]
async fn the_document_is_served() {
    let host = TestHost::start().await;
    let answer = Request::new("GET", "/v1/openapi.json").send(&host).await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.body,
        cryptlet_api::openapi_json().unwrap().into_bytes()
    );
}

/// Every reference inside the document.
fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(target)) = map.get("$ref") {
                found.push(target);
            }
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn the_document_is_whole() {
    let document: Value = serde_json::from_str(&cryptlet_api::openapi_json().unwrap()).unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(
            document.pointer(pointer).is_some(),
            "{reference} leads nowhere"
        );
    }
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for name in [
        "NewKey",
        "NewPackage",
        "NewPolicy",
        "Approval",
        "NewDelegation",
        "DelegationBody",
        "NewToken",
        "NewApplication",
        "NewApplicationKey",
        "CallRequest",
    ] {
        let refuses = &schemas[name]["additionalProperties"];
        assert_eq!(*refuses, false, "{name} takes unknown fields");
    }
}
