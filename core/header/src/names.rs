//! Solidity's names for a cryptlet's, and the names that an interface cannot use.

use crate::HeaderError;

/// Names of types that the generated file uses itself.
const TYPES_OF_THE_FILE: [&str; 3] = ["CryptletProxy", "CryptoDelegate", "ICryptletRegister"];
/// Functions, errors and events that the contract inherits from `CryptletProxy`: one more of that name would not compile,
/// or would be mistaken for them.
const NAMES_OF_THE_PROXY: [&str; 21] = [
    "OwnableInvalidOwner",
    "OwnableUnauthorizedAccount",
    "OwnershipTransferStarted",
    "OwnershipTransferred",
    "UnauthorizedCryptlet",
    "UnauthorizedIdentity",
    "acceptOwnership",
    "attestedHost",
    "cryptlet",
    "delegate",
    "interfaceDigest",
    "isTrustedForwarder",
    "name",
    "onBehalfOf",
    "onlyBy",
    "owner",
    "pendingOwner",
    "publicKey",
    "renounceOwnership",
    "transferOwnership",
    "trustedForwarder",
];

/// The abstract contract that a developer inherits: `gold-price` gives `GoldPrice`. A name that starts with a digit is
/// put behind `Cryptlet`, since no identifier does.
///
/// # Errors
/// The name is not one that the register takes, or gives a name that the file needs itself.
pub fn contract_name(name: &str) -> Result<String, HeaderError> {
    let wrong = |reason: String| HeaderError::Field {
        field: "name",
        reason,
    };
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let part = |part: &str| !part.is_empty() && part.chars().all(allowed);
    if name.len() > 64 || !name.split('-').all(part) {
        let reason = "1 to 64 characters of a-z, 0-9 and -, no hyphen first, last or doubled";
        return Err(wrong(reason.into()));
    }
    let joined: String = name.split('-').map(capitalised).collect();
    let contract = match joined.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("Cryptlet{joined}"),
        false => joined,
    };
    match TYPES_OF_THE_FILE.contains(&contract.as_str()) {
        true => Err(wrong(format!(
            "{name:?} gives the contract name {contract}, which every header needs itself: choose another name"
        ))),
        false => Ok(contract),
    }
}

/// The name that an author's interface must have: `gold-price` gives `IGoldPrice`.
///
/// # Errors
/// As [`contract_name`].
pub fn interface_name(name: &str) -> Result<String, HeaderError> {
    contract_name(name).map(|contract| format!("I{contract}"))
}

fn capitalised(part: &str) -> String {
    let mut chars = part.chars();
    let first = chars.next().map(|c| c.to_ascii_uppercase());
    first.into_iter().chain(chars).collect()
}

/// Why an item of the interface `interface` cannot bear `name`, or nothing.
pub(crate) fn objection(interface: &str, name: &str) -> Option<String> {
    let contract = interface.strip_prefix('I').unwrap_or(interface);
    let header = format!("{contract}Header");
    let of_the_file = TYPES_OF_THE_FILE.contains(&name)
        || NAMES_OF_THE_PROXY.contains(&name)
        || [interface, contract, header.as_str()].contains(&name);
    if of_the_file {
        return Some(format!(
            "{name:?} is a name that the generated contract has already: choose another"
        ));
    }
    // Words that the parser reads as another identifier than Solidity does.
    let words = ["this", "This", "super", "crate", "_"];
    (words.contains(&name) || name.starts_with('_'))
        .then(|| format!("{name:?} cannot be a name here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kebab_gives_the_names_of_solidity() {
        let cases = [
            ("gold-price", "GoldPrice"),
            ("a", "A"),
            ("btc-eur-24h", "BtcEur24h"),
            ("24h-volume", "Cryptlet24hVolume"),
        ];
        for (name, contract) in cases {
            assert_eq!(contract_name(name).unwrap(), contract);
            assert_eq!(interface_name(name).unwrap(), format!("I{contract}"));
        }
    }

    #[test]
    fn names_that_no_register_takes_give_nothing() {
        let long = "a".repeat(65);
        for name in [
            "",
            "-a",
            "a-",
            "a--b",
            "A",
            "a b",
            "ä",
            "a;b",
            "a/*",
            &long,
            "crypto-delegate",
        ] {
            assert!(contract_name(name).is_err(), "{name:?}");
        }
    }
}
