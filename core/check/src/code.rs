//! The bytes: valid, of the deterministic profile, within the manifest's limits.

use crate::{Check, Place, Reason, Verdict, world};
use cryptlet_types::manifest::ManifestConfig;
use std::collections::BTreeMap;
use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, Encoding,
    Instance, Operator, Parser, Payload, Validator, WasmFeatures,
};

/// Bytes of a page of linear memory.
const PAGE_BYTES: u64 = 1 << 16;
/// Memories, tables and core instances, each, that the container gives; and nested components that are instantiated.
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

/// What one instance of a module takes of the container, or all of them together.
#[derive(Clone, Copy, Default)]
struct Parts {
    instances: usize,
    memories: usize,
    tables: usize,
    memory_bytes: u64,
}

impl Parts {
    fn add(&mut self, other: Self) {
        self.instances = self.instances.saturating_add(other.instances);
        self.memories = self.memories.saturating_add(other.memories);
        self.tables = self.tables.saturating_add(other.tables);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
    }
}

/// What was counted in a component and all that is nested in it.
///
/// Only the outermost component may instantiate: one nested component that instantiates another twice, and a third that
/// instantiates that one twice, and so on, are a small file and more instances than any machine has. With instances at
/// the top alone, each is one entry of a section, and what it takes is what its module says.
#[derive(Default)]
struct Seen {
    /// What is being read, from the outside in.
    within: Vec<Encoding>,
    /// The module that is being read.
    module: Parts,
    /// Modules of the outermost component, in its order.
    modules: Vec<Parts>,
    /// What the outermost component instantiates.
    parts: Parts,
    /// Nested components that the outermost one instantiates.
    components: usize,
    /// First offset and count of what is instantiated, or passed on for it, elsewhere.
    nested: Option<(usize, u64)>,
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
    let unread = seen.read(check, code).err();
    for (proposal, (offset, count)) in std::mem::take(&mut seen.wayward) {
        let message =
            format!("{count} instructions of {proposal}, whose results depend on the machine");
        check.not_deterministic(offset, &message, "build without that target feature");
    }
    match Validator::new_with_features(profile()).validate_all(code) {
        Ok(types) => {
            // What the validator cannot read either has the better reason from it.
            if let Some(error) = unread {
                let next = "build it with `cryptlet build`";
                check.not_deterministic(error.offset(), error.message(), next);
            }
            world::check(check, types.as_ref(), &seen.imports);
        }
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
            Payload::Version { encoding, .. } => {
                self.within.push(encoding);
                self.module = Parts {
                    instances: 1,
                    ..Parts::default()
                };
            }
            Payload::End(_) => {
                let ended = self.within.pop();
                if ended == Some(Encoding::Module) && self.is_outermost() {
                    self.modules.push(self.module);
                }
            }
            Payload::ComponentImportSection(section) if self.is_outermost() => {
                for import in section.into_iter_with_offsets() {
                    let (offset, import) = import?;
                    self.imports.insert(import.name.name.to_owned(), offset);
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section.into_iter_with_offsets() {
                    let (offset, instance) = instance?;
                    self.instance(offset, &instance);
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.into_iter_with_offsets() {
                    let (offset, instance) = instance?;
                    self.component(offset, &instance);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.into_iter_with_offsets() {
                    let (offset, alias) = alias?;
                    self.alias(offset, &alias);
                }
            }
            Payload::MemorySection(section) => {
                for memory in section.into_iter_with_offsets() {
                    let (offset, memory) = memory?;
                    if memory.shared {
                        check.not_deterministic(offset, "shared memory", "build without threads");
                    }
                    self.module.add(Parts {
                        memories: 1,
                        memory_bytes: memory.initial.saturating_mul(PAGE_BYTES),
                        ..Parts::default()
                    });
                }
            }
            Payload::TableSection(section) => {
                for table in section.into_iter_with_offsets() {
                    let (offset, table) = table?;
                    self.module.add(Parts {
                        tables: 1,
                        ..Parts::default()
                    });
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

    fn is_outermost(&self) -> bool {
        self.within.len() == 1
    }

    fn instance(&mut self, offset: usize, instance: &Instance<'_>) {
        let Instance::Instantiate { module_index, .. } = instance else {
            return;
        };
        if !self.is_outermost() {
            return self.nested(offset);
        }
        let index = usize::try_from(*module_index).unwrap_or(usize::MAX);
        if let Some(module) = self.modules.get(index) {
            self.parts.add(*module);
        }
    }

    fn component(&mut self, offset: usize, instance: &ComponentInstance<'_>) {
        match instance {
            ComponentInstance::FromExports(_) => {}
            ComponentInstance::Instantiate { .. } if self.is_outermost() => self.components += 1,
            ComponentInstance::Instantiate { .. } => self.nested(offset),
        }
    }

    /// A module that comes from elsewhere would be counted as another.
    fn alias(&mut self, offset: usize, alias: &ComponentAlias<'_>) {
        let of_module = matches!(
            alias,
            ComponentAlias::InstanceExport {
                kind: ComponentExternalKind::Module,
                ..
            } | ComponentAlias::Outer {
                kind: ComponentOuterAliasKind::CoreModule,
                ..
            }
        );
        if of_module {
            self.nested(offset);
        }
    }

    fn nested(&mut self, offset: usize) {
        self.nested.get_or_insert((offset, 0)).1 += 1;
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
        if let Some((offset, count)) = self.nested {
            let message = format!(
                "nested components instantiate, or modules are passed on, {count} times: only the outermost component \
                instantiates, and its own, so that what it takes can be counted"
            );
            let next = "link its parts into one module, as `cryptlet build` does";
            check.error("nested-instances", Place::Offset(offset), &message, next);
        }
        if self.parts.memory_bytes > limit {
            let message = format!(
                "{} bytes of memory to begin with, the manifest asks for {limit}",
                self.parts.memory_bytes
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
            ("memories", self.parts.memories),
            ("tables", self.parts.tables),
            ("core instances", self.parts.instances),
            ("instances of nested components", self.components),
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
