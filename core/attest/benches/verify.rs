//! What judging one attestation takes. Each should stay below 10 ms.
//!
//! No list of revocations of AMD's and no fitting challenge of AWS's can be had, so the genuine samples are refused in the end:
//! SEV-SNP at the list (one RSA signature is missing to the whole), Nitro at the statement, once all signatures are checked.

use alloy_primitives::{B256, Bytes};
use criterion::Criterion;
use cryptlet_attest::judge;
use cryptlet_types::{
    Attestation, Provider,
    policy::{EvidenceRule, ImageRule},
};
use std::hint::black_box;

const BOUND: B256 = B256::repeat_byte(0x42);

fn sev_snp() -> Attestation {
    let certificates: [&[u8]; 3] = [
        include_bytes!("../tests/samples/snp/virtee.vcek.der"),
        include_bytes!("../tests/samples/snp/ask-milan.der"),
        include_bytes!("../roots/amd-ark-milan.der"),
    ];
    Attestation::SevSnp {
        report: Bytes::from_static(include_bytes!("../tests/samples/snp/virtee.report")),
        certificates: certificates.map(Bytes::from_static).to_vec(),
        revocations: Bytes::new(),
    }
}

fn nitro() -> Attestation {
    Attestation::Nitro {
        document: Bytes::from_static(include_bytes!("../tests/samples/nitro/document.cose")),
    }
}

fn tpm(quote: &'static [u8], signature: &'static [u8], certificate: &'static [u8]) -> Attestation {
    let registers = include_bytes!("../tests/samples/tpm/registers.bin");
    Attestation::Tpm {
        quote: Bytes::from_static(quote),
        signature: Bytes::from_static(signature),
        registers: registers.chunks(32).map(Bytes::copy_from_slice).collect(),
        certificates: vec![Bytes::from_static(certificate)],
    }
}

fn rule() -> EvidenceRule {
    let registers: &[u8] = include_bytes!("../tests/samples/tpm/registers.bin");
    let first = registers.chunks(32).next().map(Bytes::copy_from_slice);
    EvidenceRule {
        max_age_seconds: 60,
        tpm_roots: vec![Bytes::from_static(include_bytes!(
            "../tests/samples/tpm/root.der"
        ))],
        images: vec![ImageRule {
            provider: Provider::Tpm,
            registers: first
                .map(|value| ("pcr0".into(), value))
                .into_iter()
                .collect(),
        }],
        ..EvidenceRule::default()
    }
}

fn verify(criterion: &mut Criterion) {
    let rule = rule();
    let ecdsa = tpm(
        include_bytes!("../tests/samples/tpm/ecdsa.quote"),
        include_bytes!("../tests/samples/tpm/ecdsa.signature"),
        include_bytes!("../tests/samples/tpm/ecdsa.cert.der"),
    );
    let rsa = tpm(
        include_bytes!("../tests/samples/tpm/rsapss.quote"),
        include_bytes!("../tests/samples/tpm/rsapss.signature"),
        include_bytes!("../tests/samples/tpm/rsapss.cert.der"),
    );
    let cases = [
        (
            "sev-snp, up to the list",
            sev_snp(),
            1_798_761_600,
            "revocation list: is missing",
        ),
        (
            "nitro, up to the statement",
            nitro(),
            1_736_179_625,
            "user_data is of another",
        ),
        ("tpm, ecdsa", ecdsa, 1_798_761_600, ""),
        ("tpm, rsa-pss", rsa, 1_798_761_600, ""),
    ];
    for (name, attestation, at, ends) in cases {
        let ask = || judge(black_box(&attestation), BOUND, B256::ZERO, &rule, at);
        let end = ask().err().map(|error| error.to_string());
        assert!(
            end.unwrap_or_default().starts_with(ends),
            "{name} ends elsewhere"
        );
        criterion.bench_function(name, |bencher| bencher.iter(ask));
    }
}

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    verify(&mut criterion);
    criterion.final_summary();
}
