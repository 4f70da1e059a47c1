//! Sizes beyond which untrusted input is refused before it is read any further.

/// Largest component (code layer of a package), in bytes: 16 MiB.
pub const MAX_COMPONENT_BYTES: usize = 16 << 20;
/// Largest frame between host and region, in bytes. A component fits, with room for its envelope.
pub const MAX_FRAME_BYTES: usize = MAX_COMPONENT_BYTES + (1 << 20);
/// Largest JSON document that an operator or publisher hands in (manifest, policy), in bytes: 1 MiB.
pub const MAX_DOCUMENT_BYTES: usize = 1 << 20;
/// Largest `condition` and largest `params` of a subscription, in bytes: 4 KiB, as in the delegate.
pub const MAX_SUBSCRIPTION_BYTES: usize = 4 << 10;
/// Longest validity of a report, in seconds: 7 days. A region signs nothing that stays deliverable for longer.
pub const MAX_VALIDITY_SECONDS: u64 = 7 * 86_400;
/// Largest payload of a report, in bytes: 16 KiB. Its calldata alone costs about 262,000 gas.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 10;
/// Longest reason or message kept from a cryptlet or a peer, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1 << 10;
/// Largest sealed image of a region, in bytes: 16 MiB. All that a region remembers fits.
pub const MAX_SEALED_BYTES: usize = 16 << 20;
/// Largest receipt file that is read, in bytes: 8 MiB.
pub const MAX_RECEIPT_BYTES: usize = 8 << 20;

/// Text of strangers, fit to be kept and shown: cut to [`MAX_MESSAGE_BYTES`] at a character boundary, and without
/// control characters, which could rewrite a terminal or forge a line of a log.
#[must_use]
pub fn clip(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_MESSAGE_BYTES);
    let kept = text.get(..end).unwrap_or_default().chars();
    kept.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_strangers_is_short_and_cannot_move_the_cursor() {
        assert_eq!(
            clip("closed\r\u{1b}[2Kdelivered\n"),
            "closed  [2Kdelivered "
        );
        assert_eq!(clip(&"é".repeat(1_000)).len(), MAX_MESSAGE_BYTES);
    }
}
