//! What every back end promises: the same tests, over a sealed file and over a token.

use crate::{
    Place,
    attested::{Attested, MEASURED},
    block_on,
    file::Place as FilePlace,
    id, softhsm,
};
use alloy_primitives::{Address, B256, U256, keccak256, uint};
use cryptlet_seal::{
    CodeKey, key_binding, recover, sealed::SealedError, secret_code::code_binding, sha256,
};
use cryptlet_types::region::KeyGrant;
use cryptlet_vault::{KeyId, KeyRecord, KeyState, Vault, VaultError};
use p256::ecdsa::{DerSignature, VerifyingKey, signature::Verifier};

macro_rules! conforms {
    ($($promise:ident,)*) => {
        mod a_sealed_file {
            use super::*;
            $(#[test]
            fn $promise() {
                block_on(super::$promise(&FilePlace::new()));
            })*
        }
        mod a_token {
            use super::*;
            $(#[test]
            fn $promise() {
                let name = concat!("conformance::a_token::", stringify!($promise));
                softhsm::alone(name, |token| block_on(super::$promise(token)));
            })*
        }
    };
}

conforms! {
    keys_survive_and_sign_under_their_address,
    no_key_is_replaced,
    what_is_not_there_is_said_to_be_missing,
    every_key_has_one_use,
    signatures_are_as_chains_check_them,
    the_authority_signs_certificates,
    rotation_keeps_earlier_keys_until_they_are_retired,
    a_key_that_was_never_used_can_be_discarded,
    cryptlets_do_not_share_signers,
    grants_need_evidence_that_holds,
    keys_of_secret_code_go_to_what_is_believed_or_are_not_kept,
    sealed_state_goes_on_and_never_back_or_is_refused,
    a_reset_forgets_and_is_said_twice_in_vain,
    callers_do_not_disturb_each_other,
}

type Named = (KeyId, Address, KeyState);

/// All keys, each of whose public key has the address that is said of it.
async fn list(vault: &dyn Vault) -> Vec<Named> {
    let named = |known: KeyRecord| {
        let [form, coordinates @ ..] = known.public_key;
        assert_eq!(form, 4, "uncompressed");
        let address = Address::from_word(keccak256(coordinates));
        assert_eq!(address, known.address);
        (known.id, known.address, known.state)
    };
    let all = vault.list().await.unwrap();
    all.into_iter().map(named).collect()
}

async fn keys_survive_and_sign_under_their_address(place: &dyn Place) {
    let vault = place.reopen();
    assert_eq!(list(&*vault).await, []);
    let mine = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
    let authority = vault.create(&KeyId::Authority).await.unwrap();
    let transmitter = vault.create(&KeyId::Transmitter).await.unwrap();
    let host = vault.create(&KeyId::Host).await.unwrap();
    let expected = [
        (KeyId::Host, host, KeyState::Current),
        (KeyId::Transmitter, transmitter, KeyState::Current),
        (KeyId::Authority, authority, KeyState::Current),
        (KeyId::Cryptlet(id(1)), mine, KeyState::Current),
    ];
    assert_eq!(list(&*vault).await, expected);
    drop(vault);

    let vault = place.reopen();
    assert_eq!(list(&*vault).await, expected);
    for known in expected {
        assert_eq!(vault.address(&known.0).await.unwrap(), known.1);
    }
    for (key, address) in [(KeyId::Host, host), (KeyId::Transmitter, transmitter)] {
        let digest = B256::repeat_byte(7);
        let signature = vault.sign(&key, digest).await.unwrap();
        assert_eq!(recover(digest, &signature), Ok(address));
    }
}

async fn no_key_is_replaced(place: &dyn Place) {
    let vault = place.reopen();
    for key in [KeyId::Host, KeyId::Transmitter, KeyId::Authority] {
        let first = vault.create(&key).await.unwrap();
        let again = vault.create(&key).await.unwrap_err();
        assert!(matches!(again, VaultError::Exists(found) if found == key));
        assert!(!again.is_retryable());
        assert_eq!(vault.address(&key).await.unwrap(), first);
    }
    drop(vault);
    let again = place.reopen().create(&KeyId::Host).await;
    assert!(matches!(again, Err(VaultError::Exists(KeyId::Host))));
}

