//! How often and how soon something is tried again, by policy.

use cryptlet_types::policy::Retry;
use std::time::Duration;

/// Whether the attempt after that many earlier ones is the last that policy lets be made.
pub(crate) fn is_last(retry: Retry, attempts: u32) -> bool {
    attempts.saturating_add(1) >= retry.attempts
}

/// Waiting time after that many earlier attempts: doubling, up to the longest.
pub(crate) fn backoff(retry: Retry, attempts: u32) -> Duration {
    let factor = 1_u64.checked_shl(attempts.min(32)).unwrap_or(u64::MAX);
    Duration::from_millis(
        retry
            .first_millis
            .saturating_mul(factor)
            .min(retry.longest_millis),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_attempt_counts() {
        let retry = |attempts| Retry {
            attempts,
            ..Retry::default()
        };
        assert!(is_last(retry(1), 0));
        assert!(!is_last(retry(3), 1));
        assert!(is_last(retry(3), 2));
    }

    #[test]
    fn waiting_doubles_up_to_the_longest() {
        let retry = Retry {
            attempts: 9,
            first_millis: 200,
            longest_millis: 5_000,
        };
        let millis: Vec<_> = [0, 1, 2, 5, 40]
            .map(|made| backoff(retry, made).as_millis())
            .to_vec();
        assert_eq!(millis, [200, 400, 800, 5_000, 5_000]);
    }
}
