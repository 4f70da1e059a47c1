//! Time, injected.

use cryptlet_types::UnixSeconds;
use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

/// Seconds since 1970: for the expiry of tokens and certificates.
pub type Clock = Arc<dyn Fn() -> UnixSeconds + Send + Sync>;

/// The machine's own clock.
#[must_use]
pub fn wall_clock() -> Clock {
    Arc::new(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    })
}
