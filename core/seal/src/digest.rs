//! SHA-256, and the measurement that says what runs in a region.

use crate::SealError;
use alloy_primitives::B256;
use cryptlet_types::{
    Measurement, Sha256Digest,
    recording::{ExchangeOutcome, Recording},
    region::{RegionSettings, SourceProof, encode},
};
use sha2::{Digest, Sha256};

/// SHA-256 of `bytes` (FIPS 180-4), the digest of OCI artifacts.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Sha256Digest {
    Sha256Digest(B256::from(<[u8; 32]>::from(Sha256::digest(bytes))))
}

/// What runs: SHA-256 over a label, the digest of the container's binary, the digest of the settings' CBOR
/// encoding and the package digest.
///
/// # Errors
/// None in practice: every settings value has a CBOR form.
pub fn measure(
    container: Sha256Digest,
    settings: &RegionSettings,
    package: Sha256Digest,
) -> Result<Measurement, SealError> {
    let settings = sha256(&encode(settings)?);
    let mut hash = Sha256::new_with_prefix(b"bletchley measurement v1");
    for part in [container, settings, package] {
        hash.update(part.0);
    }
    Ok(Measurement(B256::from(<[u8; 32]>::from(hash.finalize()))))
}

/// What the sources of a recording prove: what a region's own word about them was, if this is what they said.
#[must_use]
pub fn recorded_sources(recording: &Recording) -> Vec<SourceProof> {
    let proof = |exchange: &cryptlet_types::recording::Exchange| match &exchange.outcome {
        ExchangeOutcome::Response(response) => Some(SourceProof {
            url: exchange.url.clone(),
            status: response.status,
            certificate: response.certificate,
            request: exchange.request,
            body: sha256(&response.body),
        }),
        ExchangeOutcome::Failure(_) => None,
    };
    recording.exchanges.iter().filter_map(proof).collect()
}

/// What a container measures that has no package yet: SHA-256 over a label and the digest of its binary.
#[must_use]
pub fn measure_container(container: Sha256Digest) -> Measurement {
    let mut hash = Sha256::new_with_prefix(b"bletchley container v1");
    hash.update(container.0);
    Measurement(B256::from(<[u8; 32]>::from(hash.finalize())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::hex;
    use cryptlet_types::{Limits, policy::RecordingRule};

    #[test]
    fn settings_without_recording_measure_what_they_measured_before_there_was_any() {
        let off = RegionSettings {
            limits: Limits::default(),
            egress: vec![],
            recording: RecordingRule::Off,
        };
        // The map has the two members that settings always had.
        let encoded = encode(&off).unwrap();
        assert_eq!(encoded.first(), Some(&0xa2), "{}", hex::encode(&encoded));
        let on = RegionSettings {
            recording: RecordingRule::Exchanges,
            ..off.clone()
        };
        let a = sha256(b"a");
        assert_ne!(measure(a, &off, a).unwrap(), measure(a, &on, a).unwrap());
    }

    #[test]
    fn every_part_changes_the_measurement() {
        let settings = RegionSettings {
            limits: Limits::default(),
            egress: vec![],
            recording: RecordingRule::Off,
        };
        let other_limits = Limits {
            fuel: 1,
            ..Limits::default()
        };
        let (a, b) = (sha256(b"a"), sha256(b"b"));
        let all = [
            measure(a, &settings, a).unwrap(),
            measure(b, &settings, a).unwrap(),
            measure(a, &settings, b).unwrap(),
            measure(
                a,
                &RegionSettings {
                    limits: other_limits,
                    egress: vec![],
                    recording: RecordingRule::Off,
                },
                a,
            )
            .unwrap(),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
    }
}
