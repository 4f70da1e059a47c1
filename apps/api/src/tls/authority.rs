//! The host's certificate authority: a P-256 key in the vault, one certificate, and what it issues.
//!
//! Its certificate is what clients pin and what the register names by its SHA-256, so it is kept in a file and never
//! made anew. It is constrained to the host's names (and `localhost`), so that whoever trusts it trusts it for nothing
//! else. The server's certificates are short-lived; their keys are made in memory and never leave it.

use super::TlsError;
use crate::{
    auth::certificate_digest,
    types::{Hex, Label},
};
use cryptlet_types::UnixSeconds;
use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PublicKeyData,
    SanType, SerialNumber, SignatureAlgorithm, SigningKey, date_time_ymd,
};
use rustls::{
    RootCertStore, client::verify_server_cert_signed_by_trust_anchor, server::ParsedCertificate,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime, pem::PemObject,
};
use sha2::{Digest, Sha256};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use zeroize::Zeroizing;

const DAY: u64 = 86_400;
const AUTHORITY_SECONDS: u64 = 3_650 * DAY;
pub(crate) const SERVER_SECONDS: u64 = 30 * DAY;
/// How far clocks may differ.
const SKEW_SECONDS: u64 = 3_600;

/// The authority's private key, wherever it lies.
pub trait AuthoritySigner: Send + Sync + 'static {
    /// Its public half: a point of P-256, SEC1 uncompressed.
    fn public_key(&self) -> [u8; 65];

    /// Signs `message` by ECDSA with SHA-256; the signature in DER.
    ///
    /// # Errors
    /// What the key's keeper says.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;
}

/// A certificate for a client, with its private key.
pub struct ClientCertificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PEM.
    pub key: Zeroizing<String>,
    /// SHA-256 of the DER certificate: what a role is configured by.
    pub digest: Hex<32>,
}

impl fmt::Debug for ClientCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

/// A certificate for the server, with its private key.
pub(crate) struct ServerCertificate {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) expires: UnixSeconds,
}

/// A host's certificate authority.
#[derive(Clone)]
pub struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    signer: Arc<dyn AuthoritySigner>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("digest", &self.digest())
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes its certificate: for ten years, and for servers with one of `names` (DNS names or IP addresses),
    /// `localhost`, 127.0.0.1 or ::1. Keep [`Authority::pem`].
    ///
    /// # Errors
    /// A name that is none, or what the signer says.
    pub fn create(
        signer: Arc<dyn AuthoritySigner>,
        names: &[String],
        now: UnixSeconds,
    ) -> Result<Self, TlsError> {
        let key = RemoteKey::new(&*signer);
        let mut params = authority_params(&key.public);
        validity(&mut params, now, AUTHORITY_SECONDS);
        params.name_constraints = Some(NameConstraints {
            permitted_subtrees: permitted(names)?,
            excluded_subtrees: Vec::new(),
        });
        let certificate = params
            .self_signed(&key)
            .map_err(|error| key.reason(error))?;
        Ok(Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            signer,
        })
    }

    /// The authority whose certificate was kept as `pem`.
    ///
    /// # Errors
    /// [`TlsError::NotPem`], or [`TlsError::OtherKey`].
    pub fn open(signer: Arc<dyn AuthoritySigner>, pem: &str) -> Result<Self, TlsError> {
        let certificate =
            CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| TlsError::NotPem {
                place: "the authority's file".to_owned(),
                wanted: "certificate",
            })?;
        let key = signer.public_key();
        if !certificate.windows(key.len()).any(|part| part == key) {
            return Err(TlsError::OtherKey);
        }
        Ok(Self {
            certificate,
            pem: pem.to_owned(),
            signer,
        })
    }

    /// Its certificate, PEM: what clients pin.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// Its certificate, DER.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its DER certificate: what the register names.
    #[must_use]
    pub fn digest(&self) -> Hex<32> {
        certificate_digest(&self.certificate)
    }

    /// A certificate for a client, valid for `seconds`. It opens nothing until its digest has a role.
    ///
    /// # Errors
    /// What the signer says.
    pub fn issue_client_certificate(
        &self,
        label: &Label,
        seconds: u64,
        now: UnixSeconds,
    ) -> Result<ClientCertificate, TlsError> {
        let mut params = leaf_params(label.as_str(), now, seconds);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = self.sign(&params, &key)?;
        Ok(ClientCertificate {
            certificate: certificate.pem(),
            key: Zeroizing::new(key.serialize_pem()),
            digest: certificate_digest(certificate.der()),
        })
    }

    /// A certificate for the server with a fresh key, for 30 days.
    pub(crate) fn issue_server_certificate(
        &self,
        names: &[String],
        now: UnixSeconds,
    ) -> Result<ServerCertificate, TlsError> {
        let mut params = leaf_params("Bletchley host", now, SERVER_SECONDS);
        params.subject_alt_names = names
            .iter()
            .map(|name| alternative(name))
            .collect::<Result<_, _>>()?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = self.sign(&params, &key)?.der().clone();
        self.check(&certificate, now)
            .map_err(|reason| TlsError::NotPermitted {
                names: names.join(", "),
                reason,
            })?;
        Ok(ServerCertificate {
            certificate,
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
            expires: now.saturating_add(SERVER_SECONDS),
        })
    }

    fn sign(
        &self,
        params: &CertificateParams,
        key: &KeyPair,
    ) -> Result<rcgen::Certificate, TlsError> {
        let remote = RemoteKey::new(&*self.signer);
        let issuer_params = authority_params(&remote.public);
        let issuer = Issuer::from_params(&issuer_params, &remote);
        params
            .signed_by(key, &issuer)
            .map_err(|error| remote.reason(error))
    }

    /// What a client will check: the chain, its time, and the names that the authority may certify.
    fn check(&self, leaf: &CertificateDer<'_>, now: UnixSeconds) -> Result<(), rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &roots,
            &[],
            UnixTime::since_unix_epoch(Duration::from_secs(now)),
            rustls::crypto::ring::default_provider()
                .signature_verification_algorithms
                .all,
        )
    }
}

