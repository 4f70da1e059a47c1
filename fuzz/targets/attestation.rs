//! What hardware is said to say: the first byte chooses the kind and how many parts the rest is divided into. Nothing that a
//! fuzzer makes up is believed.
#![no_main]

use alloy_primitives::{B256, Bytes};
use cryptlet_attest::judge;
use cryptlet_types::{Attestation, policy::EvidenceRule, report::CompactSignature};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else {
        return;
    };
    let attestation = attestation(kind % 6, &mut Parts(rest));
    assert!(attestation.size() <= bytes.len() + 64);
    let believed = judge(
        &attestation,
        B256::ZERO,
        B256::ZERO,
        &EvidenceRule::default(),
        1_790_000_000,
    );
    assert!(believed.is_err());
});

/// Parts, each with its length in two bytes before it; the last one is what is left.
struct Parts<'a>(&'a [u8]);

impl Parts<'_> {
    fn next(&mut self) -> Bytes {
        let part = match self.0.split_first_chunk::<2>() {
            Some((length, rest)) => {
                let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
                let (part, rest) = rest.split_at(length);
                self.0 = rest;
                part
            }
            None => std::mem::take(&mut self.0),
        };
        Bytes::copy_from_slice(part)
    }
}

fn attestation(kind: u8, parts: &mut Parts<'_>) -> Attestation {
    match kind {
        0 => Attestation::Sgx {
            quote: parts.next(),
            collateral: parts.next(),
        },
        1 => Attestation::Tdx {
            quote: parts.next(),
            collateral: parts.next(),
        },
        2 => Attestation::SevSnp {
            report: parts.next(),
            certificates: vec![parts.next(), parts.next(), parts.next()],
            revocations: parts.next(),
        },
        3 => Attestation::Nitro {
            document: parts.next(),
        },
        4 => Attestation::Tpm {
            quote: parts.next(),
            signature: parts.next(),
            registers: vec![parts.next(), parts.next()],
            certificates: vec![parts.next(), parts.next()],
        },
        _ => Attestation::Simulator {
            signature: CompactSignature::default(),
        },
    }
}
