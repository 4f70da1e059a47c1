use super::*;
use crate::testing::{
    NOW, TOO_EARLY, TOO_LATE, authority, issued, leaf, p256, p384, refused, root, sign,
};
use alloy_primitives::Bytes;
use ciborium::{Value, cbor};
use cryptlet_types::policy::ImageRule;
use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, KeyUsagePurpose, date_time_ymd};
use std::sync::LazyLock;

const GENUINE: &[u8] = include_bytes!("../../tests/samples/nitro/document.cose");
/// When the genuine document was made.
const MADE: UnixSeconds = 1_736_179_625;
const BOUND: B256 = B256::repeat_byte(0x42);
const NONCE: B256 = B256::repeat_byte(0x43);

/// A document with its chain, made here and open to change before it is signed.
struct Made {
    fields: Vec<(Value, Value)>,
    params: [CertificateParams; 3],
    keys: [KeyPair; 3],
    rule: EvidenceRule,
    at: UnixSeconds,
}

struct Signed {
    root: Vec<u8>,
    document: Vec<u8>,
    rule: EvidenceRule,
    at: UnixSeconds,
}

fn bytes(bytes: &[u8]) -> Value {
    Value::Bytes(bytes.to_vec())
}

fn registers(first: u8) -> Value {
    let register = |index: u8, value: u8| (Value::from(index), Value::Bytes(vec![value; 48]));
    Value::Map(vec![register(0, first), register(4, 0x44)])
}

impl Made {
    fn new() -> Self {
        let fields = [
            ("module_id", Value::from("i-0-enc0")),
            ("digest", Value::from("SHA384")),
            ("timestamp", Value::from((NOW - 5) * 1000 + 999)),
            ("pcrs", registers(0x11)),
            ("certificate", Value::Null),
            ("cabundle", Value::Null),
            ("public_key", Value::Null),
            ("user_data", bytes(BOUND.as_slice())),
            ("nonce", bytes(NONCE.as_slice())),
        ];
        let image = ImageRule {
            provider: Provider::Nitro,
            registers: [("pcr0".into(), vec![0x11; 48].into())].into(),
        };
        Self {
            fields: fields
                .into_iter()
                .map(|(name, value)| (Value::from(name), value))
                .collect(),
            params: [
                authority("root", 1, None),
                authority("instance", 2, Some(0)),
                leaf("enclave"),
            ],
            keys: [p384(), p384(), p384()],
            rule: EvidenceRule {
                max_age_seconds: 60,
                images: vec![image],
                ..EvidenceRule::default()
            },
            at: NOW,
        }
    }

    fn set(&mut self, name: &str, value: Value) {
        for (own, slot) in &mut self.fields {
            if own.as_text() == Some(name) {
                *slot = value.clone();
            }
        }
    }

    /// Fills in the chain, unless something else stands there already.
    fn chain(&mut self) -> Vec<u8> {
        let [first, second, third] = &self.params;
        let root = root(first, &self.keys[0]);
        let instance = issued(second, &self.keys[1], (first, &self.keys[0]));
        let enclave = issued(third, &self.keys[2], (second, &self.keys[1]));
        let bundle = Value::Array(vec![bytes(&root), bytes(&instance)]);
        for (name, value) in [("certificate", bytes(&enclave)), ("cabundle", bundle)] {
            let empty =
                |(own, slot): &(Value, Value)| own.as_text() == Some(name) && slot.is_null();
            if self.fields.iter().any(empty) {
                self.set(name, value);
            }
        }
        root
    }

    fn sign(mut self) -> Signed {
        let root = self.chain();
        let payload = encoded(&Value::Map(self.fields));
        let document = envelope(&[0xa1, 0x01, 0x38, 0x22], &payload, |message| {
            sign(&self.keys[2], message)
        });
        Signed {
            root,
            document,
            rule: self.rule,
            at: self.at,
        }
    }
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut encoded = vec![];
    ciborium::into_writer(value, &mut encoded).unwrap();
    encoded
}

