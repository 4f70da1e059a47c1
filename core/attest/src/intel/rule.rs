//! Policy's part: what a proven quote must say.

use crate::AttestError;
use alloy_primitives::hex;
use cryptlet_types::{
    Provider,
    policy::{EvidenceRule, ImageRule, TcbStatus},
};
use dcap_qvl::{QuoteClaims, TcbStatus as Intels, quote::Report};
use subtle::ConstantTimeEq;

/// Whether the report data is `expected`, compared in constant time.
pub(super) fn bound(report: &Report, expected: &[u8; 64]) -> Result<(), AttestError> {
    let data = match report {
        Report::SgxEnclave(report) => &report.report_data,
        Report::TD10(report) => &report.report_data,
        Report::TD15(report) => &report.base.report_data,
        Report::TD15Ex(report) => &report.base.base.report_data,
    };
    if bool::from(data.ct_eq(expected)) {
        Ok(())
    } else {
        Err(AttestError::Unbound {
            what: "report data",
        })
    }
}

/// Intel's word in policy's terms. None: no policy can accept it.
fn known(status: Intels) -> Option<TcbStatus> {
    match status {
        Intels::UpToDate => Some(TcbStatus::UpToDate),
        Intels::SWHardeningNeeded => Some(TcbStatus::SwHardeningNeeded),
        Intels::ConfigurationNeeded => Some(TcbStatus::ConfigurationNeeded),
        Intels::ConfigurationAndSWHardeningNeeded => {
            Some(TcbStatus::ConfigurationAndSwHardeningNeeded)
        }
        Intels::OutOfDate => Some(TcbStatus::OutOfDate),
        Intels::OutOfDateConfigurationNeeded => Some(TcbStatus::OutOfDateConfigurationNeeded),
        Intels::Revoked
        | Intels::TDRelaunchAdvised
        | Intels::TDRelaunchAdvisedConfigurationNeeded => None,
    }
}

/// Whether policy accepts the state of everything below the report.
///
/// Intel's rules merge the states of platform and quoting enclave into one and lose two on the way: that of a trust domain's
/// present module where the one it was launched with was better, and a quoting enclave that is to be configured otherwise.
/// These have to be accepted by themselves.
pub(super) fn tcb(claims: &QuoteClaims, rule: &EvidenceRule) -> Result<(), AttestError> {
    let (verdict, enclave) = (&claims.tcb, &claims.qe.tcb_level);
    accepted("platform", verdict.status, &verdict.advisory_ids, rule)?;
    if let Some(now) = &claims.platform.current_tcb_level {
        accepted("present platform", now.tcb_status, &now.advisory_ids, rule)?;
    }
    match enclave.tcb_status {
        Intels::UpToDate | Intels::OutOfDate => Ok(()),
        other => accepted("quoting enclave", other, &enclave.advisory_ids, rule),
    }
}

fn accepted(
    what: &str,
    status: Intels,
    advisories: &[String],
    rule: &EvidenceRule,
) -> Result<(), AttestError> {
    let listed = match &*rule.tcb {
        [] => &[TcbStatus::UpToDate],
        listed => listed,
    };
    if known(status).is_some_and(|status| listed.contains(&status)) {
        return Ok(());
    }
    let advisories = match advisories {
        [] => "none named".into(),
        named => named.join(", "),
    };
    Err(AttestError::Refused(format!(
        "the {what}'s TCB is {status} (advisories: {advisories})"
    )))
}

/// Whether some image of policy has the values that the report shows.
pub(super) fn image(
    provider: Provider,
    report: &Report,
    rule: &EvidenceRule,
) -> Result<(), AttestError> {
    let mut reason = format!("names no image of {}", provider.as_str());
    for image in rule
        .images
        .iter()
        .filter(|image| image.provider == provider)
    {
        match fits(image, report) {
            Ok(()) => return Ok(()),
            Err(why) => reason = why,
        }
    }
    Err(AttestError::Refused(reason))
}

fn fits(image: &ImageRule, report: &Report) -> Result<(), String> {
    let provider = image.provider.as_str();
    if let Some(name) = image.first()
        && !image.registers.contains_key(name)
    {
        return Err(format!("an image of {provider} does not name {name}"));
    }
    for (name, expected) in &image.registers {
        let Some(found) = register(report, name) else {
            return Err(format!("{provider} has no register {name:?}"));
        };
        if found != &expected[..] {
            let found = hex::encode(found);
            return Err(format!("{name} 0x{found} is of no image of {provider}"));
        }
    }
    Ok(())
}

/// A value of a report, by the name that rules use.
fn register<'a>(report: &'a Report, name: &str) -> Option<&'a [u8]> {
    if let Report::SgxEnclave(report) = report {
        return match name {
            "mrEnclave" => Some(&report.mr_enclave),
            "mrSigner" => Some(&report.mr_signer),
            _ => None,
        };
    }
    let report = report.as_td10()?;
    match name {
        "mrTd" => Some(&report.mr_td),
        "rtMr0" => Some(&report.rt_mr0),
        "rtMr1" => Some(&report.rt_mr1),
        "rtMr2" => Some(&report.rt_mr2),
        "rtMr3" => Some(&report.rt_mr3),
        "mrConfigId" => Some(&report.mr_config_id),
        "mrSeam" => Some(&report.mr_seam),
        "mrSignerSeam" => Some(&report.mr_signer_seam),
        _ => None,
    }
}
