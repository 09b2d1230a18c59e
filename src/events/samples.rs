//! One sample of every event type, about one and the same order, for `samples/`, `orderflow fire` and the tests.

use chrono::{DateTime, Duration, TimeZone, Utc};
use cloudevents::Event;
use uuid::Uuid;

use super::{
    Address, Amount, Cause, Customer, EventType, Invoice, Line, Order, OrderId, Payment, Quantity,
    compose, event_id,
};

/// The order that the samples are about.
pub const ORDER_ID: OrderId = OrderId(Uuid::from_u128(0x0199_c0de_0000_7000_8000_0000_0000_0001));

/// When everything in the samples happened.
pub fn time() -> DateTime<Utc> {
    Utc.with_ymd_and_hms(2026, 1, 15, 9, 30, 0)
        .single()
        .unwrap_or_default()
}

/// The sample of an event type about the given order.
pub fn event(event_type: &EventType, order_id: OrderId) -> Event {
    let cause = Cause {
        id: None,
        traceparent: None,
        tracestate: None,
        time: time(),
    };
    compose((event_type.sample)(&Story::of(order_id)), &cause, time())
}

/// What the samples tell of: one order, how it was billed and how it was paid.
#[derive(Debug, Clone)]
pub struct Story {
    /// The order.
    pub order: Order,
    /// What billing asks for.
    pub invoice: Invoice,
    /// How it was paid.
    pub payment: Payment,
}

impl Story {
    fn of(order_id: OrderId) -> Self {
        let total = amount(15_339);
        let charge = event_id(order_id, "charge", 1);
        Self {
            order: order(order_id),
            invoice: Invoice {
                invoice_id: event_id(order_id, "invoice", 1),
                net_amount: amount(12_890),
                tax_amount: amount(2_449),
                total_amount: total,
                due_by: time() + Duration::days(14),
            },
            payment: Payment {
                payment_id: event_id(order_id, "payment", 1),
                provider_reference: format!("ch_{}", charge.simple()),
                amount: total,
                attempt: 1,
            },
        }
    }

    /// The id of something else about the order, such as its `shipment`.
    pub fn id(&self, kind: &str) -> Uuid {
        event_id(self.order.order_id, kind, 1)
    }
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
pub(super) fn code<T: TryFrom<String>>(text: &str) -> T {
    T::try_from(text.to_owned()).unwrap_or_else(|_| panic!("{text} is no valid code"))
}
