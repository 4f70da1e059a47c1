//! What speaks for the regions of this machine: the device that the program was told of, asked once before anybody is served.

use crate::arguments::Attest;
use alloy_primitives::{B256, Bytes};
use cryptlet_attester::{
    Attester, AttesterError, Collateral, Nsm, Simulator, SnpCollateral, Tsm,
    nsm::{self, NsmDevice},
    tsm::{self, Configfs},
};
use cryptlet_types::attestation::MAX_ATTESTATION_BYTES;
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why nothing attests.
#[derive(Debug, thiserror::Error)]
pub enum HardwareError {
    /// The collateral cannot be read.
    #[error("collateral {}: {source}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The collateral is not in the form that it has to be in.
    #[error("collateral {}: {source}", path.display())]
    Collateral {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: AttesterError,
    },
    /// There is no such device, or it does not attest.
    #[error("no attestation from {device}: {source}; {next}")]
    Device {
        /// Where it has to be.
        device: &'static str,
        /// What it says, or the operating system.
        source: AttesterError,
        /// What somebody can do.
        next: &'static str,
    },
    /// There is no simulator. Never in practice.
    #[error("simulator: {0}")]
    Simulator(AttesterError),
}

impl HardwareError {
    /// Whether trying again can help, without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::File { .. } | Self::Collateral { .. } | Self::Simulator(_) => false,
            Self::Device { source, .. } => source.is_retryable(),
        }
    }
}

/// What attests as it was told to, after a first attestation that nobody uses: a machine that cannot attest serves nobody.
///
/// # Errors
/// See [`HardwareError`].
pub fn attester(attest: &Attest) -> Result<Arc<dyn Attester>, HardwareError> {
    match attest {
        Attest::Nitro => {
            let next = "is this a Nitro enclave, whose kernel has the driver nsm?";
            let device = NsmDevice::open(Path::new(nsm::DEVICE));
            proven(device.map(Nsm::new), nsm::DEVICE, next)
        }
        Attest::Tdx(file) => {
            let next = "is this a TDX guest, whose kernel (6.7 or later) has the driver tdx_guest?";
            let collateral = Collateral::Tdx(read(file)?);
            proven(Ok(by_tsm(collateral)), tsm::FOLDER, next)
        }
        Attest::SevSnp(file) => {
            let next =
                "is this a SEV-SNP guest, whose kernel (6.7 or later) has the driver sev_guest?";
            let collateral = Collateral::SevSnp(of_amd(file)?);
            proven(Ok(by_tsm(collateral)), tsm::FOLDER, next)
        }
        Attest::Simulator => {
            let simulator = Simulator::everybodys().map_err(HardwareError::Simulator)?;
            Ok(Arc::new(simulator))
        }
    }
}

fn proven(
    attester: Result<impl Attester + 'static, AttesterError>,
    device: &'static str,
    next: &'static str,
) -> Result<Arc<dyn Attester>, HardwareError> {
    let failed = |source| HardwareError::Device {
        device,
        source,
        next,
    };
    let attester = attester.map_err(failed)?;
    attester.attest(B256::ZERO, B256::ZERO).map_err(failed)?;
    Ok(Arc::new(attester))
}

fn by_tsm(collateral: Collateral) -> Tsm<Configfs> {
    Tsm::new(Configfs::new(tsm::FOLDER), collateral)
}

fn of_amd(path: &Path) -> Result<SnpCollateral, HardwareError> {
    let read = SnpCollateral::from_der(&read(path)?);
    read.map_err(|source| HardwareError::Collateral {
        path: path.to_owned(),
        source,
    })
}

/// A file whose content may be part of an attestation.
fn read(path: &Path) -> Result<Bytes, HardwareError> {
    let failed = |source| HardwareError::File {
        path: path.to_owned(),
        source,
    };
    let limit = u64::try_from(MAX_ATTESTATION_BYTES).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(failed)?;
    match bytes.len() {
        1..=MAX_ATTESTATION_BYTES => Ok(bytes.into()),
        0 => Err(failed(io::ErrorKind::UnexpectedEof.into())),
        _ => Err(failed(io::ErrorKind::FileTooLarge.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn refused(attest: &Attest) -> String {
        match attester(attest) {
            Ok(_) => panic!("this machine attests"),
            Err(error) => {
                assert!(!error.is_retryable());
                error.to_string()
            }
        }
    }

    fn file(name: &str, content: &[u8]) -> PathBuf {
        let path = std::env::temp_dir().join(format!("{name}-{}", std::process::id()));
        fs::write(&path, content).unwrap();
        path
    }

    #[test]
    fn a_device_that_is_not_there_is_named_with_what_to_look_at() {
        let error = refused(&Attest::Nitro);
        assert!(
            error.contains("from /dev/nsm: ") && error.contains("a Nitro enclave"),
            "{error}"
        );
        let json = file("collateral-tdx", b"{}");
        let error = refused(&Attest::Tdx(json.clone()));
        assert!(
            error.contains(tsm::FOLDER) && error.contains("tdx_guest"),
            "{error}"
        );
        let list = file("collateral-snp", &[0x30, 0]);
        let error = refused(&Attest::SevSnp(list.clone()));
        assert!(
            error.contains(tsm::FOLDER) && error.contains("sev_guest"),
            "{error}"
        );
        fs::remove_file(json).unwrap();
        fs::remove_file(list).unwrap();
    }

    #[test]
    fn collateral_that_is_missing_empty_too_large_or_of_another_form_is_refused_by_name() {
        let missing = refused(&Attest::Tdx("/nowhere/collateral".into()));
        assert!(
            missing.starts_with("collateral /nowhere/collateral: "),
            "{missing}"
        );
        let cases = [
            (file("collateral-empty", b""), "unexpected end of file"),
            (
                file("collateral-large", &vec![7; MAX_ATTESTATION_BYTES + 1]),
                "file too large",
            ),
            (file("collateral-other", b"{}"), "DER"),
        ];
        for (path, reason) in cases {
            let error = refused(&Attest::SevSnp(path.clone()));
            assert!(
                error.starts_with("collateral ") && error.contains(reason),
                "{error}"
            );
            fs::remove_file(path).unwrap();
        }
    }

    #[test]
    fn a_simulator_is_always_at_hand() {
        assert!(attester(&Attest::Simulator).is_ok());
    }
}
