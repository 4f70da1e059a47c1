//! What a sealed file promises beyond what every vault does.

use crate::{attested::Attested, id};
use alloy_primitives::{Address, hex};
use cryptlet_seal::SealError;
use cryptlet_types::region::KeyGrant;
use cryptlet_vault::{FileVault, KdfCost, KeyId, KeyState, Unlock, Vault, VaultError};
use proptest::prelude::*;
use std::{
    env,
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};
use tempfile::TempDir;
use zeroize::Zeroizing;

/// The cheapest that Argon2 allows: tests wait for nothing.
const CHEAP: KdfCost = KdfCost {
    memory_kib: 8,
    passes: 1,
    lanes: 1,
};
const FOLDER: &str = "VAULT_TEST_FOLDER";

fn password(text: &str) -> Unlock {
    Unlock::Password(Zeroizing::new(text.to_owned()))
}

fn cryptlet(n: u64) -> KeyId {
    KeyId::Cryptlet(id(n))
}

/// A folder with a key file and an empty vault.
pub(crate) struct Place {
    folder: TempDir,
}

impl crate::Place for Place {
    fn reopen(&self) -> Arc<dyn Vault> {
        Arc::new(self.open().unwrap())
    }
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        FileVault::create_key_file(&place.at("vault.key")).unwrap();
        FileVault::create(&place.vault(), &place.unlock()).unwrap();
        place
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn vault(&self) -> PathBuf {
        self.at("vault")
    }

    fn unlock(&self) -> Unlock {
        Unlock::KeyFile(self.at("vault.key"))
    }

    pub(crate) fn open(&self) -> Result<FileVault, VaultError> {
        FileVault::open(&self.vault(), &self.unlock())
    }
}

#[tokio::test]
async fn a_sealed_secret_opens_in_its_vault_and_for_its_use_alone() {
    let place = Place::new();
    let vault = place.open().unwrap();
    let secret = b"a secret that somebody shares";
    let sealed = vault.seal_secret("application a", secret).await.unwrap();
    let hidden = |bytes: &[u8]| {
        !bytes
            .windows(8)
            .any(|part| secret.windows(8).any(|of| of == part))
    };
    assert!(hidden(&sealed) && hidden(&fs::read(place.vault()).unwrap()));
    assert!(
        vault.list().await.unwrap().is_empty(),
        "it is no key of anybody"
    );
    drop(vault);
    // After a restart, and when something else opens the vault.
    let mut vault = place.open().unwrap();
    vault.rekey(&password("new"), CHEAP).unwrap();
    drop(vault);
    let vault = FileVault::open(&place.vault(), &password("new")).unwrap();
    let opened = vault.open_secret("application a", &sealed).await.unwrap();
    assert_eq!(opened.as_slice(), secret);
    let another = vault.seal_secret("application a", secret).await.unwrap();
    assert_ne!(another, sealed, "the nonce is fresh");

    let refused = async |vault: &FileVault, context: &str, sealed: &[u8]| {
        let opened = vault.open_secret(context, sealed).await;
        assert!(matches!(opened, Err(VaultError::NotSealedHere(named)) if named == context));
    };
    refused(&vault, "application b", &sealed).await;
    for place in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[place] ^= 1;
        refused(&vault, "application a", &altered).await;
    }
    refused(&vault, "application a", &sealed[..20]).await;
    let stranger = Place::new();
    let stranger = stranger.open().unwrap();
    refused(&stranger, "application a", &sealed).await;
    stranger.seal_secret("application a", secret).await.unwrap();
    refused(&stranger, "application a", &sealed).await;
}

#[tokio::test]
async fn a_key_is_never_replaced() {
    let place = Place::new();
    let vault = place.open().unwrap();
    let first = vault.create(&KeyId::Host).await.unwrap();
    let again = vault.create(&KeyId::Host).await;
    assert!(matches!(again, Err(VaultError::Exists(KeyId::Host))));
    let imported = vault.import(&KeyId::Host, &Zeroizing::new([7; 32]));
    assert!(matches!(imported, Err(VaultError::Exists(KeyId::Host))));
    assert_eq!(vault.address(&KeyId::Host).await.unwrap(), first);
    let unknown = vault.address(&KeyId::Transmitter).await;
    assert!(matches!(
        unknown,
        Err(VaultError::Unknown(KeyId::Transmitter))
    ));
    let made = FileVault::create(&place.at("vault"), &place.unlock());
    assert!(matches!(made, Err(VaultError::InUse(_))));
    drop(vault);
    let made = FileVault::create(&place.at("vault"), &place.unlock());
    assert!(matches!(made, Err(VaultError::FileExists(_))));
    let made = FileVault::create_key_file(&place.at("vault.key"));
    assert!(matches!(made, Err(VaultError::FileExists(_))));
}

