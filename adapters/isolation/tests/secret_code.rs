//! Secret code: what regions ask before they have it, and what they take.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use alloy_primitives::B256;
use async_trait::async_trait;
use cryptlet_isolation::{
    CallOutHandler, CallOutSession, CodeAsked, IsolationError, IsolationProvider, Region,
};
use cryptlet_seal::{
    CodeKey, ExchangeKey, SigningKey, key_binding, package, secret_code::code_binding, sha256, wrap,
};
use cryptlet_types::{
    CodeAgreement, CodeGrant, EvidenceStatement, SecretCode, Sha256Digest,
    evidence::TAKEN_BY_REGIONS,
    region::{Package, RegionFault, RegionSettings},
};
use std::sync::{Arc, Mutex};
use support::{
    HOSTILE, Setup, behave,
    elsewhere::{Host, Machine},
    provider, provision, said,
};

const NONCE: B256 = B256::repeat_byte(9);

/// A package with secret code, and those who agree to it.
struct Secret {
    setup: Setup,
    parties: [SigningKey; 2],
    key: CodeKey,
}

impl Secret {
    fn new() -> Self {
        Self {
            setup: Setup::new(HOSTILE),
            parties: [SigningKey::generate(), SigningKey::generate()],
            key: CodeKey::generate().unwrap(),
        }
    }

    fn package(&self) -> Package {
        let mut manifest = self.setup.manifest();
        manifest.config.secret_code = Some(SecretCode {
            counterparties: self.parties.each_ref().map(SigningKey::address).to_vec(),
        });
        let code = self.key.encrypt(HOSTILE).unwrap();
        package::build(&manifest, &code, b"{}", None)
            .unwrap()
            .package
    }

    /// What an honest host gives to who asks.
    fn grant(&self, asked: &CodeAsked) -> CodeGrant {
        self.agreed(asked, sha256(HOSTILE), asked.package)
    }

    /// The same, with agreements to this code of that package.
    fn agreed(&self, asked: &CodeAsked, code: Sha256Digest, package: Sha256Digest) -> CodeGrant {
        let digest = CodeAgreement { package, code }.digest();
        CodeGrant {
            key: wrapped(&asked.created.statement, self.key.bytes()),
            code,
            agreements: self
                .parties
                .each_ref()
                .map(|party| party.sign(digest).unwrap())
                .to_vec(),
        }
    }

    async fn create(
        &self,
        provider: &dyn IsolationProvider,
        host: &Arc<Giving>,
    ) -> Result<Box<dyn Region>, IsolationError> {
        let (package, settings) = (self.package(), self.setup.settings());
        provider
            .create(package, settings, NONCE, host.clone())
            .await
    }

    /// Why there is no region where the host gives what `give` makes of an honest grant.
    async fn refused(
        &self,
        give: impl Fn(&Self, &CodeAsked) -> CodeGrant + Send + Sync + 'static,
    ) -> String {
        let secret = Arc::new(Self {
            setup: Setup::new(HOSTILE),
            parties: self
                .parties
                .each_ref()
                .map(|key| SigningKey::from_secret(&key.secret()).unwrap()),
            key: CodeKey::from_bytes(self.key.bytes()).unwrap(),
        });
        let host = Giving::with(&self.setup, move |asked| Ok(give(&secret, asked)));
        let error = self.create(&*provider(), &host).await;
        match error.map(|_| ()).unwrap_err() {
            IsolationError::Fault(RegionFault::SecretCode(reason)) => reason,
            other => panic!("no fault of secret code: {other}"),
        }
    }
}

fn wrapped(statement: &EvidenceStatement, secret: &[u8]) -> cryptlet_types::region::WrappedKey {
    wrap(statement.exchange_key, &code_binding(statement), secret).unwrap()
}

type Give = dyn Fn(&CodeAsked) -> Result<CodeGrant, String> + Send + Sync;

/// A host that answers as it is told, and remembers who asked.
struct Giving {
    relay: Arc<dyn CallOutHandler>,
    give: Box<Give>,
    asked: Mutex<Vec<CodeAsked>>,
}

impl Giving {
    fn with(
        setup: &Setup,
        give: impl Fn(&CodeAsked) -> Result<CodeGrant, String> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            relay: setup.relay(),
            give: Box::new(give),
            asked: Mutex::default(),
        })
    }

    fn honest(secret: &Arc<Secret>) -> Arc<Self> {
        let given = secret.clone();
        Self::with(&secret.setup, move |asked| Ok(given.grant(asked)))
    }

    fn asked(&self) -> Vec<CodeAsked> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait]
