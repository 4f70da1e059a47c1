//! What is not of the documented form is refused, with the place named.

use crate::support::{
    TestHost,
    memory::{NAME, PANIC},
    raw::Request,
};
use cryptlet_api::types::Role;

#[tokio::test]
async fn bodies_are_read_strictly() {
    let host = TestHost::start().await;
    let token = host.token(Role::Operator);
    let address = format!("0x{}", "01".repeat(20));
    let good = format!(r#"{{"publisher":"{address}","name":"{NAME}"}}"#);
    let cases = [
        (String::new(), "EOF"),
        ("{".to_owned(), "EOF"),
        ("null".to_owned(), "a JSON object"),
        (format!("{good}{good}"), "trailing"),
        (good.replace('}', r#","admin":true}"#), "admin"),
        (
            good.replace('}', r#","name":"twice"}"#),
            "duplicate field `name`",
        ),
        (r#"{"name":"gold-price"}"#.to_owned(), "publisher"),
        (good.replace(NAME, "Gold"), "a-z"),
        (good.replace("0x", ""), "40 hex digits"),
        (good.replace(NAME, "g\u{0}ld"), "control character"),
        ("[".repeat(10_000), "a JSON object"),
        (format!(r#"["{address}","{NAME}"]"#), "a JSON object"),
    ];
    for (body, named) in &cases {
        let answer = Request::new("POST", "/v1/keys")
            .by(&token)
            .body(body)
            .send(&host)
            .await;
        assert_eq!(answer.status, 400, "{body:.80}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{body:.80}: {detail}");
    }
    let delegation = r#"{"delegation":[],"signature":"0x"}"#;
    let package = r#"{"index":"","manifest":"","code":"","header":"","source":null}"#;
    let answer = Request::new("POST", "/v1/packages")
        .by(&token)
        .body(package)
        .send(&host)
        .await;
    assert_eq!(answer.status, 400);
    let answer = Request::new("POST", "/v1/delegations")
        .by(&token)
        .body(delegation)
        .send(&host)
        .await;
    assert_eq!(answer.status, 400);
    let answer = Request::new("POST", "/v1/keys")
        .by(&token)
        .body(&good)
        .send(&host)
        .await;
    assert_eq!(answer.status, 201);
}

#[tokio::test]
async fn only_json_is_taken() {
    let host = TestHost::start().await;
    let token = host.token(Role::Operator);
    let body = r#"{"role":"reader","label":"ci","lifetimeSeconds":60}"#;
    let post = async |headers: &[(&str, &str)]| {
        let request = Request::new("POST", "/v1/tokens")
            .by(&token)
            .with(headers)
            .body(body);
        request.send(&host).await.status
    };
    assert_eq!(post(&[("content-type", "text/plain")]).await, 415);
    assert_eq!(
        post(&[("content-type", "application/json; charset=utf-16")]).await,
        415
    );
    assert_eq!(post(&[("content-encoding", "gzip")]).await, 415);
    assert_eq!(
        post(&[("content-type", "application/json; charset=utf-8")]).await,
        201
    );
    let without = Request::new("POST", "/v1/tokens")
        .by(&token)
        .send(&host)
        .await;
    assert_eq!(without.status, 415);
}

#[tokio::test]
async fn paths_and_queries_are_read_strictly() {
    let host = TestHost::start().await;
    let token = host.token(Role::Reader);
    for (target, status, named) in [
        ("/v1/host?verbose=1", 400, "\"verbose\""),
        ("/v1/health?x", 400, "\"x\""),
        ("/v1/jobs?state=Routed", 400, "routed, reported"),
        ("/v1/jobs?subject=0x12", 400, "subject"),
        ("/v1/jobs?limit=0", 400, "limit"),
        ("/v1/jobs?limit=501", 400, "limit"),
        ("/v1/jobs?limit=1&limit=1", 400, "stands twice"),
        ("/v1/jobs?after=a%20b", 400, "after"),
        ("/v1/cryptlets?query=%ff", 400, "query"),
        ("/v1/cryptlets?query=", 400, "query"),
        ("/v1/cryptlets/Gold", 400, "name"),
        ("/v1/cryptlets/%ff", 400, "percent-encoded"),
        ("/v1/cryptlets/..%2f..%2fetc", 400, "name"),
        ("/v1/cryptlets/gold-price/header?version=0", 400, "version"),
        (
            "/v1/cryptlets/gold-price/header?version=4294967296",
            400,
            "version",
        ),
        (
            "/v1/cryptlets/gold-price/header?version=2",
            404,
            "version 2",
        ),
        ("/v1/cryptlets/silver-price", 404, "silver-price"),
        ("/v1/jobs/7", 400, "id"),
    ] {
        let answer = Request::new("GET", target).by(&token).send(&host).await;
        assert_eq!(answer.status, status, "{target}");
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        assert!(detail.contains(named), "{target}: {detail}");
    }
    let answer = Request::new("GET", "/v1/cryptlets?query=gold&limit=1")
        .by(&token)
        .send(&host)
        .await;
    assert_eq!(answer.json()["items"][0]["name"], NAME);
}

#[tokio::test]
async fn a_fault_of_the_host_tells_nothing_and_ends_nothing() {
    let host = TestHost::start().await;
    let token = host.token(Role::Reader);
    let target = format!("/v1/cryptlets?query={PANIC}");
    let answer = Request::new("GET", &target).by(&token).send(&host).await;
    assert_eq!(answer.status, 500);
    assert!(!String::from_utf8_lossy(&answer.body).contains("a fault of the host"));
    assert_eq!(
        Request::new("GET", "/v1/host")
            .by(&token)
            .send(&host)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn answers_say_nothing_of_the_program() {
    let host = TestHost::start().await;
    let answer = Request::new("GET", "/v1/health").send(&host).await;
    for name in ["server", "x-powered-by", "access-control-allow-origin"] {
        assert!(!answer.headers.contains_key(name), "{name}");
    }
    assert_eq!(answer.headers["x-content-type-options"], "nosniff");
}
