//! An author's interface: one `interface IName { ... }` of structs, enums, types, events, errors and functions.

use crate::{
    HeaderError,
    abi::Types,
    names::objection,
    text::{Piece, Pieces, cut},
};
use alloy_json_abi::{Error, Event, Function, JsonAbi, StateMutability};
use std::collections::BTreeSet;
use syn_solidity::{
    FunctionAttribute, FunctionKind, Item, ItemError, ItemEvent, ItemFunction, Mutability,
    Visibility,
};

/// A parsed interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    name: String,
    abi: JsonAbi,
}

impl Interface {
    /// Reads an author's file, at most [`MAX_INTERFACE_BYTES`](crate::MAX_INTERFACE_BYTES) of printable ASCII.
    ///
    /// # Errors
    /// [`HeaderError::Line`] names the line and what is wrong with it.
    pub fn parse(source: &str) -> Result<Self, HeaderError> {
        let Pieces { head, items } = cut(source)?;
        let name = interface_of(&head)?;
        let mut parsed = Vec::new();
        let mut taken = BTreeSet::new();
        for piece in &items {
            let item = parse_item(piece)?;
            check_name(&name, &item, &mut taken)
                .map_err(|reason| HeaderError::line(piece.line, reason))?;
            parsed.push((piece.line, item));
        }
        let abi = abi_of(&name, parsed)?;
        Ok(Self { name, abi })
    }

    /// Its name, with the leading `I`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its ABI: what `solc --abi` says of the same file, in the order of names.
    #[must_use]
    pub fn abi(&self) -> &JsonAbi {
        &self.abi
    }
}

/// The name behind `interface`, which inherits from nothing.
fn interface_of(head: &Piece) -> Result<String, HeaderError> {
    let words: Vec<_> = head.text.split_whitespace().collect();
    match words.as_slice() {
        ["interface", name] if name.starts_with(|c: char| c.is_ascii_alphabetic()) => {
            Ok((*name).to_owned())
        }
        _ => Err(HeaderError::line(
            head.line,
            "the file begins with \"interface IName {\": no pragma, import, inheritance or contract",
        )),
    }
}

fn parse_item(piece: &Piece) -> Result<Item, HeaderError> {
    let refused = |reason: String| HeaderError::line(piece.line, reason);
    syn::parse_str(&piece.text).map_err(|error| refused(format!("{error}: {}", shown(&piece.text))))
}

/// The first words of an item, for people.
fn shown(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().take(8).collect();
    words.join(" ").chars().take(80).collect()
}

