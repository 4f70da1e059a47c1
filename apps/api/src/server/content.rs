//! What a signed message says: its kind and its data.
//!
//! A CloudEvent (1.0, JSON, structured) says its `type` and `data`. JSON of any other form is data as a whole, and its kind
//! is its member `type`, as Standard Webhooks recommends. Anything else is data without a kind. The kind is never taken
//! from a header field: those are not signed.

use crate::types::{Problem, ProblemKind, Result};
use alloy_primitives::Bytes;
use axum::http::{
    HeaderMap,
    header::{CONTENT_ENCODING, CONTENT_TYPE},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use cryptlet_types::{
    bounded::clip, event::MAX_TRIGGER_BYTES, subscription::trigger::MAX_NAME_BYTES,
};
use serde::{
    Deserialize, Deserializer,
    de::{self, DeserializeOwned, MapAccess, Visitor},
};
use serde_json::value::RawValue;
use std::{collections::BTreeMap, fmt};

/// Media type of a CloudEvent in JSON.
pub(crate) const CLOUD_EVENT: &str = "application/cloudevents+json";
const JSON: &str = "application/json";
/// Longest text of an attribute of a CloudEvent, in bytes.
const MAX_ATTRIBUTE_BYTES: usize = 2 << 10;

/// Kind and data of a message.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// Empty, if the message does not say it.
    pub(crate) kind: String,
    pub(crate) data: Bytes,
}

/// Whether the fields that are not signed are such that the body can be read by itself.
///
/// # Errors
/// Names the field.
pub(crate) fn check_headers(headers: &HeaderMap) -> Result<()> {
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(unsupported(
            "the body has to come without a content encoding",
        ));
    }
    if headers.keys().any(|name| name.as_str().starts_with("ce-")) {
        return Err(unsupported(
            "attributes of a CloudEvent in header fields are not signed, and do not count",
        ));
    }
    let media_type = media_type(headers)?;
    if media_type.starts_with("application/cloudevents") && media_type != CLOUD_EVENT {
        return Err(unsupported("a CloudEvent has to be one, and in JSON"));
    }
    Ok(())
}

/// Reads the body of a message that passed [`check_headers`].
///
/// # Errors
/// Names the field.
pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Content> {
    let content = match media_type(headers)?.as_str() {
        CLOUD_EVENT => cloud_event(body)?,
        JSON => Content {
            kind: kind_of_json(body)?,
            data: Bytes::copy_from_slice(body),
        },
        _ => Content {
            kind: String::new(),
            data: Bytes::copy_from_slice(body),
        },
    };
    if content.data.len() > MAX_TRIGGER_BYTES {
        return Err(Problem::new(
            ProblemKind::TooLarge,
            format!("data: more than {MAX_TRIGGER_BYTES} bytes"),
            "send less, for example where the rest is to be found",
        ));
    }
    Ok(content)
}

fn media_type(headers: &HeaderMap) -> Result<String> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else {
        return Ok(String::new());
    };
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let text = text.ok_or_else(|| unsupported("content-type: expected one media type"))?;
    Ok(bare(text))
}

/// A media type without its parameters, in lower case.
fn bare(media_type: &str) -> String {
    let bare = media_type.split(';').next().unwrap_or_default();
    bare.trim().to_ascii_lowercase()
}

fn unsupported(detail: &str) -> Problem {
    Problem::new(
        ProblemKind::UnsupportedMediaType,
        detail,
        format!("send {CLOUD_EVENT}, {JSON} or any bytes"),
    )
}

fn malformed(detail: impl fmt::Display) -> Problem {
    Problem::malformed(format!("the body: {detail}"))
}

/// The member `type` of an object, if that is a text.
fn kind_of_json(body: &[u8]) -> Result<String> {
    let text: &RawValue = serde_json::from_slice(body).map_err(malformed)?;
    // What is no object has no members.
    let Ok(members) = serde_json::from_str::<Members>(text.get()) else {
        if text.get().starts_with('{') {
            return Err(malformed("a member stands twice"));
        }
        return Ok(String::new());
    };
    let Some(kind) = members.0.get("type") else {
        return Ok(String::new());
    };
    match serde_json::from_str::<String>(kind.get()) {
        Ok(kind) => check_kind(kind),
        Err(_) => Ok(String::new()),
    }
}

fn check_kind(kind: String) -> Result<String> {
    if kind.len() > MAX_NAME_BYTES || kind.chars().any(char::is_control) {
        return Err(malformed(format_args!(
            "type: expected at most {MAX_NAME_BYTES} bytes, no control characters"
        )));
    }
    Ok(kind)
}

