//! The store: one port for all that must survive, and its back ends.
//!
//! A transaction is a piece of [`Work`]: the store loads the rows that the work names, the work (pure) says what is
//! to be written, and the store writes all of it or nothing. Between the two nothing is awaited.

mod inbox;
pub mod memory;
pub mod postgres;
pub mod sqlite;

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    events::OrderId,
    sales::{
        status::{Status, Summary},
        verdict::SharedRows,
    },
};

/// What a delivery is known by: the function and the event's `source` and `id`. The function is part of it, since
/// one event goes to several functions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The CloudEvents `id`: first, since ids differ in their first bytes when keys are compared.
    pub id: String,
    /// The CloudEvents `source`.
    pub source: String,
    /// The function's name.
    pub function: String,
}

/// What a store's file or database has been set up for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Where it is, for people; without a password.
    pub at: String,
    /// The schema's version; 0 when it has none yet.
    pub has: usize,
    /// The version that this program brings it to.
    pub known: usize,
}

/// When a piece of work may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guard {
    /// Unless the inbox of the own row has the key.
    NewEvent,
    /// As long as the key's intent is pending, and is that of this step.
    PendingIntent {
        /// The step that decided on the intent.
        step: Step,
    },
}

impl Guard {
    /// The step of the decision that it guards.
    fn next_step(self) -> Step {
        match self {
            Self::NewEvent => 0,
            Self::PendingIntent { step } => step + 1,
        }
    }
}

/// Which of an event's decisions something belongs to: 0 the decision on the event itself, 1 that on the outcome of
/// its effect, and so on.
pub type Step = u32;

/// The rows that a piece of work asked for.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The order's own row.
    pub own: Option<Vec<u8>>,
    /// The shared rows, as far as they exist.
    pub shared: SharedRows,
}

/// One transaction: pure, so that a store may run it where and as often as it must.
pub trait Work: Send + Sync {
    /// The delivery that it belongs to.
    fn key(&self) -> &Key;

    /// When it may be done.
    fn guard(&self) -> Guard;

    /// Whose row of which order is its own.
    fn own_row(&self) -> (&'static str, OrderId);

    /// The keys of the owner's shared rows that it needs, in sorted order, in view of its own row.
    fn shared_rows(&self, own: Option<&[u8]>) -> Vec<String>;

    /// What to write.
    fn apply(&self, loaded: &Loaded) -> Change;
}

/// What a piece of work comes to.
#[derive(Debug, Clone)]
pub enum Change {
    /// Nothing is written.
    Nothing(Answer),
    /// All of this is written, or nothing.
    Write(Box<Writes>),
}

/// What is written at once.
#[derive(Debug, Clone)]
pub struct Writes {
    /// What to tell the caller.
    pub answer: Answer,
    /// The order's own row, unless it stays as it is.
    pub own: Option<Vec<u8>>,
    /// The owner's shared rows.
    pub shared: SharedRows,
    /// When the owner wants to look at the order again. Written with the own row: none there takes back an earlier one.
    pub reminder: Option<Reminder>,
    /// The order's row in lists.
    pub summary: Option<Summary>,
    /// When.
    pub at: DateTime<Utc>,
    /// The events to be published: CloudEvents in the JSON format, one per line.
    pub outbox: Option<Vec<u8>>,
    /// The effect to be performed, as the engine wrote it down.
    pub intent: Option<Vec<u8>>,
}

/// When an owner wants to look at an order again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reminder {
    /// When.
    pub at: DateTime<Utc>,
    /// What caused it, as the engine wrote it down.
    pub cause: Vec<u8>,
}

/// An order whose time has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Who wants to look at it.
    pub owner: String,
    /// The order.
    pub order_id: OrderId,
    /// What it had asked for.
    pub reminder: Reminder,
}

