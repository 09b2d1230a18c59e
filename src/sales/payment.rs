//! Payment: captures what is invoiced, once, and pays it back, once, when the sale falls through.
//!
//! Money is paid back when a shortage, a failed shipment or a cancelled shipment permits it. A cancellation request
//! alone does not: the parcel may leave at the same moment, and shipping decides which of the two it is.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::{
    BillingCompleted, Invoice, Order, OrderCancelRequested, OrderId, Payment as Captured,
    PaymentDeclined, PaymentRefunded, PaymentSuccessful, ReasonCode, RefundFailed,
    ShipmentCancelled, ShipmentFailed, StockShortage, event_id,
};

use super::{
    Context, Effect, Outcome, State, Verdict,
    effect::{Charge, Refund},
};

/// Payment's own state of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Payment {
    /// What is to be paid, once billing has said so.
    bill: Option<Bill>,
    /// How far the money has come.
    progress: Progress,
    /// Whether the order is to be cancelled: nothing may be charged any more.
    cancelled: bool,
    /// Why captured money is to be paid back, once that is permitted.
    undo: Option<ReasonCode>,
}

/// What is to be paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Bill {
    order: Order,
    invoice: Invoice,
}

/// How far the money has come.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Progress {
    /// Nothing was tried.
    #[default]
    None,
    /// A charge is intended; whether it took place may be unknown.
    Charging { attempt: u32 },
    /// The last try was declined; another one may follow.
    Declined { attempt: u32 },
    /// Declined for good.
    GivenUp,
    /// The money is here.
    Captured(Captured),
    /// A refund is intended; whether it took place may be unknown.
    Refunding(Captured),
    /// The money went back.
    Refunded,
    /// The money could not be paid back.
    RefundFailed,
}

impl State for Payment {
    const OWNER: &'static str = "payment";
}

/// Charges what billing invoiced.
pub fn charge(
    _: &Context<'_>,
    state: Option<&Payment>,
    billed: &BillingCompleted,
) -> Verdict<Payment> {
    let mut state = state.cloned().unwrap_or_default();
    if state.bill.is_some() {
        return Verdict::Ignore("already billed");
    }
    state.bill = Some(Bill {
        order: billed.order.clone(),
        invoice: billed.invoice.clone(),
    });
    if state.cancelled || state.undo.is_some() {
        return give_up(
            state,
            billed.order.order_id,
            1,
            ReasonCode::OrderCancelled,
            "the order was cancelled",
        );
    }
    state.progress = Progress::Charging { attempt: 1 };
    let effect = Effect::Charge(Charge {
        order_id: billed.order.order_id,
        attempt: 1,
        amount: billed.invoice.total_amount,
        currency: billed.order.currency.clone(),
        payment_method: billed.order.payment_method.clone(),
    });
    Verdict::accept(state).perform(effect)
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
    _: &Context<'_>,
    state: Option<&Payment>,
    effect: &Effect,
    outcome: &Outcome,
) -> Verdict<Payment> {
    let Some(state) = state.cloned() else {
        return Verdict::Reject("an outcome without a state");
    };
    match (effect, outcome) {
        (Effect::Charge(charge), Outcome::Charged { provider_reference }) => {
            captured(state, charge, provider_reference)
        }
        (
            Effect::Charge(charge),
            Outcome::Declined {
                reason_code,
                detail,
            },
        ) => declined(state, charge, *reason_code, detail),
        (Effect::Refund(refund), Outcome::Refunded) => refunded(state, refund),
        (Effect::Refund(refund), Outcome::RefundRefused { detail }) => {
            refund_refused(state, refund, detail)
        }
        _ => Verdict::Reject("an outcome that does not answer the effect"),
    }
}

