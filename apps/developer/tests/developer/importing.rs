//! Importing: twice, changed, tampered with, revoked, edited.

use crate::support::{World, interface, parts, read, reference};
use cryptlet_api::ClientError;
use cryptlet_developer::{
    DeveloperError, Nodes, Witness,
    import::{ContractProject, Imported, LOCK_FILE, Lock, check, import},
    publish::{Revocation, revoke},
};
use cryptlet_header::{Header, HeaderSource};
use cryptlet_seal::sha256;
use std::{fs, path::Path, time::Duration};

async fn imported(world: &World, accept: bool) -> Result<Imported, DeveloperError> {
    let session = world.session().await;
    let project = ContractProject::find(&world.project(), None)?;
    import(&session, &reference("gold-price"), &project, accept).await
}

fn is_empty(project: &Path) -> bool {
    !project.join(LOCK_FILE).exists() && !project.join("src").exists()
}

#[tokio::test]
async fn a_header_lies_where_forge_finds_it_and_a_second_import_writes_nothing() {
    let world = World::start().await;
    let published = world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let first = imported(&world, false).await.unwrap();
    assert_eq!(
        (first.contract.as_str(), first.written.len()),
        ("GoldPrice", 7)
    );
    assert!(first.witnessed && first.install.is_some());
    let project = world.project();
    let solidity = read(&project.join("src/cryptlets/GoldPrice.sol"));
    assert!(solidity.contains("abstract contract GoldPrice is CryptletProxy"));
    assert!(solidity.contains(&published.signer.to_string()));
    for line in solidity.lines().filter(|line| line.starts_with("import ")) {
        let from = line.split('"').nth(1).unwrap();
        assert!(project.join("src/cryptlets").join(from).is_file(), "{from}");
    }
    assert!(read(&project.join("src/cryptlets/GoldPrice.abi.json")).contains("priceOf"));
    let lock = Lock::load(&project).unwrap();
    let locked = &lock.cryptlets["gold-price"];
    assert_eq!(
        (locked.header, locked.package),
        (published.header_digest, published.package_digest)
    );
    assert_eq!((locked.number, locked.public_key), (1, published.signer));
    let text = read(&project.join(LOCK_FILE));

    let second = imported(&world, false).await.unwrap();
    assert!(second.written.is_empty() && second.changes.is_empty());
    assert_eq!(read(&project.join(LOCK_FILE)), text);
    assert_eq!(
        check(&world.session().await, &project, None).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn a_changed_header_is_shown_and_refused_until_it_is_accepted() {
    let world = World::start().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    imported(&world, false).await.unwrap();
    let mut next = parts("gold-price", "0.2.0", 1);
    next.interface = interface("gold-price", "uint128 price");
    world.publish(&next, true).await.unwrap();

    let project = world.project();
    let before = read(&project.join("src/cryptlets/GoldPrice.sol"));
    let error = imported(&world, false).await.unwrap_err();
    let DeveloperError::Changed { changes, .. } = &error else {
        panic!("{error}");
    };
    let text = changes.join("\n");
    for line in [
        "version: 0.1.0 (1) -> 0.2.0 (2)",
        "public key: ",
        "- function priceOf(uint256 price)",
        "+ function priceOf(uint128 price)",
    ] {
        assert!(text.contains(line), "{text} lacks {line}");
    }
    assert!(error.next_step().contains("--accept"));
    assert_eq!(read(&project.join("src/cryptlets/GoldPrice.sol")), before);
    let findings = check(&world.session().await, &project, None).await.unwrap();
    assert_eq!(findings[0].changes, *changes);

    let accepted = imported(&world, true).await.unwrap();
    assert_eq!(accepted.locked.number, 2);
    assert!(read(&project.join("src/cryptlets/GoldPrice.sol")).contains("uint128 price"));
    assert_eq!(
        check(&world.session().await, &project, None).await.unwrap(),
        []
    );
}

#[tokio::test]
async fn what_the_host_says_of_a_header_is_not_enough() {
    let world = World::start().await;
    let published = world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let other = interface("gold-price", "uint128 price");
    let other = Header::build(HeaderSource {
        name: "gold-price",
        label: "0.1.0",
        interface: &other,
        cryptlet: published.cryptlet,
        public_key: published.signer,
    });
    let other = other.unwrap().to_json().unwrap();
    // Other bytes under the right digest.
    world.host.wrongs().header = Some(other.clone());
    let error = imported(&world, true).await.unwrap_err();
    assert!(matches!(error, DeveloperError::Untrue(_)), "{error}");
    // Other bytes under their own digest: only the register knows better.
    world.host.wrongs().header_digest = Some(sha256(&other));
    let error = imported(&world, true).await.unwrap_err();
    assert!(
        error.to_string().contains("its header has another digest"),
        "{error}"
    );
    // Code that does not follow from the interface.
    let forged = String::from_utf8(other)
        .unwrap()
        .replace("_checkCryptlet", "")
        .replace("PublicKeyNotValid", "Nothing");
    world.host.wrongs().header_digest = Some(sha256(forged.as_bytes()));
    world.host.wrongs().header = Some(forged.into_bytes());
    let error = imported(&world, true).await.unwrap_err();
    assert!(matches!(error, DeveloperError::Header(_)), "{error}");
    assert!(is_empty(&world.project()));
}

#[tokio::test]
async fn a_host_that_hides_a_revocation_is_found_out_by_the_register() {
    let world = World::start().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    world
        .publish(&parts("gold-price", "0.2.0", 2), true)
        .await
        .unwrap();
    imported(&world, false).await.unwrap();
    let (session, wallet) = (world.session().await, world.wallet(1).await);
    let version = Revocation::Version("0.2.0".into());
    let patience = Duration::from_secs(20);
    revoke(
        &session,
        &wallet,
        &reference("gold-price"),
        &version,
        patience,
    )
    .await
    .unwrap();
    world.host.wrongs().current = Some(2);
    let error = imported(&world, true).await.unwrap_err();
    assert!(
        error.to_string().contains("another version is in force"),
        "{error}"
    );

    world.host.wrongs().current = None;
    assert!(matches!(
        imported(&world, false).await,
        Err(DeveloperError::Changed { .. })
    ));
    revoke(
        &session,
        &wallet,
        &reference("gold-price"),
        &Revocation::All,
        patience,
    )
    .await
    .unwrap();
    let error = imported(&world, true).await.unwrap_err();
    assert!(matches!(error, DeveloperError::Revoked(_)), "{error}");
    let findings = check(&session, &world.project(), None).await.unwrap();
    assert!(findings[0].changes[0].contains("revoked"), "{findings:?}");
    world.host.wrongs().current = Some(1);
    let error = imported(&world, true).await.unwrap_err();
    assert!(matches!(error, DeveloperError::Revoked(_)), "{error}");
}

#[tokio::test]
async fn a_key_that_was_revoked_alone_is_not_imported() {
    let world = World::start().await;
    let published = world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let (session, wallet) = (world.session().await, world.wallet(1).await);
    let signer = Revocation::Signer(published.signer);
    revoke(
        &session,
        &wallet,
        &reference("gold-price"),
        &signer,
        Duration::from_secs(20),
    )
    .await
    .unwrap();
    let error = imported(&world, false).await.unwrap_err();
    assert!(error.to_string().contains("public key"), "{error}");
    assert!(is_empty(&world.project()));
}

#[tokio::test]
async fn files_that_were_edited_or_are_not_ours_are_not_overwritten_unasked() {
    let world = World::start().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let project = world.project();
    let file = project.join("src/cryptlets/GoldPrice.sol");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, "// mine").unwrap();
    let error = imported(&world, false).await.unwrap_err();
    assert!(
        matches!(&error, DeveloperError::Edited(files) if files.len() == 1),
        "{error}"
    );
    assert_eq!(read(&file), "// mine");
    imported(&world, true).await.unwrap();

    let base = project.join("src/cryptlets/bletchley/CryptletProxy.sol");
    let text = read(&base);
    fs::write(&base, text.replace("_checkCryptlet(cryptlet_);", "")).unwrap();
    let error = imported(&world, false).await.unwrap_err();
    assert!(matches!(error, DeveloperError::Edited(_)), "{error}");
    let findings = check(&world.session().await, &project, None).await.unwrap();
    assert!(
        findings[0].changes[0].contains("CryptletProxy.sol: edited"),
        "{findings:?}"
    );
    imported(&world, true).await.unwrap();
    assert_eq!(read(&base), text);
    fs::remove_file(&file).unwrap();
    let findings = check(&world.session().await, &project, None).await.unwrap();
    assert!(findings[0].changes[0].contains("missing"), "{findings:?}");
    assert_eq!(
        imported(&world, false).await.unwrap().written,
        ["src/cryptlets/GoldPrice.sol"]
    );
}

#[tokio::test]
async fn an_altered_lock_file_counts_as_a_change() {
    let world = World::start().await;
    let published = world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    imported(&world, false).await.unwrap();
    let path = world.project().join(LOCK_FILE);
    let text = read(&path);
    let key = published.signer.to_string().to_lowercase();
    let id = published.cryptlet.to_string().to_lowercase();
    for (what, from) in [("public key", key), ("id", id)] {
        let mut other = from.clone();
        let last = other.pop().unwrap();
        other.push(if last == '0' { '1' } else { '0' });
        let altered = text.replace(&from, &other);
        assert_ne!(altered, text, "{what}");
        fs::write(&path, altered).unwrap();
        let error = imported(&world, false).await.unwrap_err();
        assert!(error.to_string().contains(what), "{error}");
        assert!(
            !check(&world.session().await, &world.project(), None)
                .await
                .unwrap()
                .is_empty()
        );
    }
    fs::write(&path, "{").unwrap();
    assert!(matches!(
        imported(&world, true).await,
        Err(DeveloperError::Document { .. })
    ));
}

#[tokio::test]
async fn without_a_node_the_hosts_word_is_said_to_be_the_only_one() {
    let world = World::start().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    world.host.wrongs().no_rpc = true;
    assert!(!imported(&world, false).await.unwrap().witnessed);
    let nodes = Nodes {
        register: Some(world.node.url()),
        ..Nodes::default()
    };
    let session = world.session_with(nodes).await;
    let project = ContractProject::find(&world.project(), None).unwrap();
    let again = import(&session, &reference("gold-price"), &project, false)
        .await
        .unwrap();
    assert!(again.witnessed);
    let error = import(&session, &reference("silver-price"), &project, false)
        .await
        .unwrap_err();
    assert!(
        matches!(error, DeveloperError::Client(ClientError::Problem(_))),
        "{error}"
    );
}

#[tokio::test]
async fn a_node_of_the_hosts_choice_is_no_other_word_than_the_hosts() {
    let world = World::start().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let imported = async |nodes: Nodes| {
        let session = world.session_with(nodes).await;
        let project = ContractProject::find(&world.project(), None).unwrap();
        let imported = import(&session, &reference("gold-price"), &project, false).await;
        imported.unwrap()
    };
    let here = imported(Nodes::default()).await;
    assert_eq!(here.witness, Some(Witness::Development));
    // A chain elsewhere: the host is no longer the developer's own.
    let elsewhere = Nodes {
        chain: Some("https://chain.example".into()),
        ..Nodes::default()
    };
    let there = imported(elsewhere.clone()).await;
    assert_eq!(there.witness, Some(Witness::Host));
    assert!(!there.witnessed);
    let own = Nodes {
        register: Some(world.node.url()),
        ..elsewhere
    };
    let own = imported(own).await;
    assert_eq!(own.witness, Some(Witness::Own));
    assert!(own.witnessed);
}

#[tokio::test]
async fn a_projects_configuration_and_links_lead_nowhere_else() {
    let world = World::start().await;
    world
        .publish(&parts("gold-price", "0.1.0", 1), false)
        .await
        .unwrap();
    let (project, outside) = (world.project(), world.folder.path().join("outside"));
    fs::create_dir(&outside).unwrap();
    let refused = async || {
        let session = world.session().await;
        let project = ContractProject::find(&project, None).unwrap();
        let error = import(&session, &reference("gold-price"), &project, true).await;
        let error = error.unwrap_err().to_string();
        assert!(
            error.contains("has to lie in the project's folder"),
            "{error}"
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    };
    for src in ["../outside", "src/../../outside", "/tmp"] {
        let text = format!("[profile.default]\nsrc = '{src}'\n");
        fs::write(project.join("foundry.toml"), text).unwrap();
        refused().await;
    }
    fs::write(project.join("foundry.toml"), "").unwrap();
    std::os::unix::fs::symlink(&outside, project.join("src")).unwrap();
    refused().await;
    // A link within the project is its own matter.
    fs::remove_file(project.join("src")).unwrap();
    fs::create_dir(project.join("contracts")).unwrap();
    std::os::unix::fs::symlink(project.join("contracts"), project.join("src")).unwrap();
    imported(&world, false).await.unwrap();
    assert!(project.join("contracts/cryptlets/GoldPrice.sol").exists());
}