async fn what_is_not_there_is_said_to_be_missing(place: &dyn Place) {
    let vault = place.reopen();
    let unknown = |error: VaultError, key| {
        assert!(matches!(error, VaultError::Unknown(found) if found == key));
    };
    for key in [KeyId::Host, KeyId::Authority, KeyId::Cryptlet(id(1))] {
        unknown(vault.address(&key).await.unwrap_err(), key);
    }
    let signed = vault.sign(&KeyId::Transmitter, B256::ZERO).await;
    unknown(signed.unwrap_err(), KeyId::Transmitter);
    unknown(
        vault.authority_public().await.unwrap_err(),
        KeyId::Authority,
    );
    let signed = vault.sign_authority(b"certificate").await;
    unknown(signed.unwrap_err(), KeyId::Authority);
}

async fn every_key_has_one_use(place: &dyn Place) {
    let vault = place.reopen();
    for key in [KeyId::Authority, KeyId::Cryptlet(id(1))] {
        vault.create(&key).await.unwrap();
        let signed = vault.sign(&key, B256::ZERO).await;
        assert!(matches!(signed, Err(VaultError::NotForSigning(found)) if found == key));
    }
    // No other key can be had as a cryptlet's.
    let host = vault.create(&KeyId::Host).await.unwrap();
    let region = Attested::new();
    let granted = vault
        .grant(id(1), host, &region.evidence, &region.expected())
        .await;
    assert!(matches!(granted, Err(VaultError::UnknownSigner { .. })));
}

async fn signatures_are_as_chains_check_them(place: &dyn Place) {
    const HALF_ORDER: U256 =
        uint!(0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0_U256);
    let vault = place.reopen();
    let address = vault.create(&KeyId::Transmitter).await.unwrap();
    let mut parities = [0; 2];
    for n in 0..64u8 {
        let digest = B256::repeat_byte(n);
        let signature = vault.sign(&KeyId::Transmitter, digest).await.unwrap();
        let s = U256::from_be_bytes(signature.vs.0) & (U256::MAX >> 1);
        assert!(s <= HALF_ORDER, "s of {digest} is in the upper half");
        assert_eq!(recover(digest, &signature), Ok(address));
        parities[usize::from(signature.vs.0[0] >> 7)] += 1;
    }
    assert!(parities[0] > 0 && parities[1] > 0, "{parities:?}");
}

async fn the_authority_signs_certificates(place: &dyn Place) {
    let vault = place.reopen();
    let address = vault.create(&KeyId::Authority).await.unwrap();
    let public = vault.authority_public().await.unwrap();
    drop(vault);
    let vault = place.reopen();
    assert_eq!(vault.authority_public().await.unwrap(), public);
    assert_eq!(address, Address::from_raw_public_key(&public[1..]));
    let key = VerifyingKey::from_sec1_bytes(&public).unwrap();
    for message in [b"".as_slice(), b"to be signed", &[7; 4096]] {
        let der = vault.sign_authority(message).await.unwrap();
        let signature = DerSignature::try_from(der.as_slice()).unwrap();
        key.verify(message, &signature).unwrap();
        assert!(key.verify(b"something else", &signature).is_err());
    }
}

async fn grant(vault: &dyn Vault, n: u64, signer: Address) -> Result<KeyGrant, VaultError> {
    let region = Attested::new();
    vault
        .grant(id(n), signer, &region.evidence, &region.expected())
        .await
}

