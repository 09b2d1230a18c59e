//! The business: five services, each a module of pure functions that reads like its specification.
//!
//! For each event that a service takes there is one function from the service's own state of the order and the
//! typed event to a [`Verdict`]. Nothing here knows HTTP, SQL, Azure, time or async: the engine runs it.
//!
//! The way through, and where it can turn:
//!
//! ```text
//! OrderPlaced ─▶ billing ─▶ payment ─┬─▶ inventory ─StockReserved─┐
//!                   │          │     └─▶ shipping  ─Prepared──────┴─▶ Dispatched ─▶ OrderCompleted
//!             BillingRejected  Declined   StockShortage · ShipmentFailed · ShipmentCancelled ─▶ refund, credit, release
//! ```
//!
//! Shipping is the arbiter of a cancellation: a parcel is dispatched or cancelled by one decision on one row, and
//! only [`ShipmentCancelled`](crate::events::ShipmentCancelled), a failed shipment or a shortage permits to pay
//! back or to put stock back. So nothing is ever both dispatched and refunded.
//!
//! Every other service answers a cancellation at once: what is not begun is refused there and then, even if the order is
//! not known yet, and what comes later finds that tombstone. So a cancellation ends an order whose next event was lost.
//!
//! Time passes through [`State::due`]: a state says when its service wants to look at the order again. Payment tries a
//! declined payment again; orders cancels what is overdue and names what is stuck.

pub mod billing;
pub mod catalog;
pub mod effect;
pub mod inventory;
pub mod orders;
pub mod payment;
pub mod shipping;
pub mod status;
pub mod verdict;

pub use catalog::Catalog;
pub use effect::{Effect, Outcome};
pub use verdict::{Context, Decision, State, Verdict};
