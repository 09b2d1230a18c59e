//! The whole vocabulary between the services and the engine.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};

use crate::events::{Invalid, Outgoing, Payload};

use super::{Catalog, Effect, status::Summary};

/// What a decision may look at besides its state and its event.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// Prices, tax rates, opening stock and terms.
    pub catalog: &'a Catalog,
    /// When the event happened: the only time there is for a decision.
    pub time: DateTime<Utc>,
    /// The event's id.
    pub event_id: &'a str,
}

/// What a service makes of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict<S> {
    /// The state moves, events follow, and perhaps an effect on the outside world.
    Accept(Decision<S>),
    /// Stale or done already: recorded, nothing follows.
    Ignore(&'static str),
    /// Cannot be decided yet: nothing is recorded, the event comes again.
    Defer(&'static str),
    /// Can never succeed: parked with the reason, visible, replayable.
    Reject(&'static str),
}

/// What an accepted event leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision<S> {
    /// The new state.
    pub state: S,
    /// What to tell the others.
    pub events: Vec<Outgoing>,
    /// What to do in the outside world; its outcome comes back as a second decision.
    pub effect: Option<Effect>,
}

impl<S> Verdict<S> {
    /// The state moves; nothing follows yet.
    pub fn accept(state: S) -> Self {
        Self::Accept(Decision {
            state,
            events: Vec::new(),
            effect: None,
        })
    }

    /// Tells the others something that happens once per order.
    #[must_use]
    pub fn publish<E: Payload>(self, payload: &E) -> Self {
        self.with(|decision| decision.events.push(Outgoing::once(payload)))
    }

    /// Tells the others something that may happen once per attempt.
    #[must_use]
    pub fn publish_attempt<E: Payload>(self, payload: &E, attempt: u32) -> Self {
        self.with(|decision| decision.events.push(Outgoing::attempt(payload, attempt)))
    }

    /// Tells the others something whose payload is already an [`Outgoing`].
    #[must_use]
    pub fn publish_outgoing(self, outgoing: Outgoing) -> Self {
        self.with(|decision| decision.events.push(outgoing))
    }

    /// Does something in the outside world.
    #[must_use]
    pub fn perform(self, effect: Effect) -> Self {
        self.with(|decision| decision.effect = Some(effect))
    }

    fn with(mut self, change: impl FnOnce(&mut Decision<S>)) -> Self {
        if let Self::Accept(decision) = &mut self {
            change(decision);
        }
        self
    }
}

/// Rows that several orders share, by key: stock levels.
pub type SharedRows = BTreeMap<String, Vec<u8>>;

/// A service's own state of one order, as the store keeps it.
pub trait State: Serialize + DeserializeOwned {
    /// Whose rows these are: the service's name.
    const OWNER: &'static str;

    /// Puts the shared rows that the event's rule asked for, as far as they exist, beside the order's own row.
    ///
    /// # Errors
    /// A row that cannot be read.
    fn attach(own: Option<Self>, shared: &SharedRows) -> Result<Option<Self>, Invalid> {
        let _ = shared;
        Ok(own)
    }

    /// The shared rows as they are to be stored.
    fn shared_rows(&self) -> SharedRows {
        SharedRows::new()
    }

    /// When the service wants to look at the order again, unless its state moves before that.
    fn due(&self) -> Option<DateTime<Utc>> {
        None
    }

    /// What lists of orders show; only the orders service has it.
    fn summary(&self) -> Option<Summary> {
        None
    }
}
