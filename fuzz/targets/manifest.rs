//! A cryptlet's manifest.
#![no_main]

use cryptlet_types::Manifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = Manifest::from_json(bytes) {
        let again = document.to_json().expect("what was read has a form");
        let read = Manifest::from_json(&again).expect("the form is read");
        assert_eq!(document, read);
    }
});
