//! What a host says of a cryptlet, itself and its source, held against the register.

use crate::support::{World, parts, reference};
use alloy::primitives::{Address, B256, Bytes};
use cryptlet_api::types::{CryptletDetail, HostRow, InterfaceInfo, Source};
use cryptlet_developer::{
    DeveloperError, Session, confirm, host,
    publish::{Parts, Revocation, revoke},
    source::{self, FetchedSource},
};
use std::{fs, path::Path, time::Duration};

const PATIENCE: Duration = Duration::from_secs(20);

/// What is changed in what is said of a cryptlet.
type Lie = fn(&mut CryptletDetail);

/// A project with source, packed.
fn with_source(folder: &Path) -> Parts {
    fs::create_dir_all(folder.join("src")).unwrap();
    fs::write(folder.join("src/lib.rs"), "// code\n").unwrap();
    let packed = cryptlet_register::source::pack(folder).unwrap();
    Parts {
        source: Some(packed.bytes.into()),
        ..parts("gold-price", "0.1.0", 1)
    }
}

/// Another cryptlet's parts.
fn parts_named(name: &str) -> Parts {
    parts(name, "0.1.0", 2)
}

async fn detail(session: &Session) -> CryptletDetail {
    let name = reference("gold-price");
    session.client().cryptlet(&name).await.unwrap()
}

#[tokio::test]
async fn whatever_a_host_changes_about_a_cryptlet_is_found_out() {
    let world = World::start().await;
    let parts = with_source(&world.folder.path().join("author"));
    let session = world.session().await;
    let registrar = world.wallet(0).await;
    host::register(&session, &registrar, PATIENCE)
        .await
        .unwrap();
    let published = world.publish(&parts, false).await.unwrap();
    world
        .enrol(published.cryptlet, 1, Address::repeat_byte(9))
        .await;
    let name = reference("gold-price");
    let lies: [(&str, Lie); 13] = [
        ("another name", |said| said.name = "silver-price".into()),
        ("published", |said| said.publisher = Address::ZERO.into()),
        ("owns", |said| said.owner = Address::ZERO.into()),
        ("revocation", |said| said.revoked = true),
        ("other versions", |said| {
            said.versions[0].uri = "oci://evil.example/a".into()
        }),
        ("other versions", |said| said.versions.clear()),
        ("in force", |said| said.current = None),
        ("other keys", |said| said.signers[0].expiry -= 1),
        ("other hosts", |said| said.hosts.clear()),
        ("another authority", |said| {
            said.hosts[0] = HostRow {
                url: "https://evil.example".into(),
                ..said.hosts[0].clone()
            };
        }),
        ("another source", |said| said.source = Source::NotRevealed),
        ("another interface", |said| {
            said.interface = Some(InterfaceInfo {
                contract: "GoldPrice".into(),
                solidity: "interface IGoldPrice {}".into(),
                abi: vec![],
            });
        }),
        ("another source", |said| {
            said.source = Source::Revealed(B256::ZERO.into())
        }),
    ];
    // The host in memory does not list the key that was enrolled without it.
    let show: Lie = |said| {
        let mut second = said.signers[0].clone();
        second.signer = Address::repeat_byte(9).into();
        second.expiry = u64::MAX;
        said.signers.push(second);
    };
    let refused = confirm(&session, &name, &detail(&session).await)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("other keys"), "{refused}");
    let mut honest = detail(&session).await;
    show(&mut honest);
    confirm(&session, &name, &honest).await.unwrap();
    for (word, lie) in lies {
        let mut said = honest.clone();
        lie(&mut said);
        let refused = confirm(&session, &name, &said).await.unwrap_err();
        assert!(
            matches!(&refused, DeveloperError::Untrue(what) if what.contains(word)),
            "{word}: {refused}"
        );
    }
    // Another cryptlet than was asked for, as the register has it.
    let silver = parts_named("silver-price");
    world.publish(&silver, false).await.unwrap();
    let refused = confirm(&session, &reference("silver-price"), &honest)
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("asked for"), "{refused}");
    // A host that has not read that far is late, and no liar.
    world.host.wrongs().behind = 1;
    let late = confirm(&session, &name, &detail(&session).await)
        .await
        .unwrap_err();
    assert!(matches!(late, DeveloperError::HostBehind(_)), "{late}");
    assert!(late.is_retryable());
}

