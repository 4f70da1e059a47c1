//! What every seed shares: keys, the cryptlet's package, the approved policy, and the folder in which they lie.

use crate::{
    ports::{
        NoCallOut, SimulatedChain, SimulatedClock, SimulatedDisk, SimulatedIsolation,
        SimulatedLogs, SimulatedRegister, SimulatedVault,
    },
    settings::Switches,
    world::{OTHER, World},
};
use alloy_primitives::{Address, Bytes, U256};
use cryptlet_chain::{LogChain, RegisterChain};
use cryptlet_host::{Delegations, Given, HostClock, HostError, Parts, Rules};
use cryptlet_isolation::Providers;
use cryptlet_journal::{Journal, JournalError, at_once};
use cryptlet_register::{Index, PackageStore, PolicyStore, RegisterError, Replica};
use cryptlet_seal::{SealError, SigningKey, package, sha256};
use cryptlet_types::{
    CryptletId, Policy, Provider,
    manifest::{DocumentError, ManifestConfig, ManifestSource, TriggerKind},
    policy::{Approval, Retry, ServeRule, SignedPolicy, Whom},
    register::{Board, PolicyRecord, RegisterChange, RegisterDomain, SignerRecord, VersionRecord},
};
use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc};
use tempfile::TempDir;

/// Why a world cannot be made. It is the machine's fault or this program's; no seed is to blame.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// A file.
    #[error("folder of the simulation: {0}")]
    Io(#[from] io::Error),
    /// A key or package.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The manifest or policy.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The index, store or policy.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The host's parts.
    #[error(transparent)]
    Host(#[from] HostError),
}

impl FixtureError {
    /// Whether trying again may help: if the disk has room again.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Io(_) => true,
            Self::Register(error) => error.is_retryable(),
            Self::Journal(error) => error.is_retryable(),
            Self::Host(error) => error.is_retryable(),
            Self::Seal(_) | Self::Document(_) => false,
        }
    }
}

/// What every seed shares.
pub struct Fixture {
    folder: TempDir,
    host: [u8; 32],
    transmitter: [u8; 32],
    signer: SigningKey,
    cryptlet: CryptletId,
    domain: RegisterDomain,
    said: Vec<RegisterChange>,
    policy: PolicyRecord,
    board: Board,
}

/// A host to be, and the world that it is to live in.
pub struct Set {
    /// The world.
    pub world: Arc<World>,
    /// What the host does not lose when it dies.
    pub journal: Arc<Journal>,
    parts: Parts,
    index: Arc<Index>,
    policies: PathBuf,
}

impl Fixture {
    /// Makes keys, package and policy.
    ///
    /// # Errors
    /// See [`FixtureError`].
    pub fn new() -> Result<Self, FixtureError> {
        let folder = tempfile::tempdir()?;
        let signer = SigningKey::from_secret(&[3; 32])?;
        let administrator = SigningKey::from_secret(&[4; 32])?;
        let publisher = Address::repeat_byte(0xab);
        let cryptlet = CryptletId::derive(publisher, "simulated");
        let domain = RegisterDomain {
            chain_id: 31_337,
            register: Address::repeat_byte(0x7e),
        };
        let manifest = ManifestSource {
            name: "simulated".to_owned(),
            version: "0.1.0".to_owned(),
            config: ManifestConfig {
                triggers: vec![TriggerKind::Clock, TriggerKind::Log, TriggerKind::Request],
                ..ManifestConfig::default()
            },
        };
        let files = package::build(&manifest.with_key(signer.address())?, b"\0asm", b"{}", None)?;
        let opened = package::open(&files.package)?;
        PackageStore::open(&folder.path().join("packages"), u64::MAX)?.put(&files)?;
        let board = Board {
            members: vec![administrator.address()],
            threshold: 1,
            term: 1,
        };
        let (signed, policy) = approved(&administrator, &domain)?;
        std::fs::write(folder.path().join("policy.json"), signed.to_json()?)?;
        let version = VersionRecord {
            number: 1,
            label: "0.1.0".to_owned(),
            package: opened.digest,
            header: opened.header,
            manifest: opened.manifest_digest,
            uri: String::new(),
            published_at: 0,
            revoked: false,
        };
        let enrolled = SignerRecord {
            signer: signer.address(),
            version: 1,
            expiry: 4_000_000_000,
            revoked: false,
        };
        let said = vec![
            RegisterChange::AdministratorsSet {
                board: board.clone(),
            },
            RegisterChange::PolicySet {
                policy: policy.clone(),
            },
            RegisterChange::Registered {
                cryptlet,
                publisher,
                name: "simulated".to_owned(),
            },
            RegisterChange::VersionPublished { cryptlet, version },
            RegisterChange::SignerEnrolled {
                cryptlet,
                signer: enrolled,
            },
        ];
        Ok(Self {
            folder,
            host: [1; 32],
            transmitter: [2; 32],
            signer,
            cryptlet,
            domain,
            said,
            policy,
            board,
        })
    }

