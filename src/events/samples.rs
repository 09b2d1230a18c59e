//! One sample of every event type, about one and the same order, for `samples/`, `orderflow fire` and the tests.

use chrono::{DateTime, Duration, TimeZone, Utc};
use cloudevents::Event;
use uuid::Uuid;

use super::{
    Address, Amount, BillingCompleted, BillingRejected, CATALOGUE, CancelRequester, Cause,
    CreditNoteIssued, Customer, Invoice, InvoiceVoided, Line, Order, OrderCancelRequested,
    OrderCancelled, OrderCompleted, OrderId, OrderNeedsAttention, OrderPlaced, Outgoing, Payment,
    PaymentDeclined, PaymentRefunded, PaymentSuccessful, Quantity, ReasonCode, RefundFailed,
    ShipmentCancelled, ShipmentDispatched, ShipmentFailed, ShipmentPrepared, ShortLine,
    StockReleased, StockReserved, StockShortage, compose, event_id, short_name,
};

/// The order that the samples are about.
pub const ORDER_ID: OrderId = OrderId(Uuid::from_u128(0x0199_c0de_0000_7000_8000_0000_0000_0001));

/// When everything in the samples happened.
pub fn time() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 15, 9, 30, 0)
        .single()
        .unwrap_or_default()
}

/// The sample of an event type, `OrderPlaced` or `Sales.OrderPlaced`, about the given order; `None` for a type that
/// the catalogue does not have.
pub fn event(event_type: &str, order_id: OrderId) -> Option<Event> {
    let name = short_name(event_type);
    let known = CATALOGUE
        .iter()
        .find(|known| short_name(known.name) == name)?;
    let outgoing = outgoing(order_id)
        .into_iter()
        .find(|outgoing| outgoing.event_type == known.name)?;
    let cause = Cause {
        id: None,
        traceparent: None,
        tracestate: None,
        time: time(),
    };
    Some(compose(outgoing, &cause, time()))
}

/// The sample order.
pub fn order(order_id: OrderId) -> Order {
    Order {
        order_id,
        customer: Customer {
            customer_id: "c-1001".to_owned(),
            email: "ada@example.com".to_owned(),
        },
        lines: lines(),
        currency: code("EUR"),
        ship_to: Address {
            name: "Ada Lovelace".to_owned(),
            street: "Unter den Linden 1".to_owned(),
            city: "Berlin".to_owned(),
            postal_code: "10117".to_owned(),
            country: code("DE"),
        },
        payment_method: "tok_visa".to_owned(),
        test: false,
    }
}

fn lines() -> Vec<Line> {
    [("KB-87", 1, 8990), ("MS-21", 2, 1950)]
        .map(|(sku, quantity, unit_amount)| Line {
            sku: code(sku),
            quantity: Quantity::try_from(quantity).unwrap_or(Quantity::ONE),
            unit_amount: amount(unit_amount),
        })
        .to_vec()
}

fn amount(minor_units: i64) -> Amount {
    Amount::from_minor_units(minor_units).unwrap_or(Amount::ZERO)
}

#[expect(
    clippy::panic,
    reason = "the samples are constants of this file, and a test reads every one of them"
)]
fn code<T: TryFrom<String>>(text: &str) -> T {
    T::try_from(text.to_owned()).unwrap_or_else(|_| panic!("{text} is no valid code"))
}

