//! Intel TDX and AMD SEV-SNP guests: reports of the trusted security module, through configfs.
//!
//! The interface is the kernel's, `Documentation/ABI/testing/configfs-tsm-report` (Linux 6.7 and later): a folder for each
//! request, with a file to write what is to be bound and files to read what came of it.

mod certificates;
mod file;
mod folder;
#[cfg(test)]
mod tests;

pub use folder::{Configfs, ReportFolder};

use alloy_primitives::{B256, Bytes};
use certificates::Certificates;
use cryptlet_seal::attester::{Attester, AttesterError, bounded};
use cryptlet_types::{Attestation, Provider};
use std::{
    io, process,
    sync::atomic::{AtomicU64, Ordering},
};

/// Where Linux mounts it.
pub const FOLDER: &str = "/sys/kernel/config/tsm/report";
/// Bytes of report data that the hardware binds.
const REPORT_DATA_BYTES: usize = 64;
/// Names that are tried: one that an earlier process with the same number left behind is passed over.
const NAMES: u32 = 16;
/// `SNP report`, AMD 56860, table 22 (`ATTESTATION_REPORT`).
const SNP_REPORT_BYTES: usize = 1_184;
const SNP_REPORT_DATA: usize = 0x50;
/// Header of a quote, and where a body of a TD has the report data (Intel TDX DCAP, Quoting Library API, appendix 3).
const TDX_HEADER_BYTES: usize = 48;
const TDX_BODY_BYTES: usize = 584;
const TDX_REPORT_DATA: usize = 520;

/// What the vendor says about the platform, fetched and kept fresh by the host. A guest has no network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collateral {
    /// Of Intel, for TDX: JSON as `dcap-qvl` reads it.
    Tdx(Bytes),
    /// Of AMD, for SEV-SNP.
    SevSnp(SnpCollateral),
}

/// What AMD says about a platform, all of it DER. Certificates are taken from the table that comes with the report; only
/// those that the table lacks are taken from here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnpCollateral {
    /// VCEK or VLEK.
    pub endorsement: Option<Bytes>,
    /// ASK or ASVK.
    pub intermediate: Option<Bytes>,
    /// ARK.
    pub root: Option<Bytes>,
    /// Revocation list of the ARK.
    pub revocations: Bytes,
}

impl Collateral {
    fn provider(&self) -> Provider {
        match self {
            Self::Tdx(_) => Provider::Tdx,
            Self::SevSnp(_) => Provider::SevSnp,
        }
    }

    /// What the kernel calls the provider.
    fn name(&self) -> &'static str {
        match self {
            Self::Tdx(_) => "tdx_guest",
            Self::SevSnp(_) => "sev_guest",
        }
    }
}

/// Gets reports of a TDX or SEV-SNP guest.
#[derive(Debug)]
pub struct Tsm<F> {
    folder: F,
    collateral: Collateral,
    entries: AtomicU64,
}

/// What one entry gave.
struct Report {
    quote: Vec<u8>,
    certificates: Vec<u8>,
}

impl<F: ReportFolder> Tsm<F> {
    /// Asks by entries of this folder. The collateral says of which kind the guest is.
    pub fn new(folder: F, collateral: Collateral) -> Self {
        Self {
            folder,
            collateral,
            entries: AtomicU64::new(0),
        }
    }

    /// A new entry, which nobody else uses.
    fn create(&self) -> Result<String, AttesterError> {
        for _ in 0..NAMES {
            let number = self.entries.fetch_add(1, Ordering::Relaxed);
            let name = format!("cryptlet-{}-{number}", process::id());
            match self.folder.create(&name) {
                Ok(()) => return Ok(name),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed("entry")(error)),
            }
        }
        Err(AttesterError::Busy("tsm/report"))
    }

    fn read(&self, entry: &str, bound: B256) -> Result<Report, AttesterError> {
        self.check_provider(entry)?;
        let before = self.generation(entry)?;
        let report_data = report_data(bound);
        self.folder
            .write(entry, "inblob", &report_data)
            .map_err(failed("inblob"))?;
        let quote = self
            .folder
            .read(entry, "outblob")
            .map_err(failed("outblob"))?;
        let certificates = match self.collateral {
            Collateral::Tdx(_) => Vec::new(),
            Collateral::SevSnp(_) => self.auxiliary(entry)?,
        };
        // One write since. The kernel takes what was written when the file is closed, where its failure reaches nobody:
        // this is also how a write that was refused shows.
        if self.generation(entry)? != before.wrapping_add(1) {
            return Err(AttesterError::Busy("tsm/report (generation)"));
        }
        check_report(&self.collateral, &quote, &report_data)?;
        Ok(Report {
            quote,
            certificates,
        })
    }

    fn check_provider(&self, entry: &str) -> Result<(), AttesterError> {
        let found = self.text(entry, "provider")?;
        let expected = self.collateral.name();
        if found == expected {
            return Ok(());
        }
        Err(AttesterError::malformed(
            "provider",
            format!("is {found:?}, and the collateral is for {expected:?}"),
        ))
    }

    fn generation(&self, entry: &str) -> Result<u64, AttesterError> {
        let text = self.text(entry, "generation")?;
        text.parse()
            .map_err(|_| AttesterError::malformed("generation", format!("{text:?} is no number")))
    }

    fn text(&self, entry: &str, attribute: &'static str) -> Result<String, AttesterError> {
        let bytes = self
            .folder
            .read(entry, attribute)
            .map_err(failed(attribute))?;
        let text = String::from_utf8(bytes)
            .map_err(|_| AttesterError::malformed(attribute, "is no text"))?;
        Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
    }

    /// The certificate table; empty where the host offers none.
    fn auxiliary(&self, entry: &str) -> Result<Vec<u8>, AttesterError> {
        match self.folder.read(entry, "auxblob") {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            other => other.map_err(failed("auxblob")),
        }
    }
}

