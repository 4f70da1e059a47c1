//! Policy: the operator's word, which overrides what manifests and code say.

use crate::{
    Limits, Manifest, Provider, Sha256Digest,
    bounded::clip,
    manifest::{DocumentError, read_document, split_place},
};
use alloy_primitives::{Address, Bytes};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// What administrators allow. Its epoch only grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    /// Version of this format: 1.
    pub version: u32,
    /// Number of this policy; a host never goes back to a smaller one.
    pub epoch: u64,
    /// Whose cryptlets may run.
    pub publishers: Whom,
    /// Isolation providers that are accepted. An empty list lets nothing run.
    pub isolation: Vec<Provider>,
    /// Sandbox controls that a region's evidence must list; a region with fewer gets no key.
    pub controls: Vec<String>,
    /// Sources that cryptlets may reach. An empty list means no network.
    pub egress: Vec<EgressRule>,
    /// What any run may use up at most.
    pub limits: Limits,
    /// How often and how fast a run that failed for a passing reason is tried again.
    pub retry: Retry,
    /// How reports are signed.
    pub signing: Signing,
    /// Which evidence is accepted, beside `isolation` and `controls`.
    pub evidence: EvidenceRule,
    /// Whom cryptlets are woken for, and at whose cost.
    pub serve: ServeRule,
    /// What is demanded of code. Left out where nothing is, so that such a policy has the digest that it had before.
    #[serde(default, skip_serializing_if = "CodeRule::demands_nothing")]
    pub code: CodeRule,
    /// Whether hosts keep what sources said to runs. Left out where they do not.
    #[serde(default, skip_serializing_if = "RecordingRule::is_off")]
    pub recording: RecordingRule,
}

/// What is demanded of code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CodeRule {
    /// How sure it has to be that a run can be repeated; none: nothing is demanded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub determinism: Option<Determinism>,
}

impl CodeRule {
    /// Whether any code may run.
    #[must_use]
    pub fn demands_nothing(&self) -> bool {
        self.determinism.is_none()
    }
}

/// Least that a check of a component has to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Determinism {
    /// It does the same each time, by its instructions alone.
    Deterministic,
    /// It may compute with floats: it does the same where NaNs are made canonical, as the container does.
    CanonicalNan,
}

impl Determinism {
    /// Its name, as policies write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deterministic => "deterministic",
            Self::CanonicalNan => "canonicalNan",
        }
    }
}

/// What is kept of what sources said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RecordingRule {
    /// Nothing: what a source says stays in the region, but for digests.
    #[default]
    Off,
    /// Each exchange of a run that ended in a report, with the response's headers and body. What a source says may be secret (an
    /// answer to a request with a password, somebody's data): with this it leaves the region in the clear, and lies in a file of
    /// the host.
    Exchanges,
}

impl RecordingRule {
    /// Whether nothing is kept.
    #[must_use]
    pub fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

/// Accounts that something is open to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Whom {
    /// Everybody.
    Anyone,
    /// These accounts. An empty list is nobody.
    Only(Vec<Address>),
}

impl Whom {
    /// Whether `account` is among them.
    #[must_use]
    pub fn includes(&self, account: Address) -> bool {
        match self {
            Self::Anyone => true,
            Self::Only(accounts) => accounts.contains(&account),
        }
    }
}

/// Schemes that reports are signed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Signing {
    /// One ECDSA signature on secp256k1 over the EIP-712 digest.
    Ecdsa,
}

/// Which evidence is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceRule {
    /// Seconds after which a region has to prove itself anew. The register's state may be as old, and no older.
    pub max_age_seconds: u64,
    /// What hardware may have booted. Providers that attest are refused without one that fits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<ImageRule>,
    /// States of Intel's trusted computing base that are accepted. Empty: `upToDate` alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tcb: Vec<TcbStatus>,
    /// Least versions of AMD's trusted computing base. SEV-SNP is refused without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snp: Option<SnpTcb>,
    /// Roots of the attestation keys of TPMs, DER in hexadecimal. TPMs are refused without.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tpm_roots: Vec<Bytes>,
    /// Root of a simulator, which proves nothing: a policy that means its regions to be attested names none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub simulator: Option<Address>,
}

impl EvidenceRule {
    /// Refuses rules that would accept whatever is booted.
    fn check(&self) -> Result<(), DocumentError> {
        for (index, image) in self.images.iter().enumerate() {
            let Some(first) = image.first() else {
                let reason = format!("{} boots no image", image.provider.as_str());
                return Err(DocumentError::field(
                    format!("evidence.images[{index}].provider"),
                    reason,
                ));
            };
            if !image.registers.contains_key(first) {
                return Err(DocumentError::field(
                    format!("evidence.images[{index}].registers"),
                    format!("{first} is missing, which says what was booted"),
                ));
            }
        }
        Ok(())
    }
}

