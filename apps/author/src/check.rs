//! Everything that can be known of a project before it runs.

use crate::{
    AuthorError, Project,
    project::{INTERFACE, MANIFEST},
};
use alloy_primitives::Address;
use cryptlet_check::{Check, Finding, Place, Severity};
use cryptlet_header::HeaderError;
use cryptlet_types::{CryptletId, manifest::DocumentError};
use serde::Serialize;
use std::path::Path;

/// Stands for an id and a key that publishing gives: a header is as right with these as with others.
const PLACEHOLDER: Address = Address::repeat_byte(1);

/// What was found in a project.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Checked {
    /// The component: verdict, imports, size. None if the manifest cannot be read.
    pub component: Option<Check>,
    /// All findings, the component's included.
    pub findings: Vec<Finding>,
}

impl Checked {
    /// Whether the cryptlet can be published: there is no error.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        let is_error = |finding: &Finding| finding.severity == Severity::Error;
        self.component.is_some() && !self.findings.iter().any(is_error)
    }
}

/// Checks manifest, interface and component of the project in `folder`. Build it first.
///
/// # Errors
/// A file that cannot be read, or a component that was not built; what is wrong with the files is a finding.
pub fn check(folder: &Path) -> Result<Checked, AuthorError> {
    let project = match Project::open(folder) {
        Ok(project) => project,
        Err(AuthorError::Manifest { source, .. }) => {
            return Ok(Checked {
                component: None,
                findings: vec![of_manifest(&source)],
            });
        }
        Err(error) => return Err(error),
    };
    let mut findings = Vec::new();
    match project.header(CryptletId(PLACEHOLDER), PLACEHOLDER) {
        Ok(_) => {}
        Err(AuthorError::Interface { source, .. }) => findings.push(of_interface(&source)),
        Err(error) => return Err(error),
    }
    let component = cryptlet_check::check(&project.code()?, &project.manifest.config);
    findings.extend(component.findings.iter().cloned());
    Ok(Checked {
        component: Some(component),
        findings,
    })
}

fn of_manifest(error: &DocumentError) -> Finding {
    let (place, message) = match error {
        DocumentError::Field { field, reason } => (Place::Manifest(field.clone()), reason.clone()),
        other => (
            Place::File {
                name: MANIFEST,
                line: None,
            },
            other.to_string(),
        ),
    };
    Finding {
        severity: Severity::Error,
        code: "manifest",
        place,
        message,
        next: format!("correct {MANIFEST}"),
    }
}

fn of_interface(error: &HeaderError) -> Finding {
    let (line, message) = match error {
        HeaderError::Line { line, reason } => (Some(*line), reason.clone()),
        other => (None, other.to_string()),
    };
    Finding {
        severity: Severity::Error,
        code: "interface",
        place: Place::File {
            name: INTERFACE,
            line,
        },
        message,
        next: format!("correct {INTERFACE}: contract developers import what is made of it"),
    }
}
