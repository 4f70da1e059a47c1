//! Identifiers as distinct types, so that the compiler refuses a subject where a job is meant.

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $inner:ty) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = <$inner as FromStr>::Err;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
        impl From<$inner> for $name {
            fn from(inner: $inner) -> Self {
                Self(inner)
            }
        }
    };
}

id!(
    /// A cryptlet's identity: 20 bytes derived from publisher and name by the register
    /// (`address(uint160(uint256(keccak256(abi.encode(publisher, name)))))`). It never changes; signers rotate.
    CryptletId, Address
);

impl CryptletId {
    /// The id that the register derives of who registers a cryptlet under which name.
    #[must_use]
    pub fn derive(publisher: Address, name: &str) -> Self {
        let hash = keccak256((publisher, name).abi_encode_params());
        Self(Address::from_word(hash))
    }
}

id!(
    /// What a report is about: the id of a subscription, as the delegate computed it.
    Subject, B256
);
id!(
    /// One occurrence of a trigger. The same occurrence seen twice has the same id.
    EventId, B256
);
id!(
    /// One piece of work, from event to receipt. Derived from the event: one event, one job.
    JobId, B256
);
id!(
    /// What ran: SHA-256 over container binary, runtime settings and package.
    Measurement, B256
);
id!(
    /// A SHA-256 digest of bytes kept elsewhere (package, binary, certificate, body).
    Sha256Digest, B256
);

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::address;

    #[test]
    fn publisher_and_name_make_an_id() {
        let publisher = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
        let one = CryptletId::derive(publisher, "gold-price");
        assert_ne!(one, CryptletId::derive(publisher, "gold-prices"));
        assert_ne!(one, CryptletId::derive(Address::ZERO, "gold-price"));
    }
}
