//! Lengths in CBOR (RFC 8949, section 3), believed only as far as there are bytes.
//!
//! Readers of arrays make room for as many elements as are announced: nine bytes could so ask for any amount of memory.

use super::FrameError;

/// Checks that no string, array or map of `bytes` announces more than could follow. What else they are is not looked at.
///
/// # Errors
/// [`FrameError::Malformed`]
pub(super) fn check(bytes: &[u8]) -> Result<(), FrameError> {
    let mut rest = bytes;
    while let Some((first, after)) = rest.split_first() {
        let (argument, after) = argument(first & 0x1f, after)?;
        // Of what is announced, each takes a byte at least, a pair of a map two; the bytes of a string are passed over.
        let (least, passed) = match first >> 5 {
            2 | 3 => (argument, argument),
            4 => (argument, Some(0)),
            5 => (argument.map(|pairs| pairs.saturating_mul(2)), Some(0)),
            _ => (None, None),
        };
        let fits = |count: u64| {
            usize::try_from(count)
                .ok()
                .filter(|count| *count <= after.len())
        };
        if least.is_some_and(|least| fits(least).is_none()) {
            return Err(malformed("a length is greater than the frame"));
        }
        rest = after
            .get(passed.and_then(fits).unwrap_or(0)..)
            .unwrap_or_default();
    }
    Ok(())
}

/// The number that a head carries, and what follows the head; none where the length is not told in advance.
fn argument(kind: u8, after: &[u8]) -> Result<(Option<u64>, &[u8]), FrameError> {
    let size = match kind {
        0..24 => return Ok((Some(u64::from(kind)), after)),
        24 => 1,
        25 => 2,
        26 => 4,
        27 => 8,
        31 => return Ok((None, after)),
        _ => return Err(malformed("a head that is none")),
    };
    let (number, after) = after
        .split_at_checked(size)
        .ok_or_else(|| malformed("a head is cut short"))?;
    let number = number
        .iter()
        .fold(0, |all, byte| all << 8 | u64::from(*byte));
    Ok((Some(number), after))
}

fn malformed(reason: &str) -> FrameError {
    FrameError::Malformed(reason.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::region::{CallOut, ToHost, ToRegion, decode, encode};

    /// `{"Call": {"Send": ...}}`, up to where the bytes begin.
    const SEND: &[u8] = b"\xa1\x64Call\xa1\x64Send";

    #[test]
    fn an_array_of_more_elements_than_there_are_bytes_is_refused() {
        for length in [u64::MAX, 1 << 63, 1 << 40, 4] {
            let frame = [SEND, &[0x9b], &length.to_be_bytes(), &[0; 3]].concat();
            let told = decode::<ToHost>(&frame).unwrap_err().to_string();
            assert!(told.contains("greater than the frame"), "{told}");
        }
        let whole = [SEND, &[0x9b], &3_u64.to_be_bytes(), &[0; 3]].concat();
        assert!(decode::<ToHost>(&whole).is_ok());
    }

    #[test]
    fn every_kind_of_length_is_looked_at() {
        for head in [0x5b_u8, 0x7b, 0x9b, 0xbb] {
            let mut frame = vec![head];
            frame.extend((1_u64 << 50).to_be_bytes());
            assert!(check(&frame).is_err(), "{head:x}");
            assert!(decode::<ToRegion>(&frame).is_err(), "{head:x}");
        }
        // A map's entries are pairs.
        assert!(check(&[0xa2, 0, 0, 0]).is_err());
        assert!(check(&[0xa2, 0, 0, 0, 0]).is_ok());
        assert!(check(&[0x42, 0]).is_err());
        assert!(check(&[0x1c]).is_err());
        assert!(check(&[0x19, 0]).is_err());
    }

    #[test]
    fn what_looks_like_a_length_inside_a_string_is_none() {
        let sent = ToHost::Call(CallOut::Send(vec![0x9b; 64].into()));
        let bytes = encode(&sent).unwrap();
        assert_eq!(check(&bytes), Ok(()));
        assert!(decode::<ToHost>(&bytes).is_ok());
    }
}
