//! Which provider a host's regions come from: the first that policy accepts, the strongest first, and why it is that one.

use crate::{IsolationError, IsolationProvider, MicrovmProvider, ProcessProvider, microvm::Probe};
use cryptlet_types::{Policy, Provider};
use std::{fmt, path::PathBuf, sync::Arc};

/// The containers that are installed on this machine.
#[derive(Clone, Debug, Default)]
pub struct Containers {
    /// The program `cryptlet-container`.
    pub process: Option<PathBuf>,
    /// The program `cryptlet-container-microvm`.
    pub microvm: Option<PathBuf>,
}

/// The providers of a host.
#[derive(Clone)]
pub struct Providers {
    /// The strongest first.
    at_hand: Vec<Arc<dyn IsolationProvider>>,
    /// Why there can be no virtual machine; `None` if there can.
    no_machine: Option<String>,
}

/// Why a provider was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Policy accepts it, and nothing stronger that this host knows of.
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
pub struct Chosen<'p> {
    /// Makes the regions.
    pub provider: &'p Arc<dyn IsolationProvider>,
    /// For the operator.
    pub choice: Choice,
}

/// Policy accepts none of a host's providers. Trying again does not help: policy has to change, or what is installed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("policy accepts {}; this host has {}{}", names(.accepted), names(.at_hand), without(.no_machine.as_deref()))]
pub struct NoProvider {
    /// What policy accepts.
    pub accepted: Vec<Provider>,
    /// What there is.
    pub at_hand: Vec<Provider>,
    /// Why there can be no virtual machine, if policy accepts one.
    pub no_machine: Option<String>,
}

impl NoProvider {
    /// Whether trying again can help: no.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

fn names(providers: &[Provider]) -> String {
    match providers {
        [] => "no isolation".to_owned(),
        some => {
            let names: Vec<_> = some.iter().map(|provider| provider.as_str()).collect();
            names.join(", ")
        }
    }
}

fn without(no_machine: Option<&str>) -> String {
    no_machine
        .map(|because| format!(" and no microvm: {because}"))
        .unwrap_or_default()
}

impl Providers {
    /// This one and no other.
    #[must_use]
    pub fn only(provider: Arc<dyn IsolationProvider>) -> Self {
        Self {
            at_hand: vec![provider],
            no_machine: Some("this host was given one provider".into()),
        }
    }

    /// What this machine can run of what is installed: virtual machines where `probe` says that guests run, and processes.
    /// `probe` is asked only if the container of machines is installed.
    ///
    /// # Errors
    /// [`IsolationError::Start`] if a container cannot be read.
    pub fn of_this_machine(
        containers: &Containers,
        probe: impl FnOnce() -> Probe,
    ) -> Result<Self, IsolationError> {
        let mut at_hand: Vec<Arc<dyn IsolationProvider>> = vec![];
        let no_machine = match &containers.microvm {
            None => Some("no cryptlet-container-microvm is installed".to_owned()),
            Some(container) => match probe() {
                Probe::Works => {
                    at_hand.push(Arc::new(MicrovmProvider::new(container)?));
                    None
                }
                cannot => Some(cannot.to_string()),
            },
        };
        if let Some(container) = &containers.process {
            at_hand.push(Arc::new(ProcessProvider::new(container)?));
        }
        Ok(Self {
            at_hand,
            no_machine,
        })
    }

    /// With others that are preferred to these, the first of them most.
    #[must_use]
    pub fn after(mut self, preferred: Vec<Arc<dyn IsolationProvider>>) -> Self {
        self.at_hand.splice(0..0, preferred);
        self
    }

    /// Their names, the strongest first.
    #[must_use]
    pub fn names(&self) -> Vec<Provider> {
        let names = self.at_hand.iter();
        names.map(|provider| provider.provider()).collect()
    }

    /// The first that `policy` accepts.
    ///
    /// # Errors
    /// [`NoProvider`]: nothing weaker than what policy accepts is ever used.
    pub fn choose(&self, policy: &Policy) -> Result<Chosen<'_>, NoProvider> {
        let no_machine = self.no_machine.as_ref();
        let no_machine = no_machine.filter(|_| policy.accepts(Provider::Microvm));
        let mut at_hand = self.at_hand.iter();
        let provider = at_hand
            .find(|provider| policy.accepts(provider.provider()))
            .ok_or_else(|| NoProvider {
                accepted: policy.isolation.clone(),
                at_hand: self.names(),
                no_machine: no_machine.cloned(),
            })?;
        let to = provider.provider();
        let choice = match no_machine {
            Some(because) if to == Provider::Process => Choice::FellBack {
                to,
                because: because.clone(),
            },
            _ => Choice::Strongest(to),
        };
        Ok(Chosen { provider, choice })
    }
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
    use crate::microvm::probe;

