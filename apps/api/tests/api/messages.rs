//! Messages of applications: who signed what, when, and how many.

use crate::support::{
    Setup, TestHost,
    memory::HANG,
    now,
    raw::{Answer, Request, connect, exchange, read},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use cryptlet_api::{MAX_MESSAGE_BYTES, ServerLimits, types::Role, webhook::SigningKey};
use serde_json::json;
use std::sync::atomic::Ordering;
use tokio::io::AsyncWriteExt;

/// A registered application.
struct Application {
    name: &'static str,
    key: SigningKey,
}

/// What is sent, which may be another than what was signed.
struct Sent<'s> {
    name: &'s str,
    id: &'s str,
    at: u64,
    signature: String,
    media_type: &'s str,
    body: &'s str,
}

impl Sent<'_> {
    fn bytes(&self) -> Vec<u8> {
        let (target, at) = (
            format!("/v1/applications/{}/messages", self.name),
            self.at.to_string(),
        );
        let headers = [
            ("webhook-id", self.id),
            ("webhook-timestamp", at.as_str()),
            ("webhook-signature", self.signature.as_str()),
            ("content-type", self.media_type),
        ];
        let request = Request::new("POST", &target).with(&headers);
        request.body(self.body).bytes()
    }

    async fn send(&self, host: &TestHost) -> Answer {
        exchange(host, None, &self.bytes()).await.unwrap()
    }
}

impl Application {
    async fn add(host: &TestHost, name: &'static str) -> Self {
        let body = json!({ "name": name, "kind": "hmac" });
        let made = Self::register(host, &body.to_string()).await;
        let key = SigningKey::parse(made["secret"].as_str().unwrap()).unwrap();
        Self { name, key }
    }

    async fn add_ed25519(host: &TestHost, name: &'static str, seed: u8) -> Self {
        let key = format!("whsk_{}", STANDARD.encode([seed; 32]));
        let key = SigningKey::parse(&key).unwrap();
        let public = key.public().unwrap().to_string();
        let body = json!({ "name": name, "kind": "ed25519", "publicKey": public });
        let made = Self::register(host, &body.to_string()).await;
        assert!(made.get("secret").is_none());
        Self { name, key }
    }

    async fn register(host: &TestHost, body: &str) -> serde_json::Value {
        let token = host.token(Role::Operator);
        let request = Request::new("POST", "/v1/applications").by(&token);
        let answer = request.body(body).send(host).await;
        assert_eq!(answer.status, 201);
        answer.json()
    }

    fn sign<'s>(&'s self, id: &'s str, at: u64, body: &'s str) -> Sent<'s> {
        Sent {
            name: self.name,
            id,
            at,
            signature: self.key.sign(id, at, body.as_bytes()),
            media_type: "text/plain",
            body,
        }
    }

    async fn say(&self, host: &TestHost, id: &str, body: &str) -> Answer {
        self.sign(id, now(), body).send(host).await
    }
}

fn ids(host: &TestHost) -> Vec<String> {
    let messages = host.memory.messages.lock().unwrap();
    messages.iter().map(|message| message.id.clone()).collect()
}

#[tokio::test]
async fn what_an_application_signed_is_kept_once() {
    let host = TestHost::start().await;
    let crm = Application::add(&host, "crm").await;
    let erp = Application::add_ed25519(&host, "erp", 1).await;
    for application in [&crm, &erp] {
        let first = application.say(&host, "a1", "hi").await;
        assert_eq!(
            (first.status, first.json()),
            (202, json!({ "known": false }))
        );
        let again = application.say(&host, "a1", "hi").await;
        assert_eq!(
            (again.status, again.json()),
            (200, json!({ "known": true }))
        );
        let other = application.say(&host, "a1", "ho").await;
        assert_eq!(other.status, 409);
        assert!(
            other.json()["detail"]
                .as_str()
                .unwrap()
                .contains("webhook-id")
        );
    }
    let kept = host.memory.messages.lock().unwrap().clone();
    let kept: Vec<_> = kept
        .iter()
        .map(|message| {
            (
                message.application.as_str(),
                message.id.as_str(),
                &message.data[..],
            )
        })
        .collect();
    assert_eq!(kept, [("crm", "a1", &b"hi"[..]), ("erp", "a1", b"hi")]);
}

#[tokio::test]
async fn messages_may_come_out_of_order() {
    let host = TestHost::start().await;
    let crm = Application::add(&host, "crm").await;
    let at = now();
    for (id, at) in [("late", at), ("early", at - 200), ("mean", at - 100)] {
        assert_eq!(crm.sign(id, at, "x").send(&host).await.status, 202);
    }
    assert_eq!(ids(&host), ["late", "early", "mean"]);
}

