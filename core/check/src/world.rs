//! Imports and exports, compared with the world `utility` (`enclave/wit/cryptlet.wit`).
//!
//! Types are compared as text: names in them count, since the component model compares them by structure and name.

use crate::{Check, Place, Severity};
use std::collections::BTreeMap;
use wasmparser::{
    component_types::{
        ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId,
        ComponentValType,
    },
    types::TypesRef,
};

/// Package and version of the interfaces.
const PACKAGE: &str = "bletchley:cryptlet/";
const VERSION: &str = "@0.2.0";
/// The interface that holds types only: no power, so no manifest declares it.
const TYPES: &str = "types";
/// Longest type that is written out, in bytes, and deepest: the world's are far smaller.
const MAX_TYPE_BYTES: usize = 4 << 10;
const MAX_TYPE_DEPTH: usize = 16;

/// Functions of each interface that can be imported.
pub(crate) const INTERFACES: [(&str, &[(&str, &str)]); 4] = [
    (
        "http",
        &[(
            "send",
            "func(request: record{method: enum{get,post}, url: string, headers: list<tuple<string, string>>, body: list<u8>}) -> result<record{status: u16, headers: list<tuple<string, string>>, body: list<u8>}, variant{refused(string), unreachable(string), insecure(string), malformed(string), too-large(u64)}>",
        )],
    ),
    (
        "log",
        &[(
            "write",
            "func(level: enum{debug,info,warn,error}, message: string)",
        )],
    ),
    (
        "regions",
        &[(
            "check-signature",
            "func(claim: record{host: list<u8>, measurement: list<u8>, evidence: list<u8>, cryptlet: list<u8>, subject: list<u8>, message: list<u8>, signature: list<u8>}) -> result<bool, string>",
        )],
    ),
    (
        "signing",
        &[(
            "sign",
            "func(message: list<u8>) -> result<record{cryptlet: option<list<u8>>, region: list<u8>}, string>",
        )],
    ),
];

/// Functions that a cryptlet exports.
const EXPORTS: [(&str, &str); 2] = [
    ("describe", "func() -> string"),
    (
        "on-trigger",
        "func(context: record{job: string, cryptlet: string, consumer: string, subject: string, chain-id: u64, now: u64, settings: list<tuple<string, string>>}, trigger: variant{clock(u64), threshold(record{feed: list<u8>, value: list<u8>, at: u64}), log(record{chain-id: u64, block: u64, block-hash: list<u8>, transaction: list<u8>, index: u64, emitter: list<u8>, topics: list<list<u8>>, data: list<u8>, timestamp: u64}), block(record{chain-id: u64, number: u64, hash: list<u8>, timestamp: u64}), application(record{application: string, id: string, kind: string, at: u64, data: list<u8>}), request(u64), step(record{number: u32, state: list<u8>}), observe, call}, params: list<u8>) -> result<variant{deliver(list<u8>), skip(string), proceed(record{state: list<u8>, payload: option<list<u8>>})}, variant{unavailable(string), refused(string)}>",
    ),
];

pub(crate) fn check(check: &mut Check, types: TypesRef<'_>, imports: &BTreeMap<String, usize>) {
    for (name, offset) in imports {
        check_import(check, types, name, *offset);
    }
    check.imports.sort();
    for (name, expected) in EXPORTS {
        let found = types.component_item_for_export(name).map(|item| item.ty);
        let next = "export the world `utility`: in Rust, `cryptlet::export!(YourCryptlet)` once in the crate";
        match found {
            Some(ComponentEntityType::Func(id)) => {
                let found = function(types, id);
                if found != expected {
                    let message = format!("export {name} is {found}, not {expected}");
                    check.error("export-type", Place::Component, &message, next);
                }
            }
            Some(_) | None => {
                let message = format!("does not export the function {name}");
                check.error("export-missing", Place::Component, &message, next);
            }
        }
    }
}

