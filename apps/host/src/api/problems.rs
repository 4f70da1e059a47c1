//! Errors of the host's parts, as callers see them: what is theirs to mend with its reason, the rest without the inside.

use cryptlet_api::Problem;
use cryptlet_chain::ChainError;
use cryptlet_journal::JournalError;
use cryptlet_register::RegisterError;
use cryptlet_types::CryptletId;
use cryptlet_vault::VaultError;
use std::fmt::Display;

/// Something that a caller named is not there.
pub(super) fn no_cryptlet(name: &str) -> Problem {
    Problem::not_found(
        format!("the register knows no cryptlet {name}"),
        "look for it: cryptlet search WORD",
    )
}

/// The cryptlet has no version that runs.
pub(super) fn no_version(cryptlet: CryptletId, version: Option<u32>) -> Problem {
    let what = match version {
        Some(number) => format!("cryptlet {cryptlet} has no version {number}"),
        None => format!("cryptlet {cryptlet} has no version that is not revoked"),
    };
    Problem::not_found(what, "see its versions: cryptlet show NAME")
}

/// The package is known by its digest only.
pub(super) fn no_package(digest: impl Display) -> Problem {
    Problem::not_found(
        format!("this host does not have package {digest}"),
        "ask a host that the cryptlet is assigned to, or have it published here",
    )
}

pub(super) fn register(error: RegisterError) -> Problem {
    match error {
        RegisterError::UnknownPackage(digest) => no_package(digest),
        error if error.is_retryable() => {
            tracing::warn!(%error, "api: register");
            Problem::unavailable("the host's copy of the register cannot be read now")
        }
        error => Problem::internal(&error),
    }
}

pub(super) fn journal(error: JournalError) -> Problem {
    if error.is_retryable() {
        tracing::warn!(%error, "api: journal");
        return Problem::unavailable("the journal cannot be read now");
    }
    Problem::internal(&error)
}

pub(super) fn vault(error: VaultError) -> Problem {
    if error.is_retryable() {
        tracing::warn!(%error, "api: vault");
        return Problem::unavailable("the vault does not answer now");
    }
    Problem::internal(&error)
}

pub(super) fn chain(error: ChainError) -> Problem {
    tracing::warn!(%error, "api: chain");
    Problem::unavailable("the chain's node does not answer")
}
