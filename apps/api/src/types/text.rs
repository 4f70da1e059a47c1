//! Values that travel as text and are read strictly: one spelling of the type, nothing else.
//!
//! The schema of each is exactly what its parser takes, so that a generator of requests can rely on it.

use alloy_primitives::{Address, Bytes, FixedBytes};
use base64::{Engine, engine::general_purpose::STANDARD};
use cryptlet_types::{CryptletId, JobId, Sha256Digest, Subject};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr};
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type, schema::SchemaType},
};

/// A text or number is not of the form that its field asks for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FormError(pub(crate) String);

impl FormError {
    fn expected(what: impl fmt::Display) -> Self {
        Self(format!("expected {what}"))
    }

    /// Whether trying again can help: never with the same value.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Reads a value from a JSON string by its `FromStr`.
macro_rules! serde_as_text {
    ([$($generics:tt)*] $type:ty) => {
        impl<$($generics)*> Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de, $($generics)*> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

pub(crate) use serde_as_text;

/// A schema that stands where it is used, without a name of its own.
pub(crate) fn text_schema(
    pattern: &str,
    min: usize,
    max: Option<usize>,
    description: &str,
) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(SchemaType::Type(Type::String))
        .pattern(Some(pattern))
        .min_length(Some(min))
        .max_length(max)
        .description(Some(description))
        .into()
}

/// `N` bytes as `0x` and `2N` hex digits. Written in lower case, read in any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hex<const N: usize>(pub FixedBytes<N>);

impl<const N: usize> fmt::Display for Hex<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl<const N: usize> FromStr for Hex<N> {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let wrong = || FormError::expected(format_args!("0x and {} hex digits", 2 * N));
        let digits = text.strip_prefix("0x").ok_or_else(wrong)?;
        if digits.len() != 2 * N {
            return Err(wrong());
        }
        digits.parse().map(Self).map_err(|_| wrong())
    }
}

serde_as_text!([const N: usize] Hex<N>);

impl<const N: usize> PartialSchema for Hex<N> {
    fn schema() -> RefOr<Schema> {
        let length = 2 + 2 * N;
        text_schema(
            &format!("^0x[0-9a-fA-F]{{{}}}$", 2 * N),
            length,
            Some(length),
            &format!("{N} bytes in hex."),
        )
    }
}

impl<const N: usize> ToSchema for Hex<N> {
    fn name() -> Cow<'static, str> {
        format!("Bytes{N}").into()
    }
}

/// A selector.
pub type Bytes4 = Hex<4>;
/// An address, or a cryptlet's id.
pub type Bytes20 = Hex<20>;
/// A digest, a subject, a job's id.
pub type Bytes32 = Hex<32>;

impl<const N: usize> From<FixedBytes<N>> for Hex<N> {
    fn from(bytes: FixedBytes<N>) -> Self {
        Self(bytes)
    }
}

macro_rules! hex_of {
    ($size:literal: $($type:ty => $wrap:expr, $unwrap:expr;)*) => {$(
        impl From<$type> for Hex<$size> {
            fn from(value: $type) -> Self {
                Self($unwrap(value))
            }
        }
        impl From<Hex<$size>> for $type {
            fn from(value: Hex<$size>) -> Self {
                $wrap(value.0)
            }
        }
    )*};
}

hex_of!(20:
    Address => Address, |address: Address| address.0;
    CryptletId => |bytes| CryptletId(Address(bytes)), |id: CryptletId| id.0.0;
);
hex_of!(32:
    Sha256Digest => Sha256Digest, |digest: Sha256Digest| digest.0;
    Subject => Subject, |subject: Subject| subject.0;
    JobId => JobId, |job: JobId| job.0;
);

/// Bytes of any length up to [`HexBytes::MAX`], as `0x` and hex digits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HexBytes(pub Bytes);

impl HexBytes {
    /// Most bytes: 8 KiB. A signature of a contract wallet may take some kilobytes.
    pub const MAX: usize = 8 << 10;
}

impl fmt::Display for HexBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl FromStr for HexBytes {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let wrong = || {
            FormError::expected(format_args!(
                "0x and hex digits, two for each of at most {} bytes",
                Self::MAX
            ))
        };
        let digits = text.strip_prefix("0x").ok_or_else(wrong)?;
        if digits.len() > 2 * Self::MAX || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        text.parse().map(Self).map_err(|_| wrong())
    }
}

serde_as_text!([] HexBytes);

impl PartialSchema for HexBytes {
    fn schema() -> RefOr<Schema> {
        let max = 2 + 2 * Self::MAX;
        text_schema("^0x([0-9a-fA-F]{2})*$", 2, Some(max), "Bytes in hex.")
    }
}

impl ToSchema for HexBytes {}

/// Bytes in base64 (RFC 4648, section 4: standard alphabet, padded, canonical).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Base64(pub Bytes);

impl fmt::Display for Base64 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(&self.0))
    }
}

impl FromStr for Base64 {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let bytes = STANDARD.decode(text);
        bytes
            .map(|bytes| Self(bytes.into()))
            .map_err(|_| FormError::expected("base64 with padding"))
    }
}

