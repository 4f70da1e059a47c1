//! A SoftHSM token of a test's own.
//!
//! SoftHSM finds its tokens by an environment variable, and a process has one set of tokens. So a test that
//! needs one runs this test program once more, for itself alone, with a fresh folder of tokens.

use crate::Place;
use cryptlet_vault::{PinSource, Pkcs11Config, Pkcs11Vault, Vault};
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    error::{Error, RvError},
    session::{Session, UserType},
    types::AuthPin,
};
use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(crate) const LABEL: &str = "bletchley test";
pub(crate) const PIN: &str = "fedcba123456";
/// Environment variable that holds the PIN.
pub(crate) const PIN_VARIABLE: &str = "VAULT_TEST_PIN";
const FOLDER: &str = "VAULT_TEST_TOKENS";
const OFFICER_PIN: &str = "abcdef654321";

/// An initialised token, alone in this process.
pub(crate) struct Token {
    folder: PathBuf,
    pub(crate) module: Pkcs11,
}

/// Runs `body` with a token of its own; `test` is the calling test's full name.
pub(crate) fn alone(test: &str, body: impl FnOnce(&Token)) {
    assert!(
        Path::new(MODULE).exists(),
        "{MODULE} is missing: install the Debian package softhsm2 (apt-get install softhsm2)"
    );
    if let Some(folder) = env::var_os(FOLDER) {
        return body(&Token::new(folder.into()));
    }
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    fs::create_dir(&tokens).unwrap();
    let settings = folder.path().join("softhsm2.conf");
    let text = format!(
        "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
        tokens.display()
    );
    fs::write(&settings, text).unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("SOFTHSM2_CONF", settings)
        .env(FOLDER, folder.path())
        .env(PIN_VARIABLE, PIN)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(
        child.status.success() && said.contains("1 passed"),
        "{test}:\n{said}\n{}",
        String::from_utf8_lossy(&child.stderr)
    );
}

impl Token {
    fn new(folder: PathBuf) -> Self {
        let module = Pkcs11::new(MODULE).unwrap();
        module
            .initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))
            .unwrap();
        let token = Self { folder, module };
        token.initialise(LABEL);
        token.write_pin(PIN);
        token
    }

    /// Makes a token in the slot that is still empty.
    pub(crate) fn initialise(&self, label: &str) {
        let officer = AuthPin::new(OFFICER_PIN.into());
        let slot = *self.module.get_slots_with_token().unwrap().last().unwrap();
        self.module.init_token(slot, &officer, label).unwrap();
        let session = self.module.open_rw_session(slot).unwrap();
        session.login(UserType::So, Some(&officer)).unwrap();
        session.init_pin(&AuthPin::new(PIN.into())).unwrap();
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Writes the file that [`Token::config`] names.
    pub(crate) fn write_pin(&self, pin: &str) {
        let path = self.at("pin");
        fs::write(&path, format!("{pin}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn config(&self) -> Pkcs11Config {
        Pkcs11Config {
            module: MODULE.into(),
            token_label: LABEL.into(),
            pin: PinSource::File(self.at("pin")),
        }
    }

    pub(crate) fn open(&self) -> Pkcs11Vault {
        Pkcs11Vault::open(self.config()).unwrap()
    }

    /// A session beside the vault's, as another program of the token's user has it.
    pub(crate) fn session(&self) -> Session {
        let labelled = |slot: &cryptoki::slot::Slot| {
            let info = self.module.get_token_info(*slot).unwrap();
            info.token_initialized() && info.label() == LABEL
        };
        let slots = self.module.get_slots_with_token().unwrap();
        let slot = slots.into_iter().find(labelled).unwrap();
        let session = self.module.open_rw_session(slot).unwrap();
        match session.login(UserType::User, Some(&AuthPin::new(PIN.into()))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => session,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Place for Token {
    fn reopen(&self) -> Arc<dyn Vault> {
        Arc::new(self.open())
    }
}
