//! What a component may do, and whether it does the same each time: read from its bytes, without running it.
//!
//! A cryptlet must say the same again when a run is repeated from its input and the answers of its sources. WebAssembly
//! gives that if it has no import but our own, no threads, no relaxed SIMD, and NaNs of one kind (the container makes them
//! canonical). Imports are compared with what the manifest declares, both ways: a component's imports show what it can do.
//!
//! The author's tools, the host at upload and auditors ask the same question here: [`check()`]. What policy demands of the
//! verdict is compared by [`Code::meets`]. Time is linear in the size of
//! the component, which is bounded.

mod code;
mod demand;
mod manifest;
mod world;

pub use demand::Code;

use cryptlet_types::{
    bounded::{MAX_COMPONENT_BYTES, clip},
    manifest::ManifestConfig,
};
use serde::Serialize;

/// Most errors that are kept, and most warnings: after so many, one more helps nobody. Each has its own, so that no number of
/// warnings hides the error for which a component is refused.
const MAX_FINDINGS: usize = 64;

/// Whether a component does the same each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Verdict {
    /// It does.
    Deterministic,
    /// It computes with floats: it does where NaNs are made canonical, as the container does.
    CanonicalNan,
    /// It may not.
    NotDeterministic,
}

/// What a verdict rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Reason {
    /// Where it was seen first, in bytes from the component's start.
    pub offset: usize,
    /// What was seen.
    pub message: String,
}

/// How grave a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// No host takes the component.
    Error,
    /// It works, but is not what its author will have meant.
    Warning,
}

/// Where a finding lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Place {
    /// The component as a whole.
    Component,
    /// Bytes from the component's start.
    Offset(usize),
    /// A field of the manifest, as a path.
    Manifest(String),
    /// A file of the author's.
    File {
        /// Its name.
        name: &'static str,
        /// The line, counted from 1, if it is known.
        line: Option<usize>,
    },
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Component => f.write_str("component"),
            Self::Offset(offset) => write!(f, "component, byte {offset:#x}"),
            Self::Manifest(path) => write!(f, "manifest, {path}"),
            Self::File { name, line: None } => f.write_str(name),
            Self::File {
                name,
                line: Some(line),
            } => write!(f, "{name}, line {line}"),
        }
    }
}

/// Something to mend.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// How grave.
    pub severity: Severity,
    /// Which rule, in words that stay the same: `import-undeclared`.
    pub code: &'static str,
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub next: String,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Size of the component in bytes.
    pub size: usize,
    /// Whether it does the same each time.
    pub verdict: Verdict,
    /// What the verdict rests on; empty if [`Verdict::Deterministic`].
    pub reasons: Vec<Reason>,
    /// Short names of the world's interfaces that it imports (`http`, `log`, `regions`, `signing`), sorted.
    pub imports: Vec<String>,
    /// What is to be mended: at most 64 errors and 64 warnings.
    pub findings: Vec<Finding>,
}

impl Check {
    /// Whether a host may take the component: there is no error.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        self.errors().next().is_none()
    }

    /// The findings for which it is refused.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(|finding| finding.severity == Severity::Error)
    }

    fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        place: Place,
        message: &str,
        next: &str,
    ) {
        if !self.is_full(severity) {
            self.findings.push(Finding {
                severity,
                code,
                place,
                message: clip(message),
                next: next.to_owned(),
            });
        }
    }

    /// Whether no further finding of this severity is kept, so that none needs to be looked for.
    fn is_full(&self, severity: Severity) -> bool {
        let same = |finding: &&Finding| finding.severity == severity;
        self.findings.iter().filter(same).count() >= MAX_FINDINGS
    }

    fn error(&mut self, code: &'static str, place: Place, message: &str, next: &str) {
        self.add(Severity::Error, code, place, message, next);
    }

    fn warning(&mut self, code: &'static str, place: Place, message: &str, next: &str) {
        self.add(Severity::Warning, code, place, message, next);
    }

    /// It may not do the same each time, for this reason.
    fn not_deterministic(&mut self, offset: usize, message: &str, next: &str) {
        self.verdict = Verdict::NotDeterministic;
        if self.reasons.len() < MAX_FINDINGS {
            self.reasons.push(Reason {
                offset,
                message: clip(message),
            });
        }
        self.error("not-deterministic", Place::Offset(offset), message, next);
    }
}

/// Checks a component against the manifest that it is published with.
#[must_use]
pub fn check(code: &[u8], config: &ManifestConfig) -> Check {
    let mut check = Check {
        size: code.len(),
        verdict: Verdict::Deterministic,
        reasons: Vec::new(),
        imports: Vec::new(),
        findings: Vec::new(),
    };
    if code.len() > MAX_COMPONENT_BYTES {
        check.verdict = Verdict::NotDeterministic;
        let message = format!("{} bytes, at most {MAX_COMPONENT_BYTES}", code.len());
        let next = "build with opt-level \"s\", strip symbols, and leave out libraries that are not needed";
        check.error("too-large", Place::Component, &message, next);
        return check;
    }
    code::check(&mut check, code, config);
    manifest::check(&mut check, config);
    check
}
