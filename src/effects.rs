//! The outside world: who performs effects.

mod carrier;
mod payments;
mod stripe;

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::{
    engine::{EffectError, Effects},
    sales::{Effect, Outcome},
};

pub use stripe::{LOOK_UP_AFTER, Stripe};

/// A payment provider and a carrier that exist in this process only. They keep the one rule that matters: asked
/// again under the same idempotency key, they give the same answer, before and after a restart.
#[derive(Debug, Clone, Copy, Default)]
pub struct Simulated;

impl Effects for Simulated {
    fn perform<'a>(
        &'a self,
        effect: &'a Effect,
        age: Duration,
        budget: Duration,
    ) -> BoxFuture<'a, Result<Outcome, EffectError>> {
        Box::pin(async move {
            let key = effect.idempotency_key();
            match effect {
                Effect::Charge(charge) => {
                    payments::answer_in_time(charge, age, budget).await?;
                    Ok(payments::charge(key, charge))
                }
                Effect::Refund(refund) => Ok(payments::refund(refund)),
                Effect::Dispatch(dispatch) => Ok(carrier::dispatch(key, dispatch)),
            }
        })
    }
}
