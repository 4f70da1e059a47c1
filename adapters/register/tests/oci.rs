//! Packages go to a real OCI registry and come back by digest, and nothing that was altered comes back.
//!
//! The registry is Debian's `docker-registry`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

mod support;

use alloy_primitives::hex;
use cryptlet_register::{OciAuth, OciReference, OciRegistries, RegisterError, source};
use cryptlet_seal::{package::oci_digest, sha256};
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU16, AtomicUsize, Ordering},
    },
    thread,
};
use tempfile::TempDir;

/// A registry that ends with this value.
struct Registry {
    process: Child,
    folder: TempDir,
    host: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    /// Starts a registry; `auth` is more of its configuration.
    fn start(auth: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("storage");
        let port = free_port();
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\n{auth}",
            storage.display(),
        );
        fs::write(
            &config,
            text.replace("FOLDER", &folder.path().display().to_string()),
        )
        .unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("docker-registry: {error}; install the package docker-registry (apt-get install docker-registry)"));
        wait_until_listening(&mut process);
        let host = format!("127.0.0.1:{port}");
        Self {
            process,
            folder,
            host,
        }
    }

    fn reference(&self, path: &str) -> OciReference {
        format!("oci://{}/{path}", self.host).parse().unwrap()
    }

    fn client(&self) -> OciRegistries {
        OciRegistries::new(vec![self.host.clone()]).unwrap()
    }

    /// Where the registry keeps the blob of `bytes`.
    fn blob(&self, bytes: &[u8]) -> PathBuf {
        let name = hex::encode(sha256(bytes).0);
        let blobs = self
            .folder
            .path()
            .join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(name.get(..2).unwrap()).join(&name).join("data")
    }
}

/// A port for a program that is told where to listen. Below those that systems give out by themselves (RFC 6335: from
/// 49152, Linux: from 32768), so that nothing else gets it before the program binds it.
fn free_port() -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    std::iter::repeat_with(|| (first + ASKED.fetch_add(1, Ordering::Relaxed)) % 12_000 + 20_000)
        .take(12_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}

/// Reads the log until it says that it listens; the rest is drained by a thread of its own.
fn wait_until_listening(process: &mut Child) {
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut said = String::new();
    loop {
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("docker-registry ended: {said}"))
            .unwrap();
        if line.contains("listening on") {
            break;
        }
        said.push_str(&line);
    }
    thread::spawn(move || lines.for_each(drop));
}

fn packed(folder: &Path) -> Vec<u8> {
    fs::write(folder.join("lib.rs"), "fn main() {}").unwrap();
    source::pack(folder).unwrap().bytes
}

#[tokio::test]
async fn a_package_is_pushed_and_comes_back_by_its_digest() {
    let registry = Registry::start("");
    let client = registry.client();
    let folder = tempfile::tempdir().unwrap();
    let source = packed(folder.path());
    for (files, path) in [
        (
            support::files(&[7; 100_000], Some(&source)),
            "cryptlets/gold:0.1.0",
        ),
        (support::files(b"code", None), "gold"),
    ] {
        let uri = client
            .push(&files, &registry.reference(path), &OciAuth::Anonymous)
            .await
            .unwrap();
        let digest = oci_digest(sha256(&files.package.index));
        let repository = path.split(':').next().unwrap();
        assert_eq!(
            uri.to_string(),
            format!("oci://{}/{repository}@{digest}", registry.host)
        );
        assert_eq!(client.pull(&uri, &OciAuth::Anonymous).await.unwrap(), files);
        // Again, and by the digest itself.
        let again = client
            .push(&files, &uri, &OciAuth::Anonymous)
            .await
            .unwrap();
        assert_eq!(again, uri);
    }
}