#[tokio::test]
async fn a_cryptlet_that_was_revoked_as_a_whole_is_shown_as_the_register_has_it() {
    let world = World::start().await;
    for (label, further) in [("0.1.0", false), ("0.2.0", true)] {
        let parts = parts("gold-price", label, 1);
        world.publish(&parts, further).await.unwrap();
    }
    let (session, wallet) = (world.session().await, world.wallet(1).await);
    let name = reference("gold-price");
    let all = Revocation::All;
    revoke(&session, &wallet, &name, &all, PATIENCE)
        .await
        .unwrap();
    // The host keeps what each version and signer was before.
    let mut said = detail(&session).await;
    said.versions[0].revoked = false;
    said.signers[0].revoked = false;
    confirm(&session, &name, &said).await.unwrap();
    said.revoked = false;
    let refused = confirm(&session, &name, &said).await.unwrap_err();
    assert!(matches!(refused, DeveloperError::Untrue(_)), "{refused}");
}

#[tokio::test]
async fn source_is_what_the_registers_digest_names_or_nothing_is_written() {
    let world = World::start().await;
    let parts = with_source(&world.folder.path().join("author"));
    world.publish(&parts, false).await.unwrap();
    let session = world.session().await;
    let fetch = async |folder: &str| -> Result<FetchedSource, DeveloperError> {
        let folder = world.folder.path().join(folder);
        source::fetch(&session, &reference("gold-price"), &folder).await
    };
    let name = reference("gold-price");
    let honest = session.client().package(&name, Some(1)).await.unwrap();
    let altered = String::from_utf8(honest.to_vec()).unwrap() + " ";
    world.host.wrongs().index = Some(altered.into_bytes().into());
    let refused = fetch("a").await.unwrap_err();
    assert!(matches!(refused, DeveloperError::Untrue(_)), "{refused}");
    world.host.wrongs().index = None;
    let mut other = parts.source.clone().unwrap().to_vec();
    other.push(0);
    world.host.wrongs().source = Some(Bytes::from(other));
    let refused = fetch("a").await.unwrap_err();
    assert!(matches!(refused, DeveloperError::Untrue(_)), "{refused}");
    assert!(!world.folder.path().join("a").exists());
    world.host.wrongs().source = None;

    let fetched = fetch("a").await.unwrap();
    assert_eq!(fetched.files, ["src/lib.rs"]);
    assert!(fetched.witnessed);
    let written = fs::read_to_string(fetched.folder.join("src/lib.rs"));
    assert_eq!(written.unwrap(), "// code\n");
    let again = fetch("a").await.unwrap_err();
    assert!(again.to_string().contains("not empty"), "{again}");
}

#[tokio::test]
async fn a_source_that_was_kept_is_said_to_be() {
    let world = World::start().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let session = world.session().await;
    let folder = world.folder.path().join("a");
    let refused = source::fetch(&session, &reference("gold-price"), &folder).await;
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("not revealed"), "{refused}");
}

#[tokio::test]
async fn a_host_is_registered_once_as_it_serves_and_by_the_registrar_alone() {
    let world = World::start().await;
    let session = world.session().await;
    let (registrar, stranger) = (world.wallet(0).await, world.wallet(3).await);
    let refused = host::register(&session, &stranger, PATIENCE)
        .await
        .unwrap_err();
    assert!(
        matches!(refused, DeveloperError::Reverted { .. }),
        "{refused}"
    );
    assert_eq!(world.transactions_of(stranger.address()).await, 0);
    let mined = host::register(&session, &registrar, PATIENCE)
        .await
        .unwrap();
    assert!(mined.is_some());
    let known = world.reader().await.host(session.info().host.into()).await;
    let known = known.unwrap().unwrap();
    assert_eq!(known.url, session.info().url);
    assert_eq!(known.authority, session.info().authority.into());
    let again = host::register(&session, &registrar, PATIENCE)
        .await
        .unwrap();
    assert!(again.is_none(), "it is there already");
}