#[tokio::test]
async fn a_password_opens_and_another_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    let made = FileVault::create_with(&path, &password("correct horse"), CHEAP).unwrap();
    let address = made.create(&KeyId::Host).await.unwrap();
    drop(made);
    let wrong = FileVault::open(&path, &password("correct house")).unwrap_err();
    assert!(matches!(wrong, VaultError::Locked(_)), "{wrong}");
    assert!(wrong.to_string().contains("password"), "{wrong}");
    assert!(!wrong.to_string().contains("house") && !wrong.is_retryable());
    let empty = FileVault::open(&path, &password("")).unwrap_err();
    assert!(matches!(empty, VaultError::EmptyPassword));
    let key_file = folder.path().join("key");
    FileVault::create_key_file(&key_file).unwrap();
    let other = FileVault::open(&path, &Unlock::KeyFile(key_file)).unwrap_err();
    assert_eq!(
        other.to_string(),
        format!("{} opens with a password", path.display())
    );
    let vault = FileVault::open(&path, &password("correct horse")).unwrap();
    assert_eq!(vault.address(&KeyId::Host).await.unwrap(), address);
}

#[test]
fn a_password_costs_what_rfc_9106_recommends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    FileVault::create(&path, &password("p")).unwrap();
    let header = fs::read(&path).unwrap();
    assert_eq!(header[9..21], hex!("00010000 00000003 00000004"));
    FileVault::open(&path, &password("p")).unwrap();
}

#[test]
fn a_header_cannot_ask_for_all_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("vault");
    FileVault::create_with(&path, &password("p"), CHEAP).unwrap();
    let good = fs::read(&path).unwrap();
    for offset in [9, 13, 17] {
        let mut bytes = good.clone();
        bytes[offset] = 0xff;
        fs::write(&path, bytes).unwrap();
        let error = FileVault::open(&path, &password("p")).unwrap_err();
        assert!(matches!(error, VaultError::Cost(_)), "{error}");
    }
}

#[test]
fn another_key_file_does_not_open() {
    let place = Place::new();
    let other = place.at("other.key");
    FileVault::create_key_file(&other).unwrap();
    assert_ne!(
        fs::read(&other).unwrap(),
        fs::read(place.at("vault.key")).unwrap()
    );
    let wrong = FileVault::open(&place.vault(), &Unlock::KeyFile(other)).unwrap_err();
    assert!(matches!(wrong, VaultError::Locked(_)));
    let kind = FileVault::open(&place.vault(), &password("p")).unwrap_err();
    assert!(matches!(kind, VaultError::OtherUnlock { .. }));
    for size in [31, 33, 0] {
        fs::write(place.at("vault.key"), vec![1; size]).unwrap();
        let error = place.open().unwrap_err();
        assert!(matches!(error, VaultError::NotAKeyFile(_)), "{error}");
    }
    let missing = FileVault::open(&place.at("none"), &place.unlock()).unwrap_err();
    assert!(
        matches!(missing, VaultError::Io { .. }) || matches!(missing, VaultError::NotAKeyFile(_))
    );
}

#[test]
fn files_that_others_may_read_are_refused() {
    let place = Place::new();
    for name in ["vault", "vault.key"] {
        let mode = fs::metadata(place.at(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
        for open in [0o640, 0o604, 0o620] {
            fs::set_permissions(place.at(name), Permissions::from_mode(open)).unwrap();
            let error = place.open().unwrap_err();
            assert!(
                matches!(error, VaultError::Exposed { mode, .. } if mode == open),
                "{error}"
            );
        }
        fs::set_permissions(place.at(name), Permissions::from_mode(0o600)).unwrap();
    }
    place.open().unwrap();
}

#[test]
fn one_process_at_a_time() {
    let place = Place::new();
    let first = place.open().unwrap();
    let second = place.open().unwrap_err();
    assert!(matches!(second, VaultError::InUse(_)) && second.is_retryable());
    drop(first);
    place.open().unwrap();
}

#[tokio::test]
async fn secrets_show_nowhere() {
    let place = Place::new();
    let vault = place.open().unwrap();
    let secret: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap() + 100);
    vault
        .import(&KeyId::Transmitter, &Zeroizing::new(secret))
        .unwrap();
    let key_file = fs::read(place.at("vault.key")).unwrap();
    let shown = format!("{vault:?} {:?} {:?}", place.unlock(), password("hunter2"));
    assert!(!shown.contains("hunter2"));
    assert!(!shown.contains(&hex::encode(secret)) && !shown.contains(&hex::encode(key_file)));
    for entry in fs::read_dir(place.folder.path()).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == &secret[..8]));
    }
    let debug = vault
        .import(&KeyId::Host, &Zeroizing::new([0; 32]))
        .unwrap_err();
    assert!(matches!(debug, VaultError::Seal(SealError::InvalidSecret)));
}

