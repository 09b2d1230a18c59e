//! What truly happened to each order, as seen from outside the application: by Event Grid, the store, the payment
//! provider and the carrier.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use cloudevents::{AttributesReader, Event};
use uuid::Uuid;

use crate::{
    events::{Amount, BillingCompleted, Order, Payload, decode},
    sales::{Outcome, status::Status},
    store::Key,
};

use super::{agenda::Micros, random::Random};

/// The accounts of the orders that are under way. Orders enter by number, one after the other, so that a number is a
/// place in a queue: they are looked up many times in every step.
#[derive(Default)]
pub(super) struct Accounts {
    /// The number of the order at the front.
    front: u64,
    queue: VecDeque<Option<Box<Account>>>,
    held: usize,
}

/// What truly happened to one order.
pub(super) struct Account {
    /// What the customer ordered.
    pub(super) order: Order,
    /// When the customer first asked for it.
    pub(super) entered: Micros,
    /// The chance of all that belongs to it.
    pub(super) random: Random,
    /// How many deliveries, requests and wishes are under way.
    pub(super) under_way: u64,
    /// Every event that the topic took, oldest first.
    pub(super) events: Vec<Published>,
    /// How many attempts there were to deliver something.
    pub(super) deliveries: u64,
    /// What was parked: the function and the event's id.
    pub(super) parked: Vec<(String, String)>,
    /// Every delivery that was decided on.
    pub(super) decided: Vec<Decided>,
    /// The idempotency keys of the effects that were committed as intents.
    pub(super) intents: Vec<Uuid>,
    /// What provider and carrier did.
    pub(super) performed: Vec<Performed>,
    /// The captures that took place.
    pub(super) captures: Vec<Amount>,
    /// The refunds that took place.
    pub(super) refunds: Vec<Amount>,
    /// Until when provider and carrier answer nothing.
    pub(super) outage: Micros,
    /// Whether the provider refused a refund for good.
    pub(super) refund_refused: bool,
    /// How many parcels the carrier has.
    pub(super) parcels: u32,
    /// How many pieces of each article are set aside for it.
    pub(super) held: BTreeMap<String, u64>,
    /// How many pieces of each article have left for it.
    pub(super) shipped: BTreeMap<String, u64>,
    /// Whether shipping has learnt that the parcel is not to leave, before it called the carrier.
    pub(super) shipping_closed: bool,
    /// The last status that was committed.
    pub(super) status: Option<Status>,
    /// How it stood when it first came to rest, while its archive is being replayed.
    pub(super) at_rest: Option<Snapshot>,
    /// Whether its archive was replayed, or is not to be.
    pub(super) replayed: bool,
    /// When it last came to rest.
    pub(super) rested: Micros,
}

/// An event that the topic took.
pub(super) struct Published {
    /// As it was sent.
    pub(super) bytes: Bytes,
    /// As it is delivered.
    pub(super) event: Arc<Event>,
}

/// What provider or carrier did under an idempotency key.
pub(super) struct Performed {
    pub(super) key: Uuid,
    pub(super) at: Micros,
    /// What they answer when they are asked again.
    pub(super) outcome: Outcome,
}

/// A delivery that was decided on.
pub(super) struct Decided {
    /// Which.
    pub(super) key: Key,
    /// The events that were committed with it.
    pub(super) outboxes: Vec<Vec<u8>>,
    /// Whether an effect is intended and its outcome not decided on.
    pub(super) intends: bool,
}

impl Decided {
    /// Whether it is that delivery.
    pub(super) fn is_of(&self, function: &str, source: &str, id: &str) -> bool {
        self.key.id == id && self.key.function == function && self.key.source == source
    }
}

/// All of an order that a replay could change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) rows: Vec<Option<Vec<u8>>>,
    pub(super) events: usize,
    pub(super) captures: usize,
    pub(super) refunds: usize,
    pub(super) parcels: u32,
    pub(super) held: BTreeMap<String, u64>,
    pub(super) shipped: BTreeMap<String, u64>,
}

