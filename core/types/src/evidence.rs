//! Evidence: what a region proves about itself.

use crate::{
    Attestation, Measurement, UnixSeconds, attestation::MAX_ATTESTATION_BYTES,
    manifest::DocumentError, region::RegionStatement, report::CompactSignature,
};
use alloy_primitives::{Address, B256, Bytes, keccak256};
use alloy_sol_types::SolValue;
use serde::{Deserialize, Serialize};

/// Who isolates a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Provider {
    /// The operating system: an own process without network and ambient authority. Its evidence is
    /// software's word, vouched for by the host's key and by nothing below it.
    Process,
    /// A hypervisor: a virtual machine without devices for each region, on this machine's processor. Its evidence is
    /// vouched for as that of a process is.
    Microvm,
    /// An Intel SGX enclave.
    Sgx,
    /// An Intel TDX trust domain.
    Tdx,
    /// An AMD SEV-SNP guest.
    SevSnp,
    /// An AWS Nitro enclave.
    Nitro,
    /// A machine whose TPM quotes what was booted.
    Tpm,
    /// A process whose evidence a simulator's root signs in the place of hardware. It proves nothing.
    Simulator,
}

impl Provider {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Process,
        Self::Microvm,
        Self::Sgx,
        Self::Tdx,
        Self::SevSnp,
        Self::Nitro,
        Self::Tpm,
        Self::Simulator,
    ];

    /// Whether its evidence carries an [`Attestation`].
    #[must_use]
    pub fn attests(self) -> bool {
        !matches!(self, Self::Process | Self::Microvm)
    }

    /// The word for it in documents.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Microvm => "microvm",
            Self::Sgx => "sgx",
            Self::Tdx => "tdx",
            Self::SevSnp => "sevSnp",
            Self::Nitro => "nitro",
            Self::Tpm => "tpm",
            Self::Simulator => "simulator",
        }
    }
}

/// Largest evidence that is read as JSON, in bytes: 576 KiB. JSON writes a byte as two digits.
pub const MAX_EVIDENCE_BYTES: usize = 2 * MAX_ATTESTATION_BYTES + (64 << 10);

/// Most controls of evidence that is read as JSON, and longest name of one, in bytes. A region has some twenty.
const MAX_CONTROLS: usize = 64;
const MAX_CONTROL_BYTES: usize = 64;

/// Controls that a process takes when it becomes a region, and not before: while it still loads a package, which it does before
/// it divides, its evidence cannot name them. Regions on other machines have them from the beginning.
pub const TAKEN_BY_REGIONS: [&str; 6] = [
    "pid-namespace",
    "no-capabilities",
    "ends-with-parent",
    "descriptors",
    "seccomp-kill",
    "virtual-machine",
];

/// What a region says about itself when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EvidenceStatement {
    /// Who isolates it.
    pub provider: Provider,
    /// Controls in force, by name, in the order in which they were applied.
    pub controls: Vec<String>,
    /// What runs in it.
    pub measurement: Measurement,
    /// Address of the secp256k1 key that was made in the region and never leaves it.
    pub region_key: Address,
    /// X25519 public key, made in the region, that secrets for it are wrapped to.
    pub exchange_key: B256,
    /// The host's challenge: what makes old evidence worthless.
    pub nonce: B256,
}

impl EvidenceStatement {
    /// The 32 bytes that an [`Attestation`] binds. The moment is not among them: no hardware knows it, and the challenge is.
    #[must_use]
    pub fn bound(&self) -> B256 {
        let keys = (self.region_key, self.exchange_key, self.nonce);
        keccak256(
            (
                "bletchley attested statement v1",
                self.provider.as_str(),
                self.controls.clone(),
                self.measurement.0,
                keys,
            )
                .abi_encode_params(),
        )
    }

    /// The 32 bytes that a voucher signs.
    #[must_use]
    pub fn digest(&self, made_at: UnixSeconds) -> B256 {
        let keys = (self.region_key, self.exchange_key, self.nonce);
        keccak256(
            (
                "bletchley evidence v1",
                self.provider.as_str(),
                self.controls.clone(),
                self.measurement.0,
                keys,
                made_at,
            )
                .abi_encode_params(),
        )
    }
}

