//! A new project: a cryptlet that works as it stands, with all that it takes to build it outside our repository.

use crate::AuthorError;
use cryptlet_header::contract_name;
use cryptlet_types::manifest::{Kind, check_name};
use std::{fs, path::Path};

/// Files that are filled in: `__NAME__` becomes the cryptlet's name, `__CONTRACT__` its name in Solidity and Rust.
const FILLED: [(&str, &str); 14] = [
    (
        "Cargo.toml",
        include_str!("../template/Cargo.toml.template"),
    ),
    ("README.md", include_str!("../template/README.md.template")),
    (".gitignore", include_str!("../template/gitignore.template")),
    (
        "cryptlet.json",
        include_str!("../template/cryptlet.json.template"),
    ),
    (
        "interface.sol",
        include_str!("../template/interface.sol.template"),
    ),
    (
        "rust-toolchain.toml",
        include_str!("../template/rust-toolchain.toml.template"),
    ),
    (
        "src/lib.rs",
        include_str!("../template/src/lib.rs.template"),
    ),
    (
        "tests/2026-10-16.csv",
        include_str!("../template/tests/2026-10-16.csv.template"),
    ),
    (
        "tests/closed-day.json",
        include_str!("../template/tests/closed-day.json.template"),
    ),
    (
        "tests/feed-down.json",
        include_str!("../template/tests/feed-down.json.template"),
    ),
    (
        "tests/open-day.json",
        include_str!("../template/tests/open-day.json.template"),
    ),
    (
        "tests/unknown-currency.json",
        include_str!("../template/tests/unknown-currency.json.template"),
    ),
    (
        "sdk/README.md",
        include_str!("../template/sdk/README.md.template"),
    ),
    ("Cargo.lock", LOCK),
];
/// The versions that the template was built with, so that a build is the same on every machine, and needs no network where
/// they are known.
const LOCK: &str = include_str!("../template/Cargo.lock.template");
/// The SDK and the interfaces, as they are. Their places relative to each other are those of our repository.
const SDK: [(&str, &str); 8] = [
    (
        "sdk/rust/cryptlet/Cargo.toml",
        include_str!("../../../enclave/sdk/rust/Cargo.toml"),
    ),
    (
        "sdk/rust/cryptlet/src/http.rs",
        include_str!("../../../enclave/sdk/rust/src/http.rs"),
    ),
    (
        "sdk/rust/cryptlet/src/lib.rs",
        include_str!("../../../enclave/sdk/rust/src/lib.rs"),
    ),
    (
        "sdk/rust/cryptlet/src/log.rs",
        include_str!("../../../enclave/sdk/rust/src/log.rs"),
    ),
    (
        "sdk/rust/cryptlet/src/regions.rs",
        include_str!("../../../enclave/sdk/rust/src/regions.rs"),
    ),
    (
        "sdk/rust/cryptlet/src/signing.rs",
        include_str!("../../../enclave/sdk/rust/src/signing.rs"),
    ),
    (
        "sdk/rust/cryptlet/src/trigger.rs",
        include_str!("../../../enclave/sdk/rust/src/trigger.rs"),
    ),
    (
        "sdk/wit/cryptlet.wit",
        include_str!("../../../enclave/wit/cryptlet.wit"),
    ),
];

/// Makes the project of a cryptlet called `name` in `folder`, which must not be there yet.
///
/// # Errors
/// [`AuthorError::Name`], [`AuthorError::Exists`], or what the file system says.
pub fn new(folder: &Path, name: &str, kind: Kind) -> Result<(), AuthorError> {
    let refused = |reason: String| AuthorError::Name {
        name: name.to_owned(),
        reason,
    };
    check_name(name).map_err(|error| refused(error.to_string()))?;
    let contract = contract_name(name).map_err(|error| refused(error.to_string()))?;
    if folder.symlink_metadata().is_ok() {
        return Err(AuthorError::Exists(folder.to_owned()));
    }
    match kind {
        Kind::Utility => {}
    }
    for (path, text) in FILLED {
        let text = text
            .replace("__NAME__", name)
            .replace("__CONTRACT__", &contract);
        let text = if path == "Cargo.lock" {
            sorted(&text)
        } else {
            text
        };
        write(&folder.join(path), &text)?;
    }
    for (path, text) in SDK {
        write(&folder.join(path), text)?;
    }
    Ok(())
}

/// A lock file with its packages in the order of their names, as `cargo --locked` wants them: the project's own place
/// depends on its name.
fn sorted(lock: &str) -> String {
    const PACKAGE: &str = "[[package]]\n";
    let mut parts = lock.split(PACKAGE).map(str::trim_end);
    let head = parts.next().unwrap_or_default();
    let mut packages: Vec<_> = parts.collect();
    packages.sort_by_key(|package| package.lines().next().unwrap_or_default());
    let packages: Vec<_> = packages
        .iter()
        .map(|package| format!("\n\n{PACKAGE}{package}"))
        .collect();
    format!("{head}{}\n", packages.concat())
}

fn write(path: &Path, text: &str) -> Result<(), AuthorError> {
    let failed = |source| AuthorError::File {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    fs::write(path, text).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_file_is_in_cargo_s_order_for_every_name() {
        for name in ["aaa", "gold-price", "zzz-1"] {
            let lock = sorted(&LOCK.replace("__NAME__", name));
            let names: Vec<_> = lock
                .lines()
                .filter(|line| line.starts_with("name = "))
                .collect();
            assert!(names.is_sorted(), "{names:?}");
            assert_eq!(
                lock.matches("[[package]]").count(),
                LOCK.matches("[[package]]").count()
            );
            assert!(lock.contains(&format!(
                "name = \"cryptlet-{name}\"\nversion = \"0.1.0\"\n"
            )));
        }
        assert_eq!(
            sorted(&LOCK.replace("__NAME__", "gold-price")),
            LOCK.replace("__NAME__", "gold-price")
        );
    }

    #[test]
    fn bad_names_and_folders_in_the_way_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "",
            "Gold",
            "gold_price",
            "-gold",
            "gold--price",
            "../x",
            "crypto-delegate",
        ] {
            let error = new(&folder.path().join("p"), name, Kind::Utility).unwrap_err();
            assert!(
                matches!(error, AuthorError::Name { .. }),
                "{name:?}: {error}"
            );
        }
        let error = new(folder.path(), "gold-price", Kind::Utility).unwrap_err();
        assert!(matches!(error, AuthorError::Exists(_)));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
