//! The client against the server.

use crate::support::{
    Setup, TestHost, authority,
    memory::{NAME, job_id, parked_id},
    now,
};
use alloy_primitives::FixedBytes;
use cryptlet_api::{
    Client, ClientError, Connection, Credentials, JobQuery, Outgoing, ProblemKind,
    types::{
        ApplicationKind, ApplicationName, Approval, Base64, CallRequest, DelegationBody, Document,
        Hex, HexBytes, JobStateName, Moment, Name, NewApplication, NewApplicationKey,
        NewDelegation, NewKey, NewPackage, NewPolicy, NewToken, PageQuery, Role, Source,
    },
    webhook::SigningKey,
};
use zeroize::Zeroizing;

fn connection(host: &TestHost, role: Role) -> Connection {
    Connection {
        url: host.url(),
        authority: host.authority.pem().to_owned(),
        token: Zeroizing::new(host.token(role)),
    }
}

#[tokio::test]
async fn every_operation_is_within_reach() {
    let host = TestHost::start().await;
    let client = Client::new(&connection(&host, Role::Operator), Some(host.digest())).unwrap();
    let all = PageQuery::default();
    let name: Name = NAME.parse().unwrap();
    let cryptlet = name.clone().into();

    assert_eq!(client.health().await.unwrap().status, "serving");
    assert_eq!(client.host().await.unwrap().chain_id, 1_337);
    let found = client
        .cryptlets(Some(&"gold".parse().unwrap()), &all)
        .await
        .unwrap();
    assert_eq!(found.items[0].name, NAME);
    let none = client
        .cryptlets(Some(&"silver".parse().unwrap()), &all)
        .await
        .unwrap();
    assert!(none.items.is_empty());
    let detail = client.cryptlet(&cryptlet).await.unwrap();
    assert!(matches!(detail.source, Source::Revealed(_)));
    let by_id = client
        .cryptlet(&detail.cryptlet.to_string().parse().unwrap())
        .await
        .unwrap();
    assert_eq!(by_id, detail);
    assert_eq!(
        client.header(&cryptlet, Some(1)).await.unwrap(),
        b"{ \"version\": 1 }"[..]
    );
    assert_eq!(
        client.source(&cryptlet, None).await.unwrap(),
        b"\x1f\x8b source"[..]
    );
    assert!(client.explain(&cryptlet).await.unwrap().rows[0].overridden);
    assert_eq!(client.subscriptions(&all).await.unwrap().items.len(), 1);
    let jobs = client.jobs(&JobQuery::default()).await.unwrap();
    assert_eq!(jobs.items[0].job, job_id());
    let other = JobQuery {
        subject: Some(Hex::default()),
        ..JobQuery::default()
    };
    assert!(client.jobs(&other).await.unwrap().items.is_empty());
    assert!(client.job(job_id()).await.unwrap().receipt);
    assert_eq!(
        client.receipt(job_id()).await.unwrap(),
        b"{\"version\":1}"[..]
    );

    let publisher = Hex(FixedBytes([1; 20]));
    let key = client
        .create_key(&NewKey { publisher, name })
        .await
        .unwrap();
    assert_eq!(key.cryptlet, detail.cryptlet);
    assert_eq!(
        client.keys(&all).await.unwrap().items[0].address,
        Some(key.signer)
    );
    let package = NewPackage {
        index: Base64(vec![1].into()),
        manifest: Base64::default(),
        code: Base64::default(),
        header: Base64::default(),
        source: None,
    };
    assert_eq!(client.store_package(&package).await.unwrap().name, NAME);

    let policy = NewPolicy {
        policy: Document::of(&serde_json::json!({"epoch": 2})).unwrap(),
        approvals: vec![Approval {
            administrator: publisher,
            signature: HexBytes::default(),
        }],
    };
    let set = client.set_policy(&policy).await.unwrap();
    assert_eq!(client.policy().await.unwrap(), set);
    let delegation = NewDelegation {
        delegation: DelegationBody {
            identity: publisher,
            cryptlet: publisher,
            consumer: Hex::default(),
            callback: Hex::default(),
            expiry: Moment::new(1).unwrap(),
            salt: Hex::default(),
        },
        signature: HexBytes::default(),
    };
    let added = client.add_delegation(&delegation).await.unwrap();
    assert_eq!(client.delegations(&all).await.unwrap().items, [added]);

    let parked = JobQuery {
        state: Some(JobStateName::Parked),
        ..JobQuery::default()
    };
    let parked = client.jobs(&parked).await.unwrap().items;
    assert_eq!(parked[0].job, parked_id());
    let again = client.retry_job(parked_id()).await.unwrap();
    assert_eq!(again.state, JobStateName::Routed);
    let crm: ApplicationName = "crm".parse().unwrap();
    let new = NewApplication {
        name: crm.clone(),
        kind: ApplicationKind::Hmac,
        public_key: None,
    };
    let made = client.add_application(&new).await.unwrap();
    let listed = client.applications(&all).await.unwrap();
    assert_eq!(listed.items, std::slice::from_ref(&made.info));
    let send = async |secret: &Option<String>| {
        let message = Outgoing {
            id: "1",
            at: now(),
            media_type: "text/plain",
            body: b"hi",
        };
        let key = SigningKey::parse(secret.as_deref().unwrap()).unwrap();
        let sent = client.send_message(&crm, &key, message).await;
        sent.map(|receipt| receipt.known)
    };
    assert!(!send(&made.secret).await.unwrap());
    let overlap_seconds = "60".parse().unwrap();
    let key = NewApplicationKey {
        overlap_seconds,
        public_key: None,
    };
    let exchanged = client.rotate_application(&crm, &key).await.unwrap();
    assert_ne!(exchanged.secret, made.secret);
    for secret in [&made.secret, &exchanged.secret] {
        assert!(send(secret).await.unwrap());
    }
    client.remove_application(&crm).await.unwrap();
    assert!(send(&made.secret).await.is_err());
    let call = CallRequest {
        sender: publisher,
        data: HexBytes(vec![1, 2].into()),
    };
    let answer = client.call(&call).await.unwrap();
    assert_eq!(answer.data.0[20..], [1, 2]);

    let token = NewToken {
        role: Role::Reader,
        label: "ci".parse().unwrap(),
        lifetime_seconds: "60".parse().unwrap(),
    };
    let token = client.create_token(&token).await.unwrap();
    assert_eq!(client.tokens(&all).await.unwrap().items.len(), 2);
    client.revoke_token(&token.info.id).await.unwrap();
    assert_eq!(client.tokens(&all).await.unwrap().items.len(), 1);
}

