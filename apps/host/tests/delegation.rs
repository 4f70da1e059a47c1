//! Subscriptions on an identity's behalf: served as long as the identity's delegation holds, and not a report longer.
use crate::support::{
    Play,
    account::{Watched, assert_delivered, job_in, receipts, story},
    behave, due, end_of,
    office::{client, open, with_api},
    retry,
};
use alloy::{
    network::TransactionBuilder,
    primitives::{Address, B256, Bytes, FixedBytes},
    providers::Provider,
    rpc::types::TransactionRequest,
    signers::{SignerSync, local::PrivateKeySigner},
    sol_types::{SolCall, SolValue},
};
use cryptlet_api::{
    Client, ClientError,
    types::{DelegationBody, Hex, HexBytes, Moment, NewDelegation, PageLimit, PageQuery, Role},
};
use cryptlet_chain::evm::{abi::CryptoDelegate, artifacts};
use cryptlet_host::Host;
use cryptlet_types::{
    Delegation,
    JobState::{Delivered, Failed, Parked, Routed},
    Policy, ReportDomain,
};

const IDENTITY_CONSUMER: &str =
    include_str!("../../../contracts/artifacts/test/IdentityConsumer.json");
const WALLET: &str = include_str!("../../../contracts/artifacts/test/Wallet.json");

alloy::sol! {
    #[sol(rpc)]
    contract IdentityConsumer {
        function word() external view returns (uint256);
        function spokenFor() external view returns (address);
        function onReport(uint256 word) external;
    }

    #[sol(rpc)]
    contract Wallet {
        function handOver(address owner) external;
        function execute(address target, bytes calldata data) external returns (bytes memory result);
    }
}

/// A host whose cryptlet answers with what it is told, and a contract that takes words of `identity` only.
struct Scene {
    play: Play,
    host: Host,
    publisher: Client,
    watched: Watched,
}

impl Scene {
    /// A run for want of a delegation is tried `attempts` times.
    async fn of(attempts: u32, identity: impl AsyncFnOnce(&Play) -> Address) -> (Self, Address) {
        let mut play = Play::hostile().await;
        let policy = Policy {
            epoch: 2,
            retry: retry(attempts),
            ..play.stage.policy.policy.clone()
        };
        play.stage.enact(policy).await.unwrap();
        let identity = identity(&play).await;
        let watched = play.identity_consumer(identity).await;
        let config = with_api(play.config());
        let host = open(&config).await;
        play.in_force(&host, 2).await;
        let publisher = client(&host, &config, Role::Publisher);
        let scene = Self {
            play,
            host,
            publisher,
            watched,
        };
        (scene, identity)
    }

    fn domain(&self) -> ReportDomain {
        ReportDomain {
            chain_id: self.play.stage.chain_id,
            delegate: self.play.stage.delegate,
        }
    }

    /// What `identity` allows until `expiry`, any contract and any function.
    fn delegation(&self, identity: Address, expiry: u64) -> Delegation {
        Delegation {
            identity,
            cryptlet: self.play.stage.cryptlet.cryptlet,
            consumer: Address::ZERO,
            callback: FixedBytes::ZERO,
            expiry,
            salt: B256::repeat_byte(7),
        }
    }

