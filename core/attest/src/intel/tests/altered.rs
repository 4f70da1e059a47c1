//! Genuine evidence that was altered, cut, padded or replaced.

use super::sample::*;
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn altered_collateral_is_refused_field_by_field() {
    for sample in all() {
        let document: Value = serde_json::from_slice(sample.collateral).unwrap();
        for (field, value) in document.as_object().unwrap() {
            let text = value.as_str().unwrap();
            assert!(
                sample.altered(field, |it| *it = json!("")).is_err(),
                "{field}"
            );
            assert!(
                sample.altered(field, |it| *it = json!(17)).is_err(),
                "{field}"
            );
            let middle = text.len() / 2;
            let half = text.get(..middle / 2 * 2);
            assert!(
                sample.altered(field, |it| *it = json!(half)).is_err(),
                "{field}"
            );
            // A digit, so that hexadecimal, PEM and JSON stay what they are.
            let digit = text
                .bytes()
                .skip(middle)
                .position(|byte| byte.is_ascii_digit());
            let mut altered = text.as_bytes().to_vec();
            let byte = &mut altered[middle + digit.unwrap()];
            *byte = if *byte == b'1' { b'2' } else { b'1' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(
                sample.altered(field, |it| *it = json!(altered)).is_err(),
                "{field}"
            );
        }
    }
}

#[test]
fn collateral_is_strict_and_bounded() {
    for sample in all() {
        malformed(&sample.judge_collateral(b""), "collateral");
        malformed(&sample.judge_collateral(b"null"), "collateral");
        malformed(&sample.judge_collateral(&[b'['; 100_000]), "collateral");
        let mut oversize = sample.collateral.to_vec();
        oversize.resize((256 << 10) + 1, b' ');
        malformed(&sample.judge_collateral(&oversize), "collateral");
        malformed(
            &sample.altered("something", |it| *it = json!("else")),
            "collateral",
        );
        malformed(
            &sample.altered("pck_crl", |it| *it = Value::Null),
            "collateral",
        );
        let twice = [&b"{\"tcb_info\":\"\","[..], &sample.collateral[1..]].concat();
        malformed(&sample.judge_collateral(&twice), "collateral");
        let two = [sample.collateral, sample.collateral].concat();
        malformed(&sample.judge_collateral(&two), "collateral");
    }
}

#[test]
fn collateral_with_other_chains_is_refused() {
    let (sgx, tdx) = (Sample::sgx(), Sample::tdx());
    let other: Value = serde_json::from_slice(sgx.collateral).unwrap();
    let fields = [
        "pck_crl_issuer_chain",
        "tcb_info_issuer_chain",
        "qe_identity_issuer_chain",
    ];
    // The other platform's authority is not this one's; the signer of collateral is the same for both.
    let chain = &other[fields[0]];
    for field in fields {
        malformed(
            &tdx.altered(field, |it| *it = json!("no certificate")),
            field,
        );
    }
    malformed(&tdx.altered(fields[0], |it| *it = chain.clone()), fields[0]);
    malformed(
        &tdx.altered("pck_certificate_chain", |it| *it = chain.clone()),
        "pck_certificate_chain",
    );
    // An authority for certificates cannot sign collateral, though the root issued it too.
    for field in &fields[1..] {
        unproven(
            &tdx.altered(field, |it| *it = chain.clone()),
            "CaUsedAsEndEntity",
        );
    }
    for field in ["root_ca_crl", "pck_crl"] {
        let swapped = if field == "pck_crl" {
            "root_ca_crl"
        } else {
            "pck_crl"
        };
        let list = serde_json::from_slice::<Value>(tdx.collateral).unwrap()[swapped].clone();
        unproven(&tdx.altered(field, |it| *it = list), "");
    }
}

#[test]
fn a_quote_is_strict_and_bounded() {
    for sample in all() {
        malformed(&sample.judge_quote(b""), "quote");
        malformed(&sample.judge_quote(&[0; (16 << 10) + 1]), "quote");
        for padding in [&[0][..], &[0; 70], b"x"] {
            let longer = [sample.quote, padding].concat();
            malformed(&sample.judge_quote(&longer), "quote");
        }
        for length in 0..sample.quote.len() {
            let shorter = &sample.quote[..length];
            assert!(sample.judge_quote(shorter).is_err(), "{length}");
        }
    }
}

fn alter_every_byte(sample: &Sample) {
    for index in 0..sample.quote.len() {
        let mut forged = sample.quote.to_vec();
        forged[index] ^= 1 << (index % 8);
        assert!(sample.judge_quote(&forged).is_err(), "byte {index}");
    }
}

#[test]
fn an_enclaves_quote_with_any_byte_altered_is_refused() {
    alter_every_byte(&Sample::sgx());
}

#[test]
fn a_domains_quote_with_any_byte_altered_is_refused() {
    alter_every_byte(&Sample::tdx());
}

fn any_sample() -> impl Strategy<Value = Sample> {
    prop_oneof![
        Just(()).prop_map(|()| Sample::sgx()),
        Just(()).prop_map(|()| Sample::tdx()),
        Just(()).prop_map(|()| Sample::tdx_1_0()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_quote_with_any_bits_flipped_is_refused(
        sample in any_sample(), at: prop::sample::Index, flip in 1u8..,
    ) {
        let mut forged = sample.quote.to_vec();
        forged[at.index(sample.quote.len())] ^= flip;
        prop_assert!(sample.judge_quote(&forged).is_err());
    }

    #[test]
    fn bytes_of_any_kind_are_refused_without_panic(
        sample in any_sample(),
        quote in prop::collection::vec(any::<u8>(), 0..2_000),
        collateral in prop::collection::vec(any::<u8>(), 0..2_000),
        keep in 0usize..2_000,
        at: u64,
    ) {
        // A genuine beginning brings the rest further into the parser.
        let begun = [&sample.quote[..keep], &quote].concat();
        for quote in [&quote, &begun] {
            for collateral in [&collateral, sample.collateral] {
                prop_assert!(sample.judge(quote, collateral, &sample.rule(), at).is_err());
            }
        }
        prop_assert!(sample.judge_collateral(&collateral).is_err());
    }

    #[test]
    fn collateral_altered_anywhere_never_panics(
        sample in any_sample(), at: prop::sample::Index, byte: u8, moment: u64,
    ) {
        let mut altered = sample.collateral.to_vec();
        altered[at.index(sample.collateral.len())] = byte;
        let _ = sample.judge_collateral(&altered);
        let _ = sample.judge(sample.quote, &altered, &sample.rule(), moment);
    }
}
