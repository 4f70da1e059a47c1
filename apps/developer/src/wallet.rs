//! The developer's own account: publisher, administrator or identity.
//!
//! A key comes from an Ethereum keystore file (version 3), or is one of the well-known development keys, which work on
//! development chains of this machine only. There is no way to hand one over in the clear.

use crate::{DeveloperError, Session};
use alloy::signers::SignerSync;
use alloy_primitives::{Address, B256, Bytes};
use alloy_signer_local::{MnemonicBuilder, PrivateKeySigner};
use std::{fmt, fs, path::Path};
use zeroize::Zeroizing;

/// The mnemonic of development accounts, known to everybody.
const DEVELOPMENT: &str = "test test test test test test test test test test test junk";
/// Most development accounts that a node has.
const MOST_ACCOUNTS: u32 = 100;
/// Largest keystore file, in bytes.
const MAX_KEYSTORE_BYTES: u64 = 64 << 10;

/// Most that a wallet pays for a unit of gas unless it is told otherwise: 500 gwei, in wei.
const MAX_FEE_PER_GAS: u128 = 500_000_000_000;

/// An account that can sign. Shows its address and nothing else.
#[derive(Clone)]
pub struct Wallet {
    signer: PrivateKeySigner,
    max_fee_per_gas: u128,
}

impl From<PrivateKeySigner> for Wallet {
    fn from(signer: PrivateKeySigner) -> Self {
        Self {
            signer,
            max_fee_per_gas: MAX_FEE_PER_GAS,
        }
    }
}

impl fmt::Debug for Wallet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wallet")
            .field("address", &self.address())
            .finish_non_exhaustive()
    }
}

impl Wallet {
    /// Opens a keystore file (version 3). Takes about a second: the password's key derivation is meant to be slow.
    ///
    /// # Errors
    /// [`DeveloperError::Wallet`] if it cannot be read, or the password is wrong.
    pub fn open(keystore: &Path, password: &Zeroizing<String>) -> Result<Self, DeveloperError> {
        let wrong =
            |reason: String| DeveloperError::Wallet(format!("{}: {reason}", keystore.display()));
        let size = fs::metadata(keystore).map_err(|error| wrong(error.to_string()))?;
        if !size.is_file() || size.len() > MAX_KEYSTORE_BYTES {
            return Err(wrong("is no keystore file".into()));
        }
        let signer = PrivateKeySigner::decrypt_keystore(keystore, password.as_bytes());
        signer
            .map(Self::from)
            .map_err(|error| wrong(error.to_string()))
    }

    /// One of the well-known development accounts, counted from 0.
    ///
    /// # Errors
    /// [`DeveloperError::NotDevelopment`] unless host and chains are on this machine and the chain is a development
    /// chain.
    pub fn development(index: u32, session: &Session) -> Result<Self, DeveloperError> {
        session.check_development()?;
        Self::well_known(index)
    }

    pub(crate) fn well_known(index: u32) -> Result<Self, DeveloperError> {
        if index >= MOST_ACCOUNTS {
            let reason = format!("there are development accounts 0 to {}", MOST_ACCOUNTS - 1);
            return Err(DeveloperError::Wallet(reason));
        }
        let builder = MnemonicBuilder::english().phrase(DEVELOPMENT).index(index);
        let signer = builder.and_then(|builder| builder.build());
        signer
            .map(Self::from)
            .map_err(|error| DeveloperError::Wallet(error.to_string()))
    }

    /// The account.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// The same account, paying at most so many wei for a unit of gas; it is 500 gwei otherwise.
    #[must_use]
    pub fn with_max_fee_per_gas(self, wei: u128) -> Self {
        Self {
            max_fee_per_gas: wei,
            ..self
        }
    }

    pub(crate) fn max_fee_per_gas(&self) -> u128 {
        self.max_fee_per_gas
    }

    /// Signs a digest: 65 bytes `r`, `s`, `v` with `v` of 27 or 28 and `s` in the lower half.
    ///
    /// # Errors
    /// [`DeveloperError::Wallet`]; none in practice.
    pub fn sign(&self, digest: B256) -> Result<Bytes, DeveloperError> {
        let signature = self.signer.sign_hash_sync(&digest);
        signature
            .map(|signature| signature.as_bytes().to_vec().into())
            .map_err(|error| DeveloperError::Wallet(error.to_string()))
    }

    pub(crate) fn signer(&self) -> &PrivateKeySigner {
        &self.signer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::address;
    use cryptlet_seal::recover;
    use cryptlet_types::report::CompactSignature;

    /// Test vector of the Web3 Secret Storage definition (PBKDF2), password `testpassword`.
    const KEYSTORE: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},
        "ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2",
        "kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},
        "mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    fn password(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    #[test]
    fn a_keystore_opens_with_its_password_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.json");
        fs::write(&file, KEYSTORE).unwrap();
        let wallet = Wallet::open(&file, &password("testpassword")).unwrap();
        let known = address!("008aeeda4d805471df9b2a5b0f38a0c3bcba786b");
        assert_eq!(wallet.address(), known);
        let error = Wallet::open(&file, &password("testpasswor")).unwrap_err();
        assert!(matches!(&error, DeveloperError::Wallet(_)), "{error}");
        assert!(!error.to_string().contains("testpasswor"), "{error}");
        assert!(Wallet::open(folder.path(), &password("x")).is_err());
        assert!(Wallet::open(&folder.path().join("none"), &password("x")).is_err());
    }

    #[test]
    fn development_accounts_are_those_of_every_development_node() {
        let first = Wallet::well_known(0).unwrap();
        let known = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        assert_eq!(first.address(), known);
        assert!(Wallet::well_known(100).is_err());
        assert!(!format!("{first:?}").contains("ac0974"));
    }

    #[test]
    fn a_signature_has_the_form_that_contracts_take() {
        let wallet = Wallet::well_known(1).unwrap();
        let digest = B256::repeat_byte(7);
        let signature = wallet.sign(digest).unwrap();
        let (v, rs) = signature.split_last().unwrap();
        assert!(matches!(v, 27 | 28));
        let (r, s) = rs.split_at(32);
        let mut vs = B256::from_slice(s);
        vs.0[0] |= (v - 27) << 7;
        let compact = CompactSignature {
            r: B256::from_slice(r),
            vs,
        };
        assert_eq!(recover(digest, &compact).unwrap(), wallet.address());
    }
}