    /// Hands in a delegation, signed by `key`; the answer's detail where it is refused.
    async fn give(&self, delegation: &Delegation, key: &PrivateKeySigner) -> Result<(), String> {
        let signature = key
            .sign_hash_sync(&delegation.digest(&self.domain()))
            .unwrap();
        let new = NewDelegation {
            delegation: DelegationBody {
                identity: delegation.identity.into(),
                cryptlet: delegation.cryptlet.0.into(),
                consumer: delegation.consumer.into(),
                callback: Hex(delegation.callback),
                expiry: Moment::new(delegation.expiry).unwrap(),
                salt: delegation.salt.into(),
            },
            signature: HexBytes(signature.as_bytes().to_vec().into()),
        };
        match self.publisher.add_delegation(&new).await {
            Ok(info) => {
                assert_eq!(info.digest, delegation.digest(&self.domain()).into());
                assert_eq!(info.revoked, Some(false));
                Ok(())
            }
            Err(ClientError::Problem(problem)) => {
                assert_eq!(problem.status, 422, "{problem:?}");
                Err(problem.detail)
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A transaction of the stage's account or of one that the node impersonates.
    async fn send(&self, from: Address, to: Address, data: Vec<u8>) {
        self.play.impersonate(from).await;
        let request = TransactionRequest::default()
            .with_from(from)
            .with_to(to)
            .with_input(Bytes::from(data));
        let provider = &self.play.stage.provider;
        let sent: B256 = provider
            .raw_request("eth_sendTransaction".into(), (request,))
            .await
            .unwrap();
        let receipt = provider.get_transaction_receipt(sent).await.unwrap();
        assert!(receipt.unwrap().status());
    }

    fn revocation(delegation: &Delegation) -> Vec<u8> {
        let delegation = delegation.to_abi().into();
        CryptoDelegate::revokeDelegationCall { delegation }.abi_encode()
    }

    async fn revoke(&self, delegation: &Delegation) {
        let to = self.play.stage.delegate;
        self.send(delegation.identity, to, Self::revocation(delegation))
            .await;
    }

    async fn delivered(&self, day: u64) {
        job_in(&self.host, self.watched, due(day), &[Delivered]).await;
    }

    async fn failure(&self, day: u64) -> String {
        let record = job_in(
            &self.host,
            self.watched,
            due(day),
            &[Failed, Parked, Delivered],
        )
        .await;
        assert_ne!(record.state, Delivered);
        record.note.unwrap()
    }

    async fn spoken_for(&self) -> Address {
        let consumer = IdentityConsumer::new(self.watched.consumer, &self.play.stage.provider);
        consumer.spokenFor().call().await.unwrap()
    }
}

impl Play {
    async fn impersonate(&self, account: Address) {
        let done = self.stage.rpc("anvil_impersonateAccount", [account]);
        done.await.unwrap();
        self.fund(account).await;
    }

    /// A contract that takes words of `identity` only, woken with an echo.
    async fn identity_consumer(&self, identity: Address) -> Watched {
        let cryptlet = self.stage.cryptlet.cryptlet.0;
        let arguments = (self.stage.delegate, cryptlet, identity, identity).abi_encode_params();
        let deployed = self
            .stage
            .deploy_consumer(IDENTITY_CONSUMER, &arguments)
            .await;
        let (consumer, first) = deployed.unwrap();
        self.impersonate(consumer).await;
        self.unsubscribe_as(consumer, first).await;
        let callback = IdentityConsumer::onReportCall::SELECTOR;
        let params = behave("echo", "said");
        let subject = self
            .subscribe_on_behalf_of(identity, consumer, callback, 200_000, &params)
            .await;
        Watched { consumer, subject }
    }

    async fn wallet(&self, owner: Address) -> Address {
        let code = artifacts::init_code(WALLET, &owner.abi_encode()).unwrap();
        let request = TransactionRequest::default().with_deploy_code(code);
        let sent = self.stage.provider.send_transaction(request).await.unwrap();
        sent.get_receipt().await.unwrap().contract_address.unwrap()
    }
}

#[tokio::test]
async fn what_an_identity_allows_is_said_in_its_name() {
    let key = PrivateKeySigner::random();
    let (scene, identity) = Scene::of(3, async |_| key.address()).await;
    let delegation = scene.delegation(identity, due(20));
    scene.give(&delegation, &key).await.unwrap();
    for day in [12, 13] {
        scene.play.noon(day).await;
        scene.delivered(day).await;
    }
    assert_eq!(scene.spoken_for().await, identity);
    let journal = scene.host.journal();
    assert_delivered(
        &scene.play,
        journal,
        scene.watched,
        &[due(12), due(13)],
        true,
    )
    .await;
    let digest = delegation.digest(&scene.domain());
    for stored in receipts(journal, scene.watched.subject).await {
        let receipt = stored.receipt;
        assert_eq!(receipt.report.report.delegation, digest);
        assert_eq!(receipt.input.delegation.unwrap().delegation, delegation);
    }
}

#[tokio::test]
async fn a_delegation_that_comes_while_its_job_is_tried_again_is_in_time() {
    let key = PrivateKeySigner::random();
    let (scene, identity) = Scene::of(1_000, async |_| key.address()).await;
    scene.play.noon(12).await;
    let mut news = scene.host.watch();
    loop {
        let record = job_in(&scene.host, scene.watched, due(12), &[Routed]).await;
        if record.attempts > 0 {
            break;
        }
        news.recv().await.unwrap();
    }
    let delegation = scene.delegation(identity, due(20));
    scene.give(&delegation, &key).await.unwrap();
    scene.delivered(12).await;
    let record = job_in(&scene.host, scene.watched, due(12), &[Delivered]).await;
    let notes = story(scene.host.journal(), &record).await;
    let why = notes[1].1.as_ref().unwrap();
    assert!(why.contains("delegation is missing"), "{why}");
}

#[tokio::test]
async fn without_a_delegation_a_job_is_tried_as_often_as_policy_says_and_the_next_one_works() {
    let key = PrivateKeySigner::random();
    let (scene, identity) = Scene::of(3, async |_| key.address()).await;
    let mut news = scene.host.watch();
    scene.play.noon(12).await;
    let end = end_of(&mut news, scene.watched.subject, due(12)).await;
    let reason = end.failure().1;
    assert!(reason.contains("delegation is missing"), "{reason}");
    assert!(reason.contains(&identity.to_string()), "{reason}");
    assert_eq!(end.retried.len(), 2);
    let delegation = scene.delegation(identity, due(20));
    scene.give(&delegation, &key).await.unwrap();
    scene.play.noon(13).await;
    scene.delivered(13).await;
    let journal = scene.host.journal();
    assert_delivered(&scene.play, journal, scene.watched, &[due(13)], true).await;
}

#[tokio::test]
async fn delegations_are_listed_page_by_page_and_without_their_marks_if_the_node_is_down() {
    let key = PrivateKeySigner::random();
    let (mut scene, identity) = Scene::of(3, async |_| key.address()).await;
    for salt in 1..=3 {
        let delegation = Delegation {
            salt: B256::repeat_byte(salt),
            ..scene.delegation(identity, due(24))
        };
        scene.give(&delegation, &key).await.unwrap();
        if salt == 1 {
            scene.revoke(&delegation).await;
        }
    }
    let list = async |scene: &Scene| {
        let mut query = PageQuery {
            limit: Some(PageLimit::new(2).unwrap()),
            after: None,
        };
        let mut marks = vec![];
        loop {
            let page = scene.publisher.delegations(&query).await.unwrap();
            marks.extend(page.items.into_iter().map(|info| info.revoked));
            match page.next {
                Some(next) => query.after = Some(next.parse().unwrap()),
                None => return marks,
            }
        }
    };
    let mut marks = list(&scene).await;
    marks.sort_unstable();
    assert_eq!(marks, [Some(false), Some(false), Some(true)]);
    scene.play.node.shut().await;
    assert_eq!(list(&scene).await, [None; 3], "nobody can say");
    let elsewhere = PageQuery {
        limit: None,
        after: Some("nowhere".parse().unwrap()),
    };
    let refused = scene.publisher.delegations(&elsewhere).await.unwrap_err();
    assert!(refused.to_string().contains("after"), "{refused}");
}

#[tokio::test]
async fn a_revoked_delegation_is_not_used_and_another_one_is() {
    let key = PrivateKeySigner::random();
    let (scene, identity) = Scene::of(3, async |_| key.address()).await;
    let long = scene.delegation(identity, due(24));
    scene.give(&long, &key).await.unwrap();
    scene.play.noon(12).await;
    scene.delivered(12).await;
    scene.revoke(&long).await;
    scene.play.noon(13).await;
    let reason = scene.failure(13).await;
    assert!(reason.contains("was revoked"), "{reason}");
    let again = scene.give(&long, &key).await.unwrap_err();
    assert!(again.contains("was revoked"), "{again}");

    // The revoked one lasts longer, and is in nobody's way.
    let short = Delegation {
        salt: B256::repeat_byte(8),
        ..scene.delegation(identity, due(20))
    };
    scene.give(&short, &key).await.unwrap();
    scene.play.noon(14).await;
    scene.delivered(14).await;
    let journal = scene.host.journal();
    let dues = [due(12), due(14)];
    assert_delivered(&scene.play, journal, scene.watched, &dues, true).await;
}

/// Revoked after the report was made, where no host looks any more.
#[tokio::test]
async fn a_report_whose_delegation_is_revoked_on_its_way_is_refused_by_the_delegate() {
    let key = PrivateKeySigner::random();
    let (scene, identity) = Scene::of(3, async |_| key.address()).await;
    let delegation = scene.delegation(identity, due(20));
    scene.give(&delegation, &key).await.unwrap();
    scene.play.automine(false).await;
    scene.play.noon(12).await;
    job_in(
        &scene.host,
        scene.watched,
        due(12),
        &[cryptlet_types::JobState::Submitted],
    )
    .await;
    // Of two transactions in one block, the one that pays more is first.
    let to = scene.play.stage.delegate;
    scene.play.impersonate(identity).await;
    let revoke = TransactionRequest::default()
        .with_from(identity)
        .with_to(to)
        .with_input(Bytes::from(Scene::revocation(&delegation)))
        .with_gas_limit(200_000)
        .with_max_priority_fee_per_gas(500_000_000_000)
        .with_max_fee_per_gas(600_000_000_000);
    let provider = &scene.play.stage.provider;
    let sent: Result<B256, _> = provider
        .raw_request("eth_sendTransaction".into(), (revoke,))
        .await;
    sent.unwrap();
    scene.play.automine(true).await;
    scene.play.stage.rpc("evm_mine", ()).await.unwrap();
    let reason = scene.failure(12).await;
    assert!(reason.contains("revoked"), "{reason}");
    assert!(scene.play.consumed(scene.watched.subject).await.is_empty());
}

#[tokio::test]
async fn an_expired_delegation_is_named_and_not_taken() {
    let key = PrivateKeySigner::random();
    let (scene, identity) = Scene::of(1_000, async |_| key.address()).await;
    let delegation = scene.delegation(identity, due(13) - 1);
    scene.give(&delegation, &key).await.unwrap();
    scene.play.noon(12).await;
    scene.delivered(12).await;
    let stored = receipts(scene.host.journal(), scene.watched.subject)
        .await
        .remove(0);
    let report = stored.receipt.report.report;
    assert_eq!(
        report.valid_until,
        due(13) - 1,
        "no longer than the delegation"
    );
    scene.play.noon(13).await;
    let reason = scene.failure(13).await;
    assert!(reason.contains("expires at"), "{reason}");
    let late = Delegation {
        salt: B256::repeat_byte(9),
        ..scene.delegation(identity, due(12))
    };
    let refused = scene.give(&late, &key).await.unwrap_err();
    assert!(refused.contains("has passed"), "{refused}");
}

#[tokio::test]
async fn a_delegation_counts_within_its_scope_only() {
    let key = PrivateKeySigner::random();
    let (scene, identity) = Scene::of(3, async |_| key.address()).await;
    let elsewhere = Delegation {
        consumer: Address::repeat_byte(1),
        ..scene.delegation(identity, due(20))
    };
    scene.give(&elsewhere, &key).await.unwrap();
    scene.play.noon(12).await;
    let reason = scene.failure(12).await;
    assert!(reason.contains("another consumer"), "{reason}");
    let here = Delegation {
        consumer: scene.watched.consumer,
        callback: FixedBytes(IdentityConsumer::onReportCall::SELECTOR),
        ..elsewhere
    };
    scene.give(&here, &key).await.unwrap();
    scene.play.noon(13).await;
    scene.delivered(13).await;
}

#[tokio::test]
async fn a_wallet_gives_and_loses_its_word() {
    let key = PrivateKeySigner::random();
    let owner = key.address();
    let (scene, wallet) = Scene::of(3, async |play: &Play| play.wallet(owner).await).await;
    let delegation = scene.delegation(wallet, due(20));
    let thief = PrivateKeySigner::random();
    let refused = scene.give(&delegation, &thief).await.unwrap_err();
    assert!(refused.contains(&wallet.to_string()), "{refused}");
    scene.give(&delegation, &key).await.unwrap();
    scene.play.noon(12).await;
    scene.delivered(12).await;
    assert_eq!(scene.spoken_for().await, wallet);
    let journal = scene.host.journal();
    assert_delivered(&scene.play, journal, scene.watched, &[due(12)], true).await;

    let owner = thief.address();
    let hand_over = Wallet::handOverCall { owner }.abi_encode();
    scene.send(key.address(), wallet, hand_over).await;
    scene.play.noon(13).await;
    let reason = scene.failure(13).await;
    assert!(reason.contains("not signed by"), "{reason}");
    assert_eq!(scene.play.consumed(scene.watched.subject).await.len(), 1);
}
