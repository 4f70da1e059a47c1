//! The header document.

use crate::{HeaderError, Interface, contract_name, render};
use alloy_json_abi::JsonAbi;
use alloy_primitives::Address;
use cryptlet_seal::sha256;
use cryptlet_types::{CryptletId, Sha256Digest, bounded::MAX_DOCUMENT_BYTES};
use serde::{Deserialize, Serialize};

/// The version of the document that this crate writes and reads.
pub const HEADER_VERSION: u32 = 1;
/// Largest header, in bytes: 1 MiB, as of any document. The interface is in it twice, and the ABI writes structs out
/// wherever they are used.
pub const MAX_HEADER_BYTES: usize = MAX_DOCUMENT_BYTES;
/// Longest label of a version, in bytes, as in the register.
const MAX_LABEL_BYTES: usize = 32;

/// What a header is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderSource<'a> {
    /// The cryptlet's name in the register.
    pub name: &'a str,
    /// The version's label: 1 to 32 letters, digits and `.`, `+`, `-`.
    pub label: &'a str,
    /// The author's interface, see [`Interface::parse`]; its name is `I` and the contract's name. The header keeps it with
    /// one line end at its end, whatever white space is there.
    pub interface: &'a str,
    /// The cryptlet's id.
    pub cryptlet: CryptletId,
    /// Address of the version's signing key.
    pub public_key: Address,
}

/// What a contract developer imports. Only [`Header::build`] and [`Header::from_json`] make one, so every header holds
/// what follows from its source and nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    version: u32,
    name: String,
    contract: String,
    cryptlet: CryptletId,
    public_key: Address,
    label: String,
    interface: String,
    solidity: String,
    abi: JsonAbi,
}

/// A header as it stands in a file, not yet believed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    version: u32,
    name: String,
    contract: String,
    cryptlet: CryptletId,
    public_key: Address,
    label: String,
    interface: String,
    solidity: String,
    abi: JsonAbi,
}

impl Header {
    /// Makes the header.
    ///
    /// # Errors
    /// Names the field, or the line of the interface, that is wrong.
    pub fn build(source: HeaderSource<'_>) -> Result<Self, HeaderError> {
        let source = HeaderSource {
            interface: source.interface.trim_end(),
            ..source
        };
        let contract = contract_name(source.name)?;
        check_label(source.label)?;
        check_address("cryptlet", source.cryptlet.0)?;
        check_address("publicKey", source.public_key)?;
        let interface = Interface::parse(source.interface)?;
        let expected = format!("I{contract}");
        if interface.name() != expected {
            let reason = format!(
                "the interface of {:?} is called {expected}, not {}",
                source.name,
                interface.name()
            );
            return Err(HeaderError::line(1, reason));
        }
        let header = Self {
            version: HEADER_VERSION,
            name: source.name.to_owned(),
            cryptlet: source.cryptlet,
            public_key: source.public_key,
            label: source.label.to_owned(),
            interface: format!("{}\n", source.interface),
            solidity: render::solidity(&contract, &source),
            abi: interface.abi().clone(),
            contract,
        };
        header.to_json().map(|_| header)
    }

    /// Reads a header of a stranger: makes it again from its source, and takes it only if it is the same byte for byte.
    ///
    /// # Errors
    /// [`HeaderError::Forged`] names the part that does not follow from the source; the others say what is malformed.
    pub fn from_json(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() > MAX_HEADER_BYTES {
            return Err(HeaderError::HeaderTooLarge(bytes.len()));
        }
        let found: Document = serde_json::from_slice(bytes)
            .map_err(|error| HeaderError::Malformed(error.to_string()))?;
        if found.version != HEADER_VERSION {
            let reason = format!("this program reads version {HEADER_VERSION}: update it");
            return Err(HeaderError::Field {
                field: "version",
                reason,
            });
        }
        let header = Self::build(HeaderSource {
            name: &found.name,
            label: &found.label,
            interface: &found.interface,
            cryptlet: found.cryptlet,
            public_key: found.public_key,
        })?;
        let parts = [
            ("contract", header.contract == found.contract),
            ("solidity", header.solidity == found.solidity),
            ("abi", header.abi == found.abi),
            ("the document's layout", header.to_json()? == bytes),
        ];
        match parts.into_iter().find(|(_, same)| !same) {
            Some((part, _)) => Err(HeaderError::Forged(part)),
            None => Ok(header),
        }
    }

    /// The document's bytes as they are hashed and stored: compact JSON, fields in the order of this type.
    ///
    /// # Errors
    /// An interface whose ABI is larger than a header may be.
    pub fn to_json(&self) -> Result<Vec<u8>, HeaderError> {
        let bytes =
            serde_json::to_vec(self).map_err(|error| HeaderError::Malformed(error.to_string()))?;
        match bytes.len() > MAX_HEADER_BYTES {
            true => Err(HeaderError::HeaderTooLarge(bytes.len())),
            false => Ok(bytes),
        }
    }

    /// SHA-256 of the document: the version's `headerDigest` in the register.
    ///
    /// # Errors
    /// As [`Header::to_json`].
    pub fn digest(&self) -> Result<Sha256Digest, HeaderError> {
        self.to_json().map(|bytes| sha256(&bytes))
    }

    /// The cryptlet's name in the register.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The abstract contract to inherit. The file is called after it: `GoldPrice.sol`.
    #[must_use]
    pub fn contract(&self) -> &str {
        &self.contract
    }

    /// The cryptlet's id.
    #[must_use]
    pub fn cryptlet(&self) -> CryptletId {
        self.cryptlet
    }

    /// Address of the version's signing key.
    #[must_use]
    pub fn public_key(&self) -> Address {
        self.public_key
    }

    /// The version's label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The author's interface.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The whole Solidity file. It imports `./bletchley/CryptletProxy.sol` and `./bletchley/CryptoDelegate.sol`.
    #[must_use]
    pub fn solidity(&self) -> &str {
        &self.solidity
    }

    /// The interface's ABI.
    #[must_use]
    pub fn abi(&self) -> &JsonAbi {
        &self.abi
    }
}

/// A label stands in a comment and in a string of the Solidity file: it can end neither.
fn check_label(label: &str) -> Result<(), HeaderError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '+' | '-');
    match (1..=MAX_LABEL_BYTES).contains(&label.len()) && label.chars().all(allowed) {
        true => Ok(()),
        false => Err(HeaderError::Field {
            field: "label",
            reason: format!("1 to {MAX_LABEL_BYTES} of letters, digits, '.', '+' and '-'"),
        }),
    }
}

fn check_address(field: &'static str, address: Address) -> Result<(), HeaderError> {
    match address == Address::ZERO {
        true => Err(HeaderError::Field {
            field,
            reason: "the zero address is nobody's".into(),
        }),
        false => Ok(()),
    }
}
