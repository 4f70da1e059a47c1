//! Importing a cryptlet's header into a contract developer's project.
//!
//! Nothing that the host says is believed as such: the header must be what its source gives ([`Header::from_json`]), its
//! digest must be the one that the register names for the version in force, and its key a signer that the register
//! admits now. Who names a node of the register's chain asks that node; else the host's.
//!
//! What was imported stands in `cryptlet.lock`. A header that changed since, or a file that is not as import wrote it,
//! is refused until the developer accepts it.

mod base;
mod changes;
mod lock;
mod project;

pub use lock::{LOCK_FILE, Lock, LockedCryptlet, LockedFiles};
pub use project::{ContractProject, Tool};

use self::lock::stays_inside;
use crate::{DeveloperError, Session, Witness, confirm::record, files, publish::find};
use alloy_json_abi::JsonAbi;
use cryptlet_api::{
    ClientError,
    types::{CryptletDetail, CryptletRef},
};
use cryptlet_header::{Header, MAX_HEADER_BYTES};
use cryptlet_seal::sha256;
use cryptlet_types::{
    Sha256Digest,
    register::{RegisterDomain, VersionRecord},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Folder below the project's sources that import writes to.
const FOLDER: &str = "cryptlets";
/// Folder of the base contracts, below [`FOLDER`].
const BASE_FOLDER: &str = "bletchley";

/// A header that was checked against the register.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The header.
    pub header: Header,
    /// The version, as the register says.
    pub version: VersionRecord,
    /// The register.
    pub register: RegisterDomain,
    /// Whose node answered for the register; nothing: only the host's word is there.
    pub witness: Option<Witness>,
}

impl Verified {
    /// Whether somebody else than the host has said what the register says.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.witness.is_some_and(Witness::confirms)
    }
}

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Imported {
    /// What is locked now.
    pub locked: LockedCryptlet,
    /// The contract to inherit.
    pub contract: String,
    /// The file to import in Solidity, below the project's root.
    pub file: String,
    /// Files that were written, below the project's root; none: all were there.
    pub written: Vec<String>,
    /// What was accepted.
    pub changes: Vec<String>,
    /// The register's own word was had from a node of its chain that is not of the host's choice.
    pub witnessed: bool,
    /// Whose node answered for the register; nothing: only the host's word was there.
    pub witness: Option<Witness>,
    /// How to install the library that the base contracts import; nothing: it is there.
    pub install: Option<String>,
}

/// Fetches the header of the version in force and checks it.
///
/// # Errors
/// [`DeveloperError::Revoked`], [`DeveloperError::Untrue`] if the host says something else than the register,
/// [`DeveloperError::Header`] if the header does not follow from its source.
pub async fn fetch_verified(
    session: &Session,
    cryptlet: &CryptletRef,
) -> Result<Verified, DeveloperError> {
    let detail = session.client().cryptlet(cryptlet).await?;
    verify(session, cryptlet, detail).await
}

/// Fetches the header of the version in force, as `detail` says it of `cryptlet`, and checks it.
pub(crate) async fn verify(
    session: &Session,
    cryptlet: &CryptletRef,
    detail: CryptletDetail,
) -> Result<Verified, DeveloperError> {
    let untrue = |what: String| DeveloperError::Untrue(what);
    let id = detail.cryptlet.into();
    let named = match cryptlet.id() {
        Some(asked) => asked == id,
        None => cryptlet.as_str() == detail.name,
    };
    if !named {
        return Err(untrue(format!(
            "asked for {cryptlet}, the host answers with {}",
            detail.name
        )));
    }
    let said = detail
        .versions
        .iter()
        .find(|version| Some(version.number) == detail.current);
    let said = match said {
        Some(said) if !detail.revoked && !said.revoked => said,
        _ => return Err(DeveloperError::Revoked(detail.name)),
    };
    let said = record(said);
    let bytes = session
        .client()
        .header(&id.into(), Some(said.number))
        .await?;
    if sha256(&bytes) != said.header {
        return Err(untrue(
            "the header's digest is not the one that the host names".into(),
        ));
    }
    let header = Header::from_json(&bytes)?;
    if header.cryptlet() != id || header.name() != detail.name || header.label() != said.label {
        return Err(untrue(
            "the header is another cryptlet's, or another version's".into(),
        ));
    }
    let verified = Verified {
        header,
        version: said,
        register: session.register_domain(),
        witness: session.witness(),
    };
    if verified.witness.is_some() {
        compare_with_chain(session, cryptlet, &verified).await?;
    }
    Ok(verified)
}

