//! The outside world: who performs effects.

mod carrier;
mod payments;

use std::time::Duration;

use futures_util::future::{BoxFuture, ready};

use crate::{
    engine::{EffectError, Effects},
    sales::{Effect, Outcome},
};

/// A payment provider and a carrier that exist in this process only. They keep the one rule that matters: asked
/// again under the same idempotency key, they give the same answer, before and after a restart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Simulated;

impl Effects for Simulated {
    fn perform<'a>(
        &'a self,
        effect: &'a Effect,
        _age: Duration,
        _budget: Duration,
    ) -> BoxFuture<'a, Result<Outcome, EffectError>> {
        let key = effect.idempotency_key();
        let outcome = match effect {
            Effect::Charge(charge) => payments::charge(key, charge),
            Effect::Refund(refund) => payments::refund(refund),
            Effect::Dispatch(dispatch) => carrier::dispatch(key, dispatch),
        };
        Box::pin(ready(Ok(outcome)))
    }
}
