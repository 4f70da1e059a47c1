//! Signatures of applications, as Standard Webhooks 1.0.0 has them.
//!
//! An application signs `ID.TIMESTAMP.BODY`, where id and timestamp stand in the header fields `webhook-id` and
//! `webhook-timestamp`, and puts one or more signatures into `webhook-signature`: `v1,` and the base64 of
//! HMAC-SHA256, or `v1a,` and the base64 of an Ed25519 signature, with spaces between them. Nothing else of a request is
//! signed, and so nothing else of it counts.

use crate::types::{FormError, Problem, ProblemKind, WebhookPublicKey, text_schema};
use axum::http::HeaderMap;
use base64::{Engine, engine::general_purpose::STANDARD};
use cryptlet_types::UnixSeconds;
use ring::{
    hmac,
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use std::fmt;
use subtle::ConstantTimeEq;
use utoipa::openapi::{RefOr, Schema};
use zeroize::Zeroizing;

/// Header field with the id of a message: the same id is the same message.
pub const ID: &str = "webhook-id";
/// Header field with the moment of the attempt, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// Header field with the signatures.
pub const SIGNATURE: &str = "webhook-signature";
/// How far the moment of an attempt may lie from the host's clock, in seconds, either way.
pub const TOLERANCE_SECONDS: u64 = 300;
/// Most bytes of an id.
pub const MAX_ID_BYTES: usize = 128;
/// Most signatures of a message: those of two secrets, and some of versions to come.
const MAX_SIGNATURES: usize = 8;
/// Bytes of a secret, at least and at most.
const SECRET_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Bytes of a secret that a host makes.
const NEW_SECRET_BYTES: usize = 32;
const SECRET_PREFIX: &str = "whsec_";
const PRIVATE_PREFIX: &str = "whsk_";

/// What an application's signatures are checked with.
#[derive(Clone, PartialEq, Eq)]
pub enum VerifyingKey {
    /// The secret that host and application share (`v1`).
    Hmac(Zeroizing<Vec<u8>>),
    /// The application's public key (`v1a`).
    Ed25519([u8; 32]),
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hmac(_) => "Hmac",
            Self::Ed25519(_) => "Ed25519",
        })
    }
}

impl VerifyingKey {
    /// A new secret of 32 bytes.
    #[must_use]
    pub fn new_secret() -> Zeroizing<Vec<u8>> {
        let mut secret = Zeroizing::new(vec![0; NEW_SECRET_BYTES]);
        rand::Rng::fill(&mut rand::rng(), secret.as_mut_slice());
        secret
    }
}

/// A secret as it is shown: `whsec_` and base64.
#[must_use]
pub fn secret_text(secret: &[u8]) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(2 * secret.len() + 16));
    text.push_str(SECRET_PREFIX);
    STANDARD.encode_string(secret, &mut text);
    text
}

/// A new id of a message.
#[must_use]
pub fn new_id() -> String {
    let number: u128 = rand::Rng::random(&mut rand::rng());
    format!("msg_{number:032x}")
}

/// What an application signs with.
pub struct SigningKey(Signs);

enum Signs {
    Hmac(Zeroizing<Vec<u8>>),
    Ed25519(Box<Ed25519KeyPair>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey")
    }
}

