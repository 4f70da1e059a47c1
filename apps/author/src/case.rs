//! A recorded case: when the cryptlet is woken and with what, what its sources answer, and what it must say.
//!
//! `tests/NAME.json`, unknown fields refused:
//!
//! ```json
//! {
//!   "due": "2026-10-16T14:00:00Z",
//!   "params": { "types": ["string"], "values": ["USD"] },
//!   "settings": { "feed": "https://rates.example/" },
//!   "responses": [
//!     { "method": "GET", "url": "https://rates.example/?date=2026-10-16", "status": 200,
//!       "headers": { "content-type": "text/csv" }, "bodyFile": "2026-10-16.csv" }
//!   ],
//!   "expect": { "report": { "types": ["uint64"], "values": [1792108800] } }
//! }
//! ```
//!
//! `params` and `report` are types and values as Solidity names them, or a string of hexadecimal digits. `settings` replace
//! those of the manifest that have the same name. `method` is `GET` if it is left out; a body is `body` or a file beside the
//! case. `expect` is one of `report`, `skip`, `refuse` and `unavailable`; the last three hold a part of the reason.

use crate::{
    AuthorError,
    project::{CASES, read},
};
use alloy_dyn_abi::{DynSolType, DynSolValue};
use alloy_primitives::{Bytes, hex};
use cryptlet_types::{
    UnixSeconds,
    bounded::{MAX_DOCUMENT_BYTES, MAX_SUBSCRIPTION_BYTES},
    manifest::split_place,
};
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    path::{Component, Path},
};
use url::Url;

/// Most cases of a project, and most recordings of a case.
const MAX_CASES: usize = 256;
const MAX_RESPONSES: usize = 64;
/// Largest recorded body, in bytes: 8 MiB.
const MAX_BODY_BYTES: usize = 8 << 20;
/// Moments at which the recordings' certificates are valid: 2000-01-01 to 2049-01-01.
const DUE: std::ops::Range<UnixSeconds> = 946_684_800..2_493_072_000;

/// A case, ready to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    /// Name of its file without `.json`.
    pub name: String,
    /// The moment of the schedule.
    pub due: UnixSeconds,
    /// What the subscription hands over, ABI-encoded.
    pub params: Bytes,
    /// Settings that replace the manifest's.
    pub settings: BTreeMap<String, String>,
    /// What sources answer.
    pub responses: Vec<Response>,
    /// What the cryptlet must say.
    pub expect: Expect,
}

/// A recorded answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// `GET` or `POST`.
    pub method: Method,
    /// The URL that is asked for, in its normal form.
    pub url: Url,
    /// HTTP status.
    pub status: u16,
    /// Headers, by name.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Bytes,
}

/// HTTP methods that a cryptlet may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// `GET`.
    #[default]
    Get,
    /// `POST`.
    Post,
}

/// What the cryptlet must say.
#[derive(Clone, Debug, PartialEq)]
pub enum Expect {
    /// A report with this payload.
    Report(Encoded),
    /// A skip whose reason holds this text.
    Skip(String),
    /// A refusal whose reason holds this text.
    Refuse(String),
    /// A passing failure whose reason holds this text.
    Unavailable(String),
}

/// Solidity values and their encoding.
#[derive(Clone, Debug, PartialEq)]
pub struct Encoded {
    /// Their types, if the case names them.
    pub types: Option<Vec<DynSolType>>,
    /// The encoding, as of an argument list.
    pub bytes: Bytes,
}

