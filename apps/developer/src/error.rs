//! What goes wrong for a developer, with the next step.

use alloy_primitives::{Address, B256};
use cryptlet_api::{ClientError, types::Hex};
use cryptlet_header::HeaderError;
use cryptlet_register::RegisterError;
use cryptlet_seal::SealError;
use cryptlet_types::{CryptletId, manifest::DocumentError};
use std::{fmt::Display, io, path::PathBuf};

/// Why something could not be done. No variant holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum DeveloperError {
    /// No connection file.
    #[error("no host was found: {0}")]
    NoHost(String),
    /// The host said no, could not be asked, or is not the one that it should be.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// Nobody said where a chain answers.
    #[error("nobody says where the chain of the {0} answers to JSON-RPC")]
    NoRpc(&'static str),
    /// A node could not be asked.
    #[error("{doing}: {reason}")]
    Chain {
        /// What was being done.
        doing: String,
        /// What came of it.
        reason: String,
    },
    /// The node serves another chain than the one that is meant.
    #[error("the node at {url} serves chain {found}, not {expected}")]
    WrongChain {
        /// The node.
        url: String,
        /// EIP-155 id of the chain that is meant.
        expected: u64,
        /// What the node says.
        found: u64,
    },
    /// A contract reverted the call. Nothing was paid if it was only tried.
    #[error("{doing}: the contract refuses: {reason}")]
    Reverted {
        /// What was being done.
        doing: String,
        /// The contract's reason.
        reason: String,
    },
    /// The transaction was sent, and no block holds it yet.
    #[error("transaction {0} was sent, and no block holds it yet")]
    NotMined(B256),
    /// The node asks for a fee above what the wallet pays. Nothing was signed.
    #[error("the node asks for up to {} gwei a unit of gas, the wallet pays at most {}", gwei(*.fee), gwei(*.most))]
    TooDear {
        /// What it asks for, in wei a unit of gas.
        fee: u128,
        /// What the wallet pays at most, in wei a unit of gas.
        most: u128,
    },
    /// The node says that the transaction takes more gas than any of ours does. Nothing was signed.
    #[error("the node says that the transaction takes {gas} gas, at most {most} are given")]
    TooMuchGas {
        /// What it says.
        gas: u64,
        /// What a transaction is given at most.
        most: u64,
    },
    /// The keystore, its password, or the account cannot be used.
    #[error("wallet: {0}")]
    Wallet(String),
    /// What is signed would rest on the word of the host and of a node of its choice alone.
    #[error("only a node of the host's choice speaks for the register, and {0}")]
    NotWitnessed(&'static str),
    /// The host has no such delegation.
    #[error("the host has no delegation {0}")]
    UnknownDelegation(B256),
    /// A delegation is revoked for ever.
    #[error("the delegation is revoked, which is final")]
    DelegationRevoked,
    /// The account is not on the register's board.
    #[error("{0} is not an administrator of this register")]
    NotAnAdministrator(Address),
    /// The host has not read the register's chain that far.
    #[error("the host has not read the register up to block {0} yet")]
    HostBehind(u64),
    /// Development accounts are for development chains.
    #[error("--dev-account is for development chains on this machine only: {0}")]
    NotDevelopment(String),
    /// A name, or one that looks like it, is somebody's.
    #[error("the name {name:?} is taken: cryptlet {by} has it, or one that looks like it")]
    NameTaken {
        /// The name.
        name: String,
        /// Whose it is.
        by: CryptletId,
    },
    /// The register knows no such cryptlet.
    #[error("the register knows no cryptlet {0}")]
    Unknown(String),
    /// Somebody else holds the cryptlet's token.
    #[error("cryptlet {name} belongs to {owner}, not to {wallet}")]
    NotTheOwner {
        /// The cryptlet.
        name: String,
        /// Who holds its token.
        owner: Address,
        /// Who asked.
        wallet: Address,
    },
    /// The cryptlet is registered, and a further version was not asked for.
    #[error("{name} is registered already, its version {number} is {label:?}")]
    Registered {
        /// The cryptlet.
        name: String,
        /// Its newest version.
        number: u32,
        /// That version's label.
        label: String,
    },
    /// A version with this label exists, and is not this one.
    #[error("{name} has a version {label:?} (number {number}), and it is another than this one")]
    VersionExists {
        /// The cryptlet.
        name: String,
        /// The label.
        label: String,
        /// Its number.
        number: u32,
    },
    /// Revocation is final.
    #[error("{0} is revoked, which is final")]
    Revoked(String),
    /// What the host says is not what the register, a digest or a signature says.
    #[error("do not trust this: {0}")]
    Untrue(String),
    /// An imported header is not the one that was locked.
    #[error("{name} has changed since it was imported:\n{}", .changes.join("\n"))]
    Changed {
        /// The cryptlet.
        name: String,
        /// What changed, a line each.
        changes: Vec<String>,
    },
    /// Files that import would write hold something else.
    #[error("these files were edited, or not written by import: {}", list(.0))]
    Edited(Vec<PathBuf>),
    /// No project to import into.
    #[error("no foundry.toml or hardhat.config.* in {0} or above it")]
    NoProject(PathBuf),
    /// A document cannot be read or used.
    #[error("{what}: {reason}")]
    Document {
        /// Which.
        what: String,
        /// What is wrong.
        reason: String,
    },
    /// A manifest, policy or package is not what it has to be.
    #[error(transparent)]
    Form(#[from] DocumentError),
    /// Something does not hold.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A header or interface is refused.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// An OCI registry does not take the package.
    #[error(transparent)]
    Registry(#[from] RegisterError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The host took everything, and does not show the version yet.
    #[error("the version is in the register, and the host does not show it yet")]
    NotShown,
}

impl DeveloperError {
    pub(crate) fn document(what: impl Display, reason: impl Display) -> Self {
        Self::Document {
            what: what.to_string(),
            reason: reason.to_string(),
        }
    }

    /// Whether the same again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Client(error) => error.is_retryable(),
            Self::Registry(error) => error.is_retryable(),
            Self::Chain { .. } | Self::NotMined(_) | Self::NotShown | Self::HostBehind(_) => true,
            _ => false,
        }
    }

    /// What the user can do next.
    #[must_use]
    pub fn next_step(&self) -> &str {
        match self {
            Self::NoHost(_) => {
                "start one with `cryptlet dev`, or name a connection file with --host-file"
            }
            Self::Client(error) => error.next(),
            Self::NoRpc("register") => "name a node with --register-rpc URL",
            Self::NoRpc(_) => "name a node with --rpc URL",
            Self::Chain { .. } => "see whether the node runs, then try again",
            Self::WrongChain { .. } => "name a node of the right chain",
            Self::NotMined(_) => "run the same command again: it goes on from there",
            Self::TooDear { .. } => {
                "ask another node (--register-rpc, --rpc); if fees are that high, allow them: --max-fee-gwei N"
            }
            Self::TooMuchGas { .. } => "ask another node: --register-rpc URL, --rpc URL",
            Self::Wallet(_) => {
                "name a keystore file with --keystore and its password with --password-file or CRYPTLET_PASSWORD"
            }
            Self::NotWitnessed(_) => "name a node of your own: --register-rpc URL",
            Self::UnknownDelegation(_) | Self::DelegationRevoked => {
                "see which there are: cryptlet delegation list"
            }
            Self::NotAnAdministrator(_) => "use the wallet of an administrator of the register",
            Self::HostBehind(_) => "run the same command again: it goes on from there",
            Self::NotDevelopment(_) => "use a keystore: --keystore FILE",
            Self::NameTaken { .. } => {
                "choose another name in cryptlet.json, and with it another interface name"
            }
            Self::Unknown(_) => "look for it: cryptlet search WORD",
            Self::NotTheOwner { .. } => "use the owner's wallet",
            Self::Registered { .. } | Self::VersionExists { .. } => {
                "give a new label: cryptlet publish --new-version LABEL"
            }
            Self::Revoked(_) => "see what is left: cryptlet show NAME",
            Self::Untrue(_) => "tell the host's operator; nothing was written",
            Self::Changed { .. } => "if you want the change, run the same command with --accept",
            Self::Edited(_) => "move your changes elsewhere, or overwrite them with --accept",
            Self::NoProject(_) => "go to your project, or name a folder for the files with --out",
            Self::Registry(_) => {
                "check the --to reference, and OCI_USERNAME, OCI_PASSWORD and OCI_TOKEN_HOST"
            }
            Self::NotShown => "run the same command again, or look: cryptlet show NAME",
            Self::Reverted { .. } => {
                "see what the register has: cryptlet show NAME, cryptlet policy show"
            }
            Self::Document { .. } | Self::Form(_) => {
                "mend what is named, then run the same command again"
            }
            Self::Seal(SealError::TooFewApprovals { .. }) => {
                "have another administrator sign it: cryptlet policy sign FILE"
            }
            Self::Seal(_) => "do not use it: ask for it again where it came from",
            Self::Header(_) => "mend interface.sol, and see: cryptlet check",
            Self::File { .. } => "see whether the path is right and you may read or write it",
        }
    }
}

fn gwei(wei: u128) -> String {
    wei.div_ceil(1_000_000_000).to_string()
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

/// An id as the API writes it.
pub(crate) fn id_text(cryptlet: CryptletId) -> String {
    Hex::<20>::from(cryptlet).to_string()
}
