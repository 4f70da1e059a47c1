//! What goes into an image, read and checked; and the folder that it comes out in.

use crate::{
    ImageDescriptor, ImageError, Initramfs, Linking, described,
    descriptor::{DESCRIPTOR, ImageFile},
    initramfs::Module,
};
use cryptlet_seal::sha256;
use cryptlet_types::Sha256Digest;
use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    path::{Path, PathBuf},
};

const MAX_KERNEL_BYTES: u64 = 256 << 20;
const MAX_CONTAINER_BYTES: u64 = 512 << 20;
const MAX_MODULE_BYTES: u64 = 64 << 20;
pub(crate) const MAX_FIRMWARE_BYTES: u64 = 64 << 20;
/// `COMMAND_LINE_SIZE` of x86-64, with the zero at the end.
const MAX_CMDLINE_BYTES: usize = 2_047;
/// Where a bzImage has its signature (Linux, `Documentation/arch/x86/boot.rst`).
const BZIMAGE_SIGNATURE: (usize, &[u8]) = (0x202, b"HdrS");

/// What goes into an image.
#[derive(Clone, Debug)]
pub struct Parts {
    /// A kernel for x86-64, as bzImage.
    pub kernel: PathBuf,
    /// Its command line, in printable ASCII, at most 2,047 bytes. What follows ` -- ` are the container's arguments.
    pub cmdline: String,
    /// Modules of that kernel, not compressed, which the container loads in this order before anything else; at most 64.
    pub modules: Vec<PathBuf>,
    /// The container: the program that becomes `/init`.
    pub container: PathBuf,
    /// What to do about its shared libraries.
    pub linking: Linking,
}

/// The same, read.
pub(crate) struct Ready {
    pub(crate) kernel: Vec<u8>,
    pub(crate) cmdline: String,
    pub(crate) initramfs: Initramfs,
    pub(crate) container: Sha256Digest,
}

impl Parts {
    pub(crate) fn read(&self) -> Result<Ready, ImageError> {
        check_cmdline(&self.cmdline)?;
        let kernel = read(&self.kernel, MAX_KERNEL_BYTES)?;
        let (at, signature) = BZIMAGE_SIGNATURE;
        if kernel
            .get(at..)
            .and_then(|rest| rest.get(..signature.len()))
            != Some(signature)
        {
            let path = self.kernel.display().to_string();
            return Err(ImageError::refused(path, "is no bzImage"));
        }
        let container = read(&self.container, MAX_CONTAINER_BYTES)?;
        let modules = self.modules.iter().map(|path| module(path));
        let modules = modules.collect::<Result<Vec<_>, _>>()?;
        Ok(Ready {
            kernel,
            cmdline: self.cmdline.clone(),
            container: sha256(&container),
            initramfs: Initramfs::new(&container, &self.linking, &modules)?,
        })
    }
}

fn module(path: &Path) -> Result<Module, ImageError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let no_name = || ImageError::refused(path.display().to_string(), "has no plain name");
    Ok(Module {
        name: name.ok_or_else(no_name)?.to_owned(),
        bytes: read(path, MAX_MODULE_BYTES)?,
    })
}

fn check_cmdline(cmdline: &str) -> Result<(), ImageError> {
    let refuse = |reason: &str| Err(ImageError::refused("command line", reason));
    if cmdline.len() > MAX_CMDLINE_BYTES {
        return refuse("has more than 2,047 bytes");
    }
    if cmdline.bytes().any(|byte| !matches!(byte, b' '..=b'~')) {
        return refuse("is not printable ASCII");
    }
    // What a boot loader does about spaces at the ends is not measured the same everywhere.
    if cmdline.trim() != cmdline {
        return refuse("begins or ends with a space");
    }
    Ok(())
}

/// Reads a file of at most `limit` bytes.
pub(crate) fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut bytes))
        .map_err(ImageError::file(path))?;
    if u64::try_from(bytes.len()).map_or(true, |length| length > limit) {
        let reason = format!("has more than {limit} bytes");
        return Err(ImageError::refused(path.display().to_string(), reason));
    }
    Ok(bytes)
}

/// A folder that an image comes out in.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
}

impl Output {
    pub(crate) fn new(folder: &Path) -> Result<Self, ImageError> {
        fs::create_dir_all(folder).map_err(ImageError::file(folder))?;
        let folder = folder.to_owned();
        Ok(Self { folder })
    }

    /// Writes a new file. One that is there is never replaced: it may be what a policy names.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<ImageFile, ImageError> {
        let path = self.folder.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(ImageError::file(&path))?;
        Ok(described(name, bytes))
    }

    /// Writes the descriptor, and returns it.
    pub(crate) fn describe(
        &self,
        descriptor: ImageDescriptor,
    ) -> Result<ImageDescriptor, ImageError> {
        self.write(DESCRIPTOR, &descriptor.to_json()?)?;
        Ok(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_that_are_not_measured_the_same_everywhere_are_refused() {
        assert!(check_cmdline("").is_ok());
        assert!(check_cmdline("console=ttyS0 panic=-1").is_ok());
        assert!(check_cmdline(&"x".repeat(MAX_CMDLINE_BYTES)).is_ok());
        for (cmdline, reason) in [
            ("x".repeat(MAX_CMDLINE_BYTES + 1), "more than"),
            ("a\0b".into(), "printable"),
            ("a\n".into(), "printable"),
            ("ä".into(), "printable"),
            (" a".into(), "space"),
            ("a ".into(), "space"),
        ] {
            let error = check_cmdline(&cmdline).unwrap_err().to_string();
            assert!(error.contains(reason), "{cmdline:?}: {error}");
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit_and_no_further() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, [7; 10]).unwrap();
        assert_eq!(read(&path, 10).unwrap(), [7; 10]);
        assert!(
            read(&path, 9)
                .unwrap_err()
                .to_string()
                .contains("more than 9")
        );
    }

    #[test]
    fn nothing_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let output = Output::new(folder.path()).unwrap();
        output.write("one", b"first").unwrap();
        assert!(output.write("one", b"second").is_err());
        assert_eq!(fs::read(folder.path().join("one")).unwrap(), b"first");
    }
}