/// Names of types are unique; functions, events and errors may share one with another of their kind, if their
/// parameters differ, which the compiler checks.
fn check_name(
    interface: &str,
    item: &Item,
    taken: &mut BTreeSet<(&'static str, String)>,
) -> Result<(), String> {
    let (kind, name) = match item {
        Item::Struct(item) => ("type", item.name.as_string()),
        Item::Enum(item) => ("type", item.name.as_string()),
        Item::Udt(item) => ("type", item.name.as_string()),
        Item::Event(item) => ("event", item.name.as_string()),
        Item::Error(item) => ("error", item.name.as_string()),
        Item::Function(ItemFunction {
            name: Some(name),
            kind: FunctionKind::Function(_),
            ..
        }) => ("function", name.as_string()),
        _ => {
            return Err("an interface declares structs, enums, types, events, errors and functions, nothing else".into());
        }
    };
    if let Some(reason) = objection(interface, &name) {
        return Err(reason);
    }
    if taken
        .iter()
        .any(|(other, same)| *same == name && (*other != kind || kind == "type"))
    {
        return Err(format!("{name} is declared twice"));
    }
    taken.insert((kind, name));
    Ok(())
}

/// Types first, since items may use those that follow.
fn abi_of(interface: &str, items: Vec<(usize, Item)>) -> Result<JsonAbi, HeaderError> {
    let mut types = Types::new(interface.to_owned());
    let mut rest = Vec::new();
    for (line, item) in items {
        let refused = |reason| HeaderError::line(line, reason);
        match item {
            Item::Struct(item) => types.add_struct(item),
            Item::Enum(item) => types.add_enum(&item).map_err(refused)?,
            Item::Udt(item) => types.add_alias(item).map_err(refused)?,
            item => rest.push((line, item)),
        }
    }
    let mut abi = JsonAbi::new();
    for (line, item) in rest {
        add(&mut abi, &mut types, item).map_err(|reason| HeaderError::line(line, reason))?;
    }
    types
        .check_structs()
        .map_err(|(name, reason)| HeaderError::line(1, format!("struct {name}: {reason}")))?;
    Ok(abi)
}

fn add(abi: &mut JsonAbi, types: &mut Types, item: Item) -> Result<(), String> {
    match item {
        Item::Event(item) => {
            let event = event(types, &item)?;
            abi.events
                .entry(event.name.clone())
                .or_default()
                .push(event);
        }
        Item::Error(item) => {
            let error = error(types, &item)?;
            abi.errors
                .entry(error.name.clone())
                .or_default()
                .push(error);
        }
        Item::Function(item) => {
            let function = function(types, &item)?;
            abi.functions
                .entry(function.name.clone())
                .or_default()
                .push(function);
        }
        // Refused by name before.
        _ => {}
    }
    Ok(())
}

fn event(types: &mut Types, item: &ItemEvent) -> Result<Event, String> {
    item.assert_valid().map_err(|error| error.to_string())?;
    let inputs = item.parameters.iter();
    Ok(Event {
        name: item.name.as_string(),
        inputs: inputs
            .map(|input| types.event_param(&input.ty, input.name.as_ref(), input.is_indexed()))
            .collect::<Result<_, _>>()?,
        anonymous: item.is_anonymous(),
    })
}

fn error(types: &mut Types, item: &ItemError) -> Result<Error, String> {
    let inputs = item.parameters.iter();
    Ok(Error {
        name: item.name.as_string(),
        inputs: inputs
            .map(|input| types.value(input, 0))
            .collect::<Result<_, _>>()?,
    })
}

fn function(types: &mut Types, item: &ItemFunction) -> Result<Function, String> {
    if item.has_implementation() {
        return Err("a function of an interface has no body: end it with ;".into());
    }
    let mut mutability = StateMutability::NonPayable;
    let mut is_external = false;
    for attribute in item.attributes.iter() {
        match attribute {
            FunctionAttribute::Visibility(Visibility::External(_)) => is_external = true,
            FunctionAttribute::Mutability(Mutability::View(_)) => {
                mutability = StateMutability::View
            }
            FunctionAttribute::Mutability(Mutability::Pure(_)) => {
                mutability = StateMutability::Pure
            }
            FunctionAttribute::Mutability(Mutability::Payable(_)) => {
                mutability = StateMutability::Payable
            }
            other => {
                return Err(format!(
                    "{other} has no place in an interface: external, view, pure or payable"
                ));
            }
        }
    }
    if !is_external {
        return Err("a function of an interface is external".into());
    }
    let inputs = item.parameters.iter();
    let outputs = item
        .returns
        .iter()
        .flat_map(|returns| returns.returns.iter());
    Ok(Function {
        name: item
            .name
            .as_ref()
            .map(|name| name.as_string())
            .unwrap_or_default(),
        inputs: inputs
            .map(|input| types.argument(input))
            .collect::<Result<_, _>>()?,
        outputs: outputs
            .map(|output| types.argument(output))
            .collect::<Result<_, _>>()?,
        state_mutability: mutability,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(items: &str) -> String {
        let source = format!("interface IGoldPrice {{\n{items}\n}}\n");
        Interface::parse(&source).unwrap_err().to_string()
    }

    #[test]
    fn custom_types_keep_their_names_in_the_abi() {
        let source = "interface IA {
            function rate(Quote[2] calldata quotes, Market m, address payable[] memory to) external view returns (Price);
            struct Quote { Price price; Inner inner; }
            struct Inner { string text; Market[] markets; }
            enum Market { Open, Closed }
            type Price is uint128;
            event Quoted(uint64 indexed day, Quote quote) anonymous;
            error Late(int day, bytes4);
        }";
        let abi = Interface::parse(source).unwrap().abi;
        let function = &abi.functions["rate"][0];
        let shown = |param: &alloy_json_abi::Param| {
            (
                param.ty.clone(),
                param.internal_type.as_ref().unwrap().to_string(),
            )
        };
        let inputs: Vec<_> = function.inputs.iter().map(shown).collect();
        let expected = [
            ("tuple[2]", "struct IA.Quote[2]"),
            ("uint8", "enum IA.Market"),
            ("address[]", "address payable[]"),
        ];
        assert_eq!(
            inputs,
            expected.map(|(ty, internal)| (ty.to_owned(), internal.to_owned()))
        );
        let quote = &function.inputs[0].components;
        assert_eq!(shown(&quote[0]), ("uint128".into(), "IA.Price".into()));
        assert_eq!(
            shown(&quote[1].components[1]),
            ("uint8[]".into(), "enum IA.Market[]".into())
        );
        assert_eq!(
            function.signature(),
            "rate((uint128,(string,uint8[]))[2],uint8,address[])"
        );
        assert!(abi.events["Quoted"][0].anonymous && abi.events["Quoted"][0].inputs[0].indexed);
        assert_eq!(abi.errors["Late"][0].signature(), "Late(int256,bytes4)");
    }

    #[test]
    fn what_is_no_interface_is_refused_with_its_line() {
        let cases = [
            ("function f() external { }", "no body"),
            ("function f() public;", "public has no place"),
            ("function f();", "is external"),
            ("function f() external virtual;", "virtual has no place"),
            ("function f() external onlyOwner;", "onlyOwner has no place"),
            ("function f(string a) external;", "needs memory or calldata"),
            ("function f(uint memory a) external;", "is a value"),
            ("function f(Unknown a) external;", "Unknown is no type"),
            ("function f(mapping a) external;", "line 2"),
            ("constructor();", "nothing else"),
            ("receive() external payable;", "nothing else"),
            ("uint a;", "nothing else"),
            ("using A for B;", "nothing else"),
            ("struct S { S[] s; }", "never hold themselves"),
            ("struct S { }", "line 2"),
            ("enum E { }", "1 to 256"),
            ("enum E { A, A }", "listed twice"),
            ("type T is string;", "elementary value type"),
            (
                "event E(uint indexed a, uint indexed b, uint indexed c, uint indexed d);",
                "line 2",
            ),
            ("event E(uint self);", "cannot be a name"),
            ("struct A { uint x; } enum A { B }", "declared twice"),
            ("type CryptoDelegate is address;", "has already"),
            ("type GoldPrice is address;", "has already"),
            ("struct GoldPriceHeader { uint x; }", "has already"),
            (
                "function publicKey() external view returns (address);",
                "has already",
            ),
            (
                "function _msgSender() external view returns (address);",
                "cannot be a name",
            ),
        ];
        for (items, reason) in cases {
            let said = refused(items);
            assert!(
                said.contains(reason) && said.contains("line"),
                "{items}: {said}"
            );
        }
    }

    #[test]
    fn a_head_is_the_interface_and_nothing_else() {
        for head in [
            "contract IA",
            "interface IA is IB",
            "abstract contract A",
            "interface",
            "library L",
            "",
        ] {
            assert!(
                Interface::parse(&format!("{head} {{ }}")).is_err(),
                "{head}"
            );
        }
    }

    #[test]
    fn structs_that_double_at_each_level_stay_small() {
        let mut items = String::from("struct S0 { uint a; }");
        for level in 1..8 {
            let below = level - 1;
            let fields: String = (0..8).map(|n| format!("S{below} f{n};")).collect();
            items += &format!("struct S{level} {{ {fields} }}");
        }
        assert!(refused(&items).contains("more than 4096"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "[a-zIE0-9 {}()\\[\\];,/*\n_.]{0,200}") {
            let _ = Interface::parse(&text);
            let _ = Interface::parse(&format!("interface IA {{ {text} }}"));
        }

        #[test]
        fn arbitrary_words_never_panic(words in proptest::collection::vec(
            prop::sample::select(vec!["function", "event", "error", "struct", "enum", "type", "is", "uint8", "bytes33",
                "uint7", "int264", "f", "E", "(", ")", "{", "}", ";", ",", "[", "]", "external", "view", "returns", "indexed",
                "memory", "mapping", "address", "payable", "override", "unchecked", "assembly", "0", "18446744073709551616", "_"]),
            0..24,
        )) {
            let _ = Interface::parse(&format!("interface IA {{ {} }}", words.join(" ")));
        }
    }
}