/// Name, serial number and uses follow from the key alone, so that the issuer of a leaf can be named without reading
/// the authority's certificate.
fn authority_params(public_key: &[u8]) -> CertificateParams {
    let digest = Sha256::digest(public_key);
    let mut serial: Vec<u8> = digest.iter().take(16).copied().collect();
    if let Some(first) = serial.first_mut() {
        // Positive and without leading zeros in DER.
        *first = (*first & 0x7f) | 0x40;
    }
    let short: String = digest
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from(serial));
    params.distinguished_name.push(
        DnType::CommonName,
        format!("Bletchley host authority {short}"),
    );
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn leaf_params(name: &str, now: UnixSeconds, seconds: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    validity(&mut params, now, seconds);
    params
}

fn validity(params: &mut CertificateParams, now: UnixSeconds, seconds: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    let at = |moment| epoch + Duration::from_secs(moment);
    params.not_before = at(now.saturating_sub(SKEW_SECONDS));
    params.not_after = at(now.saturating_add(seconds));
}

fn alternative(name: &str) -> Result<SanType, TlsError> {
    Ok(match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into()?),
    })
}

/// Both kinds of names are always constrained: a kind that is not listed would be free.
fn permitted(names: &[String]) -> Result<Vec<GeneralSubtree>, TlsError> {
    let own = [
        "localhost".to_owned(),
        Ipv4Addr::LOCALHOST.to_string(),
        Ipv6Addr::LOCALHOST.to_string(),
    ];
    let others = names.iter().filter(|name| !own.contains(name));
    own.iter()
        .chain(others)
        .map(|name| {
            Ok(match alternative(name)? {
                SanType::IpAddress(IpAddr::V4(address)) => {
                    GeneralSubtree::IpAddress(CidrSubnet::V4(address.octets(), [255; 4]))
                }
                SanType::IpAddress(IpAddr::V6(address)) => {
                    GeneralSubtree::IpAddress(CidrSubnet::V6(address.octets(), [255; 16]))
                }
                _ => GeneralSubtree::DnsName(name.clone()),
            })
        })
        .collect()
}

/// A signer as the certificate library wants it. Keeps what the signer said, which that library drops.
struct RemoteKey<'a> {
    signer: &'a dyn AuthoritySigner,
    public: [u8; 65],
    said: Mutex<Option<Box<dyn std::error::Error + Send + Sync>>>,
}

