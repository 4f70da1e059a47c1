//! A source's answer, in pieces: the first byte says how long they are. The container's file is compiled here by itself,
//! since the container would bring a compiler with it. In what pieces an answer comes does not change
//! what is read of it.
#![no_main]

#[allow(dead_code, reason = "its error is printed nowhere here")]
#[rustfmt::skip]
#[path = "../../enclave/container/src/http/response.rs"]
mod response;

use libfuzzer_sys::fuzz_target;
use response::ResponseError;
use std::io::{self, Read};

/// Most bytes of an answer.
const LIMIT: u64 = 64 << 10;

struct Pieces<'a> {
    bytes: &'a [u8],
    length: usize,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.length.min(buffer.len()).min(self.bytes.len());
        let (piece, rest) = self.bytes.split_at(count);
        buffer[..count].copy_from_slice(piece);
        self.bytes = rest;
        Ok(count)
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((length, bytes)) = bytes.split_first() else {
        return;
    };
    let length = usize::from(*length).max(1);
    let in_pieces = response::read_response(&mut Pieces { bytes, length }, LIMIT);
    let at_once = response::read_response(&mut &*bytes, LIMIT);
    match (in_pieces, at_once) {
        (Ok(in_pieces), Ok(at_once)) => assert_eq!(in_pieces, at_once),
        (Err(_), Err(_)) => {}
        // Bytes that follow the body are noticed only if they have come with it.
        (Ok(_), Err(error)) | (Err(error), Ok(_)) => {
            let followed = matches!(
                error,
                ResponseError::Malformed("bytes follow the body") | ResponseError::TooLarge(_)
            );
            assert!(followed, "{error:?}");
        }
    }
});
