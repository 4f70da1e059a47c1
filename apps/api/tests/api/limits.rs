//! How much, how many, how slow.

use crate::support::{
    Setup, TestHost,
    memory::HANG,
    raw::{Request, connect, exchange, read},
};
use cryptlet_api::{MAX_BODY_BYTES, ServerLimits, types::Role};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

async fn limited(limits: ServerLimits) -> TestHost {
    TestHost::with(Setup {
        limits,
        ..Setup::default()
    })
    .await
}

const SHORT: Duration = Duration::from_millis(100);

#[tokio::test]
async fn a_body_has_a_largest_size() {
    let host = TestHost::start().await;
    let token = host.token(Role::Operator);
    let post = async |path: &str, body: &str| {
        Request::new("POST", path)
            .by(&token)
            .body(body)
            .send(&host)
            .await
            .status
    };
    let mut fits = r#"{"role":"reader","label":"ci","lifetimeSeconds":60}"#.to_owned();
    fits += &" ".repeat(MAX_BODY_BYTES - fits.len());
    assert_eq!(post("/v1/tokens", &fits).await, 201);
    // A package may be larger.
    let large = format!(
        r#"{{"index":"","manifest":"","header":"","code":"{}"}}"#,
        "A".repeat(2 * MAX_BODY_BYTES)
    );
    assert_eq!(post("/v1/packages", &large).await, 201);
    // What is announced as too large is refused before it is sent.
    let announced = format!(
        "POST /v1/tokens HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        MAX_BODY_BYTES + 1
    );
    let answer = exchange(&host, None, announced.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 413);
    // What is not announced is refused once it is too large.
    let head = announced.replace(
        &format!("content-length: {}", MAX_BODY_BYTES + 1),
        "transfer-encoding: chunked",
    );
    let chunk = " ".repeat(MAX_BODY_BYTES + 1);
    let chunked = format!("{head}{:x}\r\n{chunk}\r\n", chunk.len());
    let answer = exchange(&host, None, chunked.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 413);
}

#[tokio::test]
async fn heads_have_a_largest_size() {
    let host = TestHost::start().await;
    let get = async |target: &str, headers: &[(&str, &str)]| {
        Request::new("GET", target).with(headers).send(&host).await
    };
    let long = format!("/v1/health?{}", "x".repeat(5_000));
    assert_eq!(get(&long, &[]).await.status, 414);
    assert_eq!(get("/v1/health", &[("x-a", "1"); 70]).await.status, 431);
    let value = "x".repeat(17 << 10);
    let answer = get("/v1/health", &[("x-a", &value)]).await;
    assert_eq!(answer.status, 431);
    assert_eq!(answer.json()["status"], 431);
    // Far beyond, the HTTP library refuses without reading on.
    assert_eq!(get("/v1/health", &[("x-a", "1"); 200]).await.status, 431);
    assert_eq!(get("/v1/health", &[("x-a", "1"); 50]).await.status, 200);
}

/// Fails, instead of waiting on, if the server's patience is not the short one.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    let patience = Duration::from_secs(8);
    tokio::time::timeout(patience, what)
        .await
        .expect("the server waits on")
}

#[tokio::test]
async fn a_slow_head_is_given_up() {
    let host = limited(ServerLimits {
        head: Duration::from_secs(1),
        ..ServerLimits::default()
    })
    .await;
    let mut stream = connect(&host, None).await.unwrap();
    let begun = b"GET /v1/health HTTP/1.1\r\nhost:";
    stream.write_all(begun).await.unwrap();
    assert!(soon(read(&mut stream)).await.is_err(), "it was answered");

    // So is a connection that idles after a request.
    let mut idle = connect(&host, None).await.unwrap();
    let request = b"GET /v1/health HTTP/1.1\r\nhost: localhost\r\n\r\n";
    idle.write_all(request).await.unwrap();
    assert_eq!(soon(read(&mut idle)).await.unwrap().status, 200);
}

