//! Publishing: once, again, interrupted, refused; rotation and revocation.

use crate::support::{World, parts, provider, reference};
use alloy::{
    primitives::{Address, B256, Signature},
    providers::Provider,
    rpc::types::TransactionRequest,
    sol_types::SolCall,
};
use cryptlet_chain::evm::abi::CryptletRegister;
use cryptlet_developer::{
    DeveloperError, Wallet,
    publish::{Parts, PublishOptions, Revocation, Step, publish, revoke, rotate},
    secret_code::{agree, package_of},
};
use cryptlet_seal::{CodeKey, sha256};
use cryptlet_types::{CodeAgreement, SecretCode};
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc::unbounded_channel;

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn what_was_published_is_in_the_register_and_again_is_nothing() {
    let world = World::start().await;
    let parts = parts("gold-price", "0.1.0", 1);
    let first = world.publish(&parts, false).await.unwrap();
    assert_eq!((first.number, first.label.as_str()), (1, "0.1.0"));
    assert!(first.transaction.is_some() && first.gas_used.is_some());

    let reader = world.reader().await;
    let known = reader.by_name("gold-price").await.unwrap().unwrap();
    assert_eq!(known.cryptlet, first.cryptlet, "the id is the register's");
    assert_eq!(known.owner, world.wallet(1).await.address());
    let version = reader.current(known.cryptlet).await.unwrap().unwrap();
    assert_eq!(version.package, first.package_digest);
    assert_eq!(version.header, first.header_digest);
    assert_eq!(version.manifest, first.manifest_digest);
    assert!(
        reader
            .is_signer(known.cryptlet, first.signer)
            .await
            .unwrap()
    );

    let again = world.publish(&parts, false).await.unwrap();
    assert_eq!(again.transaction, None);
    assert_eq!((again.number, again.signer), (1, first.signer));
    assert_eq!(again.package_digest, first.package_digest);
    assert_eq!(world.host.key_count(), 1);
    assert_eq!(world.transactions_of(known.owner).await, 1);
    let kept = std::fs::read_dir(world.options(false).folder)
        .unwrap()
        .count();
    assert_eq!(kept, 0, "nothing is kept of what is finished");
}

/// Secret code, under its key.
fn secret(parts: Parts, component: &[u8], key: &Arc<CodeKey>) -> Parts {
    let mut manifest = parts.manifest;
    let counterparties = vec![Address::repeat_byte(7)];
    manifest.config.secret_code = Some(SecretCode { counterparties });
    Parts {
        manifest,
        code: key.encrypt(component).unwrap().into(),
        code_key: Some(key.clone()),
        ..parts
    }
}

#[tokio::test]
async fn secret_code_is_published_encrypted_and_its_key_goes_to_the_host() {
    let world = World::start().await;
    let (component, key) = ([5; 64], Arc::new(CodeKey::generate().unwrap()));
    let open = parts("gold-price", "0.1.0", 5);
    let secret = secret(open.clone(), &component, &key);
    let first = world.publish(&secret, false).await.unwrap();
    let package = first.package_digest;
    let at_host = world.host.code_keys.lock().unwrap().clone();
    let given = at_host.get(&package.into()).unwrap();
    assert_eq!(given.key.0, *key.bytes());
    assert_eq!(at_host.len(), 1);
    let again = world.publish(&secret, false).await.unwrap();
    assert_eq!((again.transaction, again.package_digest), (None, package));

    // Neither half of it goes without the other.
    let further = |parts: Parts| parts.labelled("0.2.0");
    for torn in [
        Parts {
            code_key: None,
            ..secret.clone()
        },
        Parts {
            manifest: open.manifest.clone(),
            ..secret.clone()
        },
    ] {
        let refused = world.publish(&further(torn), true).await.unwrap_err();
        assert!(
            refused.to_string().contains("config.secretCode"),
            "{refused}"
        );
    }

    // A counterparty signs what the register says that the package is.
    let (session, wallet) = (world.session().await, world.wallet(2).await);
    let found = package_of(&session, &reference("gold-price"), None).await;
    assert_eq!(found.unwrap(), package);
    agree(&session, &wallet, package, &component).await.unwrap();
    let (of, agreement) = world.host.agreements.lock().unwrap()[0].clone();
    assert_eq!(of, package.into());
    let code = sha256(&component);
    assert_eq!(agreement.code, code.into());
    let signature = Signature::try_from(agreement.signature.0.as_ref()).unwrap();
    let digest = CodeAgreement { package, code }.digest();
    let signer = signature.recover_address_from_prehash(&digest);
    assert_eq!(signer.unwrap(), wallet.address());
    let missing = package_of(&session, &reference("gold-price"), Some("9.9.9")).await;
    assert!(missing.unwrap_err().to_string().contains("9.9.9"));
}