impl<'a> RemoteKey<'a> {
    fn new(signer: &'a dyn AuthoritySigner) -> Self {
        Self {
            signer,
            public: signer.public_key(),
            said: Mutex::new(None),
        }
    }

    fn reason(&self, error: rcgen::Error) -> TlsError {
        let said = self
            .said
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        said.map_or(TlsError::Certificate(error), TlsError::Signer)
    }
}

impl PublicKeyData for RemoteKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl SigningKey for RemoteKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.signer.sign(message).map_err(|error| {
            *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            rcgen::Error::RemoteKeyError
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use p256::ecdsa::{DerSignature, SigningKey as P256, signature::Signer};

    /// A key in memory.
    pub(crate) struct Memory(P256);

    impl Memory {
        pub(crate) fn new(seed: u8) -> Arc<Self> {
            Arc::new(Self(P256::from_slice(&[seed; 32]).unwrap()))
        }
    }

    impl AuthoritySigner for Memory {
        fn public_key(&self) -> [u8; 65] {
            let point = self.0.verifying_key().to_encoded_point(false);
            point.as_bytes().try_into().unwrap()
        }

        fn sign(
            &self,
            message: &[u8],
        ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
            let signature: DerSignature = self.0.sign(message);
            Ok(signature.as_bytes().to_vec())
        }
    }

    struct Away;

    impl AuthoritySigner for Away {
        fn public_key(&self) -> [u8; 65] {
            Memory::new(1).public_key()
        }

        fn sign(&self, _: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
            Err("the token was pulled out".into())
        }
    }

    const NOW: UnixSeconds = 1_790_000_000;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_kept_authority_goes_on_issuing() {
        let made = Authority::create(Memory::new(1), &names(&["host.example"]), NOW).unwrap();
        let opened = Authority::open(Memory::new(1), made.pem()).unwrap();
        assert_eq!(opened.digest(), made.digest());
        let served = names(&["host.example", "localhost", "127.0.0.1", "::1"]);
        let leaf = opened.issue_server_certificate(&served, NOW).unwrap();
        assert_eq!(leaf.expires, NOW + 30 * DAY);
        opened.check(&leaf.certificate, NOW + 30 * DAY - 1).unwrap();
        assert!(opened.check(&leaf.certificate, NOW + 30 * DAY + 1).is_err());
        assert!(matches!(
            Authority::open(Memory::new(2), made.pem()),
            Err(TlsError::OtherKey)
        ));
        assert!(matches!(
            Authority::open(Memory::new(1), "nothing"),
            Err(TlsError::NotPem { .. })
        ));
    }

    #[test]
    fn it_certifies_no_other_name() {
        let authority = Authority::create(Memory::new(1), &names(&["host.example"]), NOW).unwrap();
        for other in ["example.org", "192.0.2.1", "2001:db8::1"] {
            let result = authority.issue_server_certificate(&names(&[other]), NOW);
            assert!(
                matches!(result, Err(TlsError::NotPermitted { .. })),
                "{other}"
            );
        }
        assert!(Authority::create(Memory::new(1), &names(&["ünicode"]), NOW).is_err());
    }

    #[test]
    fn a_certificate_of_another_authority_does_not_pass() {
        let one = Authority::create(Memory::new(1), &[], NOW).unwrap();
        let other = Authority::create(Memory::new(2), &[], NOW).unwrap();
        let leaf = other
            .issue_server_certificate(&names(&["localhost"]), NOW)
            .unwrap();
        other.check(&leaf.certificate, NOW).unwrap();
        assert!(one.check(&leaf.certificate, NOW).is_err());
        let client = one
            .issue_client_certificate(&"ci".parse().unwrap(), 60, NOW)
            .unwrap();
        let client = CertificateDer::from_pem_slice(client.certificate.as_bytes()).unwrap();
        assert!(
            one.check(&client, NOW).is_err(),
            "a client's certificate serves nobody"
        );
    }

    #[test]
    fn what_the_signer_said_is_said() {
        let error = Authority::create(Arc::new(Away), &[], NOW).unwrap_err();
        assert!(error.is_retryable());
        assert!(error.to_string().contains("pulled out"), "{error}");
    }
}