serde_as_text!([] Base64);

impl PartialSchema for Base64 {
    fn schema() -> RefOr<Schema> {
        // The last character before padding may only hold the bits that are used.
        let pattern =
            "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";
        text_schema(pattern, 0, None, "Bytes in base64, padded.")
    }
}

impl ToSchema for Base64 {}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bounded<const MIN: u64, const MAX: u64>(u64);

impl<const MIN: u64, const MAX: u64> Bounded<MIN, MAX> {
    /// Wraps `number`.
    ///
    /// # Errors
    /// If it lies outside.
    pub fn new(number: u64) -> Result<Self, FormError> {
        if (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(Self::wrong())
        }
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    fn wrong() -> FormError {
        FormError::expected(format_args!("a whole number from {MIN} to {MAX}"))
    }
}

impl<const MIN: u64, const MAX: u64> FromStr for Bounded<MIN, MAX> {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        if !text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(Self::wrong());
        }
        Self::new(text.parse().map_err(|_| Self::wrong())?)
    }
}

impl<const MIN: u64, const MAX: u64> Serialize for Bounded<MIN, MAX> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(self.0)
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_u64(WholeNumber)
            .and_then(|number| Self::new(number).map_err(de::Error::custom))
    }
}

/// A number without a fraction, however JSON spells it: 60, 60.0 and 6e1 are the same.
struct WholeNumber;

impl de::Visitor<'_> for WholeNumber {
    type Value = u64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<u64, E> {
        Ok(number)
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
        // Up to 2^53 every whole number is exact.
        let exact = number.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(&number);
        let digits = exact.then(|| format!("{number:.0}").parse().ok()).flatten();
        digits.ok_or_else(|| E::invalid_value(de::Unexpected::Float(number), &self))
    }
}

impl<const MIN: u64, const MAX: u64> PartialSchema for Bounded<MIN, MAX> {
    fn schema() -> RefOr<Schema> {
        // The bounds in use are far below 2^53, up to which f64 is exact.
        let (min, max) = (MIN as f64, MAX as f64);
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::Integer))
            .minimum(Some(min))
            .maximum(Some(max))
            .into()
    }
}

impl<const MIN: u64, const MAX: u64> ToSchema for Bounded<MIN, MAX> {
    fn name() -> Cow<'static, str> {
        format!("From{MIN}To{MAX}").into()
    }
}

/// A moment in seconds since 1970, up to the end of the year 9999.
pub type Moment = Bounded<0, 253_402_300_799>;
/// A version's number: 1, 2, 3.
pub type VersionNumber = Bounded<1, 4_294_967_295>;

/// Text of one form.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $min:literal..=$max:literal, $expected:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = FormError;

            fn from_str(text: &str) -> Result<Self, FormError> {
                let check: fn(&str) -> bool = $check;
                if ($min..=$max).contains(&text.len()) && check(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(FormError::expected($expected))
                }
            }
        }

        serde_as_text!([] $name);

        impl PartialSchema for $name {
            fn schema() -> RefOr<Schema> {
                text_schema($pattern, $min, Some($max), concat!("Text: ", $expected, "."))
            }
        }

        impl ToSchema for $name {}
    };
}

fn is_name(text: &str) -> bool {
    text.split('-').all(|part| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    })
}

/// No dot at an end: a segment of a path that is nothing but dots means another path.
fn is_application_name(text: &str) -> bool {
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.iter().all(|byte| plain(byte) || b".-".contains(byte))
        && bytes.first().is_some_and(plain)
        && bytes.last().is_some_and(plain)
}

fn all(text: &str, extra: &[u8]) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || extra.contains(&byte))
}

text!(
    /// A cryptlet's name.
    Name, "^[a-z0-9]+(-[a-z0-9]+)*$", 1..=64,
    "1 to 64 of a-z, 0-9 and hyphen, no hyphen first, last or doubled", is_name
);
text!(
    /// A cryptlet in a path: its name, or its id as `0x` and 40 hex digits.
    CryptletRef, "^([a-z0-9]+(-[a-z0-9]+)*|0x[0-9a-fA-F]{40})$", 1..=64,
    "a cryptlet's name, or its id as 0x and 40 hex digits",
    |text| is_name(text) || text.parse::<Hex<20>>().is_ok()
);
text!(
    /// Words to search for: part of a name, or of an id.
    SearchText, "^[0-9A-Za-z -]+$", 1..=64,
    "1 to 64 letters, digits, spaces and hyphens", |text| all(text, b" -")
);
text!(
    /// Where a page of a list begins: what `next` of the page before said.
    Cursor, "^[0-9A-Za-z._-]+$", 1..=256,
    "what next of the page before said", |text| all(text, b"._-")
);
text!(
    /// What a token is for, in its maker's words.
    Label, "^[0-9A-Za-z][0-9A-Za-z ._@-]*$", 1..=64,
    "1 to 64 letters, digits, spaces and ._@-, beginning with a letter or digit",
    |text| all(text, b" ._@-") && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
);
text!(
    /// Names a token without being one.
    TokenId, "^[0-9a-f]{16}$", 16..=16,
    "16 hex digits in lower case",
    |text| text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
);