impl SigningKey {
    /// Reads `whsec_` and base64 of 24 to 64 bytes, or `whsk_` and base64 of an Ed25519 private key: its seed of 32 bytes,
    /// or seed and public key.
    ///
    /// # Errors
    /// If it is neither. The error does not repeat the text.
    pub fn parse(text: &str) -> Result<Self, FormError> {
        let wrong = || {
            FormError(
                "expected whsec_ and base64 of 24 to 64 bytes, or whsk_ and base64 of an Ed25519 private key"
                    .to_owned(),
            )
        };
        let decode = |text: &str| {
            let bytes = STANDARD.decode(text).map(Zeroizing::new);
            bytes.map_err(|_| wrong())
        };
        if let Some(text) = text.strip_prefix(SECRET_PREFIX) {
            let secret = decode(text)?;
            return if SECRET_BYTES.contains(&secret.len()) {
                Ok(Self(Signs::Hmac(secret)))
            } else {
                Err(wrong())
            };
        }
        let key = decode(text.strip_prefix(PRIVATE_PREFIX).ok_or_else(wrong)?)?;
        let pair = match key.split_at_checked(32) {
            Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed),
            Some((seed, public)) => Ed25519KeyPair::from_seed_and_public_key(seed, public),
            None => return Err(wrong()),
        };
        let pair = pair.map_err(|_| wrong())?;
        Ok(Self(Signs::Ed25519(Box::new(pair))))
    }

    /// What the host checks its signatures with, if that may be shown.
    #[must_use]
    pub fn public(&self) -> Option<WebhookPublicKey> {
        let Signs::Ed25519(pair) = &self.0 else {
            return None;
        };
        let bytes = pair.public_key().as_ref().try_into().ok()?;
        WebhookPublicKey::new(bytes).ok()
    }

    /// One entry of `webhook-signature`.
    #[must_use]
    pub fn sign(&self, id: &str, at: UnixSeconds, body: &[u8]) -> String {
        let content = content(id, &at.to_string(), body);
        match &self.0 {
            Signs::Hmac(secret) => format!("v1,{}", STANDARD.encode(tag(secret, &content))),
            Signs::Ed25519(pair) => format!("v1a,{}", STANDARD.encode(pair.sign(&content))),
        }
    }
}

fn tag(secret: &[u8], content: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), content)
}

fn content(id: &str, at: &str, body: &[u8]) -> Vec<u8> {
    [id.as_bytes(), b".", at.as_bytes(), b".", body].concat()
}

#[derive(Debug)]
enum Signature {
    Hmac([u8; 32]),
    Ed25519([u8; 64]),
}

/// What the header of a signed message says, in the right form and at about the right time. Nothing of it is proven yet.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) id: String,
    /// As it stands in the field: the signature is over these characters.
    at: String,
    signatures: Vec<Signature>,
}

impl Head {
    /// Reads the three header fields. This costs next to nothing, and needs no secret.
    ///
    /// # Errors
    /// Names the field.
    pub(crate) fn read(headers: &HeaderMap, now: UnixSeconds) -> Result<Self, Problem> {
        let id = field(headers, ID)?;
        let right = |byte: u8| byte.is_ascii_graphic() && byte != b'.';
        if !(1..=MAX_ID_BYTES).contains(&id.len()) || !id.bytes().all(right) {
            let expected = format!("1 to {MAX_ID_BYTES} printable characters, no space or dot");
            return Err(refused(ID, expected));
        }
        let at = field(headers, TIMESTAMP)?;
        check_time(at, now)?;
        let signatures = signatures(field(headers, SIGNATURE)?)?;
        Ok(Self {
            id: id.to_owned(),
            at: at.to_owned(),
            signatures,
        })
    }

    /// Whether one of the signatures is by one of the keys. All are looked at, so that the time that it takes does not say
    /// which.
    pub(crate) fn is_signed_by(&self, keys: &[VerifyingKey], body: &[u8]) -> bool {
        let content = content(&self.id, &self.at, body);
        let mut signed = false;
        for key in keys {
            match key {
                VerifyingKey::Hmac(secret) => {
                    let tag = tag(secret, &content);
                    for signature in &self.signatures {
                        if let Signature::Hmac(signature) = signature {
                            signed |= bool::from(signature.ct_eq(tag.as_ref()));
                        }
                    }
                }
                VerifyingKey::Ed25519(public) => {
                    let public = UnparsedPublicKey::new(&ED25519, public);
                    for signature in &self.signatures {
                        if let Signature::Ed25519(signature) = signature {
                            signed |= public.verify(&content, signature).is_ok();
                        }
                    }
                }
            }
        }
        signed
    }
}

