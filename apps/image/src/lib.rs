//! Makes what hardware boots: a kernel, its command line and an initramfs with the container as `/init`, as an image of AWS
//! Nitro enclaves or as files for the direct boot of a TDX or SEV-SNP guest, with the measurements that the hardware will
//! report of it where they can be predicted.
//!
//! The same inputs make the same bytes: no clock, no order of a folder and no name of a machine goes into an image.

pub mod cpio;
pub mod descriptor;
pub mod eif;
pub mod elf;
pub mod firmware;
mod initramfs;
mod parts;
pub mod snp;

pub use descriptor::ImageDescriptor;
pub use initramfs::{Initramfs, Linking, Module};
pub use parts::{Output, Parts};
pub use snp::SnpMachine;

use alloy_primitives::Bytes;
use cryptlet_seal::sha256;
use cryptlet_types::Provider;
use descriptor::ImageFile;
use firmware::Firmware;
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

/// Why there is no image. Somebody has to change something first.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// Something is not what it should be.
    #[error("{what}: {reason}")]
    Refused {
        /// What it is about.
        what: String,
        /// What is wrong.
        reason: String,
    },
}

impl ImageError {
    /// Whether trying again with the same inputs can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }

    fn refused(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Refused {
            what: what.into(),
            reason: reason.into(),
        }
    }

    fn file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        |source| Self::File { path, source }
    }
}

/// Makes a Nitro enclave image, `image.eif`, and its descriptor, `image.json`, in a folder that must hold neither.
///
/// Its registers are `pcr0` to `pcr2`. `pcr0` covers the kernel, its command line and both ramdisks.
///
/// # Errors
/// Says what cannot be read, is refused or cannot be written.
pub fn nitro(parts: &Parts, output: &Path) -> Result<ImageDescriptor, ImageError> {
    let ready = parts.read()?;
    let Initramfs { boot, application } = &ready.initramfs;
    let image = eif::image(&ready.kernel, &ready.cmdline, &[boot, application])?;
    let registers = image
        .registers
        .iter()
        .enumerate()
        .map(|(number, value)| (format!("pcr{number}"), Bytes::copy_from_slice(value)))
        .collect();
    let output = Output::new(output)?;
    let files = vec![output.write("image.eif", &image.bytes)?];
    output.describe(ImageDescriptor {
        kind: Provider::Nitro,
        container: ready.container,
        files,
        registers,
        not_predicted: Vec::new(),
    })
}

/// Makes the files for the direct boot of a SEV-SNP guest by QEMU with `kernel-hashes=on`: `firmware.fd`, `kernel`,
/// `initramfs.cpio`, `cmdline`, and `image.json`, in a folder that must hold none of them.
///
/// Its register is `measurement`, the launch digest. The firmware has to be one that checks the hashes of kernel, initramfs
/// and command line (OVMF, `AmdSev`): another would boot whatever the host gives it, and is refused.
///
/// # Errors
/// Says what cannot be read, is refused or cannot be written.
pub fn snp(
    parts: &Parts,
    firmware: &Path,
    machine: SnpMachine,
    output: &Path,
) -> Result<ImageDescriptor, ImageError> {
    let ready = parts.read()?;
    let firmware = parts::read(firmware, parts::MAX_FIRMWARE_BYTES)?;
    let initramfs = ready.initramfs.concatenated();
    let hashes = snp::KernelHashes::new(&ready.kernel, &initramfs, &ready.cmdline);
    let measurement = snp::measurement(&Firmware::parse(&firmware)?, Some(&hashes), machine)?;
    let output = Output::new(output)?;
    let mut files = vec![output.write("firmware.fd", &firmware)?];
    files.extend(direct_boot(&output, &ready, &initramfs)?);
    output.describe(ImageDescriptor {
        kind: Provider::SevSnp,
        container: ready.container,
        files,
        registers: BTreeMap::from([(
            "measurement".to_owned(),
            Bytes::copy_from_slice(&measurement),
        )]),
        not_predicted: Vec::new(),
    })
}

/// Makes the files for the direct boot of a TDX guest: `kernel`, `initramfs.cpio`, `cmdline`, and `image.json`, in a folder
/// that must hold none of them.
///
/// None of its registers is predicted: `mrTd` depends on how the virtual machine monitor orders the pages of its firmware,
/// `rtMr0` on the machine that it describes, `rtMr1` and `rtMr2` on what the firmware logs and on the kernel's header, which
/// the monitor patches. They are to be taken from the quote of a guest on a machine that is trusted for it.
///
/// # Errors
/// Says what cannot be read, is refused or cannot be written.
pub fn tdx(parts: &Parts, output: &Path) -> Result<ImageDescriptor, ImageError> {
    let ready = parts.read()?;
    let initramfs = ready.initramfs.concatenated();
    let output = Output::new(output)?;
    let files = direct_boot(&output, &ready, &initramfs)?;
    output.describe(ImageDescriptor {
        kind: Provider::Tdx,
        container: ready.container,
        files,
        registers: BTreeMap::new(),
        not_predicted: ["mrTd", "rtMr0", "rtMr1", "rtMr2", "rtMr3"]
            .map(String::from)
            .into(),
    })
}

fn direct_boot(
    output: &Output,
    ready: &parts::Ready,
    initramfs: &[u8],
) -> Result<Vec<ImageFile>, ImageError> {
    Ok(vec![
        output.write("kernel", &ready.kernel)?,
        output.write("initramfs.cpio", initramfs)?,
        output.write("cmdline", ready.cmdline.as_bytes())?,
    ])
}

fn described(name: &str, bytes: &[u8]) -> ImageFile {
    ImageFile {
        name: name.to_owned(),
        size: u64::try_from(bytes.len()).unwrap_or(u64::MAX),
        sha256: sha256(bytes),
    }
}
