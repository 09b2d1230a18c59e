//! What the grid must not forget: accepted events, their deliveries and every attempt, in SQLite.
//!
//! One thread writes and one reads, each with a connection of its own. Writes that wait at the same moment
//! are committed together, so that many publishers share the price of reaching the disk.

mod backlog;
mod clock;
mod worker;

use std::{path::Path, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};
use serde::Serialize;
use serde_json::value::RawValue;

pub use self::worker::StoreError;
use self::worker::Worker;
pub(super) use self::{backlog::Backlog, clock::KeptClock};
use super::{
    admission::AdmittedEvent,
    clock::{Clock, Moment},
    retry::{Outcome, recorded_reason},
};

/// How many events are kept. Older ones go once all their deliveries are over.
const KEPT_EVENTS: i64 = 10_000;

/// Old events are looked for once in so many accepted ones.
const PRUNE_EVERY: i64 = 500;

/// At most so many bytes of events are shown at once.
const SHOWN_BYTES: usize = 8 * 1024 * 1024;

/// How long one connection waits for the other.
const BUSY: Duration = Duration::from_secs(5);

/// `moment` and `next_at` are of the grid's clock, every other time is real.
const SCHEMA: &str = "
    create table if not exists event (
        number integer primary key,
        accepted_at integer not null,
        type text not null,
        subject text,
        body text not null,
        moment integer
    );
    create index if not exists event_by_subject on event (subject, number);
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
        moment integer,
        primary key (event, subscription, attempt),
        foreign key (event, subscription) references delivery (event, subscription) on delete cascade
    ) without rowid;
    create table if not exists condemned (
        event integer not null,
        subscription text not null,
        reason text not null,
        at integer,
        primary key (event, subscription),
        foreign key (event, subscription) references delivery (event, subscription) on delete cascade
    ) without rowid;
";

/// What came after the first release of the schema.
const ADDED: [(&str, &str); 3] = [
    ("event", "moment"),
    ("attempt", "moment"),
    ("condemned", "at"),
];

/// A delivery that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PendingDelivery {
    pub(super) event: i64,
    pub(super) subscription: String,
    pub(super) attempts: u32,
    pub(super) next_at: Moment,
    pub(super) accepted_at: DateTime<Utc>,
    /// When it was accepted, on the clock.
    pub(super) accepted: Moment,
    pub(super) event_type: String,
    pub(super) subject: Option<String>,
    /// The size of the event's text.
    pub(super) bytes: usize,
    pub(super) last: Option<LastAttempt>,
    /// Set once there are no more attempts: why.
    pub(super) condemned: Option<&'static str>,
}

/// How the last attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastAttempt {
    pub(super) outcome: Outcome,
    /// What came instead of success, in words.
    pub(super) problem: String,
    /// When it began. Of an event that was given up without any attempt, when that was.
    pub(super) at: DateTime<Utc>,
}

/// One attempt at a delivery, and where it leaves the delivery.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub(super) event: i64,
    pub(super) subscription: &'static str,
    /// Its number, from 1.
    pub(super) number: u32,
    pub(super) at: DateTime<Utc>,
    /// The same on the clock.
    pub(super) moment: Moment,
    pub(super) took: Duration,
    pub(super) outcome: Outcome,
    pub(super) leaves: Leaves,
}

