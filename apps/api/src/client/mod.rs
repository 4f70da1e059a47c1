//! The client: HTTPS to one host whose certificate authority is pinned.
//!
//! No other root counts, redirects are not followed, proxies of the environment are not used, answers are bounded in
//! size and time.

mod connection;
mod operations;

pub use connection::Connection;
pub use operations::Outgoing;

use crate::{
    auth::certificate_digest,
    files::FileError,
    types::{Hex, PROBLEM_JSON, Problem},
};
use reqwest::{Method, Response, StatusCode, header::CONTENT_TYPE, redirect::Policy};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Serialize, de::DeserializeOwned};
use std::{error::Error, fmt, path::PathBuf, sync::Arc, time::Duration};
use url::Url;
use zeroize::Zeroizing;

/// Time for a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// Time for a request and its answer: more than the server's own, so that its problem arrives.
const REQUEST: Duration = Duration::from_secs(75);
/// Largest answer: 32 MiB. A source archive has at most half.
const MAX_ANSWER_BYTES: usize = 32 << 20;

/// Why a host did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The host says why.
    #[error("{0}")]
    Problem(Box<Problem>),
    /// The pinned authority is not the one that is registered.
    #[error("the authority on file has the digest {found}, the registered one has {registered}")]
    OtherAuthority {
        /// Of the pinned certificate.
        found: Hex<32>,
        /// What it should be.
        registered: Hex<32>,
    },
    /// The host's certificate is not of the pinned authority, or has expired.
    #[error("{url} does not prove to be the host: {reason}")]
    NotTheHost {
        /// Where.
        url: String,
        /// What the check says.
        reason: String,
    },
    /// No answer.
    #[error("{url} does not answer: {reason}")]
    NoAnswer {
        /// Where.
        url: String,
        /// What happened.
        reason: String,
    },
    /// The answer is not one of this API.
    #[error("{url} answers with something else: {reason}")]
    NotAnAnswer {
        /// Where.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A connection's settings do not fit.
    #[error("{field}: {reason}")]
    Settings {
        /// Which of them.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The file of a connection cannot be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file does not hold a connection.
    #[error("{path} holds no connection: {reason}")]
    NotAConnection {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// Result of a call.
pub type ClientResult<T> = Result<T, ClientError>;

impl ClientError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Problem(problem) => problem.is_retryable(),
            Self::NoAnswer { .. } => true,
            Self::File(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// What to do next.
    #[must_use]
    pub fn next(&self) -> &str {
        match self {
            Self::Problem(problem) => &problem.next,
            Self::OtherAuthority { .. } | Self::NotTheHost { .. } => {
                "do not go on; ask the operator for the host's authority, and compare its digest with the register"
            }
            Self::NoAnswer { .. } => "see whether the host runs, and try again",
            Self::NotAnAnswer { .. } => {
                "check the URL, and that host and client have the same version"
            }
            Self::Settings { .. } | Self::NotAConnection { .. } => {
                "write the connection anew, with the URL, authority and token that the operator gave"
            }
            Self::File(_) => "check the file of the connection",
        }
    }
}

/// What a client shows of itself.
pub enum Credentials {
    /// A bearer token.
    Token(Zeroizing<String>),
    /// A certificate and its private key, both PEM.
    Certificate {
        /// The certificate.
        certificate: String,
        /// Its key.
        key: Zeroizing<String>,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Certificate { .. } => "Certificate",
        })
    }
}

/// Talks to one host. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    token: Option<Arc<Zeroizing<String>>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client for the host of `connection`. With `registered`, what the register says of the host's authority, the
    /// pinned certificate has to have that digest.
    ///
    /// # Errors
    /// [`ClientError::Settings`], [`ClientError::OtherAuthority`]. Nothing is sent yet.
    pub fn new(connection: &Connection, registered: Option<Hex<32>>) -> ClientResult<Self> {
        let credentials = Credentials::Token(connection.token.clone());
        let authority = &connection.authority;
        Self::with(&connection.url, authority, credentials, registered)
    }

    /// As [`Client::new`], with any credentials.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with(
        url: &str,
        authority: &str,
        credentials: Credentials,
        registered: Option<Hex<32>>,
    ) -> ClientResult<Self> {
        let url = parse_url(url)?;
        let authority = pinned(authority, registered)?;
        let (tls, token) = match credentials {
            Credentials::Token(token) => {
                check_token(&token)?;
                (tls(authority, None)?, Some(Arc::new(token)))
            }
            Credentials::Certificate { certificate, key } => {
                (tls(authority, Some((&certificate, &key)))?, None)
            }
        };
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .https_only(true)
            .http1_only()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .build()
            .map_err(settings("url"))?;
        Ok(Self { http, url, token })
    }

    /// Where the host is.
    #[must_use]
    pub fn url(&self) -> &str {
        self.url.as_str()
    }

    /// The address of an operation.
    fn at(&self, path: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        url
    }

    /// Sends a request and returns the bytes of a good answer.
    async fn send<B: Serialize + ?Sized>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, String)],
        body: Option<&B>,
    ) -> ClientResult<Vec<u8>> {
        let mut request = self.http.request(method, self.at(path)).query(query);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.as_str());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.failed(&error))?;
        self.read(response).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, String)],
    ) -> ClientResult<T> {
        let bytes = self.send::<()>(Method::GET, path, query, None).await?;
        self.parse(&bytes)
    }

    async fn hand_in<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        body: &B,
    ) -> ClientResult<T> {
        let bytes = self.send(method, path, &[], Some(body)).await?;
        self.parse(&bytes)
    }

    fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> ClientResult<T> {
        serde_json::from_slice(bytes).map_err(|error| self.not_an_answer(error))
    }

    async fn read(&self, mut response: Response) -> ClientResult<Vec<u8>> {
        let status = response.status();
        let problem = response
            .headers()
            .get(CONTENT_TYPE)
            .is_some_and(|value| value == PROBLEM_JSON);
        let mut bytes = Vec::new();
        while let Some(part) = response
            .chunk()
            .await
            .map_err(|error| self.failed(&error))?
        {
            if bytes.len().saturating_add(part.len()) > MAX_ANSWER_BYTES {
                return Err(self.not_an_answer(format!("more than {MAX_ANSWER_BYTES} bytes")));
            }
            bytes.extend_from_slice(&part);
        }
        match status {
            StatusCode::OK
            | StatusCode::CREATED
            | StatusCode::ACCEPTED
            | StatusCode::NO_CONTENT => Ok(bytes),
            _ if problem => {
                let problem: Problem = self.parse(&bytes)?;
                Err(ClientError::Problem(Box::new(clean(problem))))
            }
            _ => Err(self.not_an_answer(format!("status {status}"))),
        }
    }

    fn not_an_answer(&self, reason: impl fmt::Display) -> ClientError {
        ClientError::NotAnAnswer {
            url: self.url.to_string(),
            reason: reason.to_string(),
        }
    }

    fn failed(&self, error: &reqwest::Error) -> ClientError {
        let url = self.url.to_string();
        let mut causes: Vec<&(dyn Error + 'static)> = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause);
            next = inner(cause).or_else(|| cause.source());
        }
        if let Some(tls) = causes
            .iter()
            .find_map(|cause| cause.downcast_ref::<rustls::Error>())
        {
            let reason = tls.to_string();
            return ClientError::NotTheHost { url, reason };
        }
        let reason = match causes.last() {
            _ if error.is_timeout() => "it took too long".to_owned(),
            Some(cause) => cause.to_string(),
            None => error.to_string(),
        };
        ClientError::NoAnswer { url, reason }
    }
}