text!(
    /// The name of an application.
    ApplicationName, "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", 1..=128,
    "1 to 128 of a-z, 0-9, hyphen and dot, beginning and ending with a letter or digit", is_application_name
);

impl CryptletRef {
    /// The id, if it is one. A name of this very form cannot be asked for: it is read as an id, so that a name
    /// never passes for somebody else's id.
    #[must_use]
    pub fn id(&self) -> Option<CryptletId> {
        self.0.parse::<Hex<20>>().ok().map(CryptletId::from)
    }
}

impl From<Name> for CryptletRef {
    fn from(name: Name) -> Self {
        Self(name.0)
    }
}

impl From<CryptletId> for CryptletRef {
    fn from(id: CryptletId) -> Self {
        Self(Hex::<20>::from(id).to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_application_has_a_name_that_a_path_leaves_as_it_is() {
        let longest = "x".repeat(128);
        for right in ["a", "7", "crm", "crm.example-1.org", "a..b", &longest] {
            assert!(right.parse::<ApplicationName>().is_ok(), "{right}");
        }
        let long = "x".repeat(129);
        for wrong in ["", ".", "..", "-a", "a.", "A", "a_b", "a/b", "a b", &long] {
            assert!(wrong.parse::<ApplicationName>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn hex_has_one_form() {
        let address = format!("0x{}", "aB".repeat(20));
        let read: Hex<20> = address.parse().unwrap();
        assert_eq!(read.to_string(), address.to_lowercase());
        for wrong in [
            "",
            "0x",
            address.get(2..).unwrap(),
            address.get(..41).unwrap(),
            &format!("0X{}", "ab".repeat(20)),
            &format!("0x{}", "zz".repeat(20)),
            &format!("0x0x{}", "ab".repeat(19)),
        ] {
            assert!(wrong.parse::<Hex<20>>().is_err(), "{wrong}");
        }
        assert!(serde_json::from_str::<Hex<2>>("[1,2]").is_err());
    }

    #[test]
    fn bytes_in_hex_are_whole_and_bounded() {
        assert_eq!("0x00ff".parse(), Ok(HexBytes(vec![0, 255].into())));
        assert_eq!("0x".parse(), Ok(HexBytes::default()));
        for wrong in ["", "00", "0x0", "0x0g", "0x0x00"] {
            assert!(wrong.parse::<HexBytes>().is_err(), "{wrong}");
        }
        assert!(
            format!("0x{}", "00".repeat(HexBytes::MAX + 1))
                .parse::<HexBytes>()
                .is_err()
        );
    }

    #[test]
    fn base64_is_canonical() {
        assert_eq!("aGk=".parse(), Ok(Base64(b"hi".to_vec().into())));
        for wrong in ["aGk", "aGl=", "aG k=", "aGk=\n", "aGk_"] {
            assert!(wrong.parse::<Base64>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn numbers_are_digits_within_bounds() {
        assert_eq!("7".parse::<Bounded<1, 9>>().map(Bounded::get), Ok(7));
        for wrong in [
            "",
            "0",
            "10",
            "+7",
            "-7",
            "7.0",
            " 7",
            "99999999999999999999",
        ] {
            assert!(wrong.parse::<Bounded<1, 9>>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_whole_number_may_be_spelled_as_json_does() {
        let read = |json: &str| serde_json::from_str::<Bounded<1, 99>>(json).map(Bounded::get);
        for right in ["60", "60.0", "6e1"] {
            assert_eq!(read(right).unwrap(), 60, "{right}");
        }
        for wrong in [
            "60.5", "-0.5", "-60", "1e300", "100.0", "\"60\"", "null", "[60]",
        ] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_have_single_hyphens_inside() {
        for right in ["a", "gold-price", "0-0", &"a".repeat(64)] {
            assert!(right.parse::<Name>().is_ok(), "{right}");
        }
        for wrong in [
            "",
            "-a",
            "a-",
            "a--b",
            "A",
            "gold_price",
            "gоld",
            &"a".repeat(65),
        ] {
            assert!(wrong.parse::<Name>().is_err(), "{wrong}");
        }
        let id = CryptletId(Address::repeat_byte(7));
        assert_eq!(CryptletRef::from(id).id(), Some(id));
        assert!("Gold".parse::<CryptletRef>().is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(bytes: [u8; 32], blob: Vec<u8>) {
            let hex = Hex(FixedBytes(bytes));
            prop_assert_eq!(hex.to_string().parse(), Ok(hex));
            let blob = Base64(blob.into());
            prop_assert_eq!(blob.to_string().parse(), Ok(blob));
        }

        #[test]
        fn no_text_makes_a_parser_panic(text: String) {
            let _ = text.parse::<Hex<20>>();
            let _ = text.parse::<HexBytes>();
            let _ = text.parse::<Base64>();
            let _ = text.parse::<CryptletRef>();
            let _ = text.parse::<Cursor>();
            let _ = text.parse::<Moment>();
        }
    }
}
