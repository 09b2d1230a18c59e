//! The engine: runs the services' pure functions against the store, the outside world and Event Grid.
//!
//! ```text
//! decode ─▶ known already? ─▶ decide ─▶ commit ─▶ publish ─▶ mark ─▶ answer
//! ```
//!
//! It is written once, and it is the only place that matches on verdicts. What it guarantees rests on three rules:
//! - What is still owed (events to publish, an effect to perform) is committed with the state that owes it. A
//!   redelivery, or the sweep, finds the debt and pays it, with the same event ids and the same idempotency key.
//! - An effect is committed as an intent before anybody is called, and only a definite answer settles it.
//! - A delivery is acknowledged when nothing is owed any more.

mod ports;
mod sweep;
mod transaction;

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use chrono::{DateTime, Utc};
use cloudevents::{AttributesReader, Event};
use uuid::Uuid;

use crate::{
    events::{Cause, Invalid, OrderId, order_of},
    functions::{
        Function,
        rule::{Case, Settle},
    },
    publish::Publisher,
    sales::{Catalog, State, orders::OrderView},
    store::{Answer, Guard, Key, Parked, Pending, Receipt, Step, Store, StoreError},
};

pub use ports::{Clock, EffectError, Effects, SystemClock};
pub use sweep::{INBOX_RETENTION, Reminded, SWEEP_AFTER, Swept};
use transaction::{Intent, Transaction};

/// How long one delivery may take before it is given up and answered with 5xx: Event Grid waits 30 s.
pub const DELIVERY_BUDGET: Duration = Duration::from_secs(20);

/// How long a request from outside may wait for what follows from it: it is durable, and the caller need not know.
pub const REQUEST_BUDGET: Duration = Duration::from_secs(2);

/// The most effects that one delivery performs: a charge and its refund, with some slack.
const MAX_STEPS: usize = 4;

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// Decided on, and everything that followed is done.
    Accepted,
    /// Decided on before; everything that followed is done.
    Duplicate,
    /// Stale or done already; recorded.
    Ignored(&'static str),
    /// Can never succeed, and which field is to blame.
    Rejected(Invalid),
    /// Not done, or not wholly: to be delivered again.
    TryAgain(String),
}

