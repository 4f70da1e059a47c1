use super::*;
use crate::testing::{
    NOW, TOO_EARLY, TOO_LATE, authority, issued, leaf, list, listed, p384, refused, root,
};
use proptest::prelude::*;
use rcgen::{
    CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use std::sync::LazyLock;

const PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.8.3");
const RULES: Rules<'static> = Rules {
    schemes: &[Scheme::EcdsaSha384],
    purpose: Some(PURPOSE),
};
const AMD: Rules<'static> = Rules {
    schemes: &[Scheme::RsaPssSha384],
    purpose: None,
};

/// A root, two authorities and a leaf, each with its own key.
struct Chain {
    params: [CertificateParams; 4],
    keys: [KeyPair; 4],
}

impl Chain {
    fn new() -> Self {
        Self {
            params: [
                authority("root", 1, None),
                authority("above", 2, Some(1)),
                authority("below", 3, Some(0)),
                leaf("leaf"),
            ],
            keys: [p384(), p384(), p384(), p384()],
        }
    }

    /// From leaf to root.
    fn certificates(&self) -> Vec<Vec<u8>> {
        let mut all = vec![root(&self.params[0], &self.keys[0])];
        for index in 1..4 {
            let above = (&self.params[index - 1], &self.keys[index - 1]);
            all.push(issued(&self.params[index], &self.keys[index], above));
        }
        all.reverse();
        all
    }
}

fn check(certificates: &[Vec<u8>], at: UnixSeconds) -> Result<(), AttestError> {
    let path = certificates
        .iter()
        .map(|der| Certificate::read("certificate", der))
        .collect::<Result<Vec<_>, _>>()?;
    check_path(&path, RULES, at)
}

fn changed(change: impl FnOnce(&mut Chain)) -> Result<(), AttestError> {
    let mut chain = Chain::new();
    change(&mut chain);
    check(&chain.certificates(), NOW)
}