fn envelope(protected: &[u8], payload: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let (protected, payload) = (bytes(protected), bytes(payload));
    let message = cbor!(["Signature1", protected, bytes(&[]), payload]).unwrap();
    let signature = Value::Bytes(sign(&encoded(&message)));
    let parts = vec![protected, Value::Map(vec![]), payload, signature];
    encoded(&Value::Array(parts))
}

impl Signed {
    fn judge(&self) -> Result<(), AttestError> {
        judge_under(
            &self.root,
            &self.document,
            BOUND,
            NONCE,
            &self.rule,
            self.at,
        )
    }
}

/// Judges what is changed before it is signed.
fn made(change: impl FnOnce(&mut Made)) -> Result<(), AttestError> {
    let mut made = Made::new();
    change(&mut made);
    made.sign().judge()
}

fn with(name: &str, value: Value) -> Result<(), AttestError> {
    made(|made| made.set(name, value))
}

fn genuine(document: &[u8], at: UnixSeconds) -> Result<(), AttestError> {
    check_signatures(AWS, &Document::read(document)?, at)
}

#[test]
fn a_genuine_document_holds_while_its_certificates_do() {
    assert_eq!(genuine(GENUINE, MADE), Ok(()));
    refused(genuine(GENUINE, MADE + 86_400), "certificate: expired at");
    refused(
        genuine(GENUINE, MADE - 86_400),
        "certificate: is not valid before",
    );
    let digest = ring::digest::digest(&ring::digest::SHA256, AWS);
    let hex = alloy_primitives::hex::encode(digest);
    assert!(hex.starts_with("641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b"));
}

#[test]
fn what_a_genuine_document_says_is_judged() {
    let mut rule = Made::new().rule;
    let read = Document::read(GENUINE).unwrap();
    assert_eq!(check_age(&read, &rule, MADE), Ok(()));
    refused(check_age(&read, &rule, MADE - 1), "lies in the future");
    refused(check_age(&read, &rule, MADE + 61), "61 s old");
    refused(check_image(&read, &rule), "pcr0 is 0x8bb159f2");
    let registers = &mut rule.images[0].registers;
    registers.insert("pcr0".into(), Bytes::copy_from_slice(&read.pcrs[&0]));
    assert_eq!(check_image(&read, &rule), Ok(()));
    // It was made for somebody else.
    let result = judge(GENUINE, BOUND, NONCE, &rule, MADE);
    refused(result, "user_data is of another statement");
}

#[test]
fn what_fits_is_accepted() {
    assert_eq!(made(|_| {}), Ok(()));
    assert_eq!(with("public_key", bytes(&[1; 1024])), Ok(()));
    let more = made(|made| {
        let registers = &mut made.rule.images[0].registers;
        registers.insert("pcr4".into(), vec![0x44; 48].into());
    });
    assert_eq!(more, Ok(()));
    let left_out = made(|made| {
        made.fields
            .retain(|(name, _)| name.as_text() != Some("public_key"));
    });
    assert_eq!(left_out, Ok(()));
}

#[test]
fn a_document_of_another_statement_or_challenge_is_refused() {
    for name in ["user_data", "nonce"] {
        let says = format!("{name} is of another statement");
        refused(with(name, bytes(&[0x44; 32])), &says);
        refused(with(name, bytes(&[])), &says);
        refused(with(name, Value::Null), &says);
        let longer = [&[0x42; 32][..], &[0]].concat();
        refused(with(name, bytes(&longer)), &says);
    }
}

#[test]
fn a_document_from_the_future_or_older_than_policy_says_is_refused() {
    let at = |seconds: u64| with("timestamp", Value::from(seconds * 1000));
    assert_eq!(at(NOW), Ok(()));
    assert_eq!(at(NOW - 60), Ok(()));
    refused(at(NOW + 1), "timestamp: lies in the future");
    refused(at(NOW - 61), "61 s old");
}

