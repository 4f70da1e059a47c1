//! The gateway for reads of contracts (ERC-3668): how wallet libraries ask, and how many.

use crate::support::{
    Setup, TestHost,
    raw::{Request, connect, read},
};
use cryptlet_api::ServerLimits;
use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;

const SENDER: &str = "0x0101010101010101010101010101010101010101";

async fn limited(limits: ServerLimits) -> TestHost {
    TestHost::with(Setup {
        limits,
        ..Setup::default()
    })
    .await
}

#[tokio::test]
async fn a_read_is_answered_by_path_and_by_body() {
    let host = TestHost::start().await;
    let expected = format!("{SENDER}beef");
    for data in ["0xbeef", "0xBEEF", "0xbeef.json"] {
        let target = format!("/v1/call/{SENDER}/{data}");
        let answer = Request::new("GET", &target).send(&host).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["data"], expected);
        assert_eq!(answer.headers["content-type"], "application/json");
    }
    let body = format!(r#"{{"data":"0xbeef","sender":"{SENDER}"}}"#);
    let answer = Request::new("POST", "/v1/call")
        .body(&body)
        .send(&host)
        .await;
    assert_eq!(
        (answer.status, &answer.json()["data"]),
        (200, &expected.into())
    );
    for target in ["0xbee", "beef", "0xbeef.txt"] {
        let target = format!("/v1/call/{SENDER}/{target}");
        let answer = Request::new("GET", &target).send(&host).await;
        assert_eq!(answer.status, 400, "{target}");
    }
    let long = format!("/v1/call/{SENDER}/0x{}", "00".repeat(2_100));
    assert_eq!(Request::new("GET", &long).send(&host).await.status, 414);
    let unknown = format!(r#"{{"data":"0xbeef","sender":"{SENDER}","to":1}}"#);
    let answer = Request::new("POST", "/v1/call").body(&unknown).send(&host);
    assert_eq!(answer.await.status, 400);
}

#[tokio::test]
async fn a_page_from_elsewhere_may_ask_there_and_nowhere_else() {
    let host = TestHost::start().await;
    let path = format!("/v1/call/{SENDER}/0xbeef");
    for target in ["/v1/call", &path] {
        let asked = [
            ("origin", "https://wallet.example"),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        let answer = Request::new("OPTIONS", target)
            .with(&asked)
            .send(&host)
            .await;
        assert_eq!(answer.status, 204);
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert_eq!(answer.headers["access-control-allow-methods"], "GET, POST");
        assert_eq!(
            answer.headers["access-control-allow-headers"],
            "content-type"
        );
    }
    // What went wrong is to be read there, too.
    let wrong = format!("/v1/call/{SENDER}/0xz");
    for (target, status) in [(&path, 200), (&wrong, 400)] {
        let answer = Request::new("GET", target).send(&host).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
    }
    for (method, target) in [("OPTIONS", "/v1/host"), ("GET", "/v1/health")] {
        let answer = Request::new(method, target).send(&host).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
    }
}

#[tokio::test]
async fn an_origin_asks_so_often_in_a_minute() {
    let host = limited(ServerLimits {
        calls_per_minute: 2,
        ..ServerLimits::default()
    })
    .await;
    let target = format!("/v1/call/{SENDER}/0xbeef");
    let ask = || Request::new("GET", &target).send(&host);
    let answers = [ask().await, ask().await, ask().await];
    assert_eq!(
        answers.each_ref().map(|answer| answer.status),
        [200, 200, 429]
    );
    let wait: u64 = answers[2].headers["retry-after"].parse().unwrap();
    assert!((1..=60).contains(&wait));
    host.ahead.fetch_add(wait, Ordering::Relaxed);
    assert_eq!(ask().await.status, 200);
}

/// The fourth hundred of statuses would keep a library from the next gateway (ERC-3668).
#[tokio::test]
async fn beyond_so_many_reads_the_next_gateway_is_to_be_asked() {
    let host = limited(ServerLimits {
        calls: 1,
        ..ServerLimits::default()
    })
    .await;
    let body = format!(r#"{{"data":"0xff","sender":"{SENDER}"}}"#);
    let mut first = connect(&host, None).await.unwrap();
    let request = Request::new("POST", "/v1/call").body(&body).bytes();
    first.write_all(&request).await.unwrap();
    let target = format!("/v1/call/{SENDER}/0xbeef");
    let busy = async {
        loop {
            let answer = Request::new("GET", &target).send(&host).await;
            if answer.status != 200 {
                return answer;
            }
        }
    };
    let busy = tokio::time::timeout(std::time::Duration::from_secs(20), busy);
    assert_eq!(busy.await.unwrap().status, 503);
    host.memory.go_on.add_permits(1);
    assert_eq!(read(&mut first).await.unwrap().status, 200);
}
