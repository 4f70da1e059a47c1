//! A cryptlet's manifest: its JSON configuration, an extension of the paper's Cryptlet schema.
//!
//! `name` and `publicKey` are required; unknown fields are refused. Goldens: `vectors/manifest`.

use crate::{
    Limits, SecretCode, TriggerSpec,
    bounded::{MAX_DOCUMENT_BYTES, clip},
};
use alloy_primitives::Address;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor},
};
use std::{collections::BTreeMap, fmt};

/// What a publisher says about a cryptlet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// 1 to 64 characters of `a-z`, `0-9` and `-`.
    pub name: String,
    /// Address of the key that signs this cryptlet's reports.
    pub public_key: Address,
    /// Version of the cryptlet, as its publisher counts.
    pub version: String,
    /// How it is to be run.
    pub config: ManifestConfig,
}

/// How a cryptlet is to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestConfig {
    /// One sentence for people, at most 280 characters (Unicode scalar values).
    pub description: String,
    /// What kind of cryptlet it is.
    #[serde(default)]
    pub kind: Kind,
    /// Whether it must run in an isolated region. The fabric isolates every cryptlet; policy names the floor.
    pub isolation: bool,
    /// Names of the interfaces of its world that its code imports (`http`, `log`, `regions`, `signing`). Code that imports another is refused.
    #[serde(default)]
    pub imports: Vec<String>,
    /// Kinds of trigger that it answers.
    #[serde(default = "clock_alone")]
    pub triggers: Vec<TriggerKind>,
    /// What it wants to use up in one run.
    #[serde(default)]
    pub limits: Limits,
    /// `host:port` of every source that it wants to reach. Nothing else is reachable, and these only if policy agrees.
    #[serde(default)]
    pub egress: Vec<String>,
    /// Settings handed to the cryptlet as they are, each once.
    #[serde(default, deserialize_with = "settings")]
    pub settings: BTreeMap<String, String>,
    /// Whose agreement it takes, where the package holds the code encrypted. Left out where it does not, so that such manifests
    /// have the digests that they had before there was secret code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_code: Option<SecretCode>,
}

impl Default for ManifestConfig {
    /// An isolated utility that reaches nothing and imports nothing.
    fn default() -> Self {
        Self {
            description: String::new(),
            kind: Kind::default(),
            isolation: true,
            imports: vec![],
            triggers: clock_alone(),
            limits: Limits::default(),
            egress: vec![],
            settings: BTreeMap::new(),
            secret_code: None,
        }
    }
}

/// Kinds of cryptlet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Serves any contract that subscribes: data, time, computation.
    #[default]
    Utility,
}

/// Kinds of trigger, as manifests name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum TriggerKind {
    /// Moments: [`TriggerSpec::Clock`], [`TriggerSpec::Instants`], [`TriggerSpec::Schedule`] and [`TriggerSpec::Interval`].
    Clock,
    /// [`TriggerSpec::Threshold`].
    Threshold,
    /// [`TriggerSpec::Log`].
    Log,
    /// [`TriggerSpec::Blocks`].
    Blocks,
    /// [`TriggerSpec::Application`].
    Application,
    /// [`TriggerSpec::Request`].
    Request,
}

impl TriggerKind {
    /// The kind that a subscription's trigger is of.
    #[must_use]
    pub fn of(trigger: &TriggerSpec) -> Self {
        match trigger {
            TriggerSpec::Clock(_)
            | TriggerSpec::Instants(_)
            | TriggerSpec::Schedule(_)
            | TriggerSpec::Interval(_) => Self::Clock,
            TriggerSpec::Threshold(_) => Self::Threshold,
            TriggerSpec::Log(_) => Self::Log,
            TriggerSpec::Blocks(_) => Self::Blocks,
            TriggerSpec::Application(_) => Self::Application,
            TriggerSpec::Request => Self::Request,
        }
    }

    /// The word for it in a manifest.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clock => "clock",
            Self::Threshold => "threshold",
            Self::Log => "log",
            Self::Blocks => "blocks",
            Self::Application => "application",
            Self::Request => "request",
        }
    }
}

fn clock_alone() -> Vec<TriggerKind> {
    vec![TriggerKind::Clock]
}

/// Reads settings and refuses one that is there twice: which of both counts would depend on the reader.
fn settings<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, String>, D::Error> {
    struct Settings;

    impl<'de> Visitor<'de> for Settings {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("settings by name")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut settings = BTreeMap::new();
            while let Some((name, value)) = map.next_entry::<String, String>()? {
                if settings.contains_key(&name) {
                    let name = clip(&name);
                    let error = format!("config.settings: {name:?} is there twice");
                    return Err(A::Error::custom(error));
                }
                settings.insert(name, value);
            }
            Ok(settings)
        }
    }

    from.deserialize_map(Settings)
}

