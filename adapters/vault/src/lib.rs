//! The vault: where private keys lie, by registration address.
//!
//! Every key has one use. The host's and the transmitter's sign digests, the authority's signs the
//! certificates of the host's own clients, a cryptlet's signs reports and nothing else. None leaves the vault
//! in the clear.
//!
//! A cryptlet has a key for each of its versions: [`Vault::create`] adds one, the newest is current, and the
//! earlier ones stay usable by their address until they are retired. What a region is given depends on the
//! back end ([`KeyGrant`]):
//!
//! | | cryptlet's key | who signs a report |
//! |---|---|---|
//! | [`FileVault`], a sealed file | released, wrapped (HPKE) to one region whose evidence holds | the region |
//! | [`Pkcs11Vault`], a PKCS#11 token | never leaves the token | the token, when evidence and the region's own signature hold |
//!
//! A sealed file also seals secrets that the host keeps for others ([`Vault::seal_secret`]), such as those that it shares
//! with applications; a token refuses, because a secret that comes out of it would lie in the host's memory all the same
//! while its operator believes it to be in the token.
//!
//! Keys of secret code are such secrets, which go to regions and to nobody else ([`Vault::release_code_key`]).
//!
//! A sealed file keeps a seal for each cryptlet and measurement as well ([`cryptlet_seal::sealed`]): what a region promised is
//! handed on to its successor in an image that [`Images`] keeps, and the vault knows which image is the last
//! ([`Vault::advance`]). A token refuses.
//!
//! Either way the vault looks at the evidence itself. What a caller *expects* of the evidence (measurement,
//! challenge, host, age) is the caller's word: the vault trusts the host that it belongs to.

mod approve;
mod error;
mod file;
mod format;
mod images;
mod key_id;
mod keys;
mod pkcs11;
mod storage;

pub use error::{Result, VaultError};
pub use file::{FileVault, Unlock};
pub use format::KdfCost;
pub use images::Images;
pub use key_id::{KeyId, KeyRecord, KeyState};
pub use pkcs11::{PinSource, Pkcs11Config, Pkcs11Vault};

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use cryptlet_seal::{CodeKey, evidence::Expected, secret_code::code_binding, wrap};
use cryptlet_types::{
    CryptletId, Evidence, Measurement, Sha256Digest,
    region::{KeyGrant, RegionStatement, WrappedKey},
    report::CompactSignature,
};
use zeroize::Zeroizing;

/// Keeps private keys and uses them. No method gives a key away in the clear. Secrets that a host shares with others are
/// not keys of the vault: it seals them and gives them back ([`Vault::seal_secret`]).
#[async_trait]
pub trait Vault: Send + Sync {
    /// Makes a key and returns its address: a cryptlet's next key, which is current from now on, or the only
    /// one of another kind. No key is ever replaced.
    ///
    /// # Errors
    /// [`VaultError::Exists`], or that the vault could not be written; then there is no such key. There is one after
    /// [`VaultError::Unsynced`], and there may be one after a failure of a token ([`VaultError::TokenLost`]): look with
    /// [`Vault::list`].
    async fn create(&self, key: &KeyId) -> Result<Address>;

    /// Address of a key: of a cryptlet's, the current one. The authority's is derived from its P-256 point as
    /// the others' are from theirs; it only names the key.
    ///
    /// # Errors
    /// [`VaultError::Unknown`].
    async fn address(&self, key: &KeyId) -> Result<Address>;

    /// Signs 32 bytes with the host's or the transmitter's key.
    ///
    /// # Errors
    /// [`VaultError::Unknown`], or [`VaultError::NotForSigning`] for any other key.
    async fn sign(&self, key: &KeyId, digest: B256) -> Result<CompactSignature>;