#[tokio::test]
async fn altered_files_do_not_come_back() {
    let registry = Registry::start("");
    let client = registry.client();
    let folder = tempfile::tempdir().unwrap();
    let files = support::files(b"code of a cryptlet", Some(&packed(folder.path())));
    let uri = client
        .push(&files, &registry.reference("gold"), &OciAuth::Anonymous)
        .await
        .unwrap();
    let package = &files.package;
    let source = files.source.as_ref().unwrap();
    for bytes in [
        &package.index,
        &package.manifest,
        &package.code,
        &files.header,
        source,
    ] {
        let path = registry.blob(bytes);
        let good = fs::read(&path).unwrap();
        let mut altered = good.clone();
        altered[3] ^= 1;
        let longer = [good.clone(), vec![b' '; 4_000_000]].concat();
        for content in [altered, longer, good[1..].to_vec()] {
            fs::write(&path, content).unwrap();
            let error = client.pull(&uri, &OciAuth::Anonymous).await.unwrap_err();
            let refused = matches!(
                error,
                RegisterError::Registry { .. } | RegisterError::Package { .. }
            );
            assert!(refused, "{error}");
        }
        fs::write(&path, good).unwrap();
    }
    assert_eq!(client.pull(&uri, &OciAuth::Anonymous).await.unwrap(), files);
}

#[tokio::test]
async fn only_allowed_hosts_are_asked_and_only_by_digest() {
    let registry = Registry::start("");
    let files = support::files(b"code", None);
    let reference = registry.reference("gold:latest");
    let nobody = OciRegistries::new(vec![]).unwrap();
    let uri = reference.with_digest(sha256(&files.package.index));
    let name = registry.host.split(':').next().unwrap().to_owned();
    for client in [nobody, OciRegistries::new(vec![name]).unwrap()] {
        let error = client
            .push(&files, &reference, &OciAuth::Anonymous)
            .await
            .unwrap_err();
        assert!(matches!(error, RegisterError::HostRefused(_)), "{error}");
        let error = client.pull(&uri, &OciAuth::Anonymous).await.unwrap_err();
        assert!(matches!(error, RegisterError::HostRefused(_)), "{error}");
    }
    let client = registry.client();
    client
        .push(&files, &reference, &OciAuth::Anonymous)
        .await
        .unwrap();
    for by_name in [reference, registry.reference("gold")] {
        let error = client
            .pull(&by_name, &OciAuth::Anonymous)
            .await
            .unwrap_err();
        assert!(error.to_string().contains("by its digest only"), "{error}");
    }
    let other = registry.reference("gold").with_digest(sha256(b"other"));
    let error = client
        .push(&files, &other, &OciAuth::Anonymous)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not the package's"), "{error}");
    let error = client.pull(&other, &OciAuth::Anonymous).await.unwrap_err();
    assert!(
        error.to_string().contains("404") && !error.is_retryable(),
        "{error}"
    );
}

#[tokio::test]
async fn an_account_is_asked_for_and_its_password_never_shows() {
    let registry = Registry::start("auth: {htpasswd: {realm: test, path: FOLDER/accounts}}\n");
    // publisher:correct horse (bcrypt)
    let accounts = "publisher:$2y$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2\n";
    fs::write(registry.folder.path().join("accounts"), accounts).unwrap();
    let client = registry.client();
    let files = support::files(b"code", None);
    let reference = registry.reference("gold");
    let account = |password: &str| OciAuth::Password {
        username: "publisher".into(),
        password: password.to_owned().into(),
    };
    let right = account("correct horse");
    for wrong in [OciAuth::Anonymous, account("battery staple")] {
        let error = client.push(&files, &reference, &wrong).await.unwrap_err();
        assert!(!error.to_string().contains("staple") && !format!("{error:?}").contains("staple"));
        assert!(!format!("{wrong:?}").contains("staple"));
    }
    let uri = client.push(&files, &reference, &right).await.unwrap();
    assert_eq!(client.pull(&uri, &right).await.unwrap(), files);
    let error = client.pull(&uri, &OciAuth::Anonymous).await.unwrap_err();
    assert!(error.to_string().contains("401"), "{error}");
}

/// A server that answers every question with `answer`.
fn server(answer: Vec<u8>) -> SocketAddr {
    serve(move |_, _| answer.clone())
}

