//! What must hold, always and at the end.
//!
//! Checked after each step: `decisions` (what is committed), `events` (what is published, delivered and said), `effects`
//! (what is done outside). Checked at the end: `end`.

mod decisions;
mod effects;
mod end;
mod events;

/// Declares the invariants with their sentences.
macro_rules! invariants {
    ($( $invariant:ident = $sentence:literal, )*) => {
        /// Something that must hold.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Invariant { $( #[doc = $sentence] $invariant, )* }

        impl Invariant {
            /// Every invariant.
            pub const ALL: &'static [Self] = &[ $( Self::$invariant, )* ];

            /// What must hold, in words.
            pub fn sentence(self) -> &'static str {
                match self { $( Self::$invariant => $sentence, )* }
            }
        }
    };
}

invariants! {
    OneCapture = "an order is captured at most once, for what its invoice asks",
    RefundOfCapture = "at most what was captured is paid back, once",
    StockConserved = "stock is on hand, reserved or shipped, and set aside once per order",
    DispatchGate = "a parcel is dispatched only when it is captured, reserved, not refunded and not cancelled",
    ShippedOrRefunded = "nothing is both shipped and refunded, and nothing is shipped twice",
    StablePayload = "the same event always has the same bytes",
    DerivedId = "there is one event of each order, type and attempt, under the id made from these",
    KnownCause = "every event names its order, its trace and a cause that exists",
    DecidedOnce = "each function decides once on each event",
    FinalStatus = "an order that is completed, cancelled or refunded stays so",
    WithinBudget = "a delivery is answered within its budget",
    IntentFirst = "nobody outside is called before the intent is committed",
    AcknowledgedWhenDone = "a delivery is acknowledged only when everything that follows from it is done",
    PoisonRefused = "a damaged event is refused and kept, a sound one is not refused",
    ComesToAnEnd = "once the faults stop and dead letters are replayed, every order comes to an end",
    AddsUp = "at the end money, stock, invoice and parcel fit the order's status",
    ReplayChangesNothing = "replaying events of an order that has come to its end changes nothing",
    NothingLeft = "at the end nothing is pending, due, undelivered or still kept of any order",
    Discreet = "no log line, answer or reason for parking tells what is the customer's own",
}

/// An invariant that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The simulation's seed.
    pub seed: u64,
    /// The number of the order.
    pub order: u64,
    /// What does not hold.
    pub invariant: Invariant,
    /// How it does not.
    pub detail: String,
}