/// Members of an object, none twice, each as it stands there.
struct Members(BTreeMap<String, Box<RawValue>>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_map(Members(BTreeMap::new()))
    }
}

impl<'de> Visitor<'de> for Members {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(
        mut self,
        mut members: A,
    ) -> std::result::Result<Self, A::Error> {
        while let Some((name, value)) = members.next_entry::<String, Box<RawValue>>()? {
            if self.0.contains_key(&name) {
                let name = clip(&name);
                return Err(de::Error::custom(format_args!("{name} stands twice")));
            }
            self.0.insert(name, value);
        }
        Ok(self)
    }
}

impl Members {
    /// Takes a member out. JSON's `null` is an attribute that is not set.
    fn take<T: DeserializeOwned>(&mut self, name: &str, expected: &str) -> Result<Option<T>> {
        let value = self.0.remove(name).filter(|value| value.get() != "null");
        let value = value.map(|value| serde_json::from_str(value.get()));
        value
            .transpose()
            .map_err(|_| malformed(format_args!("{name}: expected {expected}")))
    }

    /// Takes out a text that is not empty.
    fn text(&mut self, name: &str) -> Result<Option<String>> {
        const EXPECTED: &str = "a text, not empty, without control characters";
        let text: Option<String> = self.take(name, EXPECTED)?;
        let wrong = |text: &String| {
            let size = text.len();
            size == 0 || size > MAX_ATTRIBUTE_BYTES || text.chars().any(char::is_control)
        };
        if text.as_ref().is_some_and(wrong) {
            return Err(malformed(format_args!("{name}: expected {EXPECTED}")));
        }
        Ok(text)
    }

    fn needed(&mut self, name: &str) -> Result<String> {
        let text = self.text(name)?;
        text.ok_or_else(|| malformed(format_args!("{name}: a CloudEvent needs it")))
    }
}

/// A CloudEvent, version 1.0, as its JSON format has it.
fn cloud_event(body: &[u8]) -> Result<Content> {
    let mut event: Members = serde_json::from_slice(body).map_err(malformed)?;
    let version = event.needed("specversion")?;
    if version != "1.0" {
        return Err(malformed("specversion: expected 1.0"));
    }
    for name in ["id", "source"] {
        event.needed(name)?;
    }
    let kind = event.needed("type")?;
    let kind = check_kind(kind)?;
    for name in ["dataschema", "subject"] {
        event.text(name)?;
    }
    if let Some(time) = event.text("time")? {
        let moment = is_rfc3339(&time);
        if !moment {
            return Err(malformed("time: expected a moment as RFC 3339 has it"));
        }
    }
    let json = event
        .text("datacontenttype")?
        .is_none_or(|media_type| is_json(&media_type));
    let encoded: Option<String> = event.take("data_base64", "base64 with padding")?;
    let plain = event.0.remove("data");
    let data = match (plain, encoded) {
        (Some(_), Some(_)) => return Err(malformed("data and data_base64: expected one of them")),
        (None, None) => Bytes::new(),
        (None, Some(text)) => {
            let bytes = STANDARD.decode(text);
            let wrong = |_| malformed("data_base64: expected base64 with padding");
            bytes.map_err(wrong)?.into()
        }
        (Some(value), None) => plain_data(&value, json)?,
    };
    for (name, value) in &event.0 {
        extension(name, value)?;
    }
    Ok(Content { kind, data })
}

/// JSON as it stands there; of another type: the text that is in it.
fn plain_data(value: &RawValue, json: bool) -> Result<Bytes> {
    if json {
        return Ok(Bytes::copy_from_slice(value.get().as_bytes()));
    }
    let text: String = serde_json::from_str(value.get())
        .map_err(|_| malformed("data: expected a text, as datacontenttype is not JSON"))?;
    Ok(text.into_bytes().into())
}

fn is_json(media_type: &str) -> bool {
    let media_type = bare(media_type);
    media_type.ends_with("/json") || media_type.ends_with("+json")
}