async fn rotation_keeps_earlier_keys_until_they_are_retired(place: &dyn Place) {
    let vault = place.reopen();
    let key = KeyId::Cryptlet(id(1));
    let mut made = vec![];
    for _ in 0..3 {
        made.push(vault.create(&key).await.unwrap());
        assert_eq!(vault.address(&key).await.unwrap(), *made.last().unwrap());
    }
    drop(vault);

    let vault = place.reopen();
    assert_eq!(vault.address(&key).await.unwrap(), made[2]);
    let listed = [
        (key, made[0], KeyState::Earlier),
        (key, made[1], KeyState::Earlier),
        (key, made[2], KeyState::Current),
    ];
    assert_eq!(list(&*vault).await, listed);
    for signer in &made {
        grant(&*vault, 1, *signer).await.unwrap();
    }

    let current = vault.retire(id(1), made[2]).await;
    assert!(matches!(current, Err(VaultError::StillCurrent { .. })));
    vault.retire(id(1), made[0]).await.unwrap();
    let mut vault = vault;
    for _ in 0..2 {
        let gone = grant(&*vault, 1, made[0]).await;
        assert!(matches!(gone, Err(VaultError::UnknownSigner { .. })));
        grant(&*vault, 1, made[1]).await.unwrap();
        assert_eq!(list(&*vault).await, listed[1..]);
        let again = vault.retire(id(1), made[0]).await;
        assert!(matches!(again, Err(VaultError::UnknownSigner { .. })));
        drop(vault);
        vault = place.reopen();
    }
    let next = vault.create(&key).await.unwrap();
    assert!(!made.contains(&next));
    vault.retire(id(1), made[2]).await.unwrap();
    let left = [
        (key, made[1], KeyState::Earlier),
        (key, next, KeyState::Current),
    ];
    assert_eq!(list(&*vault).await, left);
}

async fn a_key_that_was_never_used_can_be_discarded(place: &dyn Place) {
    let vault = place.reopen();
    let key = KeyId::Cryptlet(id(1));
    let first = vault.create(&key).await.unwrap();
    let second = vault.create(&key).await.unwrap();
    vault.discard(id(1), second).await.unwrap();
    assert_eq!(vault.address(&key).await.unwrap(), first);
    let again = vault.discard(id(1), second).await;
    assert!(matches!(again, Err(VaultError::UnknownSigner { .. })));
    vault.discard(id(1), first).await.unwrap();
    drop(vault);
    let vault = place.reopen();
    assert_eq!(list(&*vault).await, []);
    let next = vault.create(&key).await.unwrap();
    assert_eq!(list(&*vault).await, [(key, next, KeyState::Current)]);
}

async fn cryptlets_do_not_share_signers(place: &dyn Place) {
    let vault = place.reopen();
    let first = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
    let second = vault.create(&KeyId::Cryptlet(id(2))).await.unwrap();
    for (n, signer) in [(1, second), (2, first), (3, first), (1, Address::ZERO)] {
        let granted = grant(&*vault, n, signer).await.unwrap_err();
        assert!(matches!(
            granted,
            VaultError::UnknownSigner { cryptlet, signer: asked } if cryptlet == id(n) && asked == signer
        ));
        let retired = vault.retire(id(n), signer).await;
        assert!(matches!(retired, Err(VaultError::UnknownSigner { .. })));
    }
    grant(&*vault, 1, first).await.unwrap();
    grant(&*vault, 2, second).await.unwrap();
}

async fn grants_need_evidence_that_holds(place: &dyn Place) {
    let vault = place.reopen();
    let signer = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
    let region = Attested::new();
    for (forgery, evidence, expected) in region.forgeries() {
        let granted = vault.grant(id(1), signer, &evidence, &expected).await;
        assert!(
            matches!(granted, Err(VaultError::Refused { cryptlet, .. }) if cryptlet == id(1)),
            "{forgery}: {granted:?}"
        );
    }
    let mut strict = region.policy.clone();
    strict.controls.push("landlock".into());
    let mut expected = region.expected();
    expected.policy = &strict;
    let granted = vault
        .grant(id(1), signer, &region.evidence, &expected)
        .await;
    assert!(matches!(granted, Err(VaultError::Refused { .. })));

    let granted = vault
        .grant(id(1), signer, &region.evidence, &region.expected())
        .await
        .unwrap();
    match granted {
        KeyGrant::InVault { signer: told } => assert_eq!(told, signer),
        KeyGrant::Wrapped(wrapped) => {
            let binding = key_binding(&region.evidence.statement);
            let released = region.open(&wrapped);
            let key = cryptlet_seal::SigningKey::from_secret(&released.key).unwrap();
            assert_eq!(key.address(), signer);
            let other = Attested::new().exchange.open(&wrapped, &binding);
            assert!(other.is_err(), "another region opens it");
        }
    }
}