#[test]
fn the_roots_and_authorities_of_amd_hold() {
    type Genuine = (&'static [u8], &'static [u8], Option<&'static [u8]>);
    let genuine: [Genuine; 3] = [
        (
            include_bytes!("../../roots/amd-ark-milan.der"),
            include_bytes!("../../tests/samples/snp/ask-milan.der"),
            Some(include_bytes!("../../tests/samples/snp/virtee.vcek.der")),
        ),
        (
            include_bytes!("../../roots/amd-ark-genoa.der"),
            include_bytes!("../../tests/samples/snp/ask-genoa.der"),
            None,
        ),
        (
            include_bytes!("../../roots/amd-ark-turin.der"),
            include_bytes!("../../tests/samples/snp/ask-turin.der"),
            Some(include_bytes!("../../tests/samples/snp/turin.vcek.der")),
        ),
    ];
    for (ark, ask, vcek) in genuine {
        let ark = Certificate::read("ARK", ark).unwrap();
        ark.signed.check("ARK", &ark, AMD.schemes).unwrap();
        let ask = Certificate::read("ASK", ask).unwrap();
        ask.signed.check("ASK", &ark, AMD.schemes).unwrap();
        if let Some(vcek) = vcek {
            let path = [Certificate::read("VCEK", vcek).unwrap(), ask, ark];
            assert_eq!(check_path(&path, AMD, NOW), Ok(()));
            refused(check_path(&path, RULES, NOW), "not signed as its vendor");
        }
    }
}

#[test]
fn a_path_holds_while_all_its_certificates_are_valid() {
    let chain = Chain::new().certificates();
    assert_eq!(check(&chain, NOW), Ok(()));
    refused(check(&chain, TOO_EARLY), "is not valid before 2026-01-01");
    refused(check(&chain, TOO_LATE), "expired at 2028-01-01");
    for index in 0..4 {
        let expired = changed(|chain| chain.params[index].not_after = date_time_ymd(2026, 12, 31));
        refused(expired, "expired at 2026-12-31");
        let early = changed(|chain| chain.params[index].not_before = date_time_ymd(2027, 1, 2));
        refused(early, "is not valid before 2027-01-02");
    }
}

#[test]
fn only_authorities_sign_certificates_and_only_as_deep_as_they_may() {
    for index in 0..3 {
        let no_authority = changed(|chain| chain.params[index].is_ca = IsCa::ExplicitNoCa);
        refused(no_authority, "is no authority's");
        let unsaid = changed(|chain| chain.params[index].is_ca = IsCa::NoCa);
        refused(unsaid, "is no authority's");
        let usage = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
        let other_usage = changed(|chain| chain.params[index].key_usages = usage);
        refused(other_usage, "may not sign certificates");
        let no_usage = changed(|chain| chain.params[index].key_usages.clear());
        refused(no_usage, "may not sign certificates");
    }
    let deep = changed(|chain| chain.params[1] = authority("above", 2, Some(0)));
    refused(deep, "does not allow a path as long");
    let leaf_of_authority = changed(|chain| chain.params[3] = authority("leaf", 7, None));
    refused(leaf_of_authority, "is an authority's");
    let certifies =
        changed(|chain| chain.params[3].key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    refused(certifies, "may not sign");
}

#[test]
fn critical_extensions_that_nobody_checks_are_refused_and_so_are_two_of_a_kind() {
    let extension = |critical| {
        let mut extension = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        extension.set_criticality(critical);
        extension
    };
    let push = |critical, index: usize| {
        changed(|chain| {
            chain.params[index]
                .custom_extensions
                .push(extension(critical));
        })
    };
    for index in 0..4 {
        assert_eq!(push(false, index), Ok(()));
        refused(push(true, index), "critical extension 1.2.3.4 is unknown");
    }
    let twice = changed(|chain| {
        chain.params[3].custom_extensions = vec![extension(false), extension(false)];
    });
    refused(twice, "extension 1.2.3.4 is there twice");
    let nothing = changed(|chain| {
        chain.params[3].custom_extensions =
            vec![CustomExtension::from_oid_content(&[2, 5, 29, 37], vec![])];
    });
    refused(nothing, "extension 2.5.29.37");
}

#[test]
fn a_certificate_for_another_purpose_is_refused() {
    let purposes = |index: usize, oid: &'static [u64]| {
        changed(|chain| {
            chain.params[index].extended_key_usages =
                vec![ExtendedKeyUsagePurpose::Other(oid.to_vec())];
        })
    };
    for index in 0..4 {
        assert_eq!(purposes(index, &[2, 23, 133, 8, 3]), Ok(()));
        refused(purposes(index, &[2, 23, 133, 8, 1]), "another purpose");
    }
}

#[test]
fn certificates_of_others_are_refused() {
    let (chain, other) = (Chain::new(), Chain::new());
    let own = chain.certificates();
    for index in 0..4 {
        let mut mixed = own.clone();
        mixed[index].clone_from(&other.certificates()[index]);
        refused(check(&mixed, NOW), "is not signed by");
    }
    let mut gap = own.clone();
    gap.remove(1);
    refused(check(&gap, NOW), "is not issued by");
    let mut turned = own.clone();
    turned.swap(1, 2);
    refused(check(&turned, NOW), "");
    refused(check(&[], NOW), "are missing");
    assert_eq!(check(&own, NOW), Ok(()));
}

#[test]
fn garbage_and_oversize_are_refused() {
    for (bytes, why) in [
        (vec![], "is missing"),
        (vec![0x30], "is no DER"),
        (vec![0x30, 0], "is no DER"),
        (vec![0x30, 0x80, 0, 0], "is no DER"),
        (vec![0; 9000], "is longer than 8192 bytes"),
    ] {
        refused(Certificate::read("certificate", &bytes), why);
    }
    let mut longer = Chain::new().certificates().remove(0);
    longer.push(0);
    refused(Certificate::read("certificate", &longer), "is no DER");
}

/// A root's list, asked about a certificate of serial 2.
fn revocations(
    change: impl FnOnce(&mut CertificateRevocationListParams, &mut CertificateParams),
) -> Result<(), AttestError> {
    let (mut params, key) = (authority("root", 1, None), p384());
    let mut list = list(&[5, 6]);
    change(&mut list, &mut params);
    let der = listed(&list, (&authority("root", 1, None), &key));
    ask_list(&der, &root(&params, &key), NOW)
}

fn ask_list(list: &[u8], root: &[u8], at: UnixSeconds) -> Result<(), AttestError> {
    let (subject, issuer) = (authority("below", 2, None), authority("root", 1, None));
    let subject = issued(&subject, &p384(), (&issuer, &p384()));
    let issuer = Certificate::read("root", root)?;
    Revocations::read(list, &issuer, RULES.schemes, at)?
        .check(&Certificate::read("subject", &subject)?)
}

#[test]
fn a_list_names_who_is_revoked() {
    assert_eq!(revocations(|_, _| {}), Ok(()));
    let revoked = revocations(|own, _| own.revoked_certs = list(&[5, 2]).revoked_certs);
    refused(revoked, "subject: is revoked");
    assert_eq!(revocations(|own, _| own.revoked_certs.clear()), Ok(()));
}

#[test]
fn lists_that_do_not_hold_are_refused() {
    let expired = revocations(|list, _| list.next_update = date_time_ymd(2026, 12, 31));
    refused(expired, "revocation list: expired at 2026-12-31");
    let early = revocations(|list, _| list.this_update = date_time_ymd(2027, 1, 2));
    refused(early, "revocation list: is not valid before 2027-01-02");
    let unsigned = revocations(|_, issuer| issuer.key_usages = vec![KeyUsagePurpose::KeyCertSign]);
    refused(unsigned, "its issuer may not sign lists");
    let others = revocations(|_, issuer| *issuer = authority("other", 1, None));
    refused(others, "is another authority's");
    let part = revocations(|list, _| {
        let uris = vec!["http://a.example/crl".to_owned()];
        list.issuing_distribution_point = Some(CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris },
            scope: None,
        });
    });
    refused(part, "critical extension 2.5.29.28 is unknown");
    let name = authority("root", 1, None);
    let forged = listed(&list(&[]), (&name, &p384()));
    refused(
        ask_list(&forged, &root(&name, &p384()), NOW),
        "is not signed by the root",
    );
    refused(ask_list(&[], &root(&name, &p384()), NOW), "is missing");
    refused(ask_list(&[0x30, 0], &root(&name, &p384()), NOW), "no DER");
    let long = vec![0x30; 70_000];
    refused(ask_list(&long, &root(&name, &p384()), NOW), "is longer");
}