impl ImageRule {
    /// The register without which a rule says nothing about what was booted; none for providers that boot nothing.
    #[must_use]
    pub fn first(&self) -> Option<&'static str> {
        match self.provider {
            Provider::Process | Provider::Microvm | Provider::Simulator => None,
            Provider::Sgx => Some("mrEnclave"),
            Provider::Tdx => Some("mrTd"),
            Provider::SevSnp => Some("measurement"),
            Provider::Nitro | Provider::Tpm => Some("pcr0"),
        }
    }
}

/// An image that hardware may have booted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageRule {
    /// Whose regions it is for.
    pub provider: Provider,
    /// Values that its attestation must show, by the provider's names: `mrEnclave`, `mrSigner` (SGX); `mrTd`, `rtMr0` to
    /// `rtMr3`, `mrConfigId`, `mrSeam`, `mrSignerSeam` (TDX); `measurement` (SEV-SNP); `pcr0` to `pcr15` (Nitro), to `pcr23`
    /// (TPM). Those that are not named are not looked at; the first of each provider (`mrEnclave`, `mrTd`, `measurement`,
    /// `pcr0`) has to be. A name that the provider does not have fits nothing.
    pub registers: BTreeMap<String, Bytes>,
}

/// What Intel says about a platform's trusted computing base. A revoked one is never accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TcbStatus {
    /// Nothing is missing.
    UpToDate,
    /// The software inside has to defend itself against known attacks.
    SwHardeningNeeded,
    /// The platform is to be configured otherwise.
    ConfigurationNeeded,
    /// Both.
    ConfigurationAndSwHardeningNeeded,
    /// Updates are missing.
    OutOfDate,
    /// Updates are missing, and the platform is to be configured otherwise.
    OutOfDateConfigurationNeeded,
}

/// Versions of the parts of AMD's trusted computing base (AMD 56860, `TCB_VERSION`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SnpTcb {
    /// The processor's boot loader.
    pub bootloader: u8,
    /// Its operating system.
    pub tee: u8,
    /// The SNP firmware.
    pub snp: u8,
    /// The microcode.
    pub microcode: u8,
}

/// Whom cryptlets are woken for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServeRule {
    /// Contracts whose subscriptions are served.
    pub consumers: Whom,
    /// A subscription is woken at most once in this many seconds.
    pub minimum_interval_seconds: u64,
    /// Least seconds that a subscription lets its reports be valid: what expires before a chain can take it is run in vain.
    pub minimum_validity_seconds: u32,
    /// Most gas that a callback may ask for: the host's transmitter pays for it.
    pub maximum_callback_gas: u32,
}

/// A policy with the approvals of administrators: what a policy file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SignedPolicy {
    /// The policy.
    pub policy: Policy,
    /// Who approved it, ascending by administrator.
    pub approvals: Vec<Approval>,
}

/// An administrator's signature over `Policy(address administrator,uint64 term,uint64 epoch,bytes32 digest)` (EIP-712) in the
/// register's domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Approval {
    /// Who approves.
    pub administrator: Address,
    /// 65 bytes `r`, `s`, `v` of an account, or whatever an ERC-1271 wallet takes, at most 4,096 bytes.
    pub signature: Bytes,
}

impl SignedPolicy {
    /// Most approvals that a file holds.
    pub const MAX_APPROVALS: usize = 64;

    /// Reads and checks a policy file. Whether the approvals hold is for `cryptlet-seal` to say.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        let signed: Self = read_document(bytes)?;
        signed
            .policy
            .check()
            .map_err(|error| error.within("policy"))?;
        if signed.approvals.len() > Self::MAX_APPROVALS {
            return Err(DocumentError::field(
                "approvals",
                format!("at most {}", Self::MAX_APPROVALS),
            ));
        }
        for (index, approval) in signed.approvals.iter().enumerate() {
            if approval.signature.len() > 4096 {
                let field = format!("approvals[{index}].signature");
                return Err(DocumentError::field(field, "at most 4096 bytes"));
            }
        }
        Ok(signed)
    }

    /// The file's bytes: indented JSON, newline at the end.
    ///
    /// # Errors
    /// None in practice: every value of this type has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|error| DocumentError::Malformed(error.to_string()))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// A source that may be reached, and how its certificate is judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EgressRule {
    /// `host:port`, as in the manifest.
    pub place: String,
    /// Whom to believe that the source is who it says.
    pub trust: Trust,
}

