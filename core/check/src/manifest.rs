//! What a manifest declares, compared with what the component does.

use crate::{Check, Place, world::INTERFACES};
use cryptlet_types::manifest::ManifestConfig;

/// The interface through which sources are reached.
const HTTP: &str = "http";

pub(crate) fn check(check: &mut Check, config: &ManifestConfig) {
    for import in check.imports.clone() {
        if !config.imports.contains(&import) {
            let message =
                format!("the component imports {import:?}, which the manifest does not declare");
            let next =
                format!("add \"{import}\" to config.imports, or leave out the code that needs it");
            check.error(
                "import-undeclared",
                Place::Manifest("config.imports".into()),
                &message,
                &next,
            );
        }
    }
    for (index, declared) in config.imports.iter().enumerate() {
        let place = Place::Manifest(format!("config.imports[{index}]"));
        if !INTERFACES.iter().any(|(name, _)| name == declared) {
            let message = format!("{declared:?} is no interface of the world utility");
            check.error(
                "import-unknown",
                place,
                &message,
                "name http, log, regions, signing, or nothing",
            );
        } else if !check.imports.contains(declared) {
            let message =
                format!("the manifest declares {declared:?}, which the component does not import");
            check.warning(
                "import-unused",
                place,
                &message,
                "take it out: readers trust this list",
            );
        }
    }
    let egress = Place::Manifest("config.egress".into());
    let asks = check.imports.iter().any(|import| import == HTTP);
    if asks && config.egress.is_empty() {
        let message = "the component imports http, but the manifest names no source";
        check.warning(
            "egress-empty",
            egress,
            message,
            "add each source as host:port, or every request is refused",
        );
    } else if !asks && !config.egress.is_empty() {
        let message = "the manifest names sources, but the component does not import http";
        check.warning(
            "egress-unused",
            egress,
            message,
            "take them out: readers trust this list",
        );
    }
}
