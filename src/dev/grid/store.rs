//! What the grid must not forget: accepted events, their deliveries and every attempt, in SQLite.
//!
//! One thread writes and one reads, each with a connection of its own. Writes that wait at the same moment
//! are committed together, so that many publishers share the price of reaching the disk.

mod attempts;
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
    pending::{Condemned, PendingDelivery},
    shown::EventQuery,
};

/// How long one connection waits for the other.
const BUSY: Duration = Duration::from_secs(5);

/// How much of the database the writing connection holds in memory: what the events under way touch.
const CACHE_KIBIBYTES: i64 = 16 * 1024;

/// So many pages of 4 KiB are logged before they are moved to their place: each moves once however often it was written.
const LOG_PAGES: i64 = 4_096;

const SCHEMA: &str = "
    create table if not exists event (
        number integer primary key,
        accepted_at integer not null,
        type text not null,
        subject text,
        body text not null
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
        // SQLite makes a table in memory for each row whose children it deletes: they are deleted by name instead.
        writing.pragma_update(None, "foreign_keys", false)?;
        writing.pragma_update(None, "cache_size", -CACHE_KIBIBYTES)?;
        writing.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        writing.execute_batch(SCHEMA)?;
        let reading = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        reading.busy_timeout(BUSY)?;
        Ok(Self {
            writer: Worker::start(writing),
            reader: Worker::start(reading),
        })
    }
}

fn time(milliseconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(milliseconds).unwrap_or_default()
}
#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::dev::grid::{admission::AdmittedEvent, retry::Outcome};

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
        store.accept(Arc::new(events), at(1_000)).await.unwrap()
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
        store
            .record(vec![attempt(1, Leaves::Delivered)])
            .await
            .unwrap();
        store
            .record(vec![attempt(2, Leaves::Pending(at(9_000)))])
            .await
            .unwrap();
        drop(store);

        let store = GridStore::open(&file).unwrap();
        assert_eq!(store.pending().await.unwrap(), 3);
        let pending = store.take_up(vec!["billing", "orders"]).await.unwrap();
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
        assert_eq!(store.take_up(vec!["orders"]).await.unwrap().len(), 1);
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
        store.accept(quiet(10_499), at(0)).await.unwrap();
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
        let delivered = |subscription| Attempt {
            subscription,
            ..attempt(1, Leaves::Delivered)
        };
        store.record(vec![delivered("billing")]).await.unwrap();
        assert_eq!(oldest().await, [1, 501], "one of two is over");
        store.record(vec![delivered("orders")]).await.unwrap();
        assert_eq!(oldest().await, [501, 502]);
        store.accept(quiet(500), at(0)).await.unwrap();
        assert_eq!(oldest().await, [1_001, 1_002]);
    }
}
