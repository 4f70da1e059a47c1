//! Applications, and what they say.

use super::{Bounded, FormError, object::present, text::serde_as_text, text::text_schema};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

const PUBLIC_PREFIX: &str = "whpk_";

/// Encodings of the points of Ed25519 whose order is small, without the bit of the sign. Under such a key a signature holds
/// that nobody made.
const SMALL_ORDER: [[u8; 32]; 7] = [
    [0; 32],
    ends(1, 0, 0),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    ends(0xec, 0xff, 0x7f),
    ends(0xed, 0xff, 0x7f),
    ends(0xee, 0xff, 0x7f),
];

/// Bytes with this first, these in the middle, and this last.
const fn ends(first: u8, middle: u8, last: u8) -> [u8; 32] {
    let mut bytes = [middle; 32];
    [bytes[0], bytes[31]] = [first, last];
    bytes
}

/// A public key of Ed25519 as Standard Webhooks writes it: `whpk_` and base64 of its 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WebhookPublicKey([u8; 32]);

impl WebhookPublicKey {
    /// Wraps a key's bytes.
    ///
    /// # Errors
    /// If under this key a signature holds that nobody made.
    pub fn new(bytes: [u8; 32]) -> Result<Self, FormError> {
        let [rest @ .., last] = bytes;
        let mut unsigned = [0; 32];
        for (to, from) in unsigned
            .iter_mut()
            .zip(rest.into_iter().chain([last & 0x7f]))
        {
            *to = from;
        }
        if SMALL_ORDER.contains(&unsigned) {
            return Err(FormError(
                "expected a public key that has a private one; this is a point of small order"
                    .to_owned(),
            ));
        }
        Ok(Self(bytes))
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Display for WebhookPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0))
    }
}

impl FromStr for WebhookPublicKey {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let bytes = text
            .strip_prefix(PUBLIC_PREFIX)
            .and_then(|text| STANDARD.decode(text).ok())
            .and_then(|bytes| bytes.try_into().ok());
        let wrong = || FormError("expected whpk_ and base64 of an Ed25519 public key".to_owned());
        Self::new(bytes.ok_or_else(wrong)?)
    }
}

serde_as_text!([] WebhookPublicKey);

impl PartialSchema for WebhookPublicKey {
    fn schema() -> RefOr<Schema> {
        text_schema(
            "^whpk_[A-Za-z0-9+/]{42}[AEIMQUYcgkosw048]=$",
            49,
            Some(49),
            "Public key of Ed25519: whpk_ and base64 of its 32 bytes.",
        )
    }
}

impl ToSchema for WebhookPublicKey {}

/// How an application signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ApplicationKind {
    /// With a secret that it shares with the host (`v1`).
    Hmac,
    /// With a private key that it alone has (`v1a`).
    Ed25519,
}

impl fmt::Display for ApplicationKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hmac => "hmac",
            Self::Ed25519 => "ed25519",
        })
    }
}

/// Which application to register.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewApplication {
    /// The name that subscriptions say.
    pub name: super::ApplicationName,
    /// How it signs.
    pub kind: ApplicationKind,
    /// Its public key; needed for `ed25519`, and for that alone.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(nullable = false)]
    pub public_key: Option<WebhookPublicKey>,
}

/// For how long an earlier key counts beside the new one, in seconds: not at all to 30 days.
pub type Overlap = Bounded<0, 2_592_000>;

/// How to exchange an application's key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewApplicationKey {
    /// For how long the earlier key counts still, in seconds.
    #[schema(inline)]
    pub overlap_seconds: Overlap,
    /// The new public key; needed for `ed25519`, and for that alone.
    #[serde(
        default,
        deserialize_with = "present",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(nullable = false)]
    pub public_key: Option<WebhookPublicKey>,
}

/// A registered application, but not its secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationInfo {
    /// Its name.
    pub name: super::ApplicationName,
    /// How it signs.
    pub kind: ApplicationKind,
    /// When it was registered.
    pub created: u64,
    /// Keys that count, newest first.
    pub keys: Vec<ApplicationKeyInfo>,
}

/// A key of an application.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationKeyInfo {
    /// When it was made or handed in.
    pub created: u64,
    /// From this moment on it counts no more; nothing: it does until it is exchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// The public key; nothing: it is a shared secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<WebhookPublicKey>,
}

/// A new application, or one with a new key. The secret is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedApplication {
    /// What it signs with, `whsec_` and base64; nothing: it has a private key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// The application without its secret.
    pub info: ApplicationInfo,
}

impl fmt::Debug for CreatedApplication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedApplication")
            .field("info", &self.info)
            .finish_non_exhaustive()
    }
}

impl Drop for CreatedApplication {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.secret);
    }
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageReceipt {
    /// It was there already, and nothing more happens; otherwise it is kept from now on.
    pub known: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, UnparsedPublicKey};

    #[test]
    fn a_public_key_has_one_form() {
        let bytes = [7; 32];
        let text = WebhookPublicKey::new(bytes).unwrap().to_string();
        assert_eq!(text.len(), 49);
        assert_eq!(text.parse::<WebhookPublicKey>().unwrap().bytes(), bytes);
        let short = format!("whpk_{}", STANDARD.encode([7; 31]));
        let (bare, cut) = (text.replace("whpk_", ""), text.replace('=', ""));
        for wrong in ["", "whpk_", &bare, &cut, &short, "whpk_!"] {
            assert!(wrong.parse::<WebhookPublicKey>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_under_which_anybody_signs_is_refused() {
        // The neutral point is key and commitment; zero is the proof: it holds for whatever is said.
        let (mut neutral, mut forged) = ([0; 32], [0; 64]);
        (neutral[0], forged[0]) = (1, 1);
        let key = UnparsedPublicKey::new(&ED25519, neutral);
        assert!(key.verify(b"whatever", &forged).is_ok());
        for mut point in SMALL_ORDER {
            assert!(WebhookPublicKey::new(point).is_err());
            point[31] |= 0x80;
            assert!(WebhookPublicKey::new(point).is_err());
        }
    }
}
