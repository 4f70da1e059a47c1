//! What a token promises beyond what every vault does.

use crate::{
    block_on, id,
    softhsm::{LABEL, PIN, PIN_VARIABLE, Token, alone},
};
use alloy_primitives::B256;
use cryptlet_seal::recover;
use cryptlet_vault::{KeyId, PinSource, Pkcs11Config, Pkcs11Vault, Vault, VaultError};
use cryptoki::{
    mechanism::Mechanism,
    object::{Attribute, AttributeType, ObjectClass, ObjectHandle},
    session::Session,
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    sync::Barrier,
    thread,
};

/// DER of secp256k1's object identifier.
const SECP256K1: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];

fn private_key(session: &Session) -> ObjectHandle {
    let all = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]);
    all.unwrap()[0]
}

#[test]
fn a_private_key_cannot_be_taken_out_or_put_to_another_use() {
    alone(
        "pkcs11::a_private_key_cannot_be_taken_out_or_put_to_another_use",
        |token| {
            let vault = token.open();
            block_on(vault.create(&KeyId::Cryptlet(id(1)))).unwrap();
            let session = token.session();
            let key = private_key(&session);
            let read = session.get_attributes(key, &[AttributeType::Value]);
            assert!(
                read.is_err() || read.unwrap().is_empty(),
                "the secret shows"
            );
            for change in [
                Attribute::Extractable(true),
                Attribute::Sensitive(false),
                Attribute::Id(vec![1; 32]),
                Attribute::Derive(true),
            ] {
                let changed = session.update_attributes(key, std::slice::from_ref(&change));
                assert!(changed.is_err(), "{change:?}");
            }
            let fixed = session
                .get_attributes(key, &[AttributeType::Copyable, AttributeType::Modifiable])
                .unwrap();
            let never = [Attribute::Copyable(false), Attribute::Modifiable(false)];
            assert_eq!(fixed, never);
            for copy in [Attribute::Id(vec![1; 32]), Attribute::Token(false)] {
                let copied = session.copy_object(key, std::slice::from_ref(&copy));
                assert!(copied.is_err(), "copied with {copy:?}");
            }
            let wrapping = session
                .generate_key(
                    &Mechanism::AesKeyGen,
                    &[
                        Attribute::ValueLen(32.into()),
                        Attribute::Wrap(true),
                        Attribute::Token(false),
                    ],
                )
                .unwrap();
            let wrapped = session.wrap_key(&Mechanism::AesKeyWrapPad, wrapping, key);
            assert!(wrapped.is_err(), "wrapped");
        },
    );
}

#[test]
fn a_token_seals_no_secrets_of_others() {
    alone("pkcs11::a_token_seals_no_secrets_of_others", |token| {
        let vault = token.open();
        let sealed = block_on(vault.seal_secret("application a", b"secret"));
        assert!(matches!(sealed, Err(VaultError::NoSealing)));
        let opened = block_on(vault.open_secret("application a", &[0; 64]));
        assert!(matches!(opened, Err(VaultError::NoSealing)));
    });
}