/// A server that answers what `answer` makes of its own address and of the question's head.
fn serve(answer: impl Fn(SocketAddr, &str) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..length]);
            // The client may have heard enough.
            let _ = stream.write_all(&answer(address, &head));
        }
    });
    address
}

fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
    .into_bytes()
}

/// A registry that wants a token of whom `realm` names (`SELF` is the registry), and then has the blob `x`. `gives` answers
/// who asks for a token.
fn token_registry(realm: &str, gives: Vec<u8>) -> SocketAddr {
    let realm = realm.to_owned();
    serve(move |own, head| {
        let realm = realm.replace("SELF", &own.to_string());
        if head.starts_with("GET /token?scope=repository%3Agold%3Apull") {
            gives.clone()
        } else if head
            .to_lowercase()
            .contains("authorization: bearer t0ken\r\n")
        {
            answer("200 OK", "", "x")
        } else {
            let asks = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"s\"\r\n");
            answer("401 Unauthorized", &asks, "who are you")
        }
    })
}

fn gold(address: SocketAddr) -> OciReference {
    let digest = oci_digest(sha256(b"x"));
    format!("oci://{address}/gold@{digest}").parse().unwrap()
}

async fn pull_from(address: SocketAddr) -> RegisterError {
    let client = OciRegistries::new(vec![address.to_string()]).unwrap();
    let pulled = client.pull(&gold(address), &OciAuth::Anonymous).await;
    pulled.unwrap_err()
}

#[tokio::test]
async fn a_registry_cannot_send_more_than_it_may() {
    let said = b"HTTP/1.1 200 OK\r\nContent-Length: 1048577\r\n\r\n".to_vec();
    let error = pull_from(server(said)).await;
    assert!(
        error.to_string().contains("more than 1048576 bytes"),
        "{error}"
    );
    let mut unsaid = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..40 {
        unsaid.extend_from_slice(b"10000\r\n");
        unsaid.extend_from_slice(&[b' '; 0x10000]);
        unsaid.extend_from_slice(b"\r\n");
    }
    let error = pull_from(server(unsaid)).await;
    assert!(
        error.to_string().contains("more than 1048576 bytes"),
        "{error}"
    );
}

