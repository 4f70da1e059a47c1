//! Sealed images in a folder, beside a vault that knows which is the last: at whatever moment a host is killed.

use crate::{
    attested::{Attested, MEASURED},
    file::Place,
    id,
};
use alloy_primitives::Address;
use cryptlet_seal::{SigningKey, sealed::SealedError};
use cryptlet_types::CryptletId;
use cryptlet_vault::{FileVault, Images, KeyId, Unlock, Vault, VaultError};
use proptest::prelude::*;
use std::{
    collections::BTreeMap,
    env,
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

const FOLDER: &str = "SEALED_TEST_FOLDER";

/// Bytes of every file under a folder, by name.
type Files = BTreeMap<String, Vec<u8>>;

fn files(folder: &Path) -> Files {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// What the last image holds, as a region that was granted the key would find it.
async fn last_state(
    vault: &FileVault,
    images: &Images,
    cryptlet: CryptletId,
    signer: Address,
) -> Result<Option<Vec<u8>>, SealedError> {
    let region = Attested::new();
    let seal = region.seal(vault, cryptlet, signer).await.unwrap();
    let image = images.last(vault, cryptlet, MEASURED).await.unwrap();
    let image = image.as_ref().map(|image| image.as_slice());
    let state = seal.open(MEASURED, image)?;
    Ok(state.map(|state| state.to_vec()))
}

/// A region's end: it seals, and the host keeps that.
async fn end_region(
    vault: &FileVault,
    images: &Images,
    cryptlet: CryptletId,
    signer: Address,
    state: &[u8],
) -> Result<u64, VaultError> {
    let seal = Attested::new().seal(vault, cryptlet, signer).await.unwrap();
    let image = seal.close(MEASURED, state).unwrap();
    images.keep(vault, cryptlet, MEASURED, &image).await
}

/// Where a host is killed while it keeps an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    Not,
    /// With so many bytes of the image's file written.
    Writing(usize),
    /// The image is written, and the vault not asked.
    BeforeAdvance,
    /// So many bytes of the vault's new file are written.
    Advancing(usize),
    /// The vault has taken the image, and the old ones are there.
    BeforeRemoval,
}

fn killed() -> impl Strategy<Value = Killed> {
    prop_oneof![
        Just(Killed::Not),
        (0_usize..400).prop_map(Killed::Writing),
        Just(Killed::BeforeAdvance),
        (0_usize..400).prop_map(Killed::Advancing),
        Just(Killed::BeforeRemoval),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn wherever_a_host_is_killed_what_was_kept_last_is_found(ends in proptest::collection::vec(killed(), 1..8)) {
        crate::block_on(live_and_die(&ends));
    }
}

async fn live_and_die(ends: &[Killed]) {
    let place = Place::new();
    let folder = place.at("sealed");
    let images = Images::at(&folder).unwrap();
    let signer = place
        .open()
        .unwrap()
        .create(&KeyId::Cryptlet(id(1)))
        .await
        .unwrap();
    let mut kept: Option<Vec<u8>> = None;
    for (n, end) in ends.iter().enumerate() {
        let vault = place.open().unwrap();
        let found = last_state(&vault, &images, id(1), signer).await;
        assert_eq!(found, Ok(kept.clone()), "{end:?} of {ends:?}");
        let state = format!("state {n}").into_bytes();
        let before = files(&folder);
        let vault_before = fs::read(place.at("vault")).unwrap();
        // Without its vault's next file, a host writes the image and comes no further.
        let stuck = matches!(
            end,
            Killed::Writing(_) | Killed::BeforeAdvance | Killed::Advancing(_)
        );
        if stuck {
            // What an earlier kill left there goes with the next write.
            let _ = fs::remove_file(place.at("vault.new"));
            fs::create_dir(place.at("vault.new")).unwrap();
        }
        let done = end_region(&vault, &images, id(1), signer, &state).await;
        assert_eq!(done.is_err(), stuck, "{done:?}");
        drop(vault);
        if stuck {
            fs::remove_dir(place.at("vault.new")).unwrap();
            assert_eq!(fs::read(place.at("vault")).unwrap(), vault_before);
        }
        let after = files(&folder);
        let (name, image) = after
            .iter()
            .find(|(name, _)| !before.contains_key(*name))
            .unwrap();
        match end {
            Killed::Writing(bytes) => {
                let bytes = &image[..(*bytes).min(image.len())];
                fs::remove_file(folder.join(name)).unwrap();
                fs::write(folder.join(format!("{name}.new")), bytes).unwrap();
            }
            Killed::Advancing(bytes) => {
                let bytes = &vault_before[..(*bytes).min(vault_before.len())];
                fs::write(place.at("vault.new"), bytes).unwrap();
            }
            Killed::BeforeRemoval => {
                for (name, bytes) in &before {
                    fs::write(folder.join(name), bytes).unwrap();
                    let private = Permissions::from_mode(0o600);
                    fs::set_permissions(folder.join(name), private).unwrap();
                }
                kept = Some(state);
            }
            Killed::BeforeAdvance => {}
            Killed::Not => {
                assert_eq!(after.len(), 1, "nothing else stays behind");
                kept = Some(state);
            }
        }
    }
    let vault = place.open().unwrap();
    assert_eq!(last_state(&vault, &images, id(1), signer).await, Ok(kept));
}

#[tokio::test]
async fn an_image_that_is_lost_or_put_back_is_refused_by_name_until_a_reset() {
    let place = Place::new();
    let folder = place.at("sealed");
    let images = Images::at(&folder).unwrap();
    let vault = place.open().unwrap();
    let signer = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
    end_region(&vault, &images, id(1), signer, b"one")
        .await
        .unwrap();
    let first = files(&folder);
    end_region(&vault, &images, id(1), signer, b"two")
        .await
        .unwrap();
    let second = files(&folder);
    assert_eq!((first.len(), second.len()), (1, 1));
    let (name, _) = second.first_key_value().unwrap();
    let (_, old) = first.first_key_value().unwrap();

    fs::write(folder.join(name), old).unwrap();
    let rolled = last_state(&vault, &images, id(1), signer).await;
    assert_eq!(rolled, Err(SealedError::RolledBack { last: 2, found: 1 }));
    fs::remove_file(folder.join(name)).unwrap();
    let missing = last_state(&vault, &images, id(1), signer).await;
    assert_eq!(missing, Err(SealedError::Missing(2)));
    vault.reset_sealed(id(1), MEASURED).await.unwrap();
    let fresh = last_state(&vault, &images, id(1), signer).await;
    assert_eq!(fresh, Ok(None));
}

#[tokio::test]
async fn images_of_several_cryptlets_lie_side_by_side_and_private() {
    let place = Place::new();
    let folder = place.at("sealed");
    let images = Images::at(&folder).unwrap();
    let vault = place.open().unwrap();
    for n in [1, 2] {
        let signer = vault.create(&KeyId::Cryptlet(id(n))).await.unwrap();
        for state in [b"old", b"new"] {
            end_region(&vault, &images, id(n), signer, state)
                .await
                .unwrap();
        }
        let state = last_state(&vault, &images, id(n), signer).await;
        assert_eq!(state, Ok(Some(b"new".to_vec())));
    }
    assert_eq!(files(&folder).len(), 2);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder), 0o700);
    for name in files(&folder).keys() {
        assert_eq!(mode(&folder.join(name)), 0o600);
    }
}