pub(crate) fn id_schema() -> RefOr<Schema> {
    text_schema("^[!-\\-/-~]+$", 1, Some(MAX_ID_BYTES), "No space, no dot.")
}

pub(crate) fn timestamp_schema() -> RefOr<Schema> {
    text_schema("^[0-9]+$", 1, Some(12), "Seconds since 1970.")
}

pub(crate) fn signature_schema() -> RefOr<Schema> {
    let pattern = "^[a-z0-9]+,[A-Za-z0-9+/]+=*( [a-z0-9]+,[A-Za-z0-9+/]+=*)*$";
    text_schema(
        pattern,
        5,
        Some(1_024),
        "Up to 8 signatures, a space between two.",
    )
}

/// The one value of a field. Two would be one for the check and another for the use.
fn field<'h>(headers: &'h HeaderMap, name: &'static str) -> Result<&'h str, Problem> {
    let mut values = headers.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refused(name, "exactly one of them"));
    };
    let text = value.to_str();
    text.map_err(|_| refused(name, "printable characters"))
}

fn check_time(at: &str, now: UnixSeconds) -> Result<(), Problem> {
    let digits = (1..=12).contains(&at.len()) && at.bytes().all(|byte| byte.is_ascii_digit());
    let seconds = Some(at).filter(|_| digits).and_then(|at| at.parse().ok());
    let Some(seconds) = seconds else {
        return Err(refused(TIMESTAMP, "seconds since 1970, digits only"));
    };
    if now.abs_diff(seconds) > TOLERANCE_SECONDS {
        let expected = format!(
            "a moment at most {TOLERANCE_SECONDS} seconds from the host's clock, which is at {now}"
        );
        return Err(refused(TIMESTAMP, expected));
    }
    Ok(())
}

/// Signatures of versions that are not known are left out, as the specification has it.
fn signatures(text: &str) -> Result<Vec<Signature>, Problem> {
    let entries: Vec<_> = text.split(' ').filter(|entry| !entry.is_empty()).collect();
    if entries.len() > MAX_SIGNATURES {
        return Err(refused(
            SIGNATURE,
            format!("at most {MAX_SIGNATURES} of them"),
        ));
    }
    let mut signatures = Vec::with_capacity(entries.len());
    for entry in entries {
        let wrong = || refused(SIGNATURE, "VERSION,BASE64 with spaces between them");
        let (version, text) = entry.split_once(',').ok_or_else(wrong)?;
        let bytes = STANDARD.decode(text).map_err(|_| wrong());
        let signature = match version {
            "v1" => bytes?.try_into().map(Signature::Hmac),
            "v1a" => bytes?.try_into().map(Signature::Ed25519),
            _ => continue,
        };
        signatures.push(signature.map_err(|_| wrong())?);
    }
    if signatures.is_empty() {
        return Err(refused(SIGNATURE, "a signature of version v1 or v1a"));
    }
    Ok(signatures)
}

