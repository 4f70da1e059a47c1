//! What an image is: a document for operators and auditors, beside the image.

use crate::ImageError;
use alloy_primitives::Bytes;
use cryptlet_types::{Provider, Sha256Digest, policy::ImageRule};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Its name in the image's folder.
pub const DESCRIPTOR: &str = "image.json";
/// Most bytes of a descriptor: 64 KiB.
pub const MAX_DESCRIPTOR_BYTES: usize = 64 << 10;
/// Every register of these providers is a SHA-384.
const REGISTER_BYTES: usize = 48;

/// What an image is, and what hardware says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageDescriptor {
    /// Which hardware boots it: `nitro`, `sevSnp` or `tdx`.
    pub kind: Provider,
    /// SHA-256 of the container, the program that is its `/init`.
    pub container: Sha256Digest,
    /// Its files.
    pub files: Vec<ImageFile>,
    /// Predicted registers, by the names that a policy has for them.
    pub registers: BTreeMap<String, Bytes>,
    /// Registers that are not predicted, and so are for the operator to find out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_predicted: Vec<String>,
}

/// One of its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ImageFile {
    /// Name in the image's folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256.
    pub sha256: Sha256Digest,
}

impl ImageDescriptor {
    /// The rule for a policy's `evidence.images`; none if the register is not predicted that says what was booted.
    #[must_use]
    pub fn rule(&self) -> Option<ImageRule> {
        let rule = ImageRule {
            provider: self.kind,
            registers: self.registers.clone(),
        };
        let first = rule.first()?;
        rule.registers.contains_key(first).then_some(rule)
    }

    /// As JSON, for people to read.
    ///
    /// # Errors
    /// Never in practice.
    pub fn to_json(&self) -> Result<Vec<u8>, ImageError> {
        let mut json = serde_json::to_vec_pretty(self)
            .map_err(|error| ImageError::refused(DESCRIPTOR, error.to_string()))?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads and checks one.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(json: &[u8]) -> Result<Self, ImageError> {
        if json.len() > MAX_DESCRIPTOR_BYTES {
            return Err(ImageError::refused(DESCRIPTOR, "has more than 64 KiB"));
        }
        let descriptor: Self = serde_json::from_slice(json)
            .map_err(|error| ImageError::refused(DESCRIPTOR, error.to_string()))?;
        descriptor.check()?;
        Ok(descriptor)
    }

    fn check(&self) -> Result<(), ImageError> {
        let known: &[&str] = match self.kind {
            Provider::Nitro => &["pcr0", "pcr1", "pcr2"],
            Provider::SevSnp => &["measurement"],
            Provider::Tdx => &["mrTd", "rtMr0", "rtMr1", "rtMr2", "rtMr3"],
            other => {
                let reason = format!("{} boots no such image", other.as_str());
                return Err(ImageError::refused("kind", reason));
            }
        };
        let mut names = BTreeSet::new();
        for file in &self.files {
            let plain = !file.name.is_empty() && !file.name.contains(['/', '\0']);
            if !plain || file.name.starts_with('.') || !names.insert(&file.name) {
                let reason = format!("{:?} is no plain name, or there twice", file.name);
                return Err(ImageError::refused("files", reason));
            }
        }
        for (name, value) in &self.registers {
            if value.len() != REGISTER_BYTES {
                let reason = format!("has {} bytes, not {REGISTER_BYTES}", value.len());
                return Err(ImageError::refused(format!("registers.{name}"), reason));
            }
        }
        let mut seen = BTreeSet::new();
        for name in self.registers.keys().chain(&self.not_predicted) {
            if !known.contains(&name.as_str()) || !seen.insert(name) {
                let reason = format!("{name:?} is unknown, or there twice");
                return Err(ImageError::refused("registers", reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cryptlet_seal::sha256;

    fn sample() -> ImageDescriptor {
        ImageDescriptor {
            kind: Provider::Nitro,
            container: sha256(b"container"),
            files: vec![ImageFile {
                name: "image.eif".into(),
                size: 3,
                sha256: sha256(b"eif"),
            }],
            registers: BTreeMap::from([("pcr0".into(), vec![7; 48].into())]),
            not_predicted: Vec::new(),
        }
    }

    #[test]
    fn a_descriptor_is_the_golden_json_and_reads_back() {
        let json = sample().to_json().unwrap();
        insta::assert_snapshot!(String::from_utf8(json.clone()).unwrap());
        assert_eq!(ImageDescriptor::from_json(&json).unwrap(), sample());
    }

    #[test]
    fn its_rule_is_what_a_policy_takes_unless_the_first_register_is_missing() {
        let rule = sample().rule().unwrap();
        assert_eq!((rule.provider, rule.registers.len()), (Provider::Nitro, 1));
        let mut without = sample();
        without.registers.clear();
        assert_eq!(without.rule(), None);
    }

    #[test]
    fn what_is_unknown_or_wrong_is_refused_by_name() {
        let json = String::from_utf8(sample().to_json().unwrap()).unwrap();
        let cases = [
            (json.replace("\"kind\"", "\"sort\""), "sort"),
            (json.replace("\"size\"", "\"length\""), "length"),
            (json.replace("nitro", "process"), "boots no such image"),
            (json.replace("nitro", "sevSnp"), "\"pcr0\" is unknown"),
            (json.replace("image.eif", "../image.eif"), "no plain name"),
            (
                json.replace("pcr0\": \"0x07", "pcr0\": \"0x"),
                "registers.pcr0: has 47 bytes",
            ),
            (" ".repeat(MAX_DESCRIPTOR_BYTES + 1), "64 KiB"),
        ];
        for (json, reason) in cases {
            let error = ImageDescriptor::from_json(json.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(reason), "{error}");
        }
        let mut both = sample();
        both.not_predicted = vec!["pcr0".into()];
        let error = ImageDescriptor::from_json(&both.to_json().unwrap()).unwrap_err();
        assert!(error.to_string().contains("there twice"), "{error}");
    }
}
