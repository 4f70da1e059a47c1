use super::*;
use alloy_primitives::Address;
use cryptlet_types::{Measurement, Provider};
use proptest::prelude::*;
use x509_cert::der::Decode;

const NOW: UnixSeconds = 1_792_159_200;

fn host() -> (SigningKey, Identity) {
    let key = SigningKey::generate();
    let draft = Draft::new(NOW, 3_600).unwrap();
    let signature = key.sign(draft.digest(Party::Host)).unwrap();
    let identity = draft.of_host(key.address(), signature).unwrap();
    (key, identity)
}

fn statement(region_key: Address, nonce: B256) -> EvidenceStatement {
    EvidenceStatement {
        provider: Provider::Simulator,
        controls: vec!["seccomp".into()],
        measurement: Measurement(B256::repeat_byte(1)),
        region_key,
        exchange_key: B256::repeat_byte(3),
        nonce,
    }
}

fn word() -> Attestation {
    Attestation::Simulator {
        signature: CompactSignature::default(),
    }
}

/// A certificate whose parts were changed before it signed itself.
fn forged(change: impl FnOnce(&mut TbsCertificate)) -> Vec<u8> {
    let (key, draft) = (SigningKey::generate(), Draft::new(NOW, 3_600).unwrap());
    let signature = key.sign(draft.digest(Party::Host)).unwrap();
    let shown = AttestedKey {
        proof: Proof::Host(key.address()),
        signature,
    };
    let mut tbs = tbs(draft.pair.public_key().as_ref(), &draft.binding, &shown).unwrap();
    change(&mut tbs);
    signed(&draft.pair, tbs)
}

fn signed(pair: &EcdsaKeyPair, tbs: TbsCertificate) -> Vec<u8> {
    let signature = pair
        .sign(&SystemRandom::new(), &tbs.to_der().unwrap())
        .unwrap();
    let certificate = Certificate {
        tbs_certificate: tbs,
        signature_algorithm: ecdsa(),
        signature: BitString::from_bytes(signature.as_ref()).unwrap(),
    };
    certificate.to_der().unwrap()
}

fn extension(tbs: &mut TbsCertificate) -> &mut Extension {
    &mut tbs.extensions.as_mut().unwrap()[0]
}

fn content(bytes: &[u8]) -> OctetString {
    let inner = OctetString::new(bytes).unwrap().to_der().unwrap();
    OctetString::new(inner).unwrap()
}

fn refused(der: &[u8]) -> String {
    read(der, NOW).unwrap_err().to_string()
}

#[test]
fn what_was_made_is_read() {
    let (key, identity) = host();
    let shown = read(&identity.certificate, NOW).unwrap();
    assert_eq!(shown.proof, Proof::Host(key.address()));
    assert_eq!(sha256(&shown.spki), shown.binding.key);
    assert_eq!(shown.binding.not_after, NOW + 3_600);

    let (region, draft) = (SigningKey::generate(), Draft::new(NOW, 60).unwrap());
    let said = statement(region.address(), draft.digest(Party::Region));
    let identity = draft.attested(said.clone(), word(), &region).unwrap();
    let shown = read(&identity.certificate, NOW).unwrap();
    assert_eq!(
        shown.proof,
        Proof::Attested {
            statement: Box::new(said),
            attestation: word()
        }
    );
}

#[test]
fn secrets_never_show() {
    let draft = Draft::new(NOW, 60).unwrap();
    let secret = format!("{:?}", draft.secret.as_slice());
    assert!(!format!("{draft:?}").contains(&secret));
    let (_, identity) = host();
    let secret = format!("{:?}", identity.secret.as_slice());
    assert!(!format!("{identity:?}").contains(&secret));
}

#[test]
fn a_key_that_its_holder_did_not_sign_is_not_bound() {
    let (host, other) = (SigningKey::generate(), SigningKey::generate());
    let make = |sign: &dyn Fn(&Draft) -> CompactSignature| {
        let draft = Draft::new(NOW, 3_600).unwrap();
        let signature = sign(&draft);
        draft.of_host(host.address(), signature).unwrap_err()
    };
    let elsewhere = Draft::new(NOW, 3_600).unwrap();
    let forgeries: [&dyn Fn(&Draft) -> CompactSignature; 3] = [
        &|draft| other.sign(draft.digest(Party::Host)).unwrap(),
        &|_| host.sign(elsewhere.digest(Party::Host)).unwrap(),
        &|draft| host.sign(draft.digest(Party::Region)).unwrap(),
    ];
    for forgery in forgeries {
        let error = make(forgery);
        assert!(
            matches!(error, CertificateError::NotBound { party: "host", .. }),
            "{error}"
        );
        assert!(!error.is_retryable());
    }
}

