//! A developer's machine for tests: the built programs in the path, a state folder of its own, `cryptlet dev`.

pub(crate) mod docs;
pub(crate) mod registry;

use serde_json::Value;
use std::{
    env, fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// Longest wait for anything that is sure to come: more than a minute of cron, and a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(150);

/// Where the programs under test lie.
fn programs() -> PathBuf {
    let cryptlet = Path::new(env!("CARGO_BIN_EXE_cryptlet"));
    let container = cryptlet.with_file_name("cryptlet-container");
    assert!(
        container.is_file(),
        "build it first: cargo build --release -p cryptlet-container"
    );
    cryptlet.parent().unwrap().to_owned()
}

/// An empty folder that is the same in every run, so that what cargo built there before is not built again: the flags of
/// a cryptlet's compiler name the folder.
pub(crate) fn emptied(name: &str) -> PathBuf {
    let folder = programs().with_file_name("walk").join(name);
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// A developer's machine.
pub(crate) struct Machine {
    /// The folder in which everything happens.
    pub(crate) folder: PathBuf,
    path: Vec<PathBuf>,
    settings: Vec<(&'static str, String)>,
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) out: String,
    pub(crate) err: String,
    pub(crate) good: bool,
    pub(crate) took: Duration,
}

impl Machine {
    /// A machine whose folder `name` is empty.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            folder: emptied(name),
            path: vec![programs()],
            settings: vec![],
        }
    }

    /// With the pinned forge and the pinned compiler of the contracts, in place of what they would fetch.
    pub(crate) fn with_forge(mut self) -> Self {
        let contracts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../contracts");
        let contracts = contracts.canonicalize().unwrap();
        let system = format!("{}-{}", env::consts::OS, env::consts::ARCH);
        let package = match system.as_str() {
            "linux-x86_64" => "forge-linux-amd64",
            "macos-aarch64" => "forge-darwin-arm64",
            "windows-x86_64" => "forge-win32-amd64",
            other => panic!("contracts/package.json pins no forge for {other}"),
        };
        let forge = contracts
            .join("node_modules/@foundry-rs")
            .join(package)
            .join("bin");
        if !forge.is_dir() {
            let npm = Command::new("npm")
                .args(["ci", "--ignore-scripts"])
                .current_dir(&contracts)
                .output();
            let npm = npm.unwrap();
            assert!(
                npm.status.success(),
                "{}",
                String::from_utf8_lossy(&npm.stderr)
            );
        }
        self.path.push(forge);
        let compiler = contracts.join("solc-wrapper").display().to_string();
        self.settings.extend([
            ("FOUNDRY_SOLC", compiler),
            ("FOUNDRY_OFFLINE", "true".to_owned()),
            ("FOUNDRY_DISABLE_NIGHTLY_WARNING", "1".to_owned()),
        ]);
        self
    }

    /// A command line, as a developer types it, in `folder`.
    pub(crate) fn command(&self, folder: &Path, line: &str) -> Command {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let path = self
            .path
            .iter()
            .cloned()
            .chain(env::split_paths(&inherited));
        let mut command = Command::new("sh");
        command
            // The program itself gets the signals, and not a shell before it.
            .args(["-c", &format!("exec {line}")])
            .current_dir(folder)
            .stdin(Stdio::null())
            .env("PATH", env::join_paths(path).unwrap())
            .env("XDG_STATE_HOME", self.folder.join("state"))
            .env("CARGO_TARGET_DIR", self.folder.with_extension("target"))
            .envs(self.settings.iter().map(|(name, value)| (*name, value)));
        for name in ["RUST_LOG", "CRYPTLET_HOST", "CRYPTLET_PASSWORD"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs a command line to its end.
    pub(crate) fn run(&self, folder: &Path, line: &str) -> Said {
        let started = Instant::now();
        let output = self.command(folder, line).output().unwrap();
        let said = Said {
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            good: output.status.success(),
            took: started.elapsed(),
        };
        println!("$ {line}\n{}[{:.1?}]", said.out, said.took);
        said
    }

    /// Runs a command line that has to succeed, and returns what it printed.
    pub(crate) fn good(&self, folder: &Path, line: &str) -> String {
        let said = self.run(folder, line);
        assert!(said.good, "{line}\n{}{}", said.out, said.err);
        said.out
    }

    /// Runs a command line that has to fail, and returns what it complained of.
    pub(crate) fn refused(&self, folder: &Path, line: &str) -> String {
        let said = self.run(folder, line);
        assert!(!said.good, "{line}\n{}", said.out);
        said.err
    }

    /// Runs a command line with `--json` and reads each line of what it printed.
    pub(crate) fn json(&self, folder: &Path, line: &str) -> Vec<Value> {
        let out = self.good(folder, &format!("{line} --json"));
        let parse = |text: &str| {
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{line}: {error}: {text}"))
        };
        out.lines().map(parse).collect()
    }

    /// Starts a command line that goes on by itself.
    pub(crate) fn start(&self, folder: &Path, line: &str) -> Running {
        let mut child = self
            .command(folder, line)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (sender, said) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                println!("| {line}");
                // Whoever listened may have heard enough.
                let _ = sender.send(line);
            }
        });
        Running { child, said }
    }

    /// Starts `cryptlet dev` and waits until it is ready.
    pub(crate) fn dev(&self, line: &str) -> Running {
        let dev = self.start(&self.folder, line);
        dev.until("ready");
        dev
    }

    /// The connection that `cryptlet dev` keeps.
    pub(crate) fn connection(&self) -> Value {
        let bytes = fs::read(self.folder.join("bletchley-dev/connection.json")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }
}

/// A program that goes on by itself, and is killed when dropped.
pub(crate) struct Running {
    child: Child,
    said: Receiver<String>,
}

impl Running {
    /// Waits for a line that holds `words`, and returns it.
    pub(crate) fn until(&self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.said.recv_timeout(left);
            let line = line.unwrap_or_else(|error| panic!("{words:?} was not said: {error}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn interrupt(mut self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-INT", &id]).status().unwrap();
        assert!(sent.success());
        assert!(self.child.wait().unwrap().success(), "Ctrl-C is no failure");
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}