fn check_import(check: &mut Check, types: TypesRef<'_>, name: &str, offset: usize) {
    let item = types.component_item_for_import(name).map(|item| item.ty);
    // A type alone is no power; the world imports those that it uses by their names.
    if item.is_some_and(is_plain_type) {
        return;
    }
    let short = name
        .strip_prefix(PACKAGE)
        .and_then(|rest| rest.strip_suffix(VERSION));
    let functions: &[(&str, &str)] = if short == Some(TYPES) {
        &[]
    } else if let Some((short, functions)) =
        INTERFACES.iter().find(|(known, _)| Some(*known) == short)
    {
        check.imports.push((*short).to_owned());
        functions
    } else {
        let message = format!("imports {name:?}, which no cryptlet may: {}", what(name));
        let next = "leave out what needs it: a cryptlet sees only log, http, signing and regions";
        return check.not_deterministic(offset, &message, next);
    };
    let next = "build against the interfaces of this version: `cryptlet new` brings them along";
    let instance = match item {
        Some(ComponentEntityType::Instance(id)) => types.get(id),
        _ => None,
    };
    let Some(instance) = instance else {
        let message = format!("{name} is no instance");
        return check.error("import-type", Place::Offset(offset), &message, next);
    };
    for (function_name, item) in &instance.exports {
        if check.is_full(Severity::Error) {
            return;
        }
        let found = match item.ty {
            ty if is_plain_type(ty) => continue,
            ComponentEntityType::Func(id) => function(types, id),
            _ => "not a function".into(),
        };
        let fits = functions
            .iter()
            .any(|(name, expected)| name == function_name && *expected == found);
        if !fits {
            let message = format!("{name} has no function {function_name}: {found}");
            check.error("import-type", Place::Offset(offset), &message, next);
        }
    }
}

/// Whether this is a type that only describes values. A resource is more: who imports one is given it by the host, and
/// the container has none.
fn is_plain_type(item: ComponentEntityType) -> bool {
    match item {
        ComponentEntityType::Type { referenced, .. } => {
            !matches!(referenced, ComponentAnyTypeId::Resource(_))
        }
        _ => false,
    }
}

/// What a well-known import would give.
fn what(name: &str) -> &'static str {
    let known = [
        ("wasi:clocks/", "it reads a clock"),
        ("wasi:random/", "it reads randomness"),
        ("wasi:filesystem/", "it reads files"),
        ("wasi:sockets/", "it opens sockets"),
        ("wasi:http/", "it reaches the network by itself"),
        ("wasi:cli/", "it reads the environment"),
    ];
    let found = known.iter().find(|(prefix, _)| name.starts_with(prefix));
    found.map_or("it is none of ours", |(_, what)| what)
}

fn function(types: TypesRef<'_>, id: ComponentFuncTypeId) -> String {
    let mut text = Text {
        types,
        text: String::new(),
    };
    text.function(id);
    text.text
}

/// Writes a type out, and stops when it is larger or deeper than any of ours.
struct Text<'a> {
    types: TypesRef<'a>,
    text: String,
}

