//! Which provider a host uses: the strongest that policy accepts and this machine can run, and why it is that one.

use super::{MicrovmProvider, Probe};
use crate::{IsolationError, IsolationProvider, ProcessProvider};
use cryptlet_types::Provider;
use std::{fmt, path::PathBuf, sync::Arc};

/// The containers that are installed.
#[derive(Clone, Debug, Default)]
pub struct Containers {
    /// The program `cryptlet-container`.
    pub process: Option<PathBuf>,
    /// The program `cryptlet-container-microvm`.
    pub microvm: Option<PathBuf>,
}

/// Why a provider was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Policy accepts it, and nothing stronger that this machine knows of.
    Strongest(Provider),
    /// Policy accepts a virtual machine as well, and there can be none.
    FellBack {
        /// What is used in its stead.
        to: Provider,
        /// Why there can be no virtual machine.
        because: String,
    },
}

impl fmt::Display for Choice {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Strongest(provider) => {
                write!(to, "regions are isolated by {}", provider.as_str())
            }
            Self::FellBack {
                to: provider,
                because,
            } => {
                let (used, wanted) = (provider.as_str(), Provider::Microvm.as_str());
                write!(
                    to,
                    "regions are isolated by {used}, not by {wanted}: {because}"
                )
            }
        }
    }
}

/// A provider, and why it is that one.
pub struct Selected {
    /// Makes the regions.
    pub provider: Arc<dyn IsolationProvider>,
    /// For the operator; it has been logged.
    pub choice: Choice,
}

/// Why there is no provider.
#[derive(Debug, thiserror::Error)]
pub enum SelectError {
    /// Policy accepts none that could be there.
    #[error("policy accepts neither process nor microvm")]
    NoneAccepted,
    /// Policy accepts virtual machines only, and there can be none.
    #[error("policy accepts microvm only: {0}")]
    NoMachine(String),
    /// Policy accepts processes, and their container is not installed.
    #[error("policy accepts process, and no cryptlet-container is installed")]
    NoContainer,
    /// A container cannot be read.
    #[error(transparent)]
    Isolation(#[from] IsolationError),
}

impl SelectError {
    /// Whether trying again can help.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::NoneAccepted | Self::NoMachine(_) | Self::NoContainer => false,
            Self::Isolation(error) => error.is_retryable(),
        }
    }
}

/// Chooses among what policy accepts (`accepted`): a virtual machine for each region where `probe` says that guests run,
/// else a process. `probe` is asked only if policy accepts machines and their container is installed. A fall-back is
/// logged as a warning.
///
/// # Errors
/// See [`SelectError`]: nothing weaker than what policy accepts is ever used.
pub fn select(
    accepted: &[Provider],
    containers: &Containers,
    probe: impl FnOnce() -> Probe,
) -> Result<Selected, SelectError> {
    let wants = |provider| accepted.contains(&provider);
    let missing = match (wants(Provider::Microvm), &containers.microvm) {
        (false, _) => None,
        (true, None) => Some("no cryptlet-container-microvm is installed".to_owned()),
        (true, Some(container)) => match probe() {
            Probe::Works => {
                let provider = Arc::new(MicrovmProvider::new(container)?);
                let choice = Choice::Strongest(Provider::Microvm);
                tracing::info!("{choice}");
                return Ok(Selected { provider, choice });
            }
            cannot => Some(cannot.to_string()),
        },
    };
    match (wants(Provider::Process), missing) {
        (true, missing) => process(containers, missing),
        (false, Some(because)) => Err(SelectError::NoMachine(because)),
        (false, None) => Err(SelectError::NoneAccepted),
    }
}