/// Publishes and is stopped as soon as `step` is reached.
async fn interrupted(world: &World, parts: &Parts, step: fn(&Step) -> bool) {
    let session = world.session().await;
    let wallet = world.wallet(1).await;
    let options = world.options(false);
    let (sender, mut steps) = unbounded_channel();
    let tell = move |step| sender.send(step).unwrap();
    let reached = async { while !steps.recv().await.is_some_and(|found| step(&found)) {} };
    tokio::select! {
        biased;
        () = reached => {}
        done = publish(&session, &wallet, parts, &options, &tell) => panic!("not interrupted: {done:?}"),
    }
}

#[tokio::test]
async fn whoever_is_interrupted_goes_on_and_pays_once() {
    let steps: [fn(&Step) -> bool; 4] = [
        |step| matches!(step, Step::Key(_)),
        |step| matches!(step, Step::Stored(_)),
        |step| matches!(step, Step::Sent { .. }),
        |step| matches!(step, Step::Mined(_)),
    ];
    let world = World::start().await;
    for (index, step) in steps.into_iter().enumerate() {
        let parts = parts(&format!("gold-price-{index}a"), "0.1.0", 1);
        interrupted(&world, &parts, step).await;
        let published = world.publish(&parts, false).await.unwrap();
        assert_eq!(published.number, 1);
        assert_eq!(world.host.key_count(), index + 1, "one key a cryptlet");
    }
    let wallet = world.wallet(1).await;
    assert_eq!(
        world.transactions_of(wallet.address()).await,
        4,
        "one transaction a cryptlet"
    );
}

#[tokio::test]
async fn a_host_that_fails_at_the_package_gets_it_with_the_same_key() {
    let world = World::start().await;
    let parts = parts("gold-price", "0.1.0", 1);
    world.host.wrongs().busy = true;
    let error = world.publish(&parts, false).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    world.host.wrongs().busy = false;
    world.publish(&parts, false).await.unwrap();
    assert_eq!(world.host.key_count(), 1);
}

#[tokio::test]
async fn a_key_that_the_host_has_no_more_is_made_anew() {
    let world = World::start().await;
    let parts = parts("gold-price", "0.1.0", 1);
    interrupted(&world, &parts, |step| matches!(step, Step::Stored(_))).await;
    let forgotten = world.host.keys.lock().unwrap().pop().unwrap();
    world
        .host
        .keys
        .lock()
        .unwrap()
        .push((Address::ZERO.into(), Address::ZERO));
    let published = world.publish(&parts, false).await.unwrap();
    assert_ne!(published.signer, forgotten.1);
}

#[tokio::test]
async fn a_transaction_that_no_block_holds_is_waited_for_and_not_sent_twice() {
    let world = World::start().await;
    let provider = provider(&world.node);
    let automatic = |on: bool| {
        let provider = provider.clone();
        async move {
            let _: serde_json::Value = provider
                .raw_request("evm_setAutomine".into(), (on,))
                .await
                .unwrap();
        }
    };
    automatic(false).await;
    let parts = parts("gold-price", "0.1.0", 1);
    let session = world.session().await;
    let wallet = world.wallet(1).await;
    let hasty = PublishOptions {
        patience: Duration::ZERO,
        ..world.options(false)
    };
    for _ in 0..2 {
        let error = publish(&session, &wallet, &parts, &hasty, &|_| {})
            .await
            .unwrap_err();
        assert!(matches!(error, DeveloperError::NotMined(_)), "{error}");
        assert!(error.is_retryable());
    }
    world.mine().await;
    let published = world.publish(&parts, false).await.unwrap();
    assert_eq!(published.number, 1);
    assert_eq!(world.host.key_count(), 1);
    assert_eq!(world.transactions_of(wallet.address()).await, 1);
}

