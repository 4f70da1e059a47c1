//! The bytes: valid, of the deterministic profile, within the manifest's limits.

use crate::{Check, Place, Reason, Verdict, world};
use cryptlet_types::manifest::ManifestConfig;
use std::collections::BTreeMap;
use wasmparser::{Encoding, Operator, Parser, Payload, Validator, WasmFeatures};

/// Bytes of a page of linear memory.
const PAGE_BYTES: u64 = 1 << 16;
/// Memories, tables and core instances, each, that the container gives.
const MAX_PARTS: usize = 32;
/// Elements of a table that the container gives.
const MAX_TABLE_ELEMENTS: u64 = 100_000;
/// Proposals whose instructions may do something else on another machine.
const WAYWARD: [&str; 4] = [
    "relaxed_simd",
    "threads",
    "shared_everything_threads",
    "stack_switching",
];
/// Parts of the names of float instructions that can produce a NaN.
const NAN_MAKERS: [&str; 12] = [
    "add", "sub", "mul", "div", "sqrt", "min", "max", "ceil", "floor", "trunc", "nearest", "mote",
];

/// WebAssembly 2.0 with what compilers take for granted, in components. It is what the container runs, less what it could
/// run only with settings that it does not have.
fn profile() -> WasmFeatures {
    WasmFeatures::WASM2
        .union(WasmFeatures::COMPONENT_MODEL)
        .union(WasmFeatures::EXTENDED_CONST)
        .union(WasmFeatures::TAIL_CALL)
}

macro_rules! names_of_operators {
    ($(@$proposal:ident $operator:ident $({ $($argument:ident: $type:ty),* })? => $visit:ident ($($annotation:tt)*))*) => {
        /// The proposal that an instruction belongs to, and its name.
        fn named(operator: &Operator<'_>) -> (&'static str, &'static str) {
            match operator {
                $(Operator::$operator { .. } => (stringify!($proposal), stringify!($visit)),)*
                _ => ("unknown", "unknown"),
            }
        }
    };
}
wasmparser::for_each_operator!(names_of_operators);

/// What was counted in all modules of a component.
#[derive(Default)]
struct Seen {
    depth: usize,
    memories: usize,
    tables: usize,
    instances: usize,
    memory_bytes: u64,
    /// First offset and count of NaN-making instructions.
    floats: Option<(usize, u64)>,
    /// First offset and count of instructions by proposal.
    wayward: BTreeMap<&'static str, (usize, u64)>,
    /// Offsets of the outermost component's imports.
    imports: BTreeMap<String, usize>,
}

pub(crate) fn check(check: &mut Check, code: &[u8], config: &ManifestConfig) {
    if !Parser::is_component(code) {
        check.verdict = Verdict::NotDeterministic;
        let next = "build it with `cryptlet build`, which makes a component of the module";
        check.error(
            "not-a-component",
            Place::Offset(0),
            "not a WebAssembly component",
            next,
        );
        return;
    }
    let mut seen = Seen::default();
    // What cannot be read is what the validator says next, with a better reason.
    let _ = seen.read(check, code);
    for (proposal, (offset, count)) in std::mem::take(&mut seen.wayward) {
        let message =
            format!("{count} instructions of {proposal}, whose results depend on the machine");
        check.not_deterministic(offset, &message, "build without that target feature");
    }
    match Validator::new_with_features(profile()).validate_all(code) {
        Ok(types) => world::check(check, types.as_ref(), &seen.imports),
        Err(error) => {
            let message = format!(
                "invalid, or outside the deterministic profile: {}",
                error.message()
            );
            let next = "build for wasm32-unknown-unknown without further target features";
            check.not_deterministic(error.offset(), &message, next);
        }
    }
    seen.say_floats(check);
    seen.check_parts(check, config);
}

impl Seen {
    fn read(&mut self, check: &mut Check, code: &[u8]) -> wasmparser::Result<()> {
        for payload in Parser::new(0).parse_all(code) {
            self.take(check, payload?)?;
        }
        Ok(())
    }

