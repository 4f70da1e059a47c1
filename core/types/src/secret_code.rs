//! Secret code: a package whose component nobody reads but those who were given its key, and that regions run all the same.
//!
//! The package holds the component encrypted, and its manifest names the counterparties ([`SecretCode`]). Each of them signs
//! which component it is that it agrees to ([`CodeAgreement`]). A region asks its host for the key while it loads the package,
//! with evidence of what it is; it takes the key only with the agreement of every counterparty, and runs what they have agreed
//! to, or nothing ([`CodeGrant`]). Who has neither the key nor the component knows its SHA-256 by what the counterparties
//! signed, and by the measurement that nothing else ran.
//!
//! An agreement is EIP-712 typed data: `CodeAgreement(bytes32 package,bytes32 code)` in the domain `Bletchley secret code`,
//! version `1`, of no chain: what a package does is the same on each. Accounts sign; a contract's signature (ERC-1271) could
//! not be checked inside a region, which has no chain.

use crate::{Sha256Digest, manifest::DocumentError, region::WrappedKey, report::CompactSignature};
use alloy_primitives::{Address, B256};
use alloy_sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize};

mod abi {
    alloy_sol_types::sol! {
        struct CodeAgreement {
            bytes32 package;
            bytes32 code;
        }
    }
}

/// Most counterparties of one package.
pub const MAX_COUNTERPARTIES: usize = 16;

/// What a manifest says where its code is secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SecretCode {
    /// Accounts that have to agree to the code before it runs: 1 to [`MAX_COUNTERPARTIES`], each once.
    pub counterparties: Vec<Address>,
}

impl SecretCode {
    pub(crate) fn check(&self, field: &str) -> Result<(), DocumentError> {
        let field = format!("{field}.counterparties");
        let count = self.counterparties.len();
        if count == 0 || count > MAX_COUNTERPARTIES {
            let reason = format!("{count}, from 1 to {MAX_COUNTERPARTIES} accounts agree");
            return Err(DocumentError::field(field, reason));
        }
        for (index, account) in self.counterparties.iter().enumerate() {
            let before = self.counterparties.iter().take(index);
            if *account == Address::ZERO || before.into_iter().any(|other| other == account) {
                let reason = format!("{account} is listed twice, or is the zero address");
                return Err(DocumentError::field(format!("{field}[{index}]"), reason));
            }
        }
        Ok(())
    }
}

/// What a counterparty agrees to: that this component is the code of this package.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeAgreement {
    /// SHA-256 of the package's image manifest.
    pub package: Sha256Digest,
    /// SHA-256 of the component, not encrypted.
    pub code: Sha256Digest,
}

impl CodeAgreement {
    /// The EIP-712 digest that a counterparty signs.
    #[must_use]
    pub fn digest(&self) -> B256 {
        let domain = Eip712Domain {
            name: Some("Bletchley secret code".into()),
            version: Some("1".into()),
            chain_id: None,
            verifying_contract: None,
            salt: None,
        };
        let agreement = abi::CodeAgreement {
            package: self.package.0,
            code: self.code.0,
        };
        agreement.eip712_signing_hash(&domain)
    }
}

/// What a host gives a region that has a package with secret code to load.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodeGrant {
    /// The code's key, wrapped to the region's exchange key.
    pub key: WrappedKey,
    /// SHA-256 of the component that was agreed to.
    pub code: Sha256Digest,
    /// A signature of each counterparty over [`CodeAgreement::digest`], in the manifest's order.
    pub agreements: Vec<CompactSignature>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(counterparties: &[Address]) -> SecretCode {
        SecretCode {
            counterparties: counterparties.to_vec(),
        }
    }

    #[test]
    fn counterparties_are_named_each_once() {
        let (one, two) = (Address::repeat_byte(1), Address::repeat_byte(2));
        assert_eq!(named(&[one, two]).check("s"), Ok(()));
        let many: Vec<_> = (1..=17).map(Address::with_last_byte).collect();
        assert_eq!(named(&many[..16]).check("s"), Ok(()));
        let refused = [
            (named(&[]), "s.counterparties:"),
            (named(&many), "s.counterparties:"),
            (named(&[one, two, one]), "s.counterparties[2]"),
            (named(&[one, Address::ZERO]), "s.counterparties[1]"),
        ];
        for (secret, field) in refused {
            let told = secret.check("s").unwrap_err().to_string();
            assert!(told.starts_with(field), "{told}");
        }
    }

    /// As a wallet computes it: `cast wallet sign --data` with this domain and message.
    #[test]
    fn an_agreement_is_typed_data_over_package_and_code() {
        let agreement = CodeAgreement {
            package: Sha256Digest(B256::repeat_byte(1)),
            code: Sha256Digest(B256::repeat_byte(2)),
        };
        use alloy_primitives::keccak256;
        let domain = [
            keccak256("EIP712Domain(string name,string version)").0,
            keccak256("Bletchley secret code").0,
            keccak256("1").0,
        ];
        let message = [
            keccak256("CodeAgreement(bytes32 package,bytes32 code)").0,
            [1; 32],
            [2; 32],
        ];
        let [domain, message] = [domain, message].map(|words| keccak256(words.concat()).0);
        let expected = keccak256([&[0x19, 0x01][..], &domain, &message].concat());
        assert_eq!(agreement.digest(), expected);
        let other = CodeAgreement {
            package: agreement.code,
            code: agreement.package,
        };
        assert_ne!(agreement.digest(), other.digest());
    }
}
