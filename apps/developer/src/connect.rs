//! Finding a host and talking to it.
//!
//! A connection file says where a host is, which certificate authority vouches for it, and holds a token. It is looked
//! for in this order, and the first word counts: the file that the user names, the file that `CRYPTLET_HOST` names,
//! `.cryptlet/connection.json` in the folder or above it, `bletchley/connection.json` in the user's state folder, where
//! `cryptlet dev` leaves it while it serves.

use crate::{ChainClient, DeveloperError, RegisterClient};
use cryptlet_api::{Client, Connection, types::HostInfo};
use cryptlet_types::{ReportDomain, register::RegisterDomain};
use std::{
    ffi::OsString,
    net::IpAddr,
    path::{Path, PathBuf},
};
use url::{Host, Url};

/// Folder of a project in which connection and unfinished work are kept.
pub const PROJECT_FOLDER: &str = ".cryptlet";
/// Name of the connection file, in [`PROJECT_FOLDER`] and in the state folder.
pub const CONNECTION_FILE: &str = "connection.json";
/// Chain id of development chains.
const DEVELOPMENT_CHAIN: u64 = 31_337;

/// Where a connection file may lie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// The file that the user named.
    pub named: Option<PathBuf>,
    /// The file that `CRYPTLET_HOST` names.
    pub environment: Option<PathBuf>,
    /// The folder to look in, and above.
    pub folder: PathBuf,
    /// The user's state folder.
    pub state: Option<PathBuf>,
}

impl Places {
    /// The places of this process: `named` by the user, the environment, the current folder.
    #[must_use]
    pub fn of_process(named: Option<PathBuf>) -> Self {
        Self {
            named,
            environment: variable("CRYPTLET_HOST"),
            folder: std::env::current_dir().unwrap_or_default(),
            state: state_folder(variable("XDG_STATE_HOME"), variable("HOME")),
        }
    }

    /// All places, in their order.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        if let Some(only) = self.named.as_ref().or(self.environment.as_ref()) {
            return vec![only.clone()];
        }
        let above = self.folder.ancestors();
        let mut places: Vec<_> = above
            .map(|folder| folder.join(PROJECT_FOLDER).join(CONNECTION_FILE))
            .collect();
        let state = self.state.as_ref();
        places.extend(state.map(|folder| in_state(folder)));
        places
    }

    /// The first place that has a connection file, and the connection.
    ///
    /// # Errors
    /// [`DeveloperError::NoHost`] with all places if there is none; the first one found is the one that counts, even if
    /// it cannot be read.
    pub fn find(&self) -> Result<(PathBuf, Connection), DeveloperError> {
        let places = self.all();
        match places.iter().find(|place| place.is_file()) {
            Some(place) => Ok((place.clone(), Connection::load(place)?)),
            None => Err(DeveloperError::NoHost(self.described())),
        }
    }

    /// What is missing, in words: the folders above are not written out.
    fn described(&self) -> String {
        if let Some(only) = self.named.as_ref().or(self.environment.as_ref()) {
            return format!("{} is not there", only.display());
        }
        let near = self.folder.join(PROJECT_FOLDER).join(CONNECTION_FILE);
        let near = format!("there is no {}, none in a folder above", near.display());
        match &self.state {
            Some(state) => format!("{near}, and no {}", in_state(state).display()),
            None => near,
        }
    }
}

/// The connection file in the user's state folder: where whoever serves this machine's developer leaves it. None if there
/// is no home folder.
#[must_use]
pub fn state_file() -> Option<PathBuf> {
    let state = state_folder(variable("XDG_STATE_HOME"), variable("HOME"));
    state.map(|state| in_state(&state))
}

fn in_state(state: &Path) -> PathBuf {
    state.join("bletchley").join(CONNECTION_FILE)
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var_os(name).filter(|value| !value.is_empty());
    value.map(|value: OsString| value.into())
}

/// `$XDG_STATE_HOME`, else `~/.local/state` (XDG Base Directory Specification: relative paths are ignored).
fn state_folder(state: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let state = state.filter(|folder| folder.is_absolute());
    state.or_else(|| home.map(|home| home.join(".local/state")))
}

/// Nodes that the user names, to be asked in place of those that the host names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nodes {
    /// URL of a node of the register's chain.
    pub register: Option<String>,
    /// URL of a node of the consumers' chain.
    pub chain: Option<String>,
}

/// Whose node said what the register says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// A node that the user named.
    Own,
    /// A node that the host named.
    Host,
}

/// A host that answers, and what it says of itself.
#[derive(Debug)]
pub struct Session {
    client: Client,
    info: HostInfo,
    nodes: Nodes,
}

impl Session {
    /// Asks the host about itself.
    ///
    /// # Errors
    /// It does not answer, does not know the token, or has another certificate authority than the connection says.
    pub async fn open(connection: &Connection, nodes: Nodes) -> Result<Self, DeveloperError> {
        let info = Client::new(connection, None)?.host().await?;
        let client = Client::new(connection, Some(info.authority))?;
        Ok(Self {
            client,
            info,
            nodes,
        })
    }

    /// The host's API.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What the host says of itself.
    #[must_use]
    pub fn info(&self) -> &HostInfo {
        &self.info
    }

