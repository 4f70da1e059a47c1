//! Boots what was made, in an emulated machine. Needs a kernel (one that has a serial console built in, as Debian's cloud
//! kernels do) and QEMU, so it runs only when it is asked for:
//!
//! ```sh
//! CRYPTLET_KERNEL=/boot/vmlinuz-6.1.0-cloud-amd64 cargo test --release -p cryptlet-image --test boot -- --ignored
//! ```
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use cryptlet_image::{Linking, Parts, tdx};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// An emulated machine on a busy one may be late for the kernel's check of its timer.
const CMDLINE: &str = "console=ttyS0 panic=-1 quiet no_timer_check";
const SAYS: &[u8] = b"the container was started\n";

/// A program that says one line and restarts the machine: system calls `write` (1) and `reboot` (169), nothing else.
fn program() -> Vec<u8> {
    const BASE: u64 = 0x40_0000;
    const CODE_AT: u64 = 64 + 56;
    let mut code = vec![
        0xb8,
        1,
        0,
        0,
        0, // mov eax, 1
        0xbf,
        1,
        0,
        0,
        0, // mov edi, 1
        0x48,
        0x8d,
        0x35,
        31,
        0,
        0,
        0, // lea rsi, [rip + 31]: what follows the code
        0xba,
        u8::try_from(SAYS.len()).unwrap(),
        0,
        0,
        0, // mov edx, length
        0x0f,
        0x05, // syscall
        0xb8,
        169,
        0,
        0,
        0, // mov eax, 169
        0xbf,
        0xad,
        0xde,
        0xe1,
        0xfe, // mov edi, 0xfee1dead
        0xbe,
        0x69,
        0x19,
        0x12,
        0x28, // mov esi, 0x28121969
        0xba,
        0x67,
        0x45,
        0x23,
        0x01, // mov edx, 0x01234567
        0x0f,
        0x05, // syscall
        0xeb,
        0xfe, // jmp to itself
    ];
    code.extend_from_slice(SAYS);
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let half = |program: &mut Vec<u8>, value: u16| program.extend_from_slice(&value.to_le_bytes());
    let word = |program: &mut Vec<u8>, value: u32| program.extend_from_slice(&value.to_le_bytes());
    let double =
        |program: &mut Vec<u8>, value: u64| program.extend_from_slice(&value.to_le_bytes());
    half(&mut program, 2); // an executable
    half(&mut program, 62); // x86-64
    word(&mut program, 1);
    double(&mut program, BASE + CODE_AT); // entry
    double(&mut program, 64); // program headers
    double(&mut program, 0);
    word(&mut program, 0);
    for value in [64, 56, 1, 0, 0, 0] {
        half(&mut program, value);
    }
    word(&mut program, 1); // to be loaded
    word(&mut program, 5); // read and execute
    double(&mut program, 0);
    double(&mut program, BASE);
    double(&mut program, BASE);
    let size = CODE_AT + u64::try_from(code.len()).unwrap();
    double(&mut program, size);
    double(&mut program, size);
    double(&mut program, 0x1000);
    program.extend_from_slice(&code);
    program
}

fn kernel() -> PathBuf {
    std::env::var_os("CRYPTLET_KERNEL")
        .expect("CRYPTLET_KERNEL names no kernel")
        .into()
}

/// What a machine that boots this image says on its serial line until it restarts, at most three minutes.
fn said(image: &Path) -> String {
    let output = Command::new("timeout")
        .args(["180", "qemu-system-x86_64", "-accel", "tcg", "-m", "512"])
        .args([
            "-display",
            "none",
            "-serial",
            "stdio",
            "-nic",
            "none",
            "-no-reboot",
        ])
        .arg("-kernel")
        .arg(image.join("kernel"))
        .arg("-initrd")
        .arg(image.join("initramfs.cpio"))
        .arg("-append")
        .arg(fs::read_to_string(image.join("cmdline")).unwrap())
        .output()
        .expect("timeout or qemu-system-x86_64 is missing");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Boots an image of this container.
fn booted(container: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("container");
    fs::write(&path, container).unwrap();
    let parts = Parts {
        kernel: kernel(),
        cmdline: CMDLINE.into(),
        modules: Vec::new(),
        container: path,
        linking: Linking::Static,
    };
    let image = folder.path().join("image");
    tdx(&parts, &image).unwrap();
    said(&image)
}

#[test]
#[ignore = "needs a kernel and QEMU"]
fn a_static_container_is_started_as_init() {
    let said = booted(&program());
    assert!(said.contains("the container was started"), "{said}");
}
