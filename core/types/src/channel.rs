//! Attested TLS: what a certificate says about whoever holds its key.
//!
//! A certificate of ours carries an [`AttestedKey`] as a Conceptual Message Wrapper (RFC 9999): a CBOR record of the type
//! [`MEDIA_TYPE`], marked as evidence. Host and regions know one another by it, and by nothing else: there are no names and no
//! authorities. How it is made and read is in `cryptlet_seal::certificate`.

use crate::{
    Attestation, Evidence, EvidenceStatement, Sha256Digest, UnixSeconds, report::CompactSignature,
};
use alloy_primitives::{Address, B256, keccak256};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};

/// Type of the record in the certificate.
pub const MEDIA_TYPE: &str = "application/vnd.bletchley.attested-key+cbor";

/// Most bytes of one [`AttestedKey`], encoded: 60 KiB. A TLS message has at most 64 KiB here, and the rest of the certificate
/// has to fit beside it.
pub const MAX_ATTESTED_KEY_BYTES: usize = 60 << 10;

/// Most seconds between the beginning and the end of a certificate: a day.
pub const MAX_CERTIFICATE_SECONDS: u64 = 86_400;

/// Seconds by which a certificate begins before it was made, since clocks differ: five minutes.
pub const CERTIFICATE_SKEW_SECONDS: u64 = 300;

/// What is agreed on as the application protocol (RFC 7301), so that no other protocol takes one side's words for its own.
pub const PROTOCOL: &[u8] = b"bletchley/1";

/// Label of the bytes that both ends of a TLS connection, and nobody else, can compute (RFC 9266, `tls-exporter`: no context,
/// 32 bytes).
pub const EXPORTER_LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// The byte that a server sends first, once it has accepted its client: in TLS 1.3 a client has finished its handshake before it
/// knows.
pub const GREETING: u8 = 1;

/// Whose a TLS key is, and by whose word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttestedKey {
    /// Who it is.
    pub proof: Proof,
    /// Signature over [`TlsBinding::digest`] by the key that the proof is about.
    pub signature: CompactSignature,
}

/// Who holds the key of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub enum Proof {
    /// A host: the address of its host key, which the register knows.
    Host(Address),
    /// A region that a host vouches for.
    Vouched(Box<Evidence>),
    /// A region, or a container that has no package yet, that hardware speaks for and no host knows of.
    Attested {
        /// What it says about itself. Its nonce is [`TlsBinding::digest`]: hardware itself binds the TLS key.
        statement: Box<EvidenceStatement>,
        /// What hardware says. There is no such proof without.
        attestation: Attestation,
    },
}

impl Proof {
    /// Whose signature binds the TLS key.
    #[must_use]
    pub fn signer(&self) -> Address {
        match self {
            Self::Host(host) => *host,
            Self::Vouched(evidence) => evidence.statement.region_key,
            Self::Attested { statement, .. } => statement.region_key,
        }
    }

    /// What is in the digest, so that a signature made as one kind is none of another.
    #[must_use]
    pub fn party(&self) -> Party {
        match self {
            Self::Host(_) => Party::Host,
            Self::Vouched(_) | Self::Attested { .. } => Party::Region,
        }
    }
}

/// Kinds of holders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// A host.
    Host,
    /// A region, or a container without a package.
    Region,
}

/// A TLS key and the time for which it is somebody's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TlsBinding {
    /// SHA-256 of the certificate's SubjectPublicKeyInfo (DER).
    pub key: Sha256Digest,
    /// First second of the certificate.
    pub not_before: UnixSeconds,
    /// Last second of the certificate.
    pub not_after: UnixSeconds,
}

impl TlsBinding {
    /// The 32 bytes that a host or a region signs to make the TLS key its own.
    #[must_use]
    pub fn digest(&self, party: Party) -> B256 {
        let party = match party {
            Party::Host => "host",
            Party::Region => "region",
        };
        keccak256(
            (
                "bletchley tls v1",
                party,
                self.key.0,
                self.not_before,
                self.not_after,
            )
                .abi_encode_params(),
        )
    }
}

/// The challenge that a region repeats to whoever created it over attested TLS: it answers `challenge` and is of this
/// connection alone, whose `exporter` ([`EXPORTER_LABEL`]) nobody else can compute. What another connection gave is worth nothing.
#[must_use]
pub fn session_nonce(challenge: B256, exporter: B256) -> B256 {
    keccak256(("bletchley session v1", challenge, exporter).abi_encode_params())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binding_is_of_one_party_one_key_and_one_time() {
        let binding = TlsBinding {
            key: Sha256Digest(B256::repeat_byte(1)),
            not_before: 10,
            not_after: 20,
        };
        let others = [
            binding.digest(Party::Host),
            TlsBinding {
                key: Sha256Digest(B256::ZERO),
                ..binding
            }
            .digest(Party::Region),
            TlsBinding {
                not_before: 11,
                ..binding
            }
            .digest(Party::Region),
            TlsBinding {
                not_after: 21,
                ..binding
            }
            .digest(Party::Region),
        ];
        for other in others {
            assert_ne!(other, binding.digest(Party::Region));
        }
    }

    #[test]
    fn a_session_nonce_is_of_one_challenge_and_one_connection() {
        let (one, two) = (B256::repeat_byte(1), B256::repeat_byte(2));
        assert_ne!(session_nonce(one, two), session_nonce(two, one));
        assert_ne!(session_nonce(one, two), session_nonce(one, one));
        assert_ne!(session_nonce(one, two), session_nonce(two, two));
    }
}