/// Compares what the host said with what the register's chain says.
async fn compare_with_chain(
    session: &Session,
    cryptlet: &CryptletRef,
    said: &Verified,
) -> Result<(), DeveloperError> {
    let register = session.register().await?;
    let known = find(&register, cryptlet).await?;
    let id = said.header.cryptlet();
    let untrue = |what: &str| {
        let name = said.header.name();
        Err(DeveloperError::Untrue(format!(
            "the register says of {name} that {what}"
        )))
    };
    if known.cryptlet != id || known.name != said.header.name() {
        return untrue("it is another cryptlet");
    }
    if known.revoked {
        return Err(DeveloperError::Revoked(known.name));
    }
    let Some(current) = register.current(id).await? else {
        return Err(DeveloperError::Revoked(known.name));
    };
    if current.number != said.version.number || current.label != said.version.label {
        return untrue("another version is in force");
    }
    if current.header != said.version.header {
        return untrue("its header has another digest");
    }
    if current.package != said.version.package || current.manifest != said.version.manifest {
        return untrue("its package has another digest");
    }
    if !register.is_signer(id, said.header.public_key()).await? {
        return untrue("the header's public key is not, or no longer, a valid signer");
    }
    Ok(())
}

/// Imports a cryptlet's header, or refreshes it.
///
/// # Errors
/// As [`fetch_verified`]; [`DeveloperError::Changed`] and [`DeveloperError::Edited`] unless `accept`.
pub async fn import(
    session: &Session,
    cryptlet: &CryptletRef,
    project: &ContractProject,
    accept: bool,
) -> Result<Imported, DeveloperError> {
    let verified = fetch_verified(session, cryptlet).await?;
    let mut lock = Lock::load(&project.root)?;
    let name = verified.header.name().to_owned();
    let locked = lock.cryptlets.get(&name);
    let changes = locked.map_or_else(Vec::new, |locked| {
        changes::changes(
            locked,
            locked_abi(&project.root, locked).as_ref(),
            &verified,
        )
    });
    if !changes.is_empty() && !accept {
        return Err(DeveloperError::Changed { name, changes });
    }
    let plan = Plan::of(project, &verified.header)?;
    let known = |path: &String| {
        let own = locked.and_then(|locked| locked.files.get(path));
        own.or_else(|| lock.contracts.get(path)).copied()
    };
    let edited = plan.edited(&project.root, known)?;
    if !edited.is_empty() && !accept {
        return Err(DeveloperError::Edited(edited));
    }
    let written = plan.write(&project.root)?;
    let locked = LockedCryptlet {
        id: verified.header.cryptlet(),
        register: verified.register,
        number: verified.version.number,
        label: verified.version.label.clone(),
        header: verified.version.header,
        package: verified.version.package,
        public_key: verified.header.public_key(),
        files: plan.header.iter().map(digest_of).collect(),
    };
    // Another folder may hold them too; what was removed since is no longer looked after.
    lock.contracts
        .retain(|path, _| project.root.join(path).symlink_metadata().is_ok());
    lock.contracts.extend(plan.base.iter().map(digest_of));
    lock.cryptlets.insert(name, locked.clone());
    lock.store(&project.root)?;
    Ok(Imported {
        locked,
        contract: verified.header.contract().to_owned(),
        file: plan.solidity,
        written,
        changes,
        witnessed: verified.is_confirmed(),
        witness: verified.witness,
        install: project.missing_library(),
    })
}

/// What is no longer as it was locked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// The cryptlet.
    pub name: String,
    /// What is the matter, a line each.
    pub changes: Vec<String>,
}

/// Compares what is locked, all of it or `only` one cryptlet, with register and files, and writes nothing.
///
/// # Errors
/// The host or the chain cannot be asked, or it is not locked. What was found is not an error.
pub async fn check(
    session: &Session,
    root: &Path,
    only: Option<&CryptletRef>,
) -> Result<Vec<Finding>, DeveloperError> {
    let lock = Lock::load(root)?;
    if lock.cryptlets.is_empty() {
        let path = root.join(LOCK_FILE);
        return Err(DeveloperError::document(
            path.display(),
            "nothing is imported here",
        ));
    }
    let wanted = |name: &str, locked: &LockedCryptlet| {
        only.is_none_or(|only| only.as_str() == name || only.id() == Some(locked.id))
    };
    let locked = lock.cryptlets.iter();
    let chosen: Vec<_> = locked
        .filter(|(name, locked)| wanted(name, locked))
        .collect();
    if let (Some(only), []) = (only, chosen.as_slice()) {
        let reason = "is not imported here";
        return Err(DeveloperError::document(only, reason));
    }
    let mut findings = Vec::new();
    for (name, locked) in chosen {
        let mut changes = match fetch_verified(session, &CryptletRef::from(locked.id)).await {
            Ok(verified) => changes::changes(locked, locked_abi(root, locked).as_ref(), &verified),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => match error {
                DeveloperError::Revoked(_)
                | DeveloperError::Untrue(_)
                | DeveloperError::Unknown(_)
                | DeveloperError::Header(_)
                | DeveloperError::Client(ClientError::Problem(_)) => vec![format!("  {error}")],
                other => return Err(other),
            },
        };
        for (path, digest) in locked.files.iter().chain(&lock.contracts) {
            changes.extend(difference(root, path, *digest)?);
        }
        if !changes.is_empty() {
            let name = name.clone();
            findings.push(Finding { name, changes });
        }
    }
    Ok(findings)
}

