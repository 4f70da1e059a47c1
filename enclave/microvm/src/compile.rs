//! Machine code for a component, to run where there is no operating system.

use cryptlet_container::runtime::config;
use wasmtime::{Config, Engine};

/// The guest's target: as wasmtime names a processor without an operating system.
const TARGET: &str = "x86_64-unknown-none";

/// Compiles `code` as the container's own wasmtime does, fuel and canonical NaNs included.
pub(crate) fn compile(code: &[u8]) -> wasmtime::Result<Vec<u8>> {
    Engine::new(&for_the_guest()?)?.precompile_component(code)
}

/// Without signals and virtual memory every bound is checked by the code itself. There are no epochs: a machine is
/// stopped from outside.
fn for_the_guest() -> wasmtime::Result<Config> {
    let mut config = config();
    config
        .target(TARGET)?
        .epoch_interruption(false)
        .signals_based_traps(false)
        .memory_reservation(0)
        .memory_reservation_for_growth(0)
        .memory_guard_size(0);
    Ok(config)
}
