//! Packages to and from OCI registries (distribution-spec 1.1).
//!
//! A version's uri may name a registry, and anybody may publish a version: what is asked is therefore one of the
//! hosts that the operator allows, and so is every host that it redirects to. Packages are pulled by digest only.
//! What is fetched is bounded by what the image manifest says, which is bounded itself, and every digest is checked
//! here; neither the registry nor the client library is believed. HTTPS always, but for registries on this machine
//! (`localhost`, `127.0.0.0/8`), which are spoken to by HTTP.
//!
//! Pushing is `oci-client`'s work. Pulling is not: that library reads an image manifest of any size and follows
//! redirects anywhere.

mod reference;

pub use reference::{OciReference, Pointer};

use crate::{RegisterError, Result};
use alloy_primitives::Bytes;
use cryptlet_seal::{
    package::{
        Blob, CODE_MEDIA_TYPE, INDEX_MEDIA_TYPE, PackageFiles, contents, oci_digest, open_files,
    },
    sha256,
};
use cryptlet_types::{
    Sha256Digest,
    bounded::{MAX_DOCUMENT_BYTES, clip},
    region::Package,
};
use oci_client::{
    Reference, RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    errors::OciDistributionError,
    secrets::RegistryAuth,
};
use reqwest::{
    StatusCode, Url,
    header::{ACCEPT, HeaderValue},
    redirect,
};
use std::{fmt, sync::Arc, time::Duration};
use zeroize::Zeroizing;

/// How long a registry may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one file may take.
const TRANSFER: Duration = Duration::from_secs(120);
/// Most redirects of one question.
const REDIRECTS: usize = 5;

/// Who asks. It has no `Debug` that could show a password.
#[derive(Clone)]
pub enum OciAuth {
    /// Nobody.
    Anonymous,
    /// An account of the registry.
    Password {
        /// Its name.
        username: String,
        /// Its password, or a token in its place.
        password: Zeroizing<String>,
    },
}

impl fmt::Debug for OciAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anonymous => write!(f, "Anonymous"),
            Self::Password { username, .. } => write!(f, "Password({username:?})"),
        }
    }
}

impl OciAuth {
    fn registry(&self) -> RegistryAuth {
        match self {
            Self::Anonymous => RegistryAuth::Anonymous,
            Self::Password { username, password } => {
                RegistryAuth::Basic(username.clone(), password.to_string())
            }
        }
    }
}

/// The registries that may be asked.
#[derive(Clone, Debug)]
pub struct OciRegistries {
    http: reqwest::Client,
    hosts: Arc<[String]>,
}

impl OciRegistries {
    /// Allows `hosts`, each `HOST` or `HOST:PORT` as it stands in a reference, and no others. With none, nothing is
    /// ever asked. Certificates are judged by the roots of this system.
    ///
    /// Makes ring the process's cryptography for TLS if nothing was chosen before.
    ///
    /// # Errors
    /// [`RegisterError::Registry`] if this system's roots cannot be read.
    pub fn new(hosts: Vec<String>) -> Result<Self> {
        // The second to choose is told so; both chose.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let hosts: Arc<[String]> = hosts.into();
        let allowed = hosts.clone();
        let policy = redirect::Policy::custom(move |attempt| {
            if attempt.previous().len() > REDIRECTS {
                attempt.error("too many redirects")
            } else if may_visit(attempt.url(), &allowed) {
                attempt.follow()
            } else {
                attempt.error("redirects to a host that is not allowed")
            }
        });
        let http = reqwest::Client::builder()
            .redirect(policy)
            .connect_timeout(CONNECT)
            .timeout(TRANSFER)
            .build()
            .map_err(|error| failed("TLS", &error, false))?;
        Ok(Self { http, hosts })
    }

    /// Fetches the package that `reference` names by its digest.
    ///
    /// # Errors
    /// [`RegisterError::HostRefused`]; [`RegisterError::Reference`] without a digest; [`RegisterError::Registry`];
    /// [`RegisterError::Package`] if what came is not what the digests name. Nothing is kept of it then.
    pub async fn pull(&self, reference: &OciReference, auth: &OciAuth) -> Result<PackageFiles> {
        let digest = reference.digest().ok_or_else(|| RegisterError::Reference {
            text: reference.to_string(),
            reason: "a package is pulled by its digest only",
        })?;
        self.check_host(reference)?;
        let mut session = Session::new(self, reference, auth);
        let index = session.index(digest).await?;
        let refuse = |source| RegisterError::Package { digest, source };
        let contents = contents(&index).map_err(refuse)?;
        let files = PackageFiles {
            package: Package {
                manifest: session.blob("manifest", &contents.manifest).await?,
                code: session.blob("code", &contents.code).await?,
                index,
            },
            header: session.blob("header", &contents.header).await?,
            source: match &contents.source {
                Some(source) => Some(session.blob("source", source).await?),
                None => None,
            },
        };
        open_files(&files).map_err(refuse)?;
        Ok(files)
    }