/// Roots that a source's certificate must chain to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Trust {
    /// The public web's roots, as Mozilla lists them.
    WebPki,
    /// These certificates and no others, PEM, one or more.
    Roots(String),
}

impl Trust {
    /// Refuses roots that no region could read: with them nothing would ever be reached, and no run would say why.
    fn check(&self) -> Result<(), String> {
        let Self::Roots(pem) = self else {
            return Ok(());
        };
        let mut found = 0;
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            let certificate = certificate.map_err(|error| format!("no PEM: {error}"))?;
            webpki::anchor_from_trusted_cert(&certificate)
                .map_err(|error| format!("certificate {found} is none: {error}"))?;
            found += 1;
        }
        match found {
            0 => Err("no certificate: name one or more, as PEM".into()),
            _ => Ok(()),
        }
    }
}

/// Attempts and waiting times of a run. Waiting doubles from the first to the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Retry {
    /// Runs before a job is given up, the first included.
    pub attempts: u32,
    /// Milliseconds before the second attempt.
    pub first_millis: u64,
    /// Milliseconds between later attempts, at most.
    pub longest_millis: u64,
}

impl Default for Retry {
    /// Five attempts, from half a second up to half a minute apart.
    fn default() -> Self {
        Self {
            attempts: 5,
            first_millis: 500,
            longest_millis: 30_000,
        }
    }
}

impl Policy {
    /// A policy that lets nothing happen: no publisher, no region, no source, no consumer. Others are written from it.
    #[must_use]
    pub fn closed(epoch: u64) -> Self {
        Self {
            version: 1,
            epoch,
            publishers: Whom::Only(vec![]),
            isolation: vec![],
            controls: vec![],
            egress: vec![],
            limits: Limits::default(),
            retry: Retry::default(),
            signing: Signing::Ecdsa,
            evidence: EvidenceRule {
                max_age_seconds: 86_400,
                ..EvidenceRule::default()
            },
            serve: ServeRule {
                consumers: Whom::Only(vec![]),
                minimum_interval_seconds: 60,
                minimum_validity_seconds: 60,
                maximum_callback_gas: 1_000_000,
            },
            code: CodeRule::default(),
            recording: RecordingRule::Off,
        }
    }

    /// Reads and checks a policy.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        let policy: Self = read_document(bytes)?;
        policy.check()?;
        Ok(policy)
    }

    /// The document's bytes as they are hashed: compact JSON, fields in the order of this type.
    ///
    /// # Errors
    /// None in practice: every value of this type has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        serde_json::to_vec(self).map_err(|error| DocumentError::Malformed(error.to_string()))
    }

    fn check(&self) -> Result<(), DocumentError> {
        if self.version != 1 {
            return Err(DocumentError::field("version", "this host reads version 1"));
        }
        if self.retry.attempts == 0 {
            return Err(DocumentError::field(
                "retry.attempts",
                "at least 1, or nothing ever runs",
            ));
        }
        if self.evidence.max_age_seconds == 0 {
            return Err(DocumentError::field(
                "evidence.maxAgeSeconds",
                "at least 1, or no evidence is ever accepted",
            ));
        }
        self.evidence.check()?;
        self.limits.check("limits")?;
        for (index, rule) in self.egress.iter().enumerate() {
            if self
                .egress
                .iter()
                .take(index)
                .any(|earlier| earlier.place == rule.place)
            {
                let reason = format!("{:?} is listed twice", rule.place);
                return Err(DocumentError::field(
                    format!("egress[{index}].place"),
                    reason,
                ));
            }
            if split_place(&rule.place).is_none() {
                let reason = format!("{:?} is not host:port", rule.place);
                return Err(DocumentError::field(
                    format!("egress[{index}].place"),
                    reason,
                ));
            }
            rule.trust.check().map_err(|reason| {
                DocumentError::field(format!("egress[{index}].trust"), clip(&reason))
            })?;
        }
        Ok(())
    }

    /// Whether regions of `provider` are accepted.
    #[must_use]
    pub fn accepts(&self, provider: Provider) -> bool {
        self.isolation.contains(&provider)
    }

    /// What `manifest` may reach: what it asks for and policy allows, both.
    #[must_use]
    pub fn egress_of(&self, manifest: &Manifest) -> Vec<EgressRule> {
        let wanted = |rule: &&EgressRule| manifest.config.egress.contains(&rule.place);
        self.egress.iter().filter(wanted).cloned().collect()
    }
}