    /// The world of a seed, and a host's parts in it.
    ///
    /// # Errors
    /// See [`FixtureError`].
    pub fn set(&self, seed: u64, switches: Switches) -> Result<Set, FixtureError> {
        let vault = |world: &Arc<World>| -> Result<SimulatedVault, SealError> {
            Ok(SimulatedVault {
                world: world.clone(),
                host: SigningKey::from_secret(&self.host)?,
                transmitter: SigningKey::from_secret(&self.transmitter)?,
                signer: SigningKey::from_secret(&self.signer.secret())?,
            })
        };
        let transmitter = SigningKey::from_secret(&self.transmitter)?.address();
        let world = Arc::new(World::new(
            seed,
            switches,
            self.cryptlet,
            self.signer.address(),
            transmitter,
        ));
        let told = world.clone();
        let journal = Arc::new(Journal::simulated(
            Arc::new(move || told.millis()),
            Arc::new(SimulatedDisk(world.clone())),
        )?);
        let register = SimulatedRegister {
            world: world.clone(),
            domain: self.domain,
            said: self.said.clone(),
            policy: self.policy.clone(),
            board: self.board.clone(),
        };
        let index = Arc::new(Index::simulated()?);
        let packages = PackageStore::open(&self.folder.path().join("packages"), u64::MAX)?;
        let policies = self.folder.path().to_owned();
        let rules = rules(&policies, &index, register.domain())?;
        let delegations = self.folder.path().join("delegations");
        let given = Given {
            journal: journal.clone(),
            chain: Arc::new(SimulatedChain(world.clone())),
            vault: Arc::new(vault(&world)?),
            register_chain: Arc::new(register),
            replica: Arc::new(Replica::new(index.clone(), packages)),
            rules: Arc::new(rules),
            delegations: Arc::new(Delegations::open(&delegations, world.domain)?),
            isolation: Providers::only(Arc::new(SimulatedIsolation(world.clone()))),
            call_out: Arc::new(NoCallOut),
            clock: HostClock::Free(Arc::new(SimulatedClock(world.clone()))),
            calendars: Arc::default(),
            log_chains: Arc::new(log_chains(&world)),
            first_block: 0,
            register_first_block: 0,
            register_max_head_age: None,
        };
        Ok(Set {
            parts: at_once(Parts::of(given))?,
            world,
            journal,
            index,
            policies,
        })
    }
}

impl Set {
    /// The parts of the next host: what the last one had in its memory is gone.
    ///
    /// # Errors
    /// See [`FixtureError`].
    pub fn parts(&self) -> Result<Parts, FixtureError> {
        let mut parts = self.parts.clone();
        let domain = parts.register_chain.domain();
        parts.rules = Arc::new(rules(&self.policies, &self.index, domain)?);
        if self.world.settings.chain_clock {
            let head = self.world.state().node.tip().head;
            parts.clock = HostClock::Chain(Arc::new(cryptlet_watch::ChainClock::new(&head)));
        }
        Ok(parts)
    }
}

fn log_chains(world: &Arc<World>) -> BTreeMap<u64, Arc<dyn LogChain>> {
    let chain = |id| -> (u64, Arc<dyn LogChain>) {
        let world = world.clone();
        (id, Arc::new(SimulatedLogs { world, id }))
    };
    [world.domain.chain_id, OTHER]
        .into_iter()
        .map(chain)
        .collect()
}

fn rules(
    folder: &std::path::Path,
    index: &Arc<Index>,
    domain: RegisterDomain,
) -> Result<Rules, FixtureError> {
    let store = PolicyStore::open(&folder.join("policy"))?;
    let file = folder.join("policy.json");
    Ok(Rules::new(store, index.clone(), domain, Some(file)))
}

/// A policy that lets the simulation's cryptlet run, and the register's record of it.
fn approved(
    administrator: &SigningKey,
    domain: &RegisterDomain,
) -> Result<(SignedPolicy, PolicyRecord), FixtureError> {
    let policy = Policy {
        publishers: Whom::Anyone,
        isolation: vec![Provider::Process],
        retry: Retry {
            attempts: 8,
            first_millis: 200,
            longest_millis: 5_000,
        },
        serve: ServeRule {
            consumers: Whom::Anyone,
            minimum_interval_seconds: 0,
            minimum_validity_seconds: 1,
            maximum_callback_gas: 5_000_000,
        },
        ..Policy::closed(1)
    };
    let digest = sha256(&policy.to_json()?);
    let account = administrator.address();
    let signature = administrator.sign(domain.policy_digest(account, 1, 1, digest))?;
    let mut s = U256::from_be_bytes(signature.vs.0);
    let parity = u8::from(s.bit(255));
    s.set_bit(255, false);
    let bytes = [
        signature.r.as_slice(),
        &s.to_be_bytes::<32>(),
        &[27 + parity],
    ]
    .concat();
    let approval = Approval {
        administrator: account,
        signature: Bytes::from(bytes),
    };
    let record = PolicyRecord {
        epoch: 1,
        digest,
        uri: String::new(),
    };
    let signed = SignedPolicy {
        policy,
        approvals: vec![approval],
    };
    Ok((signed, record))
}
