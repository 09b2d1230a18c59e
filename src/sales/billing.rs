//! Billing: prices and taxes an order, invoices it, and takes the invoice back when the sale falls through.

use chrono::Duration;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::{
    Amount, BillingCompleted, BillingRejected, CreditNoteIssued, CurrencyCode, Invoice,
    InvoiceVoided, Order, OrderCancelRequested, OrderId, OrderPlaced, PaymentDeclined,
    PaymentRefunded, ReasonCode, RefundFailed, ShipmentFailed, StockShortage, event_id,
};

use super::{Context, State, Verdict};

/// Billing's own state of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Billing {
    /// Refused, be it before it was placed here: it never will be billed.
    Rejected,
    /// Invoiced.
    Invoiced(Bill),
    /// The invoice was taken back before it was paid.
    Voided,
    /// The paid invoice was credited.
    Credited,
}

/// What is needed to take an invoice back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bill {
    invoice_id: Uuid,
    total_amount: Amount,
    currency: CurrencyCode,
}

impl State for Billing {
    const OWNER: &'static str = "billing";
}

/// Invoices a placed order, or says why it cannot.
pub fn bill(
    context: &Context<'_>,
    state: Option<&Billing>,
    placed: &OrderPlaced,
) -> Verdict<Billing> {
    let order = &placed.order;
    if state.is_some() {
        return Verdict::Ignore("already billed or refused");
    }
    match invoice(context, order) {
        Ok(invoice) => {
            let bill = Bill {
                invoice_id: invoice.invoice_id,
                total_amount: invoice.total_amount,
                currency: order.currency.clone(),
            };
            Verdict::accept(Billing::Invoiced(bill)).publish(&BillingCompleted {
                order: order.clone(),
                invoice,
            })
        }
        Err((code, detail)) => reject(order.order_id, code, &detail),
    }
}

fn reject(order_id: OrderId, reason_code: ReasonCode, detail: &str) -> Verdict<Billing> {
    Verdict::accept(Billing::Rejected).publish(&BillingRejected {
        order_id,
        reason_code,
        detail: detail.to_owned(),
    })
}

/// The sale is over before the order came here. That is said at once: the order may never come.
fn reject_unbilled(order_id: OrderId) -> Verdict<Billing> {
    let detail = "the order was cancelled before it was billed";
    reject(order_id, ReasonCode::OrderCancelled, detail)
}

/// Net, tax rounded per line, and total.
fn invoice(context: &Context<'_>, order: &Order) -> Result<Invoice, (ReasonCode, String)> {
    let too_large = || {
        (
            ReasonCode::AmountTooLarge,
            "the amounts add up to more than can be charged".to_owned(),
        )
    };
    let country = &order.ship_to.country;
    let (mut net_amount, mut tax_amount) = (Amount::ZERO, Amount::ZERO);
    for (index, line) in order.lines.iter().enumerate() {
        context
            .catalog
            .check_price(&order.currency, line)
            .map_err(|error| {
                let path = error.field.path(index);
                (error.code, format!("{path}: {}", error.problem))
            })?;
        let net = line
            .unit_amount
            .times(line.quantity)
            .ok_or_else(too_large)?;
        let tax = context.catalog.tax(country, net).ok_or_else(|| {
            (
                ReasonCode::UnknownCountry,
                format!("there is no tax rate for {country}"),
            )
        })?;
        net_amount = net_amount.plus(net).ok_or_else(too_large)?;
        tax_amount = tax_amount.plus(tax).ok_or_else(too_large)?;
    }
    let total_amount = net_amount.plus(tax_amount).ok_or_else(too_large)?;
    if total_amount == Amount::ZERO {
        return Err((
            ReasonCode::NothingToCharge,
            "the order's total is 0".to_owned(),
        ));
    }
    let invoice_id = event_id(order.order_id, "invoice", 1);
    let due_by = context.time + Duration::days(i64::from(context.catalog.payment_due_days));
    Ok(Invoice {
        invoice_id,
        net_amount,
        tax_amount,
        total_amount,
        due_by,
    })
}

/// A payment that was declined for good: the invoice is void.
pub fn void(
    _: &Context<'_>,
    state: Option<&Billing>,
    declined: &PaymentDeclined,
) -> Verdict<Billing> {
    if declined.retryable {
        return Verdict::Ignore("the payment will be tried again");
    }
    match state {
        Some(Billing::Invoiced(bill)) => Verdict::accept(Billing::Voided).publish(&InvoiceVoided {
            order_id: declined.order_id,
            invoice_id: bill.invoice_id,
            reason_code: declined.reason_code,
        }),
        Some(Billing::Rejected | Billing::Voided | Billing::Credited) => {
            Verdict::Ignore("no open invoice")
        }
        None => reject_unbilled(declined.order_id),
    }
}

/// A paid order that cannot be shipped for want of stock: the invoice is credited.
pub fn credit_shortage(
    _: &Context<'_>,
    state: Option<&Billing>,
    short: &StockShortage,
) -> Verdict<Billing> {
    credit(state, short.order_id, ReasonCode::OutOfStock)
}

/// A paid order whose shipment failed: the invoice is credited.
pub fn credit_failure(
    _: &Context<'_>,
    state: Option<&Billing>,
    failed: &ShipmentFailed,
) -> Verdict<Billing> {
    credit(state, failed.order_id, ReasonCode::ShipmentFailed)
}

/// A refunded order: the invoice is credited unless it has been.
pub fn credit_refund(
    _: &Context<'_>,
    state: Option<&Billing>,
    refunded: &PaymentRefunded,
) -> Verdict<Billing> {
    credit(state, refunded.order_id, refunded.reason_code)
}

/// A refund that failed: the customer is owed the money all the same, so the invoice is credited unless it has been.
pub fn credit_owed(
    _: &Context<'_>,
    state: Option<&Billing>,
    failed: &RefundFailed,
) -> Verdict<Billing> {
    credit(state, failed.order_id, failed.reason_code)
}

fn credit(state: Option<&Billing>, order_id: OrderId, reason_code: ReasonCode) -> Verdict<Billing> {
    match state {
        Some(Billing::Invoiced(bill)) => {
            Verdict::accept(Billing::Credited).publish(&CreditNoteIssued {
                order_id,
                invoice_id: bill.invoice_id,
                credit_note_id: event_id(order_id, "creditNote", 1),
                amount: bill.total_amount,
                currency: bill.currency.clone(),
                reason_code,
            })
        }
        Some(Billing::Rejected | Billing::Voided | Billing::Credited) => {
            Verdict::Ignore("no open invoice")
        }
        None => reject_unbilled(order_id),
    }
}

/// A cancellation: an order that has not been billed never will be. An invoice waits for what becomes of the money.
pub fn cancel(
    _: &Context<'_>,
    state: Option<&Billing>,
    request: &OrderCancelRequested,
) -> Verdict<Billing> {
    match state {
        None => reject_unbilled(request.order_id),
        Some(Billing::Invoiced(_)) => {
            Verdict::Ignore("the invoice waits for what becomes of the money")
        }
        Some(Billing::Rejected | Billing::Voided | Billing::Credited) => {
            Verdict::Ignore("no open invoice")
        }
    }
}
