//! Headers as they are published, and as they are forged.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use alloy_primitives::Address;
use cryptlet_header::{Header, HeaderError, HeaderSource};
use cryptlet_seal::sha256;
use cryptlet_types::CryptletId;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::{fs, path::PathBuf};

const INTERFACE: &str = include_str!("../../../vectors/header/interface.sol");

fn source() -> HeaderSource<'static> {
    HeaderSource {
        name: "gold-price",
        label: "0.1.0",
        interface: INTERFACE,
        cryptlet: CryptletId(Address::repeat_byte(0xc1)),
        public_key: Address::repeat_byte(0xb2),
    }
}

fn document() -> Vec<u8> {
    Header::build(source()).unwrap().to_json().unwrap()
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors/header")
        .join(name)
}

#[test]
fn the_header_is_the_golden_one() {
    let header = Header::build(source()).unwrap();
    let files = [
        ("gold-price.json", header.to_json().unwrap()),
        ("GoldPrice.sol", header.solidity().as_bytes().to_vec()),
    ];
    for (name, bytes) in files {
        if std::env::var_os("CRYPTLET_WRITE_GOLDENS").is_some() {
            fs::write(golden(name), &bytes).unwrap();
        }
        assert!(
            fs::read(golden(name)).unwrap() == bytes,
            "{name} of version 1 changed: headers that are registered would no longer be read"
        );
    }
    assert_eq!(header.digest().unwrap(), sha256(&document()));
    assert_eq!(Header::from_json(&document()), Ok(header));
}

/// The golden header with one field replaced, its bytes as compact as they were.
fn altered(field: &str, value: Value) -> HeaderError {
    let text = String::from_utf8(document()).unwrap();
    let was: Value = serde_json::from_str(&text).unwrap();
    let field_of = |value: &Value| format!("\"{field}\":{value}");
    let forged = text.replacen(&field_of(&was[field]), &field_of(&value), 1);
    assert_ne!(forged, text, "{field} was not found");
    Header::from_json(forged.as_bytes()).unwrap_err()
}

#[test]
fn no_part_of_a_header_can_be_forged() {
    let solidity = Header::build(source()).unwrap().solidity().to_owned();
    let backdoor = solidity.replace("isSigner", "isActive");
    assert_eq!(
        altered("solidity", json!(backdoor)),
        HeaderError::Forged("solidity")
    );
    assert_eq!(
        altered("contract", json!("Gold")),
        HeaderError::Forged("contract")
    );
    assert_eq!(
        altered("label", json!("0.2.0")),
        HeaderError::Forged("solidity")
    );
    let other = Address::repeat_byte(9);
    for field in ["cryptlet", "publicKey"] {
        assert_eq!(
            altered(field, json!(other)),
            HeaderError::Forged("solidity")
        );
    }
    let interface = INTERFACE.replace("uint64 day", "uint32 day");
    assert_eq!(
        altered("interface", json!(interface)),
        HeaderError::Forged("solidity")
    );
    // `abi` cannot be replaced as text, since a value's keys are sorted.
    let text = String::from_utf8(document()).unwrap();
    let forged = text.replacen(
        "\"name\":\"price\",\"type\":\"uint256\"",
        "\"name\":\"price\",\"type\":\"int256\"",
        1,
    );
    assert_ne!(forged, text);
    assert_eq!(
        Header::from_json(forged.as_bytes()),
        Err(HeaderError::Forged("abi"))
    );
    let spaced = text.replacen(':', ": ", 1);
    assert_eq!(
        Header::from_json(spaced.as_bytes()),
        Err(HeaderError::Forged("the document's layout"))
    );
}

#[test]
fn values_cannot_break_out_of_the_file() {
    let labels = [
        "",
        "0.1\n",
        "*/ contract Evil {}",
        "\"",
        "a b",
        "0.1.0\u{2028}",
        &"1".repeat(33),
    ];
    for label in labels {
        let error = Header::build(HeaderSource { label, ..source() }).unwrap_err();
        assert!(
            matches!(error, HeaderError::Field { field: "label", .. }),
            "{label:?}: {error}"
        );
    }
    for name in [
        "gold price",
        "gold-price\n",
        "Gold",
        "x\"",
        "cryptlet-proxy",
    ] {
        let error = Header::build(HeaderSource { name, ..source() }).unwrap_err();
        assert!(
            matches!(error, HeaderError::Field { field: "name", .. }),
            "{name:?}: {error}"
        );
    }
    let name = "silver-price";
    let error = Header::build(HeaderSource { name, ..source() }).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("is called ISilverPrice, not IGoldPrice"),
        "{error}"
    );
    let public_key = Address::ZERO;
    let error = Header::build(HeaderSource {
        public_key,
        ..source()
    })
    .unwrap_err();
    assert!(matches!(
        error,
        HeaderError::Field {
            field: "publicKey",
            ..
        }
    ));
    assert!(!error.is_retryable());
}

#[test]
fn what_is_no_header_is_refused() {
    let text = String::from_utf8(document()).unwrap();
    let cases = [
        (String::new(), "EOF"),
        (
            text.replacen("\"version\":1", "\"version\":2", 1),
            "update it",
        ),
        (text.replacen("\"name\"", "\"nmae\"", 1), "nmae"),
        (format!("{text} x"), "trailing"),
        (text.replacen('{', "{\"extra\":1,", 1), "extra"),
    ];
    for (text, reason) in cases {
        let error = Header::from_json(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    }
    let error = Header::from_json(&vec![b' '; cryptlet_header::MAX_HEADER_BYTES + 1]).unwrap_err();
    assert!(matches!(error, HeaderError::HeaderTooLarge(_)));
}

#[test]
fn no_name_of_the_proxy_can_be_taken() {
    let artifact: Value = serde_json::from_str(include_str!(
        "../../../contracts/artifacts/CryptletProxy.json"
    ))
    .unwrap();
    let names = artifact["abi"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| item["name"].as_str());
    let mut count = 0;
    for name in names {
        count += 1;
        let interface = format!("interface IGoldPrice {{ function {name}() external; }}");
        let error = cryptlet_header::Interface::parse(&interface).unwrap_err();
        assert!(error.to_string().contains("has already"), "{name}: {error}");
    }
    assert!(count > 10, "the proxy's ABI was not read");
}

#[test]
fn white_space_at_the_end_of_the_source_makes_no_other_header() {
    let expected = Header::build(source()).unwrap();
    for end in ["", "\n", "\t", " \r\n\n"] {
        let interface = format!("{}{end}", INTERFACE.trim_end());
        let interface = interface.as_str();
        let header = Header::build(HeaderSource {
            interface,
            ..source()
        });
        assert_eq!(header.unwrap(), expected);
    }
    let text = String::from_utf8(document()).unwrap();
    let changed = text.replace(r#"}\n","solidity""#, r#"}\t","solidity""#);
    assert_ne!(changed, text);
    assert!(Header::from_json(changed.as_bytes()).is_err());
}

proptest! {
    #[test]
    fn a_changed_byte_is_never_taken(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = document();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != byte);
        bytes[at] = byte;
        // A change of the source itself gives another header, which cannot be the same bytes either.
        prop_assert!(Header::from_json(&bytes).is_err());
    }
}
