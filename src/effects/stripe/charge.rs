//! Charges: one `PaymentIntent` for each attempt.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    LOOK_UP_AFTER,
    amount::stripe_amount,
    client::{Client, Failure, shortened},
    object::{ApiError, KEY, Page, PaymentIntent},
};
use crate::{
    events::ReasonCode,
    sales::{Outcome, effect::Charge},
};

/// The most requests that bring a `PaymentIntent` to its end: it is read again, captured or cancelled, once each.
const MAX_STEPS: usize = 3;

/// A charge that is asked for, with what its `PaymentIntent` must say.
struct Asked<'a> {
    client: &'a Client,
    key: String,
    /// In Stripe's unit.
    amount: i64,
    /// In lower case.
    currency: String,
    deadline: Instant,
}

/// Captures money, once per key; what became of it, or why that is unknown.
pub(super) async fn charge(
    client: &Client,
    key: Uuid,
    charge: &Charge,
    age: Duration,
    deadline: Instant,
) -> Result<Outcome, String> {
    let Some(amount) = stripe_amount(charge.amount, &charge.currency) else {
        return Ok(Outcome::Declined {
            reason_code: ReasonCode::AmountRefused,
            detail: format!(
                "Stripe cannot express {} minor units of {}",
                charge.amount.minor_units(),
                charge.currency
            ),
        });
    };
    let Some(means) = means(&charge.payment_method) else {
        return Ok(Outcome::Declined {
            reason_code: ReasonCode::UnknownPaymentMethod,
            detail: "expected a token (tok_…) or a payment method (pm_…) of Stripe".to_owned(),
        });
    };
    let asked = Asked {
        client,
        key: key.to_string(),
        amount,
        currency: charge.currency.as_str().to_ascii_lowercase(),
        deadline,
    };
    if age >= LOOK_UP_AFTER
        && let Some(intent) = asked.look_up().await?
    {
        return asked.settle(intent, None).await;
    }
    match asked.create(charge, means).await {
        Ok(intent) => asked.settle(intent, None).await,
        Err(Failure::Refused(mut error)) => {
            let outcome = refused(&error)?;
            match error.payment_intent.take() {
                Some(intent) => asked.settle(*intent, Some(&error)).await,
                None => Ok(outcome),
            }
        }
        Err(Failure::KeySpent(problem)) => match asked.look_up().await? {
            Some(intent) => asked.settle(intent, None).await,
            None => Err(problem),
        },
        Err(Failure::Unknown(problem)) => Err(problem),
    }
}

impl Asked<'_> {
    /// Creates and confirms in one request: it has one key, and one answer. The money is captured with it, since
    /// nothing would come between authorization and capture: stock is reserved and parcels leave after the payment.
    async fn create(
        &self,
        charge: &Charge,
        means: Vec<(&str, &str)>,
    ) -> Result<PaymentIntent, Failure> {
        let (amount, order_id) = (self.amount.to_string(), charge.order_id.to_string());
        let attempt = charge.attempt.to_string();
        let key = format!("metadata[{KEY}]");
        let mut parameters = vec![
            ("amount", amount.as_str()),
            ("currency", &self.currency),
            ("confirm", "true"),
            ("capture_method", "automatic"),
            // The customer is not there, neither to authenticate nor to be sent elsewhere.
            ("off_session", "true"),
            ("automatic_payment_methods[enabled]", "true"),
            ("automatic_payment_methods[allow_redirects]", "never"),
            (&key, &self.key),
            ("metadata[order_id]", &order_id),
            ("metadata[attempt]", &attempt),
        ];
        parameters.extend(means);
        self.post("payment_intents", &parameters, Some(&self.key))
            .await
    }

    /// What an earlier call under this key made.
    async fn look_up(&self) -> Result<Option<PaymentIntent>, String> {
        let query = format!("metadata['{KEY}']:'{}'", self.key);
        let path = "payment_intents/search";
        let found: Result<Page<PaymentIntent>, _> = self
            .client
            .get(path, &[("query", &query), ("limit", "2")], self.deadline)
            .await;
        let found = found.map_err(|failure| format!("cannot look up {}: {failure}", self.key))?;
        match found.data.as_slice() {
            [] => Ok(None),
            // The index may be behind.
            [intent] => self.read(intent).await.map(Some),
            _ => {
                let problem = format!("several PaymentIntents carry the key {}", self.key);
                tracing::error!(problem, "charged twice, perhaps");
                Err(problem)
            }
        }
    }

    async fn read(&self, intent: &PaymentIntent) -> Result<PaymentIntent, String> {
        let path = format!("payment_intents/{}", intent.id.as_str());
        let read = self.client.get(&path, &[], self.deadline).await;
        read.map_err(|failure| failure.to_string())
    }

    async fn post(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        key: Option<&str>,
    ) -> Result<PaymentIntent, Failure> {
        self.client.post(path, parameters, key, self.deadline).await
    }

    /// Brings a `PaymentIntent` to an end that nothing changes any more: paid, or cancelled.
    async fn settle(
        &self,
        mut intent: PaymentIntent,
        error: Option<&ApiError>,
    ) -> Result<Outcome, String> {
        for step in 0..=MAX_STEPS {
            let action: (&str, &[(&str, &str)]) = match intent.status.as_str() {
                "succeeded" => return self.captured(&intent),
                "canceled" => {
                    return Ok(declined(error.or(intent.last_payment_error.as_ref())));
                }
                // A stored answer says so for as long as its key lives.
                "processing" if step == 0 => {
                    intent = self.read(&intent).await?;
                    continue;
                }
                "processing" => {
                    return Err(format!("{} is still being processed", intent.id.as_str()));
                }
                "requires_capture" => ("capture", &[]),
                // Nobody is there to do it. What could still be paid later must not be: the next attempt has an
                // intent of its own.
                "requires_action" | "requires_confirmation" | "requires_payment_method" => {
                    ("cancel", &[("cancellation_reason", "abandoned")])
                }
                status => return Err(format!("{} is {status}", intent.id.as_str())),
            };
            intent = self.act(intent, action).await?;
        }
        Err(format!("{} comes to no end", intent.id.as_str()))
    }

    /// Captures or cancels. Both can be done once only, and need no key: a stored server error would be in the way.
    async fn act(
        &self,
        intent: PaymentIntent,
        (action, parameters): (&str, &[(&str, &str)]),
    ) -> Result<PaymentIntent, String> {
        let path = format!("payment_intents/{}/{action}", intent.id.as_str());
        match self.post(&path, parameters, None).await {
            Ok(intent) => Ok(intent),
            // It has come to its end already.
            Err(Failure::Refused(_)) => self.read(&intent).await,
            Err(failure) => Err(failure.to_string()),
        }
    }

    fn captured(&self, intent: &PaymentIntent) -> Result<Outcome, String> {
        let carried = intent.metadata.get(KEY).map(String::as_str);
        let received = (intent.amount_received, intent.currency.as_str());
        if received == (self.amount, self.currency.as_str()) && carried == Some(&self.key) {
            return Ok(Outcome::Charged {
                provider_reference: intent.id.as_str().to_owned(),
            });
        }
        let problem = format!(
            "expected {} {} for {}, {} received {} {} for {}",
            self.amount,
            self.currency,
            self.key,
            intent.id.as_str(),
            intent.amount_received,
            intent.currency,
            carried.unwrap_or("nobody")
        );
        tracing::error!(problem, "a payment that is not the one asked for");
        Err(problem)
    }
}

