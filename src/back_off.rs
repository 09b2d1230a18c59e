//! How long to wait before the next try.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

/// The delay after the first failure; it doubles up to the last.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// Between half and all of a delay that doubles with every failure, so that those who failed together come back apart.
pub(crate) fn jittered(failures: u32) -> Duration {
    let delay = FIRST_DELAY
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LAST_DELAY);
    // Every `RandomState` has other keys, which is random enough here.
    let thousandths = RandomState::new().hash_one(failures) % 501;
    delay / 2 + delay / 1_000 * u32::try_from(thousandths).unwrap_or_default()
}
