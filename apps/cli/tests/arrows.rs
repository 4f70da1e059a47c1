//! Arrows between crates: apps -> pipeline -> adapters -> core, as `ARCHITECTURE.md` draws them.
//!
//! Tests of a crate (dev-dependencies) follow the same arrows and may besides use any core crate, the embedded
//! node and the feed, because a real chain and a real source beat mocks; the host's tests play on the stage.
//! Nothing else is let through.

use serde::Deserialize;
use std::{
    error::Error,
    path::{Path, PathBuf},
    process::Command,
};

/// Crates that take values and return values: what opens sockets, files or runtimes has no place in them.
const WITHOUT_IO: [&str; 6] = [
    "cryptlet-types",
    "cryptlet-seal",
    "cryptlet-attest",
    "cryptlet-audit",
    "cryptlet-header",
    "cryptlet-check",
];
/// What the measured container may share with the outside.
const SHARED_WITH_CONTAINER: [&str; 3] = ["cryptlet-types", "cryptlet-seal", "cryptlet-attester"];
/// What other adapters may speak over.
const BELOW_ADAPTERS: &str = "cryptlet-channel";
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
    Api,
    Author,
    Image,
    Developer,
    Host,
    Stage,
    Sim,
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
            Some(("apps", "api")) => Some(Self::Api),
            Some(("apps", "author")) => Some(Self::Author),
            Some(("apps", "image")) => Some(Self::Image),
            Some(("apps", "developer")) => Some(Self::Developer),
            Some(("apps", "host")) => Some(Self::Host),
            Some(("apps", "stage")) => Some(Self::Stage),
            Some(("apps", "sim")) => Some(Self::Sim),
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
    use Place::{
        Adapter, Api, Author, Cli, Container, Core, Developer, Feed, Host, Image, Node, Pipeline,
        Sim, Stage,
    };
    if arrow.to == Container {
        return Some("the container is started as a program, never linked");
    }
    if arrow.from == Container && !SHARED_WITH_CONTAINER.contains(&arrow.to_name.as_str()) {
        return Some("the container shares only types, seal and attester with the outside");
    }
    if arrow.test_only
        && matches!(
            (arrow.from, arrow.to),
            (_, Core | Node | Feed) | (Host, Stage)
        )
    {
        return None;
    }
    if arrow.from == Adapter && arrow.to == Adapter && arrow.to_name == BELOW_ADAPTERS {
        return None;
    }
    match (arrow.from, arrow.to) {
        (Core | Adapter | Container | Feed | Api | Image, Core)
        // Which one was looked at above.
        | (Container, Adapter)
        | (Pipeline | Author, Core | Adapter)
        | (Developer, Core | Adapter | Api)
        | (Host, Core | Adapter | Pipeline | Api)
        | (Sim, Core | Adapter | Pipeline | Host)
        | (Stage, Core | Adapter | Host | Api | Node | Feed)
        | (
            Cli,
            Core | Adapter | Pipeline | Host | Api | Author | Image | Developer | Stage | Node
            | Feed,
        ) => None,
        (Node, _) => Some("the node knows nothing of the fabric"),
        (Pipeline, Pipeline) => Some("no stage imports another: the host joins them"),
        (_, Node) => Some("only the stage, the command line and tests start a node"),
        (_, Host | Stage | Sim | Cli | Feed | Api | Author | Image | Developer) => {
            Some("nothing points up at an app")
        }
        _ => Some("arrows go apps -> pipeline -> adapters -> core"),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap_or_default()
}

/// What `cargo metadata --no-deps` says: the crates of one workspace, with the dependencies that they declare.
#[derive(Deserialize)]
struct Workspace {
    packages: Vec<Package>,
    workspace_root: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for an ordinary one.
    kind: Option<String>,
    path: Option<PathBuf>,
}

impl Workspace {
    fn read(manifest: &str) -> Result<Self, Box<dyn Error>> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args([
                "metadata",
                "--no-deps",
                "--format-version",
                "1",
                "--manifest-path",
            ])
            .arg(root().join(manifest))
            .output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn place(&self, package: &Package) -> Option<Place> {
        let folder = package.manifest_path.parent()?;
        Place::of(folder.strip_prefix(&self.workspace_root).ok()?.to_str()?)
    }

    fn package(&self, name: &str) -> Option<&Package> {
        self.packages.iter().find(|package| package.name == name)
    }

