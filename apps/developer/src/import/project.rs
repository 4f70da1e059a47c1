//! A contract developer's project: where its sources lie, and whether the library is there that they import.

use crate::{DeveloperError, connect::nearest, files};
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// Largest configuration file, in bytes.
const MAX_CONFIGURATION: usize = 1 << 20;
/// The library that the base contracts import, and the version that they are tested with.
const LIBRARY: &str = "@openzeppelin/contracts";
const LIBRARY_VERSION: &str = "5.7.0";
/// Names that hardhat's configuration goes by.
const HARDHAT: [&str; 6] = ["js", "cjs", "mjs", "ts", "cts", "mts"];

/// What builds the project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// Foundry: `foundry.toml`.
    Foundry,
    /// Hardhat: `hardhat.config.*`.
    Hardhat,
    /// Not known: the user named a folder.
    Other,
}

/// Where imported headers go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContractProject {
    /// The project's root, where the lock file lies.
    pub root: PathBuf,
    /// The folder of its sources.
    pub sources: PathBuf,
    /// What builds it.
    pub tool: Tool,
}

#[derive(Deserialize)]
struct FoundryFile {
    #[serde(default)]
    profile: std::collections::BTreeMap<String, FoundryProfile>,
}

#[derive(Deserialize)]
struct FoundryProfile {
    src: Option<String>,
}

impl ContractProject {
    /// The project of `folder`, which is it or lies in it; with `out`, that folder is taken for the sources, and for the
    /// root if there is no project.
    ///
    /// # Errors
    /// [`DeveloperError::NoProject`]; `foundry.toml` cannot be read.
    pub fn find(folder: &Path, out: Option<&Path>) -> Result<Self, DeveloperError> {
        let found = nearest(folder, |folder| is_foundry(folder) || is_hardhat(folder));
        let project = match (found, out) {
            (Some(root), _) if is_foundry(&root) => Self {
                sources: root.join(foundry_sources(&root)?),
                root,
                tool: Tool::Foundry,
            },
            (Some(root), _) => Self {
                sources: root.join("contracts"),
                root,
                tool: Tool::Hardhat,
            },
            (None, Some(out)) => Self {
                root: folder.join(out),
                sources: folder.join(out),
                tool: Tool::Other,
            },
            (None, None) => return Err(DeveloperError::NoProject(folder.to_owned())),
        };
        Ok(match out {
            Some(out) => Self {
                sources: folder.join(out),
                ..project
            },
            None => project,
        })
    }

    /// How to install the library that the base contracts import; nothing: it is there.
    #[must_use]
    pub fn missing_library(&self) -> Option<String> {
        let installed = |folder: &Path| folder.join("node_modules").join(LIBRARY).is_dir();
        let as_submodule = self.root.join("lib/openzeppelin-contracts").is_dir();
        let mapped = std::fs::read_to_string(self.root.join("remappings.txt"))
            .is_ok_and(|text| text.lines().any(|line| line.contains("@openzeppelin/")));
        let there = self.root.ancestors().any(installed)
            || (self.tool == Tool::Foundry && (as_submodule || mapped));
        if there {
            return None;
        }
        Some(match self.tool {
            Tool::Foundry => {
                format!("forge install OpenZeppelin/openzeppelin-contracts@v{LIBRARY_VERSION}")
            }
            Tool::Hardhat | Tool::Other => format!("npm install {LIBRARY}@{LIBRARY_VERSION}"),
        })
    }
}

fn is_foundry(folder: &Path) -> bool {
    folder.join("foundry.toml").is_file()
}

fn is_hardhat(folder: &Path) -> bool {
    let mut names = HARDHAT.iter().map(|kind| format!("hardhat.config.{kind}"));
    names.any(|name| folder.join(name).is_file())
}

/// `src` of the default profile, as foundry reads it.
fn foundry_sources(root: &Path) -> Result<String, DeveloperError> {
    let path = root.join("foundry.toml");
    let bytes = files::read(&path, MAX_CONFIGURATION)?.unwrap_or_default();
    let wrong = |reason: String| DeveloperError::document(path.display(), reason);
    let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
    let parsed: FoundryFile = toml::from_str(&text).map_err(|error| wrong(error.to_string()))?;
    let profile = parsed.profile.get("default");
    let named = profile.and_then(|profile| profile.src.clone());
    Ok(named.unwrap_or_else(|| "src".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_nearest_project_counts_and_foundry_says_where_its_sources_are() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let inner = root.join("packages/a/deep");
        fs::create_dir_all(&inner).unwrap();
        let find = || ContractProject::find(&inner, None);
        assert!(matches!(find(), Err(DeveloperError::NoProject(_))));
        fs::write(root.join("hardhat.config.ts"), "").unwrap();
        let hardhat = find().unwrap();
        assert_eq!(
            (hardhat.tool, hardhat.sources),
            (Tool::Hardhat, root.join("contracts"))
        );
        let near = root.join("packages/a");
        fs::write(
            near.join("foundry.toml"),
            "[profile.default]\nsrc = 'contracts/src'\n",
        )
        .unwrap();
        let foundry = find().unwrap();
        assert_eq!((foundry.tool, &foundry.root), (Tool::Foundry, &near));
        assert_eq!(foundry.sources, near.join("contracts/src"));
        fs::write(near.join("foundry.toml"), "").unwrap();
        assert_eq!(find().unwrap().sources, near.join("src"));
        fs::write(near.join("foundry.toml"), "[profile").unwrap();
        assert!(find().is_err());
    }

    #[test]
    fn a_folder_that_is_named_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let named = ContractProject::find(folder.path(), Some(Path::new("out"))).unwrap();
        assert_eq!((named.tool, &named.root), (Tool::Other, &named.sources));
        fs::write(folder.path().join("foundry.toml"), "").unwrap();
        let named = ContractProject::find(folder.path(), Some(Path::new("out"))).unwrap();
        assert_eq!(named.root, folder.path());
        assert_eq!(named.sources, folder.path().join("out"));
    }

    #[test]
    fn a_missing_library_is_named_with_the_command_that_brings_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("foundry.toml"), "").unwrap();
        let project = ContractProject::find(folder.path(), None).unwrap();
        assert!(
            project
                .missing_library()
                .unwrap()
                .starts_with("forge install")
        );
        fs::create_dir_all(folder.path().join("lib/openzeppelin-contracts")).unwrap();
        assert_eq!(project.missing_library(), None);
        let hardhat = ContractProject {
            tool: Tool::Hardhat,
            ..project
        };
        assert!(
            hardhat
                .missing_library()
                .unwrap()
                .starts_with("npm install")
        );
        fs::create_dir_all(folder.path().join("node_modules/@openzeppelin/contracts")).unwrap();
        assert_eq!(hardhat.missing_library(), None);
    }

    #[test]
    fn the_library_is_the_one_that_the_contracts_are_tested_with() {
        let package = include_str!("../../../../contracts/package.json");
        assert!(package.contains(&format!("\"{LIBRARY}\": \"{LIBRARY_VERSION}\"")));
    }
}