    /// Pushes a package, under the tag of `reference` if it has one, and returns the reference by digest: the uri to
    /// record in the register. That the registry has it is checked.
    ///
    /// # Errors
    /// [`RegisterError::HostRefused`]; [`RegisterError::Reference`] if it names another digest;
    /// [`RegisterError::Package`] if the files do not hold together; [`RegisterError::Registry`].
    pub async fn push(
        &self,
        files: &PackageFiles,
        reference: &OciReference,
        auth: &OciAuth,
    ) -> Result<OciReference> {
        self.check_host(reference)?;
        let index = &files.package.index;
        let digest = sha256(index);
        let opened =
            open_files(files).map_err(|source| RegisterError::Package { digest, source })?;
        let pushed = reference.with_digest(digest);
        if reference.digest().is_some_and(|named| named != digest) {
            return Err(RegisterError::Reference {
                text: reference.to_string(),
                reason: "its digest is not the package's",
            });
        }
        let host = reference.host();
        let refuse = |error| refused(host, &error);
        let client = push_client(reference)?;
        let target = target(reference, digest);
        client
            .auth(&target, &auth.registry(), RegistryOperation::Push)
            .await
            .map_err(refuse)?;
        let package = &files.package;
        let blobs = [
            (&package.manifest, opened.manifest_digest),
            (&package.code, sha256(&package.code)),
            (&files.header, opened.header),
        ];
        let source = files.source.as_ref().zip(opened.source);
        for (bytes, digest) in blobs.into_iter().chain(source) {
            client
                .push_blob(&target, bytes.0.clone(), &oci_digest(digest))
                .await
                .map_err(refuse)?;
        }
        let media_type = HeaderValue::from_static(INDEX_MEDIA_TYPE);
        client
            .push_manifest_raw(&target, index.0.clone(), media_type)
            .await
            .map_err(refuse)?;
        Session::new(self, &pushed, auth).index(digest).await?;
        Ok(pushed)
    }

    fn check_host(&self, reference: &OciReference) -> Result<()> {
        if self.hosts.iter().any(|host| host == reference.host()) {
            Ok(())
        } else {
            Err(RegisterError::HostRefused(reference.host().into()))
        }
    }
}

/// Whether a redirect may be followed: to an allowed host, by HTTPS unless it is this machine.
fn may_visit(url: &Url, hosts: &[String]) -> bool {
    let Some(name) = url.host_str() else {
        return false;
    };
    let host = match url.port() {
        Some(port) => format!("{name}:{port}"),
        None => name.into(),
    };
    let scheme = reference::scheme(&host);
    url.scheme() == scheme && hosts.contains(&host)
}

fn push_client(reference: &OciReference) -> Result<oci_client::Client> {
    let protocol = match reference.scheme() {
        "http" => ClientProtocol::HttpsExcept(vec![reference.host().into()]),
        _ => ClientProtocol::Https,
    };
    let config = ClientConfig {
        protocol,
        connect_timeout: Some(CONNECT),
        read_timeout: Some(TRANSFER),
        user_agent: concat!("bletchley/", env!("CARGO_PKG_VERSION")),
        ..ClientConfig::default()
    };
    oci_client::Client::try_from(config).map_err(|error| refused(reference.host(), &error))
}

fn target(reference: &OciReference, digest: Sha256Digest) -> Reference {
    let (host, repository) = (reference.host().into(), reference.repository().into());
    match reference.pointer() {
        Pointer::Tag(tag) => Reference::with_tag(host, repository, tag.clone()),
        _ => Reference::with_digest(host, repository, oci_digest(digest)),
    }
}

/// The questions that one pull asks.
struct Session<'s> {
    http: &'s reqwest::Client,
    reference: &'s OciReference,
    auth: &'s OciAuth,
    /// What the registry gave for the account, once it asked for it.
    token: Option<Zeroizing<String>>,
}

