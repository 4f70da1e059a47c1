//! Packages to and from OCI registries (distribution-spec 1.1).
//!
//! A version's uri may name a registry, and anybody may publish a version: what is asked is therefore one of the
//! hosts that the operator allows, and so is every host that it sends us to: by a redirect, for a token, for an upload.
//! Packages are pulled by digest only. What is fetched is bounded by what the image manifest says, which is bounded
//! itself, and every digest is checked here; the registry is not believed. HTTPS always, but for registries on this
//! machine (`localhost`, `127.0.0.0/8`), which are spoken to by HTTP.

mod reference;
mod token;

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
use reqwest::{
    RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, CONTENT_TYPE, LOCATION},
    redirect,
};
use std::{fmt, sync::Arc, time::Duration};
use token::Challenge;
use zeroize::Zeroizing;

/// How long a registry may take to be reached.
const CONNECT: Duration = Duration::from_secs(10);
/// How long one file may take.
const TRANSFER: Duration = Duration::from_secs(120);
/// Most redirects of one question.
const REDIRECTS: usize = 5;
/// The media type of a blob on its way to a registry.
const BLOB_MEDIA_TYPE: &str = "application/octet-stream";

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
    fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Anonymous => request,
            Self::Password { username, password } => {
                request.basic_auth(username, Some(password.as_str()))
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
    /// ever asked. A registry whose tokens another host gives needs that host here, too. Certificates are judged by
    /// the roots of this system.
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
        let mut session = Session::new(self, reference, auth, "pull");
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
        let mut session = Session::new(self, &pushed, auth, "pull,push");
        let package = &files.package;
        let blobs = [
            (&package.manifest, opened.manifest_digest),
            (&package.code, sha256(&package.code)),
            (&files.header, opened.header),
        ];
        let source = files.source.as_ref().zip(opened.source);
        for (bytes, digest) in blobs.into_iter().chain(source) {
            session.upload(bytes, digest).await?;
        }
        session.put_index(index, reference.pointer()).await?;
        session.index(digest).await?;
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

/// Whether we may be sent there: to an allowed host, by HTTPS unless it is this machine.
fn may_visit(url: &Url, hosts: &[String]) -> bool {
    let allowed = |host: &String| origin(host).is_some_and(|own| own.origin() == url.origin());
    hosts.iter().any(allowed)
}

/// Where a registry is spoken to.
fn origin(host: &str) -> Option<Url> {
    Url::parse(&format!("{}://{host}", reference::scheme(host))).ok()
}

/// The questions that one pull or push asks.
struct Session<'s> {
    registries: &'s OciRegistries,
    reference: &'s OciReference,
    auth: &'s OciAuth,
    /// What is asked for, as tokens name it.
    actions: &'static str,
    /// What the registry gave for the account, once it asked for it.
    token: Option<Zeroizing<String>>,
}

impl<'s> Session<'s> {
    fn new(
        registries: &'s OciRegistries,
        reference: &'s OciReference,
        auth: &'s OciAuth,
        actions: &'static str,
    ) -> Self {
        Self {
            registries,
            reference,
            auth,
            actions,
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
        let url = self.url(path)?;
        let request = self.registries.http.get(url).header(ACCEPT, accept);
        let response = self.ask(request).await?;
        self.expect(path, &response, StatusCode::OK)?;
        let bytes = self.read(path, response, limit).await?;
        Ok(bytes.into())
    }

    /// Uploads a blob, whole: a place is asked for, and the bytes are put there.
    async fn upload(&mut self, bytes: &Bytes, digest: Sha256Digest) -> Result<()> {
        let path = "blobs/uploads/";
        let url = self.url(path)?;
        let request = self.registries.http.post(url.clone()).body("");
        let response = self.ask(request).await?;
        self.expect(path, &response, StatusCode::ACCEPTED)?;
        let place = response.headers().get(LOCATION);
        let place = place.and_then(|place| url.join(place.to_str().ok()?).ok());
        let mut place = place.ok_or_else(|| self.refuse("names no place to upload to"))?;
        self.check_visit("uploads", &place)?;
        place
            .query_pairs_mut()
            .append_pair("digest", &oci_digest(digest));
        let own = place.origin() == url.origin();
        let request = self.registries.http.put(place);
        let request = request
            .header(CONTENT_TYPE, BLOB_MEDIA_TYPE)
            .body(bytes.0.clone());
        let response = if own {
            self.ask(request).await?
        } else {
            self.send(request).await?
        };
        self.expect(path, &response, StatusCode::CREATED)
    }

    /// Puts the image manifest, which names the blobs, in its place.
    async fn put_index(&mut self, index: &Bytes, pointer: &Pointer) -> Result<()> {
        let place = match pointer {
            Pointer::Tag(tag) => tag.clone(),
            Pointer::Repository | Pointer::Digest(_) => oci_digest(sha256(index)),
        };
        let path = format!("manifests/{place}");
        let request = self.registries.http.put(self.url(&path)?);
        let request = request
            .header(CONTENT_TYPE, INDEX_MEDIA_TYPE)
            .body(index.0.clone());
        let response = self.ask(request).await?;
        self.expect(&path, &response, StatusCode::CREATED)
    }

    fn url(&self, path: &str) -> Result<Url> {
        let (host, repository) = (self.reference.host(), self.reference.repository());
        let url = origin(host).and_then(|url| url.join(&format!("/v2/{repository}/{path}")).ok());
        url.ok_or_else(|| self.refuse("is no host that can be asked"))
    }

    /// Asks the registry itself, with a token if it wants one.
    async fn ask(&mut self, request: RequestBuilder) -> Result<Response> {
        let again = request.try_clone();
        let response = self.send(self.signed(request)).await?;
        if response.status() != StatusCode::UNAUTHORIZED || self.token.is_some() {
            return Ok(response);
        }
        match Challenge::of(response.headers()).zip(again) {
            Some((challenge, again)) => {
                self.token = Some(self.ask_token(&challenge).await?);
                self.send(self.signed(again)).await
            }
            None => Ok(response),
        }
    }

    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token.as_str()),
            None => self.auth.sign(request),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response> {
        request.send().await.map_err(|error| self.lost(&error))
    }

    /// Reads at most `limit` bytes of an answer.
    async fn read(&self, what: &str, mut response: Response, limit: usize) -> Result<Vec<u8>> {
        let too_much = format!("{what}: sends more than {limit} bytes");
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
        Ok(bytes)
    }

    fn expect(&self, what: &str, response: &Response, wanted: StatusCode) -> Result<()> {
        let status = response.status();
        if status == wanted {
            return Ok(());
        }
        let passing = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
        let reason = format!("{what}: answers {status}");
        Err(registry_error(self.reference.host(), &reason, passing))
    }

    /// Whether the registry may send us to `url` for `what`.
    fn check_visit(&self, what: &str, url: &Url) -> Result<()> {
        if may_visit(url, &self.registries.hosts) {
            return Ok(());
        }
        let place = url.origin().ascii_serialization();
        Err(self.refuse(&format!(
            "sends us for {what} to {place}, which is not one of those that may be asked: if it is to be trusted, allow \
            it beside the registry"
        )))
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