    /// Any file will do: it is read, not started.
    fn containers() -> Containers {
        let program = std::env::current_exe().unwrap();
        Containers {
            process: Some(program.clone()),
            microvm: Some(program),
        }
    }

    fn here(containers: &Containers, probe: impl FnOnce() -> Probe) -> Providers {
        Providers::of_this_machine(containers, probe).unwrap()
    }

    fn policy(isolation: &[Provider]) -> Policy {
        Policy {
            isolation: isolation.to_vec(),
            ..Policy::closed(1)
        }
    }

    fn chosen(providers: &Providers, accepted: &[Provider]) -> (Provider, String) {
        let policy = policy(accepted);
        let chosen = providers.choose(&policy).unwrap();
        (chosen.provider.provider(), chosen.choice.to_string())
    }

    fn refused(providers: &Providers, accepted: &[Provider]) -> String {
        let error = providers
            .choose(&policy(accepted))
            .map(|chosen| chosen.choice);
        let error = error.unwrap_err();
        assert!(!error.is_retryable());
        error.to_string()
    }

    fn broken() -> Probe {
        Probe::CannotRun("SSE".into())
    }

    #[test]
    fn a_machine_is_used_where_policy_accepts_it_and_guests_run() {
        let providers = here(&containers(), || Probe::Works);
        let used = (
            Provider::Microvm,
            "regions are isolated by microvm".to_owned(),
        );
        for accepted in [
            &[Provider::Process, Provider::Microvm][..],
            &[Provider::Microvm],
        ] {
            assert_eq!(chosen(&providers, accepted), used);
        }
    }

    #[test]
    fn a_fall_back_is_visible_and_says_why() {
        for (probe, because) in [
            (broken(), "KVM cannot run guests: SSE"),
            (Probe::NoDevice, "there is no /dev/kvm"),
            (
                Probe::NotPermitted,
                "/dev/kvm may not be opened by this user",
            ),
        ] {
            let providers = here(&containers(), || probe);
            let said = format!("regions are isolated by process, not by microvm: {because}");
            let both = [Provider::Process, Provider::Microvm];
            assert_eq!(chosen(&providers, &both), (Provider::Process, said));
            let plain = "regions are isolated by process".to_owned();
            let used = chosen(&providers, &[Provider::Process]);
            assert_eq!(used, (Provider::Process, plain), "nobody wanted a machine");
        }
    }

    #[test]
    fn a_policy_of_machines_alone_is_refused_where_none_can_run() {
        assert_eq!(
            refused(&here(&containers(), broken), &[Provider::Microvm]),
            "policy accepts microvm; this host has process and no microvm: KVM cannot run guests: SSE"
        );
        let without = Containers {
            microvm: None,
            ..containers()
        };
        let never = || panic!("probed for a container that is not installed");
        assert_eq!(
            refused(&here(&without, never), &[Provider::Microvm]),
            "policy accepts microvm; this host has process and no microvm: no cryptlet-container-microvm is installed"
        );
    }

    #[test]
    fn nothing_is_used_that_policy_does_not_accept() {
        let providers = here(&containers(), || Probe::Works);
        assert_eq!(
            refused(&providers, &[Provider::Sgx]),
            "policy accepts sgx; this host has microvm, process"
        );
        assert_eq!(
            refused(&providers, &[]),
            "policy accepts no isolation; this host has microvm, process"
        );
        let none = here(&Containers::default(), broken);
        assert_eq!(
            refused(&none, &[Provider::Process]),
            "policy accepts process; this host has no isolation"
        );
    }

    #[test]
    fn what_is_preferred_comes_first_and_only_where_policy_accepts_it() {
        let other = MicrovmProvider::new(&std::env::current_exe().unwrap()).unwrap();
        let providers = here(&containers(), broken).after(vec![Arc::new(other)]);
        assert_eq!(providers.names(), [Provider::Microvm, Provider::Process]);
        let both = [Provider::Process, Provider::Microvm];
        assert_eq!(chosen(&providers, &both).0, Provider::Microvm);
        assert_eq!(
            chosen(&providers, &[Provider::Process]).0,
            Provider::Process
        );
    }

    /// The real probe: a policy of machines alone is served exactly where guests run.
    #[test]
    fn this_machine_serves_a_policy_of_machines_alone_only_if_guests_run() {
        let providers = here(&containers(), probe);
        let served = providers.choose(&policy(&[Provider::Microvm]));
        assert_eq!(served.is_ok(), probe().works());
    }
}
