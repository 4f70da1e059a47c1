use super::*;
use crate::testing::{
    NOW, TOO_EARLY, TOO_LATE, authority, issued, leaf, p256, p384, refused, root, sign,
};
use cryptlet_types::policy::ImageRule;
use proptest::prelude::*;
use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair, date_time_ymd};
use std::sync::LazyLock;

const BOUND: B256 = B256::repeat_byte(0x42);
const AK: [u64; 5] = [2, 23, 133, 8, 3];

/// A quote with its chain, made here and open to change before it is signed.
struct Made {
    quote: Vec<u8>,
    registers: Vec<Bytes>,
    params: [CertificateParams; 3],
    keys: [KeyPair; 3],
    rule: EvidenceRule,
    at: UnixSeconds,
}

/// What is judged.
#[derive(Clone)]
struct Signed {
    quote: Vec<u8>,
    signature: Vec<u8>,
    registers: Vec<Bytes>,
    certificates: Vec<Bytes>,
    rule: EvidenceRule,
    bound: B256,
    at: UnixSeconds,
}

fn quote(extra_data: &[u8], selection: &[u8], registers: &[Bytes]) -> Vec<u8> {
    let digest = digest::digest(&digest::SHA256, &registers.concat());
    [
        &[0xff, 0x54, 0x43, 0x47, 0x80, 0x18][..],
        &[0, 34, 0, 0x0b],
        &[9; 32],
        &[0, u8::try_from(extra_data.len()).unwrap()],
        extra_data,
        &[0; 16],
        &[1],
        &[0; 8],
        selection,
        &[0, 32],
        digest.as_ref(),
    ]
    .concat()
}

/// Registers 0, 7 and 16.
const SELECTION: [u8; 10] = [0, 0, 0, 1, 0, 0x0b, 3, 0x81, 0, 1];

impl Made {
    fn new() -> Self {
        let registers: Vec<Bytes> = [0x11, 0x22, 0x33].map(|byte| vec![byte; 32].into()).into();
        let image = ImageRule {
            provider: Provider::Tpm,
            registers: [
                ("pcr0".into(), registers[0].clone()),
                ("pcr16".into(), registers[2].clone()),
            ]
            .into(),
        };
        let mut ak = leaf("AK");
        ak.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(AK.to_vec())];
        Self {
            quote: quote(BOUND.as_slice(), &SELECTION, &registers),
            registers,
            params: [
                authority("root", 1, None),
                authority("maker", 2, Some(0)),
                ak,
            ],
            keys: [p384(), p256(), p256()],
            rule: EvidenceRule {
                images: vec![image],
                ..EvidenceRule::default()
            },
            at: NOW,
        }
    }

    fn sign(mut self) -> Signed {
        let [first, second, third] = &self.params;
        let root = root(first, &self.keys[0]);
        let maker = issued(second, &self.keys[1], (first, &self.keys[0]));
        let ak = issued(third, &self.keys[2], (second, &self.keys[1]));
        self.rule.tpm_roots.push(root.into());
        Signed {
            signature: ecdsa(&sign(&self.keys[2], &self.quote)),
            quote: self.quote,
            registers: self.registers,
            certificates: vec![ak.into(), maker.into()],
            rule: self.rule,
            bound: BOUND,
            at: self.at,
        }
    }
}

/// `TPMT_SIGNATURE` of ECDSA with SHA-256.
fn ecdsa(both: &[u8]) -> Vec<u8> {
    let (r, s) = both.split_at(32);
    [&[0, 0x18, 0, 0x0b, 0, 32], r, &[0, 32], s].concat()
}

impl Signed {
    fn judge(&self) -> Result<(), AttestError> {
        let parts = Parts {
            quote: &self.quote,
            signature: &self.signature,
            registers: &self.registers,
            certificates: &self.certificates,
        };
        judge(parts, self.bound, &self.rule, self.at)
    }
}

fn made(change: impl FnOnce(&mut Made)) -> Result<(), AttestError> {
    let mut made = Made::new();
    change(&mut made);
    made.sign().judge()
}

fn altered(change: impl FnOnce(&mut Signed)) -> Result<(), AttestError> {
    let mut signed = Made::new().sign();
    change(&mut signed);
    signed.judge()
}