#[tokio::test]
async fn every_write_has_its_own_nonce() {
    let place = Place::new();
    let vault = place.open().unwrap();
    let nonce = || fs::read(place.vault()).unwrap()[37..61].to_vec();
    let mut seen = vec![nonce()];
    for n in 0..8 {
        vault.create(&cryptlet(n)).await.unwrap();
        assert!(!seen.contains(&nonce()));
        seen.push(nonce());
    }
}

#[test]
fn a_vault_of_another_version_is_refused_by_name() {
    let place = Place::new();
    let good = fs::read(place.vault()).unwrap();
    for version in [0, 1, 3, 255] {
        let mut bytes = good.clone();
        bytes[7] = version;
        fs::write(place.vault(), bytes).unwrap();
        let error = place.open().unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "{} is a vault of version {version}, this program reads version 2 only",
                place.vault().display()
            )
        );
    }
}

#[test]
fn links_and_pipes_are_refused() {
    let place = Place::new();
    for name in ["vault", "vault.key", "vault.lock"] {
        let real = place.at("real");
        fs::rename(place.at(name), &real).unwrap();
        symlink(&real, place.at(name)).unwrap();
        let error = place.open().unwrap_err();
        assert!(
            matches!(&error, VaultError::NotRegular(path) if *path == place.at(name)),
            "{name}: {error}"
        );
        fs::remove_file(place.at(name)).unwrap();
        fs::rename(&real, place.at(name)).unwrap();
    }
    place.open().unwrap();

    fs::remove_file(place.at("vault.key")).unwrap();
    let made = Command::new("mkfifo").arg(place.at("vault.key")).status();
    assert!(made.unwrap().success());
    let error = place.open().unwrap_err();
    assert!(matches!(error, VaultError::NotRegular(_)), "{error}");
    let folder = FileVault::open(&place.vault(), &Unlock::KeyFile(place.at("."))).unwrap_err();
    assert!(matches!(folder, VaultError::NotRegular(_)), "{folder}");
}

#[test]
fn folders_in_which_others_may_replace_files_are_refused() {
    let place = Place::new();
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key");
    fs::copy(place.at("vault.key"), &key).unwrap();
    let open = || FileVault::open(&place.vault(), &Unlock::KeyFile(key.clone()));
    for folder in [place.folder.path(), keys.path()] {
        for mode in [0o770, 0o702, 0o777] {
            fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
            let error = open().unwrap_err();
            assert!(
                matches!(&error, VaultError::ExposedFolder { path, mode: found } if path == folder && *found == mode),
                "{error}"
            );
            let made = FileVault::create(&folder.join("another"), &Unlock::KeyFile(key.clone()));
            assert!(matches!(made, Err(VaultError::ExposedFolder { .. })));
        }
        // Where each may only replace what is their own, and where others may only look.
        for mode in [0o1777, 0o755] {
            fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
            open().unwrap();
        }
    }
}

#[tokio::test]
async fn a_swapped_file_is_refused() {
    let (place, other) = (Place::new(), Place::new());
    place.open().unwrap().create(&KeyId::Host).await.unwrap();
    other.open().unwrap().create(&KeyId::Host).await.unwrap();
    fs::copy(other.vault(), place.vault()).unwrap();
    let error = place.open().unwrap_err();
    assert!(matches!(error, VaultError::Locked(_)), "{error}");
}