    /// What is wrong with the arrows, one line each.
    fn objections(&self) -> Vec<String> {
        let mut found = Vec::new();
        for package in &self.packages {
            let Some(from) = self.place(package) else {
                found.push(format!(
                    "{}: its folder has no place on the map",
                    package.name
                ));
                continue;
            };
            for dependency in &package.dependencies {
                let target = self.package(&dependency.name);
                let Some(to) = target.and_then(|target| self.place(target)) else {
                    continue;
                };
                let test_only = dependency.kind.as_deref() == Some("dev");
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
}

#[test]
fn arrows_between_crates_go_down_the_map() {
    let workspace = Workspace::read("Cargo.toml").unwrap();
    assert!(workspace.packages.len() > 10, "the workspace was not read");
    assert_eq!(workspace.objections(), Vec::<String>::new());
}

#[test]
fn crates_without_io_have_no_library_that_does_io() {
    let workspace = Workspace::read("Cargo.toml").unwrap();
    for name in WITHOUT_IO {
        let package = workspace.package(name).unwrap();
        let wrong: Vec<_> = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.is_none())
            .map(|dependency| dependency.name.as_str())
            .filter(|library| IO_LIBRARIES.contains(library))
            .collect();
        assert_eq!(wrong, Vec::<&str>::new(), "{name} does no input or output");
    }
}

#[test]
fn cryptlets_see_the_sdk_and_nothing_else_of_ours() {
    let workspace = Workspace::read("cryptlets/Cargo.toml").unwrap();
    let allowed = [root().join("cryptlets"), root().join("enclave/sdk")];
    for package in &workspace.packages {
        for path in package
            .dependencies
            .iter()
            .filter_map(|dependency| dependency.path.as_ref())
        {
            assert!(
                allowed.iter().any(|folder| path.starts_with(folder)),
                "{} -> {}",
                package.name,
                path.display()
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
        ("adapters/isolation", "adapters/channel", false),
        ("pipeline/run", "adapters/isolation", false),
        ("apps/host", "pipeline/run", false),
        ("apps/cli", "apps/host", false),
        ("apps/cli", "node", false),
        ("apps/cli", "apps/developer", false),
        ("apps/cli", "apps/author", false),
        ("apps/cli", "apps/image", false),
        ("apps/image", "core/seal", false),
        ("adapters/attester", "core/attest", true),
        ("apps/developer", "apps/api", false),
        ("apps/developer", "adapters/chain", false),
        ("apps/developer", "node", true),
        ("apps/author", "adapters/isolation", false),
        ("apps/host", "apps/api", false),
        ("apps/cli", "apps/stage", false),
        ("apps/stage", "apps/host", false),
        ("apps/sim", "apps/host", false),
        ("apps/sim", "pipeline/watch", false),
        ("enclave/container", "core/seal", false),
        ("enclave/container", "adapters/attester", false),
        ("pipeline/deliver", "node", true),
        ("node", "core/seal", true),
        ("apps/host", "apps/feed", true),
        ("apps/host", "apps/stage", true),
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
        ("adapters/channel", "adapters/isolation", false, "arrows go"),
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
        ("apps/host", "node", false, "tests start a node"),
        ("apps/host", "apps/cli", false, "points up"),
        ("apps/host", "apps/stage", false, "points up"),
        ("apps/host", "apps/sim", true, "points up"),
        ("apps/cli", "apps/sim", false, "points up"),
        ("apps/stage", "pipeline/run", false, "arrows go"),
        ("pipeline/run", "apps/host", true, "points up"),
        ("pipeline/run", "apps/stage", true, "points up"),
        ("apps/feed", "pipeline/run", false, "arrows go"),
        ("apps/api", "adapters/vault", false, "arrows go"),
        ("apps/api", "apps/host", false, "points up"),
        ("apps/developer", "apps/host", false, "points up"),
        ("apps/developer", "apps/author", false, "points up"),
        ("apps/developer", "pipeline/run", false, "arrows go"),
        ("apps/developer", "node", false, "tests start a node"),
        ("apps/author", "apps/api", false, "points up"),
        ("apps/image", "adapters/attester", false, "arrows go"),
        ("apps/host", "apps/image", false, "points up"),
        ("pipeline/run", "apps/api", false, "points up"),
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
