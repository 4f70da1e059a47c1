//! How a key looks as an object of a token.
//!
//! Both halves of a pair carry the same `CKA_ID`, 32 bytes, which binds the key to its use. It cannot be
//! changed (`CKA_MODIFIABLE` is false) and the key cannot be copied under another (`CKA_COPYABLE` is false):
//!
//! | offset | size | what |
//! |---|---|---|
//! | 0 | 4 | `BLT` and version: 1 |
//! | 4 | 1 | kind: 1 host, 2 transmitter, 3 cryptlet, 4 authority |
//! | 5 | 20 | registration address, zero unless kind 3 |
//! | 25 | 4 | number within the cryptlet, big-endian: the largest is current |
//! | 29 | 3 | random, so that two hosts that add a key at once make two |
//!
//! `CKA_LABEL` says the same to people. Objects with another `CKA_ID` are other programs' and left alone.

use crate::{KeyId, Result, VaultError};
use alloy_primitives::Address;
use cryptlet_types::CryptletId;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass};

/// `secp256k1` as DER of its object identifier (SEC 2).
const SECP256K1: [u8; 7] = [0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x0a];
/// `prime256v1`, P-256 (RFC 5480).
const P256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const MAGIC: [u8; 4] = *b"BLT\x01";

/// What `CKA_ID` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectId {
    pub(super) id: KeyId,
    pub(super) number: u32,
    pub(super) tail: [u8; 3],
}

impl ObjectId {
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let (kind, address) = match self.id {
            KeyId::Host => (1, Address::ZERO),
            KeyId::Transmitter => (2, Address::ZERO),
            KeyId::Cryptlet(CryptletId(address)) => (3, address),
            KeyId::Authority => (4, Address::ZERO),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.push(kind);
        bytes.extend(address);
        bytes.extend(self.number.to_be_bytes());
        bytes.extend(self.tail);
        bytes
    }

    /// `None` for what [`ObjectId::to_bytes`] does not write.
    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&MAGIC)?;
        let (&[kind], rest) = rest.split_first_chunk()?;
        let (&address, rest) = rest.split_first_chunk::<20>()?;
        let (&number, rest) = rest.split_first_chunk()?;
        let address = Address::from(address);
        let id = match kind {
            1 if address.is_zero() => KeyId::Host,
            2 if address.is_zero() => KeyId::Transmitter,
            3 => KeyId::Cryptlet(CryptletId(address)),
            4 if address.is_zero() => KeyId::Authority,
            _ => return None,
        };
        let number = u32::from_be_bytes(number);
        let tail = rest.try_into().ok()?;
        Some(Self { id, number, tail })
    }

    pub(super) fn label(&self) -> String {
        match self.id {
            KeyId::Cryptlet(_) => format!("bletchley {} key {}", self.id, self.number),
            id => format!("bletchley {id}"),
        }
    }

    /// DER of the curve's object identifier.
    pub(super) fn curve(&self) -> Vec<u8> {
        match self.id {
            KeyId::Authority => P256.to_vec(),
            _ => SECP256K1.to_vec(),
        }
    }

    /// Attributes of a new public key: anybody may read it.
    pub(super) fn public_template(&self) -> Vec<Attribute> {
        let mut template = self.both();
        template.extend([
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(self.curve()),
        ]);
        template
    }

    /// Attributes of a new private key: it signs, and does nothing else.
    pub(super) fn private_template(&self) -> Vec<Attribute> {
        let mut template = self.both();
        template.extend([
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            Attribute::Derive(false),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
        ]);
        template
    }

    fn both(&self) -> Vec<Attribute> {
        vec![
            Attribute::Token(true),
            Attribute::Modifiable(false),
            Attribute::Copyable(false),
            Attribute::Id(self.to_bytes()),
            Attribute::Label(self.label().into_bytes()),
        ]
    }

    /// Finds the public half.
    pub(super) fn find_public(&self) -> [Attribute; 3] {
        [
            Attribute::Class(ObjectClass::PUBLIC_KEY),
            Attribute::Token(true),
            Attribute::Id(self.to_bytes()),
        ]
    }

    /// Why a key is not used.
    pub(super) fn unusable(&self, reason: &'static str) -> VaultError {
        let name = self.label();
        VaultError::TokenKey { name, reason }
    }

    /// Refuses a private key that ever was outside of the token, or may leave it, or does more than sign.
    /// A token must say each of these itself: what is missing counts as wrong.
    pub(super) fn check_private(&self, found: &[Attribute]) -> Result<()> {
        let demands = [
            (Attribute::Private(true), "it is not private"),
            (Attribute::Sensitive(true), "it may be read"),
            (Attribute::AlwaysSensitive(true), "it could once be read"),
            (Attribute::Extractable(false), "it may be taken out"),
            (
                Attribute::NeverExtractable(true),
                "it could once be taken out",
            ),
            (Attribute::Local(true), "it was not made in the token"),
            (Attribute::Sign(true), "it is not for signing"),
            (Attribute::Derive(false), "it is not for signing only"),
            (Attribute::Decrypt(false), "it is not for signing only"),
            (Attribute::Unwrap(false), "it is not for signing only"),
        ];
        for (demand, reason) in demands {
            if !found.contains(&demand) {
                return Err(self.unusable(reason));
            }
        }
        Ok(())
    }
}