#[tokio::test]
async fn a_name_or_its_look_alike_is_refused_before_a_key_is_made() {
    let world = World::start().await;
    let first = world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let session = world.session().await;
    let stranger = world.wallet(2).await;
    for name in ["gold-price", "go1d-price", "gold-pri-ce"] {
        let parts = parts(name, "0.1.0", 2);
        let options = world.options(false);
        let error = publish(&session, &stranger, &parts, &options, &|_| {})
            .await
            .unwrap_err();
        match error {
            DeveloperError::NameTaken { by, .. } => assert_eq!(by, first.cryptlet),
            other => panic!("{name}: {other}"),
        }
    }
    let options = world.options(true);
    let further = parts("gold-price", "0.2.0", 2);
    let error = publish(&session, &stranger, &further, &options, &|_| {})
        .await
        .unwrap_err();
    assert!(
        matches!(error, DeveloperError::NotTheOwner { .. }),
        "{error}"
    );
    assert_eq!(
        world.host.key_count(),
        1,
        "no key was made for what was refused"
    );
    assert_eq!(world.transactions_of(stranger.address()).await, 0);
}

#[tokio::test]
async fn a_further_version_is_asked_for_and_a_label_is_used_once() {
    let world = World::start().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let next = parts("gold-price", "0.2.0", 2);
    let error = world.publish(&next, false).await.unwrap_err();
    assert!(
        matches!(error, DeveloperError::Registered { number: 1, .. }),
        "{error}"
    );
    let published = world.publish(&next, true).await.unwrap();
    assert_eq!(published.number, 2);
    let other = parts("gold-price", "0.2.0", 3);
    let error = world.publish(&other, true).await.unwrap_err();
    assert!(
        matches!(error, DeveloperError::VersionExists { number: 2, .. }),
        "{error}"
    );
    assert_eq!(world.host.key_count(), 2);
}

#[tokio::test]
async fn what_is_wrong_with_the_parts_is_said_before_anything_is_made() {
    let world = World::start().await;
    let mut wrong = parts("gold-price", "0.1.0", 1);
    wrong.interface = "interface IOther { }".into();
    let error = world.publish(&wrong, false).await.unwrap_err();
    assert!(matches!(error, DeveloperError::Header(_)), "{error}");
    assert_eq!(world.host.key_count(), 0);
}

#[tokio::test]
async fn a_host_that_stores_something_else_is_found_out_before_anything_is_paid() {
    let world = World::start().await;
    world.host.wrongs().other_package = true;
    let error = world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap_err();
    assert!(matches!(error, DeveloperError::Untrue(_)), "{error}");
    let wallet = world.wallet(1).await;
    assert_eq!(world.transactions_of(wallet.address()).await, 0);
}

#[tokio::test]
async fn a_fee_above_what_the_wallet_pays_is_not_signed() {
    let world = World::start().await;
    let session = world.session().await;
    let thrifty = world.wallet(1).await.with_max_fee_per_gas(1);
    let (parts, options) = (parts("gold-price", "0.1.0", 1), world.options(false));
    let error = publish(&session, &thrifty, &parts, &options, &|_| {})
        .await
        .unwrap_err();
    assert!(
        matches!(error, DeveloperError::TooDear { most: 1, .. }),
        "{error}"
    );
    assert!(error.next_step().contains("--max-fee-gwei"));
    assert_eq!(world.transactions_of(thrifty.address()).await, 0);
    let published = world.publish(&parts, false).await.unwrap();
    assert!(published.max_cost_wei.unwrap().parse::<u128>().unwrap() > 0);
}