fn refused(field: &'static str, expected: impl fmt::Display) -> Problem {
    Problem::new(
        ProblemKind::Unauthenticated,
        format!("{field}: expected {expected}"),
        "sign the message as Standard Webhooks says, anew for each attempt, by a clock that is right",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const NOW: UnixSeconds = 1_614_265_330;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        fields
            .iter()
            .map(|(name, value)| ((*name).parse().unwrap(), value.parse().unwrap()))
            .collect()
    }

    fn head(id: &str, at: &str, signature: &str) -> Result<Head, Problem> {
        Head::read(
            &headers(&[(ID, id), (TIMESTAMP, at), (SIGNATURE, signature)]),
            NOW,
        )
    }

    fn hmac_key(text: &str) -> VerifyingKey {
        let Signs::Hmac(secret) = SigningKey::parse(text).unwrap().0 else {
            panic!("another kind")
        };
        VerifyingKey::Hmac(secret)
    }

    fn seed(byte: u8) -> SigningKey {
        let text = format!("whsk_{}", STANDARD.encode([byte; 32]));
        SigningKey::parse(&text).unwrap()
    }

    fn ed25519_key(key: &SigningKey) -> VerifyingKey {
        VerifyingKey::Ed25519(key.public().unwrap().bytes())
    }

    /// The example that the libraries of Standard Webhooks are tested with.
    #[test]
    fn the_published_example_holds() {
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", br#"{"test": 2432232314}"#);
        let signature = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let key = SigningKey::parse(SECRET).unwrap();
        assert_eq!(key.sign(id, NOW, body), signature);
        let head = head(id, &NOW.to_string(), signature).unwrap();
        assert!(head.is_signed_by(&[hmac_key(SECRET)], body));
        assert_eq!(
            secret_text(&[7; 32]).as_str(),
            format!("whsec_{}", STANDARD.encode([7; 32]))
        );
    }

    #[test]
    fn what_was_altered_or_signed_by_another_is_not_signed() {
        let (own, other) = (seed(1), seed(2));
        let cases = [
            (SigningKey::parse(SECRET).unwrap(), hmac_key(SECRET), {
                hmac_key(&secret_text(&[9; 32]))
            }),
            (seed(1), ed25519_key(&own), ed25519_key(&other)),
        ];
        for (signing, key, another) in cases {
            let keys = [key];
            let signature = signing.sign("a", NOW, b"body");
            let now = NOW.to_string();
            let signed = |id, at: &str, body: &[u8], keys: &[VerifyingKey]| {
                head(id, at, &signature).unwrap().is_signed_by(keys, body)
            };
            assert!(signed("a", &now, b"body", &keys));
            assert!(!signed("b", &now, b"body", &keys), "id");
            assert!(!signed("a", &(NOW + 1).to_string(), b"body", &keys), "time");
            assert!(!signed("a", &format!("0{now}"), b"body", &keys), "spelling");
            assert!(!signed("a", &now, b"Body", &keys), "body");
            assert!(!signed("a", &now, b"body", &[another]), "another's key");
            assert!(!signed("a", &now, b"body", &[]), "no key");
        }
        // A public key is no secret: what is signed with it as one does not count.
        let VerifyingKey::Ed25519(public) = ed25519_key(&own) else {
            panic!("another kind")
        };
        let confused = SigningKey(Signs::Hmac(Zeroizing::new(public.to_vec())));
        let confused = head("a", &NOW.to_string(), &confused.sign("a", NOW, b"x")).unwrap();
        assert!(!confused.is_signed_by(&[ed25519_key(&own)], b"x"));
    }

    #[test]
    fn one_of_several_signatures_and_one_of_two_keys_is_enough() {
        let (old, new) = (secret_text(&[1; 32]), secret_text(&[2; 32]));
        let sign = |text| SigningKey::parse(text).unwrap().sign("a", NOW, b"x");
        let both = format!("{} v2,dG8= {}", sign(&old), sign(&new));
        let now = NOW.to_string();
        for (signature, keys, holds) in [
            (both.as_str(), vec![hmac_key(&new)], true),
            (both.as_str(), vec![hmac_key(&old)], true),
            (
                sign(&old).as_str(),
                vec![hmac_key(&new), hmac_key(&old)],
                true,
            ),
            (sign(&old).as_str(), vec![hmac_key(&new)], false),
        ] {
            let head = head("a", &now, signature).unwrap();
            assert_eq!(head.is_signed_by(&keys, b"x"), holds);
        }
    }

    #[test]
    fn a_field_that_is_not_right_is_named() {
        let good = SigningKey::parse(SECRET).unwrap().sign("a", NOW, b"x");
        let now = NOW.to_string();
        let (early, late) = ((NOW - 300).to_string(), (NOW + 300).to_string());
        for at in [&early, &now, &late] {
            head("a", at, &good).unwrap();
        }
        let many = [good.as_str(); 9].join(" ");
        let long = "x".repeat(129);
        let (stale, future) = ((NOW - 301).to_string(), (NOW + 301).to_string());
        for (id, at, signature, named) in [
            ("", now.as_str(), good.as_str(), ID),
            ("a.b", &now, &good, ID),
            ("a b", &now, &good, ID),
            (&long, &now, &good, ID),
            ("a", "", &good, TIMESTAMP),
            ("a", &stale, &good, TIMESTAMP),
            ("a", &future, &good, TIMESTAMP),
            ("a", "+1614265330", &good, TIMESTAMP),
            ("a", "1614265330.0", &good, TIMESTAMP),
            ("a", "99999999999999999999", &good, TIMESTAMP),
            ("a", &now, "", SIGNATURE),
            ("a", &now, "v1", SIGNATURE),
            ("a", &now, "v1,AAAA", SIGNATURE),
            ("a", &now, "v1,????", SIGNATURE),
            ("a", &now, "v1a,AAAA", SIGNATURE),
            ("a", &now, "v2,AAAA", SIGNATURE),
            ("a", &now, &many, SIGNATURE),
        ] {
            let problem = head(id, at, signature).unwrap_err();
            assert_eq!(problem.kind, ProblemKind::Unauthenticated);
            assert!(problem.detail.starts_with(named), "{problem}");
        }
        for missing in [ID, TIMESTAMP, SIGNATURE] {
            let all = [
                (ID, "a"),
                (TIMESTAMP, now.as_str()),
                (SIGNATURE, good.as_str()),
            ];
            let rest: Vec<_> = all
                .into_iter()
                .filter(|(name, _)| *name != missing)
                .collect();
            let problem = Head::read(&headers(&rest), NOW).unwrap_err();
            assert!(problem.detail.starts_with(missing), "{problem}");
            let mut twice = headers(&all);
            twice.append(missing, "1".parse().unwrap());
            let problem = Head::read(&twice, NOW).unwrap_err();
            assert!(problem.detail.starts_with(missing), "{problem}");
        }
    }

    #[test]
    fn keys_are_read_strictly_and_never_shown() {
        let pair = [[3; 32].as_slice(), &seed(3).public().unwrap().bytes()].concat();
        let whole = SigningKey::parse(&format!("whsk_{}", STANDARD.encode(&pair))).unwrap();
        assert_eq!(whole.public(), seed(3).public());
        let mut torn = pair;
        torn[40] ^= 1;
        for wrong in [
            String::new(),
            "whsec_".to_owned(),
            format!("whsec_{}", STANDARD.encode([1; 23])),
            format!("whsec_{}", STANDARD.encode([1; 65])),
            format!("whsk_{}", STANDARD.encode([1; 31])),
            format!("whsk_{}", STANDARD.encode(&torn)),
            STANDARD.encode([1; 32]),
        ] {
            let error = SigningKey::parse(&wrong).unwrap_err();
            assert!(wrong.len() < 8 || !error.to_string().contains(&wrong));
        }
        let (key, secret) = (SigningKey::parse(SECRET).unwrap(), hmac_key(SECRET));
        assert_eq!(format!("{key:?} {secret:?}"), "SigningKey Hmac");
        assert_ne!(VerifyingKey::new_secret(), VerifyingKey::new_secret());
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(id in ".*", at in "\\PC{0,20}", signature in "[v1a,+/=A-Za-z0-9 ]{0,200}") {
            let mut headers = HeaderMap::new();
            for (name, value) in [(ID, id), (TIMESTAMP, at), (SIGNATURE, signature)] {
                if let Ok(value) = axum::http::HeaderValue::from_str(&value) {
                    headers.insert(name, value);
                }
            }
            if let Ok(head) = Head::read(&headers, NOW) {
                prop_assert!(!head.is_signed_by(&[hmac_key(SECRET)], b"x"));
            }
        }
    }
}
