//! Where a host is and how to come in: one file that only its owner may read.

use super::{Client, ClientError, ClientResult, Credentials};
use crate::files::{read_private, replace_private};
use serde::{Deserialize, Serialize};
use std::{fmt, path::Path};
use zeroize::Zeroizing;

/// Largest file of a connection: 64 KiB.
const MAX_FILE_BYTES: u64 = 64 << 10;
const VERSION: u32 = 1;

/// How to reach a host.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// `https://HOST:PORT`.
    pub url: String,
    /// Certificate of the host's authority, PEM.
    pub authority: String,
    /// Bearer token.
    pub token: Zeroizing<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct OnFile<S> {
    version: u32,
    url: S,
    authority: S,
    token: S,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// Reads a connection from a file that only its owner may read.
    ///
    /// # Errors
    /// [`ClientError::File`], [`ClientError::NotAConnection`], [`ClientError::Settings`].
    pub fn load(path: &Path) -> ClientResult<Self> {
        let wrong = |reason: String| ClientError::NotAConnection {
            path: path.to_owned(),
            reason,
        };
        let (_, bytes) = read_private(path, MAX_FILE_BYTES)?;
        let on_file: OnFile<String> =
            serde_json::from_slice(&bytes).map_err(|error| wrong(error.to_string()))?;
        let connection = Self {
            url: on_file.url,
            authority: on_file.authority,
            token: Zeroizing::new(on_file.token),
        };
        if on_file.version != VERSION {
            return Err(wrong(format!("version {}, not {VERSION}", on_file.version)));
        }
        connection.check()?;
        Ok(connection)
    }

    /// Writes it, for its owner alone; replaces what was there.
    ///
    /// # Errors
    /// [`ClientError::Settings`], [`ClientError::File`].
    pub fn save(&self, path: &Path) -> ClientResult<()> {
        self.check()?;
        let on_file = OnFile {
            version: VERSION,
            url: self.url.as_str(),
            authority: self.authority.as_str(),
            token: self.token.as_str(),
        };
        let json =
            serde_json::to_vec_pretty(&on_file).map_err(|error| ClientError::NotAConnection {
                path: path.to_owned(),
                reason: error.to_string(),
            })?;
        Ok(replace_private(path, &Zeroizing::new(json))?)
    }

    fn check(&self) -> ClientResult<()> {
        let credentials = Credentials::Token(self.token.clone());
        Client::with(&self.url, &self.authority, credentials, None).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    fn connection() -> Connection {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        Connection {
            url: "https://localhost:8443".to_owned(),
            authority: made.cert.pem(),
            token: Zeroizing::new("A".repeat(43)),
        }
    }

    #[test]
    fn a_connection_is_kept_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("connection.json");
        let connection = connection();
        connection.save(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        assert_eq!(Connection::load(&path).unwrap(), connection);
        assert!(!format!("{connection:?}").contains("AAAA"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        assert!(matches!(Connection::load(&path), Err(ClientError::File(_))));
    }

    #[test]
    fn what_is_no_connection_is_neither_written_nor_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("connection.json");
        let good = connection();
        for url in [
            "http://localhost",
            "https://user@localhost",
            "https://localhost/?a=b",
            "localhost",
            "",
        ] {
            let wrong = Connection {
                url: url.to_owned(),
                ..good.clone()
            };
            assert!(
                matches!(
                    wrong.save(&path),
                    Err(ClientError::Settings { field: "url", .. })
                ),
                "{url}"
            );
        }
        let wrong = Connection {
            authority: String::new(),
            ..good.clone()
        };
        assert!(matches!(
            wrong.save(&path),
            Err(ClientError::Settings {
                field: "authority",
                ..
            })
        ));
        let wrong = Connection {
            token: Zeroizing::new("a b".to_owned()),
            ..good.clone()
        };
        assert!(matches!(
            wrong.save(&path),
            Err(ClientError::Settings { field: "token", .. })
        ));
        assert!(!path.exists());

        good.save(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for broken in [
            text.replacen("\"version\": 1", "\"version\": 2", 1),
            text.replacen("\"version\": 1", "\"version\": 1, \"insecure\": true", 1),
            String::new(),
        ] {
            replace_private(&path, broken.as_bytes()).unwrap();
            assert!(
                matches!(
                    Connection::load(&path),
                    Err(ClientError::NotAConnection { .. })
                ),
                "{broken}"
            );
        }
    }
}