impl<'s> Session<'s> {
    fn new(registries: &'s OciRegistries, reference: &'s OciReference, auth: &'s OciAuth) -> Self {
        Self {
            http: &registries.http,
            reference,
            auth,
            token: None,
        }
    }

    async fn index(&mut self, digest: Sha256Digest) -> Result<Bytes> {
        let path = format!("manifests/{}", oci_digest(digest));
        let bytes = self
            .fetch(&path, INDEX_MEDIA_TYPE, MAX_DOCUMENT_BYTES)
            .await?;
        if sha256(&bytes) == digest {
            Ok(bytes)
        } else {
            Err(self.refuse("answers with another image manifest than the one of this digest"))
        }
    }

    async fn blob(&mut self, what: &str, blob: &Blob) -> Result<Bytes> {
        let path = format!("blobs/{}", oci_digest(blob.digest));
        let limit = usize::try_from(blob.size).unwrap_or(usize::MAX);
        let bytes = self.fetch(&path, CODE_MEDIA_TYPE, limit).await?;
        if blob.names(&bytes) {
            Ok(bytes)
        } else {
            Err(self.refuse(&format!(
                "{what}: not the bytes that the image manifest names"
            )))
        }
    }

    /// Fetches at most `limit` bytes.
    async fn fetch(&mut self, path: &str, accept: &'static str, limit: usize) -> Result<Bytes> {
        let mut response = self.ask(path, accept).await?;
        if response.status() == StatusCode::UNAUTHORIZED && self.token.is_none() {
            self.token = self.ask_token().await?;
            response = self.ask(path, accept).await?;
        }
        let status = response.status();
        if !status.is_success() {
            let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
            let reason = format!("{path}: answers {status}");
            return Err(registry_error(self.reference.host(), &reason, passing));
        }
        let too_much = format!("{path}: sends more than {limit} bytes");
        let fits = |said| usize::try_from(said).is_ok_and(|said| said <= limit);
        if !response.content_length().is_none_or(fits) {
            return Err(self.refuse(&too_much));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.lost(&error))? {
            if chunk.len() > limit.saturating_sub(bytes.len()) {
                return Err(self.refuse(&too_much));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes.into())
    }

    async fn ask(&self, path: &str, accept: &'static str) -> Result<reqwest::Response> {
        let (host, repository) = (self.reference.host(), self.reference.repository());
        let scheme = self.reference.scheme();
        let url = format!("{scheme}://{host}/v2/{repository}/{path}");
        let request = self.http.get(url).header(ACCEPT, accept);
        let request = match (&self.token, self.auth) {
            (Some(token), _) => request.bearer_auth(token.as_str()),
            (None, OciAuth::Password { username, password }) => {
                request.basic_auth(username, Some(password.as_str()))
            }
            (None, OciAuth::Anonymous) => request,
        };
        request.send().await.map_err(|error| self.lost(&error))
    }

    /// A token for pulling, where the registry wants one.
    async fn ask_token(&self) -> Result<Option<Zeroizing<String>>> {
        let client = push_client(self.reference)?;
        let reference = Reference::with_tag(
            self.reference.host().into(),
            self.reference.repository().into(),
            "latest".into(),
        );
        let token = client
            .auth(&reference, &self.auth.registry(), RegistryOperation::Pull)
            .await
            .map_err(|error| refused(self.reference.host(), &error))?;
        Ok(token.map(Zeroizing::new))
    }

    fn refuse(&self, reason: &str) -> RegisterError {
        registry_error(self.reference.host(), reason, false)
    }

    fn lost(&self, error: &reqwest::Error) -> RegisterError {
        failed(self.reference.host(), error, !error.is_redirect())
    }
}

fn registry_error(host: &str, reason: &str, passing: bool) -> RegisterError {
    RegisterError::Registry {
        host: clip(host),
        reason: clip(reason),
        passing,
    }
}

/// The whole chain of causes: the first alone says only that a request failed.
fn failed(host: &str, error: &dyn std::error::Error, passing: bool) -> RegisterError {
    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        reason.push_str(": ");
        reason.push_str(&inner.to_string());
        cause = inner.source();
    }
    registry_error(host, &reason, passing)
}

fn refused(host: &str, error: &OciDistributionError) -> RegisterError {
    let passing = match error {
        OciDistributionError::RequestError(error) => error.is_connect() || error.is_timeout(),
        OciDistributionError::ServerError { code, .. } => *code >= 500,
        _ => false,
    };
    failed(host, error, passing)
}