#[tokio::test]
async fn an_advance_that_cannot_be_written_is_undone() {
    let place = Place::new();
    let images = Images::at(&place.at("sealed")).unwrap();
    let vault = place.open().unwrap();
    let signer = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
    end_region(&vault, &images, id(1), signer, b"one")
        .await
        .unwrap();
    fs::create_dir(place.at("vault.new")).unwrap();
    for _ in 0..2 {
        let refused = end_region(&vault, &images, id(1), signer, b"two").await;
        assert!(
            matches!(refused, Err(VaultError::FileExists(_))),
            "{refused:?}"
        );
    }
    assert!(vault.reset_sealed(id(1), MEASURED).await.is_err());
    let state = last_state(&vault, &images, id(1), signer).await;
    assert_eq!(state, Ok(Some(b"one".to_vec())));
    // Nor is a seal that the disk does not have.
    let other = vault.address(&KeyId::Cryptlet(id(1))).await.unwrap();
    let region = Attested::with_measurement(2);
    let granted = vault
        .grant(id(1), other, &region.evidence, &region.expected())
        .await;
    assert!(
        matches!(granted, Err(VaultError::FileExists(_))),
        "{granted:?}"
    );
    fs::remove_dir(place.at("vault.new")).unwrap();
    let counter = end_region(&vault, &images, id(1), signer, b"two").await;
    assert_eq!(counter.unwrap(), 2);
}