    fn take(&mut self, check: &mut Check, payload: Payload<'_>) -> wasmparser::Result<()> {
        match payload {
            Payload::Version {
                encoding: Encoding::Module | Encoding::Component,
                ..
            } => self.depth += 1,
            Payload::End(_) => self.depth = self.depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if self.depth == 1 => {
                for import in section.into_iter_with_offsets() {
                    let (offset, import) = import?;
                    self.imports.insert(import.name.name.to_owned(), offset);
                }
            }
            Payload::InstanceSection(section) => {
                self.instances = self
                    .instances
                    .saturating_add(usize::try_from(section.count()).unwrap_or(usize::MAX));
            }
            Payload::MemorySection(section) => {
                for memory in section.into_iter_with_offsets() {
                    let (offset, memory) = memory?;
                    if memory.shared {
                        check.not_deterministic(offset, "shared memory", "build without threads");
                    }
                    self.memories += 1;
                    self.memory_bytes = self
                        .memory_bytes
                        .saturating_add(memory.initial.saturating_mul(PAGE_BYTES));
                }
            }
            Payload::TableSection(section) => {
                for table in section.into_iter_with_offsets() {
                    let (offset, table) = table?;
                    self.tables += 1;
                    if table.ty.initial > MAX_TABLE_ELEMENTS {
                        let message = format!(
                            "a table of {} elements, at most {MAX_TABLE_ELEMENTS}",
                            table.ty.initial
                        );
                        let next = "leave out libraries that call through so many pointers";
                        check.error("table-too-large", Place::Offset(offset), &message, next);
                    }
                }
            }
            Payload::StartSection { range, .. } => {
                let next = "leave out constructors of C, or live with what they cost";
                let message = "a start function runs before each call, on the run's fuel";
                check.warning("start-function", Place::Offset(range.start), message, next);
            }
            Payload::CodeSectionEntry(body) => self.operators(&body)?,
            _ => {}
        }
        Ok(())
    }

    fn operators(&mut self, body: &wasmparser::FunctionBody<'_>) -> wasmparser::Result<()> {
        let mut reader = body.get_operators_reader()?;
        while !reader.eof() {
            let (operator, offset) = reader.read_with_offset()?;
            let (proposal, name) = named(&operator);
            if WAYWARD.contains(&proposal) {
                self.wayward.entry(proposal).or_insert((offset, 0)).1 += 1;
            }
            if makes_nan(name) {
                self.floats.get_or_insert((offset, 0)).1 += 1;
            }
        }
        Ok(())
    }

    fn say_floats(&self, check: &mut Check) {
        let Some((offset, count)) = self.floats else {
            return;
        };
        check.verdict = check.verdict.max(Verdict::CanonicalNan);
        let message = format!("{count} float instructions that can make a NaN");
        check.reasons.push(Reason { offset, message });
    }

    fn check_parts(&self, check: &mut Check, config: &ManifestConfig) {
        let limit = config.limits.memory_bytes;
        if self.memory_bytes > limit {
            let message = format!(
                "{} bytes of memory to begin with, the manifest asks for {limit}",
                self.memory_bytes
            );
            let next = "raise config.limits.memoryBytes, or make static data smaller";
            check.error(
                "memory",
                Place::Manifest("config.limits.memoryBytes".into()),
                &message,
                next,
            );
        }
        for (what, count) in [
            ("memories", self.memories),
            ("tables", self.tables),
            ("core instances", self.instances),
        ] {
            if count > MAX_PARTS {
                let message = format!("{count} {what}, at most {MAX_PARTS}");
                check.error(
                    "too-many-parts",
                    Place::Component,
                    &message,
                    "compose it of fewer modules",
                );
            }
        }
    }
}

/// Whether an instruction computes a float: `visit_f32_add`, `visit_f64x2_sqrt`. Truncation to an integer traps instead.
fn makes_nan(name: &str) -> bool {
    let is_float = name.contains("visit_f32") || name.contains("visit_f64");
    is_float && NAN_MAKERS.iter().any(|maker| name.contains(maker))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nan_makers_are_told_from_what_moves_bits() {
        let makers = [
            "visit_f32_add",
            "visit_f64_promote_f32",
            "visit_f32_demote_f64",
            "visit_f64x2_pmin",
            "visit_f32x4_nearest",
        ];
        for name in makers {
            assert!(makes_nan(name), "{name}");
        }
        for name in [
            "visit_i32_add",
            "visit_i32_trunc_f32_s",
            "visit_f32_load",
            "visit_f64_const",
            "visit_f64_abs",
            "visit_f32_copysign",
        ] {
            assert!(!makes_nan(name), "{name}");
        }
    }
}
