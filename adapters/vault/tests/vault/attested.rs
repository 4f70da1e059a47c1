//! A region whose evidence holds, to be altered by the tests.

use alloy_primitives::{Address, B256};
use cryptlet_seal::{
    ExchangeKey, SigningKey,
    evidence::{Expected, vouch},
    key_binding,
    sealed::{Release, Seal},
};
use cryptlet_types::{
    CryptletId, Evidence, EvidenceStatement, Limits, Measurement, Policy, Provider,
    policy::{EvidenceRule, Retry, ServeRule, Signing, Whom},
    region::{KeyGrant, RegionStatement, WrappedKey},
    report::CompactSignature,
};
use cryptlet_vault::Vault;

/// What runs in all of them.
pub(crate) const MEASURED: Measurement = Measurement(B256::repeat_byte(1));

pub(crate) struct Attested {
    pub(crate) host: SigningKey,
    pub(crate) region: SigningKey,
    pub(crate) exchange: ExchangeKey,
    pub(crate) policy: Policy,
    pub(crate) evidence: Evidence,
}

impl Attested {
    /// A region of a host, vouched for at second 100.
    pub(crate) fn new() -> Self {
        Self::of(MEASURED)
    }

    /// The same, in which something else runs.
    pub(crate) fn with_measurement(n: u8) -> Self {
        Self::of(Measurement(B256::repeat_byte(n)))
    }

    fn of(measurement: Measurement) -> Self {
        let (host, region) = (SigningKey::generate(), SigningKey::generate());
        let exchange = ExchangeKey::generate();
        let statement = EvidenceStatement {
            provider: Provider::Process,
            controls: vec!["seccomp".into()],
            measurement,
            region_key: region.address(),
            exchange_key: exchange.public(),
            nonce: B256::repeat_byte(4),
        };
        Self {
            evidence: vouch(statement, 100, &host).unwrap(),
            host,
            region,
            exchange,
            policy: policy(),
        }
    }

    pub(crate) fn expected(&self) -> Expected<'_> {
        Expected {
            policy: &self.policy,
            measurement: self.evidence.statement.measurement,
            nonce: self.evidence.statement.nonce,
            host: self.host.address(),
            from: 90,
            to: 110,
        }
    }

    /// What was wrapped to this region.
    pub(crate) fn open(&self, wrapped: &WrappedKey) -> Release {
        let binding = key_binding(&self.evidence.statement);
        Release::from_bytes(&self.exchange.open(wrapped, &binding).unwrap()).unwrap()
    }

    /// The seal that comes with a grant, where the vault keeps seals.
    pub(crate) async fn seal(
        &self,
        vault: &dyn Vault,
        cryptlet: CryptletId,
        signer: Address,
    ) -> Option<Seal> {
        let granted = vault
            .grant(cryptlet, signer, &self.evidence, &self.expected())
            .await;
        match granted.unwrap() {
            KeyGrant::Wrapped(wrapped) => self.open(&wrapped).seal,
            KeyGrant::InVault { .. } => None,
        }
    }

    /// What the region says of `report`, with its signature.
    pub(crate) fn states(&self, report: B256) -> (RegionStatement, CompactSignature) {
        let statement = RegionStatement {
            measurement: self.evidence.statement.measurement,
            report,
            input: B256::repeat_byte(5),
            sources: B256::repeat_byte(6),
        };
        let signature = self.region.sign(statement.digest()).unwrap();
        (statement, signature)
    }

    /// Evidence that does not hold, and expectations that this evidence does not meet; each with its name.
    pub(crate) fn forgeries(&self) -> Vec<(&'static str, Evidence, Expected<'_>)> {
        let altered = |change: fn(&mut Evidence)| {
            let mut evidence = self.evidence.clone();
            change(&mut evidence);
            evidence
        };
        let good = &self.evidence;
        let expected = self.expected();
        let other_region = altered(|e| e.statement.region_key = SigningKey::generate().address());
        let other_exchange =
            altered(|e| e.statement.exchange_key = ExchangeKey::generate().public());
        let younger = altered(|e| e.made_at += 1);
        let unsigned = altered(|e| e.signature = CompactSignature::default());
        let impostor = vouch(good.statement.clone(), 100, &SigningKey::generate()).unwrap();
        let stale = Expected {
            from: 101,
            ..expected.clone()
        };
        let early = Expected {
            to: 99,
            ..expected.clone()
        };
        let nonce = Expected {
            nonce: B256::ZERO,
            ..expected.clone()
        };
        let measurement = Expected {
            measurement: Measurement(B256::ZERO),
            ..expected.clone()
        };
        vec![
            ("another region's key", other_region, expected.clone()),
            ("another exchange key", other_exchange, expected.clone()),
            ("another time", younger, expected.clone()),
            ("no signature", unsigned, expected.clone()),
            ("another host's word", impostor, expected),
            ("stale evidence", good.clone(), stale),
            ("evidence from the future", good.clone(), early),
            ("another challenge", good.clone(), nonce),
            ("another measurement", good.clone(), measurement),
        ]
    }
}

fn policy() -> Policy {
    Policy {
        version: 1,
        epoch: 1,
        publishers: Whom::Anyone,
        isolation: vec![Provider::Process],
        controls: vec!["seccomp".into()],
        egress: vec![],
        limits: Limits::default(),
        retry: Retry {
            attempts: 1,
            first_millis: 1,
            longest_millis: 1,
        },
        signing: Signing::Ecdsa,
        evidence: EvidenceRule {
            max_age_seconds: 3600,
            ..EvidenceRule::default()
        },
        serve: ServeRule {
            consumers: Whom::Anyone,
            minimum_interval_seconds: 1,
            minimum_validity_seconds: 1,
            maximum_callback_gas: 1_000_000,
        },
        ..Policy::closed(1)
    }
}