#[tokio::test]
async fn what_was_altered_or_is_of_another_is_refused() {
    let host = TestHost::start().await;
    let crm = Application::add(&host, "crm").await;
    let erp = Application::add_ed25519(&host, "erp", 1).await;
    let shop = Application::add_ed25519(&host, "shop", 2).await;
    let at = now();
    let mut refused = Vec::new();
    for application in [&crm, &erp] {
        let signed = || application.sign("a1", at, "hi");
        refused.extend([
            Sent {
                id: "a2",
                ..signed()
            },
            Sent {
                at: at - 1,
                ..signed()
            },
            Sent {
                body: "ho",
                ..signed()
            },
            Sent {
                body: "hi ",
                ..signed()
            },
            Sent {
                name: "shop",
                ..signed()
            },
            Sent {
                name: "nobody",
                ..signed()
            },
            Sent {
                signature: shop.key.sign("a1", at, b"hi"),
                ..signed()
            },
        ]);
    }
    let mut words = Vec::new();
    for sent in refused {
        let answer = sent.send(&host).await;
        assert_eq!(
            answer.status, 401,
            "{} {} {}",
            sent.name, sent.id, sent.body
        );
        let detail = answer.json()["detail"].as_str().unwrap().to_owned();
        words.push(detail.replace(sent.name, "NAME"));
    }
    words.dedup();
    assert_eq!(
        words.len(),
        1,
        "who is not there is not told apart: {words:?}"
    );
    assert!(ids(&host).is_empty());
}

#[tokio::test]
async fn a_message_has_its_time() {
    let host = TestHost::start().await;
    let crm = Application::add(&host, "crm").await;
    let at = now();
    for at in [at - 310, at + 310] {
        let answer = crm.sign("a1", at, "hi").send(&host).await;
        assert_eq!(answer.status, 401);
        let problem = answer.json();
        assert!(
            problem["detail"]
                .as_str()
                .unwrap()
                .starts_with("webhook-timestamp")
        );
    }
    // What was recorded on its way is of no use later.
    let recorded = crm.sign("a1", at, "hi");
    assert_eq!(recorded.send(&host).await.status, 202);
    assert_eq!(recorded.send(&host).await.status, 200);
    host.ahead.fetch_add(310, Ordering::Relaxed);
    assert_eq!(recorded.send(&host).await.status, 401);
    assert_eq!(ids(&host), ["a1"]);
}

#[tokio::test]
async fn a_removed_application_says_nothing_more() {
    let host = TestHost::start().await;
    let crm = Application::add(&host, "crm").await;
    assert_eq!(crm.say(&host, "a1", "hi").await.status, 202);
    let token = host.token(Role::Operator);
    let remove = || Request::new("DELETE", "/v1/applications/crm").by(&token);
    assert_eq!(remove().send(&host).await.status, 204);
    assert_eq!(remove().send(&host).await.status, 404);
    assert_eq!(crm.say(&host, "a2", "hi").await.status, 401);
    // Nor does its old key, once there is another of its name.
    Application::add(&host, "crm").await;
    assert_eq!(crm.say(&host, "a3", "hi").await.status, 401);
    assert_eq!(ids(&host), ["a1"]);
}

#[tokio::test]
async fn a_message_is_refused_before_it_is_read_if_it_is_too_large_or_not_signed() {
    let host = TestHost::start().await;
    let crm = Application::add(&host, "crm").await;
    let data = "x".repeat(16 << 10);
    assert_eq!(crm.say(&host, "a1", &data).await.status, 202);
    let data = "x".repeat((16 << 10) + 1);
    let answer = crm.say(&host, "a2", &data).await;
    assert_eq!(answer.status, 413);
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .starts_with("data")
    );
    // The head alone, with a body that never comes.
    let head = |fields: &str, length: usize| {
        format!(
            "POST /v1/applications/crm/messages HTTP/1.1\r\nhost: localhost\r\n{fields}content-length: {length}\r\n\r\n"
        )
    };
    let (at, stale) = (now(), now() - 310);
    let signed = |at: u64| {
        let signature = crm.key.sign("a3", at, b"");
        format!("webhook-id: a3\r\nwebhook-timestamp: {at}\r\nwebhook-signature: {signature}\r\n")
    };
    for (head, status) in [
        (head(&signed(at), MAX_MESSAGE_BYTES + 1), 413),
        (head(&signed(stale), 10), 401),
        (head("", 10), 401),
        (head(&format!("{}ce-type: a\r\n", signed(at)), 10), 415),
    ] {
        let answer = exchange(&host, None, head.as_bytes()).await.unwrap();
        assert_eq!(answer.status, status, "{head}");
    }
    assert_eq!(ids(&host), ["a1"]);
}

