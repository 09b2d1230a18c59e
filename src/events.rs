//! The event catalogue: every fact that the services tell each other, as a typed payload.
//!
//! A payload travels as the `data` of a CloudEvent ([`cloudevents::Event`]). This module knows the payloads, the
//! ids and the envelope; how an event looks on the wire is [`crate::cloud_event`]'s business. It is pure: no I/O,
//! no clock, no randomness.

mod amounts;
mod envelope;
mod order;
mod payloads;
mod reasons;
pub mod samples;

pub use amounts::{Amount, CountryCode, CurrencyCode, MAX_AMOUNT, MAX_QUANTITY, Quantity, Sku};
pub use envelope::{Cause, Invalid, Outgoing, compose, decode, event_id, order_of, short_name};
pub use order::{Address, Customer, Invoice, Line, MAX_LINES, NewOrder, Order, OrderId, Payment};
pub use payloads::{
    BillingCompleted, BillingRejected, CancelRequester, CreditNoteIssued, InvoiceVoided,
    OrderCancelRequested, OrderCancelled, OrderCompleted, OrderNeedsAttention, OrderPlaced,
    PaymentDeclined, PaymentRefunded, PaymentSuccessful, RefundFailed, ShipmentCancelled,
    ShipmentDispatched, ShipmentFailed, ShipmentPrepared, ShortLine, StockReleased, StockReserved,
    StockShortage,
};
pub use reasons::ReasonCode;

use serde::{Serialize, de::DeserializeOwned};

/// What every event type's name begins with.
pub const TYPE_PREFIX: &str = "Sales.";

/// The `data` of one event type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event of the catalogue",
    note = "declare it in src/events/payloads.rs and add its row to `CATALOGUE`"
)]
pub trait Payload: Serialize + DeserializeOwned {
    /// The CloudEvents `type`, `Sales.` and the event's name.
    const TYPE: &'static str;
    /// The service that publishes it; the CloudEvents `source` is `/sales/` and this name.
    const SERVICE: &'static str;

    /// The order that the event is about.
    fn order_id(&self) -> OrderId;

    /// Checks what spans several fields.
    ///
    /// # Errors
    /// The first field that contradicts another one.
    fn check(&self) -> Result<(), Invalid> {
        Ok(())
    }
}

/// One row of the catalogue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventType {
    /// The CloudEvents `type`.
    pub name: &'static str,
    /// The service that publishes it.
    pub service: &'static str,
}

const fn event_type<E: Payload>() -> EventType {
    EventType {
        name: E::TYPE,
        service: E::SERVICE,
    }
}

/// Every event type, in the order of the way through.
pub const CATALOGUE: &[EventType] = &[
    event_type::<OrderPlaced>(),
    event_type::<BillingCompleted>(),
    event_type::<BillingRejected>(),
    event_type::<PaymentSuccessful>(),
    event_type::<PaymentDeclined>(),
    event_type::<StockReserved>(),
    event_type::<StockShortage>(),
    event_type::<ShipmentPrepared>(),
    event_type::<ShipmentDispatched>(),
    event_type::<ShipmentFailed>(),
    event_type::<ShipmentCancelled>(),
    event_type::<StockReleased>(),
    event_type::<PaymentRefunded>(),
    event_type::<RefundFailed>(),
    event_type::<InvoiceVoided>(),
    event_type::<CreditNoteIssued>(),
    event_type::<OrderCancelRequested>(),
    event_type::<OrderCompleted>(),
    event_type::<OrderCancelled>(),
    event_type::<OrderNeedsAttention>(),
];