/// A quote that swtpm made, with a certificate of our own for its key.
fn recorded(quote: &[u8], signature: &[u8], certificate: &[u8]) -> Signed {
    let registers = include_bytes!("../../tests/samples/tpm/registers.bin");
    let registers: Vec<Bytes> = registers.chunks(32).map(Bytes::copy_from_slice).collect();
    let image = ImageRule {
        provider: Provider::Tpm,
        registers: ["pcr0", "pcr7", "pcr16"]
            .map(str::to_owned)
            .into_iter()
            .zip(registers.clone())
            .collect(),
    };
    Signed {
        quote: quote.to_vec(),
        signature: signature.to_vec(),
        registers,
        certificates: vec![Bytes::copy_from_slice(certificate)],
        rule: EvidenceRule {
            tpm_roots: vec![Bytes::from_static(include_bytes!(
                "../../tests/samples/tpm/root.der"
            ))],
            images: vec![image],
            ..EvidenceRule::default()
        },
        bound: BOUND,
        at: NOW,
    }
}

fn all_recorded() -> [Signed; 3] {
    [
        recorded(
            include_bytes!("../../tests/samples/tpm/ecdsa.quote"),
            include_bytes!("../../tests/samples/tpm/ecdsa.signature"),
            include_bytes!("../../tests/samples/tpm/ecdsa.cert.der"),
        ),
        recorded(
            include_bytes!("../../tests/samples/tpm/rsassa.quote"),
            include_bytes!("../../tests/samples/tpm/rsassa.signature"),
            include_bytes!("../../tests/samples/tpm/rsassa.cert.der"),
        ),
        recorded(
            include_bytes!("../../tests/samples/tpm/rsapss.quote"),
            include_bytes!("../../tests/samples/tpm/rsapss.signature"),
            include_bytes!("../../tests/samples/tpm/rsapss.cert.der"),
        ),
    ]
}

#[test]
fn quotes_that_swtpm_made_are_accepted_under_each_signature_scheme() {
    for signed in all_recorded() {
        assert_eq!(signed.judge(), Ok(()));
        let at = |at| {
            Signed {
                at,
                ..signed.clone()
            }
            .judge()
        };
        refused(at(TOO_EARLY), "is not valid before 2026-11-29");
        refused(at(2_500_000_000), "expired at 2046-11-23");
        let replayed = Signed {
            bound: B256::ZERO,
            ..signed.clone()
        };
        refused(replayed.judge(), "qualifying data is of another statement");
    }
}

#[test]
fn no_byte_of_a_recorded_quote_can_be_altered() {
    for signed in all_recorded() {
        for place in 0..signed.quote.len() {
            let mut other = signed.clone();
            other.quote[place] ^= 0x10;
            assert!(other.judge().is_err(), "byte {place} of the quote");
        }
        for place in 0..signed.signature.len() {
            let mut other = signed.clone();
            other.signature[place] ^= 0x10;
            assert!(other.judge().is_err(), "byte {place} of the signature");
        }
    }
}

#[test]
fn the_scheme_is_that_of_the_key() {
    let [ecdsa, rsassa, rsapss] = all_recorded();
    let mut mixed = ecdsa.clone();
    mixed.signature.clone_from(&rsassa.signature);
    refused(mixed.judge(), "is of another kind than the AK");
    mixed.certificates.clone_from(&rsassa.certificates);
    refused(mixed.judge(), "is not signed by the AK");
    let mut renamed = rsassa;
    renamed.signature[1] = 0x16;
    refused(renamed.judge(), "is not signed by the AK");
    let mut renamed = rsapss;
    renamed.signature[1] = 0x14;
    refused(renamed.judge(), "is not signed by the AK");
    let curve = made(|made| made.keys[2] = p384());
    refused(curve, "");
}

#[test]
fn what_fits_is_accepted() {
    assert_eq!(made(|_| {}), Ok(()));
    let second_root = made(|made| {
        let (params, key) = (&made.params[0], p384());
        made.rule.tpm_roots = vec![root(params, &key).into()];
    });
    assert_eq!(second_root, Ok(()));
}