#[tokio::test]
async fn a_cloud_event_says_its_kind_and_a_broken_one_is_refused() {
    let host = TestHost::start().await;
    let crm = Application::add(&host, "crm").await;
    let event = json!({
        "specversion": "1.0", "id": "7", "source": "/crm", "type": "order.paid", "data": { "total": 12 },
    });
    let event = event.to_string();
    let cloud_event = |id, body| Sent {
        media_type: "application/cloudevents+json; charset=utf-8",
        ..crm.sign(id, now(), body)
    };
    assert_eq!(cloud_event("a1", &event).send(&host).await.status, 202);
    let broken = [
        ("a2", event.replace("1.0", "0.3"), "specversion"),
        ("a3", event.replace("\"source\"", "\"sauce\""), "source"),
        ("a4", event.replace("order.paid", ""), "type"),
        ("a5", "{".to_owned(), "body"),
    ];
    for (id, body, named) in &broken {
        let answer = cloud_event(id, body).send(&host).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(named));
    }
    // The same bytes under another media type are another message.
    let renamed = crm.sign("a1", now(), &event).send(&host).await;
    assert_eq!(renamed.status, 409);
    let kept = host.memory.messages.lock().unwrap().clone();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].kind, "order.paid");
    assert_eq!(kept[0].data[..], br#"{"total":12}"#[..]);
}

#[tokio::test]
async fn a_flood_is_shed_and_what_was_accepted_is_kept() {
    let host = TestHost::with(Setup {
        limits: ServerLimits {
            messages_per_minute: 5,
            ..ServerLimits::default()
        },
        ..Setup::default()
    })
    .await;
    let crm = Application::add(&host, "crm").await;
    let erp = Application::add(&host, "erp").await;
    let (mut accepted, mut wait) = (Vec::new(), 0);
    for number in 0..20 {
        let id = format!("a{number}");
        let answer = crm.say(&host, &id, "hi").await;
        match answer.status {
            202 => accepted.push(id),
            429 => wait = answer.headers["retry-after"].parse().unwrap(),
            other => panic!("{other}"),
        }
    }
    assert_eq!(accepted.len(), 5);
    assert_eq!(ids(&host), accepted);
    assert!((1..=60).contains(&wait));
    // Another application has a share of its own, and a stranger cannot use up anybody's.
    assert_eq!(erp.say(&host, "b1", "hi").await.status, 202);
    let forged = Sent {
        signature: crm.key.sign("b2", now(), b"hi"),
        ..erp.sign("b2", now(), "hi")
    };
    for _ in 0..10 {
        assert_eq!(forged.send(&host).await.status, 401);
    }
    assert_eq!(erp.say(&host, "b3", "hi").await.status, 202);
    host.ahead.fetch_add(wait, Ordering::Relaxed);
    let later = crm.sign("a19", now() + wait, "hi").send(&host).await;
    assert_eq!(later.status, 202);
}

#[tokio::test]
async fn beyond_so_many_that_are_being_written_down_more_are_shed() {
    let host = TestHost::with(Setup {
        limits: ServerLimits {
            messages: 1,
            ..ServerLimits::default()
        },
        ..Setup::default()
    })
    .await;
    let crm = Application::add(&host, "crm").await;
    let mut first = connect(&host, None).await.unwrap();
    let slow = crm.sign(HANG, now(), "hi");
    first.write_all(&slow.bytes()).await.unwrap();
    let noted = async {
        let by_host = || host.memory.calls.lock().unwrap().clone();
        while !by_host().iter().any(|(_, what)| *what == "message") {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), noted)
        .await
        .unwrap();
    let second = crm.say(&host, "a1", "hi").await;
    assert_eq!(second.status, 429);
    assert_eq!(second.headers["retry-after"], "1");
    assert_eq!(second.json()["retryAfter"], 1);
    // Operators are not in that queue.
    let token = host.token(Role::Reader);
    let asked = Request::new("GET", "/v1/host").by(&token).send(&host);
    assert_eq!(asked.await.status, 200);
    host.memory.go_on.add_permits(1);
    assert_eq!(read(&mut first).await.unwrap().status, 202);
    assert_eq!(crm.say(&host, "a1", "hi").await.status, 202);
    assert_eq!(ids(&host), [HANG, "a1"]);
}

#[tokio::test]
async fn who_signs_wrongly_too_often_is_told_to_wait() {
    let host = TestHost::with(Setup {
        limits: ServerLimits {
            failures: 2,
            ..ServerLimits::default()
        },
        ..Setup::default()
    })
    .await;
    let crm = Application::add(&host, "crm").await;
    let at = now();
    let forged = Sent {
        body: "ho",
        ..crm.sign("a1", at, "hi")
    };
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(forged.send(&host).await.status);
    }
    assert_eq!(statuses, [401, 401, 429]);
    // A right signature is let through from the same address.
    assert_eq!(crm.say(&host, "a1", "hi").await.status, 202);
}

#[tokio::test]
async fn an_application_that_signs_rightly_keeps_its_connection() {
    let host = TestHost::start().await;
    let crm = Application::add(&host, "crm").await;
    let (one, two) = (crm.sign("a1", now(), "hi"), crm.sign("a2", now(), "hi"));
    let keeping = String::from_utf8(one.bytes()).unwrap();
    let keeping = keeping.replace("connection: close\r\n", "");
    let mut stream = connect(&host, None).await.unwrap();
    stream.write_all(keeping.as_bytes()).await.unwrap();
    stream.write_all(&two.bytes()).await.unwrap();
    read(&mut stream).await.unwrap();
    assert_eq!(ids(&host), ["a1", "a2"]);
}
