//! Machines that boot what `cryptlet image` makes: the container is their `/init`, and vsock the only way to it. Real are kernel,
//! image, programs and the device's other end; QEMU emulates the processor, and a simulator attests.
//!
//! A host that dials vsock itself is tried inside of such a machine, whose kernel lets a machine talk to itself: there this program
//! is the first process.
//!
//! Needs what `scripts/setup.sh guest` fetches, so this runs only where `CRYPTLET_GUEST_TESTS=1` says that it is there.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    unsafe_code,
    reason = "tests, of which one is a first process"
)]

mod support;

use cryptlet_isolation::IsolationProvider;
use cryptlet_types::{Provider, Sha256Digest, region::RunOutcome};
use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};
use support::{
    MARKET_WATCHER, RELAY, Setup, container,
    elsewhere::{self, Host, reports},
    input, provision,
    source::{Source, page},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, UnixStream},
    sync::Mutex,
    task::JoinHandle,
};

const CHALLENGE: alloy_primitives::B256 = alloy_primitives::B256::repeat_byte(9);
/// What of Debian's kernel a machine needs that QEMU shows a vsock device, in the order in which they need each other.
const VSOCK: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vmw_vsock_virtio_transport",
];
/// What shows a guest what QEMU hands over, and where attestation is asked for.
const CONFIGURED: [&str; 2] = ["qemu_fw_cfg", "configfs"];
/// Time for a machine to say what it is expected to: without KVM, beside other tests.
const BOOT_TIME: Duration = Duration::from_secs(150);

/// One machine at a time: emulated ones are slow enough alone.
static TURN: Mutex<()> = Mutex::const_new(());

/// Whether such tests are asked for.
fn asked_for() -> bool {
    let asked = std::env::var_os("CRYPTLET_GUEST_TESTS").is_some_and(|value| value == "1");
    if !asked {
        eprintln!("skipped: needs QEMU and a kernel; set CRYPTLET_GUEST_TESTS=1");
    }
    asked
}

fn tools() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    cache.unwrap().join("bletchley/tools")
}

/// The file of that name below a folder.
fn below(folder: &Path, matches: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let mut entries: Vec<_> = fs::read_dir(folder).ok()?.map(Result::unwrap).collect();
    entries.sort_by_key(fs::DirEntry::path);
    entries.into_iter().find_map(|entry| {
        let (path, name) = (entry.path(), entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => below(&path, matches),
            false => matches(name.to_str()?).then_some(path),
        }
    })
}

fn missing(what: &str) -> ! {
    panic!("{what} is missing: scripts/setup.sh guest")
}

fn kernel() -> PathBuf {
    let folder = tools().join("linux-cloud/boot");
    below(&folder, &|name| name.starts_with("vmlinuz-")).unwrap_or_else(|| missing("a kernel"))
}

fn module(name: &str) -> PathBuf {
    let file = format!("{name}.ko");
    let found = below(&tools().join("linux-cloud/lib"), &|name| name == file);
    found.unwrap_or_else(|| missing(&file))
}

/// An image, made as operators make it.
struct Image {
    folder: TempDir,
    container: Sha256Digest,
}

impl Image {
    fn new(modules: &[&str], cmdline: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cryptlet = container().with_file_name("cryptlet");
        assert!(
            cryptlet.exists(),
            "{} is missing: make build",
            cryptlet.display()
        );
        let mut command = Command::new(cryptlet);
        command.args(["image", "tdx", "--kernel"]).arg(kernel());
        for module in modules.iter().map(|name| self::module(name)) {
            command.arg("--module").arg(module);
        }
        command.arg("--container").arg(container());
        for libraries in ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu"] {
            command.args(["--libraries", libraries]);
        }
        command.args(cmdline.map(|text| format!("--cmdline={text}")));
        command.arg("--out").arg(folder.path());
        let made = command.output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let descriptor = fs::read(folder.path().join("image.json")).unwrap();
        let descriptor: serde_json::Value = serde_json::from_slice(&descriptor).unwrap();
        let container = serde_json::from_value(descriptor["container"].clone()).unwrap();
        Self { folder, container }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A machine that boots an image, until it is dropped.
struct Machine {
    programs: Vec<Child>,
    lines: Receiver<String>,
    said: String,
}

impl Machine {
    fn start(image: &Image, more: &[OsString]) -> Self {
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-M", "q35,accel=tcg,memory-backend=ram", "-cpu", "max"]);
        command.args(["-object", "memory-backend-memfd,id=ram,size=640M,share=on"]);
        command.args(["-m", "640", "-nodefaults", "-no-reboot", "-display", "none"]);
        command.args(["-serial", "stdio", "-kernel"]);
        command.arg(image.file("kernel"));
        command.arg("-initrd").arg(image.file("initramfs.cpio"));
        let cmdline = fs::read_to_string(image.file("cmdline")).unwrap();
        command.args(["-append", &cmdline]).args(more);
        let started = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
        let mut machine = started.unwrap_or_else(|_| missing("qemu-system-x86_64"));
        let console = BufReader::new(machine.stdout.take().unwrap());
        let (heard, lines) = channel();
        thread::spawn(move || {
            // What firmware says need not be text.
            for line in console.split(b'\n').map_while(Result::ok) {
                if heard
                    .send(String::from_utf8_lossy(&line).into_owned())
                    .is_err()
                {
                    break;
                }
            }
        });
        Self {
            programs: vec![machine],
            lines,
            said: String::new(),
        }
    }