#[tokio::test]
async fn a_registry_cannot_send_us_elsewhere() {
    let secret = server(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx".to_vec());
    for place in [
        format!("http://{secret}/"),
        "https://metadata.example/".into(),
    ] {
        let answer = format!(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n"
        );
        let error = pull_from(server(answer.into_bytes())).await;
        assert!(error.to_string().contains("not allowed"), "{error}");
        assert!(!error.is_retryable());
    }
    // The same place by the reference itself is fine: `x` is what the digest names, if not a package.
    let error = pull_from(secret).await;
    assert!(matches!(error, RegisterError::Package { .. }), "{error}");
}

#[tokio::test]
async fn a_registry_that_is_down_may_be_asked_again() {
    // Bound, so that no other test gets the port, and not listening.
    let taken = tokio::net::TcpSocket::new_v4().unwrap();
    taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let error = pull_from(taken.local_addr().unwrap()).await;
    assert!(error.is_retryable(), "{error}");
    let busy = pull_from(server(
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n".to_vec(),
    ))
    .await;
    assert!(busy.is_retryable(), "{busy}");
}

#[tokio::test]
async fn a_token_is_asked_of_the_registry_itself_or_of_an_allowed_host() {
    let gives = || answer("200 OK", "", r#"{"access_token":"t0ken","expires_in":60}"#);
    // `x` is what the digest names, and no package: the token was taken.
    let error = pull_from(token_registry("http://SELF/token", gives())).await;
    assert!(matches!(error, RegisterError::Package { .. }), "{error}");

    let other = token_registry("unused", gives());
    let registry = token_registry(&format!("http://{other}/token"), vec![]);
    let hosts = [registry, other].map(|address| address.to_string());
    let client = OciRegistries::new(hosts.into()).unwrap();
    let pulled = client.pull(&gold(registry), &OciAuth::Anonymous).await;
    let error = pulled.unwrap_err();
    assert!(matches!(error, RegisterError::Package { .. }), "{error}");
}

#[tokio::test]
async fn no_token_is_asked_of_a_host_that_is_not_allowed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let stranger = serve(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        answer("200 OK", "", r#"{"token":"t0ken"}"#)
    });
    let account = OciAuth::Password {
        username: "publisher".into(),
        password: "correct horse".to_owned().into(),
    };
    for (realm, words) in [
        (format!("http://{stranger}/token"), "may be asked"),
        ("https://SELF/token".into(), "may be asked"),
        ("http://169.254.169.254/latest".into(), "may be asked"),
        ("file:///etc/passwd".into(), "may be asked"),
        ("token".into(), "names no place"),
    ] {
        let registry = token_registry(&realm, vec![]);
        let client = OciRegistries::new(vec![registry.to_string()]).unwrap();
        let uri = gold(registry);
        let pulled = client.pull(&uri, &account).await.unwrap_err();
        let files = support::files(b"code", None);
        let place: OciReference = format!("oci://{registry}/gold").parse().unwrap();
        let pushed = client.push(&files, &place, &account).await.unwrap_err();
        for error in [pulled, pushed] {
            assert!(error.to_string().contains(words), "{realm}: {error}");
            assert!(!error.is_retryable() && !error.to_string().contains("horse"));
        }
    }
    // Nor where an allowed one redirects to.
    let elsewhere = format!("Location: http://{stranger}/token\r\n");
    let gives = answer("307 Temporary Redirect", &elsewhere, "");
    let error = pull_from(token_registry("http://SELF/token", gives)).await;
    assert!(error.to_string().contains("not allowed"), "{error}");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn what_is_no_token_is_refused_and_never_shown() {
    let huge = format!(r#"{{"token":"t0ken","more":"{}"}}"#, "x".repeat(64 << 10));
    for (gives, words) in [
        (answer("403 Forbidden", "", "body"), "token: answers 403"),
        (answer("200 OK", "", "body"), "something else than a token"),
        (
            answer("200 OK", "", r#"{"token":""}"#),
            "something else than a token",
        ),
        (
            answer("200 OK", "", r#"{"token":"body\nCookie: a"}"#),
            "something else than a token",
        ),
        (
            answer("200 OK", "", r#"{"expires_in":60}"#),
            "something else than a token",
        ),
        (answer("200 OK", "", &huge), "more than 65536 bytes"),
    ] {
        let error = pull_from(token_registry("http://SELF/token", gives)).await;
        assert!(error.to_string().contains(words), "{error}");
        assert!(
            !error.to_string().contains("body") && !error.is_retryable(),
            "{error}"
        );
    }
    // One that the registry does not take is not asked for again.
    let gives = answer("200 OK", "", r#"{"token":"another"}"#);
    let error = pull_from(token_registry("http://SELF/token", gives)).await;
    assert!(error.to_string().contains("answers 401"), "{error}");
    let busy = answer("503 Busy", "", "");
    let error = pull_from(token_registry("http://SELF/token", busy)).await;
    assert!(error.is_retryable(), "{error}");
}

#[tokio::test]
async fn nothing_is_uploaded_to_a_host_that_is_not_allowed() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let stranger = serve(move |_, _| {
        count.fetch_add(1, Ordering::SeqCst);
        answer("201 Created", "", "")
    });
    let files = support::files(b"code", None);
    for (headers, words) in [
        (
            format!("Location: http://{stranger}/upload\r\n"),
            "may be asked",
        ),
        (String::new(), "names no place"),
    ] {
        let registry = server(answer("202 Accepted", &headers, ""));
        let client = OciRegistries::new(vec![registry.to_string()]).unwrap();
        let place: OciReference = format!("oci://{registry}/gold").parse().unwrap();
        let pushed = client.push(&files, &place, &OciAuth::Anonymous).await;
        let error = pushed.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}