#[tokio::test]
async fn a_rotated_key_is_another_for_the_same_code_and_the_old_one_ends() {
    let world = World::start().await;
    let parts = parts("gold-price", "0.1.0", 1);
    let first = world.publish(&parts, false).await.unwrap();
    let session = world.session().await;
    let wallet = world.wallet(1).await;
    let options = world.options(false);

    let other = Parts {
        code: vec![9; 9].into(),
        ..parts.clone()
    };
    let error = rotate(&session, &wallet, &other, false, &options, &|_| {})
        .await
        .unwrap_err();
    assert!(
        matches!(error, DeveloperError::VersionExists { .. }),
        "{error}"
    );

    let rotated = rotate(&session, &wallet, &parts, false, &options, &|_| {})
        .await
        .unwrap();
    assert_eq!(rotated.published.cryptlet, first.cryptlet);
    assert_eq!(rotated.published.label, "0.1.0+key.1");
    assert_ne!(rotated.published.signer, first.signer);
    assert_eq!(rotated.revoked, [first.signer]);
    let reader = world.reader().await;
    let admits = |signer: Address| reader.is_signer(first.cryptlet, signer);
    assert!(!admits(first.signer).await.unwrap());
    assert!(admits(rotated.published.signer).await.unwrap());

    let kept = rotate(&session, &wallet, &parts, true, &options, &|_| {})
        .await
        .unwrap();
    assert_eq!(kept.published.label, "0.1.0+key.2");
    assert!(kept.revoked.is_empty());
    assert!(admits(rotated.published.signer).await.unwrap());
    // Broken off before the host showed it: what was to be kept is kept, and the next one is a rotation of its own.
    let file = options.folder.join(format!(
        "rotate-{}.json",
        format!("{:?}", first.cryptlet.0).to_lowercase()
    ));
    let begun = serde_json::json!({
        "place": {
            "register": world.register, "host": session.info().host, "cryptlet": first.cryptlet,
        },
        "old": 2, "label": "0.1.0+key.2", "keep": true,
    });
    std::fs::write(&file, begun.to_string()).unwrap();
    // The newest key is the one that is replaced, whatever was kept beside it.
    let ended = rotate(&session, &wallet, &parts, false, &options, &|_| {})
        .await
        .unwrap();
    assert_eq!(ended.published.label, "0.1.0+key.3");
    assert_eq!(ended.revoked, [kept.published.signer]);
    assert!(!admits(kept.published.signer).await.unwrap());
    assert!(admits(rotated.published.signer).await.unwrap(), "was kept");
}

#[tokio::test]
async fn all_keys_of_the_old_version_end_whatever_the_host_lists_and_after_an_interruption_too() {
    let world = World::start().await;
    let parts = parts("gold-price", "0.1.0", 1);
    let first = world.publish(&parts, false).await.unwrap();
    let (session, wallet) = (world.session().await, world.wallet(1).await);
    let options = world.options(false);
    let second = Address::repeat_byte(9);
    world.enrol(first.cryptlet, 1, second).await;

    // Broken off once the new version is in the register: the old one is still valid.
    let (sent, mut mined) = tokio::sync::mpsc::unbounded_channel();
    let tell = move |step| {
        if let Step::Mined(_) = step {
            sent.send(()).unwrap();
        }
    };
    tokio::select! {
        biased;
        _ = mined.recv() => {}
        ended = rotate(&session, &wallet, &parts, false, &options, &tell) => panic!("{ended:?}"),
    }
    let reader = world.reader().await;
    assert!(
        reader
            .is_signer(first.cryptlet, first.signer)
            .await
            .unwrap()
    );

    let rotated = rotate(&session, &wallet, &parts, false, &options, &|_| {})
        .await
        .unwrap();
    assert_eq!(rotated.published.label, "0.1.0+key.1");
    assert_eq!(rotated.revoked, [first.signer, second]);
    for signer in [first.signer, second] {
        assert!(!reader.is_signer(first.cryptlet, signer).await.unwrap());
    }
    let versions = reader.versions(first.cryptlet).await.unwrap();
    let states: Vec<_> = versions.iter().map(|version| version.revoked).collect();
    assert_eq!(states, [true, false], "and no key was made twice");
}

async fn revoked(world: &World, wallet: &Wallet, what: Revocation) -> Result<u64, DeveloperError> {
    let session = world.session().await;
    let name = reference("gold-price");
    revoke(&session, wallet, &name, &what, PATIENCE)
        .await
        .map(|mined| mined.block)
}