#[test]
fn a_statement_about_another_key_is_not_bound() {
    let (region, draft) = (SigningKey::generate(), Draft::new(NOW, 60).unwrap());
    let replayed = statement(region.address(), B256::repeat_byte(7));
    let error = draft.attested(replayed, word(), &region).unwrap_err();
    assert!(
        error.to_string().contains("statement is of another key"),
        "{error}"
    );

    let (stranger, draft) = (SigningKey::generate(), Draft::new(NOW, 60).unwrap());
    let of_region = statement(region.address(), draft.digest(Party::Region));
    let error = draft.attested(of_region, word(), &stranger).unwrap_err();
    assert!(
        matches!(
            error,
            CertificateError::NotBound {
                party: "region",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn it_is_believed_from_its_first_second_to_its_last() {
    let (_, identity) = host();
    let at = |now| read(&identity.certificate, now).map(|_| ());
    assert_eq!((at(NOW - 300), at(NOW + 3_600)), (Ok(()), Ok(())));
    for now in [0, NOW - 301, NOW + 3_601, UnixSeconds::MAX] {
        let error = at(now).unwrap_err();
        assert!(
            matches!(error, CertificateError::OutOfTime { .. }),
            "{error}"
        );
        assert!(error.is_retryable(), "the next certificate may be in time");
    }
}

#[test]
fn nothing_is_certified_for_longer_than_a_day() {
    assert!(Draft::new(NOW, 86_400 - 300).is_ok());
    let error = Draft::new(NOW, 86_400 - 299).unwrap_err();
    assert!(
        matches!(error, CertificateError::LongLived { .. }),
        "{error}"
    );
    let (key, mut draft) = (SigningKey::generate(), Draft::new(NOW, 60).unwrap());
    draft.binding.not_after = draft.binding.not_before + 86_401;
    let signature = key.sign(draft.digest(Party::Host)).unwrap();
    let error = draft.of_host(key.address(), signature).unwrap_err();
    assert!(
        matches!(error, CertificateError::LongLived { .. }),
        "{error}"
    );
}

#[test]
fn the_extension_is_there_once_in_its_form_and_its_size() {
    assert_eq!(
        read(&forged(|tbs| tbs.extensions = None), NOW),
        Err(CertificateError::NoEvidence)
    );
    let other = ObjectIdentifier::new_unwrap("2.23.133.5.4.9");
    assert_eq!(
        read(&forged(|tbs| extension(tbs).extn_id = other), NOW),
        Err(CertificateError::NoEvidence)
    );
    let twice = forged(|tbs| {
        let again = extension(tbs).clone();
        tbs.extensions.as_mut().unwrap().push(again);
    });
    assert_eq!(read(&twice, NOW), Err(CertificateError::Repeated(2)));
    let one_more = forged(|tbs| {
        let mut again = extension(tbs).clone();
        again.extn_id = other;
        tbs.extensions.as_mut().unwrap().push(again);
    });
    assert!(refused(&one_more).contains("extensions"));
    assert!(refused(&forged(|tbs| extension(tbs).critical = true)).contains("extensions"));

    for garbage in [&b""[..], b"garbage", &[0x80], &[0x9f; 500]] {
        let error = refused(&forged(|tbs| extension(tbs).extn_value = content(garbage)));
        assert!(error.contains("id-pe-cmw"), "{error}");
        let bare = OctetString::new(garbage).unwrap();
        let error = refused(&forged(|tbs| extension(tbs).extn_value = bare));
        assert!(error.contains("id-pe-cmw"), "{error}");
    }
}

#[test]
fn another_record_than_evidence_of_ours_is_refused() {
    let record = |kind: &str, content: &[u8], indicator: u64| {
        let record = encode(&(kind, Bytes::copy_from_slice(content), indicator)).unwrap();
        refused(&forged(|tbs| {
            extension(tbs).extn_value = self::content(&record)
        }))
    };
    assert!(record("application/eat+cwt", b"", EVIDENCE).contains("another type"));
    assert!(record(MEDIA_TYPE, b"", 8).contains("another type"));
    assert!(record(MEDIA_TYPE, b"", EVIDENCE).contains("attested key"));
    assert!(record(MEDIA_TYPE, &[0xa0], EVIDENCE).contains("attested key"));
    let large = vec![0; MAX_ATTESTED_KEY_BYTES + 1];
    assert!(record(MEDIA_TYPE, &large, EVIDENCE).contains("at most 61440"));
}

#[test]
fn what_is_too_large_is_neither_made_nor_read() {
    let (region, draft) = (SigningKey::generate(), Draft::new(NOW, 60).unwrap());
    let said = statement(region.address(), draft.digest(Party::Region));
    let document = vec![0; MAX_ATTESTED_KEY_BYTES].into();
    let error = draft
        .attested(said, Attestation::Nitro { document }, &region)
        .unwrap_err();
    assert!(
        matches!(error, CertificateError::TooLarge { .. }),
        "{error}"
    );
    let padded = forged(|tbs| {
        let padding = vec![0; MAX_CERTIFICATE_BYTES];
        extension(tbs).extn_value = OctetString::new(padding).unwrap();
    });
    assert!(matches!(
        read(&padded, NOW),
        Err(CertificateError::TooLarge { what: "it", .. })
    ));
}

#[test]
fn everything_else_is_as_in_every_certificate() {
    let name = Name::from_str("CN=somebody").unwrap();
    let cases: [(&str, Vec<u8>); 5] = [
        (
            "serialNumber",
            forged(|tbs| tbs.serial_number = SerialNumber::from(2_u8)),
        ),
        ("issuer", forged(|tbs| tbs.issuer = name.clone())),
        ("subject", forged(|tbs| tbs.subject = name.clone())),
        (
            "validity",
            forged(|tbs| {
                let same = tbs.validity.not_before.to_unix_duration();
                tbs.validity.not_before = GeneralizedTime::from_unix_duration(same).unwrap().into();
            }),
        ),
        (
            "subjectPublicKeyInfo",
            forged(|tbs| tbs.subject_public_key_info.algorithm.parameters = None),
        ),
    ];
    for (part, der) in cases {
        assert!(refused(&der).contains(part), "{}", refused(&der));
    }
}

#[test]
fn evidence_that_was_put_into_another_certificate_is_not_bound() {
    let (_, genuine) = host();
    let stolen = Certificate::from_der(&genuine.certificate).unwrap();
    let theirs =
        forged(|tbs| *extension(tbs) = stolen.tbs_certificate.extensions.unwrap()[0].clone());
    let error = read(&theirs, NOW).unwrap_err();
    assert!(
        matches!(error, CertificateError::NotBound { .. }),
        "{error}"
    );
}

/// A string of bits may leave out some of its last byte if they are zero, as one signature in two ends.
#[test]
fn a_signature_whose_last_bits_are_said_not_to_count_is_refused() {
    let ends_in_zero = || Some(host().1.certificate).filter(|der| der[der.len() - 1] & 1 == 0);
    let mut der = std::iter::repeat_with(ends_in_zero)
        .flatten()
        .next()
        .unwrap();
    assert!(read(&der, NOW).is_ok());
    let signature = Certificate::from_der(&der).unwrap().signature;
    let unused = der.len() - signature.raw_bytes().len() - 1;
    assert_eq!(der[unused], 0);
    der[unused] = 1;
    assert!(
        Certificate::from_der(&der).is_ok(),
        "well-formed all the same"
    );
    assert_eq!(read(&der, NOW), Err(CertificateError::Altered));
}

proptest! {
    #[test]
    fn no_altered_byte_goes_unnoticed(place: prop::sample::Index, bit in 0_u8..8) {
        let (_, identity) = host();
        let mut der = identity.certificate;
        let place = place.index(der.len());
        der[place] ^= 1 << bit;
        prop_assert!(read(&der, NOW).is_err());
    }

    #[test]
    fn no_cut_certificate_is_read(end: prop::sample::Index) {
        let (_, identity) = host();
        let end = end.index(identity.certificate.len());
        prop_assert!(read(&identity.certificate[..end], NOW).is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(read(&bytes, NOW).is_err());
        let inside = forged(|tbs| extension(tbs).extn_value = content(&bytes));
        prop_assert!(read(&inside, NOW).is_err());
    }
}
