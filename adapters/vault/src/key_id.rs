//! Names of keys.

use cryptlet_types::CryptletId;
use std::fmt;

/// Which key is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyId {
    /// The host's own: vouches for regions.
    Host,
    /// The account that sends transactions and pays for them.
    Transmitter,
    /// A cryptlet's: signs its reports, inside a region only.
    Cryptlet(CryptletId),
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Transmitter => f.write_str("transmitter"),
            Self::Cryptlet(id) => write!(f, "cryptlet {id}"),
        }
    }
}
