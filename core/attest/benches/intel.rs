//! How long judging a genuine quote takes: `cargo bench -p cryptlet-attest --bench intel`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a benchmark stops where it cannot run"
)]

use alloy_primitives::{B256, Bytes, b256, bytes};
use criterion::{Criterion, criterion_group, criterion_main};
use cryptlet_attest::{AttestError, judge};
use cryptlet_types::{
    Attestation, Provider,
    policy::{EvidenceRule, ImageRule, TcbStatus},
};
use std::hint::black_box;

fn rule(provider: Provider, register: &str, value: Bytes) -> EvidenceRule {
    EvidenceRule {
        max_age_seconds: 60,
        images: vec![ImageRule {
            provider,
            registers: [(register.into(), value)].into(),
        }],
        tcb: vec![
            TcbStatus::UpToDate,
            TcbStatus::ConfigurationAndSwHardeningNeeded,
        ],
        ..EvidenceRule::default()
    }
}

fn intel(criterion: &mut Criterion) {
    let sgx = Attestation::Sgx {
        quote: include_bytes!("../tests/samples/intel/sgx.quote").into(),
        collateral: include_bytes!("../tests/samples/intel/sgx.collateral.json").into(),
    };
    let hello = b256!("0x48656c6c6f2c20776f726c642100000000000000000000000000000000000000");
    let enclave = bytes!("33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb");
    let enclave = rule(Provider::Sgx, "mrEnclave", enclave);
    criterion.bench_function("judge an SGX quote", |bencher| {
        bencher.iter(|| {
            judge(black_box(&sgx), hello, B256::ZERO, &enclave, 1_750_400_000).unwrap();
        });
    });
    let tdx = Attestation::Tdx {
        quote: include_bytes!("../tests/samples/intel/tdx-1.5.quote").into(),
        collateral: include_bytes!("../tests/samples/intel/tdx-1.5.collateral.json").into(),
    };
    let domain = bytes!(
        "2a674327c50218dba880066b349b8d559d749ed68dce33fd651c184a877d084b07a9e583767a7ad5da13ed91deec2b70"
    );
    let domain = rule(Provider::Tdx, "mrTd", domain);
    criterion.bench_function("judge a TDX quote", |bencher| {
        bencher.iter(|| {
            let zero = B256::ZERO;
            let result = judge(black_box(&tdx), zero, B256::ZERO, &domain, 1_791_500_000);
            // The last that is looked at, and all that is wrong: this domain bound 64 bytes of its own.
            assert!(matches!(result, Err(AttestError::Unbound { .. })));
        });
    });
}

criterion_group!(benches, intel);
criterion_main!(benches);
