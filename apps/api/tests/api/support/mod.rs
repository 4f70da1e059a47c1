//! A server over real TLS, in front of a host in memory.
pub mod memory;
pub mod raw;

use cryptlet_api::{
    CertificateRoles, Clock, Server, ServerLimits, ServerParts, TokenStore,
    tls::{Authority, AuthoritySigner, ServerIdentity, server_config},
    types::{Bytes32, NewToken, Role},
};
use memory::Memory;
use p256::ecdsa::{DerSignature, SigningKey, signature::Signer};
use rustls_pki_types::CertificateDer;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The key of an authority, in memory.
pub struct Key(SigningKey);

impl Key {
    pub fn new(seed: u8) -> Arc<Self> {
        Arc::new(Self(SigningKey::from_slice(&[seed; 32]).unwrap()))
    }
}

impl AuthoritySigner for Key {
    fn public_key(&self) -> [u8; 65] {
        let point = self.0.verifying_key().to_encoded_point(false);
        point.as_bytes().try_into().unwrap()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
        let signature: DerSignature = self.0.sign(message);
        Ok(signature.as_bytes().to_vec())
    }
}

/// How a host is set up for a test.
#[derive(Default)]
pub struct Setup {
    pub limits: ServerLimits,
    /// Client certificates with a role.
    pub certificates: CertificateRoles,
    /// Whose client certificates count besides the own authority's.
    pub client_authorities: Vec<CertificateDer<'static>>,
    /// The host's authority; nothing: a new one.
    pub authority: Option<Authority>,
}

/// A server, its host and its keys.
pub struct TestHost {
    pub server: Server,
    pub memory: Arc<Memory>,
    pub tokens: Arc<TokenStore>,
    pub authority: Authority,
    pub folder: tempfile::TempDir,
    /// Seconds by which the server's clock is ahead.
    pub ahead: Arc<AtomicU64>,
}

pub fn now() -> u64 {
    cryptlet_api::wall_clock()()
}

pub fn authority(seed: u8) -> Authority {
    Authority::create(Key::new(seed), &[], now()).unwrap()
}

impl TestHost {
    pub async fn start() -> Self {
        Self::with(Setup::default()).await
    }

    pub async fn with(setup: Setup) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0))
            .await
            .unwrap();
        Self::at(listener, setup)
    }

    pub fn at(listener: tokio::net::TcpListener, setup: Setup) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ahead = Arc::new(AtomicU64::new(0));
        let clock: Clock = {
            let ahead = ahead.clone();
            Arc::new(move || now() + ahead.load(Ordering::Relaxed))
        };
        let tokens = folder.path().join("tokens.json");
        let tokens = Arc::new(TokenStore::create(&tokens, clock.clone()).unwrap());
        let authority = setup.authority.unwrap_or_else(|| authority(1));
        let identity = ServerIdentity::Authority {
            authority: authority.clone(),
            names: vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
        };
        let tls = server_config(&identity, &setup.client_authorities, clock.clone()).unwrap();
        let memory = Arc::new(Memory::default());
        let parts = ServerParts {
            api: memory.clone(),
            tokens: tokens.clone(),
            certificates: setup.certificates,
            clock,
            limits: setup.limits,
        };
        Self {
            server: Server::start(listener, tls, parts).unwrap(),
            memory,
            tokens,
            authority,
            folder,
            ahead,
        }
    }

    pub fn token_file(&self) -> PathBuf {
        self.folder.path().join("tokens.json")
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.server.address().port())
    }

    /// A token of an hour.
    pub fn token(&self, role: Role) -> String {
        let token = NewToken {
            role,
            label: format!("test {role}").parse().unwrap(),
            lifetime_seconds: "3600".parse().unwrap(),
        };
        self.tokens.add(&token).unwrap().token.clone()
    }

    pub fn digest(&self) -> Bytes32 {
        self.authority.digest()
    }
}
