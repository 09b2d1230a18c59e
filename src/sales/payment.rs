//! Payment: captures what is invoiced, once, and pays it back, once, when the sale falls through.
//!
//! Money is paid back when a shortage, a failed shipment or a cancelled shipment permits it. A cancellation request
//! alone does not: the parcel may leave at the same moment, and shipping decides which of the two it is.

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::{
    Amount, BillingCompleted, Carried, CurrencyCode, OrderCancelRequested, OrderId, Outgoing,
    Payment as Captured, PaymentDeclined, PaymentRefunded, PaymentSuccessful, ReasonCode,
    RefundFailed, ShipmentCancelled, ShipmentFailed, StockShortage, event_id,
};

use super::{
    Context, Effect, Outcome, State, Verdict,
    effect::{Charge, Refund},
};

/// Payment's own state of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Payment {
    /// How far the money has come.
    progress: Progress,
    /// Whether the order is to be cancelled: nothing may be charged any more.
    cancelled: bool,
    /// Why captured money is to be paid back, once that is permitted.
    undo: Option<ReasonCode>,
}

/// How far the money has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Progress {
    /// Not billed yet.
    #[default]
    None,
    /// A charge is intended; whether it took place may be unknown.
    Charging { attempt: u32 },
    /// The last try was declined; another one follows.
    Declined {
        bill: Bill,
        attempt: u32,
        retry_at: DateTime<Utc>,
    },
    /// Declined for good.
    GivenUp,
    /// The money is here.
    Captured(Receipt),
    /// A refund is intended; whether it took place may be unknown.
    Refunding(Receipt),
    /// The money went back.
    Refunded,
    /// The money could not be paid back.
    RefundFailed,
}

/// What is to be paid: what billing said. It goes on to the next service with the payment, unread.
type Bill = Carried<BillingCompleted>;

/// What is needed to pay captured money back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    provider_reference: String,
    amount: Amount,
    currency: CurrencyCode,
}

impl State for Payment {
    const OWNER: &'static str = "payment";

    fn due(&self) -> Option<DateTime<Utc>> {
        match self.progress {
            Progress::Declined { retry_at, .. } => Some(retry_at),
            _ => None,
        }
    }
}

/// Charges what billing invoiced.
pub fn charge(
    _: &Context<'_>,
    state: Option<&Payment>,
    billed: &BillingCompleted,
) -> Verdict<Payment> {
    let state = state.cloned().unwrap_or_default();
    if state.progress != Progress::None {
        return Verdict::Ignore("already billed or given up");
    }
    capture(state, billed, 1)
}

/// Tries to capture what is to be paid.
fn capture(mut state: Payment, billed: &BillingCompleted, attempt: u32) -> Verdict<Payment> {
    let BillingCompleted { order, invoice } = billed;
    let effect = Effect::Charge(Charge {
        order_id: order.order_id,
        attempt,
        amount: invoice.total_amount,
        currency: order.currency.clone(),
        payment_method: order.payment_method.clone(),
        bill: Bill::of(billed),
    });
    state.progress = Progress::Charging { attempt };
    Verdict::accept(state).perform(effect)
}

/// The time has come to try a declined payment again.
pub fn retry(_: &Context<'_>, state: &Payment) -> Verdict<Payment> {
    let Progress::Declined { bill, attempt, .. } = &state.progress else {
        return Verdict::Ignore("nothing is to be tried again");
    };
    match bill.read() {
        Ok(billed) => capture(state.clone(), &billed, attempt + 1),
        Err(_) => Verdict::Reject("the bill was kept by a version that wrote it otherwise"),
    }
}

/// Gives up what nobody wants any more, unless a charge is under way. That is said at once, even before the bill has
/// come: it may never come.
fn give_up_unless_begun(state: Payment, order_id: OrderId) -> Verdict<Payment> {
    let attempt = match state.progress {
        Progress::None => 1,
        Progress::Declined { attempt, .. } => attempt + 1,
        _ => return Verdict::accept(state),
    };
    let (reason_code, detail) = (ReasonCode::OrderCancelled, "the order was cancelled");
    give_up(state, order_id, attempt, reason_code, detail)
}

