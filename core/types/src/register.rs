//! What the register's chain says: cryptlets, versions, signers, hosts, and the policy that administrators approved.
//!
//! [`RegisterChange`] is one log of `CryptletRegister`; [`CryptletRecord`] is what all changes of a cryptlet add up to.

use crate::{CryptletId, Sha256Digest, UnixSeconds};
use alloy_primitives::{Address, B256, U256};
use alloy_sol_types::{Eip712Domain, SolStruct};
use serde::{Deserialize, Serialize};

mod abi {
    alloy_sol_types::sol! {
        /// What an administrator signs.
        struct Policy {
            address administrator;
            uint64 term;
            uint64 epoch;
            bytes32 digest;
        }
    }
}

/// Where the register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RegisterDomain {
    /// EIP-155 id of its chain, which need not be the consumers' chain.
    pub chain_id: u64,
    /// Address of the `CryptletRegister`.
    pub register: Address,
}

impl RegisterDomain {
    /// The EIP-712 digest that `administrator` signs, as one of the board of `term`, to approve the policy document with this
    /// epoch and digest: the same 32 bytes as `PolicyBoard.hashPolicy`. It is each administrator's own, so that a signature
    /// counts for one, and void with the board's term.
    #[must_use]
    pub fn policy_digest(
        &self,
        administrator: Address,
        term: u64,
        epoch: u64,
        digest: Sha256Digest,
    ) -> B256 {
        let domain = Eip712Domain {
            name: Some("CryptletRegister".into()),
            version: Some("1".into()),
            chain_id: Some(U256::from(self.chain_id)),
            verifying_contract: Some(self.register),
            salt: None,
        };
        let policy = abi::Policy {
            administrator,
            term,
            epoch,
            digest: digest.0,
        };
        policy.eip712_signing_hash(&domain)
    }
}

/// Who approves policy, and how many of them it takes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Board {
    /// The administrators.
    pub members: Vec<Address>,
    /// Approvals that it takes. Zero, before any board is known, approves nothing.
    pub threshold: u64,
    /// How often administrators were appointed, these included; zero before any board is known. Approvals are of one term.
    pub term: u64,
}

/// The policy that the register says is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyRecord {
    /// Its epoch.
    pub epoch: u64,
    /// SHA-256 of the document ([`Policy::to_json`](crate::Policy::to_json)).
    pub digest: Sha256Digest,
    /// Where the document may be had; may be empty.
    pub uri: String,
}

/// A version of a cryptlet. It never changes; at most it is revoked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct VersionRecord {
    /// Its number: 1, 2, 3, …
    pub number: u32,
    /// What its publisher calls it.
    pub label: String,
    /// Digest of the package (of its OCI image manifest).
    pub package: Sha256Digest,
    /// Digest of the header document.
    pub header: Sha256Digest,
    /// Digest of the manifest.
    pub manifest: Sha256Digest,
    /// Where the package may be had; may be empty.
    pub uri: String,
    /// Time of the block that holds it.
    pub published_at: UnixSeconds,
    /// Whether it was revoked, and its signers with it.
    pub revoked: bool,
}

/// A key that may sign for one version of a cryptlet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignerRecord {
    /// Its address.
    pub signer: Address,
    /// The version that it signs for.
    pub version: u32,
    /// Last second at which it may.
    pub expiry: UnixSeconds,
    /// Whether it was revoked.
    pub revoked: bool,
}

/// A host that administrators registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HostRecord {
    /// Address of its key.
    pub host: Address,
    /// Where it serves.
    pub url: String,
    /// SHA-256 of its certificate authority's certificate (DER).
    pub authority: Sha256Digest,
}

/// All that the register says of a cryptlet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CryptletRecord {
    /// Its id.
    pub cryptlet: CryptletId,
    /// Its name, unique in the register.
    pub name: String,
    /// Who registered it.
    pub publisher: Address,
    /// Who holds its token now and controls it.
    pub owner: Address,
    /// Whether it was revoked as a whole.
    pub revoked: bool,
    /// Its versions, ascending by number.
    pub versions: Vec<VersionRecord>,
    /// Its signers, in the order of their enrolment.
    pub signers: Vec<SignerRecord>,
    /// Hosts that its owner assigned it to.
    pub hosts: Vec<Address>,
}

impl CryptletRecord {
    /// The version that runs: the newest that was not revoked. None if the cryptlet was revoked.
    #[must_use]
    pub fn current(&self) -> Option<&VersionRecord> {
        let newest = self.versions.iter().rev().find(|version| !version.revoked);
        newest.filter(|_| !self.revoked)
    }

    /// Whether `signer` may sign for version `number` at `now`.
    #[must_use]
    pub fn admits(&self, signer: Address, number: u32, now: UnixSeconds) -> bool {
        let version = self.versions.iter().find(|known| known.number == number);
        let valid = version.is_some_and(|known| !known.revoked) && !self.revoked;
        let enrolled = |known: &&SignerRecord| {
            known.signer == signer && known.version == number && !known.revoked
        };
        valid
            && self
                .signers
                .iter()
                .find(enrolled)
                .is_some_and(|known| now <= known.expiry)
    }
}

