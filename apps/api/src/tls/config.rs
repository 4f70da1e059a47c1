//! The server's TLS settings: 1.3 and 1.2 with ring, HTTP/1.1 only.

use super::{Authority, TlsError, authority::ServerCertificate};
use crate::{clock::Clock, files::read_private};
use cryptlet_types::UnixSeconds;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{
        ClientHello, NoClientAuth, NoServerSessionStorage, ResolvesServerCert,
        WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

/// Largest PEM file: 256 KiB.
const MAX_PEM_BYTES: u64 = 256 << 10;
/// A certificate that expires sooner is renewed.
const RENEW_SECONDS: u64 = 10 * 86_400;
/// After a renewal that failed, none is tried for so long: each handshake would wait for the next failure.
const AGAIN_SECONDS: u64 = 60;

/// Which certificate a server shows.
#[derive(Clone, Debug)]
pub enum ServerIdentity {
    /// One of the host's own authority, renewed by itself.
    Authority {
        /// The authority. Its clients are asked for certificates, too.
        authority: Authority,
        /// The server's DNS names and IP addresses.
        names: Vec<String>,
    },
    /// One from elsewhere.
    Files {
        /// Certificate and those between it and its root, PEM.
        certificate: PathBuf,
        /// Its private key, PEM. Only its owner may read the file.
        key: PathBuf,
    },
}

/// A server's TLS settings. Clients may show a certificate of the host's authority or of `client_authorities`; one
/// that is of neither ends the handshake.
///
/// # Errors
/// See [`TlsError`].
pub fn server_config(
    identity: &ServerIdentity,
    client_authorities: &[CertificateDer<'static>],
    clock: Clock,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = clients(identity, client_authorities, &provider)?;
    let certificates: Arc<dyn ResolvesServerCert> = match identity {
        ServerIdentity::Authority { authority, names } => Arc::new(Renewing::new(
            authority.clone(),
            names.clone(),
            clock,
            provider.clone(),
        )?),
        ServerIdentity::Files { certificate, key } => Arc::new(
            rustls::sign::SingleCertAndKey::from(from_files(certificate, key, &provider)?),
        ),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A session that is taken up again is not asked for its certificate, which may have expired since.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

fn clients(
    identity: &ServerIdentity,
    client_authorities: &[CertificateDer<'static>],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for (position, certificate) in client_authorities.iter().enumerate() {
        roots
            .add(certificate.clone())
            .map_err(|_| TlsError::ClientAuthority(position))?;
    }
    if let ServerIdentity::Authority { authority, .. } = identity {
        roots.add(authority.certificate().clone())?;
    }
    if roots.is_empty() {
        return Ok(Arc::new(NoClientAuth));
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .map_err(|error| TlsError::Config(rustls::Error::General(error.to_string())))
}

fn from_files(
    certificate: &Path,
    key: &Path,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let not_pem = |path: &Path, wanted| TlsError::NotPem {
        place: path.display().to_string(),
        wanted,
    };
    let text = std::fs::read(certificate).map_err(|source| TlsError::Read {
        path: certificate.to_owned(),
        source,
    })?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|_| not_pem(certificate, "certificate"))?;
    if chain.is_empty() {
        return Err(not_pem(certificate, "certificate"));
    }
    let (_, secret) = read_private(key, MAX_PEM_BYTES)?;
    let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|_| not_pem(key, "private key"))?;
    Ok(CertifiedKey::from_der(chain, secret, provider)?)
}

/// The host's own certificate, issued anew before it expires.
struct Renewing {
    authority: Authority,
    names: Vec<String>,
    clock: Clock,
    provider: Arc<CryptoProvider>,
    current: Mutex<Current>,
}

/// The certificate that is shown.
struct Current {
    certified: Arc<CertifiedKey>,
    /// From when on another one is made.
    renew_at: UnixSeconds,
}

impl fmt::Debug for Renewing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewing")
            .field("names", &self.names)
            .finish_non_exhaustive()
    }
}

impl Renewing {
    fn new(
        authority: Authority,
        names: Vec<String>,
        clock: Clock,
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let issued = authority.issue_server_certificate(&names, clock())?;
        let current = Mutex::new(Current::of(issued, &provider)?);
        Ok(Self {
            authority,
            names,
            clock,
            provider,
            current,
        })
    }

    fn renew(&self, now: UnixSeconds) -> Result<Current, TlsError> {
        let issued = self.authority.issue_server_certificate(&self.names, now)?;
        Current::of(issued, &self.provider)
    }

    fn current(&self) -> Arc<CertifiedKey> {
        let now = (self.clock)();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.renew_at <= now {
            match self.renew(now) {
                Ok(renewed) => *current = renewed,
                Err(error) => {
                    tracing::error!(%error, "api: the server's certificate cannot be renewed");
                    current.renew_at = now.saturating_add(AGAIN_SECONDS);
                }
            }
        }
        current.certified.clone()
    }
}

impl ResolvesServerCert for Renewing {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}

impl Current {
    fn of(issued: ServerCertificate, provider: &CryptoProvider) -> Result<Self, TlsError> {
        let key = CertifiedKey::from_der(vec![issued.certificate], issued.key, provider)?;
        Ok(Self {
            certified: Arc::new(key),
            renew_at: issued.expires.saturating_sub(RENEW_SECONDS),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{AuthoritySigner, authority::tests::Memory},
        *,
    };
    use crate::files;
    use std::{
        fs,
        os::unix::fs::PermissionsExt,
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
    };

    #[test]
    fn the_certificate_is_renewed_before_it_expires() {
        let now = Arc::new(AtomicU64::new(1_790_000_000));
        let clock: Clock = {
            let now = now.clone();
            Arc::new(move || now.load(Ordering::Relaxed))
        };
        let authority = Authority::create(Memory::new(1), &[], clock()).unwrap();
        let names = vec!["localhost".to_owned()];
        let provider = Arc::new(ring::default_provider());
        let renewing = Renewing::new(authority, names, clock, provider).unwrap();
        let first = renewing.current();
        now.fetch_add(20 * 86_400 - 1, Ordering::Relaxed);
        assert!(Arc::ptr_eq(&first, &renewing.current()));
        now.fetch_add(1, Ordering::Relaxed);
        let second = renewing.current();
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &renewing.current()));
    }

    /// A key that is away for a while, and counts how often it was asked.
    struct Absent {
        key: Arc<Memory>,
        is_away: AtomicBool,
        asked: AtomicU64,
    }

    impl AuthoritySigner for Absent {
        fn public_key(&self) -> [u8; 65] {
            self.key.public_key()
        }

        fn sign(
            &self,
            message: &[u8],
        ) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.is_away.load(Ordering::Relaxed) {
                return Err("the token was pulled out".into());
            }
            self.key.sign(message)
        }
    }

    #[test]
    fn a_renewal_that_fails_is_tried_once_a_minute_and_the_old_certificate_stays() {
        let now = Arc::new(AtomicU64::new(1_790_000_000));
        let clock: Clock = {
            let now = now.clone();
            Arc::new(move || now.load(Ordering::Relaxed))
        };
        let signer = Arc::new(Absent {
            key: Memory::new(1),
            is_away: AtomicBool::new(false),
            asked: AtomicU64::new(0),
        });
        let authority = Authority::create(signer.clone(), &[], clock()).unwrap();
        let names = vec!["localhost".to_owned()];
        let provider = Arc::new(ring::default_provider());
        let renewing = Renewing::new(authority, names, clock, provider).unwrap();
        let first = renewing.current();
        let asked = signer.asked.load(Ordering::Relaxed);
        signer.is_away.store(true, Ordering::Relaxed);
        now.fetch_add(25 * 86_400, Ordering::Relaxed);
        for _ in 0..10 {
            assert!(Arc::ptr_eq(&first, &renewing.current()));
        }
        assert_eq!(signer.asked.load(Ordering::Relaxed), asked + 1);
        signer.is_away.store(false, Ordering::Relaxed);
        now.fetch_add(AGAIN_SECONDS, Ordering::Relaxed);
        assert!(!Arc::ptr_eq(&first, &renewing.current()));
    }

    #[test]
    fn a_given_key_is_read_only_if_it_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (
            folder.path().join("cert.pem"),
            folder.path().join("key.pem"),
        );
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        fs::write(&certificate, made.cert.pem()).unwrap();
        files::replace_private(&key, made.signing_key.serialize_pem().as_bytes()).unwrap();
        let identity = ServerIdentity::Files {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        let clock = crate::clock::wall_clock();
        server_config(&identity, &[], clock.clone()).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            server_config(&identity, &[], clock.clone()),
            Err(TlsError::Key(_))
        ));
        files::replace_private(&key, b"no key").unwrap();
        assert!(matches!(
            server_config(&identity, &[], clock.clone()),
            Err(TlsError::NotPem { .. })
        ));
        let other = rcgen::KeyPair::generate().unwrap();
        files::replace_private(&key, other.serialize_pem().as_bytes()).unwrap();
        assert!(server_config(&identity, &[], clock).is_err());
    }
}