/// The money is here. If the sale has fallen through meanwhile, it goes back at once.
fn captured(mut state: Payment, charge: &Charge, provider_reference: &str) -> Verdict<Payment> {
    if state.progress
        != (Progress::Charging {
            attempt: charge.attempt,
        })
    {
        return Verdict::Ignore("the charge is settled already");
    }
    let Some(Bill { order, invoice }) = state.bill.clone() else {
        return Verdict::Reject("a charge without a bill");
    };
    let payment = Captured {
        payment_id: payment_id(charge.order_id),
        provider_reference: provider_reference.to_owned(),
        amount: charge.amount,
        attempt: charge.attempt,
    };
    state.progress = Progress::Captured(payment.clone());
    refund_if_due(state, charge.order_id).publish(&PaymentSuccessful {
        order,
        invoice,
        payment,
    })
}

fn declined(
    mut state: Payment,
    charge: &Charge,
    reason_code: ReasonCode,
    detail: &str,
) -> Verdict<Payment> {
    if state.progress
        != (Progress::Charging {
            attempt: charge.attempt,
        })
    {
        return Verdict::Ignore("the charge is settled already");
    }
    let retryable = may_succeed_later(reason_code) && !state.cancelled && state.undo.is_none();
    if !retryable {
        return give_up(state, charge.order_id, charge.attempt, reason_code, detail);
    }
    state.progress = Progress::Declined {
        attempt: charge.attempt,
    };
    let declined = PaymentDeclined {
        order_id: charge.order_id,
        reason_code,
        detail: detail.to_owned(),
        retryable,
        attempt: charge.attempt,
    };
    Verdict::accept(state).publish_attempt(&declined, charge.attempt)
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
        Progress::Declined { attempt } => give_up(
            state,
            order_id,
            attempt + 1,
            ReasonCode::OrderCancelled,
            "the order was cancelled",
        ),
        // A pending charge is settled first; a bill that is still to come is given up on arrival.
        _ => Verdict::accept(state),
    }
}

/// Pays captured money back if that is permitted.
fn refund_if_due(mut state: Payment, order_id: OrderId) -> Verdict<Payment> {
    let (Progress::Captured(payment), Some(_), Some(bill)) =
        (&state.progress, state.undo, &state.bill)
    else {
        return Verdict::accept(state);
    };
    let effect = Effect::Refund(Refund {
        order_id,
        attempt: 1,
        provider_reference: payment.provider_reference.clone(),
        amount: payment.amount,
        currency: bill.order.currency.clone(),
    });
    state.progress = Progress::Refunding(payment.clone());
    Verdict::accept(state).perform(effect)
}

fn refunded(mut state: Payment, refund: &Refund) -> Verdict<Payment> {
    let Progress::Refunding(_) = state.progress else {
        return Verdict::Ignore("the refund is settled already");
    };
    let event = PaymentRefunded {
        order_id: refund.order_id,
        payment_id: payment_id(refund.order_id),
        refund_id: event_id(refund.order_id, "refund", refund.attempt),
        amount: refund.amount,
        currency: refund.currency.clone(),
        reason_code: state.undo.unwrap_or(ReasonCode::OrderCancelled),
    };
    state.progress = Progress::Refunded;
    Verdict::accept(state).publish(&event)
}

fn refund_refused(mut state: Payment, refund: &Refund, detail: &str) -> Verdict<Payment> {
    let Progress::Refunding(_) = state.progress else {
        return Verdict::Ignore("the refund is settled already");
    };
    let event = RefundFailed {
        order_id: refund.order_id,
        payment_id: payment_id(refund.order_id),
        amount: refund.amount,
        currency: refund.currency.clone(),
        reason_code: ReasonCode::RefundRefused,
        detail: detail.to_owned(),
    };
    state.progress = Progress::RefundFailed;
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
    match state.progress {
        Progress::Declined { attempt } => give_up(
            state,
            request.order_id,
            attempt + 1,
            ReasonCode::OrderCancelled,
            "the order was cancelled",
        ),
        _ => Verdict::accept(state),
    }
}

fn payment_id(order_id: OrderId) -> Uuid {
    event_id(order_id, "payment", 1)
}