/// A writer that was killed at any moment leaves one of two things: the old file with some first bytes of the
/// new one beside it, or the new file. A disk that lied about `fsync` leaves a file that is cut short.
#[tokio::test]
async fn a_write_torn_at_any_byte_loses_nothing_or_is_refused() {
    let place = Place::new();
    let vault = place.open().unwrap();
    let host = vault.create(&KeyId::Host).await.unwrap();
    let old = fs::read(place.vault()).unwrap();
    vault.create(&cryptlet(1)).await.unwrap();
    vault.create(&KeyId::Authority).await.unwrap();
    drop(vault);
    let new = fs::read(place.vault()).unwrap();
    for torn in 0..new.len() {
        fs::write(place.vault(), &old).unwrap();
        fs::write(place.at("vault.new"), &new[..torn]).unwrap();
        let vault = place.open().unwrap();
        assert_eq!(vault.address(&KeyId::Host).await.unwrap(), host);
        assert_eq!(vault.list().await.unwrap().len(), 1);
        let added = vault.create(&cryptlet(2)).await.unwrap();
        drop(vault);
        let vault = place.open().unwrap();
        assert_eq!(vault.address(&cryptlet(2)).await.unwrap(), added);
        drop(vault);

        fs::write(place.vault(), &new[..torn]).unwrap();
        assert!(place.open().is_err(), "{torn} of {} bytes", new.len());
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_written_is_undone() {
    let place = Place::new();
    let mut vault = place.open().unwrap();
    let earlier = vault.create(&cryptlet(1)).await.unwrap();
    let current = vault.create(&cryptlet(1)).await.unwrap();
    let written = fs::read(place.vault()).unwrap();
    let listed = vault.list().await.unwrap();
    // A folder where the temporary file should be made.
    fs::create_dir(place.at("vault.new")).unwrap();
    assert!(vault.create(&KeyId::Authority).await.is_err());
    assert!(vault.create(&cryptlet(1)).await.is_err());
    assert!(vault.retire(id(1), earlier).await.is_err());
    assert!(vault.rekey(&password("p"), CHEAP).is_err());
    assert_eq!(vault.list().await.unwrap(), listed);
    assert_eq!(fs::read(place.vault()).unwrap(), written);

    fs::remove_dir(place.at("vault.new")).unwrap();
    vault.retire(id(1), earlier).await.unwrap();
    drop(vault);
    let listed = place.open().unwrap().list().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].address, current);
    assert_eq!(listed[0].state, KeyState::Current);
}

#[tokio::test]
async fn a_vault_is_rekeyed() {
    let place = Place::new();
    let mut vault = place.open().unwrap();
    let host = vault.create(&KeyId::Host).await.unwrap();
    vault.rekey(&password("first"), CHEAP).unwrap();
    let transmitter = vault.create(&KeyId::Transmitter).await.unwrap();
    drop(vault);
    let old = place.open().unwrap_err();
    assert!(matches!(old, VaultError::OtherUnlock { .. }), "{old}");

    let mut vault = FileVault::open(&place.vault(), &password("first")).unwrap();
    let salt = || fs::read(place.vault()).unwrap()[21..37].to_vec();
    let before = salt();
    vault.rekey(&password("second"), CHEAP).unwrap();
    assert_ne!(before, salt(), "a password never meets an old salt");
    let empty = vault.rekey(&password(""), CHEAP);
    assert!(matches!(empty, Err(VaultError::EmptyPassword)));
    drop(vault);
    let old = FileVault::open(&place.vault(), &password("first")).unwrap_err();
    assert!(matches!(old, VaultError::Locked(_)), "{old}");
    let vault = FileVault::open(&place.vault(), &password("second")).unwrap();
    assert_eq!(vault.address(&KeyId::Host).await.unwrap(), host);
    let found = vault.address(&KeyId::Transmitter).await.unwrap();
    assert_eq!(found, transmitter);
}

#[tokio::test]
async fn an_imported_key_is_the_cryptlets_current_one() {
    let place = Place::new();
    let vault = place.open().unwrap();
    vault.create(&cryptlet(1)).await.unwrap();
    let secret = Zeroizing::new([0x42; 32]);
    let signer = vault.import(&cryptlet(1), &secret).unwrap();
    assert_eq!(vault.address(&cryptlet(1)).await.unwrap(), signer);
    let twice = vault.import(&cryptlet(1), &secret);
    assert!(matches!(twice, Err(VaultError::Exists(_))));
    let authority = vault.import(&KeyId::Authority, &secret);
    assert!(matches!(authority, Err(VaultError::NotForSigning(_))));
    let region = Attested::new();
    let granted = vault
        .grant(id(1), signer, &region.evidence, &region.expected())
        .await;
    let Ok(KeyGrant::Wrapped(wrapped)) = granted else {
        panic!("{granted:?}")
    };
    assert_eq!(region.open(&wrapped).key, secret);
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_is_refused(position in any::<prop::sample::Index>(), bit in 0u8..8) {
        let place = Place::new();
        place.open().unwrap().import(&KeyId::Host, &Zeroizing::new([7; 32])).unwrap();
        let mut bytes = fs::read(place.vault()).unwrap();
        let position = position.index(bytes.len());
        bytes[position] ^= 1 << bit;
        fs::write(place.vault(), bytes).unwrap();
        prop_assert!(place.open().is_err(), "byte {position}, bit {bit}");
    }

    #[test]
    fn a_cut_or_longer_file_is_refused(cut in 1usize..130, extra in proptest::collection::vec(any::<u8>(), 1..100)) {
        let place = Place::new();
        place.open().unwrap().import(&KeyId::Host, &Zeroizing::new([7; 32])).unwrap();
        let bytes = fs::read(place.vault()).unwrap();
        fs::write(place.vault(), &bytes[..bytes.len() - cut.min(bytes.len())]).unwrap();
        prop_assert!(place.open().is_err());
        fs::write(place.vault(), [bytes, extra].concat()).unwrap();
        prop_assert!(place.open().is_err());
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let place = Place::new();
        fs::write(place.vault(), [b"CRVAULT\x02\x02".as_slice(), &bytes].concat()).unwrap();
        prop_assert!(place.open().is_err());
        fs::write(place.vault(), &bytes).unwrap();
        prop_assert!(place.open().is_err());
    }
}

