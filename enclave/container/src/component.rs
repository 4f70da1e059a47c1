//! What holds for a component wherever it runs: what it may import, and the memory that it may have. The guest of
//! `enclave/microvm` compiles this file too.

use alloc::{borrow::ToOwned, format, string::String, vec::Vec};
use wasmtime::{Engine, ResourceLimiter, component::Component};

/// Package of the interfaces that a component may import.
const OUR_INTERFACES: &str = "bletchley:cryptlet/";
/// The interface that only names types, which gives a component nothing and is in every world.
const TYPES: &str = "types";

/// Core instances, tables and memories of a component.
pub(crate) const MAX_PARTS: usize = 32;
/// Elements of a table: functions that a component calls indirectly.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 100_000;

/// The component's imports, by the names that manifests use; the error names one that no cryptlet may have. A version is
/// part of the name, and the linker judges it.
pub(crate) fn interfaces(engine: &Engine, component: &Component) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    for (import, _) in component.component_type().imports(engine) {
        let Some(interface) = import.strip_prefix(OUR_INTERFACES) else {
            return Err(format!("imports {import:?}, which no cryptlet may"));
        };
        let name = interface.split('@').next().unwrap_or(interface);
        if name != TYPES {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// The cryptlet asked for more memory than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("memory is used up")]
pub(crate) struct MemoryExceeded;

/// Linear memory left to a run, all of its memories together. Asking for more ends the run at that
/// instruction, so that a cryptlet cannot behave differently where memory is short.
pub(crate) struct MemoryLimit {
    left: u64,
}

impl MemoryLimit {
    pub(crate) fn new(bytes: u64) -> Self {
        Self { left: bytes }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        let wanted = u64::try_from(desired.saturating_sub(current)).unwrap_or(u64::MAX);
        self.left = self.left.checked_sub(wanted).ok_or(MemoryExceeded)?;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS)
    }

    fn instances(&self) -> usize {
        MAX_PARTS
    }

    fn tables(&self) -> usize {
        MAX_PARTS
    }

    fn memories(&self) -> usize {
        MAX_PARTS
    }
}
