//! A receipt, as anybody may hand it to `cryptlet verify`.
#![no_main]

use cryptlet_types::Receipt;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = Receipt::from_json(bytes) {
        let again = document.to_json().expect("what was read has a form");
        let read = Receipt::from_json(&again).expect("the form is read");
        assert_eq!(document, read);
    }
});
