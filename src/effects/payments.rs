//! The simulated payment provider. It takes Stripe's test tokens (Stripe documentation, "Test card numbers").

use std::time::Duration;

use uuid::Uuid;

use crate::{
    engine::EffectError,
    events::ReasonCode,
    sales::{
        Outcome,
        effect::{Charge, Refund},
    },
};

/// What a charge whose refund is to fail is called.
const UNREFUNDABLE: &str = "ch_refundFail_";

/// Pays, but takes [`PAUSE`] to say so.
const SLOW: &str = "tok_chargeSlow";

/// Pays, but nobody hears of it: whoever asks within [`PAUSE`] of the intent gets no answer.
const TIMES_OUT: &str = "tok_chargeTimeout";

/// Long enough to be seen, and short beside the time that a delivery has.
const PAUSE: Duration = Duration::from_secs(3);

/// Waits for the provider's answer to a charge, or in vain. `age` is the intent's, so that a later call under the same key
/// is answered, by another process too.
pub(super) async fn answer_in_time(
    charge: &Charge,
    age: Duration,
    budget: Duration,
) -> Result<(), EffectError> {
    let never = match charge.payment_method.as_str() {
        SLOW => budget < PAUSE,
        TIMES_OUT if age < PAUSE => true,
        _ => return Ok(()),
    };
    tokio::time::sleep(PAUSE.min(budget)).await;
    if never {
        return Err(EffectError {
            service: "payment provider",
            problem: "no answer in time (simulated)".to_owned(),
        });
    }
    Ok(())
}

/// Captures money from a test token.
pub(super) fn charge(key: Uuid, charge: &Charge) -> Outcome {
    let declined = |reason_code, detail: &str| Outcome::Declined {
        reason_code,
        detail: format!("{detail} (simulated)"),
    };
    let charged = |prefix| Outcome::Charged {
        provider_reference: format!("{prefix}{}", key.simple()),
    };
    match charge.payment_method.as_str() {
        "tok_visa" | "tok_visa_debit" | "tok_mastercard" | "tok_amex" | SLOW | TIMES_OUT => {
            charged("ch_")
        }
        "tok_refundFail" => charged(UNREFUNDABLE),
        "tok_chargeDeclined" => declined(ReasonCode::CardDeclined, "the card was declined"),
        "tok_chargeDeclinedInsufficientFunds" => declined(
            ReasonCode::InsufficientFunds,
            "the account does not cover the amount",
        ),
        "tok_chargeDeclinedExpiredCard" => {
            declined(ReasonCode::ExpiredCard, "the card has expired")
        }
        "tok_chargeDeclinedProcessingError" => declined(
            ReasonCode::ProcessingError,
            "the card could not be processed",
        ),
        _ => declined(
            ReasonCode::UnknownPaymentMethod,
            "no such token; tok_visa pays",
        ),
    }
}

/// Pays back.
pub(super) fn refund(refund: &Refund) -> Outcome {
    if refund.provider_reference.starts_with(UNREFUNDABLE) {
        return Outcome::RefundRefused {
            detail: "the card's bank refused the refund (simulated)".to_owned(),
        };
    }
    Outcome::Refunded
}