/// The file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Document {
    due: jiff::Timestamp,
    params: Value,
    #[serde(default)]
    settings: BTreeMap<String, String>,
    #[serde(default)]
    responses: Vec<RecordedResponse>,
    expect: ExpectDocument,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RecordedResponse {
    #[serde(default)]
    method: Method,
    url: Url,
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    body_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum ExpectDocument {
    Report(Value),
    Skip(String),
    Refuse(String),
    Unavailable(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Values {
    types: Vec<String>,
    values: Vec<Value>,
}

/// The cases of the project in `folder`, by name.
///
/// # Errors
/// Names the file, the field and what is wrong with it.
pub fn load(folder: &Path, egress: &[String]) -> Result<Vec<Case>, AuthorError> {
    let cases = folder.join(CASES);
    let failed = |source| AuthorError::File {
        path: cases.clone(),
        source,
    };
    let mut paths = Vec::new();
    for entry in fs::read_dir(&cases).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(AuthorError::NoCases(cases));
    }
    let refused = |path: &Path, reason: String| AuthorError::Case {
        path: path.to_owned(),
        reason,
    };
    if paths.len() > MAX_CASES {
        return Err(refused(&cases, format!("at most {MAX_CASES} cases")));
    }
    let case = |path: &std::path::PathBuf| {
        let bytes = read(path, MAX_DOCUMENT_BYTES)?;
        let name = path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        parse(name, &bytes, &cases, egress).map_err(|reason| refused(path, reason))
    };
    paths.iter().map(case).collect()
}

/// Reads a case; files of bodies lie in `folder`. The error names the field.
fn parse(name: String, bytes: &[u8], folder: &Path, egress: &[String]) -> Result<Case, String> {
    let document: Document = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let due = u64::try_from(document.due.as_second())
        .ok()
        .filter(|due| DUE.contains(due))
        .ok_or("due: a moment from 2000 to 2048")?;
    if document.responses.len() > MAX_RESPONSES {
        return Err(format!("responses: at most {MAX_RESPONSES}"));
    }
    let params = encoded(document.params)
        .map_err(|reason| format!("params: {reason}"))?
        .bytes;
    if params.len() > MAX_SUBSCRIPTION_BYTES {
        return Err(format!(
            "params: {} bytes, at most {MAX_SUBSCRIPTION_BYTES}",
            params.len()
        ));
    }
    let mut responses: Vec<Response> = Vec::new();
    for (index, recorded) in document.responses.into_iter().enumerate() {
        let of_field = |reason| format!("responses[{index}].{reason}");
        let response = response(recorded, folder, egress).map_err(of_field)?;
        let known =
            |other: &Response| (other.method, &other.url) == (response.method, &response.url);
        if responses.iter().any(known) {
            return Err(of_field("url: recorded twice".into()));
        }
        responses.push(response);
    }
    Ok(Case {
        name,
        due,
        params,
        settings: document.settings,
        responses,
        expect: match document.expect {
            ExpectDocument::Report(value) => {
                Expect::Report(encoded(value).map_err(|reason| format!("expect.report: {reason}"))?)
            }
            ExpectDocument::Skip(part) => Expect::Skip(part),
            ExpectDocument::Refuse(part) => Expect::Refuse(part),
            ExpectDocument::Unavailable(part) => Expect::Unavailable(part),
        },
    })
}

fn response(
    recorded: RecordedResponse,
    folder: &Path,
    egress: &[String],
) -> Result<Response, String> {
    let mut url = recorded.url;
    url.set_fragment(None);
    let place = place(&url).ok_or_else(|| format!("url: {url} is not https with a host name"))?;
    if !egress.contains(&place) {
        return Err(format!(
            "url: {place} is not in config.egress of the manifest"
        ));
    }
    if !(200..=599).contains(&recorded.status) {
        return Err("status: 200 to 599".into());
    }
    for (name, value) in &recorded.headers {
        let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let framing = ["content-length", "transfer-encoding", "connection"];
        if name.is_empty()
            || !name.bytes().all(token)
            || framing.contains(&name.to_ascii_lowercase().as_str())
        {
            return Err(format!(
                "headers: {name:?} is no header that can be recorded"
            ));
        }
        if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            return Err(format!(
                "headers: the value of {name:?} is not visible ASCII"
            ));
        }
    }
    let body = match (recorded.body, recorded.body_file) {
        (Some(body), None) => body.into_bytes(),
        (None, Some(file)) => body_file(folder, &file)?,
        (None, None) => Vec::new(),
        (Some(_), Some(_)) => return Err("body: either body or bodyFile".into()),
    };
    Ok(Response {
        method: recorded.method,
        url,
        status: recorded.status,
        headers: recorded.headers,
        body: body.into(),
    })
}

/// A file beside the case, and nowhere else.
fn body_file(folder: &Path, file: &str) -> Result<Vec<u8>, String> {
    let inside = Path::new(file)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if file.is_empty() || !inside {
        return Err(format!("bodyFile: {file:?} is not a file beside the case"));
    }
    read(&folder.join(file), MAX_BODY_BYTES).map_err(|error| format!("bodyFile: {error}"))
}

/// `host:port` of an `https` URL, as manifests name it.
pub(crate) fn place(url: &Url) -> Option<String> {
    let place = format!("{}:{}", url.host_str()?, url.port_or_known_default()?);
    (url.scheme() == "https" && split_place(&place).is_some()).then_some(place)
}

/// Types and values, or hexadecimal digits.
fn encoded(value: Value) -> Result<Encoded, String> {
    if let Value::String(digits) = &value {
        let bytes = hex::decode(digits).map_err(|error| format!("{digits:?}: {error}"))?;
        return Ok(Encoded {
            types: None,
            bytes: bytes.into(),
        });
    }
    let Values { types, values } = serde_json::from_value(value).map_err(|error| {
        format!("{error}: {{\"types\": [..], \"values\": [..]}}, or hexadecimal digits")
    })?;
    if types.len() != values.len() {
        return Err(format!("{} types and {} values", types.len(), values.len()));
    }
    let types: Vec<_> = types
        .iter()
        .map(|ty| DynSolType::parse(ty).map_err(|error| format!("types: {error}")))
        .collect::<Result<_, _>>()?;
    let values: Vec<_> = types
        .iter()
        .zip(&values)
        .map(|(ty, value)| {
            ty.coerce_json(value)
                .map_err(|error| format!("values: {error}"))
        })
        .collect::<Result<_, _>>()?;
    Ok(Encoded {
        types: Some(types),
        bytes: DynSolValue::Tuple(values).abi_encode_params().into(),
    })
}

impl Encoded {
    /// An encoding for people: values by these types, or hexadecimal digits if they do not fit.
    #[must_use]
    pub fn show(&self, bytes: &[u8]) -> String {
        let decoded = self.types.as_ref().and_then(|types| {
            let ty = DynSolType::Tuple(types.clone());
            ty.abi_decode_params(bytes).ok()
        });
        match decoded {
            Some(value) => show(&value),
            None => hex::encode_prefixed(bytes),
        }
    }
}

fn show(value: &DynSolValue) -> String {
    let list = |values: &[DynSolValue]| values.iter().map(show).collect::<Vec<_>>().join(", ");
    match value {
        DynSolValue::Bool(value) => value.to_string(),
        DynSolValue::Int(value, _) => value.to_string(),
        DynSolValue::Uint(value, _) => value.to_string(),
        DynSolValue::FixedBytes(word, size) => {
            hex::encode_prefixed(word.get(..*size).unwrap_or_default())
        }
        DynSolValue::Address(value) => value.to_string(),
        DynSolValue::Function(value) => value.to_string(),
        DynSolValue::Bytes(value) => hex::encode_prefixed(value),
        DynSolValue::String(value) => format!("{value:?}"),
        DynSolValue::Array(values) | DynSolValue::FixedArray(values) => {
            format!("[{}]", list(values))
        }
        DynSolValue::Tuple(values) | DynSolValue::CustomStruct { tuple: values, .. } => {
            format!("({})", list(values))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: &str = "rates.example:443";

    fn read_case(text: &str) -> Result<Case, String> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("body.csv"), "a,b").unwrap();
        parse(
            "case".into(),
            text.as_bytes(),
            folder.path(),
            &[PLACE.to_owned()],
        )
    }

    fn with(responses: &str) -> String {
        format!(
            r#"{{"due":"2026-10-16T14:00:00Z","params":"0x","responses":[{responses}],"expect":{{"skip":"closed"}}}}"#
        )
    }

    #[test]
    fn values_are_encoded_as_solidity_does() {
        let text = r#"{"due":"2026-10-16T16:00:00+02:00","params":{"types":["bool","string[]"],"values":[true,["USD"]]},
            "expect":{"report":{"types":["uint64","(uint256,address)[]"],
            "values":[7,[["340282366920938463463374607431768211456","0x00000000000000000000000000000000000000a1"]]]}}}"#;
        let case = read_case(text).unwrap();
        assert_eq!(case.due, 1_792_159_200);
        assert_eq!(case.params.len(), 32 * 6);
        let Expect::Report(report) = case.expect else {
            panic!("no report")
        };
        let shown = report.show(&report.bytes);
        assert_eq!(
            shown,
            "(7, [(340282366920938463463374607431768211456, 0x00000000000000000000000000000000000000A1)])"
        );
        assert_eq!(report.show(&[1]), "0x01");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let good = r#"{"url":"https://rates.example/x","status":200,"bodyFile":"body.csv"}"#;
        assert_eq!(
            read_case(&with(good)).unwrap().responses[0].body,
            Bytes::from_static(b"a,b")
        );
        let cases = [
            (
                with(&good.replace("rates.example", "other.example")),
                "not in config.egress",
            ),
            (with(&good.replace("https", "http")), "not https"),
            (
                with(&good.replace("body.csv", "../secret")),
                "beside the case",
            ),
            (
                with(&good.replace("body.csv", "/etc/passwd")),
                "beside the case",
            ),
            (with(&good.replace("body.csv", "none.csv")), "none.csv"),
            (with(&good.replace("200", "99")), "status"),
            (
                with(&good.replace("\"status\"", "\"body\":\"x\",\"status\"")),
                "either body or bodyFile",
            ),
            (
                with(&good.replace(
                    "\"status\"",
                    "\"headers\":{\"Content-Length\":\"1\"},\"status\"",
                )),
                "headers",
            ),
            (with(&format!("{good},{good}")), "recorded twice"),
            (with("").replace("\"due\"", "\"dew\""), "dew"),
            (with("").replace("2026", "1999"), "from 2000"),
            (with("").replace("\"0x\"", "\"0xz\""), "params"),
            (
                with("").replace("\"0x\"", r#"{"types":["uint8"],"values":[256]}"#),
                "values",
            ),
            (
                with("").replace("\"0x\"", r#"{"types":["uint8"],"values":[]}"#),
                "1 types and 0 values",
            ),
            (
                with("").replace("\"0x\"", r#"{"types":["uint9"],"values":[1]}"#),
                "types",
            ),
            (with("").replace("skip", "jump"), "jump"),
        ];
        for (text, part) in cases {
            let reason = read_case(&text).unwrap_err();
            assert!(reason.contains(part), "{text}: {reason}");
        }
    }
}