impl CallOutHandler for Giving {
    fn open(&self, settings: &RegionSettings) -> Box<dyn CallOutSession> {
        self.relay.open(settings)
    }

    async fn code_key(&self, asked: CodeAsked) -> Result<CodeGrant, String> {
        self.asked.lock().unwrap().push(asked.clone());
        (self.give)(&asked)
    }
}

async fn speaks(region: &mut dyn Region, secret: &Secret) {
    provision(region, &secret.setup.key).await.unwrap();
    let answer = region.run(behave("echo", "in secret")).await.unwrap();
    assert_eq!(said(&answer), "in secret");
}

#[tokio::test]
async fn code_that_all_agreed_to_runs_and_is_in_no_package() {
    let (secret, provider) = (Arc::new(Secret::new()), provider());
    let package = secret.package();
    let tail = &HOSTILE[HOSTILE.len() - 64..];
    assert!(!package.code.windows(64).any(|bytes| bytes == tail));
    let measurement = provider.measurement(&package, &secret.setup.settings());
    let host = Giving::honest(&secret);
    let mut region = secret.create(&*provider, &host).await.unwrap();
    speaks(region.as_mut(), &secret).await;

    let asked = host.asked();
    let [asked] = asked.as_slice() else {
        panic!("asked once")
    };
    assert_eq!(asked.package, sha256(&package.index));
    let (loader, region) = (&asked.created.statement, region.statement());
    assert_eq!(loader.measurement, measurement.unwrap());
    assert_eq!(loader.measurement, region.measurement);
    assert_eq!(loader.nonce, asked.nonce);
    assert_ne!(loader.nonce, region.nonce);
    assert_ne!(loader.region_key, region.region_key, "keys for this alone");
    assert_ne!(loader.exchange_key, region.exchange_key);
    // What policy does not demand of who loads is what it cannot have yet, and nothing else.
    for name in TAKEN_BY_REGIONS {
        assert!(!loader.controls.iter().any(|held| held == name), "{name}");
    }
    let later = region.controls.iter();
    let later: Vec<_> = later
        .filter(|name| !loader.controls.contains(name))
        .collect();
    assert!(!later.is_empty());
    for name in later {
        assert!(TAKEN_BY_REGIONS.contains(&name.as_str()), "{name}");
    }
}

#[tokio::test]
async fn regions_that_come_of_one_process_need_the_key_once() {
    let (secret, provider) = (Arc::new(Secret::new()), provider());
    let host = Giving::honest(&secret);
    for _ in 0..2 {
        let mut region = secret.create(&*provider, &host).await.unwrap();
        speaks(region.as_mut(), &secret).await;
    }
    assert_eq!(host.asked().len(), 1);
}

#[tokio::test]
async fn code_that_not_every_counterparty_agreed_to_does_not_run() {
    let secret = Secret::new();
    let [first, second] = secret.parties.each_ref().map(SigningKey::address);
    type Lie = fn(&Secret, &CodeAsked) -> CodeGrant;
    let lies: [(Lie, _); 6] = [
        (
            |secret, asked| CodeGrant {
                agreements: vec![],
                ..secret.grant(asked)
            },
            first,
        ),
        (
            |secret, asked| {
                let mut grant = secret.grant(asked);
                grant.agreements.pop();
                grant
            },
            second,
        ),
        (
            |secret, asked| {
                let mut grant = secret.grant(asked);
                grant.agreements.swap(0, 1);
                grant
            },
            first,
        ),
        (
            |secret, asked| {
                let mut grant = secret.grant(asked);
                grant.agreements[1] = grant.agreements[0];
                grant
            },
            second,
        ),
        (
            // What they agreed to of another package.
            |secret, asked| secret.agreed(asked, sha256(HOSTILE), sha256(b"another")),
            first,
        ),
        (
            // What they agreed to is another code than the host says.
            |secret, asked| CodeGrant {
                code: sha256(HOSTILE),
                ..secret.agreed(asked, sha256(b"another"), asked.package)
            },
            first,
        ),
    ];
    for (lie, named) in lies {
        let told = secret.refused(lie).await;
        assert!(told.contains("has not agreed"), "{told}");
        assert!(told.contains(&named.to_string()), "{told}");
    }
    let more = secret.refused(|secret, asked| {
        let mut grant = secret.grant(asked);
        grant.agreements.push(grant.agreements[0]);
        grant
    });
    assert!(more.await.contains("more agreements"));
}

