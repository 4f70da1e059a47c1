//! Arrows between crates: apps -> pipeline -> adapters -> core, as `ARCHITECTURE.md` draws them.
//!
//! Tests of a crate (dev-dependencies) follow the same arrows and may besides use any core crate, the embedded
//! node and the feed, because a real chain and a real source beat mocks. Nothing else is let through.

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};
use std::path::{Path, PathBuf};

/// Crates that take values and return values: what opens sockets, files or runtimes has no place in them.
const WITHOUT_IO: [&str; 3] = ["cryptlet-types", "cryptlet-seal", "cryptlet-audit"];
/// What the measured container may share with the outside.
const SHARED_WITH_CONTAINER: [&str; 2] = ["cryptlet-types", "cryptlet-seal"];
/// Libraries that do input and output.
const IO_LIBRARIES: [&str; 10] = [
    "tokio",
    "sqlx",
    "reqwest",
    "hyper",
    "alloy",
    "jsonrpsee",
    "axum",
    "rustix",
    "libc",
    "rustls",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Core,
    Adapter,
    Pipeline,
    Container,
    Node,
    Feed,
    Host,
    Cli,
}

impl Place {
    /// The place of the crate in `folder`, relative to the root of the repository.
    fn of(folder: &str) -> Option<Self> {
        match folder.split_once('/') {
            Some(("core", _)) => Some(Self::Core),
            Some(("adapters", _)) => Some(Self::Adapter),
            Some(("pipeline", _)) => Some(Self::Pipeline),
            Some(("enclave", "container")) => Some(Self::Container),
            Some(("apps", "feed")) => Some(Self::Feed),
            Some(("apps", "host")) => Some(Self::Host),
            Some(("apps", "cli")) => Some(Self::Cli),
            None if folder == "node" => Some(Self::Node),
            _ => None,
        }
    }
}

/// One dependency between two crates of this workspace.
#[derive(Clone, Debug)]
struct Arrow {
    from: Place,
    to: Place,
    to_name: String,
    test_only: bool,
}

/// Why an arrow must not be, or nothing.
fn objection(arrow: &Arrow) -> Option<&'static str> {
    use Place::{Adapter, Cli, Container, Core, Feed, Host, Node, Pipeline};
    if arrow.to == Container {
        return Some("the container is started as a program, never linked");
    }
    if arrow.from == Container && !SHARED_WITH_CONTAINER.contains(&arrow.to_name.as_str()) {
        return Some("the container shares only types and seal with the outside");
    }
    if arrow.test_only && matches!(arrow.to, Core | Node | Feed) {
        return None;
    }
    match (arrow.from, arrow.to) {
        (Core | Adapter | Container | Feed, Core)
        | (Pipeline, Core | Adapter)
        | (Host, Core | Adapter | Pipeline)
        | (Cli, Core | Adapter | Pipeline | Host | Node | Feed) => None,
        (Node, _) => Some("the node knows nothing of the fabric"),
        (Pipeline, Pipeline) => Some("no stage imports another: the host joins them"),
        (_, Node) => Some("only the command line and tests start a node"),
        (_, Host | Cli | Feed) => Some("nothing points up at an app"),
        _ => Some("arrows go apps -> pipeline -> adapters -> core"),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap_or_default()
}

fn metadata(manifest: &str) -> cargo_metadata::Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(root().join(manifest))
        .no_deps()
        .exec()
}

fn folder_of(package: &Package, root: &Path) -> Option<String> {
    let folder = package.manifest_path.as_std_path().parent()?;
    Some(folder.strip_prefix(root).ok()?.to_str()?.to_owned())
}