/// A file that the program wrote before it knew seals: key file, vault, and a secret that the vault sealed.
#[tokio::test]
async fn a_vault_from_before_seals_opens_and_gets_its_first_with_the_first_grant() {
    let folder = tempfile::tempdir().unwrap();
    let golden: [(&str, &[u8]); 2] = [
        ("key", include_bytes!("golden/key")),
        ("vault", include_bytes!("golden/vault")),
    ];
    for (name, bytes) in golden {
        let path = folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    let path = folder.path().join("vault");
    let unlock = Unlock::KeyFile(folder.path().join("key"));
    let open = || FileVault::open(&path, &unlock).unwrap();
    let address = |n: u8| SigningKey::from_secret(&[n; 32]).unwrap().address();
    let vault = open();
    let listed = vault.list().await.unwrap();
    assert_eq!(listed.len(), 6);
    for (key, n) in [
        (KeyId::Host, 1),
        (KeyId::Transmitter, 2),
        (KeyId::Cryptlet(id(1)), 4),
        (KeyId::Cryptlet(id(2)), 5),
    ] {
        assert_eq!(vault.address(&key).await.unwrap(), address(n));
    }
    let secret = vault
        .open_secret("golden", include_bytes!("golden/secret"))
        .await;
    assert_eq!(secret.unwrap().as_slice(), b"kept before");

    let made = Attested::new()
        .seal(&vault, id(1), address(3))
        .await
        .unwrap();
    drop(vault);
    let vault = open();
    assert_eq!(
        vault.list().await.unwrap(),
        listed,
        "a seal is no key of anybody"
    );
    let found = Attested::new()
        .seal(&vault, id(1), address(4))
        .await
        .unwrap();
    assert_eq!((found.key, found.counter), (made.key, 0));
}

#[tokio::test]
#[ignore = "runs as a child of another test"]
async fn child_that_seals() {
    let folder = env::var_os(FOLDER).expect("started by another test");
    let folder = Path::new(&folder);
    let unlock = Unlock::KeyFile(folder.join("vault.key"));
    let vault = FileVault::open(&folder.join("vault"), &unlock).unwrap();
    let images = Images::at(&folder.join("sealed")).unwrap();
    let signer = vault.address(&KeyId::Cryptlet(id(1))).await.unwrap();
    println!();
    loop {
        let seal = Attested::new().seal(&vault, id(1), signer).await.unwrap();
        let state = (seal.counter + 1).to_string();
        let counter = end_region(&vault, &images, id(1), signer, state.as_bytes()).await;
        println!("kept {}", counter.unwrap());
    }
}

#[tokio::test]
async fn sigkill_leaves_the_last_image_that_was_kept() {
    let place = Place::new();
    let vault = place.open().unwrap();
    let signer = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
    drop(vault);
    let mut last = 0;
    for round in 1..=8usize {
        let mut child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "sealed::child_that_seals",
                "--ignored",
                "--nocapture",
            ])
            .env(FOLDER, place.at("."))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut told =
            lines.filter_map(|line| line.unwrap().strip_prefix("kept ")?.parse::<u64>().ok());
        let seen = told.by_ref().take(round * 5 % 9 + 1).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let acknowledged = told.last().unwrap_or(seen);
        assert!(acknowledged > last);
        let vault = place.open().unwrap();
        let images = Images::at(&place.at("sealed")).unwrap();
        let state = last_state(&vault, &images, id(1), signer)
            .await
            .unwrap()
            .unwrap();
        last = String::from_utf8(state).unwrap().parse().unwrap();
        // It may have been killed between keeping an image and saying so.
        assert!(
            [acknowledged, acknowledged + 1].contains(&last),
            "{acknowledged}, {last}"
        );
    }
}
