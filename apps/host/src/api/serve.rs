//! The listener: the host's authority, its tokens, and the service behind them.

use super::{Kept, Service};
use crate::{
    ApiConfig, DataFolder, HostError, Parts, applications::Applications, desk::Desk, files,
    spare_keys::SpareKeys,
};
use alloy_primitives::B256;
use cryptlet_api::{
    CertificateRoles, Server, ServerLimits, ServerParts, TokenStore, certificate_digest,
    tls::{Authority, AuthoritySigner, ServerIdentity, server_config},
    types::Hex,
    wall_clock,
};
use cryptlet_route::Router;
use cryptlet_types::Sha256Digest;
use cryptlet_vault::Vault;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use std::{
    error::Error,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};
use tokio::{net::TcpListener, runtime::Handle};

/// A host's API, served.
pub struct ApiServer {
    /// Where callers find it.
    pub url: String,
    /// The authority that callers trust, PEM.
    pub authority: String,
    /// SHA-256 of that authority's certificate (DER): what the register names.
    pub authority_digest: Sha256Digest,
    server: Server,
}

impl ApiServer {
    /// Serves the host made of `parts`.
    pub(crate) async fn start(
        parts: &Parts,
        router: Arc<Router>,
        desk: Desk,
        config: &ApiConfig,
        data: &DataFolder,
    ) -> Result<Self, HostError> {
        let Shown {
            identity,
            authority,
            digest,
        } = Shown::of(parts.vault.clone(), config, data).await?;
        let listener = TcpListener::bind(config.listen)
            .await
            .map_err(|error| failed(&config.listen, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| failed(&config.listen, error))?;
        let name = config.names.first().ok_or_else(|| {
            failed(
                &"api.names",
                "at least one name, or no certificate can be made",
            )
        })?;
        let url = format!("https://{name}:{}", address.port());
        let kept = Kept {
            spare_keys: SpareKeys::open(&data.spare_keys())?,
            applications: Applications::open(&data.applications(), parts.vault.clone())?,
            desk,
        };
        let service = Service::new(parts, router, config, url.clone(), Hex(digest), kept).await?;
        let tls = server_config(&identity, &client_authorities(config)?, wall_clock())
            .map_err(|error| failed(&"api", error))?;
        let server = Server::start(
            listener,
            tls,
            ServerParts {
                api: Arc::new(service),
                tokens: Arc::new(tokens(&data.tokens())?),
                certificates: roles(config),
                clock: wall_clock(),
                limits: ServerLimits {
                    failures: config.failed_attempts,
                    ..ServerLimits::default()
                },
            },
        )
        .map_err(|error| failed(&"api", error))?;
        tracing::info!(url, "API is served");
        Ok(Self {
            url,
            authority,
            authority_digest: Sha256Digest(digest),
            server,
        })
    }

    /// Takes no new request, and waits for those that run.
    pub(crate) async fn stop(self) {
        self.server.stop().await;
    }
}

/// What the server shows.
pub(crate) struct Shown {
    /// Its certificate.
    identity: ServerIdentity,
    /// The authority that callers are to trust, PEM.
    pub(crate) authority: String,
    /// SHA-256 of that authority's certificate (DER).
    digest: B256,
}

impl Shown {
    pub(crate) async fn of(
        vault: Arc<dyn Vault>,
        config: &ApiConfig,
        data: &DataFolder,
    ) -> Result<Self, HostError> {
        let (identity, authority, path) = match &config.certificate {
            Some(files) => {
                let identity = ServerIdentity::Files {
                    certificate: files.chain.clone(),
                    key: files.key.clone(),
                };
                (identity, read(&files.authority)?, files.authority.clone())
            }
            None => {
                let authority = own_authority(vault, config, data).await?;
                let (pem, names) = (authority.pem().to_owned(), config.names.clone());
                let identity = ServerIdentity::Authority { authority, names };
                (identity, pem, data.authority())
            }
        };
        let digest = certificate_digest(&certificate(&authority, &path)?).0;
        Ok(Self {
            identity,
            authority,
            digest,
        })
    }
}

/// The authority whose key is in the vault, made at the first start.
pub(crate) async fn own_authority(
    vault: Arc<dyn Vault>,
    config: &ApiConfig,
    data: &DataFolder,
) -> Result<Authority, HostError> {
    let signer: Arc<dyn AuthoritySigner> = Arc::new(VaultAuthority {
        public: vault.authority_public().await?,
        vault,
        runtime: Handle::current(),
    });
    let path = data.authority();
    let opened = if path.exists() {
        Authority::open(signer, &read(&path)?)
    } else {
        Authority::create(signer, &config.names, wall_clock()())
    };
    let authority = opened.map_err(|error| failed(&path.display(), error))?;
    if !path.exists() {
        files::replace(&path, authority.pem().as_bytes())
            .map_err(|error| failed(&path.display(), error))?;
    }
    Ok(authority)
}

/// The authority's key in the vault. Certificates are signed where nothing may wait for a future, so that the vault is
/// asked from a thread of its own.
struct VaultAuthority {
    public: [u8; 65],
    vault: Arc<dyn Vault>,
    runtime: Handle,
}

impl AuthoritySigner for VaultAuthority {
    fn public_key(&self) -> [u8; 65] {
        self.public
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn Error + Send + Sync>> {
        let signed = thread::scope(|scope| {
            scope
                .spawn(|| self.runtime.block_on(self.vault.sign_authority(message)))
                .join()
        });
        match signed {
            Ok(signature) => Ok(signature?),
            Err(_) => Err("the vault's thread panicked".into()),
        }
    }
}

/// The tokens that open the API; none yet, if there is no file.
pub(crate) fn tokens(path: &Path) -> Result<TokenStore, HostError> {
    if path.exists() {
        return Ok(TokenStore::open(path, wall_clock()));
    }
    TokenStore::create(path, wall_clock()).map_err(|error| failed(&path.display(), error))
}

fn roles(config: &ApiConfig) -> CertificateRoles {
    let role = |(digest, role): (&Sha256Digest, &cryptlet_api::types::Role)| (Hex(digest.0), *role);
    config.clients.iter().map(role).collect()
}

fn client_authorities(config: &ApiConfig) -> Result<Vec<CertificateDer<'static>>, HostError> {
    let read = |path: &PathBuf| certificate(&read(path)?, path);
    config.client_authorities.iter().map(read).collect()
}

fn certificate(pem: &str, path: &Path) -> Result<CertificateDer<'static>, HostError> {
    CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| failed(&path.display(), "it is no certificate in PEM"))
}

fn read(path: &Path) -> Result<String, HostError> {
    let bytes = files::read(path).map_err(|error| failed(&path.display(), error))?;
    String::from_utf8(bytes).map_err(|error| failed(&path.display(), error))
}

fn failed(what: &dyn std::fmt::Display, reason: impl ToString) -> HostError {
    HostError::Api {
        what: what.to_string(),
        reason: reason.to_string(),
    }
}
