//! Who may do what.

use crate::support::{
    Setup, TestHost, authority,
    memory::{NAME, job_id},
    now,
    raw::{Request, connect, connect_with, exchange, read, settings},
};
use cryptlet_api::{
    ServerLimits,
    types::{PageQuery, Role},
};
use rustls::{
    HandshakeKind,
    version::{TLS12, TLS13},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::atomic::Ordering,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ADDRESS: &str = "0x0101010101010101010101010101010101010101";

/// Body of a request, for operations that take one.
fn body(method: &str, path: &str) -> Option<String> {
    let digest = format!("0x{}", "07".repeat(32));
    Some(match (method, path) {
        ("POST", "/v1/keys") => format!(r#"{{"publisher":"{ADDRESS}","name":"{NAME}"}}"#),
        ("POST", "/v1/packages") => {
            r#"{"index":"aGk=","manifest":"aGk=","code":"aGk=","header":"aGk="}"#.to_owned()
        }
        ("PUT", "/v1/policy") => format!(
            r#"{{"policy":{{"epoch":2}},"approvals":[{{"administrator":"{ADDRESS}","signature":"0x00"}}]}}"#
        ),
        ("POST", "/v1/delegations") => format!(
            r#"{{"delegation":{{"identity":"{ADDRESS}","cryptlet":"{ADDRESS}","consumer":"{ADDRESS}","callback":"0x00000000","expiry":1,"salt":"{digest}"}},"signature":"0x"}}"#
        ),
        ("PUT", path) if path.ends_with("/key") => {
            format!(r#"{{"key":"{digest}"}}"#)
        }
        ("POST", path) if path.ends_with("/agreements") => {
            format!(r#"{{"code":"{digest}","signature":"0x00"}}"#)
        }
        ("POST", "/v1/applications") => format!(r#"{{"name":"{NAME}","kind":"hmac"}}"#),
        ("POST", "/v1/applications/gold-price/keys") => r#"{"overlapSeconds":60}"#.to_owned(),
        ("POST", "/v1/applications/gold-price/messages") => "{}".to_owned(),
        ("POST", "/v1/call") => format!(r#"{{"sender":"{ADDRESS}","data":"0x1234"}}"#),
        ("POST", "/v1/tokens") => {
            r#"{"role":"reader","label":"ci","lifetimeSeconds":60}"#.to_owned()
        }
        _ => return None,
    })
}

/// Method, path, least role, and what a caller with that role gets.
fn table() -> Vec<(&'static str, String, Option<Role>, u16)> {
    use Role::{Operator, Publisher, Reader};
    let cryptlet = format!("/v1/cryptlets/{NAME}");
    let job = format!("/v1/jobs/{}", job_id());
    let application = format!("/v1/applications/{NAME}");
    let secret = format!("/v1/secret-code/0x{}", "01".repeat(32));
    let row = |method, path: &str, role, status| (method, path.to_owned(), role, status);
    vec![
        row("GET", "/v1/health", None, 200),
        row("GET", "/v1/delegate", None, 200),
        row("GET", "/v1/openapi.json", None, 200),
        row("GET", "/v1/host", Some(Reader), 200),
        row("GET", "/v1/cryptlets", Some(Reader), 200),
        row("GET", &cryptlet, Some(Reader), 200),
        row("GET", &format!("{cryptlet}/header"), Some(Reader), 200),
        row("GET", &format!("{cryptlet}/package"), Some(Reader), 200),
        row("GET", &format!("{cryptlet}/source"), Some(Reader), 200),
        row("GET", &format!("{cryptlet}/explain"), Some(Reader), 200),
        row("GET", &secret, Some(Reader), 200),
        row("PUT", &format!("{secret}/key"), Some(Publisher), 200),
        row("POST", &format!("{secret}/agreements"), Some(Reader), 201),
        row("GET", "/v1/subscriptions", Some(Reader), 200),
        row("GET", "/v1/jobs", Some(Reader), 200),
        row("GET", &job, Some(Reader), 200),
        row("GET", &format!("{job}/receipt"), Some(Reader), 200),
        row("GET", "/v1/delegations", Some(Reader), 200),
        row("POST", "/v1/keys", Some(Publisher), 201),
        row("POST", "/v1/packages", Some(Publisher), 201),
        row("POST", "/v1/delegations", Some(Publisher), 201),
        row("GET", "/v1/keys", Some(Operator), 200),
        row("PUT", "/v1/policy", Some(Operator), 200),
        row("GET", "/v1/policy", Some(Reader), 200),
        row("GET", "/v1/tokens", Some(Operator), 200),
        row("POST", "/v1/tokens", Some(Operator), 201),
        row("DELETE", "/v1/tokens/0000000000000000", Some(Operator), 404),
        row("POST", &format!("{job}/retry"), Some(Operator), 409),
        row("GET", "/v1/applications", Some(Operator), 200),
        row("DELETE", &application, Some(Operator), 404),
        row("POST", &format!("{application}/keys"), Some(Operator), 404),
        // Who asks is who signed, and here nobody did.
        row("POST", &format!("{application}/messages"), None, 401),
        row("POST", "/v1/applications", Some(Operator), 201),
        row("POST", "/v1/call", None, 200),
        row("GET", &format!("/v1/call/{ADDRESS}/0x1234"), None, 200),
    ]
}

#[tokio::test]
async fn every_operation_has_its_least_role() {
    let limits = ServerLimits {
        failures: u32::MAX,
        ..ServerLimits::default()
    };
    let setup = Setup {
        limits,
        ..Setup::default()
    };
    let host = TestHost::with(setup).await;
    let tokens: BTreeMap<_, _> = Role::ALL.map(|role| (role, host.token(role))).into();
    for (method, path, least, status) in table() {
        let body = body(method, &path);
        for role in [
            None,
            Some(Role::Operator),
            Some(Role::Reader),
            Some(Role::Publisher),
        ] {
            let mut request = Request::new(method, &path);
            request.token = role.map(|role| tokens[&role].as_str());
            request.body = body.as_deref();
            let answer = request.send(&host).await;
            let expected = match (role, least) {
                (_, None) => status,
                (None, Some(_)) => 401,
                (Some(role), Some(least)) if role < least => 403,
                _ => status,
            };
            assert_eq!(answer.status, expected, "{method} {path} by {role:?}");
            assert_eq!(answer.headers["cache-control"], "no-store");
            if expected >= 400 {
                let problem = answer.json();
                assert_eq!(answer.headers["content-type"], "application/problem+json");
                assert_eq!(problem["status"], expected);
                assert!(!problem["next"].as_str().unwrap().is_empty());
            }
        }
    }
}

/// The table of this test and the document say the same of every operation.
#[test]
fn no_operation_is_left_out() {
    let document: serde_json::Value =
        serde_json::from_str(&cryptlet_api::openapi_json().unwrap()).unwrap();
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let role = operation["security"][0]["bearer"][0].as_str();
            documented.insert((method.to_uppercase(), path.clone(), role.map(str::to_owned)));
        }
    }
    let template = |path: &str| {
        path.replace(NAME, "{name}")
            .replace(&job_id().to_string(), "{id}")
            .replace(&format!("0x{}", "01".repeat(32)), "{package}")
            .replace("0000000000000000", "{id}")
            .replace(&format!("{ADDRESS}/0x1234"), "{sender}/{data}")
    };
    let tested: BTreeSet<_> = table()
        .into_iter()
        .map(|(method, path, role, _)| {
            let role = role.map(|role| role.as_str().to_owned());
            (method.to_owned(), template(&path), role)
        })
        .collect();
    assert_eq!(documented, tested);
}

#[tokio::test]
async fn strangers_learn_nothing_of_paths_and_methods() {
    let host = TestHost::start().await;
    for (method, path) in [
        ("GET", "/v1/nothing"),
        ("GET", "/"),
        ("DELETE", "/v1/host"),
        ("OPTIONS", "/v1/host"),
        ("POST", "/v1/health"),
        ("TRACE", "/v1/health"),
    ] {
        assert_eq!(
            Request::new(method, path).send(&host).await.status,
            401,
            "{method} {path}"
        );
    }
    let token = host.token(Role::Reader);
    let get = |path| Request::new("GET", path).by(&token).send(&host);
    assert_eq!(get("/v1/nothing").await.status, 404);
    assert_eq!(get("/").await.status, 404);
    assert_eq!(get("/v1/cryptlets/").await.status, 404);
}

#[tokio::test]
async fn other_methods_are_refused_with_those_that_are_known() {
    let host = TestHost::start().await;
    let token = host.token(Role::Reader);
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"] {
        let answer = Request::new(method, "/v1/host")
            .by(&token)
            .send(&host)
            .await;
        assert_eq!(answer.status, 405, "{method}");
        assert_eq!(answer.headers["allow"], "GET, HEAD, OPTIONS");
    }
    let options = Request::new("OPTIONS", "/v1/policy")
        .by(&token)
        .send(&host)
        .await;
    assert_eq!(options.status, 204);
    assert_eq!(options.headers["allow"], "GET, HEAD, PUT, OPTIONS");
    let head = Request::new("HEAD", "/v1/host")
        .by(&token)
        .send(&host)
        .await;
    assert_eq!(head.status, 200);
    assert!(head.body.is_empty());
}

#[tokio::test]
async fn a_token_ends_with_its_time_or_by_revocation() {
    let host = TestHost::start().await;
    let (reader, operator) = (host.token(Role::Reader), host.token(Role::Operator));
    let status = async |token: &str| {
        Request::new("GET", "/v1/host")
            .by(token)
            .send(&host)
            .await
            .status
    };
    assert_eq!(status(&reader).await, 200);
    let tokens = Request::new("GET", "/v1/tokens")
        .by(&operator)
        .send(&host)
        .await
        .json();
    let id_of = |role: &str| {
        let items = tokens["items"].as_array().unwrap();
        let item = items.iter().find(|item| item["role"] == role).unwrap();
        format!("/v1/tokens/{}", item["id"].as_str().unwrap())
    };
    let delete = async |path: &str| {
        Request::new("DELETE", path)
            .by(&operator)
            .send(&host)
            .await
            .status
    };
    assert_eq!(
        delete(&id_of("operator")).await,
        409,
        "nobody locks themselves out"
    );
    assert_eq!(delete(&id_of("reader")).await, 204);
    assert_eq!(status(&reader).await, 401);
    assert_eq!(status(&operator).await, 200);
    host.ahead.store(3_601, Ordering::Relaxed);
    assert_eq!(status(&operator).await, 401);
}

#[tokio::test]
async fn a_token_made_over_http_counts() {
    let host = TestHost::start().await;
    let operator = host.token(Role::Operator);
    let body = body("POST", "/v1/tokens").unwrap();
    let made = Request::new("POST", "/v1/tokens")
        .by(&operator)
        .body(&body)
        .send(&host)
        .await
        .json();
    let token = made["token"].as_str().unwrap();
    assert_eq!(
        Request::new("GET", "/v1/host")
            .by(token)
            .send(&host)
            .await
            .status,
        200
    );
    assert_eq!(
        Request::new("GET", "/v1/keys")
            .by(token)
            .send(&host)
            .await
            .status,
        403
    );
    let listed = Request::new("GET", "/v1/tokens")
        .by(&operator)
        .send(&host)
        .await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(token));
}

#[tokio::test]
async fn malformed_credentials_are_refused() {
    let host = TestHost::start().await;
    let token = host.token(Role::Operator);
    let bearer = format!("Bearer {token}");
    let cases: [&[(&str, &str)]; 7] = [
        &[("authorization", "")],
        &[("authorization", "Bearer")],
        &[("authorization", "Bearer ")],
        &[("authorization", &token)],
        &[("authorization", &format!("Basic {token}"))],
        &[("authorization", &format!("Bearer  {token}"))],
        &[("authorization", &bearer), ("authorization", &bearer)],
    ];
    for headers in cases {
        let answer = Request::new("GET", "/v1/host")
            .with(headers)
            .send(&host)
            .await;
        assert_eq!(answer.status, 401);
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        assert!(!String::from_utf8_lossy(&answer.body).contains(&token));
    }
    let lower = format!("bearer {token}");
    let headers: &[(&str, &str)] = &[("authorization", &lower)];
    assert_eq!(
        Request::new("GET", "/v1/host")
            .with(headers)
            .send(&host)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn without_its_token_file_the_host_lets_nobody_in() {
    let host = TestHost::start().await;
    let token = host.token(Role::Operator);
    let get = || Request::new("GET", "/v1/host").by(&token).send(&host);
    assert_eq!(get().await.status, 200);
    fs::rename(host.token_file(), host.folder.path().join("away")).unwrap();
    let answer = get().await;
    assert_eq!(answer.status, 503);
    assert!(!String::from_utf8_lossy(&answer.body).contains("tokens.json"));
    assert_eq!(
        Request::new("GET", "/v1/host").send(&host).await.status,
        401
    );
    assert_eq!(
        Request::new("GET", "/v1/health").send(&host).await.status,
        200
    );
    fs::rename(host.folder.path().join("away"), host.token_file()).unwrap();
    assert_eq!(get().await.status, 200);
}

#[tokio::test]
async fn many_failures_are_slowed_down_but_lock_nobody_out() {
    let limits = ServerLimits {
        failures: 3,
        ..ServerLimits::default()
    };
    let host = TestHost::with(Setup {
        limits,
        ..Setup::default()
    })
    .await;
    let token = host.token(Role::Reader);
    let wrong = "A".repeat(43);
    let guess = || Request::new("GET", "/v1/host").by(&wrong).send(&host);
    for _ in 0..3 {
        assert_eq!(guess().await.status, 401);
    }
    let answer = guess().await;
    assert_eq!(answer.status, 429);
    assert!(answer.headers["retry-after"].parse::<u64>().unwrap() <= 60);
    assert_eq!(
        Request::new("GET", "/v1/host")
            .by(&token)
            .send(&host)
            .await
            .status,
        200
    );
    host.ahead.store(61, Ordering::Relaxed);
    assert_eq!(guess().await.status, 401);
}

#[tokio::test]
async fn a_listed_certificate_has_its_role_and_an_unlisted_one_none() {
    let own = authority(1);
    let issue = |label: &str| {
        own.issue_client_certificate(&label.parse().unwrap(), 3_600, now())
            .unwrap()
    };
    let (listed, unlisted) = (issue("publisher"), issue("nobody"));
    let host = TestHost::with(Setup {
        certificates: [(listed.digest, Role::Publisher)].into(),
        authority: Some(own),
        ..Setup::default()
    })
    .await;
    let get = async |certificate: &cryptlet_api::tls::ClientCertificate,
                     path: &str,
                     token: Option<&str>| {
        let mut request = Request::new("GET", path);
        request.token = token;
        let own = Some((certificate.certificate.as_str(), certificate.key.as_str()));
        exchange(&host, own, &request.bytes()).await.unwrap().status
    };
    assert_eq!(get(&listed, "/v1/host", None).await, 200);
    assert_eq!(get(&listed, "/v1/tokens", None).await, 403);
    assert_eq!(get(&unlisted, "/v1/host", None).await, 401);
    // A token, if there is one, decides alone.
    let operator = host.token(Role::Operator);
    assert_eq!(get(&listed, "/v1/tokens", Some(&operator)).await, 200);
    assert_eq!(get(&unlisted, "/v1/host", Some(&operator)).await, 200);
    assert_eq!(get(&listed, "/v1/host", Some("wrong")).await, 401);
}

#[tokio::test]
async fn a_stranger_authoritys_certificate_ends_the_handshake() {
    let (other, trusted) = (authority(2), authority(3));
    let issue = |from: &cryptlet_api::tls::Authority| {
        from.issue_client_certificate(&"ci".parse().unwrap(), 3_600, now())
            .unwrap()
    };
    let (stranger, friend) = (issue(&other), issue(&trusted));
    let expired = trusted
        .issue_client_certificate(&"old".parse().unwrap(), 60, now() - 120)
        .unwrap();
    let host = TestHost::with(Setup {
        // Listed or not: the handshake comes first.
        certificates: [stranger.digest, friend.digest, expired.digest]
            .map(|digest| (digest, Role::Operator))
            .into(),
        client_authorities: vec![trusted.certificate().clone()],
        ..Setup::default()
    })
    .await;
    let request = Request::new("GET", "/v1/tokens").bytes();
    let by = async |certificate: &cryptlet_api::tls::ClientCertificate| {
        let own = Some((certificate.certificate.as_str(), certificate.key.as_str()));
        exchange(&host, own, &request).await
    };
    assert_eq!(by(&friend).await.unwrap().status, 200);
    assert!(by(&stranger).await.is_err());
    assert!(by(&expired).await.is_err());
}

#[tokio::test]
async fn no_session_is_taken_up_again_past_the_certificate_that_began_it() {
    let own = authority(1);
    let issued = own.issue_client_certificate(&"ci".parse().unwrap(), 3_600, now());
    let issued = issued.unwrap();
    let host = TestHost::with(Setup {
        certificates: [(issued.digest, Role::Publisher)].into(),
        authority: Some(own),
        ..Setup::default()
    })
    .await;
    let request = Request::new("GET", "/v1/host").bytes();
    for version in [&TLS12, &TLS13] {
        let own = Some((issued.certificate.as_str(), issued.key.as_str()));
        let remembering = settings(&host, own, &[version]);
        for _ in 0..2 {
            let mut stream = connect_with(&host, remembering.clone()).await.unwrap();
            stream.write_all(&request).await.unwrap();
            // What the client needs to take a session up again would have come before the answer.
            assert_eq!(read(&mut stream).await.unwrap().status, 200);
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn a_connection_ends_when_what_let_its_caller_in_is_revoked() {
    let host = TestHost::start().await;
    let token = host.token(Role::Reader);
    let request = format!(
        "GET /v1/host HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let mut stream = connect(&host, None).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 12];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let listed = host.tokens.list(&PageQuery::default()).unwrap();
    assert!(host.tokens.revoke(&listed.items[0].id).unwrap());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).await.unwrap();
    let (_, refused) = rest.split_once("HTTP/1.1 401").unwrap();
    assert!(refused.contains("connection: close"), "{refused}");
}

#[tokio::test]
async fn changes_are_recorded_with_their_caller() {
    let host = TestHost::start().await;
    let token = host.token(Role::Publisher);
    let body = body("POST", "/v1/keys").unwrap();
    Request::new("POST", "/v1/keys")
        .by(&token)
        .body(&body)
        .send(&host)
        .await;
    let calls = host.memory.calls.lock().unwrap().clone();
    assert_eq!(calls, [("test publisher".to_owned(), "createKey")]);
}

#[tokio::test]
async fn a_stopped_server_finishes_what_it_has() {
    let host = TestHost::start().await;
    let token = host.token(Role::Reader);
    let mut stream = connect(&host, None).await.unwrap();
    let request = Request::new("GET", "/v1/host").by(&token).bytes();
    stream.write_all(&request).await.unwrap();
    assert_eq!(read(&mut stream).await.unwrap().status, 200);
    let address = host.server.address();
    host.server.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}
