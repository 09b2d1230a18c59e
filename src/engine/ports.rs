//! The engine's ports to the outside world: time and effects.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use futures_util::future::BoxFuture;

use crate::sales::{Effect, Outcome};

/// The time.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// The system's time, to the microsecond.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        #[expect(clippy::disallowed_methods, reason = "this is where time comes from")]
        Utc::now().trunc_subsecs(6)
    }
}

/// Performs effects: payment provider and carrier.
pub trait Effects: Send + Sync {
    /// Performs an effect under its idempotency key: asked again under the same key, it gives the same outcome and
    /// does nothing twice. `budget` bounds the call.
    ///
    /// `age` is how long ago the intent was committed, and so the longest time that the effect may have been asked for
    /// before. Providers forget keys: past their time, what became of the earlier calls has to be looked up.
    fn perform<'a>(
        &'a self,
        effect: &'a Effect,
        age: Duration,
        budget: Duration,
    ) -> BoxFuture<'a, Result<Outcome, EffectError>>;
}

/// There is no definite answer. It may have been done or not: ask again under the same key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no definite answer from the {service}: {problem}")]
pub struct EffectError {
    /// Who was asked.
    pub service: &'static str,
    /// What went wrong.
    pub problem: String,
}
