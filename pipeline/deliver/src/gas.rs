//! The gas limit of a delivery, computed: an estimate would run the callback as it is now, not as it will be.
//!
//! The delegate refuses a delivery (`InsufficientGas`) unless, right before the callback, it sees
//! `callbackGas + callbackGas / 63 + 12,000`: EIP-150 keeps 1/64 back from a call. What is spent up to there:
//! the intrinsic cost of the transaction, about 20,000 for the checks (cold reads of the subscription, of two
//! words of the register and of three accounts, ecrecover, one changed word), and a few units of gas for each word
//! of the payload (hashing, two copies, memory). Calldata has a floor price (EIP-7623) that can exceed all of it.
//! Gas that is not used is not paid.

/// Of every transaction.
const INTRINSIC: u64 = 21_000;
/// For a zero byte of calldata; a byte that is not zero costs four times that.
const ZERO_BYTE: u64 = 4;
/// Floor for a zero byte of calldata (EIP-7623); likewise four times that for others.
const FLOOR_ZERO_BYTE: u64 = 10;
/// For the delegate's checks, with about half as much again in reserve.
const CHECKS: u64 = 32_000;
/// For hashing (6 a word), copying twice (2 * 3 a word) and linear memory (3 a word, three buffers).
const PAYLOAD_WORD: u64 = 24;
/// What the delegate wants to see beyond the callback's share (`GAS_AFTER_CALLBACK`).
const AFTER_CALLBACK: u64 = 12_000;

/// For a delegation, where the report is made under one: hashing it, its revocation, the identity, and its signature. An
/// account's takes ecrecover; a wallet's (ERC-1271) is its own code, and one that needs more than this cannot be spoken
/// for.
pub const CONSENT: u64 = 150_000;

/// Units of gas that the transaction with this calldata needs at most. `payload`: bytes of the report's payload.
#[must_use]
pub fn limit(calldata: &[u8], payload: usize, callback_gas: u32) -> u64 {
    priced(calldata, item(payload, callback_gas))
}

/// The same for a batch, each item with its payload's bytes and the gas that its callback is promised.
#[must_use]
pub fn batch_limit(calldata: &[u8], items: impl Iterator<Item = (usize, u32)>) -> u64 {
    let execution = items.map(|(payload, callback_gas)| item(payload, callback_gas));
    priced(calldata, execution.sum::<u64>() + CHECKS)
}

/// What one report of a batch may use up at most, calldata excepted.
#[must_use]
pub fn item(payload: usize, callback_gas: u32) -> u64 {
    let callback = u64::from(callback_gas);
    let words = (payload as u64).div_ceil(32);
    // Memory beyond the linear price: words squared over 512 (yellow paper, appendix H), for three buffers.
    let memory = (3 * words) * (3 * words) / 512;
    CHECKS + words * PAYLOAD_WORD + memory + callback + callback / 63 + AFTER_CALLBACK
}

fn priced(calldata: &[u8], execution: u64) -> u64 {
    let zeros = calldata.iter().filter(|byte| **byte == 0).count() as u64;
    let tokens = zeros + 4 * (calldata.len() as u64 - zeros);
    let standard = INTRINSIC + tokens * ZERO_BYTE + execution;
    standard.max(INTRINSIC + tokens * FLOOR_ZERO_BYTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callback_always_gets_its_share() {
        for callback_gas in [20_000, 100_000, 5_000_000] {
            let without = limit(&[], 0, 0);
            let with = limit(&[], 0, callback_gas);
            let forwarded = (with - without) - (with - without) / 64;
            assert!(forwarded + 1 >= callback_gas.into(), "{callback_gas}");
        }
    }

    #[test]
    fn calldata_is_priced_by_its_bytes_and_never_below_the_floor() {
        assert_eq!(limit(&[0; 10], 0, 0) - limit(&[], 0, 0), 40);
        assert_eq!(limit(&[1; 10], 0, 0) - limit(&[], 0, 0), 160);
        assert!(limit(&[1; 100_000], 0, 0) >= 21_000 + 100_000 * 40);
    }
}
