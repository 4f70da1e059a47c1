//! Attestation: what hardware, or whatever stands in its place, says about the region that made a statement.
//!
//! Every kind binds the 32 bytes of [`EvidenceStatement::bound`](crate::EvidenceStatement::bound): in the first half of the
//! 64 bytes of report data (SGX, TDX, SEV-SNP), the second half zero; as `user_data` (Nitro); as qualifying data (TPM). What
//! is in these bytes is for the crate `cryptlet-attest` to read; here they are only carried, bounded in size.

use crate::{Provider, report::CompactSignature};
use alloy_primitives::Bytes;
use serde::{Deserialize, Serialize};

/// Most bytes of one attestation, everything that comes with it included: 256 KiB.
pub const MAX_ATTESTATION_BYTES: usize = 256 << 10;

/// What vouches for a statement below the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Attestation {
    /// An Intel SGX quote (DCAP, version 3 or later).
    Sgx {
        /// The quote.
        quote: Bytes,
        /// What Intel says about the platform: TCB info, QE identity, certificates, revocation lists; JSON as `dcap-qvl` reads it.
        collateral: Bytes,
    },
    /// An Intel TDX quote (DCAP, version 4 or later).
    Tdx {
        /// The quote.
        quote: Bytes,
        /// As for SGX.
        collateral: Bytes,
    },
    /// An AMD SEV-SNP attestation report.
    #[serde(rename_all = "camelCase")]
    SevSnp {
        /// The report, 1,184 bytes (AMD 56860, table 22).
        report: Bytes,
        /// VCEK (or VLEK), ASK (or ASVK) and ARK, DER, in this order.
        certificates: Vec<Bytes>,
        /// AMD's revocation list for the ARK, DER.
        revocations: Bytes,
    },
    /// An AWS Nitro attestation document: COSE_Sign1 with its certificates.
    Nitro {
        /// The document.
        document: Bytes,
    },
    /// A quote of a TPM 2.0, virtual or not.
    Tpm {
        /// `TPMS_ATTEST`, as it was signed.
        quote: Bytes,
        /// `TPMT_SIGNATURE`.
        signature: Bytes,
        /// Values of the SHA-256 PCRs that the quote selects, ascending by number.
        registers: Vec<Bytes>,
        /// The attestation key's certificate and those above it, DER, without the root.
        certificates: Vec<Bytes>,
    },
    /// The word of a simulator's root: for development, and for tests of what rests on attestation. It proves nothing.
    Simulator {
        /// The root's signature over the bound bytes.
        signature: CompactSignature,
    },
}

impl Attestation {
    /// Whose regions it speaks of.
    #[must_use]
    pub fn provider(&self) -> Provider {
        match self {
            Self::Sgx { .. } => Provider::Sgx,
            Self::Tdx { .. } => Provider::Tdx,
            Self::SevSnp { .. } => Provider::SevSnp,
            Self::Nitro { .. } => Provider::Nitro,
            Self::Tpm { .. } => Provider::Tpm,
            Self::Simulator { .. } => Provider::Simulator,
        }
    }

    /// Bytes that it carries.
    #[must_use]
    pub fn size(&self) -> usize {
        let all = |parts: &[Bytes]| parts.iter().map(|part| part.len()).sum::<usize>();
        match self {
            Self::Sgx { quote, collateral } | Self::Tdx { quote, collateral } => {
                quote.len() + collateral.len()
            }
            Self::SevSnp {
                report,
                certificates,
                revocations,
            } => report.len() + all(certificates) + revocations.len(),
            Self::Nitro { document } => document.len(),
            Self::Tpm {
                quote,
                signature,
                registers,
                certificates,
            } => quote.len() + signature.len() + all(registers) + all(certificates),
            Self::Simulator { .. } => 64,
        }
    }
}