/// Most imports and sources that a manifest names, and most settings.
const MAX_ITEMS: usize = 64;
/// Longest description, in characters, as JSON Schema counts them.
const MAX_DESCRIPTION_CHARACTERS: usize = 280;

/// A manifest as its author writes it: without the key, which publishing adds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManifestSource {
    /// As in [`Manifest`].
    pub name: String,
    /// As in [`Manifest`].
    pub version: String,
    /// As in [`Manifest`].
    pub config: ManifestConfig,
}

impl ManifestSource {
    /// Reads an author's manifest.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        let source: Self = read_document(bytes)?;
        check_name(&source.name)?;
        check_label(&source.version)?;
        source.config.check()?;
        Ok(source)
    }

    /// The manifest with its key.
    ///
    /// # Errors
    /// Names the field that is wrong.
    pub fn with_key(self, public_key: Address) -> Result<Manifest, DocumentError> {
        let Self {
            name,
            version,
            config,
        } = self;
        let manifest = Manifest {
            name,
            public_key,
            version,
            config,
        };
        manifest.check()?;
        Ok(manifest)
    }
}

/// Why a document (manifest, policy, package) was refused. The document itself has to change: no retry helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Too large to be read at all.
    #[error("document of {0} bytes, at most {MAX_DOCUMENT_BYTES}")]
    TooLarge(usize),
    /// Not the JSON that the schema asks for; the message names field and place.
    #[error("{0}")]
    Malformed(String),
    /// A field has a value that is not allowed.
    #[error("{field}: {reason}")]
    Field {
        /// The field, as a path.
        field: String,
        /// What is wrong with it, and what would be right.
        reason: String,
    },
}

impl DocumentError {
    /// Whether trying again can help: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }

    /// The same error of a document that is the field `outer` of another.
    pub(crate) fn within(self, outer: &str) -> Self {
        match self {
            Self::Field { field, reason } => Self::Field {
                field: format!("{outer}.{field}"),
                reason,
            },
            other => other,
        }
    }

    pub(crate) fn field(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Field {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

/// Reads a JSON document strictly: bounded, unknown fields refused by the types themselves.
pub(crate) fn read_document<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
) -> Result<T, DocumentError> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(DocumentError::TooLarge(bytes.len()));
    }
    serde_json::from_slice(bytes).map_err(|error| DocumentError::Malformed(error.to_string()))
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// Names the field that is missing, unknown or wrong.
    pub fn from_json(bytes: &[u8]) -> Result<Self, DocumentError> {
        let manifest: Self = read_document(bytes)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The document's bytes as they are hashed and stored: compact JSON, fields in the order of this type.
    ///
    /// # Errors
    /// None in practice: every value of this type has a JSON form.
    pub fn to_json(&self) -> Result<Vec<u8>, DocumentError> {
        serde_json::to_vec(self).map_err(|error| DocumentError::Malformed(error.to_string()))
    }

    fn check(&self) -> Result<(), DocumentError> {
        check_name(&self.name)?;
        if self.public_key == Address::ZERO {
            return Err(DocumentError::field(
                "publicKey",
                "the zero address has no key",
            ));
        }
        check_label(&self.version)?;
        self.config.check()
    }
}

impl ManifestConfig {
    fn check(&self) -> Result<(), DocumentError> {
        let field = |name: &str, reason: String| Err(DocumentError::field(name, reason));
        if self.description.chars().count() > MAX_DESCRIPTION_CHARACTERS {
            return field(
                "config.description",
                format!("at most {MAX_DESCRIPTION_CHARACTERS} characters"),
            );
        }
        if self.triggers.is_empty() {
            return field(
                "config.triggers",
                "at least one, or nothing ever wakes it".into(),
            );
        }
        let counted = [
            ("config.imports", self.imports.len()),
            ("config.triggers", self.triggers.len()),
            ("config.egress", self.egress.len()),
            ("config.settings", self.settings.len()),
        ];
        if let Some((name, _)) = counted.into_iter().find(|(_, count)| *count > MAX_ITEMS) {
            return field(name, format!("at most {MAX_ITEMS}"));
        }
        self.limits.check("config.limits")?;
        self.check_imports()?;
        self.check_egress()?;
        match &self.secret_code {
            Some(secret) => secret.check("config.secretCode"),
            None => Ok(()),
        }
    }

