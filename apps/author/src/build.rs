//! From Rust to a component, with the same bytes on every machine.
//!
//! Where sources lie must not show in the component: the project's folder, the home of the registry's crates and the standard
//! library's sources are given other names (`cryptlets/Makefile` does the same for ours). The compiler is pinned by the
//! project's `rust-toolchain.toml`, dependencies by its `Cargo.lock`.

use crate::{AuthorError, Project};
use cryptlet_seal::sha256;
use cryptlet_types::Sha256Digest;
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};
use wit_component::ComponentEncoder;

const TARGET: &str = "wasm32-unknown-unknown";
/// What stands between two compiler flags in `CARGO_ENCODED_RUSTFLAGS`.
const FLAG_SEPARATOR: &str = "\u{1f}";
/// Settings of cargo that may stay: where crates come from. Everything else of the caller's could change the bytes.
const KEPT: [&str; 4] = [
    "CARGO_HOME",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_REGISTRIES_",
];

/// How to build.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// Cargo's target folder; `target` of the project unless it is given.
    pub target_dir: Option<PathBuf>,
    /// Whether to stay off the network; then every dependency has to be in cargo's cache.
    pub offline: bool,
}

/// A component that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Built {
    /// Where it lies.
    pub path: PathBuf,
    /// SHA-256 of its bytes.
    pub digest: Sha256Digest,
    /// Its size in bytes.
    pub size: usize,
}

/// Builds the project in `folder`. `progress` is handed the compiler's messages, line by line, and ours. Blocks until the
/// compiler is done.
///
/// # Errors
/// See [`AuthorError`]; what the compiler has to say went to `progress`.
pub fn build(
    folder: &Path,
    options: &BuildOptions,
    progress: &mut dyn FnMut(&str),
) -> Result<Built, AuthorError> {
    let project = Project::open(folder)?;
    let folder = fs::canonicalize(folder).map_err(|source| AuthorError::File {
        path: folder.to_owned(),
        source,
    })?;
    add_target(&folder, progress)?;
    let mut fetch = cargo(&folder, options);
    fetch.args(["fetch", "--locked"]);
    run(fetch, "cargo fetch", progress)?;
    let mut compile = cargo(&folder, options);
    compile
        .args(["build", "--locked", "--release", "--target", TARGET])
        .args(["--message-format", "json-render-diagnostics"])
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&folder)?);
    let messages = run(compile, "cargo build", progress)?;
    let module = module(&messages, &folder).ok_or_else(|| AuthorError::Failed {
        what: "cargo build (the crate is no cdylib)".into(),
    })?;
    let component = componentize(&module)?;
    let path = project.component();
    write(&path, &component)?;
    progress(&format!(
        "component {} ({} bytes)",
        path.display(),
        component.len()
    ));
    Ok(Built {
        path,
        digest: sha256(&component),
        size: component.len(),
    })
}

/// Makes sure that the compiler of the project has the target's standard library.
fn add_target(folder: &Path, progress: &mut dyn FnMut(&str)) -> Result<(), AuthorError> {
    let mut rustc = command("rustc", folder);
    rustc.args(["--print", "target-libdir", "--target", TARGET]);
    let output = run(rustc, "rustc", progress)?;
    if Path::new(output.trim()).is_dir() {
        return Ok(());
    }
    progress(&format!("adding the compiler's target {TARGET}"));
    let mut rustup = command("rustup", folder);
    rustup.args(["target", "add", TARGET]);
    run(rustup, "rustup target add", progress).map(drop)
}

/// A program with an environment of its own: nothing of the caller's cargo or rustup changes the bytes.
fn command(program: &'static str, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if changes_bytes(&name) {
            command.env_remove(name);
        }
    }
    command
}

fn changes_bytes(name: &OsString) -> bool {
    let Some(name) = name.to_str() else {
        return false;
    };
    let kept = KEPT.iter().any(|kept| name.starts_with(kept));
    let of_the_tools = [
        "CARGO",
        "__CARGO",
        "RUSTFLAGS",
        "RUSTC",
        "RUSTDOC",
        "RUSTUP_TOOLCHAIN",
    ];
    !kept && of_the_tools.iter().any(|prefix| name.starts_with(prefix))
}

