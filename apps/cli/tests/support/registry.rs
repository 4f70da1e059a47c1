//! A real OCI registry: Debian's `docker-registry`.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    process::{Child, Command, Stdio},
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
        // Port 0 would not be told; a port that was just free is taken at once.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        drop(listener);
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