#[test]
fn the_label_tells_people_whose_key_it_is() {
    alone("pkcs11::the_label_tells_people_whose_key_it_is", |token| {
        let vault = token.open();
        block_on(vault.create(&KeyId::Cryptlet(id(1)))).unwrap();
        block_on(vault.create(&KeyId::Cryptlet(id(1)))).unwrap();
        block_on(vault.create(&KeyId::Host)).unwrap();
        let session = token.session();
        let all = session.find_objects(&[Attribute::Class(ObjectClass::PRIVATE_KEY)]);
        let mut labels: Vec<_> = all
            .unwrap()
            .into_iter()
            .map(|key| {
                let label = session.get_attributes(key, &[AttributeType::Label]);
                match label.unwrap().as_slice() {
                    [Attribute::Label(bytes)] => String::from_utf8(bytes.clone()).unwrap(),
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        labels.sort();
        let cryptlet = format!("bletchley cryptlet {}", id(1));
        let expected = [
            format!("{cryptlet} key 1"),
            format!("{cryptlet} key 2"),
            "bletchley host".into(),
        ];
        assert_eq!(labels, expected);
    });
}

/// A host's key of the name that the vault would give it.
fn foreign_pair(session: &Session, extractable: bool, name: Vec<u8>) {
    let both = |more: Vec<Attribute>| {
        let mut all = vec![Attribute::Token(true), Attribute::Id(name.clone())];
        all.extend(more);
        all
    };
    let public = both(vec![
        Attribute::EcParams(SECP256K1.to_vec()),
        Attribute::Verify(true),
    ]);
    let private = both(vec![
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(extractable),
        Attribute::Sign(true),
        Attribute::Derive(false),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
    ]);
    session
        .generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private)
        .unwrap();
}

fn host_name() -> Vec<u8> {
    let mut name = b"BLT\x01\x01".to_vec();
    name.resize(32, 0);
    name
}

#[test]
fn a_key_that_may_be_taken_out_is_not_used() {
    alone("pkcs11::a_key_that_may_be_taken_out_is_not_used", |token| {
        foreign_pair(&token.session(), true, host_name());
        let error = Pkcs11Vault::open(token.config()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "key bletchley host of the token is not used: it may be taken out; remove it with the token's own tools"
        );
        assert!(!error.is_retryable());
    });
}

#[test]
fn a_key_that_was_not_made_in_the_token_is_not_used() {
    alone(
        "pkcs11::a_key_that_was_not_made_in_the_token_is_not_used",
        |token| {
            token
                .session()
                .create_object(&[
                    Attribute::Class(ObjectClass::PRIVATE_KEY),
                    Attribute::KeyType(cryptoki::object::KeyType::EC),
                    Attribute::Token(true),
                    Attribute::Private(true),
                    Attribute::Sensitive(true),
                    Attribute::Extractable(false),
                    Attribute::Sign(true),
                    Attribute::Id(host_name()),
                    Attribute::EcParams(SECP256K1.to_vec()),
                    Attribute::Value(vec![7; 32]),
                ])
                .unwrap();
            let error = Pkcs11Vault::open(token.config()).unwrap_err();
            assert!(matches!(error, VaultError::TokenKey { .. }), "{error}");
        },
    );
}

#[test]
fn two_keys_where_one_was_meant_are_refused() {
    alone(
        "pkcs11::two_keys_where_one_was_meant_are_refused",
        |token| {
            block_on(token.open().create(&KeyId::Host)).unwrap();
            let session = token.session();
            foreign_pair(&session, false, host_name());
            let error = Pkcs11Vault::open(token.config()).unwrap_err();
            assert!(error.to_string().contains("holds two"), "{error}");
        },
    );
}

#[test]
fn other_programs_keys_are_left_alone() {
    alone("pkcs11::other_programs_keys_are_left_alone", |token| {
        foreign_pair(&token.session(), true, vec![1]);
        let mut version_2 = host_name();
        version_2[3] = 2;
        foreign_pair(&token.session(), true, version_2);
        let vault = token.open();
        block_on(async {
            assert_eq!(vault.list().await.unwrap(), []);
            vault.create(&KeyId::Host).await.unwrap();
            assert_eq!(vault.list().await.unwrap().len(), 1);
        });
    });
}

#[test]
fn a_lost_login_is_told_and_made_good() {
    alone("pkcs11::a_lost_login_is_told_and_made_good", |token| {
        let vault = token.open();
        block_on(async {
            let host = vault.create(&KeyId::Host).await.unwrap();
            token.session().logout().unwrap();
            let lost = vault.sign(&KeyId::Host, B256::ZERO).await.unwrap_err();
            assert!(matches!(lost, VaultError::TokenLost(_)), "{lost}");
            assert!(lost.is_retryable());
            let signature = vault.sign(&KeyId::Host, B256::ZERO).await.unwrap();
            assert_eq!(recover(B256::ZERO, &signature), Ok(host));
        });
    });
}

#[test]
fn a_removed_token_is_told_as_long_as_it_is_gone() {
    alone(
        "pkcs11::a_removed_token_is_told_as_long_as_it_is_gone",
        |token| {
            let vault = token.open();
            block_on(async {
                vault.create(&KeyId::Host).await.unwrap();
                fs::rename(token.at("tokens"), token.at("away")).unwrap();
                for _ in 0..3 {
                    let lost = vault.create(&KeyId::Transmitter).await.unwrap_err();
                    assert!(lost.is_retryable(), "{lost:?}");
                }
            });
        },
    );
}

#[test]
fn a_refused_pin_is_not_tried_again() {
    alone("pkcs11::a_refused_pin_is_not_tried_again", |token| {
        let vault = token.open();
        block_on(async {
            vault.create(&KeyId::Host).await.unwrap();
            token.session().logout().unwrap();
            token.write_pin("not the PIN");
            vault.sign(&KeyId::Host, B256::ZERO).await.unwrap_err();
            let refused = vault.sign(&KeyId::Host, B256::ZERO).await.unwrap_err();
            assert!(matches!(refused, VaultError::PinRefused(_)), "{refused}");
            assert!(!refused.is_retryable() && !refused.to_string().contains("not the PIN"));
            // Even the right PIN is not tried before somebody has looked.
            token.write_pin(PIN);
            let again = vault.sign(&KeyId::Host, B256::ZERO).await.unwrap_err();
            assert!(matches!(again, VaultError::PinRefused(_)), "{again}");
            token.open().sign(&KeyId::Host, B256::ZERO).await.unwrap();
        });
    });
}

#[test]
fn a_wrong_pin_opens_nothing() {
    alone("pkcs11::a_wrong_pin_opens_nothing", |token| {
        token.write_pin("123456");
        let refused = Pkcs11Vault::open(token.config()).unwrap_err();
        assert!(matches!(refused, VaultError::PinRefused(_)), "{refused}");
    });
}

fn with_pin(token: &Token, pin: PinSource) -> Result<Pkcs11Vault, VaultError> {
    let config = token.config();
    Pkcs11Vault::open(Pkcs11Config { pin, ..config })
}

#[test]
fn the_pin_is_read_from_where_nobody_else_reads_it() {
    alone(
        "pkcs11::the_pin_is_read_from_where_nobody_else_reads_it",
        |token| {
            let file = token.at("pin");
            let place = || PinSource::File(file.clone());
            for mode in [0o640, 0o604, 0o660] {
                fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
                let error = with_pin(token, place()).unwrap_err();
                assert!(matches!(error, VaultError::Exposed { .. }), "{error}");
            }
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            let link = token.at("link");
            symlink(&file, &link).unwrap();
            let error = with_pin(token, PinSource::File(link)).unwrap_err();
            assert!(matches!(error, VaultError::NotRegular(_)), "{error}");
            for (text, reason) in [
                ("\n".to_owned(), "it is empty"),
                ("1".repeat(300), "it is longer than 256 bytes"),
            ] {
                fs::write(&file, text).unwrap();
                let error = with_pin(token, place()).unwrap_err();
                assert_eq!(
                    error.to_string(),
                    format!("no PIN in file {}: {reason}", file.display())
                );
            }
            let unset = PinSource::Environment("VAULT_TEST_NOT_SET".into());
            let error = with_pin(token, unset).unwrap_err();
            assert_eq!(
                error.to_string(),
                "no PIN in environment variable VAULT_TEST_NOT_SET: it is not set"
            );
            with_pin(token, PinSource::Environment(PIN_VARIABLE.into())).unwrap();
            fs::write(&file, format!("{PIN}\r\n")).unwrap();
            let vault = with_pin(token, place()).unwrap();
            assert!(!format!("{vault:?}").contains(PIN));
        },
    );
}

#[test]
fn the_token_is_the_one_that_is_named() {
    alone("pkcs11::the_token_is_the_one_that_is_named", |token| {
        let named = |label: &str| {
            let config = token.config();
            Pkcs11Vault::open(Pkcs11Config {
                token_label: label.into(),
                ..config
            })
        };
        let none = named("another").unwrap_err();
        assert!(matches!(none, VaultError::TokenCount { found: 0, .. }));
        assert!(none.is_retryable(), "it may be plugged in");
        named(LABEL).unwrap();
        token.initialise(LABEL);
        let two = named(LABEL).unwrap_err();
        assert!(matches!(two, VaultError::TokenCount { found: 2, .. }));
        assert!(!two.is_retryable());
    });
}

#[test]
fn a_module_that_is_none_is_named() {
    for path in ["/nowhere/libpkcs11.so", "/etc/passwd"] {
        let config = Pkcs11Config {
            module: path.into(),
            token_label: LABEL.into(),
            pin: PinSource::Environment(PIN_VARIABLE.into()),
        };
        let error = Pkcs11Vault::open(config).unwrap_err();
        assert!(
            matches!(&error, VaultError::Module { path: found, .. } if found == Path::new(path)),
            "{error}"
        );
        assert!(!error.is_retryable());
    }
}

#[test]
fn two_hosts_use_one_token() {
    alone("pkcs11::two_hosts_use_one_token", |token| {
        let (one, other) = (token.open(), token.open());
        block_on(async {
            let key = KeyId::Cryptlet(id(1));
            let first = one.create(&key).await.unwrap();
            assert_eq!(other.address(&key).await.unwrap(), first);
            let second = other.create(&key).await.unwrap();
            let both = [first, second];
            for vault in [&one, &other] {
                let listed = vault.list().await.unwrap();
                let listed: Vec<_> = listed.iter().map(|key| key.address).collect();
                assert_eq!(listed, both);
            }
        });
    });
}

#[test]
fn hosts_that_start_together_on_a_fresh_token_end_up_with_one_key_of_each_kind() {
    const HOSTS: usize = 3;
    let name =
        "pkcs11::hosts_that_start_together_on_a_fresh_token_end_up_with_one_key_of_each_kind";
    alone(name, |token| {
        for key in [KeyId::Host, KeyId::Transmitter, KeyId::Authority] {
            let ready = Barrier::new(HOSTS);
            let made: Vec<_> = thread::scope(|scope| {
                let hosts: Vec<_> = (0..HOSTS)
                    .map(|_| {
                        scope.spawn(|| {
                            let vault = token.open();
                            ready.wait();
                            let made = block_on(vault.create(&key));
                            (vault, made)
                        })
                    })
                    .collect();
                hosts.into_iter().map(|host| host.join().unwrap()).collect()
            });
            let kept: Vec<_> = made
                .iter()
                .filter_map(|(_, made)| made.as_ref().ok())
                .collect();
            assert!(kept.len() <= 1, "{key}: {kept:?}");
            // SoftHSM itself stumbles now and then over others who write at the same moment, and one may look while there are
            // two: who is refused starts again. Nobody may be locked out by what the others left.
            let later = token.open();
            let address = match block_on(later.address(&key)) {
                Err(VaultError::Unknown(_)) => block_on(later.create(&key)).unwrap(),
                known => known.unwrap(),
            };
            assert!(kept.iter().all(|kept| **kept == address), "{key}");
            for (vault, _) in &made {
                assert_eq!(block_on(vault.address(&key)).unwrap(), address, "{key}");
            }
        }
        let session = token.session();
        let left = [Attribute::Class(ObjectClass::PRIVATE_KEY)];
        assert_eq!(session.find_objects(&left).unwrap().len(), 3);
    });
}