    /// Lets the region that `evidence` speaks of sign as `signer`, if the evidence is what is expected: the key
    /// wrapped to it and bound to measurement, region key and challenge ([`cryptlet_seal::key_binding`]), with the seal for
    /// this measurement where the vault keeps seals ([`cryptlet_seal::sealed::Release`]); or word that the key stays here
    /// ([`Vault::sign_report`]).
    ///
    /// # Errors
    /// [`VaultError::Refused`] if the evidence is not what is expected, [`VaultError::UnknownSigner`], or that the vault could
    /// not be written: the first grant for a measurement makes its seal.
    async fn grant(
        &self,
        cryptlet: CryptletId,
        signer: Address,
        evidence: &Evidence,
        expected: &Expected<'_>,
    ) -> Result<KeyGrant>;

    /// Signs the report that `statement` names, if the evidence is what is expected and the region that it
    /// speaks of signed the statement about the same measurement.
    ///
    /// # Errors
    /// [`VaultError::Refused`] for evidence or a region's signature that does not hold,
    /// [`VaultError::UnknownSigner`], [`VaultError::NotForSigning`] where cryptlets' keys sign in regions.
    async fn sign_report(
        &self,
        cryptlet: CryptletId,
        signer: Address,
        evidence: &Evidence,
        expected: &Expected<'_>,
        statement: &RegionStatement,
        region_signature: &CompactSignature,
    ) -> Result<CompactSignature>;

    /// Destroys one of a cryptlet's earlier keys, once the register knows it as revoked. Copies of the vault
    /// that were made before still hold it.
    ///
    /// # Errors
    /// [`VaultError::StillCurrent`], [`VaultError::UnknownSigner`], or that the vault could not be written; after
    /// [`VaultError::Unsynced`] the key is gone.
    async fn retire(&self, cryptlet: CryptletId, signer: Address) -> Result<()>;

    /// Destroys a key of a cryptlet that no version ever used, the current one too; the one before is current then, if there
    /// is one.
    ///
    /// # Errors
    /// [`VaultError::UnknownSigner`], or that the vault could not be written.
    async fn discard(&self, cryptlet: CryptletId, signer: Address) -> Result<()>;

    /// The authority's public key: P-256, uncompressed (SEC 1).
    ///
    /// # Errors
    /// [`VaultError::Unknown`] as long as the key was not made.
    async fn authority_public(&self) -> Result<[u8; 65]>;

    /// The authority's signature over `message`: ECDSA on P-256 with SHA-256, DER (RFC 3279).
    ///
    /// # Errors
    /// [`VaultError::Unknown`] as long as the key was not made.
    async fn sign_authority(&self, message: &[u8]) -> Result<Vec<u8>>;

    /// All keys, ordered by [`KeyId`], a cryptlet's from the oldest to the current one.
    ///
    /// # Errors
    /// None with a sealed file; a token may be out of reach.
    async fn list(&self) -> Result<Vec<KeyRecord>>;

    /// Encrypts a secret of somebody else, so that the host can keep it in a file. Only this vault opens it again, and
    /// only for the same `context`: say in it what the secret is for. What opens the vault may change in between.
    ///
    /// # Errors
    /// [`VaultError::NoSealing`] where keys lie in a token, or that the vault could not be written.
    async fn seal_secret(&self, _context: &str, _secret: &[u8]) -> Result<Vec<u8>> {
        Err(VaultError::NoSealing)
    }

