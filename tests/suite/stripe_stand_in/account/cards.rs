//! Test cards.

/// What a bank says to a card.
pub(super) enum Behaviour {
    Pays {
        pending_refund: bool,
    },
    Authenticates,
    /// The account is at fault.
    IsNotActivated,
    Declines(&'static str, &'static str, &'static str),
}

/// "Testing": "Test cards", by the names that follow `tok_` and `pm_card_`.
pub(super) fn behaviour(name: &str) -> Option<Behaviour> {
    let pays = |pending_refund| Some(Behaviour::Pays { pending_refund });
    let declines =
        |code, decline_code, message| Some(Behaviour::Declines(code, decline_code, message));
    match name {
        "visa" | "visa_debit" | "mastercard" | "amex" => pays(false),
        "pendingRefund" => pays(true),
        "notActivated" => Some(Behaviour::IsNotActivated),
        "authenticationRequired" => Some(Behaviour::Authenticates),
        "chargeDeclined" => declines(
            "card_declined",
            "generic_decline",
            "Your card was declined.",
        ),
        "chargeDeclinedInsufficientFunds" => declines(
            "card_declined",
            "insufficient_funds",
            "Your card has insufficient funds.",
        ),
        "chargeDeclinedExpiredCard" => {
            declines("expired_card", "expired_card", "Your card has expired.")
        }
        "chargeDeclinedProcessingError" => declines(
            "processing_error",
            "processing_error",
            "An error occurred while processing your card. Try again in a little bit.",
        ),
        "chargeDeclinedFraudulent" => {
            declines("card_declined", "fraudulent", "Your card was declined.")
        }
        _ => None,
    }
}
