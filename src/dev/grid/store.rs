//! What the grid must not forget: accepted events, their deliveries and every attempt, in SQLite.
//!
//! One thread writes and one reads, each with a connection of its own. Writes that wait at the same moment
//! are committed together, so that many publishers share the price of reaching the disk.

mod worker;

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};
use serde::Serialize;
use serde_json::value::RawValue;

pub use self::worker::StoreError;
use self::worker::Worker;
use super::{
    admission::AdmittedEvent,
    retry::{Outcome, recorded_reason},
    topics::Origin,
};

/// How many events are kept. Older ones go once all their deliveries are over.
const KEPT_EVENTS: i64 = 10_000;

/// Old events are looked for once in so many accepted ones.
const PRUNE_EVERY: i64 = 500;

/// At most so many bytes of events are shown at once.
const SHOWN_BYTES: usize = 8 * 1024 * 1024;

/// How long one connection waits for the other.
const BUSY: Duration = Duration::from_secs(5);

const SCHEMA: &str = "
    create table if not exists event (
        number integer primary key,
        accepted_at integer not null,
        type text not null,
        subject text,
        body text not null
    );
    create index if not exists event_by_subject on event (subject, number);
    create table if not exists origin (
        event integer primary key references event (number) on delete cascade,
        topic text not null,
        schema text not null
    );
    create table if not exists delivery (
        event integer not null references event (number) on delete cascade,
        subscription text not null,
        state text not null,
        attempts integer not null default 0,
        next_at integer,
        primary key (event, subscription)
    ) without rowid;
    create index if not exists delivery_pending on delivery (state) where state = 'pending';
    create table if not exists attempt (
        event integer not null,
        subscription text not null,
        attempt integer not null,
        at integer not null,
        status integer,
        outcome text not null,
        milliseconds integer not null,
        primary key (event, subscription, attempt),
        foreign key (event, subscription) references delivery (event, subscription) on delete cascade
    ) without rowid;
    create table if not exists condemned (
        event integer not null,
        subscription text not null,
        reason text not null,
        primary key (event, subscription),
        foreign key (event, subscription) references delivery (event, subscription) on delete cascade
    ) without rowid;
";

/// A delivery that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PendingDelivery {
    pub(super) event: i64,
    pub(super) subscription: String,
    pub(super) attempts: u32,
    pub(super) next_at: DateTime<Utc>,
    pub(super) accepted_at: DateTime<Utc>,
    pub(super) event_type: String,
    pub(super) subject: Option<String>,
    /// The size of the event's text.
    pub(super) bytes: usize,
    /// Set once there are no more attempts.
    pub(super) condemned: Option<Condemned>,
}

/// Why an event was given up, for its dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Condemned {
    pub(super) reason: &'static str,
    pub(super) outcome: Outcome,
    /// What came instead of success, in words.
    pub(super) problem: String,
    pub(super) last_attempt_at: DateTime<Utc>,
}

/// One attempt at a delivery, and where it leaves the delivery.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) event: i64,
    pub(super) subscription: &'static str,
    /// Its number, from 1.
    pub(super) number: u32,
    pub(super) at: DateTime<Utc>,
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
    pub(super) leaves: Leaves,
}

/// Where an attempt leaves its delivery.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaves {
    Delivered,
    Pending(DateTime<Utc>),
    /// Given up. Its dead letter is to be written at this time; until then the delivery is not over.
    Condemned {
        reason: &'static str,
        letter_at: DateTime<Utc>,
    },
    /// Given up without a dead letter.
    Dropped,
}

/// Which events to show. They come in the order in which they were accepted.
#[derive(Debug, Clone, Default)]
pub(super) struct EventQuery {
    /// Those after this number; without it, the newest.
    pub(super) after: Option<i64>,
    /// Those with this subject.
    pub(super) subject: Option<String>,
    /// At most so many.
    pub(super) limit: u32,
}