fn give_up(
    mut state: Payment,
    order_id: OrderId,
    attempt: u32,
    reason_code: ReasonCode,
    detail: &str,
) -> Verdict<Payment> {
    state.progress = Progress::GivenUp;
    let declined = PaymentDeclined {
        order_id,
        reason_code,
        detail: detail.to_owned(),
        retryable: false,
        attempt,
    };
    Verdict::accept(state).publish_attempt(&declined, attempt)
}

/// Takes the provider's answer to a charge or a refund.
pub fn settle(
    context: &Context<'_>,
    state: Option<&Payment>,
    effect: &Effect,
    outcome: &Outcome,
) -> Verdict<Payment> {
    let Some(state) = state else {
        return Verdict::Reject("an outcome without a state");
    };
    match (effect, &state.progress, outcome) {
        (Effect::Charge(charge), Progress::Charging { attempt }, _)
            if *attempt == charge.attempt =>
        {
            match outcome {
                Outcome::Charged { provider_reference } => {
                    captured(state, charge, provider_reference)
                }
                Outcome::Declined {
                    reason_code,
                    detail,
                } => declined(context, state, charge, *reason_code, detail),
                _ => Verdict::Reject("an outcome that does not answer a charge"),
            }
        }
        (Effect::Refund(refund), Progress::Refunding(_), Outcome::Refunded) => {
            refunded(state, refund)
        }
        (Effect::Refund(refund), Progress::Refunding(_), Outcome::RefundRefused { detail }) => {
            refund_refused(state, refund, detail)
        }
        (Effect::Refund(_), Progress::Refunding(_), _) => {
            Verdict::Reject("an outcome that does not answer a refund")
        }
        _ => Verdict::Ignore("settled already"),
    }
}

/// What [`PaymentSuccessful`] has beyond the bill.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Paid {
    payment: Captured,
}

/// The money is here. If the sale has fallen through meanwhile, it goes back at once.
fn captured(state: &Payment, charge: &Charge, provider_reference: &str) -> Verdict<Payment> {
    let paid = Paid {
        payment: Captured {
            payment_id: payment_id(charge.order_id),
            provider_reference: provider_reference.to_owned(),
            amount: charge.amount,
            attempt: charge.attempt,
        },
    };
    let paid = Outgoing::passing_on::<PaymentSuccessful>(charge.order_id, &charge.bill, &paid);
    let receipt = Receipt {
        provider_reference: provider_reference.to_owned(),
        amount: charge.amount,
        currency: charge.currency.clone(),
    };
    let state = Payment {
        progress: Progress::Captured(receipt),
        ..*state
    };
    refund_if_due(state, charge.order_id).publish_outgoing(paid)
}

fn declined(
    context: &Context<'_>,
    state: &Payment,
    charge: &Charge,
    reason_code: ReasonCode,
    detail: &str,
) -> Verdict<Payment> {
    let (order_id, attempt) = (charge.order_id, charge.attempt);
    let unwanted = state.cancelled || state.undo.is_some();
    let last = attempt >= u32::from(context.catalog.payment_attempts);
    if unwanted || last || !may_succeed_later(reason_code) {
        return give_up(state.clone(), order_id, attempt, reason_code, detail);
    }
    let pause = Duration::minutes(i64::from(context.catalog.payment_retry_minutes));
    let state = Payment {
        progress: Progress::Declined {
            bill: charge.bill.clone(),
            attempt,
            retry_at: context.time + pause,
        },
        ..*state
    };
    let declined = PaymentDeclined {
        order_id,
        reason_code,
        detail: detail.to_owned(),
        retryable: true,
        attempt,
    };
    Verdict::accept(state).publish_attempt(&declined, attempt)
}

