//! What the sealed file promises, promise by promise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test stops where it goes wrong"
)]

use alloy_primitives::{Address, B256, hex};
use cryptlet_seal::{
    ExchangeKey, SealError, SigningKey,
    evidence::{Expected, vouch},
    key_binding, recover,
};
use cryptlet_types::{
    CryptletId, Evidence, EvidenceStatement, Limits, Measurement, Policy, Provider, policy::Retry,
};
use cryptlet_vault::{FileVault, KdfCost, KeyId, Unlock, Vault, VaultError};
use proptest::prelude::*;
use std::{
    env,
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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
    KeyId::Cryptlet(CryptletId(Address::left_padding_from(&n.to_be_bytes())))
}

/// A folder with a key file and an empty vault.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        FileVault::create_key_file(&place.at("vault.key")).unwrap();
        FileVault::create(&place.vault(), &place.unlock()).unwrap();
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn vault(&self) -> PathBuf {
        self.at("vault")
    }

    fn unlock(&self) -> Unlock {
        Unlock::KeyFile(self.at("vault.key"))
    }

    fn open(&self) -> Result<FileVault, VaultError> {
        FileVault::open(&self.vault(), &self.unlock())
    }
}

#[tokio::test]
async fn keys_survive_and_sign_under_their_address() {
    let place = Place::new();
    let vault = place.open().unwrap();
    let host = vault.create(&KeyId::Host).await.unwrap();
    let transmitter = vault.create(&KeyId::Transmitter).await.unwrap();
    let mine = vault.create(&cryptlet(1)).await.unwrap();
    drop(vault);

    let vault = place.open().unwrap();
    let expected = [
        (KeyId::Host, host),
        (KeyId::Transmitter, transmitter),
        (cryptlet(1), mine),
    ];
    assert_eq!(vault.list().await.unwrap(), expected);
    for (key, address) in &expected[..2] {
        let digest = B256::repeat_byte(7);
        let signature = vault.sign(key, digest).await.unwrap();
        assert_eq!(recover(digest, &signature), Ok(*address));
        assert_eq!(vault.address(key).await.unwrap(), *address);
    }
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

fn policy() -> Policy {
    let retry = Retry {
        attempts: 1,
        first_millis: 1,
        longest_millis: 1,
    };
    Policy {
        version: 1,
        epoch: 1,
        isolation: vec![Provider::Process],
        egress: vec![],
        limits: Limits::default(),
        retry,
    }
}

/// Evidence of a region that holds `exchange`, vouched for by `host`.
fn evidence(host: &SigningKey, exchange: &ExchangeKey) -> Evidence {
    let statement = EvidenceStatement {
        provider: Provider::Process,
        controls: vec!["seccomp".into()],
        measurement: Measurement(B256::repeat_byte(1)),
        region_key: Address::repeat_byte(2),
        exchange_key: exchange.public(),
        nonce: B256::repeat_byte(4),
    };
    vouch(statement, 100, host).unwrap()
}

#[tokio::test]
async fn a_cryptlets_key_goes_to_an_attested_region_and_nowhere_else() {
    let place = Place::new();
    let vault = place.open().unwrap();
    let secret = Zeroizing::new([0x42; 32]);
    vault.import(&cryptlet(1), &secret).unwrap();
    let (host, exchange, policy) = (SigningKey::generate(), ExchangeKey::generate(), policy());
    let evidence = evidence(&host, &exchange);
    let expected = Expected {
        policy: &policy,
        measurement: evidence.statement.measurement,
        nonce: evidence.statement.nonce,
        host: host.address(),
        from: 90,
        to: 110,
    };

    let wrapped = vault
        .release(&cryptlet(1), &evidence, &expected)
        .await
        .unwrap();
    let binding = key_binding(&evidence.statement);
    let opened = exchange.open(&wrapped, &binding).unwrap();
    assert_eq!(opened.as_slice(), secret.as_slice());
    let other = ExchangeKey::generate().open(&wrapped, &binding);
    assert_eq!(other.unwrap_err(), SealError::Exchange);

    let mut altered = evidence.clone();
    altered.statement.exchange_key = ExchangeKey::generate().public();
    let stale = Expected {
        nonce: B256::ZERO,
        ..expected.clone()
    };
    let elsewhere = Expected {
        measurement: Measurement(B256::ZERO),
        ..expected.clone()
    };
    for (evidence, expected) in [
        (&altered, &expected),
        (&evidence, &stale),
        (&evidence, &elsewhere),
    ] {
        let refused = vault.release(&cryptlet(1), evidence, expected).await;
        assert!(
            matches!(refused, Err(VaultError::Refused { .. })),
            "{refused:?}"
        );
    }
    let unknown = vault.release(&cryptlet(2), &evidence, &expected).await;
    assert!(matches!(unknown, Err(VaultError::Unknown(_))));
}

#[tokio::test]
async fn every_key_has_one_use() {
    let place = Place::new();
    let vault = place.open().unwrap();
    let (host, exchange, policy) = (SigningKey::generate(), ExchangeKey::generate(), policy());
    let evidence = evidence(&host, &exchange);
    let expected = Expected {
        policy: &policy,
        measurement: evidence.statement.measurement,
        nonce: evidence.statement.nonce,
        host: host.address(),
        from: 90,
        to: 110,
    };
    for key in [KeyId::Host, KeyId::Transmitter] {
        vault.create(&key).await.unwrap();
        let released = vault.release(&key, &evidence, &expected).await;
        assert!(matches!(released, Err(VaultError::NeverReleased(found)) if found == key));
    }
    vault.create(&cryptlet(1)).await.unwrap();
    let signed = vault.sign(&cryptlet(1), B256::ZERO).await;
    assert!(matches!(signed, Err(VaultError::NotForSigning(_))));
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
        fs::write(place.vault(), [b"CRVAULT\x01\x02".as_slice(), &bytes].concat()).unwrap();
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
            "child_that_adds_keys",
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
        let mut acknowledged: Vec<_> = (0..)
            .zip(known.iter().map(|(_, address)| *address))
            .collect();
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
