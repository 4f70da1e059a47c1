//! Authorities of the tests' own, with keys on P-256 and P-384.

use cryptlet_types::UnixSeconds;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName,
    DnType, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, RevocationReason, RevokedCertParams, SerialNumber, date_time_ymd,
};
use ring::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm,
    },
};

/// 1 January 2027: certificates of the tests are valid from 2026 to 2028.
pub(crate) const NOW: UnixSeconds = 1_798_761_600;
/// 1 January 2025.
pub(crate) const TOO_EARLY: UnixSeconds = 1_735_689_600;
/// 1 January 2029.
pub(crate) const TOO_LATE: UnixSeconds = 1_861_920_000;

pub(crate) fn p384() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap()
}

pub(crate) fn p256() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// `r` and `s`, big-endian, as they stand outside certificates.
pub(crate) fn sign(key: &KeyPair, message: &[u8]) -> Vec<u8> {
    let algorithm: &'static EcdsaSigningAlgorithm = match key.algorithm() {
        algorithm if *algorithm == PKCS_ECDSA_P384_SHA384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        _ => &ECDSA_P256_SHA256_FIXED_SIGNING,
    };
    let random = SystemRandom::new();
    let key = EcdsaKeyPair::from_pkcs8(algorithm, key.serialized_der(), &random).unwrap();
    key.sign(&random, message).unwrap().as_ref().to_vec()
}

fn named(name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.serial_number = Some(SerialNumber::from(serial));
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2028, 1, 1);
    params
}

/// What an authority's certificate says.
pub(crate) fn authority(name: &str, serial: u64, longest: Option<u8>) -> CertificateParams {
    let mut params = named(name, serial);
    params.is_ca = IsCa::Ca(match longest {
        Some(longest) => BasicConstraints::Constrained(longest),
        None => BasicConstraints::Unconstrained,
    });
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What the certificate of a key that signs evidence says.
pub(crate) fn leaf(name: &str) -> CertificateParams {
    let mut params = named(name, 7);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

/// The certificate of `key`, signed by itself.
pub(crate) fn root(params: &CertificateParams, key: &KeyPair) -> Vec<u8> {
    params.self_signed(key).unwrap().der().to_vec()
}

/// The certificate of `key`, signed by the holder of `above`.
pub(crate) fn issued(
    params: &CertificateParams,
    key: &KeyPair,
    above: (&CertificateParams, &KeyPair),
) -> Vec<u8> {
    let issuer = Issuer::from_params(above.0, above.1);
    params.signed_by(key, &issuer).unwrap().der().to_vec()
}

/// What a list of revoked certificates says, valid when the certificates are.
pub(crate) fn list(revoked: &[u64]) -> CertificateRevocationListParams {
    CertificateRevocationListParams {
        this_update: date_time_ymd(2026, 1, 1),
        next_update: date_time_ymd(2028, 1, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: revoked
            .iter()
            .map(|serial| RevokedCertParams {
                serial_number: SerialNumber::from(*serial),
                revocation_time: date_time_ymd(2026, 6, 1),
                reason_code: Some(RevocationReason::KeyCompromise),
                invalidity_date: None,
            })
            .collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    }
}

/// The list, signed by the holder of `above`.
pub(crate) fn listed(
    params: &CertificateRevocationListParams,
    above: (&CertificateParams, &KeyPair),
) -> Vec<u8> {
    let issuer = Issuer::from_params(above.0, above.1);
    params.signed_by(&issuer).unwrap().der().to_vec()
}

/// Asserts that something is refused, and that the error says why.
#[track_caller]
pub(crate) fn refused<T: std::fmt::Debug, E: ToString>(result: Result<T, E>, why: &str) {
    match result {
        Ok(value) => panic!("{value:?} was accepted, which should fail with: {why}"),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains(why), "{error:?} does not say {why:?}");
        }
    }
}