    /// Waits until the console has said that.
    fn says(&mut self, what: &str) {
        let until = Instant::now() + BOOT_TIME;
        while !self.said.contains(what) {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.extend([&line, "\n"]),
                Err(_) => panic!("the machine has not said {what:?}:\n{}", self.said),
            }
        }
    }

    /// Waits until it has ended by itself.
    fn ends(mut self) -> String {
        let until = Instant::now() + BOOT_TIME;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => self.said.extend([&line, "\n"]),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the machine has not ended:\n{}", self.said)
                }
            }
        }
        self.programs[0].wait().unwrap();
        std::mem::take(&mut self.said)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for program in &mut self.programs {
            let _ = program.kill();
            program.wait().unwrap();
        }
    }
}

/// The other end of a machine's vsock device, and the way there: a port of TCP that leads to one of vsock.
struct Vsock {
    device: Child,
    folder: TempDir,
}

impl Vsock {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        let program = tools().join("vhost-device-vsock-0.3.0/bin/vhost-device-vsock");
        let (control, streams) = (path("control"), path("streams"));
        let (control, streams) = (control.display(), streams.display());
        let device = Command::new(program)
            .args([
                "--vm",
                &format!("guest-cid=16,socket={control},uds-path={streams}"),
            ])
            .spawn()
            .unwrap_or_else(|_| missing("vhost-device-vsock"));
        let mut vsock = Self { device, folder };
        let until = Instant::now() + BOOT_TIME;
        while !vsock.path("control").exists() {
            assert!(Instant::now() < until, "vhost-device-vsock makes no socket");
            let ended = vsock.device.try_wait().unwrap();
            assert_eq!(ended, None, "vhost-device-vsock");
            thread::sleep(Duration::from_millis(10));
        }
        vsock
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What QEMU is told of it.
    fn options(&self) -> Vec<OsString> {
        let socket = format!("socket,id=vsock,path={}", self.path("control").display());
        let device = "vhost-user-vsock-pci,chardev=vsock";
        ["-chardev", &socket, "-device", device]
            .map(OsString::from)
            .into()
    }

