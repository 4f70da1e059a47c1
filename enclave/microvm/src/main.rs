//! `cryptlet-container-microvm`: the container of `enclave/container`, whose cryptlets run in virtual machines.
//!
//! Session, keys, TLS and sandbox are those of the library; only the execution of the component differs. The evidence
//! says provider `microvm`.

extern crate alloc;

mod alarm;
mod calls;
mod compile;
mod executor;
mod machine;
#[path = "../guest/src/wire.rs"]
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    cryptlet_container::program::run("cryptlet-container-microvm", Box::new(executor::InMachine))
}
