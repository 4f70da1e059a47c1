//! `oci://HOST[:PORT]/REPOSITORY[:TAG|@sha256:DIGEST]`, read strictly: it comes from the chain.

use crate::RegisterError;
use cryptlet_seal::package::{oci_digest, parse_oci_digest};
use cryptlet_types::{Sha256Digest, bounded::clip};
use std::{fmt, net::Ipv4Addr, str::FromStr};

/// Longest reference, in bytes. (The register takes 256.)
const MAX_BYTES: usize = 512;

/// A package, or a place for one, in an OCI registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciReference {
    host: String,
    repository: String,
    pointer: Pointer,
}

/// What a reference points at in its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// Nothing yet: a place to push to.
    Repository,
    /// Whatever has this tag.
    Tag(String),
    /// The package with this digest.
    Digest(Sha256Digest),
}

impl OciReference {
    /// `HOST` or `HOST:PORT`, lower case.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The repository's path.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// What it points at.
    #[must_use]
    pub fn pointer(&self) -> &Pointer {
        &self.pointer
    }

    /// The digest, if it points at one.
    #[must_use]
    pub fn digest(&self) -> Option<Sha256Digest> {
        match self.pointer {
            Pointer::Digest(digest) => Some(digest),
            _ => None,
        }
    }

    /// The same repository, pointing at `digest`.
    #[must_use]
    pub fn with_digest(&self, digest: Sha256Digest) -> Self {
        Self {
            pointer: Pointer::Digest(digest),
            ..self.clone()
        }
    }
}

/// HTTP for this machine, HTTPS for every other. `host` may have a port.
pub(super) fn scheme(host: &str) -> &'static str {
    let name = host.split_once(':').map_or(host, |(name, _)| name);
    let loopback = name.parse::<Ipv4Addr>().is_ok_and(|ip| ip.is_loopback());
    if loopback || name == "localhost" {
        "http"
    } else {
        "https"
    }
}

impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "oci://{}/{}", self.host, self.repository)?;
        match &self.pointer {
            Pointer::Repository => Ok(()),
            Pointer::Tag(tag) => write!(f, ":{tag}"),
            Pointer::Digest(digest) => write!(f, "@{}", oci_digest(*digest)),
        }
    }
}

impl FromStr for OciReference {
    type Err = RegisterError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map_err(|reason| RegisterError::Reference {
            text: clip(text),
            reason,
        })
    }
}

fn parse(text: &str) -> Result<OciReference, &'static str> {
    if text.len() > MAX_BYTES {
        return Err("too long");
    }
    let rest = text
        .strip_prefix("oci://")
        .ok_or("does not begin with oci://")?;
    let (host, path) = rest.split_once('/').ok_or("names no repository")?;
    if !is_host(host) {
        return Err("the host is not a lower-case name or IPv4 address, with a port or without");
    }
    let (repository, pointer) = match (path.split_once('@'), path.split_once(':')) {
        (Some((repository, digest)), _) => {
            let digest =
                parse_oci_digest(digest).ok_or("the digest is not sha256:<64 hex digits>")?;
            (repository, Pointer::Digest(digest))
        }
        (None, Some((repository, tag))) if is_tag(tag) => (repository, Pointer::Tag(tag.into())),
        (None, Some(_)) => return Err("the tag is not one"),
        (None, None) => (path, Pointer::Repository),
    };
    if repository.len() > 255 || !repository.split('/').all(is_component) {
        return Err("the repository is not lower-case names with '/' between them");
    }
    Ok(OciReference {
        host: host.into(),
        repository: repository.into(),
        pointer,
    })
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.split_once(':') {
        Some((name, port)) => (name, Some(port)),
        None => (host, None),
    };
    let good = |port: &str| {
        let number = port.parse::<u16>().ok().filter(|number| *number != 0);
        number.is_some_and(|number| number.to_string() == port)
    };
    let label = |label: &str| {
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // A name that ends in a number is read as an IPv4 address by some, in many spellings: only the plain one here.
    let last = name.rsplit('.').next().unwrap_or_default();
    let numeric = last.chars().all(|c| c.is_ascii_digit()) || last.starts_with("0x");
    name.len() <= 253
        && name.split('.').all(label)
        && (!numeric || name.parse::<Ipv4Addr>().is_ok())
        && port.is_none_or(good)
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, as the distribution spec has it.
fn is_component(component: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let parts: Vec<_> = component
        .split(plain)
        .filter(|part| !part.is_empty())
        .collect();
    let between = |part: &&str| matches!(*part, "." | "_" | "__") || part.chars().all(|c| c == '-');
    component.starts_with(plain) && component.ends_with(plain) && parts.iter().all(between)
}

fn is_tag(tag: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let rest = |c: char| first(c) || matches!(c, '.' | '-');
    tag.len() <= 128 && tag.starts_with(first) && tag.chars().all(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn references_survive_a_round_trip() {
        for (text, host, scheme) in [
            ("oci://ghcr.io/a/b:0.1.0", "ghcr.io", "https"),
            ("oci://localhost:5000/gold", "localhost:5000", "http"),
            (
                "oci://127.0.0.1:5000/a__b/c-d.e_f",
                "127.0.0.1:5000",
                "http",
            ),
            ("oci://10.0.0.1/a", "10.0.0.1", "https"),
            ("oci://localhost.example/a", "localhost.example", "https"),
            (&format!("oci://r.example/a@{DIGEST}"), "r.example", "https"),
        ] {
            let reference: OciReference = text.parse().unwrap();
            assert_eq!(reference.to_string(), text);
            assert_eq!(reference.host(), host);
            assert_eq!(super::scheme(reference.host()), scheme);
        }
    }

    #[test]
    fn what_is_not_plain_is_refused() {
        for text in [
            "https://ghcr.io/a",
            "oci://ghcr.io",
            "oci://ghcr.io/",
            "oci:///a",
            "oci://GHCR.io/a",
            "oci://user:password@ghcr.io/a",
            "oci://user@ghcr.io/a",
            "oci://ghcr.io:0/a",
            "oci://ghcr.io:05000/a",
            "oci://ghcr.io:65536/a",
            "oci://ghcr.io:/a",
            "oci://[::1]:5000/a",
            "oci://2130706433/a",
            "oci://0x7f.1/a",
            "oci://127.1/a",
            "oci://127.0.0.01/a",
            "oci://-a.example/a",
            "oci://a..example/a",
            "oci://ghcr.io/../v2/a",
            "oci://ghcr.io/a/../b",
            "oci://ghcr.io/A",
            "oci://ghcr.io/a//b",
            "oci://ghcr.io/a/",
            "oci://ghcr.io/a?b",
            "oci://ghcr.io/a#b",
            "oci://ghcr.io/a%2fb",
            "oci://ghcr.io/a b",
            "oci://ghcr.io/a___b",
            "oci://ghcr.io/a:",
            "oci://ghcr.io/a:.tag",
            "oci://ghcr.io/a:t/b",
            "oci://ghcr.io/a@sha256:aa",
            "oci://ghcr.io/a@sha512:aa",
            &format!("oci://ghcr.io/a:tag@{DIGEST}"),
            &format!("oci://ghcr.io/a@{}", DIGEST.to_uppercase()),
            &format!("oci://ghcr.io/{}", "a".repeat(600)),
        ] {
            assert!(text.parse::<OciReference>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics_and_says_what_it_reads(text in "(oci://)?[a-z0-9.:/@_\\-]{0,60}") {
            if let Ok(reference) = text.parse::<OciReference>() {
                prop_assert_eq!(reference.to_string(), text);
            }
        }
    }
}