#[test]
fn a_quote_of_another_statement_is_refused() {
    let unbound = "qualifying data is of another statement";
    refused(altered(|signed| signed.bound = B256::ZERO), unbound);
    let other = made(|made| made.quote = quote(&[1; 32], &SELECTION, &made.registers));
    refused(other, unbound);
    for length in [0, 31, 33, 64] {
        let data = vec![0x42; length];
        let other = made(|made| made.quote = quote(&data, &SELECTION, &made.registers));
        refused(other, &format!("qualifying data: has {length} bytes"));
    }
}

#[test]
fn registers_that_were_not_quoted_are_refused() {
    let not_quoted = "registers: are not those that were quoted";
    let first = altered(|signed| signed.registers[0] = vec![0x12; 32].into());
    refused(first, not_quoted);
    refused(altered(|signed| signed.registers.swap(0, 1)), not_quoted);
    let fewer = altered(|signed| {
        signed.registers.pop();
    });
    refused(fewer, "are 2, and the quote selects 3");
    let more = altered(|signed| signed.registers.push(vec![0; 32].into()));
    refused(more, "are 4, and the quote selects 3");
    // The same bytes, cut elsewhere.
    let cut = altered(|signed| {
        signed.registers[0] = vec![0x11; 31].into();
        signed.registers[1] = [&[0x11][..], &[0x22; 32]].concat().into();
    });
    refused(cut, "one is not 32 bytes");
}

#[test]
fn other_images_are_refused() {
    for (name, value, says) in [
        ("pcr0", 0x12, "pcr0 is 0x1111"),
        ("pcr7", 0x23, "pcr7 is 0x2222"),
        ("pcr1", 0x11, "pcr1 is not in the quote"),
        ("pcr24", 0x11, "pcr24 is no register of a TPM"),
        ("mrTd", 0x11, "mrTd is no register of a TPM"),
    ] {
        let other = made(|made| {
            let registers = &mut made.rule.images[0].registers;
            registers.insert(name.into(), vec![value; 32].into());
        });
        refused(other, says);
    }
    refused(made(|made| made.rule.images.clear()), "names no image");
    let nothing = made(|made| {
        made.registers.clear();
        made.quote = quote(BOUND.as_slice(), &[0, 0, 0, 1, 0, 0x0b, 3, 0, 0, 0], &[]);
    });
    refused(nothing, "pcr0 is not in the quote");
}

#[test]
fn paths_that_do_not_hold_are_refused() {
    refused(made(|made| made.at = TOO_EARLY), "not valid before");
    refused(made(|made| made.at = TOO_LATE), "expired at 2028");
    for index in 0..3 {
        let expired = made(|made| made.params[index].not_after = date_time_ymd(2026, 12, 31));
        refused(expired, "expired at 2026-12-31");
    }
    let other = Made::new().sign();
    let roots = &other.rule.tpm_roots;
    let strangers = altered(|signed| signed.rule.tpm_roots.clone_from(roots));
    refused(strangers, "is not signed by the TPM root");
    let unnamed = altered(|signed| {
        let root = root(&authority("elsewhere", 1, None), &p384());
        signed.rule.tpm_roots = vec![root.into()];
    });
    refused(unnamed, "chain to no root of policy's");
    let none = altered(|signed| signed.rule.tpm_roots.clear());
    refused(none, "names no roots of TPMs");
    let swapped = altered(|signed| signed.certificates[0] = other.certificates[0].clone());
    refused(swapped, "is not signed by the AK certificate");
    let short = altered(|signed| {
        signed.certificates.pop();
    });
    refused(short, "chain to no root");
    let missing = altered(|signed| signed.certificates.clear());
    refused(missing, "chain to no root");
    let many = altered(|signed| signed.certificates = vec![Bytes::new(); 9]);
    refused(many, "are more than 8");
    // An endorsement key's certificate comes from the same authorities, and is for decryption.
    let endorsement = made(|made| {
        let purpose = ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 1]);
        made.params[2].extended_key_usages = vec![purpose];
    });
    refused(endorsement, "is for another purpose");
    let silent = made(|made| made.params[2].key_usages.clear());
    refused(silent, "does not say that it signs");
    let root_as_key = altered(|signed| {
        let roots = signed.rule.tpm_roots.clone();
        signed.certificates = roots;
    });
    refused(root_as_key, "is an authority's");
}