/// What became of a request from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Accepted, durably; what follows will be done.
    Accepted,
    /// It had been done before.
    Ignored(&'static str),
    /// It cannot be done, and why.
    Refused(&'static str),
    /// It may not have been done.
    Unavailable(String),
}

/// Runs the services' functions.
#[derive(Clone)]
pub struct Engine {
    store: Arc<dyn Store>,
    publisher: Arc<dyn Publisher>,
    effects: Arc<dyn Effects>,
    clock: Arc<dyn Clock>,
    catalog: Arc<Catalog>,
}

impl Engine {
    /// An engine over these ports.
    pub fn new(
        store: Arc<dyn Store>,
        publisher: Arc<dyn Publisher>,
        effects: Arc<dyn Effects>,
        clock: Arc<dyn Clock>,
        catalog: Arc<Catalog>,
    ) -> Self {
        Self {
            store,
            publisher,
            effects,
            clock,
            catalog,
        }
    }

    /// The store, to read from.
    pub fn store(&self) -> &dyn Store {
        self.store.as_ref()
    }

    /// Prices, tax rates, opening stock and terms.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Delivers an event to a function.
    pub async fn deliver(&self, function: &'static Function, event: &Event) -> Delivery {
        let started = self.clock.now();
        let key = key(function, event);
        let rule = match function.rule(event.ty()) {
            Ok(rule) => rule,
            Err(invalid) => return Delivery::Rejected(invalid),
        };
        let case = match rule.read(event) {
            Ok(case) => case,
            Err(invalid) => return Delivery::Rejected(invalid),
        };
        let transaction = Transaction {
            key: key.clone(),
            guard: Guard::NewEvent,
            owner: rule.owner(),
            case,
            catalog: self.catalog.clone(),
            cause: Cause::of(event, started),
            now: started,
        };
        let receipt = match self.store.transact(Box::new(transaction)).await {
            Ok(receipt) => receipt,
            Err(error) => return Delivery::TryAgain(error.to_string()),
        };
        let delivery = match receipt.answer {
            None => Delivery::Duplicate,
            Some(Answer::Accepted) => Delivery::Accepted,
            Some(Answer::Ignored(reason)) => Delivery::Ignored(reason),
            Some(Answer::Deferred(reason)) => return Delivery::TryAgain(reason.to_owned()),
            Some(Answer::Rejected(reason)) => {
                return Delivery::Rejected(Invalid::new("data", reason));
            }
            Some(Answer::Unreadable(problem)) => return Delivery::TryAgain(problem),
        };
        match self
            .finish(
                &key,
                function.settle(),
                receipt.pending,
                started + DELIVERY_BUDGET,
            )
            .await
        {
            Ok(()) => delivery,
            Err(reason) => Delivery::TryAgain(reason),
        }
    }

    /// Keeps something that can never succeed, with its reason, for a caller who cannot be told so.
    ///
    /// # Errors
    /// It could not be kept, and is to come again.
    pub async fn park(
        &self,
        function: &'static Function,
        event: Option<&Event>,
        body: &[u8],
        reason: &Invalid,
    ) -> Result<(), StoreError> {
        let parked = Parked {
            id: Uuid::new_v5(
                &Uuid::NAMESPACE_OID,
                &[function.name.as_bytes(), body].concat(),
            ),
            function: function.name.to_owned(),
            event_id: event.map(|event| event.id().to_owned()),
            order_id: event.and_then(|event| order_of(event).ok().flatten()),
            reason: reason.to_string(),
            body: body.to_vec(),
            at: self.clock.now(),
        };
        self.store.park(parked).await
    }

    /// Does what a request from outside asks for, once per `id`. What follows from it is published at once if
    /// possible and by the sweep otherwise: the caller need not ask again.
    pub async fn request(
        &self,
        function: &'static Function,
        owner: &'static str,
        id: String,
        traceparent: Option<String>,
        case: Box<dyn Case>,
    ) -> Reply {
        let started = self.clock.now();
        let key = Key {
            function: function.name.to_owned(),
            source: "/api".to_owned(),
            id,
        };
        let transaction = Transaction {
            key: key.clone(),
            guard: Guard::NewEvent,
            owner,
            case,
            catalog: self.catalog.clone(),
            cause: Cause {
                id: None,
                traceparent,
                tracestate: None,
                time: started,
            },
            now: started,
        };
        let receipt = match self.store.transact(Box::new(transaction)).await {
            Ok(receipt) => receipt,
            Err(error) => return Reply::Unavailable(error.to_string()),
        };
        let reply = match receipt.answer {
            None => Reply::Ignored("done before"),
            Some(Answer::Accepted) => Reply::Accepted,
            Some(Answer::Ignored(reason)) => Reply::Ignored(reason),
            Some(Answer::Rejected(reason)) => return Reply::Refused(reason),
            Some(Answer::Deferred(reason)) => return Reply::Unavailable(reason.to_owned()),
            Some(Answer::Unreadable(problem)) => return Reply::Unavailable(problem),
        };
        if let Err(reason) = self
            .finish(
                &key,
                function.settle(),
                receipt.pending,
                started + REQUEST_BUDGET,
            )
            .await
        {
            tracing::warn!(
                function = function.name,
                id = key.id,
                reason,
                "committed, left for the sweep to publish"
            );
        }
        reply
    }

    /// Pays what a delivery owes: publishes its events, performs its effect, decides on the outcome, and so on
    /// until nothing is owed.
    async fn finish(
        &self,
        key: &Key,
        settle: Option<&'static dyn Settle>,
        mut pending: Pending,
        deadline: DateTime<Utc>,
    ) -> Result<(), String> {
        for _ in 0..=MAX_STEPS {
            if let Some(outbox) = pending.outbox.take() {
                self.publish(key, pending.step, outbox, deadline).await?;
            }
            let Some(intent) = pending.intent else {
                return Ok(());
            };
            let receipt = self
                .perform(key, settle, pending.step, &intent, deadline)
                .await?;
            pending = receipt.pending;
        }
        Err(format!("one event led to more than {MAX_STEPS} effects"))
    }

    async fn publish(
        &self,
        key: &Key,
        step: Step,
        outbox: Vec<u8>,
        deadline: DateTime<Utc>,
    ) -> Result<(), String> {
        let mut rest = Bytes::from(outbox);
        let mut events = Vec::with_capacity(1);
        while let Some(end) = memchr::memchr(b'\n', &rest) {
            events.push(rest.split_to(end));
            rest.advance(1);
        }
        events.push(rest);
        self.publisher
            .publish(events, self.remaining(deadline))
            .await
            .map_err(|error| error.to_string())?;
        self.store.published(key, step);
        Ok(())
    }

    async fn perform(
        &self,
        key: &Key,
        settle: Option<&'static dyn Settle>,
        step: Step,
        intent: &[u8],
        deadline: DateTime<Utc>,
    ) -> Result<Receipt, String> {
        let intent = Intent::read(intent)
            .map_err(|problem| format!("stored intent of {}: {problem}", key.id))?;
        let settle =
            settle.ok_or_else(|| format!("{} has no function for outcomes", key.function))?;
        let age = (self.clock.now() - intent.at).to_std().unwrap_or_default();
        let outcome = self
            .effects
            .perform(&intent.effect, age, self.remaining(deadline))
            .await
            .map_err(|error| error.to_string())?;
        let now = self.clock.now();
        let transaction = Transaction {
            key: key.clone(),
            guard: Guard::PendingIntent { step },
            owner: settle.owner(),
            case: settle.read(intent.order_id, intent.effect, outcome),
            catalog: self.catalog.clone(),
            // The outcome came now, however old the event is that led to it.
            cause: Cause {
                time: now,
                ..intent.cause
            },
            now,
        };
        let receipt = self
            .store
            .transact(Box::new(transaction))
            .await
            .map_err(|error| error.to_string())?;
        match receipt.answer {
            None | Some(Answer::Accepted | Answer::Ignored(_)) => Ok(receipt),
            Some(Answer::Deferred(reason) | Answer::Rejected(reason)) => {
                Err(format!("outcome not taken: {reason}"))
            }
            Some(Answer::Unreadable(problem)) => Err(problem),
        }
    }

    fn remaining(&self, deadline: DateTime<Utc>) -> Duration {
        (deadline - self.clock.now()).to_std().unwrap_or_default()
    }

    /// The view of an order.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn order(&self, order_id: OrderId) -> Result<Option<OrderView>, StoreError> {
        let row = self.store.row(OrderView::OWNER, order_id).await?;
        row.map(|row| serde_json::from_slice(&row))
            .transpose()
            .map_err(|error| {
                StoreError::Unavailable(format!("stored row of orders/{order_id}: {error}"))
            })
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").finish_non_exhaustive()
    }
}

fn key(function: &Function, event: &Event) -> Key {
    Key {
        function: function.name.to_owned(),
        source: event.source().clone(),
        id: event.id().to_owned(),
    }
}