/// Whether the same means of payment may pay at another time.
fn may_succeed_later(reason_code: ReasonCode) -> bool {
    matches!(
        reason_code,
        ReasonCode::InsufficientFunds | ReasonCode::ProcessingError
    )
}

/// A shortage permits the refund.
pub fn refund_shortage(
    _: &Context<'_>,
    state: Option<&Payment>,
    short: &StockShortage,
) -> Verdict<Payment> {
    undo(state, short.order_id, ReasonCode::OutOfStock)
}

/// A failed shipment permits the refund.
pub fn refund_failure(
    _: &Context<'_>,
    state: Option<&Payment>,
    failed: &ShipmentFailed,
) -> Verdict<Payment> {
    undo(state, failed.order_id, ReasonCode::ShipmentFailed)
}

/// A cancelled shipment permits the refund.
pub fn refund_cancelled(
    _: &Context<'_>,
    state: Option<&Payment>,
    cancelled: &ShipmentCancelled,
) -> Verdict<Payment> {
    undo(state, cancelled.order_id, cancelled.reason_code)
}

fn undo(state: Option<&Payment>, order_id: OrderId, reason_code: ReasonCode) -> Verdict<Payment> {
    let mut state = state.cloned().unwrap_or_default();
    if state.undo.is_some() {
        return Verdict::Ignore("already being undone");
    }
    state.undo = Some(reason_code);
    match state.progress {
        Progress::Captured(_) => refund_if_due(state, order_id),
        // A pending charge is settled first.
        _ => give_up_unless_begun(state, order_id),
    }
}

/// Pays captured money back if that is permitted.
fn refund_if_due(mut state: Payment, order_id: OrderId) -> Verdict<Payment> {
    let (Progress::Captured(receipt), Some(_)) = (&state.progress, state.undo) else {
        return Verdict::accept(state);
    };
    let effect = Effect::Refund(Refund {
        order_id,
        attempt: 1,
        provider_reference: receipt.provider_reference.clone(),
        amount: receipt.amount,
        currency: receipt.currency.clone(),
    });
    state.progress = Progress::Refunding(receipt.clone());
    Verdict::accept(state).perform(effect)
}

fn refunded(state: &Payment, refund: &Refund) -> Verdict<Payment> {
    let event = PaymentRefunded {
        order_id: refund.order_id,
        payment_id: payment_id(refund.order_id),
        refund_id: event_id(refund.order_id, "refund", refund.attempt),
        amount: refund.amount,
        currency: refund.currency.clone(),
        reason_code: state.undo.unwrap_or(ReasonCode::OrderCancelled),
    };
    let state = Payment {
        progress: Progress::Refunded,
        ..*state
    };
    Verdict::accept(state).publish(&event)
}

fn refund_refused(state: &Payment, refund: &Refund, detail: &str) -> Verdict<Payment> {
    let event = RefundFailed {
        order_id: refund.order_id,
        payment_id: payment_id(refund.order_id),
        amount: refund.amount,
        currency: refund.currency.clone(),
        reason_code: ReasonCode::RefundRefused,
        detail: detail.to_owned(),
    };
    let state = Payment {
        progress: Progress::RefundFailed,
        ..*state
    };
    Verdict::accept(state).publish(&event)
}

/// A cancellation: nothing is charged any more. Captured money waits for shipping's word.
pub fn cancel(
    _: &Context<'_>,
    state: Option<&Payment>,
    request: &OrderCancelRequested,
) -> Verdict<Payment> {
    let mut state = state.cloned().unwrap_or_default();
    if state.cancelled {
        return Verdict::Ignore("already cancelled");
    }
    state.cancelled = true;
    give_up_unless_begun(state, request.order_id)
}

fn payment_id(order_id: OrderId) -> Uuid {
    event_id(order_id, "payment", 1)
}