/// The means of payment as parameters: a token is made into a payment method on the way.
fn means(payment_method: &str) -> Option<Vec<(&str, &str)>> {
    if payment_method.starts_with("tok_") {
        return Some(vec![
            ("payment_method_data[type]", "card"),
            ("payment_method_data[card][token]", payment_method),
        ]);
    }
    payment_method
        .starts_with("pm_")
        .then(|| vec![("payment_method", payment_method)])
}

/// A decline, if the card, the means of payment or the amount is at fault. Anything else is our mistake or the account's,
/// and nothing that an order should be given up for.
fn refused(error: &ApiError) -> Result<Outcome, String> {
    if reason(error).is_some() {
        return Ok(declined(Some(error)));
    }
    let problem = shortened(&format!("Stripe refused the request: {}", error.text()));
    tracing::error!(problem, "this client or the account is to be put right");
    Err(problem)
}

/// No, and why. A `PaymentIntent` without an error was cancelled before a bank was asked.
fn declined(error: Option<&ApiError>) -> Outcome {
    let message = error.and_then(|error| error.message.as_deref());
    let message =
        message.unwrap_or("the payment needs somebody who is not there, or was cancelled");
    Outcome::Declined {
        reason_code: error.and_then(reason).unwrap_or(ReasonCode::CardDeclined),
        detail: shortened(message),
    }
}

/// Why a charge is declined (Stripe documentation, "Decline codes" and "Error codes"); `None` if it is not.
fn reason(error: &ApiError) -> Option<ReasonCode> {
    if error.kind == "card_error" {
        return Some(match (error.code(), error.decline_code()) {
            (_, "insufficient_funds") => ReasonCode::InsufficientFunds,
            ("expired_card", _) | (_, "expired_card") => ReasonCode::ExpiredCard,
            ("processing_error", _) | (_, "processing_error") => ReasonCode::ProcessingError,
            _ => ReasonCode::CardDeclined,
        });
    }
    match error.code() {
        "amount_too_small"
        | "amount_too_large"
        | "invalid_charge_amount"
        | "charge_exceeds_source_limit"
        | "charge_exceeds_transaction_limit" => Some(ReasonCode::AmountRefused),
        "token_already_used"
        | "payment_method_unexpected_state"
        | "payment_method_currency_mismatch"
        | "payment_method_invalid_parameter"
        | "payment_method_restricted"
        | "payment_intent_incompatible_payment_method" => Some(ReasonCode::UnknownPaymentMethod),
        "" | "resource_missing" if error.param().starts_with("payment_method") => {
            Some(ReasonCode::UnknownPaymentMethod)
        }
        "" if matches!(error.param(), "currency" | "amount") => Some(ReasonCode::AmountRefused),
        _ => None,
    }
}