#[test]
fn an_enclave_that_is_debugged_is_refused_whatever_policy_names() {
    let zero = made(|made| {
        made.set("pcrs", registers(0));
        let registers = &mut made.rule.images[0].registers;
        registers.insert("pcr0".into(), vec![0; 48].into());
    });
    refused(zero, "the host debugs the enclave");
    let missing = Value::Map(vec![(Value::from(4), Value::Bytes(vec![1; 48]))]);
    refused(with("pcrs", missing), "the host debugs the enclave");
}

#[test]
fn other_images_are_refused() {
    refused(with("pcrs", registers(0x12)), "pcr0 is 0x1212");
    for (name, says) in [
        ("pcr5", "pcr5 is not in the document"),
        ("pcr16", "pcr16 is no register of Nitro"),
        ("measurement", "measurement is no register of Nitro"),
    ] {
        let result = made(|made| {
            let registers = &mut made.rule.images[0].registers;
            registers.insert(name.into(), vec![0; 48].into());
        });
        refused(result, says);
    }
    refused(made(|made| made.rule.images.clear()), "names no image");
}

#[test]
fn a_document_that_an_emulated_device_makes_is_refused() {
    // As QEMU 10 makes it: algorithm -1, zeros for certificates and signature.
    let mut emulated = Made::new();
    emulated.set("certificate", bytes(&[0; 64]));
    emulated.set("cabundle", Value::Array(vec![bytes(&[0; 64])]));
    let payload = encoded(&Value::Map(emulated.fields));
    let ask = |protected: &[u8], signature: usize| {
        let document = envelope(protected, &payload, |_| vec![0; signature]);
        judge(&document, BOUND, NONCE, &emulated.rule, NOW)
    };
    refused(
        ask(&[0xa1, 0x01, 0x20], 64),
        "an emulated device signs nothing",
    );
    let es384 = [0xa1, 0x01, 0x38, 0x22];
    refused(ask(&es384, 64), "signature: is 64 bytes, not 96");
    refused(ask(&es384, 96), "does not begin with AWS's root");
}

#[test]
fn documents_signed_by_others_are_refused() {
    let own = Made::new().sign();
    let result = judge(&own.document, BOUND, NONCE, &own.rule, NOW);
    refused(result, "does not begin with AWS's root");
    // AWS's root in front of a chain that it did not make.
    let below_aws = made(|made| {
        let other = root(&made.params[1], &made.keys[1]);
        made.set("cabundle", Value::Array(vec![bytes(AWS), bytes(&other)]));
    });
    refused(below_aws, "does not begin with AWS's root");
    let mut below = Made::new();
    let other = root(&below.params[1], &below.keys[1]);
    below.set("cabundle", Value::Array(vec![bytes(AWS), bytes(&other)]));
    let document = below.sign().document;
    let result = judge(&document, BOUND, NONCE, &own.rule, NOW);
    refused(result, "cabundle: is not issued by the cabundle");
    let mut unsigned = Made::new();
    let root = unsigned.chain();
    let stranger = p384();
    let payload = encoded(&Value::Map(unsigned.fields.clone()));
    let document = envelope(&[0xa1, 0x01, 0x38, 0x22], &payload, |message| {
        sign(&stranger, message)
    });
    let result = check_signatures(&root, &Document::read(&document).unwrap(), NOW);
    refused(result, "is not signed by its certificate");
}