#[test]
fn quotes_in_another_form_are_refused() {
    for (place, value, why) in [
        (0, 0xfe, "magic"),
        (5, 0x17, "type: is no quote"),
        (7, 99, "qualified signer: has 99 bytes"),
        (92, 2, "safe"),
    ] {
        refused(made(|made| made.quote[place] = value), why);
    }
    for (selection, why) in [
        (&[0, 0, 0, 0][..], "is not of one bank"),
        (
            &[0, 0, 0, 2, 0, 0x0b, 3, 1, 0, 0, 0, 4, 3, 1, 0, 0],
            "is not of one bank",
        ),
        (
            &[0, 0, 0, 1, 0, 0x04, 3, 0x81, 0, 1],
            "is not of the SHA-256 bank",
        ),
        (&[0, 0, 0, 1, 0, 0x0b, 4, 0x81, 0, 1, 0], "is not 3 bytes"),
        (&[0, 0, 0, 1, 0, 0x0b, 2, 0x81, 0], "is not 3 bytes"),
    ] {
        let other = made(|made| {
            made.quote = quote(BOUND.as_slice(), selection, &made.registers);
        });
        refused(other, why);
    }
    refused(
        made(|made| made.quote.push(0)),
        "bytes follow its last field",
    );
    for length in 0..Made::new().quote.len() {
        assert!(Quote::read(&Made::new().quote[..length]).is_err());
    }
}

#[test]
fn signatures_in_another_form_are_refused() {
    for (place, value, why) in [
        (1, 0x1a, "algorithm 0x001a is not known"),
        (3, 0x0c, "is not over SHA-256"),
        (5, 33, "has 33 bytes"),
        (5, 0, "has 0 bytes"),
        (1, 0x14, "has 32 bytes"),
    ] {
        refused(altered(|signed| signed.signature[place] = value), why);
    }
    refused(altered(|signed| signed.signature.push(0)), "bytes follow");
    refused(altered(|signed| signed.signature.clear()), "ends too early");
    let zero = altered(|signed| signed.signature = ecdsa(&[0; 64]));
    refused(zero, "is not signed by the AK");
}

#[test]
fn zeros_in_front_of_the_numbers_of_a_signature_may_be_left_out() {
    let signed = Made::new();
    loop {
        let both = sign(&signed.keys[2], &signed.quote);
        let (r, s) = both.split_at(32);
        if r[0] != 0 {
            continue;
        }
        let short = [&[0, 0x18, 0, 0x0b, 0, 31], &r[1..], &[0, 32], s].concat();
        let signature = QuoteSignature::read(&short).unwrap();
        assert!(matches!(signature, QuoteSignature::Ecdsa(read) if read[..] == both[..]));
        break;
    }
}

static SIGNED: LazyLock<Signed> = LazyLock::new(|| Made::new().sign());

proptest! {
    #[test]
    fn nothing_altered_verifies(
        part in 0_usize..7, place in any::<prop::sample::Index>(), mask in 1_u8..,
    ) {
        let mut signed = SIGNED.clone();
        let alter = |bytes: &mut Vec<u8>| {
            let place = place.index(bytes.len());
            bytes[place] ^= mask;
        };
        let alter_shared = |shared: &mut Bytes| {
            let mut bytes = shared.to_vec();
            alter(&mut bytes);
            *shared = bytes.into();
        };
        match part {
            0 => alter(&mut signed.quote),
            1 => alter(&mut signed.signature),
            2..5 => alter_shared(&mut signed.registers[part - 2]),
            _ => alter_shared(&mut signed.certificates[part - 5]),
        }
        prop_assert!(signed.judge().is_err(), "part {part}");
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(
        quote in prop::collection::vec(any::<u8>(), 0..300),
        signature in prop::collection::vec(any::<u8>(), 0..300),
        certificate in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        let mut signed = SIGNED.clone();
        signed.certificates[0] = certificate.into();
        prop_assert!(signed.judge().is_err());
        let framed = [&[0xff, 0x54, 0x43, 0x47, 0x80, 0x18][..], &quote].concat();
        for quote in [quote, framed] {
            let signed = Signed { quote, signature: signature.clone(), ..SIGNED.clone() };
            prop_assert!(signed.judge().is_err());
        }
    }
}

#[test]
fn the_made_quote_is_accepted_before_it_is_altered() {
    assert_eq!(SIGNED.judge(), Ok(()));
}