/// This test binary once more, adding keys to the vault in `place` under a limit of `blocks` of 512 bytes
/// on each file that it writes.
fn child(place: &Place, blocks: Option<u32>) -> Child {
    // A write beyond the limit raises SIGXFSZ, which ends a process that does not ignore it.
    let limit = blocks.map_or(String::new(), |blocks| {
        format!("trap '' XFSZ; ulimit -f {blocks}; ")
    });
    Command::new("/bin/sh")
        .arg("-c")
        .arg(format!("{limit}exec \"$0\" \"$@\""))
        .arg(env::current_exe().unwrap())
        .args([
            "--exact",
            "file::child_that_adds_keys",
            "--ignored",
            "--nocapture",
        ])
        .env(FOLDER, place.folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn told(line: &str) -> Option<(u64, Address)> {
    let (n, address) = line.strip_prefix("acknowledged ")?.split_once(' ')?;
    Some((n.parse().ok()?, address.parse().ok()?))
}

#[tokio::test]
#[ignore = "runs as a child of the other tests"]
async fn child_that_adds_keys() {
    let folder = env::var_os(FOLDER).expect("started by another test");
    let folder = Path::new(&folder);
    let unlock = Unlock::KeyFile(folder.join("vault.key"));
    let vault = FileVault::open(&folder.join("vault"), &unlock).unwrap();
    println!();
    let first = u64::try_from(vault.list().await.unwrap().len()).unwrap();
    for n in first.. {
        match vault.create(&cryptlet(n)).await {
            Ok(address) => println!("acknowledged {n} {address}"),
            Err(error) => {
                let unknown = vault.address(&cryptlet(n)).await;
                assert!(matches!(unknown, Err(VaultError::Unknown(_))));
                return println!("refused {error}");
            }
        }
    }
}

/// Every acknowledged key is there under its address.
async fn check(place: &Place, acknowledged: &[(u64, Address)]) {
    let vault = place.open().unwrap();
    for (n, address) in acknowledged {
        assert_eq!(vault.address(&cryptlet(*n)).await.unwrap(), *address);
    }
    let found = vault.list().await.unwrap().len();
    assert!(found <= acknowledged.len() + 1, "{found} keys");
}

#[tokio::test]
async fn sigkill_leaves_a_vault_with_every_acknowledged_key() {
    let place = Place::new();
    for round in 1..=8usize {
        let known = place.open().unwrap().list().await.unwrap();
        let mut acknowledged: Vec<_> = (0..).zip(known.iter().map(|key| key.address)).collect();
        let mut writer = child(&place, None);
        let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
        let mut told = lines.filter_map(|line| told(&line.unwrap()));
        acknowledged.extend(told.by_ref().take(round * 5 % 9 + 1));
        writer.kill().unwrap();
        writer.wait().unwrap();
        acknowledged.extend(told);
        check(&place, &acknowledged).await;
    }
}

#[tokio::test]
async fn a_write_that_fails_keeps_the_old_file() {
    let place = Place::new();
    let mut writer = child(&place, Some(2));
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let lines: Vec<_> = lines.map(Result::unwrap).collect();
    assert!(writer.wait().unwrap().success(), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("refused")));
    let acknowledged: Vec<_> = lines.iter().filter_map(|line| told(line)).collect();
    assert!(acknowledged.len() > 10, "room for 18 keys in 1 KiB");
    let vault = place.open().unwrap();
    assert_eq!(vault.list().await.unwrap().len(), acknowledged.len());
    assert!(!place.at("vault.new").exists());
    drop(vault);
    check(&place, &acknowledged).await;
    place.open().unwrap().create(&KeyId::Host).await.unwrap();
}