#[tokio::test]
async fn a_problem_arrives_with_its_next_step() {
    let host = TestHost::start().await;
    let client = Client::new(&connection(&host, Role::Reader), None).unwrap();
    let error = client.keys(&PageQuery::default()).await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Problem(problem) if problem.kind == ProblemKind::Forbidden)
    );
    assert!(error.next().contains("operator"), "{}", error.next());
    assert!(!error.is_retryable());
    std::fs::remove_file(host.token_file()).unwrap();
    let error = client.host().await.unwrap_err();
    assert!(
        matches!(&error, ClientError::Problem(problem) if problem.kind == ProblemKind::Unavailable)
    );
    assert!(error.is_retryable());
}

#[tokio::test]
async fn another_authority_is_refused() {
    let host = TestHost::start().await;
    let good = connection(&host, Role::Reader);
    // A host of the same name, under an authority that is not pinned.
    let wrong = Connection {
        authority: authority(2).pem().to_owned(),
        ..good.clone()
    };
    let error = Client::new(&wrong, None).unwrap().host().await.unwrap_err();
    assert!(matches!(error, ClientError::NotTheHost { .. }), "{error:?}");
    assert!(!error.is_retryable());
    // A pinned authority that is not the registered one.
    let registered = authority(2).digest();
    assert!(matches!(
        Client::new(&good, Some(registered)),
        Err(ClientError::OtherAuthority { .. })
    ));
    // The right authority, but not for this name.
    let address = host.server.address();
    let elsewhere = Connection {
        url: format!("https://[::ffff:127.0.0.1]:{}", address.port()),
        ..good
    };
    let error = Client::new(&elsewhere, None)
        .unwrap()
        .host()
        .await
        .unwrap_err();
    assert!(matches!(error, ClientError::NotTheHost { .. }), "{error:?}");
}

#[tokio::test]
async fn a_host_that_is_away_may_be_asked_again() {
    let host = TestHost::start().await;
    let client = Client::new(&connection(&host, Role::Reader), None).unwrap();
    host.server.stop().await;
    let error = client.host().await.unwrap_err();
    assert!(matches!(error, ClientError::NoAnswer { .. }), "{error:?}");
    assert!(error.is_retryable());
}

#[tokio::test]
async fn a_client_may_show_a_certificate() {
    let own = authority(1);
    let certificate = own
        .issue_client_certificate(&"ci".parse().unwrap(), 60, now())
        .unwrap();
    let host = TestHost::with(Setup {
        certificates: [(certificate.digest, Role::Reader)].into(),
        authority: Some(own),
        ..Setup::default()
    })
    .await;
    let credentials = Credentials::Certificate {
        certificate: certificate.certificate.clone(),
        key: certificate.key.clone(),
    };
    let client = Client::with(&host.url(), host.authority.pem(), credentials, None).unwrap();
    assert_eq!(client.host().await.unwrap().chain_id, 1_337);
    assert!(client.tokens(&PageQuery::default()).await.is_err());
}

#[tokio::test]
async fn a_package_that_no_host_takes_is_not_sent() {
    let host = TestHost::start().await;
    let client = Client::new(&connection(&host, Role::Publisher), None).unwrap();
    let package = NewPackage {
        index: Base64::default(),
        manifest: Base64::default(),
        code: Base64(vec![0; 48 << 20].into()),
        header: Base64::default(),
        source: None,
    };
    let error = client.store_package(&package).await.unwrap_err();
    assert!(
        matches!(
            error,
            ClientError::Settings {
                field: "package",
                ..
            }
        ),
        "{error:?}"
    );
    assert!(host.memory.calls.lock().unwrap().is_empty());
}
