//! Being `/init`: what the first process of a machine without a disk has to do so that this program can run there.
//!
//! It loads the modules that the image brings, mounts what the kernel shows of itself, and starts this program again with its own
//! arguments, as a process of its own; from then on it takes leave of processes that have ended, and does nothing else. When that
//! process ends, or anything fails, the console hears why, and the machine is restarted: a first process that ends would have the
//! kernel panic. Who runs the machine decides whether a restart is its end (QEMU: `-no-reboot`; a Nitro enclave ends with it).
//!
//! What it reads comes from the measured image or from the kernel. Sources: Linux, `init/main.c` and
//! `Documentation/filesystems/ramfs-rootfs-initramfs.rst`; AWS, `aws-nitro-enclaves-sdk-bootstrap`, `init/init.c`.

use crate::{
    arguments::{self, Attest, USAGE},
    vsock,
};
use rustix::{
    io::Errno,
    mount::{MountFlags, mount},
    process::{WaitOptions, wait},
    system::{RebootCommand, finit_module, reboot},
};
use std::{
    env,
    error::Error,
    ffi::OsString,
    fs::{self, File},
    io::{self, ErrorKind, Read, Write},
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{self, Command, ExitCode, ExitStatus},
    thread,
    time::Duration,
};

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Where an image has its kernel modules, in the order of their names.
const MODULES: &str = "/modules";
/// Most of them.
const MAX_MODULES: usize = 64;
/// Where configfs belongs; the folder is there where the kernel has it.
const CONFIGFS: &str = "/sys/kernel/config";
/// Before a restart: for the console to be read, and so that a machine that cannot work is not started as often as it can be.
const PAUSE: Duration = Duration::from_secs(2);
/// Whoever started a Nitro enclave waits at this vsock address for this byte, says it too, and ends an enclave that is silent.
const PARENT: (u32, u32) = (3, 9_000);
const HEARTBEAT: u8 = 0xb7;

/// Whether this process is the first of a machine that nobody has prepared. (The first of a container that somebody else
/// prepared has a `/proc`.)
pub(crate) fn is_wanted() -> bool {
    process::id() == 1 && !Path::new("/proc/self").exists()
}

/// Does it, and restarts the machine at last. Returns only if that is not permitted.
pub(crate) fn run(name: &str) -> ExitCode {
    let why = match serve() {
        Ok(status) => format!("the container has ended ({status})"),
        Err(error) => error.to_string(),
    };
    // Without a console there is nobody to tell.
    let _ = writeln!(io::stderr(), "{name}: {why}; this machine restarts");
    thread::sleep(PAUSE);
    let _ = reboot(RebootCommand::Restart);
    ExitCode::FAILURE
}

fn serve() -> Outcome<ExitStatus> {
    let words: Vec<OsString> = env::args_os().skip(1).collect();
    let listening = arguments::parse(words.iter().cloned())
        .ok()
        .flatten()
        .ok_or_else(|| format!("the kernel's command line has to end with: -- {USAGE}"))?;
    load_modules()?;
    mount_all()?;
    if listening.attest == Attest::Nitro {
        let (cid, port) = PARENT;
        let parent = vsock::connect_to(cid, port).map(File::from);
        let heard = parent.and_then(say_ready);
        heard.map_err(|error| format!("heartbeat to vsock {cid}:{port}: {error}"))?;
    }
    let container = Command::new("/proc/self/exe")
        .args(words)
        .env_clear()
        .current_dir("/")
        .spawn()?;
    Ok(outlive(container.id())?)
}

fn load_modules() -> Outcome<()> {
    for path in modules(Path::new(MODULES))? {
        let loaded = File::open(&path).and_then(|file| match finit_module(&file, c"", 0) {
            // The kernel has it built in, or somebody else needed it first.
            Err(Errno::EXIST) => Ok(()),
            other => Ok(other?),
        });
        loaded.map_err(|error| format!("module {}: {error}", path.display()))?;
    }
    Ok(())
}

/// Files of that folder, by name; none if there is no such folder.
fn modules(folder: &Path) -> Outcome<Vec<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let paths: io::Result<Vec<PathBuf>> = entries
        .take(MAX_MODULES + 1)
        .map(|entry| Ok(entry?.path()))
        .collect();
    let mut paths = paths?;
    if paths.len() > MAX_MODULES {
        return Err(format!("{} has more than {MAX_MODULES} files", folder.display()).into());
    }
    paths.sort_unstable();
    Ok(paths)
}

fn mount_all() -> Outcome<()> {
    let plain = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    let devices = MountFlags::NOSUID | MountFlags::NOEXEC;
    for (kind, at, flags) in [
        ("proc", "/proc", plain),
        ("sysfs", "/sys", plain),
        ("devtmpfs", "/dev", devices),
    ] {
        mount_one(kind, at, flags)?;
    }
    if Path::new(CONFIGFS).is_dir() {
        mount_one("configfs", CONFIGFS, plain)?;
    }
    Ok(())
}

fn mount_one(kind: &str, at: &str, flags: MountFlags) -> Outcome<()> {
    match mount(kind, at, kind, flags, None) {
        // The kernel has done it.
        Ok(()) | Err(Errno::BUSY) => Ok(()),
        Err(error) => Err(format!("{kind} at {at}: {}", io::Error::from(error)).into()),
    }
}

fn say_ready(mut parent: impl Read + Write) -> io::Result<()> {
    parent.write_all(&[HEARTBEAT])?;
    let mut heard = [0];
    parent.read_exact(&mut heard)?;
    match heard {
        [HEARTBEAT] => Ok(()),
        _ => Err(ErrorKind::InvalidData.into()),
    }
}

/// Takes leave of all processes that end, until it is that one.
fn outlive(container: u32) -> io::Result<ExitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((ended, status))) if u32::try_from(ended.as_raw_pid()) == Ok(container) => {
                return Ok(ExitStatus::from_raw(status.as_raw()));
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{io::Cursor, os::unix::net::UnixStream};

    #[test]
    fn modules_are_loaded_in_the_order_of_their_names_and_need_not_be_there() {
        assert_eq!(
            modules(Path::new("/nowhere/modules")).unwrap(),
            [""; 0].map(PathBuf::from)
        );
        let folder = env::temp_dir().join(format!("modules-{}", process::id()));
        fs::create_dir(&folder).unwrap();
        let make = |name: &str| fs::write(folder.join(name), b"").unwrap();
        ["02-c.ko", "00-z.ko", "01-a.ko"].into_iter().for_each(make);
        let names = ["00-z.ko", "01-a.ko", "02-c.ko"].map(|name| folder.join(name));
        assert_eq!(modules(&folder).unwrap(), names);
        (3..=MAX_MODULES).for_each(|number| make(&format!("{number:02}.ko")));
        assert!(
            modules(&folder)
                .unwrap_err()
                .to_string()
                .contains("more than 64")
        );
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn whoever_started_an_enclave_hears_and_says_the_same_byte() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&[HEARTBEAT]).unwrap();
        say_ready(&ours).unwrap();
        let mut heard = [0];
        theirs.read_exact(&mut heard).unwrap();
        assert_eq!(heard, [0xb7]);
        theirs.write_all(&[1]).unwrap();
        assert_eq!(say_ready(&ours).unwrap_err().kind(), ErrorKind::InvalidData);
        let silent = say_ready(Cursor::new(Vec::new())).unwrap_err();
        assert_eq!(silent.kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_process_of_a_prepared_machine_is_no_init() {
        assert!(!is_wanted());
    }
}