/// Where an attempt leaves its delivery.
#[derive(Debug, Clone, Copy)]
pub(super) enum Leaves {
    Delivered,
    Pending(Moment),
    /// Given up. Its dead letter is to be written at this moment; until then the delivery is not over.
    Condemned {
        reason: &'static str,
        letter_at: Moment,
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
    event: Box<RawValue>,
    deliveries: Vec<ShownDelivery>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownDelivery {
    function: String,
    /// `pending`, `delivered`, `deadLettered` or `dropped`.
    state: String,
    /// Missing as well while the clock stands still.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<DateTime<Utc>>,
    /// How old the event will be by then, in seconds on the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_age: Option<f64>,
    attempts: Vec<ShownAttempt>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownAttempt {
    attempt: u32,
    at: DateTime<Utc>,
    /// How old the event was when it began, in seconds on the clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<f64>,
    status: Option<u16>,
    outcome: String,
    milliseconds: i64,
}

/// The events of one data folder.
#[derive(Debug, Clone)]
pub(super) struct GridStore {
    writer: Worker,
    reader: Worker,
    kept_clock: Option<KeptClock>,
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
        writing.execute_batch(clock::SCHEMA)?;
        for (table, column) in ADDED {
            add_column(&writing, table, column)?;
        }
        let kept_clock = clock::kept(&writing)?;
        let reading = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reading.busy_timeout(BUSY)?;
        Ok(Self {
            writer: Worker::start(writing),
            reader: Worker::start(reading),
            kept_clock,
        })
    }

    /// Keeps events, each with a pending delivery to every function named beside it. Returns their numbers once they are on disk.
    pub(super) async fn accept(
        &self,
        events: Arc<Vec<(AdmittedEvent, Vec<&'static str>)>>,
        at: DateTime<Utc>,
        moment: Moment,
    ) -> Result<Vec<i64>, StoreError> {
        self.writer
            .run(move |connection| accept(connection, &events, at, moment))
            .await
    }

    /// Keeps what came of an attempt.
    pub(super) async fn record(&self, attempt: Attempt) -> Result<(), StoreError> {
        self.writer
            .run(move |connection| record(connection, &attempt))
            .await
    }

    /// Keeps where a delivery is left without another attempt, at this time.
    pub(super) async fn leave(
        &self,
        event: i64,
        subscription: &'static str,
        leaves: Leaves,
        at: DateTime<Utc>,
    ) -> Result<(), StoreError> {
        self.writer
            .run(move |connection| leave(connection, (event, subscription), None, leaves, at))
            .await
    }

    /// Gives up every delivery of a subscription that is not over, as when it is deleted.
    pub(super) async fn forget(&self, subscription: &'static str) -> Result<(), StoreError> {
        self.writer
            .run(move |connection| {
                connection
                    .prepare_cached(
                        "delete from delivery where state = 'pending' and subscription = ?",
                    )?
                    .execute([subscription])?;
                Ok(())
            })
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

    /// The deliveries that are not over, oldest events first. Those of functions that are gone are given up, as they are when a
    /// subscription is deleted.
    pub(super) async fn take_up(
        &self,
        functions: Vec<&'static str>,
    ) -> Result<Vec<PendingDelivery>, StoreError> {
        self.writer
            .run(move |connection| take_up(connection, &functions))
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

    /// Events and what became of them.
    pub(super) async fn events(
        &self,
        query: EventQuery,
        clock: Arc<Clock>,
    ) -> Result<Vec<ShownEvent>, StoreError> {
        self.reader
            .run(move |connection| events(connection, &query, &clock))
            .await
    }
}

/// Adds a column of integers to a table of an older database.
fn add_column(connection: &Connection, table: &str, column: &str) -> rusqlite::Result<()> {
    let there: bool = connection.query_row(
        "select exists (select 1 from pragma_table_info(?) where name = ?)",
        [table, column],
        |row| row.get(0),
    )?;
    if there {
        return Ok(());
    }
    connection.execute_batch(&format!("alter table {table} add column {column} integer"))
}

fn accept(
    connection: &Connection,
    events: &[(AdmittedEvent, Vec<&'static str>)],
    at: DateTime<Utc>,
    moment: Moment,
) -> rusqlite::Result<Vec<i64>> {
    let mut insert_event = connection.prepare_cached(
        "insert into event (accepted_at, type, subject, body, moment) values (?, ?, ?, ?, ?)",
    )?;
    let mut insert_delivery = connection.prepare_cached(
        "insert into delivery (event, subscription, state, next_at) values (?, ?, 'pending', ?)",
    )?;
    let (at, moment) = (at.timestamp_millis(), moment.number());
    let mut numbers = Vec::with_capacity(events.len());
    for (event, functions) in events {
        let number = insert_event.insert(params![
            at,
            event.event_type,
            event.subject,
            &*event.text,
            moment
        ])?;
        for function in functions {
            insert_delivery.execute(params![number, function, moment])?;
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
    let milliseconds = i64::try_from(attempt.took.as_millis()).unwrap_or(i64::MAX);
    // An attempt may be recorded a second time: when its dead letter could not be written it is made again.
    connection
        .prepare_cached(
            "insert or replace into attempt (event, subscription, attempt, at, status, outcome, milliseconds, moment)
             values (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            attempt.event,
            attempt.subscription,
            attempt.number,
            attempt.at.timestamp_millis(),
            attempt.outcome.status(),
            attempt.outcome.name(),
            milliseconds,
            attempt.moment.number()
        ])?;
    let delivery = (attempt.event, attempt.subscription);
    leave(
        connection,
        delivery,
        Some(attempt.number),
        attempt.leaves,
        attempt.at,
    )
}

fn leave(
    connection: &Connection,
    (event, subscription): (i64, &str),
    attempts: Option<u32>,
    leaves: Leaves,
    at: DateTime<Utc>,
) -> rusqlite::Result<()> {
    let (state, next_at) = match leaves {
        Leaves::Condemned { letter_at, .. } => ("pending", Some(letter_at.number())),
        Leaves::Delivered => ("delivered", None),
        Leaves::Pending(next_at) => ("pending", Some(next_at.number())),
        Leaves::Dropped => ("dropped", None),
    };
    connection
        .prepare_cached(
            "update delivery set state = ?, attempts = coalesce(?, attempts), next_at = ?
             where event = ? and subscription = ?",
        )?
        .execute(params![state, attempts, next_at, event, subscription])?;
    if let Leaves::Condemned { reason, .. } = leaves {
        connection
            .prepare_cached(
                "insert or replace into condemned (event, subscription, reason, at) values (?, ?, ?, ?)",
            )?
            .execute(params![event, subscription, reason, at.timestamp_millis()])?;
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
    functions: &[&'static str],
) -> rusqlite::Result<Vec<PendingDelivery>> {
    let mut select = connection.prepare(
        "select delivery.event, delivery.subscription, attempts, next_at, accepted_at, type, subject,
             octet_length(body), reason, outcome, status, coalesce(attempt.at, condemned.at),
             coalesce(event.moment, accepted_at)
         from delivery join event on event.number = delivery.event
         left join condemned using (event, subscription)
         left join attempt on attempt.event = delivery.event
             and attempt.subscription = delivery.subscription and attempt = attempts
         where state = 'pending' order by delivery.event, delivery.subscription",
    )?;
    let pending = select
        .query_map([], pending_delivery)?
        .collect::<rusqlite::Result<Vec<_>>>()?;
    let (pending, gone): (Vec<_>, Vec<_>) = pending
        .into_iter()
        .partition(|delivery| functions.contains(&delivery.subscription.as_str()));
    let mut delete =
        connection.prepare("delete from delivery where event = ? and subscription = ?")?;
    for delivery in gone {
        delete.execute(params![delivery.event, delivery.subscription])?;
    }
    Ok(pending)
}

fn pending_delivery(row: &Row<'_>) -> rusqlite::Result<PendingDelivery> {
    let accepted_at = time(row.get(4)?);
    let accepted = Moment::numbered(row.get(12)?);
    Ok(PendingDelivery {
        event: row.get(0)?,
        subscription: row.get(1)?,
        attempts: row.get(2)?,
        next_at: row
            .get::<_, Option<i64>>(3)?
            .map_or(accepted, Moment::numbered),
        accepted_at,
        accepted,
        event_type: row.get(5)?,
        subject: row.get(6)?,
        bytes: usize::try_from(row.get::<_, u32>(7)?).unwrap_or(usize::MAX),
        last: last_attempt(row)?,
        condemned: row
            .get::<_, Option<String>>(8)?
            .map(|reason| recorded_reason(&reason)),
    })
}

/// None of an event that waits for its first attempt.
fn last_attempt(row: &Row<'_>) -> rusqlite::Result<Option<LastAttempt>> {
    let Some(at) = row.get::<_, Option<i64>>(11)? else {
        return Ok(None);
    };
    let outcome = match row.get::<_, Option<String>>(9)? {
        Some(name) => Outcome::recorded(row.get(10)?, &name),
        // It was given up without any.
        None => Outcome::Probation,
    };
    Ok(Some(LastAttempt {
        outcome,
        problem: outcome.name().to_owned(),
        at: time(at),
    }))
}

fn time(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(milliseconds).unwrap_or_default()
}

fn events(
    connection: &Connection,
    query: &EventQuery,
    clock: &Clock,
) -> rusqlite::Result<Vec<ShownEvent>> {
    let direction = if query.after.is_some() { "asc" } else { "desc" };
    let mut select = connection.prepare_cached(&format!(
        "select number, accepted_at, body, coalesce(moment, accepted_at) from event
         where number > ? and (? is null or subject = ?) order by number {direction} limit ?"
    ))?;
    let after = query.after.unwrap_or(i64::MIN);
    let mut rows = select.query(params![after, query.subject, query.subject, query.limit])?;
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
        let accepted = Moment::numbered(row.get(3)?);
        let deliveries = deliveries(connection, number, accepted, clock)?;
        shown.push(ShownEvent {
            number,
            accepted_at: time(row.get(1)?),
            event,
            deliveries,
        });
    }
    if query.after.is_none() {
        shown.reverse();
    }
    Ok(shown)
}

fn deliveries(
    connection: &Connection,
    event: i64,
    accepted: Moment,
    clock: &Clock,
) -> rusqlite::Result<Vec<ShownDelivery>> {
    let mut select = connection.prepare_cached(
        "select subscription, state, next_at from delivery where event = ? order by subscription",
    )?;
    let mut rows = select.query([event])?;
    let mut shown = Vec::new();
    while let Some(row) = rows.next()? {
        let function: String = row.get(0)?;
        let attempts = attempts(connection, event, &function, accepted)?;
        let next = row.get::<_, Option<i64>>(2)?.map(Moment::numbered);
        shown.push(ShownDelivery {
            function,
            state: row.get(1)?,
            next_attempt_at: next.and_then(|next| clock.real_time(next)),
            next_attempt_age: next.map(|next| next.since(accepted).as_secs_f64()),
            attempts,
        });
    }
    Ok(shown)
}

fn attempts(
    connection: &Connection,
    event: i64,
    function: &str,
    accepted: Moment,
) -> rusqlite::Result<Vec<ShownAttempt>> {
    let mut select = connection.prepare_cached(
        "select attempt, at, status, outcome, milliseconds, moment from attempt
         where event = ? and subscription = ? order by attempt",
    )?;
    let rows = select.query_map(params![event, function], |row| {
        Ok(ShownAttempt {
            attempt: row.get(0)?,
            at: time(row.get(1)?),
            status: row.get(2)?,
            outcome: row.get(3)?,
            milliseconds: row.get(4)?,
            age: row
                .get::<_, Option<i64>>(5)?
                .map(|moment| Moment::numbered(moment).since(accepted).as_secs_f64()),
        })
    })?;
    rows.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::grid::speed::Speed;

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

    async fn accept(store: &GridStore, ids: &[&str]) -> Vec<i64> {
        let events = ids
            .iter()
            .map(|id| (event(id), vec!["billing", "orders"]))
            .collect();
        let moment = Moment::numbered(1_000);
        let accepted = store.accept(Arc::new(events), at(1_000), moment).await;
        accepted.unwrap()
    }

    async fn pending(store: &GridStore) -> u32 {
        let pending = store.pending(Moment::numbered(0)).await.unwrap();
        pending.iter().map(|backlog| backlog.pending).sum()
    }

    fn still() -> Arc<Clock> {
        Arc::new(Clock::new(Speed::new(0.0).unwrap(), None))
    }

    fn attempt(number: i64, leaves: Leaves) -> Attempt {
        Attempt {
            event: number,
            subscription: "billing",
            number: 1,
            at: at(2_000),
            moment: Moment::numbered(5_000),
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
            .record(attempt(2, Leaves::Pending(Moment::numbered(9_000))))
            .await
            .unwrap();
        drop(store);

        let store = GridStore::open(&file).unwrap();
        assert_eq!(pending(&store).await, 3);
        let kept = store.kept_clock().unwrap();
        assert_eq!(
            kept.reading.number(),
            5_000,
            "what is known to have happened"
        );
        let pending = store.take_up(vec!["billing", "orders"]).await.unwrap();
        let seen: Vec<_> = pending
            .iter()
            .map(|delivery| {
                (
                    delivery.event,
                    delivery.subscription.as_str(),
                    delivery.attempts,
                    delivery.next_at.number(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (1, "orders", 0, 1_000),
                (2, "billing", 1, 9_000),
                (2, "orders", 0, 1_000)
            ]
        );
        assert_eq!(
            store.text(1).await.unwrap().as_deref(),
            Some("{ \"id\":\"a\"}")
        );
        assert_eq!(store.text(9).await.unwrap(), None);
    }

    /// A database as it was before there was a clock.
    const OLDER: &str = "
        create table event (
            number integer primary key, accepted_at integer not null, type text not null, subject text, body text not null
        );
        create table delivery (
            event integer not null references event (number) on delete cascade, subscription text not null,
            state text not null, attempts integer not null default 0, next_at integer,
            primary key (event, subscription)
        ) without rowid;
        create table attempt (
            event integer not null, subscription text not null, attempt integer not null, at integer not null,
            status integer, outcome text not null, milliseconds integer not null,
            primary key (event, subscription, attempt)
        ) without rowid;
        create table condemned (
            event integer not null, subscription text not null, reason text not null, primary key (event, subscription)
        ) without rowid;
        insert into event values (1, 1000, 'T', null, '{}');
        insert into delivery values (1, 'billing', 'pending', 1, 9000), (1, 'orders', 'pending', 1, 8000);
        insert into attempt values (1, 'billing', 1, 2000, 503, 'Busy', 5), (1, 'orders', 1, 2000, 400, 'BadRequest', 5);
        insert into condemned values (1, 'orders', 'UndeliverableDueToHttpBadRequest');
    ";

    #[tokio::test]
    async fn an_older_database_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("grid.db");
        let older = Connection::open(&file).unwrap();
        older.execute_batch(OLDER).unwrap();
        drop(older);
        let store = GridStore::open(&file).unwrap();
        assert_eq!(store.kept_clock(), None);
        let pending = store.take_up(vec!["billing", "orders"]).await.unwrap();
        let seen = pending.iter().map(|delivery| {
            let last = delivery.last.as_ref().unwrap();
            let moments = (delivery.accepted.number(), delivery.next_at.number());
            (moments, last.outcome, last.at, delivery.condemned)
        });
        let refused = Some("UndeliverableDueToHttpBadRequest");
        assert_eq!(
            seen.collect::<Vec<_>>(),
            [
                ((1_000, 9_000), Outcome::Status(503), at(2_000), None),
                ((1_000, 8_000), Outcome::Status(400), at(2_000), refused)
            ]
        );
        drop(store);
        GridStore::open(&file).unwrap();
    }

    #[tokio::test]
    async fn deliveries_of_a_function_that_is_gone_are_given_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = GridStore::open(&folder.path().join("grid.db")).unwrap();
        accept(&store, &["a"]).await;
        assert_eq!(store.take_up(vec!["orders"]).await.unwrap().len(), 1);
        assert_eq!(pending(&store).await, 1);
    }

    #[tokio::test]
    async fn events_are_shown_newest_or_after_a_number() {
        let folder = tempfile::tempdir().unwrap();
        let store = GridStore::open(&folder.path().join("grid.db")).unwrap();
        accept(&store, &["a", "b", "c"]).await;
        let show = async |query| {
            let events = store.events(query, still()).await.unwrap();
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
        let accept = async |events| {
            let accepted = store.accept(events, at(0), Moment::numbered(0)).await;
            accepted.unwrap()
        };
        accept(quiet(10_499)).await;
        let oldest = async || {
            let query = EventQuery {
                after: Some(0),
                limit: 2,
                ..EventQuery::default()
            };
            store
                .events(query, still())
                .await
                .unwrap()
                .iter()
                .map(|event| event.number)
                .collect::<Vec<_>>()
        };
        assert_eq!(oldest().await, [1, 501]);
        store.take_up(vec![]).await.unwrap();
        accept(quiet(500)).await;
        assert_eq!(oldest().await, [1_001, 1_002]);
    }
}