/// A token keeps none, and says so.
async fn keys_of_secret_code_go_to_what_is_believed_or_are_not_kept(place: &dyn Place) {
    let vault = place.reopen();
    let (package, other) = (sha256(b"package"), sha256(b"another"));
    let (key, code) = (CodeKey::from_bytes(&[5; 32]).unwrap(), sha256(b"code"));
    let encrypted = key.encrypt(b"code").unwrap();
    let region = Attested::new();
    let sealed = match vault.seal_code_key(package, &key).await {
        Ok(sealed) => sealed,
        Err(refused) => {
            assert!(matches!(refused, VaultError::NoSealing), "{refused}");
            let (evidence, expected) = (&region.evidence, region.expected());
            let released = vault.release_code_key(id(1), package, &[0; 64], evidence, &expected);
            assert!(matches!(released.await, Err(VaultError::NoSealing)));
            return;
        }
    };
    assert!(
        !sealed.windows(8).any(|part| part == [5; 8]),
        "in the clear"
    );
    drop(vault);
    let vault = place.reopen();
    let wrong = CodeKey::from_bytes(&[6; 32]).unwrap();
    assert!(vault.is_code_key(package, &sealed, &key).await.unwrap());
    assert!(!vault.is_code_key(package, &sealed, &wrong).await.unwrap());
    let fits = async |encrypted: &[u8], code| {
        let fits = vault.fits_code(package, &sealed, encrypted, code).await;
        fits.unwrap()
    };
    assert!(fits(&encrypted, code).await);
    assert!(!fits(&encrypted, other).await);
    assert!(!fits(&wrong.encrypt(b"code").unwrap(), code).await);

    for (forgery, evidence, expected) in region.forgeries() {
        let released = vault.release_code_key(id(1), package, &sealed, &evidence, &expected);
        let released = released.await;
        assert!(
            matches!(released, Err(VaultError::Refused { cryptlet, .. }) if cryptlet == id(1)),
            "{forgery}: {released:?}"
        );
    }
    let mut altered = sealed.clone();
    altered[20] ^= 1;
    for (package, sealed) in [(other, &sealed), (package, &altered)] {
        let (evidence, expected) = (&region.evidence, region.expected());
        let released = vault.release_code_key(id(1), package, sealed, evidence, &expected);
        assert!(matches!(released.await, Err(VaultError::NotSealedHere(_))));
    }
    let (evidence, expected) = (&region.evidence, region.expected());
    let released = vault.release_code_key(id(1), package, &sealed, evidence, &expected);
    let released = released.await.unwrap();
    let binding = code_binding(&region.evidence.statement);
    let opened = region.exchange.open(&released, &binding).unwrap();
    assert_eq!(opened.as_slice(), key.bytes());
    let as_signing_key = key_binding(&region.evidence.statement);
    assert!(region.exchange.open(&released, &as_signing_key).is_err());
    assert!(Attested::new().exchange.open(&released, &binding).is_err());
}

