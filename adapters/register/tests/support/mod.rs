//! Packages and changes to try a register with.
#![allow(dead_code, reason = "each test takes what it needs")]

use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolValue;
use cryptlet_register::Cursor;
use cryptlet_seal::package::{PackageFiles, build};
use cryptlet_types::{
    CryptletId, Manifest, Sha256Digest,
    manifest::ManifestConfig,
    register::{RegisterChange, SignerRecord, VersionRecord},
};

/// Room for every test.
pub(crate) const ROOM: u64 = 1 << 30;

pub(crate) fn files(code: &[u8], source: Option<&[u8]>) -> PackageFiles {
    let manifest = Manifest {
        name: "market-watcher".into(),
        public_key: Address::repeat_byte(1),
        version: "1".into(),
        config: ManifestConfig {
            description: "Reports reference rates.".into(),
            ..ManifestConfig::default()
        },
    };
    build(&manifest, code, b"{\"version\":1}", source).unwrap()
}

pub(crate) fn publisher() -> Address {
    Address::repeat_byte(0xab)
}

/// The id that the register derives.
pub(crate) fn id(publisher: Address, name: &str) -> CryptletId {
    let hash = keccak256((publisher, name).abi_encode_params());
    CryptletId(Address::from_word(hash))
}

pub(crate) fn gold() -> CryptletId {
    id(publisher(), "gold")
}

pub(crate) fn digest(byte: u8) -> Sha256Digest {
    Sha256Digest(B256::repeat_byte(byte))
}

pub(crate) fn cursor(number: u64) -> Cursor {
    Cursor {
        number,
        hash: B256::from(alloy_primitives::U256::from(number)),
    }
}

pub(crate) fn registered(name: &str) -> RegisterChange {
    RegisterChange::Registered {
        cryptlet: id(publisher(), name),
        publisher: publisher(),
        name: name.into(),
    }
}

pub(crate) fn published(cryptlet: CryptletId, number: u32) -> RegisterChange {
    let byte = u8::try_from(number).unwrap();
    RegisterChange::VersionPublished {
        cryptlet,
        version: VersionRecord {
            number,
            label: format!("0.{number}.0"),
            package: digest(byte),
            header: digest(byte + 100),
            manifest: digest(byte + 200),
            uri: String::new(),
            published_at: 1_000,
            revoked: false,
        },
    }
}

pub(crate) fn enrolled(
    cryptlet: CryptletId,
    byte: u8,
    version: u32,
    expiry: u64,
) -> RegisterChange {
    RegisterChange::SignerEnrolled {
        cryptlet,
        signer: SignerRecord {
            signer: Address::repeat_byte(byte),
            version,
            expiry,
            revoked: false,
        },
    }
}

/// What `register` logs, in its order: the token first.
pub(crate) fn registration(name: &str, signer: u8) -> Vec<RegisterChange> {
    let cryptlet = id(publisher(), name);
    vec![
        RegisterChange::Transferred {
            cryptlet,
            owner: publisher(),
        },
        registered(name),
        published(cryptlet, 1),
        enrolled(cryptlet, signer, 1, 10_000),
    ]
}
