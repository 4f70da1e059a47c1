//! What is different between what was locked and what the register names now, in words.

use super::{LockedCryptlet, Verified};
use alloy_json_abi::{AbiItem, JsonAbi};
use std::collections::BTreeSet;

/// The differences, a line each; empty if there are none. `before` is the locked interface, if its file is as import
/// wrote it.
pub(super) fn changes(
    locked: &LockedCryptlet,
    before: Option<&JsonAbi>,
    now: &Verified,
) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = |what: &str, before: String, now: String| {
        if before != now {
            lines.push(format!("  {what}: {before} -> {now}"));
        }
    };
    let (was, is) = (&locked.register, &now.register);
    line(
        "register",
        format!("{} on chain {}", was.register, was.chain_id),
        format!("{} on chain {}", is.register, is.chain_id),
    );
    line(
        "id",
        locked.id.to_string(),
        now.header.cryptlet().to_string(),
    );
    line(
        "version",
        format!("{} ({})", locked.label, locked.number),
        format!("{} ({})", now.version.label, now.version.number),
    );
    line(
        "public key",
        locked.public_key.to_string(),
        now.header.public_key().to_string(),
    );
    line(
        "package",
        locked.package.to_string(),
        now.version.package.to_string(),
    );
    line(
        "header",
        locked.header.to_string(),
        now.version.header.to_string(),
    );
    if locked.header != now.version.header {
        match before {
            Some(before) => lines.extend(items_changed(before, now.header.abi())),
            None => lines.push("  interface: the locked one is not there to be compared".into()),
        }
    }
    lines
}

/// Functions, events and errors that went or came.
fn items_changed(before: &JsonAbi, now: &JsonAbi) -> Vec<String> {
    let (before, now) = (items(before), items(now));
    let gone = before.difference(&now).map(|item| format!("  - {item}"));
    let new = now.difference(&before).map(|item| format!("  + {item}"));
    gone.chain(new).collect()
}

fn items(abi: &JsonAbi) -> BTreeSet<String> {
    let text = |item: AbiItem<'_>| match item {
        AbiItem::Function(function) => Some(function.full_signature()),
        AbiItem::Event(event) => Some(event.full_signature()),
        AbiItem::Error(error) => Some(format!("error {}", error.signature())),
        _ => None,
    };
    abi.items().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_events_and_errors_that_went_or_came_are_named() {
        let abi = |items: &[&str]| JsonAbi::parse(items.iter().copied()).unwrap();
        let before = abi(&[
            "function f(uint64 day)",
            "event E(uint256 indexed a)",
            "error X()",
        ]);
        let now = abi(&["function f(uint128 day)", "event E(uint256 a)", "error X()"]);
        let lines = items_changed(&before, &now);
        assert_eq!(
            lines,
            [
                "  - event E(uint256 indexed a)",
                "  - function f(uint64 day)",
                "  + event E(uint256 a)",
                "  + function f(uint128 day)",
            ]
        );
        assert!(items_changed(&now, &now).is_empty());
    }
}