/// Compare and set, durable: what was taken is the last after a restart too. A token keeps no seals, and says so.
async fn sealed_state_goes_on_and_never_back_or_is_refused(place: &dyn Place) {
    let mut vault = place.reopen();
    let signer = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
    vault.create(&KeyId::Cryptlet(id(2))).await.unwrap();
    let region = Attested::new();
    let Some(first) = region.seal(&*vault, id(1), signer).await else {
        let last = vault.last_image(id(1), MEASURED).await.unwrap_err();
        let taken = vault.advance(id(1), MEASURED, b"image").await.unwrap_err();
        for refused in [last, taken] {
            assert!(matches!(refused, VaultError::NoSealing), "{refused}");
        }
        return;
    };
    assert_eq!(first.counter, 0);
    assert_eq!(vault.last_image(id(1), MEASURED).await.unwrap(), None);
    let (mut seal, mut images) = (first, vec![]);
    for n in 1..=3u64 {
        let image = seal.close(MEASURED, b"promises").unwrap();
        // A second region that had the same grant: the vault takes one image.
        let twin = seal.close(MEASURED, b"other promises").unwrap();
        assert_eq!(vault.advance(id(1), MEASURED, &image).await.unwrap(), n);
        images.push(image);
        drop(vault);
        vault = place.reopen();
        let last = vault.last_image(id(1), MEASURED).await.unwrap();
        assert_eq!(last, images.last().map(|image| sha256(image)));
        for old in images.iter().chain([&twin]) {
            let back = vault.advance(id(1), MEASURED, old).await.unwrap_err();
            assert!(
                matches!(&back, VaultError::Image { cryptlet, source: SealedError::RolledBack { last, .. } }
                    if *cryptlet == id(1) && *last == n),
                "{back}"
            );
            assert!(!back.is_retryable());
        }
        let next = region.seal(&*vault, id(1), signer).await.unwrap();
        assert_eq!((next.counter, &next.key), (n, &seal.key), "one key");
        let opened = next.open(MEASURED, images.last().map(Vec::as_slice));
        assert_eq!(opened.unwrap().unwrap().as_slice(), b"promises");
        seal = next;
    }
    let mut forged = seal.close(MEASURED, b"promises").unwrap();
    *forged.last_mut().unwrap() ^= 1;
    let refused = vault.advance(id(1), MEASURED, &forged).await;
    assert!(matches!(refused, Err(VaultError::Image { .. })));
    // Each cryptlet has its own seal, once something was granted to it.
    let image = seal.close(MEASURED, b"promises").unwrap();
    let none = vault.advance(id(2), MEASURED, &image).await;
    assert!(matches!(none, Err(VaultError::NoSeal { cryptlet, .. }) if cryptlet == id(2)));
    let second = vault.address(&KeyId::Cryptlet(id(2))).await.unwrap();
    let other = region.seal(&*vault, id(2), second).await.unwrap();
    assert_ne!(other.key, seal.key);
    let refused = vault.advance(id(2), MEASURED, &image).await;
    assert!(matches!(
        refused,
        Err(VaultError::Image {
            source: SealedError::OtherCryptlet { .. },
            ..
        })
    ));
}

async fn a_reset_forgets_and_is_said_twice_in_vain(place: &dyn Place) {
    let vault = place.reopen();
    let signer = vault.create(&KeyId::Cryptlet(id(1))).await.unwrap();
    let region = Attested::new();
    let Some(seal) = region.seal(&*vault, id(1), signer).await else {
        let reset = vault.reset_sealed(id(1), MEASURED).await;
        assert!(matches!(reset, Err(VaultError::NoSealing)));
        return;
    };
    let image = seal.close(MEASURED, b"promises").unwrap();
    vault.advance(id(1), MEASURED, &image).await.unwrap();
    vault.reset_sealed(id(1), MEASURED).await.unwrap();
    let again = vault.reset_sealed(id(1), MEASURED).await;
    assert!(matches!(again, Err(VaultError::NoSeal { .. })));
    drop(vault);
    let vault = place.reopen();
    assert_eq!(vault.last_image(id(1), MEASURED).await.unwrap(), None);
    let fresh = region.seal(&*vault, id(1), signer).await.unwrap();
    assert_eq!(fresh.counter, 0);
    let taken = vault.advance(id(1), MEASURED, &image).await;
    assert!(
        matches!(
            taken,
            Err(VaultError::Image {
                source: SealedError::Altered,
                ..
            })
        ),
        "the key is gone with the image"
    );
}

async fn callers_do_not_disturb_each_other(place: &dyn Place) {
    let vault = place.reopen();
    let host = vault.create(&KeyId::Host).await.unwrap();
    let work = (0..24u8).map(|n| {
        let vault = vault.clone();
        tokio::spawn(async move {
            if n % 3 == 0 {
                return Some(vault.create(&KeyId::Cryptlet(id(1))).await.unwrap());
            }
            let digest = B256::repeat_byte(n);
            let signature = vault.sign(&KeyId::Host, digest).await.unwrap();
            assert_eq!(recover(digest, &signature), Ok(host));
            None
        })
    });
    let mut made = vec![];
    for done in work.collect::<Vec<_>>() {
        made.extend(done.await.unwrap());
    }
    let listed = vault.list().await.unwrap();
    let mut listed: Vec<_> = listed.iter().skip(1).map(|key| key.address).collect();
    listed.sort();
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 8);
    assert_eq!(listed, made);
}
