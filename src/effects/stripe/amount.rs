//! Amounts as Stripe counts them.
//!
//! Orderflow counts minor units by ISO 4217, Stripe by a table of its own (Stripe documentation, "Supported
//! currencies"). The two differ for a few currencies, by a factor of 100. What cannot be expressed exactly, or would have
//! to be guessed, is not sent.

use crate::events::{Amount, CurrencyCode};

/// Without a minor unit on both sides (ISO 4217, exponent 0; Stripe, "Zero-decimal currencies").
const WHOLE: &[&str] = &[
    "BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "PYG", "RWF", "VND", "VUV", "XAF", "XOF",
    "XPF",
];

/// Without a minor unit (ISO 4217, exponent 0), but sent as if they had hundredths: "to charge 5 ISK, provide an amount
/// value of 500" (Stripe, "Special cases"). UGX is on Stripe's zero-decimal list too; its special case comes first. The
/// special cases of HUF and TWD are about payouts alone.
const WHOLE_SENT_IN_HUNDREDTHS: &[&str] = &["ISK", "UGX"];

/// With hundredths (ISO 4217, exponent 2), but sent whole (Stripe, "Zero-decimal currencies").
const HUNDREDTHS_SENT_WHOLE: &[&str] = &["MGA"];

/// In thousandths on both sides (ISO 4217, exponent 3; Stripe, "Three-decimal currencies"), the last digit of which must
/// be 0.
const THOUSANDTHS: &[&str] = &["BHD", "JOD", "KWD", "OMR", "TND"];

/// With another exponent than 2 in ISO 4217 (IQD and LYD 3, UYI 0, CLF and UYW 4) and not named by Stripe.
const NOT_SENT: &[&str] = &["CLF", "IQD", "LYD", "UYI", "UYW"];

/// `amount` in the unit in which Stripe counts `currency`; `None` if it cannot be expressed exactly. Every currency that
/// is not listed above has hundredths on both sides; Stripe itself refuses those that it does not know.
pub(super) fn stripe_amount(amount: Amount, currency: &CurrencyCode) -> Option<i64> {
    let listed = |list: &[&str]| list.contains(&currency.as_str());
    let amount = amount.minor_units();
    if listed(WHOLE) {
        Some(amount)
    } else if listed(WHOLE_SENT_IN_HUNDREDTHS) {
        amount.checked_mul(100)
    } else if listed(HUNDREDTHS_SENT_WHOLE) {
        (amount % 100 == 0).then_some(amount / 100)
    } else if listed(THOUSANDTHS) {
        (amount % 10 == 0).then_some(amount)
    } else if listed(NOT_SENT) {
        None
    } else {
        Some(amount)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(amount: i64, currency: &str) -> Option<i64> {
        let amount = Amount::from_minor_units(amount).unwrap();
        stripe_amount(
            amount,
            &CurrencyCode::try_from(currency.to_owned()).unwrap(),
        )
    }

    #[test]
    fn most_currencies_are_counted_alike() {
        assert_eq!(sent(15_339, "EUR"), Some(15_339));
        assert_eq!(sent(1_000, "USD"), Some(1_000));
        // The special cases of these two are about payouts.
        assert_eq!(sent(1_045, "HUF"), Some(1_045));
        assert_eq!(sent(80_045, "TWD"), Some(80_045));
    }

    #[test]
    fn whole_currencies_are_sent_whole() {
        for currency in WHOLE {
            assert_eq!(sent(500, currency), Some(500), "{currency}");
        }
    }

    #[test]
    fn whole_currencies_with_a_past_are_sent_in_hundredths() {
        assert_eq!(sent(5, "ISK"), Some(500));
        assert_eq!(sent(5, "UGX"), Some(500));
        assert_eq!(
            sent(crate::events::MAX_AMOUNT, "ISK"),
            crate::events::MAX_AMOUNT.checked_mul(100)
        );
    }

    #[test]
    fn an_ariary_has_cents_here_and_none_there() {
        assert_eq!(sent(50_000, "MGA"), Some(500));
        assert_eq!(sent(50_020, "MGA"), None);
    }

    #[test]
    fn the_third_decimal_must_be_0() {
        for currency in THOUSANDTHS {
            assert_eq!(sent(5_120, currency), Some(5_120), "{currency}");
            assert_eq!(sent(5_124, currency), None, "{currency}");
        }
    }

    #[test]
    fn currencies_that_stripe_would_count_by_guess_are_not_sent() {
        for currency in ["IQD", "LYD", "CLF", "UYI", "UYW"] {
            assert_eq!(sent(1_000, currency), None, "{currency}");
        }
    }
}
