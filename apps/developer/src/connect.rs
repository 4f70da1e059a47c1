//! Finding a host and talking to it.
//!
//! A connection file says where a host is, which certificate authority vouches for it, and holds a token. It is looked
//! for in this order, and the first word counts: the file that the user names, the file that `CRYPTLET_HOST` names,
//! `.cryptlet/connection.json` in the folder or above it, `bletchley/connection.json` in the user's state folder, where
//! `cryptlet dev` leaves it while it serves.
//!
//! Looking upwards ends at the user's home folder, and before the first folder of somebody else. A file that is found so
//! has to be the user's own, as has its folder, and nobody else may write there: who names the host names the register.

use crate::{ChainClient, DeveloperError, RegisterClient, files};
use cryptlet_api::{Client, Connection, types::HostInfo};
use cryptlet_types::{ReportDomain, register::RegisterDomain};
use serde::Serialize;
use std::{
    ffi::OsString,
    fs,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};
use url::{Host, Url};

/// Folder of a project in which connection and unfinished work are kept.
pub const PROJECT_FOLDER: &str = ".cryptlet";
/// Name of the connection file, in [`PROJECT_FOLDER`] and in the state folder.
pub const CONNECTION_FILE: &str = "connection.json";
/// Permission bits by which others than the owner may write.
const WRITTEN_BY_OTHERS: u32 = 0o022;
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
    /// The user's home folder: nothing above it is looked at.
    pub home: Option<PathBuf>,
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
            home: variable("HOME"),
            state: state_folder(variable("XDG_STATE_HOME"), variable("HOME")),
        }
    }

    /// All places, in their order.
    #[must_use]
    pub fn all(&self) -> Vec<PathBuf> {
        if let Some(only) = self.named.as_ref().or(self.environment.as_ref()) {
            return vec![only.clone()];
        }
        let mut places = self.near();
        places.extend(self.in_state());
        places
    }

    /// The places in the folder and above it.
    fn near(&self) -> Vec<PathBuf> {
        let mut places = Vec::new();
        for folder in self.folder.ancestors() {
            if !fs::metadata(folder).is_ok_and(|known| is_own(&known)) {
                break;
            }
            places.push(folder.join(PROJECT_FOLDER).join(CONNECTION_FILE));
            if self.home.as_deref() == Some(folder) {
                break;
            }
        }
        places
    }

    fn in_state(&self) -> Option<PathBuf> {
        self.state.as_deref().map(in_state)
    }

    /// Whether `place` was come upon by looking in folders: neither named, nor the state folder's.
    #[must_use]
    pub fn is_come_upon(&self, place: &Path) -> bool {
        self.named.is_none()
            && self.environment.is_none()
            && self.in_state().as_deref() != Some(place)
    }

    /// The first place that has a connection file, and the connection.
    ///
    /// # Errors
    /// [`DeveloperError::NoHost`] with all places if there is none; the first one found is the one that counts, even if
    /// it cannot be read, or others can write there.
    pub fn find(&self) -> Result<(PathBuf, Connection), DeveloperError> {
        let places = self.all();
        let there = |place: &&PathBuf| place.symlink_metadata().is_ok();
        let Some(place) = places.iter().find(there) else {
            return Err(DeveloperError::NoHost(self.described()));
        };
        if self.is_come_upon(place) {
            check_come_upon(place)?;
        }
        Ok((place.clone(), Connection::load(place)?))
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

/// Whether a file or folder belongs to who runs this.
fn is_own(known: &fs::Metadata) -> bool {
    known.uid() == rustix::process::geteuid().as_raw()
}

/// Refuses a connection file that nobody named unless it and its folder are the user's own, and themselves: no links.
fn check_come_upon(place: &Path) -> Result<(), DeveloperError> {
    let folder = place.parent().unwrap_or(place);
    for path in [folder, place] {
        let known = path.symlink_metadata().map_err(files::at(path))?;
        let reason = if known.is_symlink() {
            "is a symbolic link"
        } else if !is_own(&known) {
            "belongs to somebody else"
        } else if known.mode() & WRITTEN_BY_OTHERS != 0 {
            "can be written by others"
        } else {
            continue;
        };
        let reason = format!("{reason}; if you want this host, name it with --host-file");
        return Err(DeveloperError::document(path.display(), reason));
    }
    Ok(())
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Witness {
    /// A node that the user named.
    Own,
    /// A node that the host named; chain of development, host and node are on this machine.
    Development,
    /// A node that the host named: no more than the host's own word.
    Host,
}

impl Witness {
    /// Whether somebody else than the host has said it.
    #[must_use]
    pub fn confirms(self) -> bool {
        match self {
            Self::Own | Self::Development => true,
            Self::Host => false,
        }
    }
}

/// A host that answers, and what it says of itself.
#[derive(Debug)]
pub struct Session {
    client: Client,
    info: HostInfo,
    nodes: Nodes,
}

impl Session {
    /// Asks the host about itself; and a node that the user named, whether the register knows the host by the authority
    /// that the connection file holds. A host that is not registered claims nothing.
    ///
    /// # Errors
    /// It does not answer, does not know the token, or has another certificate authority than the connection file or the
    /// register says.
    pub async fn open(connection: &Connection, nodes: Nodes) -> Result<Self, DeveloperError> {
        let client = Client::new(connection, None)?;
        let info = client.host().await?;
        // The handshake has shown the connection's authority. What the host says of itself is relied on later.
        if Client::new(connection, Some(info.authority)).is_err() {
            let said = "the host says that it has another authority than it serves with";
            return Err(DeveloperError::Untrue(said.into()));
        }
        let session = Self {
            client,
            info,
            nodes,
        };
        if session.witness() == Some(Witness::Own) {
            let register = session.register().await?;
            if let Some(record) = register.host(session.info.host.into()).await? {
                Client::new(connection, Some(record.authority.into()))?;
            }
        }
        Ok(session)
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
            (None, Some(_)) if self.is_development() => Some(Witness::Development),
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

    /// Where the consumers' chain answers: as the user says, or the host.
    #[must_use]
    pub fn chain_rpc(&self) -> Option<&str> {
        self.nodes.chain.as_deref().or(self.info.rpc.as_deref())
    }

    /// Whether it is all for development: chains, host and nodes, on this machine.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.check_development().is_ok()
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
            // Where it was reached, and where it says that it is.
            Some(self.client.url()),
            Some(self.info.url.as_str()),
            self.chain_rpc(),
            self.register_rpc(),
        ];
        match urls.into_iter().flatten().find(|url| !is_loopback(url)) {
            Some(url) => refuse(format!("{} is not on this machine", origin(url))),
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

/// Scheme, host and port of a URL, for people to read: path, query and account may hold the key to a node.
#[must_use]
pub fn origin(url: &str) -> String {
    match Url::parse(url).map(|parsed| parsed.origin()) {
        Ok(origin) if origin.is_tuple() => origin.ascii_serialization(),
        _ => "a URL of another kind".into(),
    }
}

/// `text` with every URL in it cut down to its [`origin`].
pub(crate) fn without_keys(text: &str) -> String {
    let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '(' | ')' | '<' | '>' | ',');
    let words = text.split_inclusive(ends).map(|word| {
        let bare = word.trim_end_matches(ends);
        let end = word.strip_prefix(bare).unwrap_or_default();
        if bare.contains("://") {
            format!("{}{end}", origin(bare))
        } else {
            word.to_owned()
        }
    });
    words.collect()
}

/// The nearest folder, `folder` or above it, that `holds` says yes to.
pub(crate) fn nearest(folder: &Path, holds: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let mut above = folder.ancestors();
    above.find(|folder| holds(folder)).map(Path::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn places(folder: &Path) -> Places {
        Places {
            folder: folder.to_owned(),
            state: Some(folder.join("state")),
            ..Places::default()
        }
    }

    #[test]
    fn what_the_user_says_comes_before_the_environment_and_both_before_looking() {
        let root = tempfile::tempdir().unwrap();
        let (home, inner) = (root.path().join("home"), root.path().join("home/a"));
        fs::create_dir_all(&inner).unwrap();
        let mut places = places(&inner);
        places.home = Some(home.clone());
        let found = [
            inner.join(".cryptlet"),
            home.join(".cryptlet"),
            inner.join("state/bletchley"),
        ];
        let found = found.map(|folder| folder.join(CONNECTION_FILE));
        assert_eq!(places.all(), found, "and nothing above the home folder");
        assert!(places.is_come_upon(&found[0]) && !places.is_come_upon(&found[2]));
        places.environment = Some("/env.json".into());
        assert_eq!(places.all(), [Path::new("/env.json")]);
        assert!(!places.is_come_upon(Path::new("/env.json")));
        places.named = Some("/named.json".into());
        assert_eq!(places.all(), [Path::new("/named.json")]);
    }

    #[test]
    fn no_host_says_where_it_was_looked_for_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = places(folder.path()).find().unwrap_err();
        let text = error.to_string();
        assert!(text.contains("state/bletchley/connection.json"), "{text}");
        assert!(error.next_step().contains("cryptlet dev"));
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
    fn what_others_may_have_put_there_does_not_count() {
        let folder = tempfile::tempdir().unwrap();
        let near = folder.path().join(PROJECT_FOLDER);
        fs::create_dir(&near).unwrap();
        let file = near.join(CONNECTION_FILE);
        let refused = |word: &str| {
            let error = places(folder.path()).find().unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        };
        std::os::unix::fs::symlink("/nowhere", &file).unwrap();
        refused("symbolic link");
        fs::remove_file(&file).unwrap();
        fs::write(&file, "{}").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        refused("holds no connection");
        fs::set_permissions(&near, fs::Permissions::from_mode(0o775)).unwrap();
        refused("written by others");
        // A link to a folder of one's own: who can make links here can make them lead elsewhere.
        let other = folder.path().join("other");
        fs::rename(&near, &other).unwrap();
        std::os::unix::fs::symlink(&other, &near).unwrap();
        refused("symbolic link");
    }

    #[test]
    fn a_folder_of_somebody_else_is_not_searched() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a");
        fs::create_dir(&inner).unwrap();
        assert!(places(&inner).near().len() > 1);
        let theirs = if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(folder.path(), Some(1), None).unwrap();
            assert_eq!(places(&inner).near().len(), 1, "and nothing above it");
            folder.path()
        } else {
            Path::new("/")
        };
        assert!(places(theirs).near().is_empty());
        assert!(places(Path::new("/nowhere/at/all")).near().is_empty());
    }

    #[test]
    fn the_key_in_a_nodes_url_is_not_shown() {
        for (url, shown) in [
            ("https://node.example/v3/KEY", "https://node.example"),
            (
                "https://me:KEY@node.example:8545/?k=KEY",
                "https://node.example:8545",
            ),
            ("wss://node.example/KEY", "wss://node.example"),
            ("data:KEY", "a URL of another kind"),
            ("KEY", "a URL of another kind"),
        ] {
            assert_eq!(origin(url), shown);
        }
        let said =
            "error sending request for url (https://node.example/v3/KEY): \"wss://a/KEY\", late";
        let shown = "error sending request for url (https://node.example): \"wss://a\", late";
        assert_eq!(without_keys(said), shown);
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