fn process(containers: &Containers, missing: Option<String>) -> Result<Selected, SelectError> {
    let container = containers
        .process
        .as_ref()
        .ok_or(SelectError::NoContainer)?;
    let provider = Arc::new(ProcessProvider::new(container)?);
    let to = Provider::Process;
    let choice = match missing {
        None => Choice::Strongest(to),
        Some(because) => Choice::FellBack { to, because },
    };
    match &choice {
        Choice::Strongest(_) => tracing::info!("{choice}"),
        Choice::FellBack { .. } => tracing::warn!("{choice}"),
    }
    Ok(Selected { provider, choice })
}

#[cfg(test)]
#[allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]
mod tests {
    use super::*;

    /// Any file will do: it is read, not started.
    fn containers() -> Containers {
        let program = std::env::current_exe().unwrap();
        Containers {
            process: Some(program.clone()),
            microvm: Some(program),
        }
    }

    fn broken() -> Probe {
        Probe::CannotRun("SSE".into())
    }

    fn used(selected: Result<Selected, SelectError>) -> (Provider, Choice) {
        let selected = selected.unwrap_or_else(|error| panic!("{error}"));
        (selected.provider.provider(), selected.choice)
    }

    fn refused(selected: Result<Selected, SelectError>) -> String {
        let error = selected.map(|selected| selected.choice).unwrap_err();
        assert!(!error.is_retryable());
        error.to_string()
    }

    #[test]
    fn a_machine_is_used_where_policy_accepts_it_and_guests_run() {
        for accepted in [
            &[Provider::Process, Provider::Microvm][..],
            &[Provider::Microvm],
        ] {
            let selected = select(accepted, &containers(), || Probe::Works);
            let strongest = Choice::Strongest(Provider::Microvm);
            assert_eq!(used(selected), (Provider::Microvm, strongest));
        }
    }

    #[test]
    fn a_fall_back_is_visible_and_says_why() {
        let both = [Provider::Process, Provider::Microvm];
        for (probe, because) in [
            (broken(), "KVM cannot run guests: SSE"),
            (Probe::NoDevice, "there is no /dev/kvm"),
            (
                Probe::NotPermitted,
                "/dev/kvm may not be opened by this user",
            ),
        ] {
            let (provider, choice) = used(select(&both, &containers(), || probe));
            assert_eq!(provider, Provider::Process);
            let said = format!("regions are isolated by process, not by microvm: {because}");
            assert_eq!(choice.to_string(), said);
        }
    }

    #[test]
    fn a_policy_of_machines_alone_is_refused_where_none_can_run() {
        let said = refused(select(&[Provider::Microvm], &containers(), broken));
        assert_eq!(
            said,
            "policy accepts microvm only: KVM cannot run guests: SSE"
        );
        let without = Containers {
            microvm: None,
            ..containers()
        };
        let said = refused(select(&[Provider::Microvm], &without, || Probe::Works));
        assert_eq!(
            said,
            "policy accepts microvm only: no cryptlet-container-microvm is installed"
        );
    }

    #[test]
    fn nothing_is_probed_or_used_that_policy_does_not_accept() {
        let never = || panic!("probed");
        let (provider, choice) = used(select(&[Provider::Process], &containers(), never));
        let strongest = Choice::Strongest(Provider::Process);
        assert_eq!((provider, choice), (Provider::Process, strongest));
        assert_eq!(
            refused(select(&[Provider::Sgx], &containers(), never)),
            "policy accepts neither process nor microvm"
        );
        assert_eq!(
            refused(select(&[Provider::Process], &Containers::default(), never)),
            "policy accepts process, and no cryptlet-container is installed"
        );
    }

    /// The real probe: a policy of machines alone is served exactly where guests run.
    #[test]
    fn this_machine_serves_a_policy_of_machines_alone_only_if_guests_run() {
        let said = super::super::probe();
        let selected = select(&[Provider::Microvm], &containers(), super::super::probe);
        assert_eq!(selected.is_ok(), said.works());
        if let Err(error) = selected {
            assert_eq!(
                error.to_string(),
                format!("policy accepts microvm only: {said}")
            );
        }
    }
}
