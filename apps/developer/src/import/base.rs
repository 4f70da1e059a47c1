//! The base contracts that every header imports, as they are in this program.

/// Each with its text: `CryptletProxy` and what it imports of ours.
pub(crate) const BASE: [(&str, &str); 5] = [
    (
        "CryptletProxy.sol",
        include_str!("../../../../contracts/src/CryptletProxy.sol"),
    ),
    (
        "CryptoDelegate.sol",
        include_str!("../../../../contracts/src/CryptoDelegate.sol"),
    ),
    (
        "Delegations.sol",
        include_str!("../../../../contracts/src/Delegations.sol"),
    ),
    (
        "ICryptletRegister.sol",
        include_str!("../../../../contracts/src/ICryptletRegister.sol"),
    ),
    (
        "PackedSubscription.sol",
        include_str!("../../../../contracts/src/PackedSubscription.sol"),
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_base_contracts_import_is_here_or_of_the_library() {
        for (file, text) in BASE {
            for line in text.lines().filter(|line| line.starts_with("import ")) {
                let from = line.split('"').nth(1).unwrap();
                let here = from
                    .strip_prefix("./")
                    .is_some_and(|name| BASE.iter().any(|(known, _)| *known == name));
                assert!(
                    here || from.starts_with("@openzeppelin/contracts/"),
                    "{file}: {line}"
                );
            }
        }
    }
}