fn difference(
    root: &Path,
    path: &str,
    digest: Sha256Digest,
) -> Result<Option<String>, DeveloperError> {
    Ok(match files::digest(&root.join(path), MAX_HEADER_BYTES)? {
        None => Some(format!("  {path}: missing")),
        Some(found) if found != digest => Some(format!("  {path}: edited")),
        Some(_) => None,
    })
}

/// The interface that was locked, if its file is as import wrote it.
fn locked_abi(root: &Path, locked: &LockedCryptlet) -> Option<JsonAbi> {
    let (path, digest) = locked
        .files
        .iter()
        .find(|(path, _)| path.ends_with(".abi.json"))?;
    let bytes = files::read(&root.join(path), MAX_HEADER_BYTES).ok()??;
    (sha256(&bytes) == *digest).then(|| serde_json::from_slice(&bytes).ok())?
}

/// Whether the folder of `path`, as far as it is there, lies below `root`, links resolved.
fn leads_inside(root: &Path, path: &str) -> bool {
    let folder = root.join(path);
    let mut above = folder.ancestors().skip(1);
    let there = above.find(|folder| folder.symlink_metadata().is_ok());
    let real = |folder: &Path| folder.canonicalize().ok();
    match (there.and_then(real), real(root)) {
        (Some(folder), Some(root)) => folder.starts_with(root),
        // Nothing is there, not even the root: it is made below it.
        (_, None) => true,
        (None, Some(_)) => false,
    }
}

fn digest_of((path, text): (&String, &String)) -> (String, Sha256Digest) {
    (path.clone(), sha256(text.as_bytes()))
}

/// What import writes, by path below the project's root.
struct Plan {
    solidity: String,
    header: BTreeMap<String, String>,
    base: BTreeMap<String, String>,
}

impl Plan {
    fn of(project: &ContractProject, header: &Header) -> Result<Self, DeveloperError> {
        let outside = || {
            let reason = format!(
                "has to lie in the project's folder {}",
                project.root.display()
            );
            DeveloperError::document(project.sources.display(), reason)
        };
        let below = project.sources.strip_prefix(&project.root);
        let below = below.map_err(|_| outside())?;
        let parts = below
            .components()
            .map(|part| part.as_os_str().to_string_lossy());
        let mut folder: Vec<String> = parts.map(Into::into).collect();
        folder.push(FOLDER.into());
        let folder = folder.join("/");
        let contract = header.contract();
        let abi = serde_json::to_string_pretty(header.abi())
            .map_err(|error| DeveloperError::document("the interface's ABI", error))?;
        let solidity = format!("{folder}/{contract}.sol");
        let base = base::BASE
            .iter()
            .map(|(name, text)| (format!("{folder}/{BASE_FOLDER}/{name}"), (*text).to_owned()));
        let plan = Self {
            header: [
                (solidity.clone(), header.solidity().to_owned()),
                (format!("{folder}/{contract}.abi.json"), format!("{abi}\n")),
            ]
            .into(),
            base: base.collect(),
            solidity,
        };
        // The project's configuration may be a stranger's: neither its words nor its links lead elsewhere.
        let root = project.root.as_path();
        let inside = |path: &str| stays_inside(path) && leads_inside(root, path);
        if plan.all().all(|(path, _)| inside(path)) {
            Ok(plan)
        } else {
            Err(outside())
        }
    }

    fn all(&self) -> impl Iterator<Item = (&String, &String)> {
        self.header.iter().chain(&self.base)
    }

    /// Files that hold neither what will be written nor what import wrote.
    fn edited(
        &self,
        root: &Path,
        known: impl Fn(&String) -> Option<Sha256Digest>,
    ) -> Result<Vec<PathBuf>, DeveloperError> {
        let mut edited = Vec::new();
        for (path, text) in self.all() {
            let found = files::digest(&root.join(path), MAX_HEADER_BYTES)?;
            let ours = [Some(sha256(text.as_bytes())), known(path)];
            if found.is_some() && !ours.contains(&found) {
                edited.push(path.into());
            }
        }
        Ok(edited)
    }

    /// Writes what is not there, and says which files.
    fn write(&self, root: &Path) -> Result<Vec<String>, DeveloperError> {
        let mut written = Vec::new();
        for (path, text) in self.all() {
            let file = root.join(path);
            if files::digest(&file, MAX_HEADER_BYTES)? != Some(sha256(text.as_bytes())) {
                files::replace(&file, text.as_bytes())?;
                written.push(path.clone());
            }
        }
        Ok(written)
    }
}
