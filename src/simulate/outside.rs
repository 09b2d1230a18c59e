//! The simulated payment provider and carrier. Like the real ones they remember idempotency keys, and like the real
//! ones they may do what they were asked without saying so, or only after the caller has given up.

use std::time::Duration;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::{
    engine::{EffectError, Effects},
    events::ReasonCode,
    sales::{
        Effect, Outcome,
        effect::{Charge, Refund},
    },
};

use super::{
    account::{Account, Performed},
    agenda::{DAY, HOUR, MILLISECOND, MINUTE, Micros, SECOND},
    bugs::{self, Bug},
    customers::{self, UNDELIVERABLE},
    faults::Fault,
    invariants::Invariant,
    world::{Next, SharedWorld, World},
};

/// How long provider and carrier remember an idempotency key. Real ones do for a day; shorter means that it happens
/// more often that one is forgotten.
const KEY_MEMORY: Micros = 10 * MINUTE;

/// From what age of an intent on they are asked to look up what became of it, as an adapter to a provider that forgets
/// must do: earlier than the key can be forgotten, whatever the clocks say.
const LOOK_UP_AFTER: Micros = 9 * MINUTE;

/// What a charge whose refund is to fail is called.
const UNREFUNDABLE: &str = "unrefundable";

/// Payment provider and carrier.
pub(super) struct Outside(pub(super) SharedWorld);

impl Effects for Outside {
    fn perform<'a>(
        &'a self,
        effect: &'a Effect,
        age: Duration,
        budget: Duration,
    ) -> BoxFuture<'a, Result<Outcome, EffectError>> {
        Box::pin(async move {
            let budget = micros(budget);
            let (trusting, mistaken) = {
                let world = self.0.lock();
                (world.has(Bug::TrustsKeys), world.has(Bug::TimeoutAsFailure))
            };
            let looks_up = micros(age) >= LOOK_UP_AFTER && !trusting;
            let answer = self.ask(effect, looks_up, budget).await;
            match answer {
                Err(_) if mistaken => Ok(bugs::failure(effect)),
                answer => answer,
            }
        })
    }
}

impl Outside {
    async fn ask(
        &self,
        effect: &Effect,
        looks_up: bool,
        budget: Micros,
    ) -> Result<Outcome, EffectError> {
        let Self(world) = self;
        world
            .pause_between(5 * MILLISECOND, 300 * MILLISECOND)
            .await;
        let received = world.lock().receive(effect, looks_up);
        match received {
            Received::Done(outcome) => {
                world.pause_between(MILLISECOND, 300 * MILLISECOND).await;
                return Ok(outcome);
            }
            Received::NoAnswer => {}
        }
        world.pause(budget).await;
        Err(EffectError {
            service: "outside",
            problem: "no answer in time".to_owned(),
        })
    }
}

/// A budget in microseconds.
pub(super) fn micros(budget: Duration) -> Micros {
    u64::try_from(budget.as_micros()).unwrap_or(SECOND)
}

/// What becomes of a call.
enum Received {
    Done(Outcome),
    NoAnswer,
}

impl World {
    fn receive(&mut self, effect: &Effect, looks_up: bool) -> Received {
        let number = customers::number(order_of(effect));
        let key = effect.idempotency_key();
        let account = self.accounts.get(number);
        let committed = account.is_some_and(|account| account.intents.contains(&key));
        self.check(number, Invariant::IntentFirst, committed, || {
            format!("{} is called without a committed intent", name(effect))
        });
        let timeout = self.strikes(Fault::EffectTimeout);
        let late = self.strikes(Fault::EffectLate);
        let unanswered = self.strikes(Fault::EffectUnanswered) || self.is_out(number);
        if timeout {
            return Received::NoAnswer;
        }
        if late && self.answer(number, key, looks_up).is_some() {
            return Received::NoAnswer;
        }
        if late {
            let delay = self.random(self.running.order).spread(SECOND, 2 * HOUR);
            self.begin(number);
            self.agenda
                .after(delay, Next::Late(number, Box::new(effect.clone())));
            return Received::NoAnswer;
        }
        let outcome = self.execute(effect, looks_up);
        if unanswered {
            return Received::NoAnswer;
        }
        Received::Done(outcome)
    }