impl Text<'_> {
    fn add(&mut self, part: &str) {
        if self.text.len() < MAX_TYPE_BYTES {
            self.text.push_str(part);
        }
    }

    fn function(&mut self, id: ComponentFuncTypeId) {
        let types = self.types;
        let Some(function) = types.get(id) else {
            return self.add("?");
        };
        self.add(if function.async_ {
            "async func("
        } else {
            "func("
        });
        self.named(
            function
                .params
                .iter()
                .map(|(name, ty)| (name.as_str(), Some(ty))),
            ": ",
            "",
            0,
        );
        self.add(")");
        if let Some(result) = &function.result {
            self.add(" -> ");
            self.value(result, 0);
        }
    }

    fn named<'t>(
        &mut self,
        parts: impl Iterator<Item = (&'t str, Option<&'t ComponentValType>)>,
        open: &str,
        close: &str,
        depth: usize,
    ) {
        for (index, (name, ty)) in parts.enumerate() {
            if self.text.len() >= MAX_TYPE_BYTES {
                return;
            }
            self.add(if index == 0 { "" } else { ", " });
            self.add(name);
            if let Some(ty) = ty {
                self.add(open);
                self.value(ty, depth);
                self.add(close);
            }
        }
    }

    fn value(&mut self, ty: &ComponentValType, depth: usize) {
        let types = self.types;
        match ty {
            ComponentValType::Primitive(primitive) => self.add(&primitive.to_string()),
            ComponentValType::Type(_)
                if depth == MAX_TYPE_DEPTH || self.text.len() >= MAX_TYPE_BYTES =>
            {
                self.add("...")
            }
            ComponentValType::Type(id) => match types.get(*id) {
                Some(defined) => self.defined(defined, depth + 1),
                None => self.add("?"),
            },
        }
    }

    fn defined(&mut self, ty: &ComponentDefinedType, depth: usize) {
        match ty {
            ComponentDefinedType::Primitive(primitive) => self.add(&primitive.to_string()),
            ComponentDefinedType::Record(record) => {
                self.add("record{");
                self.named(
                    record
                        .fields
                        .iter()
                        .map(|(name, ty)| (name.as_str(), Some(ty))),
                    ": ",
                    "",
                    depth,
                );
                self.add("}");
            }
            ComponentDefinedType::Variant(variant) => {
                self.add("variant{");
                self.named(
                    variant
                        .cases
                        .iter()
                        .map(|(name, case)| (name.as_str(), case.ty.as_ref())),
                    "(",
                    ")",
                    depth,
                );
                self.add("}");
            }
            ComponentDefinedType::List { element, .. } => {
                self.add("list<");
                self.value(element, depth);
                self.add(">");
            }
            ComponentDefinedType::Option { ty, .. } => {
                self.add("option<");
                self.value(ty, depth);
                self.add(">");
            }
            ComponentDefinedType::Tuple(tuple) => {
                self.add("tuple<");
                for (index, ty) in tuple.types.iter().enumerate() {
                    self.add(if index == 0 { "" } else { ", " });
                    self.value(ty, depth);
                }
                self.add(">");
            }
            ComponentDefinedType::Enum(names) => {
                let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                self.add(&format!("enum{{{}}}", names.join(",")));
            }
            ComponentDefinedType::Result { ok, err, .. } => {
                self.add("result<");
                self.option(ok.as_ref(), depth);
                self.add(", ");
                self.option(err.as_ref(), depth);
                self.add(">");
            }
            _ => self.add("another type"),
        }
    }

    fn option(&mut self, ty: Option<&ComponentValType>, depth: usize) {
        match ty {
            Some(ty) => self.value(ty, depth),
            None => self.add("_"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasmparser::Validator;

    /// The type of the function `f` that a component with these types imports.
    fn written(types: &str) -> String {
        let text = format!(
            r#"(component (import "i" (instance {types} (export "t" (type $e (eq $t))) (export "f" (func (param "x" $e))))))"#
        );
        let bytes = wat::parse_str(text).unwrap();
        let types = Validator::new().validate_all(&bytes).unwrap();
        let types = types.as_ref();
        let import = types.component_item_for_import("i").unwrap();
        let ComponentEntityType::Instance(instance) = import.ty else {
            panic!("{import:?}")
        };
        match types.get(instance).unwrap().exports.get("f").unwrap().ty {
            ComponentEntityType::Func(id) => function(types, id),
            other => panic!("{other:?}"),
        }
    }

    /// Tuples, each of which holds the one before so many times.
    fn nested(levels: usize, times: usize) -> String {
        let mut types = String::from("(type $t0 (tuple u8))");
        for level in 1..=levels {
            let below = format!(" $t{}", level - 1).repeat(times);
            let name = if level == levels {
                "t".into()
            } else {
                format!("t{level}")
            };
            types += &format!("(type ${name} (tuple{below}))");
        }
        types
    }

    #[test]
    fn a_type_is_written_out_no_longer_and_no_deeper_than_any_of_ours() {
        assert_eq!(
            written(&nested(2, 2)),
            "func(x: tuple<tuple<tuple<u8>, tuple<u8>>, tuple<tuple<u8>, tuple<u8>>>)"
        );
        // 2^14 tuples, if they were written out.
        let doubled = written(&nested(14, 2));
        assert!(doubled.len() > MAX_TYPE_BYTES / 2, "{doubled}");
        let longest = MAX_TYPE_BYTES + "tuple<".len();
        assert!(doubled.len() <= longest, "{} bytes", doubled.len());
        let deep = written(&nested(40, 1));
        assert_eq!(deep.matches("tuple<").count(), MAX_TYPE_DEPTH);
        assert!(deep.contains("tuple<...>"), "{deep}");
    }
}