#[test]
fn paths_that_do_not_hold_are_refused() {
    refused(made(|made| made.at = TOO_EARLY), "is not valid before");
    refused(made(|made| made.at = TOO_LATE), "expired at");
    let expired = made(|made| made.params[2].not_after = date_time_ymd(2026, 12, 31));
    refused(expired, "certificate: expired at 2026-12-31");
    let early = made(|made| made.params[1].not_before = date_time_ymd(2027, 1, 2));
    refused(early, "cabundle: is not valid before 2027-01-02");
    let silent = made(|made| made.params[2].key_usages.clear());
    refused(silent, "does not say that it signs");
    let other_usage = made(|made| made.params[2].key_usages = vec![KeyUsagePurpose::KeyAgreement]);
    refused(other_usage, "may not sign");
    let deep = made(|made| made.params[0] = authority("root", 1, Some(0)));
    refused(deep, "does not allow a path as long");
    let no_authority = made(|made| made.params[1] = leaf("instance"));
    refused(no_authority, "is no authority's");
    let mut curve = Made::new();
    curve.keys[2] = p256();
    let root = curve.chain();
    let payload = encoded(&Value::Map(curve.fields));
    let document = envelope(&[0xa1, 0x01, 0x38, 0x22], &payload, |_| vec![1; 96]);
    let result = check_signatures(&root, &Document::read(&document).unwrap(), NOW);
    refused(result, "has no key on P-384");
}

#[test]
fn payloads_in_another_form_are_refused() {
    let register = |index: u8, length: usize| (Value::from(index), Value::Bytes(vec![1; length]));
    let many = (0..33).map(|index| register(index, 48)).collect();
    let long = Value::Array(vec![bytes(&[1; 1025])]);
    let cases = [
        ("module_id", Value::from("")),
        ("module_id", Value::from(1)),
        ("digest", Value::from("SHA256")),
        ("timestamp", Value::from(0)),
        ("timestamp", Value::from(-1)),
        ("timestamp", Value::from("1")),
        ("pcrs", Value::Map(vec![])),
        ("pcrs", Value::Map(many)),
        ("pcrs", Value::Map(vec![register(32, 48)])),
        ("pcrs", Value::Map(vec![register(0, 32)])),
        ("pcrs", Value::Map(vec![register(0, 48), register(0, 48)])),
        ("pcrs", Value::Array(vec![])),
        ("certificate", bytes(&[])),
        ("certificate", bytes(&[0; 1025])),
        ("certificate", Value::from("")),
        ("cabundle", Value::Array(vec![])),
        ("cabundle", Value::Array(vec![bytes(&[1]); 9])),
        ("cabundle", long),
        ("public_key", bytes(&[])),
        ("public_key", bytes(&[0; 1025])),
        ("user_data", bytes(&[0; 513])),
        ("user_data", Value::from("text")),
        ("nonce", bytes(&[0; 513])),
    ];
    for (name, value) in cases {
        refused(with(name, value), name);
    }
    for name in [
        "module_id",
        "digest",
        "timestamp",
        "pcrs",
        "certificate",
        "cabundle",
    ] {
        let missing = made(|made| {
            made.chain();
            made.fields.retain(|(own, _)| own.as_text() != Some(name));
        });
        refused(missing, &format!("{name}: is missing"));
    }
    let unknown = made(|made| {
        made.fields
            .push((Value::from("nitrotpm_pcrs"), Value::Null))
    });
    refused(unknown, "a field that is not documented");
    let twice = made(|made| made.fields.push((Value::from("nonce"), Value::Null)));
    refused(twice, "has a field twice");
}