/// A policy in force, with the digest that receipts carry.
#[derive(Clone, Debug)]
pub struct PolicyInForce {
    /// The policy.
    pub policy: Policy,
    /// SHA-256 of its bytes.
    pub digest: Sha256Digest,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::ManifestConfig;
    use alloy_primitives::Address;

    fn policy() -> Policy {
        let rule = |place: &str| EgressRule {
            place: place.into(),
            trust: Trust::WebPki,
        };
        Policy {
            publishers: Whom::Anyone,
            isolation: vec![Provider::Process],
            egress: vec![rule("a.example:443"), rule("b.example:443")],
            ..Policy::closed(1)
        }
    }

    #[test]
    fn an_empty_list_is_nobody() {
        assert!(!policy().serve.consumers.includes(Address::ZERO));
        assert!(policy().publishers.includes(Address::ZERO));
    }

    #[test]
    fn a_policy_file_names_the_field_inside_the_policy() {
        let signed = SignedPolicy {
            policy: policy(),
            approvals: vec![],
        };
        let json = String::from_utf8(signed.to_json().unwrap()).unwrap();
        assert_eq!(SignedPolicy::from_json(json.as_bytes()), Ok(signed));
        let broken = json.replace("\"attempts\": 5", "\"attempts\": 0");
        let error = SignedPolicy::from_json(broken.as_bytes()).unwrap_err();
        assert!(
            error.to_string().starts_with("policy.retry.attempts"),
            "{error}"
        );
    }

    #[test]
    fn a_cryptlet_reaches_only_what_both_sides_name() {
        let config = ManifestConfig {
            egress: vec!["b.example:443".into(), "c.example:443".into()],
            ..ManifestConfig::default()
        };
        let manifest = Manifest {
            name: "m".into(),
            public_key: Address::ZERO,
            version: "1".into(),
            config,
        };
        let places: Vec<_> = policy()
            .egress_of(&manifest)
            .into_iter()
            .map(|rule| rule.place)
            .collect();
        assert_eq!(places, ["b.example:443"]);
    }

    #[test]
    fn what_is_not_asked_for_is_not_in_the_document() {
        let json = String::from_utf8(policy().to_json().unwrap()).unwrap();
        assert!(
            !json.contains("code") && !json.contains("recording"),
            "{json}"
        );
        let off =
            json.strip_suffix('}').unwrap().to_owned() + ",\"code\":{},\"recording\":\"off\"}";
        let read = Policy::from_json(off.as_bytes()).unwrap();
        assert_eq!(read, policy());
        assert_eq!(read.to_json().unwrap(), json.as_bytes());
        let asking = Policy {
            code: CodeRule {
                determinism: Some(Determinism::CanonicalNan),
            },
            recording: RecordingRule::Exchanges,
            ..policy()
        };
        let json = String::from_utf8(asking.to_json().unwrap()).unwrap();
        let end = ",\"code\":{\"determinism\":\"canonicalNan\"},\"recording\":\"exchanges\"}";
        assert!(json.ends_with(end), "{json}");
        assert_eq!(Policy::from_json(json.as_bytes()), Ok(asking));
    }

    #[test]
    fn an_empty_policy_allows_nothing() {
        let nothing = Policy {
            isolation: vec![],
            egress: vec![],
            ..policy()
        };
        assert!(!nothing.accepts(Provider::Process));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let json = String::from_utf8(policy().to_json().unwrap()).unwrap();
        assert_eq!(Policy::from_json(json.as_bytes()), Ok(policy()));
        let with = |member: &str| format!("{},{member}}}", json.strip_suffix('}').unwrap());
        let cases = [
            (json.replace("\"version\":1", "\"version\":2"), "version"),
            (
                json.replace("\"attempts\":5", "\"attempts\":0"),
                "retry.attempts",
            ),
            (
                json.replace("b.example:443", "b.example"),
                "egress[1].place",
            ),
            (json.replace("webPki", "anybody"), "anybody"),
            (json.replace("\"epoch\"", "\"epock\""), "epock"),
            (with("\"code\":{\"determinism\":\"perhaps\"}"), "perhaps"),
            (
                with("\"code\":{\"determinsm\":\"canonicalNan\"}"),
                "determinsm",
            ),
            (with("\"recording\":\"on\""), "`on`"),
        ];
        for (text, field) in cases {
            let error = Policy::from_json(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(field), "{error} does not name {field}");
        }
    }
}
