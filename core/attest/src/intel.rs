//! Intel's word: quotes of SGX enclaves and of TDX trust domains, as Intel's DCAP makes them.
//!
//! The chain of signatures, the identity of the quoting enclave and the matching of the platform against Intel's TCB info are
//! checked by `dcap-qvl`. What that library leaves open is closed here; `docs/decisions/0025-intel-evidence.md` says what
//! and why. Formats: Intel SGX ECDSA Quote Library Reference, appendix A.4 (version 3); Intel TDX DCAP Quoting Library API,
//! appendix A.3 (versions 4 and 5); Intel PCS API version 4 (collateral).

mod collateral;
mod pem;
mod quote;
mod rule;
#[cfg(test)]
mod tests;

use crate::AttestError;
use alloy_primitives::{B256, hex};
use cryptlet_types::{Provider, UnixSeconds, bounded::clip, policy::EvidenceRule};
use dcap_qvl::{
    QuoteClaims, QuoteCollateralV3, QuotePolicy, TcbInfo, configs::RingConfig,
    verify::QuoteVerifier,
};

/// Intel SGX Root CA, DER, valid from 2018 to 2049; its SHA-256 digest is
/// `44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3`.
const ROOT: &[u8] = include_bytes!("intel/root.der");

/// Whose quote it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tee {
    /// An enclave's.
    Sgx,
    /// A trust domain's.
    Tdx,
}

impl Tee {
    fn provider(self) -> Provider {
        match self {
            Self::Sgx => Provider::Sgx,
            Self::Tdx => Provider::Tdx,
        }
    }

    /// The word in `tee_type` of a quote's header.
    fn number(self) -> u32 {
        match self {
            Self::Sgx => 0,
            Self::Tdx => 0x81,
        }
    }

    /// The word in `id` of TCB info.
    fn tcb_info(self) -> &'static str {
        match self {
            Self::Sgx => "SGX",
            Self::Tdx => "TDX",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sgx => "SGX quote",
            Self::Tdx => "TDX quote",
        }
    }
}

/// A quote as it was handed in.
#[derive(Clone, Copy)]
pub(crate) struct Quoted<'a> {
    /// What it claims to be.
    pub(crate) tee: Tee,
    /// The quote.
    pub(crate) quote: &'a [u8],
    /// What Intel says about the platform, JSON.
    pub(crate) collateral: &'a [u8],
}

impl Quoted<'_> {
    /// Whether it binds `bound`, goes back to Intel's root at `at`, and says what `rule` accepts.
    pub(crate) fn judge(
        &self,
        bound: B256,
        rule: &EvidenceRule,
        at: UnixSeconds,
    ) -> Result<(), AttestError> {
        let mut data = [0; 64];
        for (to, from) in data.iter_mut().zip(bound) {
            *to = from;
        }
        self.judge_under(ROOT, &data, rule, at)
    }

    /// The same below any root, and with the second half of the report data at choice: what tests need, whose genuine quotes
    /// bind 64 bytes of their own.
    fn judge_under(
        &self,
        root: &[u8],
        data: &[u8; 64],
        rule: &EvidenceRule,
        at: UnixSeconds,
    ) -> Result<(), AttestError> {
        let claims = self.prove(root, at)?;
        rule::tcb(&claims, rule)?;
        rule::image(self.tee.provider(), &claims.report, rule)?;
        rule::bound(&claims.report, data)
    }

    /// What the quote says, once everything below it has been proven up to `root` at `at`.
    fn prove(&self, root: &[u8], at: UnixSeconds) -> Result<QuoteClaims, AttestError> {
        let chain = quote::certificates(self.tee, self.quote, root)?;
        let collateral = collateral::read(self.collateral, &chain, root)?;
        let unproven = |reason: &str| AttestError::Unproven {
            what: self.tee.name(),
            reason: clip(reason),
        };
        let claims = QuoteVerifier::<RingConfig>::new_with_config(root.to_vec())
            .verify_with_policy(self.quote, &collateral, at, &QuotePolicy::claims_only(at))
            .map_err(|error| unproven(&format!("{error:#}")))?;
        if at < claims.latest_issue_date {
            return Err(unproven("a certificate or list is not valid yet"));
        }
        if at > claims.earliest_expiration_date {
            return Err(unproven("a certificate or list has expired"));
        }
        same_platform(self.tee, &collateral, &claims).map_err(|reason| unproven(&reason))?;
        Ok(claims)
    }
}

/// Whether TCB info is about this platform. The family (`fmspc`) is compared by the library; the provisioning enclave is not.
fn same_platform(
    tee: Tee,
    collateral: &QuoteCollateralV3,
    claims: &QuoteClaims,
) -> Result<(), String> {
    let info: TcbInfo =
        serde_json::from_str(&collateral.tcb_info).map_err(|error| format!("TCB info: {error}"))?;
    if (info.id.as_str(), info.version, info.tcb_type) != (tee.tcb_info(), 3, 0) {
        let (id, version, kind) = (info.id, info.version, info.tcb_type);
        return Err(format!(
            "TCB info {id:?} of version {version}, type {kind} is not known"
        ));
    }
    let pck = &claims.platform.pck.pce_id;
    match hex::decode(&info.pce_id) {
        Ok(id) if id == *pck => Ok(()),
        _ => Err("TCB info is of another provisioning certification enclave".into()),
    }
}