    /// Where the register is, as the host says.
    #[must_use]
    pub fn register_domain(&self) -> RegisterDomain {
        RegisterDomain {
            chain_id: self.info.register.chain_id,
            register: self.info.register.address.into(),
        }
    }

    /// Where the delegate is, as the host says.
    #[must_use]
    pub fn delegate_domain(&self) -> ReportDomain {
        ReportDomain {
            chain_id: self.info.chain_id,
            delegate: self.info.delegate.into(),
        }
    }

    /// Whose node answers for the register; none if nobody named one.
    #[must_use]
    pub fn witness(&self) -> Option<Witness> {
        match (&self.nodes.register, &self.info.register.rpc) {
            (Some(_), _) => Some(Witness::Own),
            (None, Some(_)) => Some(Witness::Host),
            (None, None) => None,
        }
    }

    /// The register, on its chain.
    ///
    /// # Errors
    /// [`DeveloperError::NoRpc`] if nobody says where its chain answers; the node does not, or serves another chain.
    pub async fn register(&self) -> Result<RegisterClient, DeveloperError> {
        let url = self
            .register_rpc()
            .ok_or(DeveloperError::NoRpc("register"))?;
        RegisterClient::open(url, self.register_domain()).await
    }

    /// The consumers' chain.
    ///
    /// # Errors
    /// As [`Session::register`].
    pub async fn chain(&self) -> Result<ChainClient, DeveloperError> {
        let url = self.chain_rpc().ok_or(DeveloperError::NoRpc("delegate"))?;
        ChainClient::open(url, self.info.chain_id).await
    }

    fn register_rpc(&self) -> Option<&str> {
        let named = self.nodes.register.as_deref();
        named.or(self.info.register.rpc.as_deref())
    }

    fn chain_rpc(&self) -> Option<&str> {
        self.nodes.chain.as_deref().or(self.info.rpc.as_deref())
    }

    /// Whether keys that everybody knows may be used: chains of development, host and nodes on this machine.
    pub(crate) fn check_development(&self) -> Result<(), DeveloperError> {
        let refuse = |reason: String| Err(DeveloperError::NotDevelopment(reason));
        for chain in [self.info.chain_id, self.info.register.chain_id] {
            if chain != DEVELOPMENT_CHAIN {
                return refuse(format!("chain {chain} is not {DEVELOPMENT_CHAIN}"));
            }
        }
        let urls = [
            Some(self.info.url.as_str()),
            self.chain_rpc(),
            self.register_rpc(),
        ];
        match urls.into_iter().flatten().find(|url| !is_loopback(url)) {
            Some(url) => refuse(format!("{url} is not on this machine")),
            None => Ok(()),
        }
    }
}

fn is_loopback(url: &str) -> bool {
    let parsed = Url::parse(url).ok();
    match parsed.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// The nearest folder, `folder` or above it, that `holds` says yes to.
pub(crate) fn nearest(folder: &Path, holds: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut above = folder.ancestors();
    above.find(|folder| holds(folder)).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(folder: &Path) -> Places {
        Places {
            folder: folder.to_owned(),
            state: Some(folder.join("state")),
            ..Places::default()
        }
    }

    #[test]
    fn what_the_user_says_comes_before_the_environment_and_both_before_looking() {
        let mut places = places(Path::new("/a/b"));
        let found = [
            "/a/b/.cryptlet",
            "/a/.cryptlet",
            "/.cryptlet",
            "/a/b/state/bletchley",
        ];
        let found = found.map(|folder| Path::new(folder).join(CONNECTION_FILE));
        assert_eq!(places.all(), found);
        places.environment = Some("/env.json".into());
        assert_eq!(places.all(), [Path::new("/env.json")]);
        places.named = Some("/named.json".into());
        assert_eq!(places.all(), [Path::new("/named.json")]);
    }

    #[test]
    fn no_host_says_where_it_was_looked_for_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = places(folder.path()).find().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("state/bletchley/connection.json"), "{text}");
        assert!(error.next_step().unwrap().contains("cryptlet dev"));
    }

    #[test]
    fn a_broken_file_is_an_error_and_never_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let near = folder.path().join(PROJECT_FOLDER);
        std::fs::create_dir(&near).unwrap();
        std::fs::write(near.join(CONNECTION_FILE), "{}").unwrap();
        let error = places(folder.path()).find().unwrap_err();
        assert!(!matches!(error, DeveloperError::NoHost(_)), "{error}");
    }

    #[test]
    fn the_state_folder_is_absolute() {
        let home = Some("/home/a".into());
        let state = |path: &str| state_folder(Some(path.into()), home.clone());
        assert_eq!(state("/s"), Some("/s".into()));
        assert_eq!(state("s"), Some("/home/a/.local/state".into()));
        assert_eq!(state_folder(None, None), None);
    }

    #[test]
    fn this_machine_is_what_says_so_and_not_what_looks_so() {
        for url in ["http://127.0.0.1:1", "https://localhost:2", "http://[::1]"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "http://localhost.example",
            "http://10.0.0.1",
            "127.0.0.1",
            "http://127.0.0.1.example",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }
}
