//! Why a vault said no. Nothing here carries a secret.

use crate::KeyId;
use alloy_primitives::Address;
use cryptlet_seal::{SealError, sealed::SealedError};
use cryptlet_types::{CryptletId, Measurement};
use std::{io, path::PathBuf};

/// Result of a vault operation.
pub type Result<T> = std::result::Result<T, VaultError>;

/// Why a vault said no.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// Another process, or another part of this one, has the vault open.
    #[error("vault {0} is in use by another process")]
    InUse(PathBuf),
    /// A file could not be read or written. After a failed write the old file is in place, and nothing was changed.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The new file is in place and the change is made, but the disk did not confirm it: the old file may be back after a
    /// power failure. The same call again would make the change twice.
    #[error(
        "{path} was replaced, but its folder could not be synchronised: {source}; see to the disk before you rely on the change"
    )]
    Unsynced {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there already and is not overwritten.
    #[error("{0} exists already and is not overwritten")]
    FileExists(PathBuf),
    /// Others than the owner may read or write the file.
    #[error("{path} has mode {mode:03o}: others may read it; chmod 600 it")]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is not a vault, or is cut short, or asks for more than a vault may.
    #[error("{path} is not a vault: {reason}")]
    NotAVault {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Others than the owner may put another file in the place of this one.
    #[error("folder {path} has mode {mode:04o}: others may replace the files in it; chmod go-w it")]
    ExposedFolder {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A file or its folder belongs to somebody else.
    #[error("{path} belongs to user {owner}, not to the one who runs this; chown it")]
    OthersFile {
        /// File or folder.
        path: PathBuf,
        /// Number of its owner.
        owner: u32,
    },
    /// A symbolic link, folder, pipe or device stands where a file should.
    #[error("{0} is not a regular file; name the file itself, links are not followed")]
    NotRegular(PathBuf),
    /// The vault was written by another version of this program.
    #[error("{path} is a vault of version {found}, this program reads version 2 only")]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Version in the file.
        found: u8,
    },
    /// The vault was sealed with the other kind of secret.
    #[error("{path} opens with {wanted}")]
    OtherUnlock {
        /// The file.
        path: PathBuf,
        /// Which kind.
        wanted: &'static str,
    },
    /// The secret does not fit the file. A cipher cannot tell a wrong password from an altered file.
    #[error("{0} does not open: the password or key file is wrong, or the file was altered")]
    Locked(PathBuf),
    /// A password of no characters protects nothing.
    #[error("the vault's password is empty")]
    EmptyPassword,
    /// The cost of the key derivation is out of range.
    #[error("key derivation: {0}")]
    Cost(&'static str),
    /// A key file does not hold 32 bytes.
    #[error("key file {0} does not hold exactly 32 bytes")]
    NotAKeyFile(PathBuf),
    /// The vault holds as many keys as it can.
    #[error("the vault is full")]
    Full,
    /// No such key.
    #[error("the vault holds no key for {0}")]
    Unknown(KeyId),
    /// There is such a key; keys are not replaced.
    #[error("the vault holds a key for {0} already")]
    Exists(KeyId),
    /// The cryptlet has no key with this address.
    #[error("the vault holds no key of cryptlet {cryptlet} with the address {signer}")]
    UnknownSigner {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// The address.
        signer: Address,
    },
    /// Only earlier keys are retired.
    #[error(
        "{signer} is the current key of cryptlet {cryptlet}; make a newer one before retiring it"
    )]
    StillCurrent {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// The address.
        signer: Address,
    },
    /// Every key has one use, and this is another. A cryptlet's key signs reports only, and in a sealed file's
    /// case in regions only; the authority's signs certificates only.
    #[error("the key of {0} is not for signing this")]
    NotForSigning(KeyId),
    /// Evidence or a region's signature is not what policy, challenge and measurement ask for.
    #[error("no key of cryptlet {cryptlet} is used: {source}")]
    Refused {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// What does not fit.
        source: SealError,
    },
    /// A key could not be used.
    #[error("vault: {0}")]
    Seal(#[from] SealError),
    /// The vault seals no secrets: its keys lie in a token.
    #[error("a vault in a PKCS#11 token seals no secrets")]
    NoSealing,
    /// A sealed secret is another vault's, or for something else, or was altered.
    #[error("the secret of {0} was not sealed by this vault, or was altered")]
    NotSealedHere(String),
    /// The vault does not take an image as the last one.
    #[error("cryptlet {cryptlet}: {source}")]
    Image {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// What is wrong with the image.
        source: SealedError,
    },
    /// No region of the cryptlet was ever granted anything under this measurement, or its seal was reset.
    #[error("the vault has no seal of cryptlet {cryptlet} for measurement {measurement}")]
    NoSeal {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// What would run.
        measurement: Measurement,
    },
    /// The operating system gives no randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
    /// The PKCS#11 library cannot be loaded.
    #[error("PKCS#11 module {path} cannot be used: {reason}")]
    Module {
        /// The library.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// No token, or more than one, has the label.
    #[error("{found} PKCS#11 tokens are labelled {label:?}, one is needed")]
    TokenCount {
        /// The label.
        label: String,
        /// How many there are.
        found: usize,
    },
    /// The token does not take the PIN. It is not tried again: tokens lock themselves after a few attempts.
    #[error("the token refuses the PIN ({0}); correct it and start again")]
    PinRefused(String),
    /// There is no PIN to be read.
    #[error("no PIN in {place}: {reason}")]
    Pin {
        /// File or environment variable.
        place: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The token was removed or logged out, or the session to it ended. The next call logs in again.
    #[error("the token was lost: {0}")]
    TokenLost(String),
    /// The token refuses what it was asked.
    #[error("the token says no: {0}")]
    Token(String),
    /// A key in the token is not as safe as this vault makes its keys, or not whole.
    #[error("key {name} of the token is not used: {reason}; remove it with the token's own tools")]
    TokenKey {
        /// Its label.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl VaultError {
    /// Whether the same call, tried again, may succeed: once the other process is gone, there is room, or the
    /// token is back.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::InUse(_) | Self::TokenLost(_) => true,
            // A token that is plugged in again is found again.
            Self::TokenCount { found, .. } => *found == 0,
            Self::Io { source, .. } => matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::Interrupted
            ),
            _ => false,
        }
    }
}
