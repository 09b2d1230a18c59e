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
    /// What it means for the order.
    pub role: Role,
}

/// What an event means for its order, and so who must take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Brings the order on, or takes a part of it back.
    Step,
    /// Something failed after others had done their part: somebody must undo it.
    Failure,
    /// Something was refused before anything was done: there is nothing to undo.
    Refusal,
    /// Tells the world outside what became of the order: nobody here needs to take it.
    Result,
}

const fn event_type<E: Payload>(role: Role) -> EventType {
    EventType {
        name: E::TYPE,
        service: E::SERVICE,
        role,
    }
}

/// Every event type, in the order of the way through.
pub const CATALOGUE: &[EventType] = &[
    event_type::<OrderPlaced>(Role::Step),
    event_type::<BillingCompleted>(Role::Step),
    event_type::<BillingRejected>(Role::Refusal),
    event_type::<PaymentSuccessful>(Role::Step),
    event_type::<PaymentDeclined>(Role::Failure),
    event_type::<StockReserved>(Role::Step),
    event_type::<StockShortage>(Role::Failure),
    event_type::<ShipmentPrepared>(Role::Step),
    event_type::<ShipmentDispatched>(Role::Step),
    event_type::<ShipmentFailed>(Role::Failure),
    event_type::<ShipmentCancelled>(Role::Step),
    event_type::<StockReleased>(Role::Step),
    event_type::<PaymentRefunded>(Role::Step),
    event_type::<RefundFailed>(Role::Failure),
    event_type::<InvoiceVoided>(Role::Step),
    event_type::<CreditNoteIssued>(Role::Step),
    event_type::<OrderCancelRequested>(Role::Step),
    event_type::<OrderCompleted>(Role::Result),
    event_type::<OrderCancelled>(Role::Result),
    event_type::<OrderNeedsAttention>(Role::Result),
];
