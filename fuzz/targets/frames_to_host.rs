//! Frames that a region sends its host: what is read is written down in a form that is read as the same.
#![no_main]

use cryptlet_types::region::{ToHost, decode, encode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = decode::<ToHost>(bytes) {
        let again = encode(&message).expect("what was read has a form");
        let read = decode::<ToHost>(&again).expect("the form is read");
        assert_eq!(format!("{message:?}"), format!("{read:?}"));
    }
});