/// What is wrong with the workspace, one line each.
fn objections(metadata: &Metadata) -> Vec<String> {
    let root = metadata.workspace_root.as_std_path();
    let place = |package: &Package| folder_of(package, root).and_then(|folder| Place::of(&folder));
    let mut found = Vec::new();
    for package in &metadata.packages {
        let Some(from) = place(package) else {
            found.push(format!(
                "{}: its folder has no place on the map",
                package.name
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let target = metadata
                .packages
                .iter()
                .find(|other| *other.name == dependency.name);
            let Some(to) = target.and_then(place) else {
                continue;
            };
            let test_only = dependency.kind == DependencyKind::Development;
            let to_name = dependency.name.clone();
            let arrow = Arrow {
                from,
                to,
                to_name,
                test_only,
            };
            if let Some(reason) = objection(&arrow) {
                found.push(format!("{} -> {}: {reason}", package.name, dependency.name));
            }
        }
    }
    found
}

#[test]
fn arrows_between_crates_go_down_the_map() {
    let metadata = metadata("Cargo.toml").unwrap();
    assert!(metadata.packages.len() > 10, "the workspace was not read");
    assert_eq!(objections(&metadata), Vec::<String>::new());
}

#[test]
fn crates_without_io_have_no_library_that_does_io() {
    let metadata = metadata("Cargo.toml").unwrap();
    for name in WITHOUT_IO {
        let package = metadata
            .packages
            .iter()
            .find(|package| *package.name == name)
            .unwrap();
        let wrong: Vec<_> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal)
            .map(|dependency| dependency.name.as_str())
            .filter(|library| IO_LIBRARIES.contains(library))
            .collect();
        assert_eq!(wrong, Vec::<&str>::new(), "{name} does no input or output");
    }
}

#[test]
fn cryptlets_see_the_sdk_and_nothing_else_of_ours() {
    let metadata = metadata("cryptlets/Cargo.toml").unwrap();
    let allowed = [root().join("cryptlets"), root().join("enclave/sdk")];
    for package in &metadata.packages {
        for path in package
            .dependencies
            .iter()
            .filter_map(|dependency| dependency.path.as_ref())
        {
            assert!(
                allowed
                    .iter()
                    .any(|folder| path.as_std_path().starts_with(folder)),
                "{} -> {path}",
                package.name
            );
        }
    }
}

fn arrow(from: &str, to: &str, test_only: bool) -> Arrow {
    let place = |folder| Place::of(folder).unwrap_or(Place::Container);
    let to_name = format!("cryptlet-{}", to.rsplit('/').next().unwrap_or(to));
    Arrow {
        from: place(from),
        to: place(to),
        to_name,
        test_only,
    }
}

#[test]
fn right_arrows_are_let_through() {
    let cases = [
        ("core/seal", "core/types", false),
        ("adapters/vault", "core/seal", false),
        ("pipeline/run", "adapters/isolation", false),
        ("apps/host", "pipeline/run", false),
        ("apps/cli", "apps/host", false),
        ("apps/cli", "node", false),
        ("enclave/container", "core/seal", false),
        ("pipeline/deliver", "node", true),
        ("node", "core/seal", true),
        ("apps/host", "apps/feed", true),
    ];
    for (from, to, test_only) in cases {
        assert_eq!(
            objection(&arrow(from, to, test_only)),
            None,
            "{from} -> {to}"
        );
    }
}

#[test]
fn wrong_arrows_are_refused() {
    let cases = [
        (
            "pipeline/run",
            "pipeline/deliver",
            false,
            "no stage imports another",
        ),
        (
            "pipeline/run",
            "pipeline/deliver",
            true,
            "no stage imports another",
        ),
        ("core/seal", "adapters/vault", false, "arrows go"),
        ("core/seal", "adapters/vault", true, "arrows go"),
        ("adapters/chain", "adapters/vault", false, "arrows go"),
        ("adapters/chain", "pipeline/watch", true, "arrows go"),
        (
            "adapters/isolation",
            "enclave/container",
            true,
            "never linked",
        ),
        ("apps/cli", "enclave/container", false, "never linked"),
        ("enclave/container", "core/journal", false, "shares only"),
        ("enclave/container", "node", true, "shares only"),
        ("node", "core/types", false, "knows nothing"),
        ("apps/host", "node", false, "start a node"),
        ("apps/host", "apps/cli", false, "points up"),
        ("pipeline/run", "apps/host", true, "points up"),
        ("apps/feed", "pipeline/run", false, "arrows go"),
    ];
    for (from, to, test_only, reason) in cases {
        let said = objection(&arrow(from, to, test_only)).unwrap_or("nothing");
        assert!(said.contains(reason), "{from} -> {to}: {said}");
    }
}

#[test]
fn a_folder_off_the_map_has_no_place() {
    for folder in ["utils", "core", "enclave/sdk", "apps/other", "node/extra"] {
        assert_eq!(Place::of(folder), None, "{folder}");
    }
}
