//! Pieces of work for a store.

use chrono::{DateTime, Utc};
use orderflow::{
    events::OrderId,
    sales::status::{Status, Summary},
    store::{Answer, Change, Guard, Key, Loaded, Reminder, Step, Work, Writes},
};
use uuid::Uuid;

/// So many seconds after some day.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_760_000_000 + seconds, 123_456_000).unwrap()
}

/// An order.
pub fn order(number: u32) -> OrderId {
    OrderId(Uuid::from_u128(
        0x0199_c0de_0000_7000_8000_0000_0000_0000 + u128::from(number),
    ))
}

/// A delivery to the function `billing`.
pub fn key(id: &str) -> Key {
    Key {
        function: "billing".to_owned(),
        source: "/orders".to_owned(),
        id: id.to_owned(),
    }
}

/// What writes nothing but the inbox.
pub fn accepted() -> Writes {
    Writes {
        answer: Answer::Accepted,
        own: None,
        shared: std::collections::BTreeMap::new(),
        reminder: None,
        summary: None,
        at: at(0),
        outbox: None,
        intent: None,
    }
}

pub fn reminder(seconds: i64) -> Reminder {
    Reminder {
        at: at(seconds),
        cause: format!("cause of {seconds}").into_bytes(),
    }
}

pub fn summary(order_id: OrderId, status: Status, placed: i64) -> Summary {
    Summary {
        order_id,
        status,
        placed_at: at(placed),
    }
}

type Apply = dyn Fn(&Loaded) -> Change + Send + Sync;
type SharedRowsOf = dyn Fn(Option<&[u8]>) -> Vec<String> + Send + Sync;

/// A piece of work whose decision is a closure.
pub struct Task {
    key: Key,
    guard: Guard,
    owner: &'static str,
    order: OrderId,
    shared_rows: Box<SharedRowsOf>,
    apply: Box<Apply>,
}

impl Task {
    /// A new event about an order.
    pub fn new(
        id: &str,
        order: OrderId,
        apply: impl Fn(&Loaded) -> Change + Send + Sync + 'static,
    ) -> Self {
        Self {
            key: key(id),
            guard: Guard::NewEvent,
            owner: "billing",
            order,
            shared_rows: Box::new(|_| Vec::new()),
            apply: Box::new(apply),
        }
    }

    /// A new event that always writes the same.
    pub fn writing(id: &str, order: OrderId, writes: Writes) -> Self {
        Self::new(id, order, move |_| Change::Write(Box::new(writes.clone())))
    }

    /// The outcome of an effect that was decided on at a step.
    pub fn after(mut self, step: Step) -> Self {
        self.guard = Guard::PendingIntent { step };
        self
    }

    pub fn of(mut self, owner: &'static str) -> Self {
        self.owner = owner;
        self
    }

    pub fn with_shared(mut self, names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.shared_rows = Box::new(move |_| names.clone());
        self
    }

    pub fn with_shared_of(
        mut self,
        names: impl Fn(Option<&[u8]>) -> Vec<String> + Send + Sync + 'static,
    ) -> Self {
        self.shared_rows = Box::new(names);
        self
    }

    pub fn boxed(self) -> Box<dyn Work> {
        Box::new(self)
    }
}

impl Work for Task {
    fn key(&self) -> &Key {
        &self.key
    }

    fn guard(&self) -> Guard {
        self.guard
    }

    fn own_row(&self) -> (&'static str, OrderId) {
        (self.owner, self.order)
    }

    fn shared_rows(&self, own: Option<&[u8]>) -> Vec<String> {
        (self.shared_rows)(own)
    }

    fn apply(&self, loaded: &Loaded) -> Change {
        (self.apply)(loaded)
    }
}

/// A row that is a number, 0 where there is none.
pub fn count(row: Option<&Vec<u8>>) -> u64 {
    row.map_or(0, |row| std::str::from_utf8(row).unwrap().parse().unwrap())
}

/// Adds one to the order's own row and to each of the shared rows.
pub fn counting(id: &str, order: OrderId, shared: &[&'static str]) -> Task {
    let names: Vec<&'static str> = shared.to_vec();
    let apply = move |loaded: &Loaded| {
        let one_more = |row: Option<&Vec<u8>>| (count(row) + 1).to_string().into_bytes();
        Change::Write(Box::new(Writes {
            own: Some(one_more(loaded.own.as_ref())),
            shared: names
                .iter()
                .map(|name| ((*name).to_owned(), one_more(loaded.shared.get(*name))))
                .collect(),
            ..accepted()
        }))
    };
    Task::new(id, order, apply).with_shared(shared)
}

/// Writes nothing, and says what the rows are: `own/first shared/second shared`.
pub fn looking(order: OrderId, shared: &[&str]) -> Task {
    let names: Vec<String> = shared.iter().map(|name| (*name).to_owned()).collect();
    let apply = move |loaded: &Loaded| {
        let shared = names.iter().map(|name| count(loaded.shared.get(name)));
        let all = std::iter::once(count(loaded.own.as_ref())).chain(shared);
        let text: Vec<_> = all.map(|count| count.to_string()).collect();
        Change::Nothing(Answer::Unreadable(text.join("/")))
    };
    Task::new("a look that leaves no trace", order, apply).with_shared(shared)
}