/// Every payload about one order. They do not all happen to the same order.
#[expect(clippy::too_many_lines, reason = "a list, one entry per event type")]
fn outgoing(order_id: OrderId) -> Vec<Outgoing> {
    let order = order(order_id);
    let currency = order.currency.clone();
    let invoice_id = event_id(order_id, "invoice", 1);
    let invoice = Invoice {
        invoice_id,
        net_amount: amount(12_890),
        tax_amount: amount(2_449),
        total_amount: amount(15_339),
        due_by: time() + Duration::days(14),
    };
    let total = invoice.total_amount;
    let payment_id = event_id(order_id, "payment", 1);
    let charge = event_id(order_id, "charge", 1);
    let payment = Payment {
        payment_id,
        provider_reference: format!("ch_{}", charge.simple()),
        amount: total,
        attempt: 1,
    };
    let shipment_id = event_id(order_id, "shipment", 1);
    let reservation_id = event_id(order_id, "reservation", 1);
    let short = ShortLine {
        sku: code("LAST-1"),
        wanted: Quantity::ONE,
        available: 0,
    };
    let text = str::to_owned;
    vec![
        Outgoing::once(&OrderPlaced {
            order: order.clone(),
        }),
        Outgoing::once(&BillingCompleted {
            order: order.clone(),
            invoice: invoice.clone(),
        }),
        Outgoing::once(&BillingRejected {
            order_id,
            reason_code: ReasonCode::UnknownCountry,
            detail: text("there is no tax rate for AQ"),
        }),
        Outgoing::once(&PaymentSuccessful {
            order: order.clone(),
            invoice,
            payment,
        }),
        Outgoing::attempt(
            &PaymentDeclined {
                order_id,
                reason_code: ReasonCode::CardDeclined,
                detail: text("the card was declined"),
                retryable: false,
                attempt: 1,
            },
            1,
        ),
        Outgoing::once(&StockReserved {
            order_id,
            reservation_id,
            lines: order.lines,
            expires_at: time() + Duration::hours(24),
        }),
        Outgoing::once(&StockShortage {
            order_id,
            reason_code: ReasonCode::OutOfStock,
            short_lines: vec![short],
        }),
        Outgoing::once(&ShipmentPrepared {
            order_id,
            shipment_id,
        }),
        Outgoing::once(&ShipmentDispatched {
            order_id,
            shipment_id,
            tracking_id: text("SIM00000000000000000001"),
        }),
        Outgoing::once(&ShipmentFailed {
            order_id,
            shipment_id,
            reason_code: ReasonCode::AddressUndeliverable,
            detail: text("the postal code cannot be reached"),
        }),
        Outgoing::once(&ShipmentCancelled {
            order_id,
            shipment_id: Some(shipment_id),
            reason_code: ReasonCode::CustomerRequest,
        }),
        Outgoing::once(&StockReleased {
            order_id,
            reservation_id: Some(reservation_id),
            reason_code: ReasonCode::CustomerRequest,
        }),
        Outgoing::once(&PaymentRefunded {
            order_id,
            payment_id,
            refund_id: event_id(order_id, "refund", 1),
            amount: total,
            currency: currency.clone(),
            reason_code: ReasonCode::CustomerRequest,
        }),
        Outgoing::once(&RefundFailed {
            order_id,
            payment_id,
            amount: total,
            currency: currency.clone(),
            reason_code: ReasonCode::RefundRefused,
            detail: text("the card's bank refused the refund"),
        }),
        Outgoing::once(&InvoiceVoided {
            order_id,
            invoice_id,
            reason_code: ReasonCode::CardDeclined,
        }),
        Outgoing::once(&CreditNoteIssued {
            order_id,
            invoice_id,
            credit_note_id: event_id(order_id, "creditNote", 1),
            amount: total,
            currency,
            reason_code: ReasonCode::CustomerRequest,
        }),
        Outgoing::once(&OrderCancelRequested {
            order_id,
            requested_by: CancelRequester::Customer,
            reason_code: ReasonCode::CustomerRequest,
        }),
        Outgoing::once(&OrderCompleted { order_id }),
        Outgoing::once(&OrderCancelled {
            order_id,
            reason_code: ReasonCode::CustomerRequest,
            refunded: true,
        }),
        Outgoing::once(&OrderNeedsAttention {
            order_id,
            reason_code: ReasonCode::RefundRefused,
        }),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_sample_of_every_event_type() {
        for known in CATALOGUE {
            let event = event(known.name, ORDER_ID)
                .unwrap_or_else(|| panic!("no sample of {}", known.name));
            let read = crate::cloud_event::from_json(&crate::cloud_event::to_json(&event)).unwrap();
            assert_eq!(event, read);
        }
        assert_eq!(outgoing(ORDER_ID).len(), CATALOGUE.len());
    }
}
