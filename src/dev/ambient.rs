//! What the stand-ins take from their surroundings: the wall clock and chance.

use chrono::{DateTime, SecondsFormat, Utc};
use uuid::Uuid;

/// The present time.
#[expect(
    clippy::disallowed_methods,
    reason = "the stand-ins play the part of Azure, which has a clock of its own"
)]
pub(super) fn now() -> DateTime<Utc> {
    Utc::now()
}

/// An id that nobody can foresee.
#[expect(
    clippy::disallowed_methods,
    reason = "the stand-ins play the part of Azure, which makes ids of its own"
)]
pub(super) fn random_id() -> Uuid {
    Uuid::new_v4()
}

/// The number from 0 to 1 that belongs to an id; evenly spread, as ids are.
pub(super) fn fraction(id: Uuid) -> f64 {
    let (high, _) = id.as_u64_pair();
    f64::from(u32::try_from(high >> 32).unwrap_or_default()) / f64::from(u32::MAX)
}

/// `time` as RFC 3339 with milliseconds, the way Azure writes it.
pub(super) fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}