    fn check_imports(&self) -> Result<(), DocumentError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        for (index, import) in self.imports.iter().enumerate() {
            let known = self.imports.iter().take(index).any(|other| other == import);
            if known || import.is_empty() || import.len() > 64 || !import.chars().all(allowed) {
                return Err(DocumentError::field(
                    format!("config.imports[{index}]"),
                    format!("{import:?} is listed twice or is no interface's name, such as http"),
                ));
            }
        }
        Ok(())
    }

    fn check_egress(&self) -> Result<(), DocumentError> {
        for (index, place) in self.egress.iter().enumerate() {
            if split_place(place).is_none() {
                let reason = format!("{place:?} is not host:port with a port from 1 to 65535");
                return Err(DocumentError::field(
                    format!("config.egress[{index}]"),
                    reason,
                ));
            }
        }
        Ok(())
    }
}

/// Checks a cryptlet's name by the register's rules, so that nobody pays for a transaction that it refuses.
///
/// # Errors
/// Names the rule.
pub fn check_name(name: &str) -> Result<(), DocumentError> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 64 || !name.chars().all(allowed) {
        return Err(DocumentError::field(
            "name",
            "1 to 64 characters of a-z, 0-9 and -",
        ));
    }
    if name.starts_with('-') || name.ends_with('-') || name.contains("--") {
        return Err(DocumentError::field(
            "name",
            "a hyphen stands alone between two other characters",
        ));
    }
    Ok(())
}

/// Checks a version's label.
fn check_label(label: &str) -> Result<(), DocumentError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
    if label.is_empty() || label.len() > 32 || !label.chars().all(allowed) {
        return Err(DocumentError::field(
            "version",
            "1 to 32 characters of a-z, A-Z, 0-9, '.', '-' and '+'",
        ));
    }
    Ok(())
}

/// Splits `host:port`; lower-case host names and IPv4 addresses only, the port without sign or leading zero.
#[must_use]
pub fn split_place(place: &str) -> Option<(&str, u16)> {
    let (host, port) = place.rsplit_once(':')?;
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    let number: u16 = port.parse().ok().filter(|number| *number != 0)?;
    (number.to_string() == port
        && !host.is_empty()
        && host.len() <= 253
        && host.chars().all(allowed))
    .then_some((host, number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const VALID: &str = r#"{"name":"market-watcher","publicKey":"0x00000000000000000000000000000000000000a1",
        "version":"0.1.0","config":{"description":"d","isolation":true,"egress":["rates.example:443"]}}"#;

    #[test]
    fn a_valid_manifest_survives_a_round_trip() {
        let manifest = Manifest::from_json(VALID.as_bytes()).unwrap();
        assert_eq!(manifest.config.limits, Limits::default());
        assert_eq!(
            Manifest::from_json(&manifest.to_json().unwrap()),
            Ok(manifest)
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        let cases = [
            (VALID.replace("\"version\"", "\"vresion\""), "vresion"),
            (VALID.replace("\"isolation\":true,", ""), "isolation"),
            (VALID.replace("market-watcher", "Market Watcher"), "name"),
            (VALID.replace("market-watcher", "market--watcher"), "name"),
            (VALID.replace("market-watcher", "m\u{430}rket"), "name"),
            (VALID.replace("0.1.0", "0.1 0"), "version"),
            (
                VALID.replace("\"egress\"", "\"imports\":[\"http\",\"http\"],\"egress\""),
                "config.imports[1]",
            ),
            (
                VALID.replace("\"egress\"", "\"triggers\":[],\"egress\""),
                "config.triggers",
            ),
            (VALID.replace("a1\"", "00\""), "publicKey"),
            (VALID.replace(":443", ":0"), "config.egress[0]"),
            (
                VALID.replace("\"description\"", "\"netwrok\":1,\"description\""),
                "netwrok",
            ),
        ];
        for (text, field) in cases {
            let error = Manifest::from_json(text.as_bytes())
                .unwrap_err()
                .to_string();
            assert!(error.contains(field), "{error} does not name {field}");
        }
    }

    #[test]
    fn a_document_of_2_mib_is_not_parsed() {
        assert_eq!(
            Manifest::from_json(&vec![b' '; 2 << 20]),
            Err(DocumentError::TooLarge(2 << 20))
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}") {
            let _ = Manifest::from_json(text.as_bytes());
            let _ = split_place(&text);
        }
    }
}