#[tokio::test]
async fn what_is_agreed_to_and_not_what_is_in_the_package_does_not_run_either() {
    let secret = Secret::new();
    let told = secret
        .refused(|secret, asked| secret.agreed(asked, sha256(b"another"), asked.package))
        .await;
    assert!(told.contains("another component"), "{told}");
}

#[tokio::test]
async fn a_key_of_other_code_or_for_somebody_else_opens_nothing() {
    let secret = Secret::new();
    type Lie = fn(&Secret, &CodeAsked) -> CodeGrant;
    let lies: [(Lie, &str); 6] = [
        (
            |secret, asked| CodeGrant {
                key: wrapped(&asked.created.statement, &[7; 32]),
                ..secret.grant(asked)
            },
            "another key",
        ),
        (
            |secret, asked| CodeGrant {
                key: wrapped(&asked.created.statement, &secret.key.bytes()[1..]),
                ..secret.grant(asked)
            },
            "32 bytes",
        ),
        (
            // Wrapped to somebody else.
            |secret, asked| {
                let mut other = asked.created.statement.clone();
                other.exchange_key = ExchangeKey::generate().public();
                CodeGrant {
                    key: wrapped(&other, secret.key.bytes()),
                    ..secret.grant(asked)
                }
            },
            "cannot be opened",
        ),
        (
            // An answer to another challenge.
            |secret, asked| {
                let mut other = asked.created.statement.clone();
                other.nonce = B256::ZERO;
                CodeGrant {
                    key: wrapped(&other, secret.key.bytes()),
                    ..secret.grant(asked)
                }
            },
            "cannot be opened",
        ),
        (
            // For where something else runs.
            |secret, asked| {
                let mut other = asked.created.statement.clone();
                other.measurement.0 = B256::ZERO;
                CodeGrant {
                    key: wrapped(&other, secret.key.bytes()),
                    ..secret.grant(asked)
                }
            },
            "cannot be opened",
        ),
        (
            // As a signing key is wrapped.
            |secret, asked| {
                let said = &asked.created.statement;
                let key = wrap(said.exchange_key, &key_binding(said), secret.key.bytes());
                CodeGrant {
                    key: key.unwrap(),
                    ..secret.grant(asked)
                }
            },
            "cannot be opened",
        ),
    ];
    for (lie, words) in lies {
        let told = secret.refused(lie).await;
        assert!(told.contains(words), "{told} does not say {words}");
    }
}

#[tokio::test]
async fn without_a_key_there_is_no_region_and_with_it_later_there_is() {
    let (secret, provider) = (Arc::new(Secret::new()), provider());
    let none = Giving::with(&secret.setup, |_| Err("not before Monday".into()));
    let error = secret.create(&*provider, &none).await.map(|_| ());
    let error = error.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert_eq!(error.to_string(), "secret code: not before Monday");
    // The relay of hosts has no keys at all.
    let (package, settings) = (secret.package(), secret.setup.settings());
    let relayed = provider.create(package, settings, NONCE, secret.setup.relay());
    let told = relayed.await.map(|_| ()).unwrap_err().to_string();
    assert!(told.contains("nobody here has keys"), "{told}");
    let host = Giving::honest(&secret);
    let mut region = secret.create(&*provider, &host).await.unwrap();
    speaks(region.as_mut(), &secret).await;
}

#[tokio::test]
async fn on_another_machine_hardware_says_who_asks_for_the_key() {
    let (secret, machine, trusting) = (Arc::new(Secret::new()), Machine::start(), Host::new());
    let host = Giving::honest(&secret);
    let provider = trusting.provider(&machine.address);
    let mut region = secret.create(&provider, &host).await.unwrap();
    speaks(region.as_mut(), &secret).await;
    let asked = host.asked();
    let [asked] = asked.as_slice() else {
        panic!("asked once")
    };
    let (loader, region) = (&asked.created.statement, region.statement());
    assert_eq!(loader.nonce, asked.nonce);
    assert_ne!(loader.nonce, region.nonce, "two challenges");
    assert_eq!(
        loader.region_key, region.region_key,
        "one process, one region"
    );
    assert_eq!(loader.controls, region.controls);
    let attestation = asked.created.attestation.as_ref().unwrap();
    let policy = trusting.policy.lock().unwrap().policy.clone();
    let at = support::elsewhere::now();
    let judged = cryptlet_attest::judge(
        attestation,
        loader.bound(),
        loader.nonce,
        &policy.evidence,
        at,
    );
    assert_eq!(judged, Ok(()));
}
