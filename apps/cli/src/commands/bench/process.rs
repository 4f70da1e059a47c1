//! A host in a process of its own, as an operator runs it: to be stopped, killed and started again.

use crate::error::{CliError, Doing};
use cryptlet_host::HostConfig;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File, OpenOptions},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Longest wait for a host to be ready, or to end.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often it is looked whether it is.
const LOOK: Duration = Duration::from_millis(2);

/// A host. Killed when dropped.
pub(crate) struct HostProcess {
    child: Child,
    /// From its start until it said that it is ready.
    pub(crate) took: Duration,
}

impl HostProcess {
    /// Starts a host of this configuration, which is written to `host.json` of `folder`, and waits until it is ready.
    pub(crate) async fn start(config: &HostConfig, folder: &Path) -> Result<Self, CliError> {
        let doing = "the host did not start";
        let path = folder.join("host.json");
        let json = serde_json::to_vec_pretty(config).doing(doing)?;
        fs::write(&path, json).doing(doing)?;
        let program = std::env::current_exe().doing(doing)?;
        let (out, errors) = (folder.join("host.out"), errors_in(folder));
        let log = OpenOptions::new().create(true).append(true).open(errors);
        let mut command = Command::new(program);
        command
            .args(["host", "--json", "--config"])
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(File::create(&out).doing(doing)?)
            .stderr(log.doing(doing)?);
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "warn,alloy=off");
        }
        let start = Instant::now();
        let child = command.spawn().doing(doing)?;
        let mut host = Self {
            child,
            took: Duration::ZERO,
        };
        while !is_ready(&out) {
            if let Some(status) = host.child.try_wait().doing(doing)? {
                let said = last_words(folder);
                return Err(CliError::new(format_args!("{doing}: {status}\n{said}")));
            }
            if start.elapsed() > PATIENCE {
                return Err(CliError::new(format_args!("{doing} in {PATIENCE:?}")));
            }
            sleep(LOOK).await;
        }
        host.took = start.elapsed();
        Ok(host)
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(mut self) -> Result<(), CliError> {
        self.child.kill().doing("cannot kill the host")?;
        self.child.wait().doing("cannot kill the host").map(drop)
    }

    /// Stops it as Ctrl-C does.
    pub(crate) async fn stop(mut self) -> Result<(), CliError> {
        let doing = "cannot stop the host";
        kill_process(Pid::from_child(&self.child), Signal::INT).doing(doing)?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.child.try_wait().doing(doing)?.is_some() {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Err(CliError::new(format_args!("{doing} in {PATIENCE:?}")))
    }

    /// Bytes of memory that it holds, its regions not counted.
    pub(crate) fn resident(&self) -> Result<u64, CliError> {
        let doing = "cannot read how much memory the host holds";
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()));
        let status = status.doing(doing)?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kibibytes = line.and_then(|line| line.split_whitespace().next());
        let kibibytes: u64 = kibibytes.unwrap_or_default().parse().doing(doing)?;
        Ok(kibibytes.saturating_mul(1_024))
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        let _already_dead = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn errors_in(folder: &Path) -> PathBuf {
    folder.join("host.err")
}

fn is_ready(out: &Path) -> bool {
    fs::read_to_string(out).is_ok_and(|said| said.contains("\"ready\""))
}

/// What a host in that folder complained of last.
pub(crate) fn last_words(folder: &Path) -> String {
    let said = fs::read_to_string(errors_in(folder)).unwrap_or_default();
    let lines: Vec<_> = said.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
