//! Genuine quotes of SGX and TDX, as they are and as they are forged.

use super::super::*;
use crate::judge;
use alloy_primitives::{Bytes, b256, bytes};
use cryptlet_types::{
    Attestation,
    policy::{ImageRule, TcbStatus},
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A quote with its collateral, and a moment at which both are valid.
#[derive(Clone, Debug)]
struct Sample {
    tee: Tee,
    quote: &'static [u8],
    collateral: &'static [u8],
    at: u64,
    /// Its report data.
    data: [u8; 64],
    image: (&'static str, Bytes),
    tcb: TcbStatus,
}

impl Sample {
    /// An enclave that says "Hello, world!" on a platform that is to be configured otherwise.
    fn sgx() -> Self {
        Self {
            tee: Tee::Sgx,
            quote: include_bytes!("../../../tests/samples/intel/sgx.quote"),
            collateral: include_bytes!("../../../tests/samples/intel/sgx.collateral.json"),
            at: 1_750_400_000,
            data: hex!(
                "48656c6c6f2c20776f726c6421000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
            ),
            image: (
                "mrEnclave",
                bytes!("33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"),
            ),
            tcb: TcbStatus::ConfigurationAndSwHardeningNeeded,
        }
    }

    /// A trust domain (TDX 1.5 with the extended report, quote version 5).
    fn tdx() -> Self {
        Self {
            tee: Tee::Tdx,
            quote: include_bytes!("../../../tests/samples/intel/tdx-1.5.quote"),
            collateral: include_bytes!("../../../tests/samples/intel/tdx-1.5.collateral.json"),
            at: 1_791_500_000,
            data: hex!(
                "2945321c99222c3622a14cf7feaab073e799be14b5f3e73cd2e6cad64e5f062463ad204f33f0a39e47d098330db88ca5b5d0a7afce540dfe4c4fe4a377190731"
            ),
            image: (
                "mrTd",
                bytes!(
                    "2a674327c50218dba880066b349b8d559d749ed68dce33fd651c184a877d084b07a9e583767a7ad5da13ed91deec2b70"
                ),
            ),
            tcb: TcbStatus::UpToDate,
        }
    }

    /// A trust domain (TDX 1.0, quote version 4).
    fn tdx_1_0() -> Self {
        Self {
            quote: include_bytes!("../../../tests/samples/intel/tdx-1.0.quote"),
            collateral: include_bytes!("../../../tests/samples/intel/tdx-1.0.collateral.json"),
            at: 1_750_400_000,
            data: hex!(
                "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20"
            ),
            image: (
                "mrTd",
                bytes!(
                    "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
                ),
            ),
            ..Self::tdx()
        }
    }

    fn rule(&self) -> EvidenceRule {
        EvidenceRule {
            max_age_seconds: 60,
            images: vec![self.image([])],
            tcb: vec![self.tcb],
            ..EvidenceRule::default()
        }
    }

    /// The sample's image, with other registers beside.
    fn image(&self, more: impl IntoIterator<Item = (&'static str, Bytes)>) -> ImageRule {
        let named = [self.image.clone()].into_iter().chain(more);
        ImageRule {
            provider: self.tee.provider(),
            registers: named.map(|(name, value)| (name.into(), value)).collect(),
        }
    }

    fn judge(
        &self,
        quote: &[u8],
        collateral: &[u8],
        rule: &EvidenceRule,
        at: u64,
    ) -> Result<(), AttestError> {
        let tee = self.tee;
        let quoted = Quoted {
            tee,
            quote,
            collateral,
        };
        quoted.judge_under(ROOT, &self.data, rule, at)
    }

    fn judge_under(&self, rule: &EvidenceRule) -> Result<(), AttestError> {
        self.judge(self.quote, self.collateral, rule, self.at)
    }

    fn judge_at(&self, at: u64) -> Result<(), AttestError> {
        self.judge(self.quote, self.collateral, &self.rule(), at)
    }

    fn judge_quote(&self, quote: &[u8]) -> Result<(), AttestError> {
        self.judge(quote, self.collateral, &self.rule(), self.at)
    }

    fn judge_collateral(&self, collateral: &[u8]) -> Result<(), AttestError> {
        self.judge(self.quote, collateral, &self.rule(), self.at)
    }

    /// As the whole crate is asked.
    fn judge_bound(&self, bound: B256) -> Result<(), AttestError> {
        let (quote, collateral) = (self.quote.into(), self.collateral.into());
        let attestation = match self.tee {
            Tee::Sgx => Attestation::Sgx { quote, collateral },
            Tee::Tdx => Attestation::Tdx { quote, collateral },
        };
        judge(&attestation, bound, B256::ZERO, &self.rule(), self.at)
    }

    /// The collateral with a field put in the place of another.
    fn altered(&self, field: &str, alter: impl FnOnce(&mut Value)) -> Result<(), AttestError> {
        let mut document: Value = serde_json::from_slice(self.collateral).unwrap();
        alter(&mut document[field]);
        self.judge_collateral(document.to_string().as_bytes())
    }
}

fn all() -> [Sample; 3] {
    [Sample::sgx(), Sample::tdx(), Sample::tdx_1_0()]
}

/// "Hello, world!" and zeros.
const HELLO: B256 = b256!("0x48656c6c6f2c20776f726c642100000000000000000000000000000000000000");

fn malformed(result: &Result<(), AttestError>, name: &str) {
    assert!(
        matches!(result, Err(AttestError::Malformed { field, .. }) if *field == name),
        "{result:?}"
    );
}

fn unproven(result: &Result<(), AttestError>, why: &str) {
    assert!(
        matches!(result, Err(AttestError::Unproven { reason, .. }) if reason.contains(why)),
        "{result:?} does not say {why}"
    );
}

fn refused(result: &Result<(), AttestError>, why: &str) {
    assert!(
        matches!(result, Err(AttestError::Refused(reason)) if reason.contains(why)),
        "{result:?} does not say {why}"
    );
}

#[test]
fn genuine_quotes_are_believed_while_their_collateral_is_valid() {
    for sample in all() {
        assert_eq!(sample.judge_at(sample.at), Ok(()));
    }
}

#[test]
fn a_quote_of_another_statement_is_refused() {
    let unbound = Err(AttestError::Unbound {
        what: "report data",
    });
    let sgx = Sample::sgx();
    assert_eq!(sgx.judge_bound(HELLO), Ok(()));
    assert_eq!(sgx.judge_bound(B256::repeat_byte(1)), unbound);
    // Nothing but the second half of their report data is wrong with these.
    for domain in [Sample::tdx(), Sample::tdx_1_0()] {
        let first = B256::from_slice(&domain.data[..32]);
        assert_eq!(domain.judge_bound(first), unbound);
    }
    for sample in all() {
        for index in [0, 31, 32, 63] {
            let mut replayed = sample.clone();
            replayed.data[index] ^= 0x80;
            assert_eq!(replayed.judge_at(sample.at), unbound);
        }
    }
}

#[test]
fn collateral_is_believed_from_its_youngest_date_to_its_oldest() {
    // The youngest issue, and the end that comes first: at that second a list has expired, other parts a second later.
    let dates = [
        (1_750_330_571, 1_752_919_278),
        (1_791_419_306, 1_794_008_711),
        (1_750_329_147, 1_752_919_235),
    ];
    for (sample, (first, last)) in all().into_iter().zip(dates) {
        assert_eq!(sample.judge_at(first), Ok(()));
        assert_eq!(sample.judge_at(last - 1), Ok(()));
        for moment in [0, first - 1, last + 1, last + (1 << 32), u64::MAX] {
            unproven(&sample.judge_at(moment), "");
        }
    }
}

#[test]
fn an_enclaves_quote_is_not_taken_for_a_domains_nor_the_other_way_round() {
    for sample in all() {
        let other = match sample.tee {
            Tee::Sgx => Sample::tdx(),
            Tee::Tdx => Sample::sgx(),
        };
        let rule = EvidenceRule {
            images: vec![sample.image([]), other.image([])],
            ..sample.rule()
        };
        let crossed = other.judge(sample.quote, sample.collateral, &rule, sample.at);
        malformed(&crossed, "quote");
    }
}

#[test]
fn collateral_of_another_platform_or_kind_is_refused() {
    let (sgx, tdx, older) = (Sample::sgx(), Sample::tdx(), Sample::tdx_1_0());
    for (one, other) in [
        (&sgx, &tdx),
        (&tdx, &sgx),
        (&sgx, &older),
        (&older, &tdx),
        (&tdx, &older),
    ] {
        let mixed = one.judge(one.quote, other.collateral, &one.rule(), other.at);
        match mixed {
            Err(AttestError::Malformed { field, .. }) => assert!(field.starts_with("pck_")),
            other => unproven(&other, ""),
        }
    }
    let older_says: Value = serde_json::from_slice(older.collateral).unwrap();
    let sgx_says: Value = serde_json::from_slice(sgx.collateral).unwrap();
    for (part, signature) in [
        ("tcb_info", "tcb_info_signature"),
        ("qe_identity", "qe_identity_signature"),
    ] {
        let mut mixed = older_says.clone();
        for field in [part, signature] {
            mixed[field] = sgx_says[field].clone();
        }
        // Genuine, signed and valid at the same time, and of an enclave's platform.
        unproven(&older.judge_collateral(mixed.to_string().as_bytes()), "");
    }
}

#[test]
fn policy_says_which_states_of_the_platform_are_accepted() {
    let (sgx, tdx) = (Sample::sgx(), Sample::tdx());
    let listing = |sample: &Sample, tcb: &[TcbStatus]| {
        sample.judge_under(&EvidenceRule {
            tcb: tcb.to_vec(),
            ..sample.rule()
        })
    };
    let refusal = listing(&sgx, &[]);
    refused(&refusal, "ConfigurationAndSWHardeningNeeded");
    refused(&refusal, "INTEL-SA-00289, INTEL-SA-00615");
    refused(
        &listing(&sgx, &[TcbStatus::SwHardeningNeeded]),
        "Configuration",
    );
    assert_eq!(listing(&sgx, &[TcbStatus::UpToDate, sgx.tcb]), Ok(()));
    assert_eq!(listing(&tdx, &[]), Ok(()));
    refused(&listing(&tdx, &[TcbStatus::OutOfDate]), "UpToDate");
}

#[test]
fn a_platform_below_every_level_that_intel_lists_is_refused() {
    let sample = Sample {
        quote: include_bytes!("../../../tests/samples/intel/tdx-outdated.quote"),
        collateral: include_bytes!("../../../tests/samples/intel/tdx-outdated.collateral.json"),
        at: 1_771_500_000,
        ..Sample::tdx()
    };
    unproven(&sample.judge_at(sample.at), "No matching TCB level");
}

#[test]
fn only_images_of_policy_are_accepted() {
    let (sgx, tdx) = (Sample::sgx(), Sample::tdx());
    let images = |sample: &Sample, images: Vec<ImageRule>| {
        sample.judge_under(&EvidenceRule {
            images,
            ..sample.rule()
        })
    };
    let signer = bytes!("815f42f11cf64430c30bab7816ba596a1da0130c3b028b673133a66cf9a3e0e6");
    let zeros = Bytes::from([0; 48]);
    for sample in all() {
        let other = ImageRule {
            registers: [(sample.image.0.into(), Bytes::from([7; 48]))].into(),
            ..sample.image([])
        };
        refused(&images(&sample, vec![]), "names no image");
        refused(&images(&sample, vec![other.clone()]), sample.image.0);
        let short = ImageRule {
            registers: [(sample.image.0.into(), sample.image.1.slice(..31))].into(),
            ..sample.image([])
        };
        refused(&images(&sample, vec![short]), sample.image.0);
        assert_eq!(images(&sample, vec![other, sample.image([])]), Ok(()));
        let unknown = sample.image([("pcr0", zeros.clone())]);
        refused(&images(&sample, vec![unknown]), "\"pcr0\"");
        let nothing = ImageRule {
            registers: [].into(),
            ..sample.image([])
        };
        refused(&images(&sample, vec![nothing]), "does not name");
    }
    refused(&images(&sgx, vec![tdx.image([])]), "names no image");
    assert_eq!(
        images(&sgx, vec![sgx.image([("mrSigner", signer.clone())])]),
        Ok(())
    );
    refused(
        &images(&tdx, vec![tdx.image([("mrSigner", signer)])]),
        "\"mrSigner\"",
    );
    let config = tdx.image([("mrConfigId", bytes!("01"))]);
    refused(&images(&tdx, vec![config]), "mrConfigId");
    for name in ["rtMr0", "rtMr1", "rtMr2", "rtMr3", "mrSeam"] {
        // All of them have been extended in this domain.
        refused(
            &images(&tdx, vec![tdx.image([(name, zeros.clone())])]),
            name,
        );
    }
}

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
            let half = &text[..text.len() / 4 * 2];
            assert!(
                sample.altered(field, |it| *it = json!(half)).is_err(),
                "{field}"
            );
            // A digit in the middle of each, so that hexadecimal, PEM and JSON stay what they are.
            let at = text.len() / 2
                + text[text.len() / 2..]
                    .find(|c: char| c.is_ascii_digit())
                    .unwrap();
            let digit = if &text[at..=at] == "1" { "2" } else { "1" };
            let altered = format!("{}{digit}{}", &text[..at], &text[at + 1..]);
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
