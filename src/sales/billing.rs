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
    if order.test {
        return reject(
            order.order_id,
            ReasonCode::TestOrder,
            "a test is not billed",
        );
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        events::{Line, MAX_AMOUNT, Quantity, Sku, samples},
        sales::{Catalog, Decision},
    };

    /// What billing says to the sample order after a change, with a catalog after a change.
    fn billed(
        change_catalog: impl FnOnce(&mut Catalog),
        change_order: impl FnOnce(&mut Order),
    ) -> serde_json::Value {
        let mut catalog = Catalog::from_json(Catalog::DEVELOPMENT).unwrap();
        change_catalog(&mut catalog);
        let mut order = samples::order(samples::ORDER_ID);
        change_order(&mut order);
        let context = Context {
            catalog: &catalog,
            time: samples::time(),
            event_id: "1",
        };
        match bill(&context, None, &OrderPlaced { order }) {
            Verdict::Accept(Decision { events, effect, .. }) => {
                assert_eq!((events.len(), effect), (1, None));
                serde_json::from_str(&events[0].data).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }

    fn amount(minor_units: i64) -> Amount {
        Amount::from_minor_units(minor_units).unwrap()
    }

    /// One line of a made-up article.
    fn line(unit_amount: i64, quantity: i64) -> Line {
        Line {
            sku: Sku::try_from("X".to_owned()).unwrap(),
            quantity: Quantity::try_from(quantity).unwrap(),
            unit_amount: amount(unit_amount),
        }
    }

    fn listed(catalog: &mut Catalog, unit_amount: i64) {
        for prices in catalog.prices.values_mut() {
            prices.insert(line(1, 1).sku, amount(unit_amount));
        }
    }

    #[test]
    fn a_test_is_never_billed() {
        let rejected = billed(|_| {}, |order| order.test = true);
        assert_eq!(rejected["reasonCode"], "testOrder");
    }

    #[test]
    fn tax_is_rounded_half_up_for_each_line() {
        // 19 % of 50 is 9.5, of 25 is 4.75: each line becomes a whole cent before they are added.
        for (unit_amount, lines, tax) in
            [(50, 1, 10), (50, 3, 30), (25, 2, 10), (21, 1, 4), (2, 1, 0)]
        {
            let data = billed(
                |catalog| listed(catalog, unit_amount),
                |order| order.lines = vec![line(unit_amount, 1); lines],
            );
            assert_eq!(data["invoice"]["taxAmount"], tax, "{lines} × {unit_amount}");
            let net = unit_amount * i64::try_from(lines).unwrap();
            assert_eq!(data["invoice"]["totalAmount"], net + tax);
        }
    }

    #[test]
    fn the_rate_is_that_of_the_country_of_delivery() {
        for (country, tax) in [("DE", 1708 + 741), ("GB", 1798 + 780), ("CH", 728 + 316)] {
            let data = billed(
                |_| {},
                |order| order.ship_to.country = country.to_owned().try_into().unwrap(),
            );
            assert_eq!(data["invoice"]["taxAmount"], tax, "{country}");
        }
    }

    #[test]
    fn what_cannot_be_billed_is_rejected_with_its_reason() {
        type Case = (&'static str, fn(&mut Catalog), fn(&mut Order));
        let cases: [Case; 7] = [
            (
                "unknownCountry",
                |catalog| catalog.tax_rates.clear(),
                |_| {},
            ),
            ("unknownCurrency", |catalog| catalog.prices.clear(), |_| {}),
            (
                "unknownSku",
                |catalog| catalog.prices.values_mut().for_each(BTreeMap::clear),
                |_| {},
            ),
            (
                "priceDiffers",
                |_| {},
                |order| order.lines[1].unit_amount = amount(1949),
            ),
            (
                "nothingToCharge",
                |catalog| listed(catalog, 0),
                |order| order.lines = vec![line(0, 1)],
            ),
            (
                "amountTooLarge",
                |catalog| listed(catalog, MAX_AMOUNT),
                |order| order.lines = vec![line(MAX_AMOUNT, 2)],
            ),
            (
                "amountTooLarge",
                |catalog| listed(catalog, MAX_AMOUNT),
                |order| order.lines = vec![line(MAX_AMOUNT, 1)],
            ),
        ];
        for (reason, change_catalog, change_order) in cases {
            let data = billed(change_catalog, change_order);
            assert_eq!(data["reasonCode"], reason, "{data}");
            assert!(!data["detail"].as_str().unwrap().is_empty());
        }
    }

    #[test]
    fn a_placed_order_is_billed_once() {
        let catalog = Catalog::from_json(Catalog::DEVELOPMENT).unwrap();
        let context = Context {
            catalog: &catalog,
            time: samples::time(),
            event_id: "1",
        };
        let order = samples::order(samples::ORDER_ID);
        for state in [Billing::Rejected, Billing::Voided, Billing::Credited] {
            let verdict = bill(
                &context,
                Some(&state),
                &OrderPlaced {
                    order: order.clone(),
                },
            );
            assert_eq!(verdict, Verdict::Ignore("already billed or refused"));
        }
    }
}
