//! Refunds: one Refund for each attempt, of a `PaymentIntent`'s money.

use std::time::Duration;

use tokio::time::Instant;
use uuid::Uuid;

use super::{
    LOOK_UP_AFTER,
    amount::stripe_amount,
    client::{Client, Failure, shortened},
    object::{ApiError, KEY, Page, Refund},
};
use crate::sales::{Outcome, effect};

/// The most refunds of one payment that are looked through; ours is the only one but for those made by hand.
const PAGE: &str = "100";

/// A refund that is asked for, with what its Refund must say.
struct Asked<'a> {
    client: &'a Client,
    key: String,
    payment_intent: &'a str,
    /// In Stripe's unit.
    amount: i64,
    /// In lower case.
    currency: String,
    deadline: Instant,
}

/// Pays back, once per key; what became of it, or why that is unknown.
pub(super) async fn refund(
    client: &Client,
    key: Uuid,
    refund: &effect::Refund,
    age: Duration,
    deadline: Instant,
) -> Result<Outcome, String> {
    let Some(amount) = stripe_amount(refund.amount, &refund.currency) else {
        return Ok(refused_with("Stripe cannot express the amount"));
    };
    let asked = Asked {
        client,
        key: key.to_string(),
        payment_intent: &refund.provider_reference,
        amount,
        currency: refund.currency.as_str().to_ascii_lowercase(),
        deadline,
    };
    if age >= LOOK_UP_AFTER
        && let Some(found) = asked.look_up().await?
    {
        return asked.settle(found).await;
    }
    match asked.create(refund).await {
        Ok(refund) => asked.settle(refund).await,
        Err(Failure::Refused(error)) => match (asked.look_up().await?, error.code()) {
            (Some(found), _) => asked.settle(found).await,
            (None, code) => refused(code, &error),
        },
        Err(Failure::KeySpent(problem)) => match asked.look_up().await? {
            Some(found) => asked.settle(found).await,
            None => Err(problem),
        },
        Err(Failure::Unknown(problem)) => Err(problem),
    }
}

impl Asked<'_> {
    async fn create(&self, refund: &effect::Refund) -> Result<Refund, Failure> {
        let (amount, order_id) = (self.amount.to_string(), refund.order_id.to_string());
        let key = format!("metadata[{KEY}]");
        let parameters = [
            ("payment_intent", self.payment_intent),
            ("amount", &amount),
            (&key, &self.key),
            ("metadata[order_id]", &order_id),
        ];
        let (key, deadline) = (Some(self.key.as_str()), self.deadline);
        self.client
            .post("refunds", &parameters, key, deadline)
            .await
    }

    /// What an earlier call under this key made. A list is never behind.
    async fn look_up(&self) -> Result<Option<Refund>, String> {
        let parameters = [("payment_intent", self.payment_intent), ("limit", PAGE)];
        let page = self.client.get("refunds", &parameters, self.deadline).await;
        let page: Page<Refund> =
            page.map_err(|failure| format!("cannot look up {}: {failure}", self.key))?;
        let ours = |refund: &Refund| refund.metadata.get(KEY) == Some(&self.key);
        match page.data.into_iter().find(ours) {
            None if page.has_more => Err(format!(
                "{} has more than {PAGE} refunds",
                self.payment_intent
            )),
            found => Ok(found),
        }
    }

    /// What a Refund's status means. Pending is unknown: it may still fail, and then the money has not gone back.
    async fn settle(&self, mut refund: Refund) -> Result<Outcome, String> {
        if refund.status() == "pending" || refund.status() == "requires_action" {
            // A stored answer says so for as long as its key lives.
            let path = format!("refunds/{}", refund.id.as_str());
            let read = self.client.get(&path, &[], self.deadline).await;
            refund = read.map_err(|failure| failure.to_string())?;
        }
        match refund.status() {
            "succeeded" => self.paid_back(&refund),
            "failed" | "canceled" => {
                let reason = refund
                    .failure_reason
                    .as_deref()
                    .unwrap_or("no reason given");
                Ok(refused_with(&format!(
                    "the refund {}: {reason}",
                    refund.status()
                )))
            }
            status => Err(format!("{} is {status}", refund.id.as_str())),
        }
    }

    fn paid_back(&self, refund: &Refund) -> Result<Outcome, String> {
        if (refund.amount, refund.currency.as_str()) == (self.amount, self.currency.as_str()) {
            return Ok(Outcome::Refunded);
        }
        let problem = format!(
            "expected {} {} back, {} has {} {}",
            self.amount,
            self.currency,
            refund.id.as_str(),
            refund.amount,
            refund.currency
        );
        tracing::error!(problem, "a refund that is not the one asked for");
        Err(problem)
    }
}

impl Refund {
    fn status(&self) -> &str {
        self.status.as_deref().unwrap_or("without a status")
    }
}

/// An error, and no refund of ours: final if the money is gone already or cannot go back. Anything else may be put right.
fn refused(code: &str, error: &ApiError) -> Result<Outcome, String> {
    let problem = shortened(&error.text());
    match code {
        // Somebody else has paid it back, in whole or in part.
        "charge_already_refunded"
        | "amount_too_large"
        | "charge_disputed"
        | "refund_disputed_payment"
        | "charge_not_refundable" => Ok(refused_with(&problem)),
        _ if error.kind == "card_error" => Ok(refused_with(&problem)),
        _ => {
            let problem = format!("Stripe refused the refund: {problem}");
            tracing::error!(problem, "the account or this client is to be put right");
            Err(problem)
        }
    }
}

fn refused_with(detail: &str) -> Outcome {
    Outcome::RefundRefused {
        detail: detail.to_owned(),
    }
}