    /// Decrypts what [`Vault::seal_secret`] made.
    ///
    /// # Errors
    /// [`VaultError::NotSealedHere`] if it is another vault's, of another context, or was altered;
    /// [`VaultError::NoSealing`] where keys lie in a token.
    async fn open_secret(&self, _context: &str, _sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>> {
        Err(VaultError::NoSealing)
    }

    /// Encrypts the key of a package's secret code, so that the host can keep it in a file.
    ///
    /// # Errors
    /// As [`Vault::seal_secret`].
    async fn seal_code_key(&self, package: Sha256Digest, key: &CodeKey) -> Result<Vec<u8>> {
        self.seal_secret(&code_context(package), key.bytes()).await
    }

    /// Whether `key` is the one that [`Vault::seal_code_key`] sealed, compared in constant time.
    ///
    /// # Errors
    /// As [`Vault::open_secret`].
    async fn is_code_key(
        &self,
        package: Sha256Digest,
        sealed: &[u8],
        key: &CodeKey,
    ) -> Result<bool> {
        let known = self.open_secret(&code_context(package), sealed).await?;
        Ok(CodeKey::from_bytes(&known)? == *key)
    }

    /// Whether the key that [`Vault::seal_code_key`] sealed is the one under which the component with the digest `code` was encrypted
    /// to `encrypted`. Nothing is decrypted.
    ///
    /// # Errors
    /// As [`Vault::open_secret`].
    async fn fits_code(
        &self,
        package: Sha256Digest,
        sealed: &[u8],
        encrypted: &[u8],
        code: Sha256Digest,
    ) -> Result<bool> {
        let known = self.open_secret(&code_context(package), sealed).await?;
        Ok(CodeKey::from_bytes(&known)?.made(encrypted, code))
    }

    /// Gives the key of a package's secret code, as [`Vault::seal_code_key`] made it, to who `evidence` speaks of, if that is what is
    /// expected: wrapped to it, and bound to measurement, region key and challenge.
    ///
    /// # Errors
    /// [`VaultError::Refused`] if the evidence is not what is expected; [`VaultError::NotSealedHere`] if the key is another vault's, of
    /// another package, or was altered; [`VaultError::NoSealing`] where keys lie in a token.
    async fn release_code_key(
        &self,
        cryptlet: CryptletId,
        package: Sha256Digest,
        sealed: &[u8],
        evidence: &Evidence,
        expected: &Expected<'_>,
    ) -> Result<WrappedKey> {
        approve::region(cryptlet, evidence, expected)?;
        let key = self.open_secret(&code_context(package), sealed).await?;
        let statement = &evidence.statement;
        let wrapped = wrap(statement.exchange_key, &code_binding(statement), &key)?;
        Ok(wrapped)
    }

    /// SHA-256 of the last sealed image of a cryptlet under a measurement; `None` before there is any.
    ///
    /// # Errors
    /// [`VaultError::NoSealing`] where keys lie in a token.
    async fn last_image(
        &self,
        _cryptlet: CryptletId,
        _measurement: Measurement,
    ) -> Result<Option<Sha256Digest>> {
        Err(VaultError::NoSealing)
    }

    /// Takes `image` as the last sealed image, if a region sealed it with the seal of this cryptlet and measurement and it
    /// follows the last one: compare and set, durable when it returns. Returns its counter. No image before it is good for
    /// anything afterwards.
    ///
    /// # Errors
    /// [`VaultError::Image`] for any other image, [`VaultError::NoSeal`], or that the vault could not be written; after
    /// [`VaultError::Unsynced`] it is taken. [`VaultError::NoSealing`] where keys lie in a token.
    async fn advance(
        &self,
        _cryptlet: CryptletId,
        _measurement: Measurement,
        _image: &[u8],
    ) -> Result<u64> {
        Err(VaultError::NoSealing)
    }

    /// Destroys the seal of a cryptlet under a measurement: no image of it opens any more, and the next region begins without
    /// one. An operator's decision, for an image that was lost: what earlier regions promised is forgotten.
    ///
    /// # Errors
    /// [`VaultError::NoSeal`], or that the vault could not be written; after [`VaultError::Unsynced`] it is destroyed.
    /// [`VaultError::NoSealing`] where keys lie in a token.
    async fn reset_sealed(&self, _cryptlet: CryptletId, _measurement: Measurement) -> Result<()> {
        Err(VaultError::NoSealing)
    }
}

/// What a code's key is sealed for.
fn code_context(package: Sha256Digest) -> String {
    format!("code key of {package}")
}