/// One change, as one log of the register says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", deny_unknown_fields)]
pub enum RegisterChange {
    /// A cryptlet was registered; its publisher holds the token.
    #[serde(rename_all = "camelCase")]
    Registered {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// Who registered it.
        publisher: Address,
        /// Its name.
        name: String,
    },
    /// The token changed hands.
    #[serde(rename_all = "camelCase")]
    Transferred {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// The new owner.
        owner: Address,
    },
    /// A version was published.
    #[serde(rename_all = "camelCase")]
    VersionPublished {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// The version.
        version: VersionRecord,
    },
    /// A version was revoked, and its signers with it.
    #[serde(rename_all = "camelCase")]
    VersionRevoked {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// The version's number.
        number: u32,
    },
    /// A signer was enrolled, or given another expiry.
    #[serde(rename_all = "camelCase")]
    SignerEnrolled {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// Whom, for which version, until when.
        signer: SignerRecord,
    },
    /// A signer was revoked.
    #[serde(rename_all = "camelCase")]
    SignerRevoked {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// Whom.
        signer: Address,
    },
    /// The whole cryptlet was revoked.
    #[serde(rename_all = "camelCase")]
    CryptletRevoked {
        /// The cryptlet.
        cryptlet: CryptletId,
    },
    /// A host was registered, or its record replaced.
    #[serde(rename_all = "camelCase")]
    HostRegistered {
        /// The host.
        host: HostRecord,
    },
    /// A host was removed.
    #[serde(rename_all = "camelCase")]
    HostRemoved {
        /// The host.
        host: Address,
    },
    /// The owner assigned the cryptlet to a host.
    #[serde(rename_all = "camelCase")]
    HostAssigned {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// The host.
        host: Address,
    },
    /// The owner took the cryptlet from a host.
    #[serde(rename_all = "camelCase")]
    HostUnassigned {
        /// The cryptlet.
        cryptlet: CryptletId,
        /// The host.
        host: Address,
    },
    /// A policy came into force.
    #[serde(rename_all = "camelCase")]
    PolicySet {
        /// Which.
        policy: PolicyRecord,
    },
    /// The board was replaced.
    #[serde(rename_all = "camelCase")]
    AdministratorsSet {
        /// The new one.
        board: Board,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> CryptletRecord {
        let version = |number| VersionRecord {
            number,
            label: format!("0.{number}.0"),
            package: Sha256Digest(B256::repeat_byte(1)),
            header: Sha256Digest(B256::repeat_byte(2)),
            manifest: Sha256Digest(B256::repeat_byte(3)),
            uri: String::new(),
            published_at: 10,
            revoked: false,
        };
        let signer = |byte, version| SignerRecord {
            signer: Address::repeat_byte(byte),
            version,
            expiry: 100,
            revoked: false,
        };
        CryptletRecord {
            cryptlet: CryptletId(Address::repeat_byte(9)),
            name: "gold-price".into(),
            publisher: Address::repeat_byte(8),
            owner: Address::repeat_byte(8),
            revoked: false,
            versions: vec![version(1), version(2)],
            signers: vec![signer(1, 1), signer(2, 2)],
            hosts: vec![],
        }
    }

    #[test]
    fn the_newest_version_that_was_not_revoked_runs() {
        let mut record = record();
        assert_eq!(record.current().map(|version| version.number), Some(2));
        record.versions[1].revoked = true;
        assert_eq!(record.current().map(|version| version.number), Some(1));
        record.revoked = true;
        assert_eq!(record.current(), None);
    }

    #[test]
    fn a_signer_speaks_for_its_version_until_its_expiry_and_no_longer() {
        let mut record = record();
        let signer = Address::repeat_byte(2);
        assert!(record.admits(signer, 2, 100));
        assert!(!record.admits(signer, 2, 101), "expired");
        assert!(!record.admits(signer, 1, 100), "another version");
        record.versions[1].revoked = true;
        assert!(!record.admits(signer, 2, 100), "revoked version");
        record.versions[1].revoked = false;
        record.signers[1].revoked = true;
        assert!(!record.admits(signer, 2, 100), "revoked signer");
        record.signers[1].revoked = false;
        record.revoked = true;
        assert!(!record.admits(signer, 2, 100), "revoked cryptlet");
    }

    #[test]
    fn approvals_are_bound_to_administrator_term_epoch_digest_chain_and_register() {
        let domain = RegisterDomain {
            chain_id: 1,
            register: Address::repeat_byte(1),
        };
        let digest = Sha256Digest(B256::repeat_byte(7));
        let by = Address::repeat_byte(3);
        let signed = domain.policy_digest(by, 1, 1, digest);
        let other_chain = RegisterDomain {
            chain_id: 2,
            ..domain
        };
        let other_register = RegisterDomain {
            register: Address::repeat_byte(2),
            ..domain
        };
        let others = [
            domain.policy_digest(Address::repeat_byte(4), 1, 1, digest),
            domain.policy_digest(by, 2, 1, digest),
            domain.policy_digest(by, 1, 2, digest),
            domain.policy_digest(by, 1, 1, Sha256Digest(B256::repeat_byte(8))),
            other_chain.policy_digest(by, 1, 1, digest),
            other_register.policy_digest(by, 1, 1, digest),
        ];
        assert!(others.iter().all(|other| *other != signed));
    }
}
