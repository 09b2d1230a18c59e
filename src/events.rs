//! What the services tell each other: every fact is an event with a typed payload.
//!
//! A payload travels as the `data` of a CloudEvent ([`cloudevents::Event`]). This module knows the payloads, the
//! ids and the envelope; how an event looks on the wire is [`crate::cloud_event`]'s business. It is pure: no I/O,
//! no clock, no randomness.

mod amounts;
mod carried;
mod envelope;
mod order;
mod payload;
mod payloads;
mod reasons;
pub mod samples;

pub use amounts::{Amount, CountryCode, CurrencyCode, MAX_AMOUNT, MAX_QUANTITY, Quantity, Sku};
pub use carried::Carried;
pub use envelope::{Cause, Invalid, Outgoing, compose, decode, event_id, order_of, short_name};
pub use order::{Address, Customer, Invoice, Line, MAX_LINES, NewOrder, Order, OrderId, Payment};
pub(crate) use payload::payload;
pub use payload::{EventType, Payload, Role, event_type};
pub use payloads::{
    BillingCompleted, BillingRejected, CancelRequester, CreditNoteIssued, InvoiceVoided,
    OrderCancelRequested, OrderCancelled, OrderCompleted, OrderNeedsAttention, OrderPlaced,
    PaymentDeclined, PaymentRefunded, PaymentSuccessful, RefundFailed, ShipmentCancelled,
    ShipmentDispatched, ShipmentFailed, ShipmentPrepared, ShortLine, StockReleased, StockReserved,
    StockShortage,
};
pub use reasons::ReasonCode;

/// What every event type's name begins with.
pub const TYPE_PREFIX: &str = "Sales.";