#[test]
fn envelopes_in_another_form_are_refused() {
    let own = Made::new().sign();
    let judge_bytes =
        |document: Vec<u8>| judge_under(&own.root, &document, BOUND, NONCE, &own.rule, NOW);
    assert_eq!(judge_bytes(own.document.clone()), Ok(()));
    let Value::Array(parts) = ciborium::from_reader(&own.document[..]).unwrap() else {
        panic!("no array");
    };
    let changed = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut parts = parts.clone();
        change(&mut parts);
        judge_bytes(encoded(&Value::Array(parts)))
    };
    let unprotected = Value::Map(vec![(Value::from(1), Value::from(-35))]);
    refused(
        changed(&|parts| parts[1] = unprotected.clone()),
        "unprotected header: is not empty",
    );
    let es256 = bytes(&[0xa1, 0x01, 0x26]);
    refused(changed(&|parts| parts[0] = es256.clone()), "is not ES384");
    refused(changed(&|parts| parts.truncate(3)), "is no COSE_Sign1");
    refused(
        changed(&|parts| parts.push(Value::Null)),
        "is no COSE_Sign1",
    );
    refused(changed(&|parts| parts[2] = Value::Null), "is no COSE_Sign1");
    refused(changed(&|parts| parts[3] = bytes(&[0; 95])), "is 95 bytes");
    refused(
        changed(&|parts| parts[2] = bytes(&[])),
        "payload: is no CBOR",
    );
    refused(
        changed(&|parts| parts[2] = bytes(&[1])),
        "payload: is no map",
    );
    refused(
        changed(&|parts| parts[2] = bytes(&[0xa0, 0])),
        "payload: bytes follow it",
    );
    let tagged = Value::Tag(18, Box::new(Value::Array(parts.clone())));
    refused(judge_bytes(encoded(&tagged)), "is no COSE_Sign1");
    let behind = [own.document.clone(), vec![0]].concat();
    refused(judge_bytes(behind), "bytes follow it");
    // The same array, its length unknown in advance.
    let mut roundabout = own.document.clone();
    roundabout[0] = 0x9f;
    roundabout.push(0xff);
    refused(judge_bytes(roundabout), "not encoded in the shortest way");
    refused(judge_bytes(vec![]), "document: is no CBOR");
    refused(
        judge_bytes(vec![0x84; 20_000]),
        "is longer than 16384 bytes",
    );
    refused(judge_bytes(vec![0x81; 16_000]), "document: is no CBOR");
}

/// Memory for them there is none: a reader that makes room for what is announced would end the process.
#[test]
fn lengths_that_are_announced_and_do_not_come_are_refused() {
    let announced = |major: u8| [&[major << 5 | 27][..], &(1_u64 << 50).to_be_bytes()].concat();
    // The envelope's parts up to its payload; the payload's fields up to its registers.
    let envelope_up_to_payload = [0x84, 0x44, 0xa1, 0x01, 0x38, 0x22, 0xa0];
    let payload_up_to_registers = b"\xa1\x64pcrs";
    for major in 2..=5 {
        let length = announced(major);
        let nested = [&envelope_up_to_payload[..], &length].concat();
        for document in [length.clone(), nested] {
            refused(Document::read(&document).map(drop), "document: is no CBOR");
        }
        let nested = [&payload_up_to_registers[..], &length].concat();
        for payload in [length, nested] {
            let document = envelope(&[0xa1, 0x01, 0x38, 0x22], &payload, |_| vec![0; 96]);
            refused(Document::read(&document).map(drop), "payload: is no CBOR");
        }
    }
}

static SIGNED: LazyLock<Signed> = LazyLock::new(|| Made::new().sign());

proptest! {
    #[test]
    fn no_altered_document_verifies(place in any::<prop::sample::Index>(), mask in 1_u8..) {
        let mut document = SIGNED.document.clone();
        let place = place.index(document.len());
        document[place] ^= mask;
        let result = judge_under(&SIGNED.root, &document, BOUND, NONCE, &SIGNED.rule, NOW);
        prop_assert!(result.is_err(), "byte {place}");
    }

    #[test]
    fn no_byte_of_a_genuine_document_can_be_altered(
        place in any::<prop::sample::Index>(), mask in 1_u8..,
    ) {
        let mut document = GENUINE.to_vec();
        let place = place.index(document.len());
        document[place] ^= mask;
        prop_assert!(genuine(&document, MADE).is_err(), "byte {place}");
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(
        document in prop::collection::vec(any::<u8>(), 0..600),
        payload in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        prop_assert!(judge(&document, BOUND, NONCE, &SIGNED.rule, NOW).is_err());
        let signed = envelope(&[0xa1, 0x01, 0x38, 0x22], &payload, |_| vec![0; 96]);
        prop_assert!(judge(&signed, BOUND, NONCE, &SIGNED.rule, NOW).is_err());
    }
}

#[test]
fn the_made_document_is_accepted_before_it_is_altered() {
    assert_eq!(SIGNED.judge(), Ok(()));
}