/// What became of a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Accepted.
    Accepted,
    /// Stale or done already.
    Ignored(&'static str),
    /// Cannot be decided yet.
    Deferred(&'static str),
    /// Can never succeed.
    Rejected(&'static str),
    /// A stored row could not be read.
    Unreadable(String),
}

/// What the store has for a delivery after a transaction.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    /// What this transaction came to; `None` when its guard found the work done already.
    pub answer: Option<Answer>,
    /// What remains to be done.
    pub pending: Pending,
}

/// What was committed and is still to be done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pending {
    /// The last decision's step.
    pub step: Step,
    /// Events to be published, one per line.
    pub outbox: Option<Vec<u8>>,
    /// The effect to be performed.
    pub intent: Option<Vec<u8>>,
}

impl Pending {
    /// What is pending after a decision at `step` on top of what was: events that have not been published stay, an
    /// intent is replaced.
    fn after(self, step: Step, outbox: Option<Vec<u8>>, intent: Option<Vec<u8>>) -> Self {
        let outbox = match (self.outbox, outbox) {
            (Some(mut earlier), Some(later)) => {
                earlier.push(b'\n');
                earlier.extend(later);
                Some(earlier)
            }
            (earlier, later) => earlier.or(later),
        };
        Self {
            step,
            outbox,
            intent,
        }
    }

    /// Whether nothing is pending.
    fn is_empty(&self) -> bool {
        self.outbox.is_none() && self.intent.is_none()
    }
}

/// Something that arrived and can never succeed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parked {
    /// Made from the function and the body: the same thing is kept once, however often it arrives.
    pub id: Uuid,
    /// The function that it was for.
    pub function: String,
    /// The event's id, where it has one.
    pub event_id: Option<String>,
    /// The order that it is about, where that can be told.
    pub order_id: Option<OrderId>,
    /// Why, with the field's path where there is one.
    pub reason: String,
    /// What arrived.
    #[serde(skip)]
    pub body: Vec<u8>,
    /// When.
    pub at: DateTime<Utc>,
}

/// Which orders to list.
#[derive(Debug, Clone, Copy)]
pub struct OrderQuery {
    /// Only those of this status.
    pub status: Option<Status>,
    /// Only those after this one, in the list's order.
    pub after: Option<OrderId>,
    /// At most so many.
    pub limit: usize,
}

/// Why the store could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It cannot be opened: the setting, and why.
    #[error("STORE_URL: {0}")]
    Open(String),
    /// It did not answer, or could not write; whether the transaction took place is unknown.
    #[error("the store is not available: {0}")]
    Unavailable(String),
}

/// All that must survive.
pub trait Store: Send + Sync {
    /// Runs a piece of work in one transaction, durable before this returns.
    fn transact(&self, work: Box<dyn Work>) -> BoxFuture<'_, Result<Receipt, StoreError>>;

    /// Notes that what was in the outbox up to a step is published, unless a later step has added to it. Best
    /// effort: forgetting it only publishes the events again.
    fn published(&self, key: &Key, step: Step);

    /// Keeps something that can never succeed; parking it again changes nothing.
    fn park(&self, parked: Parked) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Deliveries with something pending since before `before`: those that only have events to be published, which wait for
    /// no provider that may be away, then those with an effect; oldest first.
    fn unfinished(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Pending)>, StoreError>>;

    /// Orders whose reminder is for `until` or earlier, earliest first.
    fn due(
        &self,
        until: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Due>, StoreError>>;

    /// Looks at inboxes that began before `before`, at most `limit` of them, oldest first or nearly so, and empties those of
    /// rows on which nothing has been decided since `before` either; how many it has looked at. A store without an index on
    /// their age goes on where it stopped the last time, and may find none now and some the next time. The state itself
    /// stays: it is the order's record, and refuses by itself what comes too late for it.
    fn forget_inboxes(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>>;

    /// The own row of an order.
    fn row(
        &self,
        owner: &'static str,
        order_id: OrderId,
    ) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>>;

    /// Orders, newest first.
    fn orders(&self, query: OrderQuery) -> BoxFuture<'_, Result<Vec<Summary>, StoreError>>;

    /// What is parked of an order.
    fn parked(&self, order_id: OrderId) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>>;
}
