//! The connection to a token: module, slot, session, login.

use super::{Pkcs11Config, keys::TokenKeys};
use crate::{Result, VaultError};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    session::UserType,
    slot::Slot,
};
use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Modules of this process. PKCS#11 has a process initialise a library once; none is unloaded, because
/// sessions elsewhere in the process may live in it.
static MODULES: Mutex<Vec<(PathBuf, Pkcs11)>> = Mutex::new(Vec::new());

/// A token, and the session to it while there is one.
pub(super) struct Token {
    config: Pkcs11Config,
    module: Pkcs11,
    connection: Mutex<Connection>,
}

enum Connection {
    /// To be opened by the next call.
    Closed,
    Open(TokenKeys),
    /// Another attempt could lock the token.
    PinRefused(String),
}

impl Token {
    pub(super) fn open(config: Pkcs11Config) -> Result<Self> {
        let module = load(&config.module)?;
        let token = Self {
            config,
            module,
            connection: Mutex::new(Connection::Closed),
        };
        token.with_keys(|_| Ok(()))?;
        Ok(token)
    }

    pub(super) fn config(&self) -> &Pkcs11Config {
        &self.config
    }

    /// Does `work` in the session, which is opened first if there is none, and given up if the token fails.
    pub(super) fn with_keys<T>(&self, work: impl FnOnce(&mut TokenKeys) -> Result<T>) -> Result<T> {
        let mut connection = self.connection();
        let done = match &mut *connection {
            Connection::Open(keys) => work(keys),
            Connection::PinRefused(reason) => Err(VaultError::PinRefused(reason.clone())),
            Connection::Closed => self.connect().and_then(|mut keys| {
                let done = work(&mut keys);
                *connection = Connection::Open(keys);
                done
            }),
        };
        match &done {
            Err(VaultError::PinRefused(reason)) => {
                *connection = Connection::PinRefused(reason.clone());
            }
            Err(VaultError::TokenLost(_) | VaultError::Token(_)) => {
                *connection = Connection::Closed;
            }
            _ => {}
        }
        done
    }

    /// No caller leaves a session half used, so a panic elsewhere does not close the token.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn connect(&self) -> Result<TokenKeys> {
        let session = self.module.open_rw_session(self.slot()?).map_err(failed)?;
        let pin = self.config.pin.read()?;
        match session.login(UserType::User, Some(&pin)) {
            // Login is of the process, not of the session: somebody else here may have done it.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => {}
            Err(error) => return Err(failed(error)),
        }
        TokenKeys::load(session)
    }

    /// The one slot whose token has the label.
    fn slot(&self) -> Result<Slot> {
        let label = &self.config.token_label;
        let mut found = Vec::new();
        for slot in self.module.get_slots_with_token().map_err(failed)? {
            match self.module.get_token_info(slot) {
                Ok(info) if info.token_initialized() && info.label() == label => found.push(slot),
                // Another slot's trouble is not this token's.
                Ok(_) | Err(_) => {}
            }
        }
        match found.as_slice() {
            [slot] => Ok(*slot),
            others => Err(VaultError::TokenCount {
                label: label.clone(),
                found: others.len(),
            }),
        }
    }
}

/// The module at `path`, loaded and initialised.
fn load(path: &Path) -> Result<Pkcs11> {
    let refused = |reason: Error| VaultError::Module {
        path: path.to_owned(),
        reason: reason.to_string(),
    };
    let mut modules = MODULES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, module)) = modules.iter().find(|(loaded, _)| loaded == path) {
        return Ok(module.clone());
    }
    let module = Pkcs11::new(path).map_err(refused)?;
    let arguments = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    match module.initialize(arguments) {
        Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
        Err(error) => return Err(refused(error)),
    }
    modules.push((path.to_owned(), module.clone()));
    Ok(module)
}

/// What a token's failure means to a caller.
pub(super) fn failed(error: Error) -> VaultError {
    use RvError as Rv;
    let text = error.to_string();
    match error {
        Error::Pkcs11(
            Rv::PinIncorrect
            | Rv::PinInvalid
            | Rv::PinLenRange
            | Rv::PinExpired
            | Rv::PinLocked
            | Rv::UserPinNotInitialized,
            _,
        ) => VaultError::PinRefused(text),
        Error::Pkcs11(
            Rv::DeviceError
            | Rv::DeviceRemoved
            | Rv::TokenNotPresent
            | Rv::TokenNotRecognized
            | Rv::SlotIdInvalid
            | Rv::SessionClosed
            | Rv::SessionCount
            | Rv::SessionHandleInvalid
            | Rv::UserNotLoggedIn
            | Rv::KeyHandleInvalid
            | Rv::ObjectHandleInvalid
            | Rv::CryptokiNotInitialized
            | Rv::OperationActive
            | Rv::FunctionCanceled
            | Rv::FunctionFailed
            | Rv::GeneralError
            | Rv::HostMemory,
            _,
        ) => VaultError::TokenLost(text),
        _ => VaultError::Token(text),
    }
}
