//! A real OCI registry: Debian's `docker-registry`.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
};
use tempfile::TempDir;

/// A registry that ends with this value.
pub(crate) struct Registry {
    process: Child,
    _folder: TempDir,
    /// `HOST:PORT`.
    pub(crate) host: String,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("config.yml");
        let storage = folder.path().join("storage");
        let host = format!("127.0.0.1:{}", free_port());
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: text}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: \"{host}\"}}\n",
            storage.display(),
        );
        fs::write(&config, text).unwrap();
        let mut process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("docker-registry: {error}; apt-get install docker-registry")
            });
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
        let listening = lines.any(|line| line.unwrap().contains("listening on"));
        assert!(listening, "docker-registry ended");
        thread::spawn(move || lines.for_each(drop));
        Self {
            process,
            _folder: folder,
            host,
        }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _already_dead = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// A port for a program that is told where to listen. Below those that systems give out by themselves (RFC 6335: from
/// 49152, Linux: from 32768), so that nothing else gets it before the program binds it.
pub(crate) fn free_port() -> u16 {
    static ASKED: AtomicU16 = AtomicU16::new(0);
    let first = u16::try_from(std::process::id() % 10_000).unwrap();
    std::iter::repeat_with(|| (first + ASKED.fetch_add(1, Ordering::Relaxed)) % 12_000 + 20_000)
        .take(12_000)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
