//! Golden files that Rust writes: each must be, byte for byte, what a test renders.

use serde_json::Value;
use std::{fs, path::Path};

/// Compares `value` with the golden file in `vectors/`, or writes it where `UPDATE_VECTORS` is set.
pub(crate) fn golden(folder: &str, name: &str, value: &Value) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../vectors")
        .join(folder);
    let file = folder.join(format!("{name}.json"));
    let text = format!("{}\n", serde_json::to_string_pretty(value).unwrap());
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::create_dir_all(&folder).unwrap();
        fs::write(&file, &text).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(found, text, "{}", file.display());
}
