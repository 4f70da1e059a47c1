//! Decimal text to a fixed-point number, exactly: no floats anywhere.

use cryptlet::primitives::U256;

const DECIMALS: usize = 18;
/// Digits before the point: more than any rate has.
const MAX_WHOLE_DIGITS: usize = 20;

/// Reads `12.34` as 12.34 * 10^18. None for anything else than digits with at most one point between
/// digits, for more than 18 decimals, and for zero: a rate of zero is no rate.
pub(crate) fn parse(text: &str) -> Option<U256> {
    let (whole, fraction) = match text.split_once('.') {
        Some((_, "")) => return None,
        Some(parts) => parts,
        None => (text, ""),
    };
    let digits_only = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let sized = (1..=MAX_WHOLE_DIGITS).contains(&whole.len()) && fraction.len() <= DECIMALS;
    if !sized || !digits_only(whole) || !digits_only(fraction) {
        return None;
    }
    let scaled = format!("{whole}{fraction:0<DECIMALS$}");
    let rate: U256 = scaled.parse().ok()?;
    (!rate.is_zero()).then_some(rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_exact() {
        let cases = [
            ("1.1172", 1_117_200_000_000_000_000_u128),
            ("136", 136_000_000_000_000_000_000),
            ("0.000000000000000001", 1),
            ("20275.17", 20_275_170_000_000_000_000_000),
        ];
        for (text, rate) in cases {
            assert_eq!(parse(text), Some(U256::from(rate)), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_rate() {
        let cases = [
            "",
            ".",
            "1.",
            ".5",
            "0",
            "0.0",
            "-1",
            "+1",
            "1e5",
            "1,5",
            " 1",
            "1 ",
            "1_000",
            "0x10",
            "N/A",
            "1.2.3",
            "0.0000000000000000001",
            "١",
            "123456789012345678901",
        ];
        for text in cases {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
