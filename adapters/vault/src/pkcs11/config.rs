//! Which token, and where its PIN is.

use crate::{Result, VaultError, storage::read_private};
use cryptoki::types::AuthPin;
use std::{env, path::PathBuf};
use zeroize::Zeroizing;

/// Longest PIN that is read, in bytes.
const MAX_PIN_BYTES: usize = 256;

/// Which token keeps the keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pkcs11Config {
    /// The token's PKCS#11 library, for example `/usr/lib/softhsm/libsofthsm2.so`. Its code runs in this
    /// process: only root should be able to replace it.
    pub module: PathBuf,
    /// Label that the token was given when it was initialised. Exactly one token must have it.
    pub token_label: String,
    /// The user's PIN.
    pub pin: PinSource,
}

/// Where a PIN is. It is read at each login and kept by nobody in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PinSource {
    /// A file that only its owner may read; one line end after the PIN is left out.
    File(PathBuf),
    /// An environment variable. Other processes of the same user can read it: prefer a file.
    Environment(String),
}

impl PinSource {
    pub(super) fn read(&self) -> Result<AuthPin> {
        let text = match self {
            Self::File(path) => {
                let bytes = read_private(path, MAX_PIN_BYTES)?;
                let bytes = bytes.ok_or_else(|| self.wrong("it is longer than 256 bytes"))?;
                let text = std::str::from_utf8(&bytes);
                Zeroizing::new(text.map_err(|_| self.wrong("it is not UTF-8"))?.to_owned())
            }
            Self::Environment(name) => {
                Zeroizing::new(env::var(name).map_err(|_| self.wrong("it is not set"))?)
            }
        };
        let pin = text.strip_suffix('\n').unwrap_or(&text);
        let pin = pin.strip_suffix('\r').unwrap_or(pin);
        if pin.is_empty() {
            return Err(self.wrong("it is empty"));
        }
        // Allocated once, at its size: nothing is left behind.
        Ok(AuthPin::new(pin.into()))
    }

    fn wrong(&self, reason: &'static str) -> VaultError {
        let place = match self {
            Self::File(path) => format!("file {}", path.display()),
            Self::Environment(name) => format!("environment variable {name}"),
        };
        VaultError::Pin { place, reason }
    }
}