#[tokio::test]
async fn versions_signers_and_cryptlets_are_revoked_once_and_by_their_owner() {
    let world = World::start().await;
    let first = world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let second = world
        .publish(&parts("gold-price", "0.2.0", 2), true)
        .await
        .unwrap();
    let (owner, stranger) = (world.wallet(1).await, world.wallet(2).await);
    let error = revoked(&world, &stranger, Revocation::All)
        .await
        .unwrap_err();
    assert!(
        matches!(error, DeveloperError::NotTheOwner { .. }),
        "{error}"
    );
    let error = revoked(&world, &owner, Revocation::Version("0.3.0".into()))
        .await
        .unwrap_err();
    assert!(matches!(error, DeveloperError::Unknown(_)), "{error}");

    revoked(&world, &owner, Revocation::Version("0.1.0".into()))
        .await
        .unwrap();
    let reader = world.reader().await;
    assert!(
        !reader
            .is_signer(first.cryptlet, first.signer)
            .await
            .unwrap()
    );
    let error = revoked(&world, &owner, Revocation::Version("1".into()))
        .await
        .unwrap_err();
    assert!(matches!(error, DeveloperError::Revoked(_)), "{error}");
    revoked(&world, &owner, Revocation::Signer(second.signer))
        .await
        .unwrap();
    assert!(
        !reader
            .is_signer(first.cryptlet, second.signer)
            .await
            .unwrap()
    );
    revoked(&world, &owner, Revocation::All).await.unwrap();
    assert!(reader.registration(first.cryptlet).await.unwrap().revoked);
    let error = world
        .publish(&parts("gold-price", "0.3.0", 3), true)
        .await
        .unwrap_err();
    assert!(matches!(error, DeveloperError::Revoked(_)), "{error}");
    let paid = world.transactions_of(owner.address()).await;
    assert_eq!(
        paid, 5,
        "two versions and three revocations: nothing was paid for what was refused"
    );
}

/// What publishing says of the host, and the host in what was published.
async fn attested(world: &World, parts: &Parts, further: bool) -> (Option<Address>, Vec<Step>) {
    let (session, wallet) = (world.session().await, world.wallet(1).await);
    let (sender, mut steps) = unbounded_channel();
    let tell = move |step| sender.send(step).unwrap();
    let options = world.options(further);
    let published = publish(&session, &wallet, parts, &options, &tell).await;
    drop(tell);
    let mut told = Vec::new();
    while let Some(step) = steps.recv().await {
        told.push(step);
    }
    told.retain(|step| matches!(step, Step::Attested { .. } | Step::NotAttested(_)));
    (published.unwrap().attested_host, told)
}

/// Has the register name `authority` for the host of these tests.
pub async fn register_host(world: &World, authority: B256) {
    let host = world.session().await.info().host.into();
    let url = "https://localhost".to_owned();
    let call = CryptletRegister::registerHostCall {
        host,
        url,
        authority,
    };
    let request = TransactionRequest::default()
        .from(world.node.accounts()[0].0)
        .to(world.register.register)
        .input(call.abi_encode().into());
    let sent = provider(&world.node).send_transaction(request).await;
    let receipt = sent.unwrap().get_receipt().await.unwrap();
    assert!(receipt.status());
}

#[tokio::test]
async fn a_host_is_assigned_once_and_only_under_the_authority_that_it_serves_with() {
    let world = World::start().await;
    let host: Address = world.session().await.info().host.into();
    let first = parts("gold-price", "0.1.0", 1);
    let (unknown, told) = attested(&world, &first, false).await;
    assert_eq!(unknown, None, "the register does not know the host");
    assert!(
        matches!(told.as_slice(), [Step::NotAttested(why)] if why.contains("does not know")),
        "{told:?}"
    );

    register_host(&world, B256::repeat_byte(9)).await;
    let (other, told) = attested(&world, &first, false).await;
    assert_eq!(other, None, "another authority");
    assert!(
        matches!(told.as_slice(), [Step::NotAttested(why)] if why.contains("serves with")),
        "{told:?}"
    );

    let authority = world.session().await.info().authority;
    register_host(&world, authority.0).await;
    // Published already, and not assigned yet: that is made up for.
    let (now, told) = attested(&world, &first, false).await;
    assert_eq!(now, Some(host));
    assert!(
        matches!(told.as_slice(), [Step::Attested { .. }]),
        "{told:?}"
    );
    let (again, told) = attested(&world, &parts("gold-price", "0.2.0", 1), true).await;
    assert_eq!(
        (again, told),
        (Some(host), vec![]),
        "it is assigned already"
    );
    let reader = world.reader().await;
    let known = reader.by_name("gold-price").await.unwrap().unwrap();
    assert_eq!(reader.hosts_of(known.cryptlet).await.unwrap(), [host]);
}