fn cargo(folder: &Path, options: &BuildOptions) -> Command {
    let mut command = command("cargo", folder);
    let target = options.target_dir.clone();
    command.env(
        "CARGO_TARGET_DIR",
        target.unwrap_or_else(|| folder.join("target")),
    );
    if options.offline {
        command.env("CARGO_NET_OFFLINE", "true");
    }
    command
}

/// The compiler's flags: other names for the folders of this machine.
fn flags(folder: &Path) -> Result<String, AuthorError> {
    let output = |args: &[&str]| {
        let mut rustc = command("rustc", folder);
        rustc.args(args);
        run(rustc, "rustc", &mut |_| {})
    };
    let sysroot = output(&["--print", "sysroot"])?;
    let version = output(&["-vV"])?;
    let commit = version
        .lines()
        .find_map(|line| line.strip_prefix("commit-hash: "));
    let mut flags = vec![
        format!("--remap-path-prefix={}=/bletchley", folder.display()),
        format!(
            "--remap-path-prefix={}/lib/rustlib/src/rust=/rustc/{}",
            sysroot.trim(),
            commit.unwrap_or("unknown").trim()
        ),
    ];
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")));
    let registries = home.and_then(|home| fs::read_dir(home.join("registry/src")).ok());
    for registry in registries.into_iter().flatten().flatten() {
        flags.push(format!(
            "--remap-path-prefix={}=/crates",
            registry.path().display()
        ));
    }
    Ok(flags.join(FLAG_SEPARATOR))
}

/// Runs a program to its end, hands its messages on, and returns what it printed.
fn run(
    mut command: Command,
    what: &str,
    progress: &mut dyn FnMut(&str),
) -> Result<String, AuthorError> {
    let program = match command.get_program().to_str() {
        Some("rustup") => "rustup",
        Some("rustc") => "rustc",
        _ => "cargo",
    };
    let tool = |source| AuthorError::Tool { program, source };
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(tool)?;
    let mut printed = child.stdout.take();
    let reading = thread::spawn(move || {
        let mut text = String::new();
        match printed
            .as_mut()
            .map(|printed| printed.read_to_string(&mut text))
        {
            Some(Err(error)) => Err(error),
            Some(Ok(_)) | None => Ok(text),
        }
    });
    for line in child
        .stderr
        .take()
        .into_iter()
        .flat_map(|said| BufReader::new(said).lines())
    {
        progress(&line.map_err(tool)?);
    }
    let status = child.wait().map_err(tool)?;
    let text = reading
        .join()
        .unwrap_or_else(|_| Err(std::io::Error::other("its output was lost")));
    match status.success() {
        true => text.map_err(tool),
        false => Err(AuthorError::Failed {
            what: what.to_owned(),
        }),
    }
}

/// A message of cargo's about something that it made.
#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    #[serde(default)]
    filenames: Vec<PathBuf>,
}

/// The module that cargo made of the crate in `folder`.
fn module(messages: &str, folder: &Path) -> Option<PathBuf> {
    let manifest = folder.join("Cargo.toml");
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter(|message| message.manifest_path.as_deref() == Some(&manifest))
        .flat_map(|message| message.filenames)
        .find(|file| {
            file.extension()
                .is_some_and(|extension| extension == "wasm")
        })
}

/// Makes a component of a module that wit-bindgen prepared. No WASI adapter is added: a cryptlet that reaches for the system
/// fails here.
fn componentize(module: &Path) -> Result<Vec<u8>, AuthorError> {
    let bytes = fs::read(module).map_err(|source| AuthorError::File {
        path: module.to_owned(),
        source,
    })?;
    ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| AuthorError::Component(format!("{error:#}")))
}

/// Writes a file at once or not at all.
fn write(path: &Path, bytes: &[u8]) -> Result<(), AuthorError> {
    let failed = |source| AuthorError::File {
        path: path.to_owned(),
        source,
    };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(failed)?;
    }
    let unfinished = path.with_extension("wasm.tmp");
    fs::write(&unfinished, bytes).map_err(failed)?;
    fs::rename(&unfinished, path).map_err(failed)
}
