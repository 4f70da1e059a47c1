//! Why a tool of the author's could not do its work.

use cryptlet_header::HeaderError;
use cryptlet_isolation::IsolationError;
use cryptlet_seal::SealError;
use cryptlet_types::manifest::DocumentError;
use std::path::PathBuf;

/// Why a tool could not do its work. What is wrong with a cryptlet itself is a finding or a failed case, not an error.
#[derive(Debug, thiserror::Error)]
pub enum AuthorError {
    /// The name cannot be a cryptlet's.
    #[error("{name:?} cannot be a cryptlet's name: {reason}")]
    Name {
        /// The name.
        name: String,
        /// Which rule it breaks.
        reason: String,
    },
    /// The folder is there already.
    #[error("{} is there already", .0.display())]
    Exists(PathBuf),
    /// There is no project in the folder.
    #[error("{} holds no cryptlet (no cryptlet.json)", .0.display())]
    NoProject(PathBuf),
    /// A file could not be read or written.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is larger than it may be.
    #[error("{}: more than {limit} bytes", .path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that it may have.
        limit: usize,
    },
    /// The manifest is wrong.
    #[error("{}: {source}", .path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: DocumentError,
    },
    /// The interface is wrong.
    #[error("{}: {source}", .path.display())]
    Interface {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: HeaderError,
    },
    /// A program that a build needs is missing.
    #[error("{program} cannot be started: {source}")]
    Tool {
        /// The program.
        program: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A program of a build failed; what it said went to the progress lines.
    #[error("{what} failed")]
    Failed {
        /// What was run.
        what: String,
    },
    /// The compiler's module cannot become a component.
    #[error("the module cannot become a component: {0}")]
    Component(String),
    /// The component was not built yet.
    #[error("{} is missing", .0.display())]
    NotBuilt(PathBuf),
    /// A recorded case is wrong.
    #[error("{}: {reason}", .path.display())]
    Case {
        /// The file.
        path: PathBuf,
        /// The field, and what is wrong.
        reason: String,
    },
    /// There is no case to run.
    #[error("{} holds no case (*.json)", .0.display())]
    NoCases(PathBuf),
    /// The server of the recordings could not be started.
    #[error("the server of recorded responses cannot be started: {0}")]
    Server(String),
    /// The container could not be started.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
    /// The package could not be made.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl AuthorError {
    /// Whether the same call may succeed later without a change of the project.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Isolation(error) => error.is_retryable(),
            Self::Server(_) => true,
            _ => false,
        }
    }

    /// What the author can do next.
    #[must_use]
    pub fn next_step(&self) -> &str {
        match self {
            Self::Name { .. } => "choose another name: 1 to 64 of a-z, 0-9 and hyphen",
            Self::Exists(_) => "choose another folder with --dir, or remove it",
            Self::NoProject(_) => "make one with `cryptlet new NAME`, or go into its folder",
            Self::File { .. } => "see whether the path is right and you may read and write it",
            Self::TooLarge { .. } => "make it smaller",
            Self::Manifest { .. } => {
                "mend what is named in cryptlet.json; its fields: docs/schema/manifest.schema.json"
            }
            Self::Interface { .. } => "mend what is named in interface.sol",
            Self::Tool { .. } => "install Rust from https://rustup.rs",
            Self::Failed { .. } => "mend what its messages above name",
            Self::Component(_) => {
                "export the cryptlet's type once, by cryptlet::export!, and use nothing of the system"
            }
            Self::NotBuilt(_) => "build it: cryptlet build",
            Self::Case { .. } => {
                "mend what is named; the project's README says how cases are written"
            }
            Self::NoCases(_) => "write one: the README of a new project says how",
            Self::Server(_) => "run the same command again",
            Self::Isolation(_) => {
                "cryptlet-container has to lie beside cryptlet (make install); then try again"
            }
            Self::Seal(_) => "see what hosts would refuse: cryptlet check",
        }
    }
}
