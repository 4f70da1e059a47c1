//! Whole numbers of 256 bits as decimal text, in every format: a tagged value does not survive CBOR otherwise, because what
//! its reader has set aside takes itself for a format that people read.

use serde::{Deserialize, Deserializer, Serializer, de::Error};
use std::{fmt, str::FromStr};

pub(crate) fn serialize<T: fmt::Display, S: Serializer>(
    number: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_str(number)
}

/// Only the one text of a number is read.
pub(crate) fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: FromStr + fmt::Display,
    D: Deserializer<'de>,
{
    let text = String::deserialize(deserializer)?;
    let number: Option<T> = text.parse().ok();
    number
        .filter(|number| number.to_string() == text)
        .ok_or_else(|| D::Error::custom("not a decimal number"))
}