impl Accounts {
    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.front)?).ok()
    }

    /// The account of an order that is under way.
    pub(super) fn get(&self, number: u64) -> Option<&Account> {
        self.queue.get(self.place(number)?)?.as_deref()
    }

    /// The account of an order that is under way.
    pub(super) fn get_mut(&mut self, number: u64) -> Option<&mut Account> {
        let place = self.place(number)?;
        self.queue.get_mut(place)?.as_deref_mut()
    }

    /// An order enters. Its number is greater than that of any before it.
    pub(super) fn insert(&mut self, number: u64, account: Account) {
        if self.queue.is_empty() {
            self.front = number;
        }
        while self
            .place(number)
            .is_some_and(|place| place > self.queue.len())
        {
            self.queue.push_back(None);
        }
        self.queue.push_back(Some(Box::new(account)));
        self.held += 1;
    }

    /// An order leaves.
    pub(super) fn remove(&mut self, number: u64) -> Option<Box<Account>> {
        let place = self.place(number)?;
        let account = self.queue.get_mut(place)?.take()?;
        self.held -= 1;
        while let Some(None) = self.queue.front() {
            self.queue.pop_front();
            self.front += 1;
        }
        Some(account)
    }

    /// The order that entered first, of those that are under way.
    pub(super) fn oldest(&self) -> Option<(u64, &Account)> {
        Some((self.front, self.queue.front()?.as_deref()?))
    }

    /// How many orders are under way.
    pub(super) fn len(&self) -> usize {
        self.held
    }
}

impl Account {
    /// Nothing has happened yet.
    pub(super) fn new(order: Order, entered: Micros, random: Random) -> Self {
        Self {
            order,
            entered,
            random,
            under_way: 0,
            events: Vec::new(),
            deliveries: 0,
            parked: Vec::new(),
            decided: Vec::new(),
            intents: Vec::new(),
            performed: Vec::new(),
            captures: Vec::new(),
            refunds: Vec::new(),
            outage: 0,
            refund_refused: false,
            parcels: 0,
            held: BTreeMap::new(),
            shipped: BTreeMap::new(),
            shipping_closed: false,
            status: None,
            at_rest: None,
            replayed: false,
            rested: 0,
        }
    }

    /// The event of that id.
    pub(super) fn event(&self, id: &str) -> Option<&Published> {
        self.events.iter().find(|known| known.event.id() == id)
    }

    /// Whether an event of that type was published.
    pub(super) fn has_event<E: Payload>(&self) -> bool {
        self.events.iter().any(|known| known.event.ty() == E::TYPE)
    }

    /// What the invoice asks for.
    pub(super) fn invoiced(&self) -> Option<Amount> {
        let billed = self
            .events
            .iter()
            .find(|known| known.event.ty() == BillingCompleted::TYPE)?;
        let billed: BillingCompleted = decode(&billed.event).ok()?;
        Some(billed.invoice.total_amount)
    }

    /// The delivery to a function of the event of that source and id, if it was decided on.
    pub(super) fn decided(&self, function: &str, source: &str, id: &str) -> Option<&Decided> {
        let mut decided = self.decided.iter();
        decided.find(|decided| decided.is_of(function, source, id))
    }

    /// How many pieces of each article were ordered.
    pub(super) fn pieces(&self) -> BTreeMap<String, u64> {
        let mut pieces = BTreeMap::new();
        for line in &self.order.lines {
            *pieces.entry(line.sku.to_string()).or_default() += u64::from(line.quantity.get());
        }
        pieces
    }

    /// How it stands.
    pub(super) fn snapshot(&self, rows: Vec<Option<Vec<u8>>>) -> Snapshot {
        Snapshot {
            rows,
            events: self.events.len(),
            captures: self.captures.len(),
            refunds: self.refunds.len(),
            parcels: self.parcels,
            held: self.held.clone(),
            shipped: self.shipped.clone(),
        }
    }
}
