//! Bugs to give to the application, to check the checker: each must be found within a few seeds.
//!
//! They are made around the application, in what its ports see and say, so that the application has no switch for
//! them.

use cloudevents::Event;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    events::{Invalid, OrderCancelRequested, OrderId, Payload, ReasonCode, event_id},
    sales::{Effect, Outcome, State, orders::OrderView, shipping::Shipping},
    store::{Guard, Key, Loaded, Writes},
};

use super::{agenda::HOUR, random::Random, versions, world::World};

/// A bug of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// What was decided on is not remembered.
    NoInbox,
    /// What was decided on is remembered for an hour only.
    ShortMemory,
    /// Doing the same thing twice makes two events.
    RandomEventIds,
    /// A parcel leaves without its stock being reserved.
    NoStockGate,
    /// Asked again for the same refund, the money goes back again.
    RefundTwice,
    /// An effect is not committed as an intent before it is performed.
    NoIntent,
    /// A cancellation of what is not there yet leaves nothing behind.
    NoTombstone,
    /// No answer from outside counts as a "no".
    TimeoutAsFailure,
    /// A provider is taken to remember a key for ever.
    TrustsKeys,
    /// Events that were not published count as published.
    AcknowledgeBeforePublish,
    /// The status is that of the last event, not of all.
    StatusOfLastEvent,
    /// An event with a field that is not known is refused.
    StrictReader,
    /// The reason for refusing an event quotes all of it.
    Indiscreet,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 13] = [
        Self::NoInbox,
        Self::ShortMemory,
        Self::RandomEventIds,
        Self::NoStockGate,
        Self::RefundTwice,
        Self::NoIntent,
        Self::NoTombstone,
        Self::TimeoutAsFailure,
        Self::TrustsKeys,
        Self::AcknowledgeBeforePublish,
        Self::StatusOfLastEvent,
        Self::StrictReader,
        Self::Indiscreet,
    ];
}

/// What a bug puts between an id and what makes another id of it.
const MARK: char = '#';

/// The id that a key had before a bug changed it.
pub(super) fn plain_id(id: &str) -> &str {
    id.split(MARK).next().unwrap_or(id)
}

/// What stands for a key in the store, if a bug makes that another one.
pub(super) fn stored_key(bug: Bug, world: &World, key: &Key, guard: Guard) -> Option<Key> {
    if key.id.contains(MARK) {
        return None;
    }
    let mark = match (bug, guard) {
        (Bug::NoInbox, _) => world.running.task,
        (Bug::ShortMemory, _) => world.agenda.now() / HOUR,
        (Bug::NoIntent, Guard::PendingIntent { step }) => u64::from(step),
        _ => return None,
    };
    Some(Key {
        id: format!("{}{MARK}{mark}", key.id),
        ..key.clone()
    })
}

/// Why an event is refused that is sound.
pub(super) fn refused(bug: Bug, event: &Event) -> Option<Invalid> {
    let strict = bug == Bug::StrictReader && event.extension(versions::UNKNOWN).is_some();
    strict.then(|| Invalid::new("data", "has an unknown field"))
}

/// What a decision is made to see.
pub(super) fn seen(bug: Bug, owner: &str, loaded: &Loaded) -> Loaded {
    let mut loaded = loaded.clone();
    match bug {
        Bug::NoStockGate if owner == Shipping::OWNER => {
            change(&mut loaded, "reserved", json!(true));
        }
        Bug::StatusOfLastEvent if owner == OrderView::OWNER && loaded.own.is_some() => {
            change(&mut loaded, "facts", json!([]));
        }
        _ => {}
    }
    loaded
}

fn change(loaded: &mut Loaded, field: &str, value: Value) {
    let row = loaded.own.as_deref().unwrap_or(b"{}");
    if let Ok(Value::Object(mut fields)) = serde_json::from_slice(row) {
        fields.insert(field.to_owned(), value);
        loaded.own = Some(Value::Object(fields).to_string().into_bytes());
    }
}

/// Changes what a decision writes.
pub(super) fn spoil(
    world: &mut World,
    order: OrderId,
    key: &Key,
    loaded: &Loaded,
    writes: &mut Writes,
) {
    match world.scenario.bug {
        Some(Bug::RandomEventIds) => {
            let random = world.random(None);
            writes.outbox = writes
                .outbox
                .take()
                .map(|outbox| with_random_ids(&outbox, random));
        }
        Some(Bug::NoTombstone) if loaded.own.is_none() && is_cancellation(order, key) => {
            writes.own = None;
        }
        _ => {}
    }
}

fn is_cancellation(order: OrderId, key: &Key) -> bool {
    let id = event_id(order, OrderCancelRequested::TYPE, 1).to_string();
    plain_id(&key.id) == id
}

fn with_random_ids(outbox: &[u8], random: &mut Random) -> Vec<u8> {
    let lines = outbox.split(|byte| *byte == b'\n').map(|line| {
        let mut event: Value = serde_json::from_slice(line).unwrap_or_default();
        if let Some(id) = event.get_mut("id") {
            *id = json!(another_key(random));
        }
        event.to_string().into_bytes()
    });
    lines.collect::<Vec<_>>().join(&b'\n')
}

/// An id that nothing was derived from.
pub(super) fn another_key(random: &mut Random) -> Uuid {
    Uuid::from_u64_pair(random.next(), random.next())
}

/// The answer that no answer is taken for.
pub(super) fn failure(effect: &Effect) -> Outcome {
    let detail = "no answer".to_owned();
    match effect {
        Effect::Charge(_) => Outcome::Declined {
            reason_code: ReasonCode::CardDeclined,
            detail,
        },
        Effect::Refund(_) => Outcome::RefundRefused { detail },
        Effect::Dispatch(_) => Outcome::DispatchRefused {
            reason_code: ReasonCode::ShipmentFailed,
            detail,
        },
    }
}
