//! Stripe as the payment provider, over its REST API; without webhooks. The carrier stays the simulated one.
//!
//! # Once, whatever happens
//! An effect is asked for again until there is a definite answer, and money must move once. Two memories of Stripe see to
//! that, each where the other is weak ([`LOOK_UP_AFTER`]):
//! - **Idempotency keys** are exact: under the same key Stripe gives the first answer again. It may forget a key once it
//!   is 24 hours old (API reference, "Idempotent requests"). No key can be older than the intent of its effect, so while
//!   that is young the key alone decides.
//! - **Metadata** is never forgotten: every object carries its key. `PaymentIntents` are found with the Search API, which
//!   is behind by a minute and by more in an outage ("Search": "Data freshness"), Refunds in the consistent list of their
//!   `PaymentIntent`. An old intent is looked up first, and then asked for under the same key as ever.
//!
//! Together there is no gap: an earlier call is either less than a day ago, then its key still answers, or more, then
//! the index has had a day to show it. The Search API is not offered to accounts in India: there an old intent stays
//! unknown, and is named in the log, until somebody looks at the dashboard. It is not charged again.
//!
//! # Unknown and no
//! No answer, 409 (the key is in use), 429 and 5xx are tried again within the budget and then unknown. So is everything
//! that is our mistake: credentials, a parameter that Stripe does not know, a key that was used for something else. Only
//! what Stripe says about the card, the means of payment or the amount is a decline, and it is reported once the
//! `PaymentIntent` is cancelled and can never be paid. A server error is stored like any answer; when it comes back, the
//! metadata tell whether there is something behind it.
//!
//! A `PaymentIntent` that is `processing` and a Refund that is `pending` are unknown as well: nobody would tell us later
//! that they failed. Nor does anybody tell us of a bank that returns a refund after it had succeeded, or of a dispute: those
//! are seen at the dashboard.

mod amount;
mod charge;
mod client;
mod object;
mod refund;

use std::time::Duration;

use futures_util::future::BoxFuture;
use url::Url;

use super::carrier;
use crate::{
    engine::{EffectError, Effects},
    publish::deadline,
    sales::{Effect, Outcome},
};
use client::Client;

/// How old an intent must be for an earlier call to be looked up before the next one: half of the time for which Stripe
/// keeps keys, in case clocks differ.
pub const LOOK_UP_AFTER: Duration = Duration::from_secs(12 * 60 * 60);

/// Charges and refunds through one Stripe account. `Debug` shows no secret.
#[derive(Debug)]
pub struct Stripe {
    client: Client,
}

impl Stripe {
    /// Stripe at `api_base`, such as `https://api.stripe.com`, with a secret or restricted key.
    ///
    /// # Errors
    /// What is wrong with the key, or with this machine's certificates. The key is not shown.
    pub fn new(api_base: &Url, api_key: &str) -> Result<Self, String> {
        Ok(Self {
            client: Client::new(api_base, api_key)?,
        })
    }
}

impl Effects for Stripe {
    fn perform<'a>(
        &'a self,
        effect: &'a Effect,
        age: Duration,
        budget: Duration,
    ) -> BoxFuture<'a, Result<Outcome, EffectError>> {
        Box::pin(async move {
            let (key, deadline) = (effect.idempotency_key(), deadline(budget));
            let outcome = match effect {
                Effect::Charge(charge) => {
                    charge::charge(&self.client, key, charge, age, deadline).await
                }
                Effect::Refund(refund) => {
                    refund::refund(&self.client, key, refund, age, deadline).await
                }
                Effect::Dispatch(dispatch) => Ok(carrier::dispatch(key, dispatch)),
            };
            outcome.map_err(|problem| EffectError {
                service: "payment provider",
                problem,
            })
        })
    }
}
