//! The simulated payment provider. It takes Stripe's test tokens (Stripe documentation, "Test card numbers").

use uuid::Uuid;

use crate::{
    events::ReasonCode,
    sales::{
        Outcome,
        effect::{Charge, Refund},
    },
};

/// What a charge whose refund is to fail is called.
const UNREFUNDABLE: &str = "ch_refundFail_";

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
        "tok_visa" | "tok_visa_debit" | "tok_mastercard" | "tok_amex" => charged("ch_"),
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