impl<F: ReportFolder> Attester for Tsm<F> {
    fn provider(&self) -> Provider {
        self.collateral.provider()
    }

    fn attest(&self, bound: B256, _: B256) -> Result<Attestation, AttesterError> {
        let entry = self.create()?;
        let report = self.read(&entry, bound);
        // An entry that stays holds memory of the kernel until somebody removes it.
        let removed = self.folder.remove(&entry).map_err(failed("entry"));
        let report = report?;
        removed?;
        let quote = report.quote.into();
        bounded(match &self.collateral {
            Collateral::Tdx(collateral) => Attestation::Tdx {
                quote,
                collateral: collateral.clone(),
            },
            Collateral::SevSnp(collateral) => Attestation::SevSnp {
                report: quote,
                certificates: Certificates::read(&report.certificates)?.chain(collateral)?,
                revocations: collateral.revocations.clone(),
            },
        })
    }
}

/// What is written: the bound bytes, then zeros.
fn report_data(bound: B256) -> [u8; REPORT_DATA_BYTES] {
    let mut data = [0; REPORT_DATA_BYTES];
    let (first, _) = data.split_at_mut(bound.len());
    first.copy_from_slice(bound.as_slice());
    data
}

/// Refuses what is cut short or about something else. Who signed it is for the verifier to say.
fn check_report(
    collateral: &Collateral,
    report: &[u8],
    report_data: &[u8],
) -> Result<(), AttesterError> {
    let short = || {
        let reason = format!("has {} bytes and is cut short", report.len());
        AttesterError::malformed("outblob", reason)
    };
    let at = match collateral {
        Collateral::SevSnp(_) if report.len() != SNP_REPORT_BYTES => return Err(short()),
        Collateral::SevSnp(_) => SNP_REPORT_DATA,
        Collateral::Tdx(_) => tdx_report_data(report)?.ok_or_else(short)?,
    };
    match report
        .get(at..)
        .and_then(|rest| rest.get(..report_data.len()))
    {
        None => Err(short()),
        Some(found) if found == report_data => Ok(()),
        Some(_) => Err(AttesterError::malformed(
            "outblob",
            "is about other report data",
        )),
    }
}

/// Where a TDX quote has its report data; none if it is cut short. Version 4 has the body of a TD after the header, version 5
/// has type and size before it.
fn tdx_report_data(quote: &[u8]) -> Result<Option<usize>, AttesterError> {
    let Some(version) = little_endian(quote, 0, 2) else {
        return Ok(None);
    };
    let (body, bytes) = match version {
        4 => (TDX_HEADER_BYTES, Some(TDX_BODY_BYTES)),
        5 => (
            TDX_HEADER_BYTES + 6,
            little_endian(quote, TDX_HEADER_BYTES + 2, 4),
        ),
        other => {
            let reason = format!("is a quote of version {other}, not 4 or 5");
            return Err(AttesterError::malformed("outblob", reason));
        }
    };
    let whole = bytes.and_then(|bytes| {
        let signature = body.checked_add(bytes)?;
        let length = little_endian(quote, signature, 4)?;
        signature.checked_add(4)?.checked_add(length)
    });
    Ok(whole
        .filter(|whole| *whole <= quote.len())
        .map(|_| body + TDX_REPORT_DATA))
}

fn little_endian(bytes: &[u8], at: usize, count: usize) -> Option<usize> {
    let number = bytes.get(at..at.checked_add(count)?)?;
    number.iter().rev().try_fold(0_usize, |all, byte| {
        all.checked_mul(256)?.checked_add((*byte).into())
    })
}

fn failed(attribute: &'static str) -> impl FnOnce(io::Error) -> AttesterError {
    AttesterError::system(format!("tsm/report {attribute}"))
}