#[test]
fn lists_signed_as_amd_signs_are_read() {
    let ark: &[u8] = include_bytes!("../../tests/samples/snp/test-ark.der");
    let none: &[u8] = include_bytes!("../../tests/samples/snp/test-none.crl");
    let revoking: &[u8] = include_bytes!("../../tests/samples/snp/test-ask.crl");
    // The list names AMD's serial number 010001h, which is that of Milan's ASK.
    let ask: &[u8] = include_bytes!("../../tests/samples/snp/ask-milan.der");
    let (ark, ask) = (
        Certificate::read("ARK", ark).unwrap(),
        Certificate::read("ASK", ask).unwrap(),
    );
    let read = |list, at| Revocations::read(list, &ark, AMD.schemes, at);
    assert_eq!(read(none, NOW).unwrap().check(&ask), Ok(()));
    refused(read(revoking, NOW).unwrap().check(&ask), "is revoked");
    refused(read(none, TOO_LATE), "expired at 2027-11-29");
    let mut altered = none.to_vec();
    altered[700] ^= 1;
    refused(read(&altered, NOW), "is not signed by the ARK");
}

static CHAIN: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| Chain::new().certificates());

proptest! {
    #[test]
    fn no_altered_certificate_holds(
        which in 0_usize..3, place in any::<prop::sample::Index>(), mask in 1_u8..,
    ) {
        let mut chain = CHAIN.clone();
        let place = place.index(chain[which].len());
        chain[which][place] ^= mask;
        prop_assert!(check(&chain, NOW).is_err(), "byte {place} of certificate {which}");
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Certificate::read("certificate", &bytes);
        let issuer = Certificate::read("root", &CHAIN[3]).unwrap();
        prop_assert!(Revocations::read(&bytes, &issuer, RULES.schemes, NOW).is_err());
    }

    #[test]
    fn no_altered_list_holds(place in any::<prop::sample::Index>(), mask in 1_u8..) {
        static LIST: LazyLock<(Vec<u8>, Vec<u8>)> = LazyLock::new(|| {
            let (name, key) = (authority("root", 1, None), p384());
            (root(&name, &key), listed(&list(&[5]), (&name, &key)))
        });
        let (root, mut list) = LIST.clone();
        let place = place.index(list.len());
        list[place] ^= mask;
        prop_assert!(ask_list(&list, &root, NOW).is_err(), "byte {place}");
    }
}