/// Finds private keys on elliptic curves.
pub(super) fn find_private() -> [Attribute; 3] {
    [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::Token(true),
        Attribute::KeyType(KeyType::EC),
    ]
}

/// What [`ObjectId::check_private`] looks at.
pub(super) const PRIVATE_ATTRIBUTES: [AttributeType; 10] = [
    AttributeType::Private,
    AttributeType::Sensitive,
    AttributeType::AlwaysSensitive,
    AttributeType::Extractable,
    AttributeType::NeverExtractable,
    AttributeType::Local,
    AttributeType::Sign,
    AttributeType::Derive,
    AttributeType::Decrypt,
    AttributeType::Unwrap,
];

/// The uncompressed point in `CKA_EC_POINT`: DER of an octet string, or, as some tokens have it, the bare point.
pub(super) fn read_point(bytes: &[u8]) -> Option<[u8; 65]> {
    let bare = match bytes {
        [0x04, 0x41, point @ ..] if point.len() == 65 => point,
        point => point,
    };
    let point: [u8; 65] = bare.try_into().ok()?;
    (point.first() == Some(&0x04)).then_some(point)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn object(id: KeyId) -> ObjectId {
        ObjectId {
            id,
            number: 7,
            tail: [1, 2, 3],
        }
    }

    #[test]
    fn an_id_names_kind_address_and_number() {
        let cryptlet = KeyId::Cryptlet(CryptletId(Address::repeat_byte(9)));
        for id in [KeyId::Host, KeyId::Transmitter, KeyId::Authority, cryptlet] {
            let bytes = object(id).to_bytes();
            assert_eq!(bytes.len(), 32);
            assert_eq!(ObjectId::from_bytes(&bytes), Some(object(id)));
            assert_eq!(ObjectId::from_bytes(&bytes[..31]), None);
            assert_eq!(ObjectId::from_bytes(&[bytes, vec![0]].concat()), None);
        }
    }

    #[test]
    fn an_address_where_none_belongs_is_refused() {
        let mut bytes = object(KeyId::Host).to_bytes();
        bytes[10] = 1;
        assert_eq!(ObjectId::from_bytes(&bytes), None);
    }

    #[test]
    fn every_weakness_is_refused() {
        let strong = [
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::AlwaysSensitive(true),
            Attribute::Extractable(false),
            Attribute::NeverExtractable(true),
            Attribute::Local(true),
            Attribute::Sign(true),
            Attribute::Derive(false),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
        ];
        assert!(object(KeyId::Host).check_private(&strong).is_ok());
        for missing in 0..strong.len() {
            let mut weak = strong.to_vec();
            weak.remove(missing);
            let error = object(KeyId::Host).check_private(&weak).unwrap_err();
            assert!(matches!(error, VaultError::TokenKey { .. }), "{missing}");
        }
    }

    #[test]
    fn a_point_is_wrapped_or_bare_and_uncompressed() {
        let mut point = [7; 65];
        point[0] = 4;
        assert_eq!(read_point(&point), Some(point));
        let wrapped = [&[0x04, 0x41], point.as_slice()].concat();
        assert_eq!(read_point(&wrapped), Some(point));
        assert_eq!(read_point(&point[..64]), None);
        point[0] = 2;
        assert_eq!(read_point(&point), None);
    }

    proptest! {
        #[test]
        fn arbitrary_ids_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(id) = ObjectId::from_bytes(&bytes) {
                prop_assert_eq!(id.to_bytes(), bytes);
            }
        }
    }
}