    /// Whether provider and carrier answer nothing about an order. What they are asked, they may do all the same.
    fn is_out(&mut self, number: u64) -> bool {
        let now = self.agenda.now();
        let account = self.accounts.get(number);
        if account.is_some_and(|account| now < account.outage) {
            return true;
        }
        if !self.strikes(Fault::EffectOutage) {
            return false;
        }
        let random = self.random(Some(number));
        let longest = if random.percent(1) {
            2 * DAY
        } else {
            16 * MINUTE
        };
        let until = now + random.spread(MINUTE, longest);
        if let Some(account) = self.accounts.get_mut(number) {
            account.outage = until;
        }
        true
    }

    /// What was answered under a key, as far as the provider remembers it or is asked to look it up.
    fn answer(&self, number: u64, key: Uuid, looks_up: bool) -> Option<Outcome> {
        let now = self.agenda.now();
        let mut performed = self.accounts.get(number)?.performed.iter();
        let known = performed.find(|known| known.key == key)?;
        let remembered = looks_up || now < known.at + KEY_MEMORY;
        remembered.then(|| known.outcome.clone())
    }

    /// Does what an effect asks for, unless its key is known.
    pub(super) fn execute(&mut self, effect: &Effect, looks_up: bool) -> Outcome {
        let number = customers::number(order_of(effect));
        let mut key = effect.idempotency_key();
        if self.has(Bug::RefundTwice) && matches!(effect, Effect::Refund(_)) {
            key = bugs::another_key(self.random(Some(number)));
        }
        if let Some(known) = self.answer(number, key, looks_up) {
            return known;
        }
        let now = self.agenda.now();
        let Some(account) = self.accounts.get_mut(number) else {
            return bugs::failure(effect);
        };
        let outcome = match effect {
            Effect::Charge(charge) => capture(account, charge),
            Effect::Refund(refund) => pay_back(account, refund),
            Effect::Dispatch(dispatch) if dispatch.ship_to.postal_code == UNDELIVERABLE => {
                Outcome::DispatchRefused {
                    reason_code: ReasonCode::AddressUndeliverable,
                    detail: "no way there".to_owned(),
                }
            }
            Effect::Dispatch(_) => {
                account.parcels += 1;
                Outcome::Dispatched {
                    tracking_id: format!("T{}", account.parcels),
                }
            }
        };
        account.performed.push(Performed {
            key,
            at: now,
            outcome: outcome.clone(),
        });
        self.note(number, || {
            format!("  outside: {} {outcome:?}", name(effect))
        });
        self.check_money(number);
        self.check_parcel(number);
        outcome
    }
}

fn capture(account: &mut Account, charge: &Charge) -> Outcome {
    let declined = |reason_code| Outcome::Declined {
        reason_code,
        detail: "declined".to_owned(),
    };
    let prefix = match charge.payment_method.as_str() {
        "tok_visa" => "ch",
        "tok_refundFail" => UNREFUNDABLE,
        "tok_chargeDeclinedInsufficientFunds"
            if charge.attempt > 1 && account.random.percent(50) =>
        {
            "ch"
        }
        "tok_chargeDeclinedInsufficientFunds" => return declined(ReasonCode::InsufficientFunds),
        _ => return declined(ReasonCode::CardDeclined),
    };
    account.captures.push(charge.amount);
    Outcome::Charged {
        provider_reference: format!("{prefix}_{}", account.captures.len()),
    }
}

fn pay_back(account: &mut Account, refund: &Refund) -> Outcome {
    if refund.provider_reference.starts_with(UNREFUNDABLE) {
        account.refund_refused = true;
        return Outcome::RefundRefused {
            detail: "refused".to_owned(),
        };
    }
    account.refunds.push(refund.amount);
    Outcome::Refunded
}

/// The order that an effect is about.
pub(super) fn order_of(effect: &Effect) -> crate::events::OrderId {
    match effect {
        Effect::Charge(charge) => charge.order_id,
        Effect::Refund(refund) => refund.order_id,
        Effect::Dispatch(dispatch) => dispatch.order_id,
    }
}

/// An effect in a word.
pub(super) fn name(effect: &Effect) -> &'static str {
    match effect {
        Effect::Charge(_) => "charge",
        Effect::Refund(_) => "refund",
        Effect::Dispatch(_) => "dispatch",
    }
}
