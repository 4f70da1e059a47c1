//! A policy with its approvals.
#![no_main]

use cryptlet_types::policy::SignedPolicy;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = SignedPolicy::from_json(bytes) {
        let again = document.to_json().expect("what was read has a form");
        let read = SignedPolicy::from_json(&again).expect("the form is read");
        assert_eq!(document, read);
    }
});