/// An I/O error is not the source of what it wraps, but wraps it.
fn inner<'a>(cause: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    let wrapped = cause.downcast_ref::<std::io::Error>()?.get_ref()?;
    Some(wrapped)
}

/// What a host says goes to a terminal.
fn clean(problem: Problem) -> Problem {
    use cryptlet_types::bounded::clip;
    Problem {
        title: clip(&problem.title),
        detail: clip(&problem.detail),
        next: clip(&problem.next),
        ..problem
    }
}

fn settings<E: fmt::Display>(field: &'static str) -> impl Fn(E) -> ClientError {
    move |error| ClientError::Settings {
        field,
        reason: error.to_string(),
    }
}

fn parse_url(text: &str) -> ClientResult<Url> {
    let url = Url::parse(text).map_err(settings("url"))?;
    let plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if url.scheme() != "https" || !url.has_host() || !plain {
        return Err(settings("url")(
            "expected https://HOST or https://HOST:PORT",
        ));
    }
    Ok(url)
}

fn check_token(token: &str) -> ClientResult<()> {
    let plain = token
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if token.is_empty() || !plain {
        return Err(settings("token")("expected 43 letters, digits, - and _"));
    }
    Ok(())
}

fn pinned(pem: &str, registered: Option<Hex<32>>) -> ClientResult<CertificateDer<'static>> {
    let certificate = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| settings("authority")("expected a certificate in PEM"))?;
    let found = certificate_digest(&certificate);
    match registered {
        Some(registered) if registered != found => {
            Err(ClientError::OtherAuthority { found, registered })
        }
        _ => Ok(certificate),
    }
}

fn tls(
    authority: CertificateDer<'static>,
    own: Option<(&str, &str)>,
) -> ClientResult<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority).map_err(settings("authority"))?;
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(settings("authority"))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = own else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| settings("certificate")("expected certificates in PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|_| settings("key")("expected a private key in PEM"))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(settings("certificate"))
}