#[tokio::test]
async fn a_slow_handshake_is_given_up() {
    let host = limited(ServerLimits {
        handshake: SHORT,
        ..ServerLimits::default()
    })
    .await;
    let address = host.server.address();
    let mut silent = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(soon(silent.read(&mut [0; 1])).await.unwrap(), 0);
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let host = limited(ServerLimits {
        request: SHORT,
        ..ServerLimits::default()
    })
    .await;
    let token = host.token(Role::Operator);
    let head = format!(
        "POST /v1/tokens HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: 50\r\n\r\n{{"
    );
    let answer = exchange(&host, None, head.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 408);
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_not_waited_for() {
    let host = limited(ServerLimits {
        request: SHORT,
        ..ServerLimits::default()
    })
    .await;
    let token = host.token(Role::Reader);
    let target = format!("/v1/cryptlets?query={HANG}");
    let answer = Request::new("GET", &target).by(&token).send(&host).await;
    assert_eq!(answer.status, 503);
    assert!(answer.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn beyond_so_many_requests_the_host_is_busy() {
    let host = limited(ServerLimits {
        requests: 1,
        ..ServerLimits::default()
    })
    .await;
    let token = host.token(Role::Operator);
    // A request whose body does not come holds the only place, once 100-continue says that the body is awaited.
    let head = format!(
        "POST /v1/tokens HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 51\r\n\r\n"
    );
    let mut first = connect(&host, None).await.unwrap();
    first.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    first.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");

    let second = Request::new("GET", "/v1/host").by(&token).send(&host).await;
    assert_eq!(second.status, 503);
    assert_eq!(second.headers["retry-after"], "2");

    first
        .write_all(br#"{"role":"reader","label":"ci","lifetimeSeconds":60}"#)
        .await
        .unwrap();
    assert_eq!(read(&mut first).await.unwrap().status, 201);
    let third = Request::new("GET", "/v1/host").by(&token).send(&host).await;
    assert_eq!(third.status, 200);
}

#[tokio::test]
async fn what_changes_something_is_done_to_its_end_and_has_its_place_for_as_long() {
    let host = limited(ServerLimits {
        requests: 1,
        request: Duration::from_secs(1),
        ..ServerLimits::default()
    })
    .await;
    let token = host.token(Role::Publisher);
    let body = format!(r#"{{"publisher":"0x{}","name":"{HANG}"}}"#, "01".repeat(20));
    let asked = Request::new("POST", "/v1/keys").by(&token).body(&body);
    let answer = asked.send(&host).await;
    assert_eq!(answer.status, 503, "nobody waits any longer");
    let get = || Request::new("GET", "/v1/host").by(&token).send(&host);
    assert_eq!(get().await.status, 503, "the place is not free");
    host.memory.go_on.add_permits(1);
    let done = async {
        while get().await.status != 200 {
            tokio::task::yield_now().await;
        }
    };
    soon(done).await;
    let calls = host.memory.calls.lock().unwrap().clone();
    let calls: Vec<_> = calls.iter().map(|(_, what)| *what).collect();
    assert_eq!(calls, ["createKey", "createdKey"]);
}

#[tokio::test]
async fn beyond_so_many_connections_a_peer_waits() {
    let host = limited(ServerLimits {
        connections: 1,
        ..ServerLimits::default()
    })
    .await;
    let first = connect(&host, None).await.unwrap();
    let waiting = tokio::time::timeout(SHORT, connect(&host, None)).await;
    assert!(waiting.is_err(), "there was a place");
    drop(first);
    assert_eq!(
        Request::new("GET", "/v1/health").send(&host).await.status,
        200
    );
}

#[tokio::test]
async fn one_origin_has_a_part_of_the_places_only() {
    let host = limited(ServerLimits {
        connections_per_origin: 1,
        ..ServerLimits::default()
    })
    .await;
    let first = connect(&host, None).await.unwrap();
    assert!(soon(connect(&host, None)).await.is_err(), "it was let in");
    drop(first);
    // The server hears of it when it next reads.
    let again = async {
        while connect(&host, None).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon(again).await;
}

#[tokio::test]
async fn an_answer_to_a_stranger_ends_the_connection() {
    let host = TestHost::start().await;
    for (target, status) in [("/v1/health", 200), ("/v1/host", 401)] {
        let request = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        let answer = soon(exchange(&host, None, request.as_bytes())).await;
        let answer = answer.unwrap();
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers["connection"], "close");
    }
    // Whoever is known may go on.
    let token = host.token(Role::Reader);
    let first = format!(
        "GET /v1/host HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    let second = "GET /v1/health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    let mut stream = connect(&host, None).await.unwrap();
    let both = [first.as_bytes(), second.as_bytes()].concat();
    stream.write_all(&both).await.unwrap();
    let mut answers = String::new();
    soon(stream.read_to_string(&mut answers)).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 2, "{answers}");
}

/// Long enough to come in, also on a busy machine.
const STRANGER: Duration = Duration::from_secs(1);

#[tokio::test]
async fn a_stranger_holds_a_place_for_a_limited_time() {
    let host = limited(ServerLimits {
        stranger: STRANGER,
        ..ServerLimits::default()
    })
    .await;
    let mut silent = connect(&host, None).await.unwrap();
    let mut taken = Vec::new();
    let _reset_or_end = soon(silent.read_to_end(&mut taken)).await;
    assert!(taken.is_empty());
    // Not so somebody who is known, and takes longer.
    let token = host.token(Role::Operator);
    let head = format!(
        "POST /v1/tokens HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 51\r\n\r\n"
    );
    let mut known = connect(&host, None).await.unwrap();
    known.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 25];
    known.read_exact(&mut go_on).await.unwrap();
    tokio::time::sleep(STRANGER).await;
    known
        .write_all(br#"{"role":"reader","label":"ci","lifetimeSeconds":60}"#)
        .await
        .unwrap();
    assert_eq!(read(&mut known).await.unwrap().status, 201);
}