/// An event and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownEvent {
    pub(super) number: i64,
    accepted_at: DateTime<Utc>,
    topic: String,
    event: Box<RawValue>,
    deliveries: Vec<ShownDelivery>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownDelivery {
    function: String,
    /// `pending`, `delivered`, `deadLettered` or `dropped`.
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<DateTime<Utc>>,
    attempts: Vec<ShownAttempt>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownAttempt {
    attempt: u32,
    at: DateTime<Utc>,
    status: Option<u16>,
    outcome: String,
    milliseconds: i64,
}

/// The events of one data folder.
#[derive(Debug, Clone)]
pub(super) struct GridStore {
    writer: Worker,
    reader: Worker,
}

impl GridStore {
    /// Opens the database, making it at the first start.
    pub(super) fn open(file: &Path) -> Result<Self, StoreError> {
        let writing = Connection::open(file)?;
        writing.busy_timeout(BUSY)?;
        writing.pragma_update(None, "journal_mode", "wal")?;
        // An accepted event survives a power cut, not only the end of the process.
        writing.pragma_update(None, "synchronous", "full")?;
        writing.pragma_update(None, "foreign_keys", true)?;
        writing.execute_batch(SCHEMA)?;
        let reading = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reading.busy_timeout(BUSY)?;
        Ok(Self {
            writer: Worker::start(writing),
            reader: Worker::start(reading),
        })
    }

    /// Keeps events of a topic, each with a pending delivery to every function named beside it. Returns their numbers once they are on disk.
    pub(super) async fn accept(
        &self,
        origin: Origin,
        events: Arc<Vec<(AdmittedEvent, Vec<&'static str>)>>,
        at: DateTime<Utc>,
    ) -> Result<Vec<i64>, StoreError> {
        self.writer
            .run(move |connection| accept(connection, origin, &events, at))
            .await
    }

    /// Keeps what came of an attempt.
    pub(super) async fn record(&self, attempt: Attempt) -> Result<(), StoreError> {
        self.writer
            .run(move |connection| record(connection, &attempt))
            .await
    }

    /// Keeps that a dead letter is in its folder.
    pub(super) async fn letter_written(
        &self,
        event: i64,
        subscription: &'static str,
    ) -> Result<(), StoreError> {
        self.writer
            .run(move |connection| letter_written(connection, event, subscription))
            .await
    }

    /// The deliveries that are not over, oldest events first. Those of subscriptions that are gone are given up, as they are when a
    /// subscription is deleted: also of those that are at another topic now.
    pub(super) async fn take_up(
        &self,
        subscriptions: Vec<(&'static str, Origin)>,
    ) -> Result<Vec<PendingDelivery>, StoreError> {
        self.writer
            .run(move |connection| take_up(connection, &subscriptions))
            .await
    }

    /// The text of an event.
    pub(super) async fn text(&self, event: i64) -> Result<Option<String>, StoreError> {
        self.reader
            .run(move |connection| {
                let mut statement =
                    connection.prepare_cached("select body from event where number = ?")?;
                statement.query_row([event], |row| row.get(0)).optional()
            })
            .await
    }

    /// The numbers and texts of the events for this function that were accepted at this moment.
    pub(super) async fn accepted_at(
        &self,
        accepted_at: DateTime<Utc>,
        function: &'static str,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        self.reader
            .run(move |connection| {
                let mut select = connection.prepare_cached(
                    "select number, body from event join delivery on delivery.event = event.number
                     where accepted_at = ? and subscription = ?",
                )?;
                let rows = select
                    .query_map(params![accepted_at.timestamp_millis(), function], |row| {
                        Ok((row.get(0)?, row.get(1)?))
                    })?;
                rows.collect()
            })
            .await
    }

    /// How many deliveries are not over.
    pub(super) async fn pending(&self) -> Result<i64, StoreError> {
        self.reader
            .run(|connection| {
                let mut statement = connection
                    .prepare_cached("select count(*) from delivery where state = 'pending'")?;
                statement.query_row([], |row| row.get(0))
            })
            .await
    }

    /// Events and what became of them.
    pub(super) async fn events(&self, query: EventQuery) -> Result<Vec<ShownEvent>, StoreError> {
        self.reader
            .run(move |connection| events(connection, &query))
            .await
    }
}

fn accept(
    connection: &Connection,
    origin: Origin,
    events: &[(AdmittedEvent, Vec<&'static str>)],
    at: DateTime<Utc>,
) -> rusqlite::Result<Vec<i64>> {
    let mut insert_event = connection.prepare_cached(
        "insert into event (accepted_at, type, subject, body) values (?, ?, ?, ?)",
    )?;
    let mut insert_delivery = connection.prepare_cached(
        "insert into delivery (event, subscription, state, next_at) values (?, ?, 'pending', ?)",
    )?;
    let mut insert_origin =
        connection.prepare_cached("insert into origin (event, topic, schema) values (?, ?, ?)")?;
    let at = at.timestamp_millis();
    let mut numbers = Vec::with_capacity(events.len());
    for (event, functions) in events {
        let number =
            insert_event.insert(params![at, event.event_type, event.subject, &*event.text])?;
        // Most events are of the topic that everybody has; and so are all of older databases.
        if origin != Origin::DEFAULT {
            insert_origin.execute(params![number, origin.topic, origin.schema.name()])?;
        }
        for function in functions {
            insert_delivery.execute(params![number, function, at])?;
        }
        if number % PRUNE_EVERY == 0 {
            prune(connection, number)?;
        }
        numbers.push(number);
    }
    Ok(numbers)
}

fn prune(connection: &Connection, newest: i64) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(
        "delete from event where number <= ? and not exists (
             select 1 from delivery where delivery.event = event.number and state = 'pending')",
    )?;
    delete.execute([newest - KEPT_EVENTS])?;
    Ok(())
}

fn record(connection: &Connection, attempt: &Attempt) -> rusqlite::Result<()> {
    let (state, next_at) = match attempt.leaves {
        Leaves::Condemned { letter_at, .. } => ("pending", Some(letter_at.timestamp_millis())),
        Leaves::Delivered => ("delivered", None),
        Leaves::Pending(next_at) => ("pending", Some(next_at.timestamp_millis())),
        Leaves::Dropped => ("dropped", None),
    };
    let milliseconds = i64::try_from(attempt.took.as_millis()).unwrap_or(i64::MAX);
    // An attempt may be recorded a second time: when its dead letter could not be written it is made again.
    connection
        .prepare_cached(
            "insert or replace into attempt (event, subscription, attempt, at, status, outcome, milliseconds)
             values (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            attempt.event,
            attempt.subscription,
            attempt.number,
            attempt.at.timestamp_millis(),
            attempt.outcome.status(),
            attempt.outcome.name(),
            milliseconds
        ])?;
    connection
        .prepare_cached(
            "update delivery set state = ?, attempts = ?, next_at = ? where event = ? and subscription = ?",
        )?
        .execute(params![state, attempt.number, next_at, attempt.event, attempt.subscription])?;
    if let Leaves::Condemned { reason, .. } = attempt.leaves {
        connection
            .prepare_cached(
                "insert or replace into condemned (event, subscription, reason) values (?, ?, ?)",
            )?
            .execute(params![attempt.event, attempt.subscription, reason])?;
    }
    Ok(())
}

fn letter_written(connection: &Connection, event: i64, subscription: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("delete from condemned where event = ? and subscription = ?")?
        .execute(params![event, subscription])?;
    connection
        .prepare_cached(
            "update delivery set state = 'deadLettered', next_at = null where event = ? and subscription = ?",
        )?
        .execute(params![event, subscription])?;
    Ok(())
}

fn take_up(
    connection: &Connection,
    subscriptions: &[(&'static str, Origin)],
) -> rusqlite::Result<Vec<PendingDelivery>> {
    let mut select = connection.prepare(
        "select delivery.event, delivery.subscription, attempts, next_at, accepted_at, type, subject,
             octet_length(body), reason, outcome, status, at, origin.topic, origin.schema
         from delivery join event on event.number = delivery.event
         left join condemned using (event, subscription)
         left join attempt on attempt.event = delivery.event
             and attempt.subscription = delivery.subscription and attempt = attempts
         left join origin on origin.event = delivery.event
         where state = 'pending' order by delivery.event, delivery.subscription",
    )?;
    let pending = select
        .query_map([], |row| {
            let delivery = pending_delivery(row)?;
            let topic = row.get::<_, Option<String>>(12)?;
            let schema = row.get::<_, Option<String>>(13)?;
            let is_there = subscriptions.iter().any(|(name, origin)| {
                *name == delivery.subscription
                    && origin.topic == topic.as_deref().unwrap_or(Origin::DEFAULT.topic)
                    && origin.schema.name()
                        == schema.as_deref().unwrap_or(Origin::DEFAULT.schema.name())
            });
            Ok((delivery, is_there))
        })?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let (pending, gone): (Vec<_>, Vec<_>) =
        pending.into_iter().partition(|(_, is_there)| *is_there);
    let mut delete =
        connection.prepare("delete from delivery where event = ? and subscription = ?")?;
    for (delivery, _) in gone {
        delete.execute(params![delivery.event, delivery.subscription])?;
    }
    Ok(pending.into_iter().map(|(delivery, _)| delivery).collect())
}

fn pending_delivery(row: &Row<'_>) -> rusqlite::Result<PendingDelivery> {
    let accepted_at = time(row.get(4)?);
    Ok(PendingDelivery {
        event: row.get(0)?,
        subscription: row.get(1)?,
        attempts: row.get(2)?,
        next_at: row.get::<_, Option<i64>>(3)?.map_or(accepted_at, time),
        accepted_at,
        event_type: row.get(5)?,
        subject: row.get(6)?,
        bytes: usize::try_from(row.get::<_, u32>(7)?).unwrap_or(usize::MAX),
        condemned: condemned(row)?,
    })
}

fn condemned(row: &Row<'_>) -> rusqlite::Result<Option<Condemned>> {
    let Some(reason) = row.get::<_, Option<String>>(8)? else {
        return Ok(None);
    };
    let outcome = Outcome::recorded(row.get(10)?, &row.get::<_, String>(9)?);
    Ok(Some(Condemned {
        reason: recorded_reason(&reason),
        outcome,
        problem: outcome.name().to_owned(),
        last_attempt_at: time(row.get(11)?),
    }))
}

fn time(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(milliseconds).unwrap_or_default()
}

fn events(connection: &Connection, query: &EventQuery) -> rusqlite::Result<Vec<ShownEvent>> {
    let direction = if query.after.is_some() { "asc" } else { "desc" };
    let mut select = connection.prepare_cached(&format!(
        "select number, accepted_at, body, coalesce(topic, ?) from event
         left join origin on origin.event = event.number
         where number > ? and (? is null or subject = ?) order by number {direction} limit ?"
    ))?;
    let after = query.after.unwrap_or(i64::MIN);
    let mut rows = select.query(params![
        Origin::DEFAULT.topic,
        after,
        query.subject,
        query.subject,
        query.limit
    ])?;
    let mut shown = Vec::new();
    let mut bytes = 0_usize;
    while let Some(row) = rows.next()? {
        let number = row.get(0)?;
        let body: String = row.get(2)?;
        bytes = bytes.saturating_add(body.len());
        if bytes > SHOWN_BYTES && !shown.is_empty() {
            break;
        }
        // The text was JSON when it was accepted, so a row that is none was changed by hand.
        let Ok(event) = RawValue::from_string(body) else {
            continue;
        };
        let deliveries = deliveries(connection, number)?;
        shown.push(ShownEvent {
            number,
            accepted_at: time(row.get(1)?),
            topic: row.get(3)?,
            event,
            deliveries,
        });
    }
    if query.after.is_none() {
        shown.reverse();
    }
    Ok(shown)
}

fn deliveries(connection: &Connection, event: i64) -> rusqlite::Result<Vec<ShownDelivery>> {
    let mut select = connection.prepare_cached(
        "select subscription, state, next_at from delivery where event = ? order by subscription",
    )?;
    let mut rows = select.query([event])?;
    let mut shown = Vec::new();
    while let Some(row) = rows.next()? {
        let function: String = row.get(0)?;
        let attempts = attempts(connection, event, &function)?;
        let next_attempt_at = row.get::<_, Option<i64>>(2)?.map(time);
        shown.push(ShownDelivery {
            function,
            state: row.get(1)?,
            next_attempt_at,
            attempts,
        });
    }
    Ok(shown)
}

fn attempts(
    connection: &Connection,
    event: i64,
    function: &str,
) -> rusqlite::Result<Vec<ShownAttempt>> {
    let mut select = connection.prepare_cached(
        "select attempt, at, status, outcome, milliseconds from attempt
         where event = ? and subscription = ? order by attempt",
    )?;
    let rows = select.query_map(params![event, function], |row| {
        Ok(ShownAttempt {
            attempt: row.get(0)?,
            at: time(row.get(1)?),
            status: row.get(2)?,
            outcome: row.get(3)?,
            milliseconds: row.get(4)?,
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str) -> AdmittedEvent {
        AdmittedEvent {
            id: id.to_owned(),
            source: "/s".to_owned(),
            event_type: "T".to_owned(),
            subject: Some(format!("orders/{id}")),
            text: format!("{{ \"id\":\"{id}\"}}").into(),
        }
    }

    fn at(milliseconds: i64) -> DateTime<Utc> {
        time(milliseconds)
    }

    fn there(names: &[&'static str]) -> Vec<(&'static str, Origin)> {
        names.iter().map(|name| (*name, Origin::DEFAULT)).collect()
    }

    async fn accept(store: &GridStore, ids: &[&str]) -> Vec<i64> {
        let events = ids
            .iter()
            .map(|id| (event(id), vec!["billing", "orders"]))
            .collect();
        store
            .accept(Origin::DEFAULT, Arc::new(events), at(1_000))
            .await
            .unwrap()
    }

    fn attempt(number: i64, leaves: Leaves) -> Attempt {
        Attempt {
            event: number,
            subscription: "billing",
            number: 1,
            at: at(2_000),
            took: Duration::from_millis(5),
            outcome: Outcome::Status(202),
            leaves,
        }
    }

    #[tokio::test]
    async fn what_is_pending_survives_a_new_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("grid.db");
        let store = GridStore::open(&file).unwrap();
        assert_eq!(accept(&store, &["a", "b"]).await, [1, 2]);
        store.record(attempt(1, Leaves::Delivered)).await.unwrap();
        store
            .record(attempt(2, Leaves::Pending(at(9_000))))
            .await
            .unwrap();
        drop(store);

        let store = GridStore::open(&file).unwrap();
        assert_eq!(store.pending().await.unwrap(), 3);
        let pending = store.take_up(there(&["billing", "orders"])).await.unwrap();
        let seen: Vec<_> = pending
            .iter()
            .map(|delivery| {
                (
                    delivery.event,
                    delivery.subscription.as_str(),
                    delivery.attempts,
                    delivery.next_at,
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (1, "orders", 0, at(1_000)),
                (2, "billing", 1, at(9_000)),
                (2, "orders", 0, at(1_000))
            ]
        );
        assert_eq!(
            store.text(1).await.unwrap().as_deref(),
            Some("{ \"id\":\"a\"}")
        );
        assert_eq!(store.text(9).await.unwrap(), None);
    }

    #[tokio::test]
    async fn deliveries_of_a_function_that_is_gone_are_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = GridStore::open(&folder.path().join("grid.db")).unwrap();
        accept(&store, &["a"]).await;
        assert_eq!(store.take_up(there(&["orders"])).await.unwrap().len(), 1);
        assert_eq!(store.pending().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn events_are_shown_newest_or_after_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let store = GridStore::open(&folder.path().join("grid.db")).unwrap();
        accept(&store, &["a", "b", "c"]).await;
        let show = async |query| {
            let events = store.events(query).await.unwrap();
            events.iter().map(|event| event.number).collect::<Vec<_>>()
        };
        assert_eq!(
            show(EventQuery {
                limit: 2,
                ..EventQuery::default()
            })
            .await,
            [2, 3]
        );
        assert_eq!(
            show(EventQuery {
                after: Some(1),
                limit: 1,
                ..EventQuery::default()
            })
            .await,
            [2]
        );
        let subject = Some("orders/b".to_owned());
        assert_eq!(
            show(EventQuery {
                subject,
                limit: 9,
                ..EventQuery::default()
            })
            .await,
            [2]
        );
    }

    #[tokio::test]
    async fn old_events_go_but_not_while_a_delivery_is_pending() {
        let folder = tempfile::tempdir().unwrap();
        let store = GridStore::open(&folder.path().join("grid.db")).unwrap();
        accept(&store, &["a"]).await;
        let quiet =
            |count: usize| Arc::new((0..count).map(|_| (event("x"), vec![])).collect::<Vec<_>>());
        store
            .accept(Origin::DEFAULT, quiet(10_499), at(0))
            .await
            .unwrap();
        let oldest = async || {
            let query = EventQuery {
                after: Some(0),
                limit: 2,
                ..EventQuery::default()
            };
            store
                .events(query)
                .await
                .unwrap()
                .iter()
                .map(|event| event.number)
                .collect::<Vec<_>>()
        };
        assert_eq!(oldest().await, [1, 501]);
        store.take_up(vec![]).await.unwrap();
        store
            .accept(Origin::DEFAULT, quiet(500), at(0))
            .await
            .unwrap();
        assert_eq!(oldest().await, [1_001, 1_002]);
    }
}
