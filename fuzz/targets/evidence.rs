//! Evidence as it is sent (CBOR), and as it lies in receipts and is handed to cryptlets (JSON).
#![no_main]

use cryptlet_types::{
    Evidence,
    region::{decode, encode},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(evidence) = decode::<Evidence>(bytes) {
        let again = encode(&evidence).expect("what was read has a form");
        assert_eq!(decode::<Evidence>(&again), Ok(evidence));
    }
    if let Ok(evidence) = Evidence::from_json(bytes) {
        let again = serde_json::to_vec(&evidence).expect("what was read has a form");
        let read = Evidence::from_json(&again).expect("the form is read");
        assert_eq!(evidence, read);
    }
});