    /// An address of TCP that leads to that port, as long as the task is not ended.
    async fn forwarded(&self, port: u32) -> (String, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let streams = self.path("streams");
        let task = tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut far = UnixStream::connect(&streams).await.unwrap();
                tokio::spawn(async move {
                    // The device's own word for it: a line each way.
                    let ask = format!("CONNECT {port}\n");
                    far.write_all(ask.as_bytes()).await.unwrap();
                    while far.read_u8().await.unwrap() != b'\n' {}
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        (address, task)
    }
}

impl Drop for Vsock {
    fn drop(&mut self) {
        let _ = self.device.kill();
        self.device.wait().unwrap();
    }
}

/// The whole way: an image is booted, believed by its container's digest, and a cryptlet in it asks its source and reports.
#[tokio::test]
async fn a_cryptlet_in_a_machine_that_booted_an_image_reports_and_its_evidence_holds() {
    if !asked_for() {
        return;
    }
    let _turn = TURN.lock().await;
    let cmdline =
        "console=ttyS0 quiet panic=-1 no_timer_check -- --listen vsock:8700 --attest simulator";
    let image = Image::new(&VSOCK, Some(cmdline));
    let vsock = Vsock::start();
    let mut machine = Machine::start(&image, &vsock.options());
    machine.says("listening on vsock:8700");
    let (address, forwarding) = vsock.forwarded(8_700).await;

    let host = Host::new();
    let source = Source::start(page("Date,USD,\n2026-10-16,1.1172,\n")).await;
    let setup = Setup::new(MARKET_WATCHER).with_source(&source);
    let (package, settings) = (setup.package(), setup.settings());
    let provider = host.provider_of(&address, image.container, Provider::Simulator);
    let provider = provider.unwrap();
    let measurement = provider.measurement(&package, &settings).unwrap();
    let created = provider.create(package, settings, CHALLENGE, setup.relay());
    let mut region = created.await.unwrap();

    let evidence = reports(region.as_mut(), &host, &setup, measurement).await;
    let controls = &evidence.statement.controls;
    for control in [
        "network-namespace",
        "no-capabilities",
        "landlock-partial",
        "seccomp-kill",
    ] {
        assert!(
            controls.iter().any(|there| there == control),
            "{controls:?}"
        );
    }
    forwarding.abort();
}

/// What `cryptlet image tdx` makes by itself, in a machine that is no trust domain: collateral is read from where QEMU hands it
/// over, and then there is nothing that attests. The console hears so, and the machine ends.
#[test]
fn a_machine_that_cannot_attest_says_why_and_ends() {
    if !asked_for() {
        return;
    }
    let _turn = TURN.blocking_lock();
    let image = Image::new(&[&VSOCK[..], &CONFIGURED].concat(), None);
    let collateral = image.file("collateral");
    fs::write(&collateral, "{}").unwrap();
    let file = format!(
        "name=opt/bletchley/collateral,file={}",
        collateral.display()
    );
    let mut machine = Machine::start(&image, &["-fw_cfg".into(), file.into()]);
    machine.says("no attestation from /sys/kernel/config/tsm/report");
    machine.says("the container has ended (exit status: 1); this machine restarts");
    let said = machine.ends();
    assert!(
        !said.contains("Kernel panic") && !said.contains("listening"),
        "{said}"
    );
}

/// What the kernel needs so that a machine reaches itself by vsock.
const LOOPBACK: [&str; 3] = [
    "vsock",
    "vmw_vsock_virtio_transport_common",
    "vsock_loopback",
];
/// Where this program is in a machine, so that it finds the container where it looks for it.
const THIS: &str = "deps/guest";
/// What it is linked to, and the container is not.
const LIBRARY: &str = "lib/x86_64-linux-gnu/libm.so.6";

/// A machine in which this program is the first process and runs [`inside_a_host_dials_vsock`], with the container beside it.
#[test]
fn a_host_reaches_a_container_by_vsock() {
    if !asked_for() {
        return;
    }
    let _turn = TURN.blocking_lock();
    let cmdline = format!(
        "console=ttyS0 quiet panic=-1 no_timer_check rdinit=/{THIS} -- --exact inside_a_host_dials_vsock --ignored --nocapture"
    );
    let image = Image::new(&LOOPBACK, Some(&cmdline));
    let this = fs::read(std::env::current_exe().unwrap()).unwrap();
    let library = fs::read(Path::new("/").join(LIBRARY)).unwrap();
    let more = archive(&[
        ("deps", 0o040_755, b""),
        (THIS, 0o100_755, &this),
        (LIBRARY, 0o100_755, &library),
        ("cryptlet-container", 0o120_777, b"init"),
        ("TRAILER!!!", 0, b""),
    ]);
    let initramfs = image.file("initramfs.cpio");
    let whole = [fs::read(&initramfs).unwrap(), more].concat();
    fs::write(initramfs, whole).unwrap();
    let mut machine = Machine::start(&image, &[]);
    machine.says("test result: ok. 1 passed");
    assert!(machine.said.contains(REPORTED), "{}", machine.said);
}

const REPORTED: &str = "a cryptlet that was reached by vsock has reported";

/// An archive that Linux unpacks over another (`Documentation/driver-api/early-userspace/buffer-format.rst`).
fn archive(entries: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (number, (path, mode, content)) in entries.iter().enumerate() {
        let (number, sizes) = (
            u32::try_from(number).unwrap(),
            [path.len() + 1, content.len()],
        );
        let [name, size] = sizes.map(|size| u32::try_from(size).unwrap());
        bytes.extend_from_slice(b"070701");
        for field in [number, *mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name, 0] {
            bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        bytes.extend_from_slice(path.as_bytes());
        bytes.push(0);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

#[tokio::test]
#[ignore = "the first process of a machine that another test boots"]
async fn inside_a_host_dials_vsock() {
    assert_eq!(std::process::id(), 1);
    prepare();
    let machine = elsewhere::Machine::start_at("vsock:8700");
    assert_eq!(machine.address, "vsock:8700");
    let (host, setup) = (Host::new(), Setup::new(RELAY));
    let (package, settings) = (setup.package(), setup.settings());
    let provider = host.provider("vsock:1:8700");
    let created = provider.create(package, settings, CHALLENGE, setup.relay());
    let mut region = created.await.unwrap();
    provision(region.as_mut(), &setup.key).await.unwrap();
    let answer = region.run(input(vec![])).await.unwrap();
    assert!(matches!(answer.outcome, RunOutcome::Report(_)));
    eprintln!("{REPORTED}");

    let nobody = host.provider("vsock:1:8701");
    let (package, settings) = (setup.package(), setup.settings());
    let created = nobody.create(package, settings, CHALLENGE, setup.relay());
    assert!(created.await.is_err_and(|error| error.is_retryable()));
}

/// What the container does as first process, as far as this program needs it.
fn prepare() {
    // SAFETY: texts that end with zeros, and no data.
    let mounted = unsafe {
        let (kind, at) = (c"proc".as_ptr(), c"/proc".as_ptr());
        libc::mount(kind, at, kind, 0, std::ptr::null())
    };
    assert_eq!(mounted, 0, "/proc");
    let mut modules: Vec<_> = fs::read_dir("/modules")
        .unwrap()
        .map(Result::unwrap)
        .collect();
    modules.sort_by_key(fs::DirEntry::path);
    for module in modules {
        let file = fs::File::open(module.path()).unwrap();
        // SAFETY: an open file, and a text that ends with a zero.
        let loaded =
            unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), c"".as_ptr(), 0) };
        assert_eq!(loaded, 0, "{:?}", module.path());
    }
}