/// A statement that somebody vouches for: always the host, and hardware below it where the provider has any.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Evidence {
    /// What the region says.
    pub statement: EvidenceStatement,
    /// When it was vouched for.
    pub made_at: UnixSeconds,
    /// The host that created the region and compared its measurement.
    pub host: Address,
    /// The host's signature over [`EvidenceStatement::digest`].
    pub signature: CompactSignature,
    /// What hardware says, for providers that [attest](Provider::attests); none for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attestation: Option<Attestation>,
}

impl Evidence {
    /// Reads evidence as receipts hold it. Whether it holds is for `cryptlet-seal` to say.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        if bytes.len() > MAX_EVIDENCE_BYTES {
            let reason = format!("{} bytes, at most {MAX_EVIDENCE_BYTES}", bytes.len());
            return Err(DocumentError::field("evidence", reason));
        }
        let evidence: Self = serde_json::from_slice(bytes)
            .map_err(|error| DocumentError::Malformed(error.to_string()))?;
        let controls = &evidence.statement.controls;
        let fit = controls.len() <= MAX_CONTROLS
            && controls.iter().all(|name| name.len() <= MAX_CONTROL_BYTES);
        match fit {
            true => Ok(evidence),
            false => {
                let reason =
                    format!("at most {MAX_CONTROLS} names of at most {MAX_CONTROL_BYTES} bytes");
                Err(DocumentError::field("evidence.statement.controls", reason))
            }
        }
    }

    /// What a contract is shown of a region: the ABI-encoded `(Evidence, Statement, bytes)` of `IsolatedRegion.sol`, as a function that
    /// takes these three is called with behind its selector. `signature` is the region's, over `said`. What hardware says is no part
    /// of it: no contract judges that.
    #[must_use]
    pub fn for_contracts(&self, said: &RegionStatement, signature: &CompactSignature) -> Bytes {
        let statement = &self.statement;
        let evidence = (
            statement.provider.as_str(),
            statement.controls.clone(),
            statement.measurement.0,
            statement.region_key,
            statement.exchange_key,
            statement.nonce,
            self.made_at,
            self.signature.to_bytes(),
        );
        let said = (said.report, said.input, said.sources);
        (evidence, said, signature.to_bytes())
            .abi_encode_params()
            .into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn evidence(controls: Vec<String>) -> Evidence {
        Evidence {
            statement: EvidenceStatement {
                provider: Provider::Process,
                controls,
                measurement: Measurement(B256::ZERO),
                region_key: Address::ZERO,
                exchange_key: B256::ZERO,
                nonce: B256::ZERO,
            },
            made_at: 1,
            host: Address::ZERO,
            signature: CompactSignature::default(),
            attestation: None,
        }
    }

    #[test]
    fn evidence_is_read_within_its_sizes() {
        let read = |evidence: &Evidence| {
            Evidence::from_json(&serde_json::to_vec(evidence).unwrap())
                .map_err(|error| error.to_string())
        };
        let most = evidence(vec!["c".repeat(MAX_CONTROL_BYTES); MAX_CONTROLS]);
        assert_eq!(read(&most).as_ref(), Ok(&most));
        let more = vec![String::new(); MAX_CONTROLS + 1];
        let longer = vec!["c".repeat(MAX_CONTROL_BYTES + 1)];
        for controls in [more, longer] {
            let error = read(&evidence(controls)).unwrap_err();
            assert!(error.contains("evidence.statement.controls"), "{error}");
        }
        let error = Evidence::from_json(&vec![b' '; MAX_EVIDENCE_BYTES + 1]).unwrap_err();
        assert!(error.to_string().contains("at most"), "{error}");
        let error = Evidence::from_json(b"{\"madeAt\":1,\"more\":2}").unwrap_err();
        assert!(error.to_string().contains("more"), "{error}");
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Evidence::from_json(&bytes);
        }
    }
}
