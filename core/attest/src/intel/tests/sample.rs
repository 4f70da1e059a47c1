//! Genuine quotes with their collateral, and what is asked of them.

use crate::intel::*;
use crate::judge;
use alloy_primitives::{Bytes, b256, bytes};
use cryptlet_types::{
    Attestation,
    policy::{ImageRule, TcbStatus},
};
use serde_json::Value;

/// A quote with its collateral, and a moment at which both are valid.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) tee: Tee,
    pub(super) quote: &'static [u8],
    pub(super) collateral: &'static [u8],
    pub(super) at: u64,
    /// Its report data.
    pub(super) data: [u8; 64],
    pub(super) image: (&'static str, Bytes),
    pub(super) tcb: TcbStatus,
}

impl Sample {
    /// An enclave that says "Hello, world!" on a platform that is to be configured otherwise.
    pub(super) fn sgx() -> Self {
        Self {
            tee: Tee::Sgx,
            quote: include_bytes!("../../../tests/samples/intel/sgx.quote"),
            collateral: include_bytes!("../../../tests/samples/intel/sgx.collateral.json"),
            at: 1_750_400_000,
            data: hex!(
                "48656c6c6f2c20776f726c6421000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
            ),
            image: (
                "mrEnclave",
                bytes!("33d8736db756ed4997e04ba358d27833188f1932ff7b1d156904d3f560452fbb"),
            ),
            tcb: TcbStatus::ConfigurationAndSwHardeningNeeded,
        }
    }

    /// A trust domain (TDX 1.5 with the extended report, quote version 5).
    pub(super) fn tdx() -> Self {
        Self {
            tee: Tee::Tdx,
            quote: include_bytes!("../../../tests/samples/intel/tdx-1.5.quote"),
            collateral: include_bytes!("../../../tests/samples/intel/tdx-1.5.collateral.json"),
            at: 1_791_500_000,
            data: hex!(
                "2945321c99222c3622a14cf7feaab073e799be14b5f3e73cd2e6cad64e5f062463ad204f33f0a39e47d098330db88ca5b5d0a7afce540dfe4c4fe4a377190731"
            ),
            image: (
                "mrTd",
                bytes!(
                    "2a674327c50218dba880066b349b8d559d749ed68dce33fd651c184a877d084b07a9e583767a7ad5da13ed91deec2b70"
                ),
            ),
            tcb: TcbStatus::UpToDate,
        }
    }

    /// A trust domain (TDX 1.0, quote version 4).
    pub(super) fn tdx_1_0() -> Self {
        Self {
            quote: include_bytes!("../../../tests/samples/intel/tdx-1.0.quote"),
            collateral: include_bytes!("../../../tests/samples/intel/tdx-1.0.collateral.json"),
            at: 1_750_400_000,
            data: hex!(
                "9a9d48e7f6799642d3d1b34e1e5e1742d4bb02dd6ddd551862c1211d35c304f9eca3efdbb481601c163cf52493d6e44aed55d51ec39b7e518fadb92c2b523f20"
            ),
            image: (
                "mrTd",
                bytes!(
                    "91eb2b44d141d4ece09f0c75c2c53d247a3c68edd7fafe8a3520c942a604a407de03ae6dc5f87f27428b2538873118b7"
                ),
            ),
            ..Self::tdx()
        }
    }

    pub(super) fn rule(&self) -> EvidenceRule {
        EvidenceRule {
            max_age_seconds: 60,
            images: vec![self.image([])],
            tcb: vec![self.tcb],
            ..EvidenceRule::default()
        }
    }

    /// The sample's image, with other registers beside.
    pub(super) fn image(&self, more: impl IntoIterator<Item = (&'static str, Bytes)>) -> ImageRule {
        let named = [self.image.clone()].into_iter().chain(more);
        ImageRule {
            provider: self.tee.provider(),
            registers: named.map(|(name, value)| (name.into(), value)).collect(),
        }
    }

    pub(super) fn judge(
        &self,
        quote: &[u8],
        collateral: &[u8],
        rule: &EvidenceRule,
        at: u64,
    ) -> Result<(), AttestError> {
        let tee = self.tee;
        let quoted = Quoted {
            tee,
            quote,
            collateral,
        };
        quoted.judge_under(ROOT, &self.data, rule, at)
    }

    pub(super) fn judge_under(&self, rule: &EvidenceRule) -> Result<(), AttestError> {
        self.judge(self.quote, self.collateral, rule, self.at)
    }

    pub(super) fn judge_at(&self, at: u64) -> Result<(), AttestError> {
        self.judge(self.quote, self.collateral, &self.rule(), at)
    }

    pub(super) fn judge_quote(&self, quote: &[u8]) -> Result<(), AttestError> {
        self.judge(quote, self.collateral, &self.rule(), self.at)
    }

    pub(super) fn judge_collateral(&self, collateral: &[u8]) -> Result<(), AttestError> {
        self.judge(self.quote, collateral, &self.rule(), self.at)
    }

    /// As the whole crate is asked.
    pub(super) fn judge_bound(&self, bound: B256) -> Result<(), AttestError> {
        let (quote, collateral) = (self.quote.into(), self.collateral.into());
        let attestation = match self.tee {
            Tee::Sgx => Attestation::Sgx { quote, collateral },
            Tee::Tdx => Attestation::Tdx { quote, collateral },
        };
        judge(&attestation, bound, B256::ZERO, &self.rule(), self.at)
    }

    /// The collateral with a field put in the place of another.
    pub(super) fn altered(
        &self,
        field: &str,
        alter: impl FnOnce(&mut Value),
    ) -> Result<(), AttestError> {
        let mut document: Value = serde_json::from_slice(self.collateral).unwrap();
        alter(&mut document[field]);
        self.judge_collateral(document.to_string().as_bytes())
    }
}

pub(super) fn all() -> [Sample; 3] {
    [Sample::sgx(), Sample::tdx(), Sample::tdx_1_0()]
}

/// "Hello, world!" and zeros.
pub(super) const HELLO: B256 =
    b256!("0x48656c6c6f2c20776f726c642100000000000000000000000000000000000000");

pub(super) fn malformed(result: &Result<(), AttestError>, name: &str) {
    assert!(
        matches!(result, Err(AttestError::Malformed { field, .. }) if *field == name),
        "{result:?}"
    );
}

pub(super) fn unproven(result: &Result<(), AttestError>, why: &str) {
    assert!(
        matches!(result, Err(AttestError::Unproven { reason, .. }) if reason.contains(why)),
        "{result:?} does not say {why}"
    );
}

pub(super) fn refused(result: &Result<(), AttestError>, why: &str) {
    assert!(
        matches!(result, Err(AttestError::Refused(reason)) if reason.contains(why)),
        "{result:?} does not say {why}"
    );
}
