//! What the cryptlet asks for: checked, then written down byte for byte.

use cryptlet_types::bounded::clip;
use std::fmt::Write as _;
use url::{Host, Url};

/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 8 << 10;
/// Most headers of a request.
const MAX_HEADERS: usize = 32;
/// Longest request, in bytes.
const MAX_REQUEST_BYTES: usize = 1 << 20;
/// Headers that frame the message or the connection: the region's own.
const RESERVED: [&str; 11] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "accept-encoding",
    "upgrade",
    "te",
    "trailer",
    "expect",
    "keep-alive",
    "range",
];

/// What the cryptlet asks for.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Whether it is a POST; else a GET.
    pub post: bool,
    /// The URL, `https` only.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body; a GET has none.
    pub body: Vec<u8>,
}

/// A request that may be sent, if policy knows the place.
#[derive(Debug)]
pub struct Checked {
    /// The URL in its normal form, without fragment.
    pub(crate) url: String,
    /// Name that the certificate must bear.
    pub(super) host: String,
    /// `host:port`.
    pub(super) place: String,
    /// The request as it is sent.
    pub(crate) bytes: Vec<u8>,
}

impl Checked {
    /// The error says what is not allowed.
    pub(super) fn new(request: &Request) -> Result<Self, String> {
        let (url, host, port) = parse(&request.url)?;
        if !request.post && !request.body.is_empty() {
            return Err("a GET has no body".into());
        }
        let head = head(request, &url, &host, port)?;
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&request.body);
        if bytes.len() > MAX_REQUEST_BYTES {
            return Err(format!(
                "request of {} bytes, at most {MAX_REQUEST_BYTES}",
                bytes.len()
            ));
        }
        Ok(Self {
            url: url.into(),
            place: format!("{host}:{port}"),
            host,
            bytes,
        })
    }
}

fn parse(text: &str) -> Result<(Url, String, u16), String> {
    if text.len() > MAX_URL_BYTES {
        return Err(format!(
            "URL of {} bytes, at most {MAX_URL_BYTES}",
            text.len()
        ));
    }
    let mut url = Url::parse(text).map_err(|error| format!("URL {:?}: {error}", clip(text)))?;
    url.set_fragment(None);
    if url.scheme() != "https" {
        return Err(format!("scheme {:?}: https only", clip(url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("no user or password in a URL".into());
    }
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(_)) | None => return Err("URL has no host name or IPv4 address".into()),
    };
    let port = url.port_or_known_default().unwrap_or(443);
    Ok((url, host, port))
}

fn head(request: &Request, url: &Url, host: &str, port: u16) -> Result<String, String> {
    let method = if request.post { "POST" } else { "GET" };
    let mut head = format!("{method} {}", url.path());
    if let Some(query) = url.query() {
        line(&mut head, format_args!("?{query}"))?;
    }
    line(&mut head, format_args!(" HTTP/1.1\r\nhost: {host}"))?;
    if port != 443 {
        line(&mut head, format_args!(":{port}"))?;
    }
    line(
        &mut head,
        format_args!("\r\nconnection: close\r\naccept-encoding: identity\r\n"),
    )?;
    if request.post {
        line(
            &mut head,
            format_args!("content-length: {}\r\n", request.body.len()),
        )?;
    }
    if request.headers.len() > MAX_HEADERS {
        return Err(format!("more than {MAX_HEADERS} headers"));
    }
    for (name, value) in &request.headers {
        check_header(name, value)?;
        line(&mut head, format_args!("{name}: {value}\r\n"))?;
    }
    head.push_str("\r\n");
    Ok(head)
}

fn line(head: &mut String, text: std::fmt::Arguments<'_>) -> Result<(), String> {
    head.write_fmt(text).map_err(|error| error.to_string())
}

fn check_header(name: &str, value: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if name.is_empty() || !name.bytes().all(token) {
        return Err(format!("header name {:?} is not allowed", clip(name)));
    }
    if RESERVED.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!("header {name:?} is the region's own"));
    }
    if !value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return Err(format!(
            "header {:?} has a value that is not visible ASCII",
            clip(name)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn get(url: &str) -> Request {
        Request {
            url: url.into(),
            ..Request::default()
        }
    }

    #[test]
    fn a_request_is_written_down() {
        let mut request = get("https://Rates.Example/a b?date=2026-10-16#top");
        request.headers.push(("accept".into(), "text/csv".into()));
        let checked = Checked::new(&request).unwrap();
        assert_eq!(checked.place, "rates.example:443");
        assert_eq!(checked.url, "https://rates.example/a%20b?date=2026-10-16");
        let expected = "GET /a%20b?date=2026-10-16 HTTP/1.1\r\nhost: rates.example\r\nconnection: close\r\n\
            accept-encoding: identity\r\naccept: text/csv\r\n\r\n";
        assert_eq!(String::from_utf8(checked.bytes).unwrap(), expected);
    }

    #[test]
    fn a_post_has_its_length() {
        let request = Request {
            post: true,
            body: b"abc".to_vec(),
            ..get("https://127.0.0.1:8443/")
        };
        let text = String::from_utf8(Checked::new(&request).unwrap().bytes).unwrap();
        assert!(text.contains("host: 127.0.0.1:8443\r\n"), "{text}");
        assert!(text.contains("content-length: 3\r\n") && text.ends_with("\r\n\r\nabc"));
    }

    #[test]
    fn nothing_else_may_be_asked_for() {
        let long = format!("https://a.example/{}", "x".repeat(MAX_URL_BYTES));
        let urls = [
            "http://a.example/",
            "file:///etc/passwd",
            "https://u:p@a.example/",
            "https://[::1]/",
            "rates.example",
            "https://",
            &long,
        ];
        for url in urls {
            assert!(Checked::new(&get(url)).is_err(), "{url}");
        }
        let headers = [
            ("Host", "b"),
            ("content-length", "1"),
            ("x", "a\r\nhost: b"),
            ("x\r\ny", "a"),
            ("", "a"),
            ("x", "ü"),
        ];
        for (name, value) in headers {
            let mut request = get("https://a.example/");
            request.headers.push((name.into(), value.into()));
            assert!(Checked::new(&request).is_err(), "{name}: {value}");
        }
        let mut with_body = get("https://a.example/");
        with_body.body.push(1);
        assert!(Checked::new(&with_body).is_err());
    }

    proptest! {
        #[test]
        fn no_text_can_add_a_line(url in "https://a\\.example/\\PC{0,40}|\\PC{0,60}", name in "\\PC{0,10}", value in "[\\x00-\\x7f]{0,20}") {
            let mut request = get(&url);
            request.headers.push((name, value));
            if let Ok(checked) = Checked::new(&request) {
                let text = String::from_utf8(checked.bytes).unwrap();
                prop_assert_eq!(text.matches("\r\n").count(), 6);
                prop_assert_eq!(text.matches('\n').count(), 6);
            }
        }
    }
}