/// An attribute that the specification does not know.
fn extension(name: &str, value: &RawValue) -> Result<()> {
    let named = (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    if !named {
        let name = clip(name);
        return Err(malformed(format_args!(
            "{name}: expected names of a-z and 0-9"
        )));
    }
    let value = value.get();
    let simple = !value.starts_with(['{', '[']) && value.len() <= MAX_ATTRIBUTE_BYTES;
    if !simple {
        return Err(malformed(format_args!(
            "{name}: expected a text, a number or a truth value"
        )));
    }
    Ok(())
}

/// Whether it has the form of a moment: `2026-11-28T18:00:00Z`, with a fraction or another offset.
fn is_rfc3339(text: &str) -> bool {
    let digits = |text: Option<&str>| {
        text.is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let by_form = |text: Option<&str>, form: &str| {
        text.is_some_and(|text| {
            text.len() == form.len()
                && text
                    .bytes()
                    .zip(form.bytes())
                    .all(|(byte, form)| match form {
                        b'0' => byte.is_ascii_digit(),
                        other => byte.eq_ignore_ascii_case(&other),
                    })
        })
    };
    if !by_form(text.get(..19), "0000-00-00T00:00:00") {
        return false;
    }
    let rest = text.get(19..).unwrap_or_default();
    let offset_at = rest.find(['Z', 'z', '+', '-']).unwrap_or(rest.len());
    let (fraction, offset) = rest.split_at_checked(offset_at).unwrap_or_default();
    let fraction = fraction.is_empty() || digits(fraction.strip_prefix('.'));
    let offset =
        offset.eq_ignore_ascii_case("z") || by_form(offset.strip_prefix(['+', '-']), "00:00");
    fraction && offset
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn headers(media_type: &str) -> HeaderMap {
        [(CONTENT_TYPE, media_type.parse().unwrap())]
            .into_iter()
            .collect()
    }

    fn event(change: impl FnOnce(&mut Value)) -> Vec<u8> {
        let mut event = json!({
            "specversion": "1.0", "id": "1", "source": "/crm", "type": "order.paid",
            "data": { "total": 12.50 },
        });
        change(&mut event);
        serde_json::to_vec(&event).unwrap()
    }

    fn read_event(change: impl FnOnce(&mut Value)) -> Result<Content> {
        read(
            &headers("application/cloudevents+json; charset=utf-8"),
            &event(change),
        )
    }

    fn said(kind: &str, data: &[u8]) -> Content {
        Content {
            kind: kind.to_owned(),
            data: Bytes::copy_from_slice(data),
        }
    }

    #[test]
    fn a_cloud_event_says_its_type_and_data() {
        let read = |change: fn(&mut Value)| read_event(change).unwrap();
        let data = br#"{"total":12.5}"#;
        assert_eq!(read(|_| {}), said("order.paid", data));
        let full = read(|event| {
            event["time"] = json!("2026-11-28T18:00:00.25+01:00");
            event["subject"] = json!("12");
            event["dataschema"] = json!("https://example.org/order");
            event["datacontenttype"] = json!("application/vnd.order+json");
            event["traceparent"] = json!("00-1");
            event["sampledrate"] = json!(3);
            event["subject"] = Value::Null;
        });
        assert_eq!(full, said("order.paid", data));
        let text = read(|event| {
            event["datacontenttype"] = json!("text/plain");
            event["data"] = json!("a\u{e9}");
        });
        assert_eq!(text, said("order.paid", "a\u{e9}".as_bytes()));
        let bytes = read(|event| {
            event.as_object_mut().unwrap().remove("data");
            event["data_base64"] = json!("AP8=");
        });
        assert_eq!(bytes, said("order.paid", &[0, 255]));
        let none = read(|event| drop(event.as_object_mut().unwrap().remove("data")));
        assert_eq!(none, said("order.paid", b""));
        // The data is taken as it stands there, with its spaces and digits.
        let body = br#"{"data": {"a": 1.10 , "b":[]} ,"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
        let exact = super::read(&headers(CLOUD_EVENT), body).unwrap();
        assert_eq!(exact, said("t", br#"{"a": 1.10 , "b":[]}"#));
    }

    #[test]
    fn what_is_no_cloud_event_is_refused_by_field() {
        let long = "x".repeat(129);
        let cases: [(&str, Value); 17] = [
            ("specversion", json!("0.3")),
            ("specversion", Value::Null),
            ("id", json!("")),
            ("id", json!(1)),
            ("source", json!("")),
            ("source", Value::Null),
            ("type", Value::Null),
            ("type", json!(["a"])),
            ("type", json!("a\nb")),
            ("type", json!(long)),
            ("time", json!("yesterday")),
            ("time", json!("2026-11-28 18:00:00Z")),
            ("datacontenttype", json!(1)),
            ("datacontenttype", json!("text/plain")),
            ("data_base64", json!("AP8=")),
            ("Upper", json!("a")),
            ("nested", json!({})),
        ];
        for (name, value) in cases {
            let problem = read_event(|event| event[name] = value.clone()).unwrap_err();
            assert_eq!(problem.kind, ProblemKind::Malformed, "{name} {value}");
            let named = if name == "datacontenttype" {
                "data"
            } else {
                name
            };
            assert!(problem.detail.contains(named), "{name}: {problem}");
        }
        for name in ["specversion", "id", "source", "type"] {
            let without = read_event(|event| drop(event.as_object_mut().unwrap().remove(name)));
            let problem = without.unwrap_err();
            assert!(problem.detail.contains(name), "{problem}");
        }
        let twice = br#"{"specversion":"1.0","id":"1","source":"s","type":"t","type":"u"}"#;
        for body in [
            twice.as_slice(),
            b"[]",
            b"{",
            b"",
            b"\xff",
            b"\"a\"",
            b"{}{}",
        ] {
            let read = read(&headers(CLOUD_EVENT), body);
            assert_eq!(read.unwrap_err().kind, ProblemKind::Malformed);
        }
    }

    #[test]
    fn other_bodies_are_data_as_they_are() {
        for (media_type, body, kind) in [
            (
                "application/json",
                r#"{"type":"user.created","data":1}"#,
                "user.created",
            ),
            ("application/json; charset=utf-8", r#"{"type":7}"#, ""),
            ("Application/JSON", "[1,2]", ""),
            ("text/plain", r#"{"type":"user.created"}"#, ""),
            ("application/octet-stream", "\u{0}", ""),
        ] {
            let read = read(&headers(media_type), body.as_bytes()).unwrap();
            assert_eq!(read, said(kind, body.as_bytes()), "{media_type}");
        }
        assert_eq!(read(&HeaderMap::new(), b"x").unwrap(), said("", b"x"));
        let long = format!(r#"{{"type":"{}"}}"#, "x".repeat(129));
        for body in ["", "{", r#"{"type":"a","type":"b"}"#, long.as_str()] {
            let problem = read(&headers(JSON), body.as_bytes()).unwrap_err();
            assert_eq!(problem.kind, ProblemKind::Malformed, "{body}");
        }
    }

    #[test]
    fn data_has_a_largest_size() {
        let plain = headers("application/octet-stream");
        read(&plain, &[0; MAX_TRIGGER_BYTES]).unwrap();
        let problem = read(&plain, &[0; MAX_TRIGGER_BYTES + 1]).unwrap_err();
        assert_eq!(problem.kind, ProblemKind::TooLarge);
        let large = STANDARD.encode([0; MAX_TRIGGER_BYTES + 1]);
        let problem = read_event(|event| {
            event.as_object_mut().unwrap().remove("data");
            event["data_base64"] = json!(large);
        });
        assert_eq!(problem.unwrap_err().kind, ProblemKind::TooLarge);
    }

    #[test]
    fn what_is_not_signed_does_not_say_what_a_message_is() {
        check_headers(&headers(CLOUD_EVENT)).unwrap();
        check_headers(&HeaderMap::new()).unwrap();
        for (name, value) in [
            ("content-encoding", "gzip"),
            ("ce-type", "order.paid"),
            ("content-type", "application/cloudevents-batch+json"),
            ("content-type", "application/cloudevents+avro"),
        ] {
            let mut headers = headers("application/json");
            headers.insert(name, value.parse().unwrap());
            let problem = check_headers(&headers).unwrap_err();
            assert_eq!(problem.kind, ProblemKind::UnsupportedMediaType, "{name}");
        }
        let mut twice = headers(JSON);
        twice.append(CONTENT_TYPE, CLOUD_EVENT.parse().unwrap());
        assert!(check_headers(&twice).is_err());
    }

    proptest! {
        #[test]
        fn no_body_makes_it_panic(body: Vec<u8>, text in "\\PC{0,200}") {
            for body in [body.as_slice(), text.as_bytes()] {
                for media_type in [CLOUD_EVENT, JSON, "text/plain"] {
                    let _ = read(&headers(media_type), body);
                }
            }
        }

        #[test]
        fn data_comes_through_whole(data: Vec<u8>) {
            let read = read_event(|event| {
                event.as_object_mut().unwrap().remove("data");
                event["data_base64"] = json!(STANDARD.encode(&data));
            });
            prop_assert_eq!(read.unwrap().data.to_vec(), data);
        }
    }
}
