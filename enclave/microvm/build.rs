//! Builds the guest, which [`include_bytes!`] then puts into this program: what runs inside the machines is measured
//! with the container.

use std::{env, error::Error, path::PathBuf};

const TARGET: &str = "x86_64-hyperlight-none";
const GUEST: &str = "cryptlet-microvm-guest";

fn main() -> Result<(), Box<dyn Error>> {
    let here = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // Below the folder of this workspace's builds, so that it is kept between builds; a folder of its own, since cargo
    // holds the lock of that one.
    let target = out
        .ancestors()
        .nth(4)
        .ok_or("OUT_DIR has no target folder")?
        .join("guest");
    for watched in [
        "guest",
        "Cargo.lock",
        "../wit",
        "../container/src/component.rs",
    ] {
        println!("cargo::rerun-if-changed={}", here.join(watched).display());
    }
    cargo_hyperlight::cargo()?
        .args(["build", "--release", "--locked", "-p", GUEST])
        .arg("--manifest-path")
        .arg(here.join("guest/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .env_clear_cargo()
        // The target is not one of the compiler's own, and its standard library is built here.
        .env("RUSTC_BOOTSTRAP", "1")
        .status()?;
    let guest = target.join(TARGET).join("release").join(GUEST);
    println!(
        "cargo::rustc-env=CRYPTLET_MICROVM_GUEST={}",
        guest.display()
    );
    Ok(())
}
