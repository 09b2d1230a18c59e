//! What the grid must not forget: accepted events, their deliveries and every attempt, in SQLite.
//!
//! One thread writes and one reads, each with a connection of its own. Writes that wait at the same moment
//! are committed together, so that many publishers share the price of reaching the disk.

mod attempts;
mod backlog;
mod clock;
mod events;
mod pending;
mod shown;
mod worker;

use std::{path::Path, time::Duration};

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OpenFlags};

pub use self::worker::StoreError;
use self::worker::Worker;
pub(super) use self::{
    attempts::{Attempt, Grave, Leaves},
    backlog::Backlog,
    clock::KeptClock,
    pending::{LastAttempt, PendingDelivery},
    shown::EventQuery,
};

/// How long one connection waits for the other.
const BUSY: Duration = Duration::from_secs(5);

/// How much of the database the writing connection holds in memory: what the events under way touch.
const CACHE_KIBIBYTES: i64 = 16 * 1024;

/// So many pages of 4 KiB are logged before they are moved to their place: each moves once however often it was written.
const LOG_PAGES: i64 = 4_096;

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
        // SQLite makes a table in memory for each row whose children it deletes: they are deleted by name instead.
        writing.pragma_update(None, "foreign_keys", false)?;
        writing.pragma_update(None, "cache_size", -CACHE_KIBIBYTES)?;
        writing.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
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

fn time(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(milliseconds).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::dev::grid::{
        admission::AdmittedEvent,
        clock::{Clock, Moment},
        retry::Outcome,
        speed::Speed,
        topics::Origin,
    };

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
        let moment = Moment::numbered(1_000);
        let accepted = store
            .accept(Origin::DEFAULT, Arc::new(events), at(1_000), moment)
            .await;
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
        store
            .record(vec![attempt(1, Leaves::Delivered)])
            .await
            .unwrap();
        store
            .record(vec![attempt(2, Leaves::Pending(Moment::numbered(9_000)))])
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
        let (pending, _) = store.take_up(there(&["billing", "orders"])).await.unwrap();
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
        let (pending, _) = store.take_up(there(&["billing", "orders"])).await.unwrap();
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
        let (kept, gone) = store.take_up(there(&["orders"])).await.unwrap();
        assert_eq!((kept.len(), gone.len()), (1, 1));
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
            let accepted = store
                .accept(Origin::DEFAULT, events, at(0), Moment::numbered(0))
                .await;
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
        let delivered = |subscription| Attempt {
            subscription,
            ..attempt(1, Leaves::Delivered)
        };
        store.record(vec![delivered("billing")]).await.unwrap();
        assert_eq!(oldest().await, [1, 501], "one of two is over");
        store.record(vec![delivered("orders")]).await.unwrap();
        assert_eq!(oldest().await, [501, 502]);
        accept(quiet(500)).await;
        assert_eq!(oldest().await, [1_001, 1_002]);
    }
}
