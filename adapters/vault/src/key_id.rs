//! Names of keys.

use alloy_primitives::{Address, keccak256};
use cryptlet_types::CryptletId;
use std::fmt;

/// Which key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyId {
    /// The host's own: vouches for regions, signs receipts.
    Host,
    /// The account that sends transactions and pays for them.
    Transmitter,
    /// The host's certificate authority: issues certificates to its clients. P-256, because TLS knows it.
    Authority,
    /// A cryptlet's, the current one: signs its reports and nothing else.
    Cryptlet(CryptletId),
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Transmitter => f.write_str("transmitter"),
            Self::Authority => f.write_str("authority"),
            Self::Cryptlet(id) => write!(f, "cryptlet {id}"),
        }
    }
}

/// Whether a key is the one to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyState {
    /// The newest of its cryptlet, or the only one of its kind.
    Current,
    /// A newer one was made; this one is for versions that were published with it.
    Earlier,
}

impl KeyState {
    /// The word for it in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Earlier => "earlier",
        }
    }
}

/// What may be said of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyRecord {
    /// Whose it is.
    pub id: KeyId,
    /// Its address; the authority's only names the key (see [`crate::Vault::address`]).
    pub address: Address,
    /// Its public key, SEC 1 uncompressed: a point of secp256k1, the authority's of P-256.
    pub public_key: [u8; 65],
    /// Whether it is the one to use.
    pub state: KeyState,
}

/// The records of one id's keys, whose public keys come from the oldest to the newest.
pub(crate) fn records(
    id: KeyId,
    public_keys: impl DoubleEndedIterator<Item = [u8; 65]>,
) -> Vec<KeyRecord> {
    let mut state = KeyState::Current;
    let mut records: Vec<_> = public_keys
        .rev()
        .map(|public_key| KeyRecord {
            id,
            address: address_of(&public_key),
            public_key,
            state: std::mem::replace(&mut state, KeyState::Earlier),
        })
        .collect();
    records.reverse();
    records
}

/// Address of an uncompressed point (SEC 1): the last 20 bytes of the hash of its coordinates.
pub(crate) fn address_of(point: &[u8; 65]) -> Address {
    let [_, coordinates @ ..] = point;
    Address::from_word(keccak256(coordinates))
}
