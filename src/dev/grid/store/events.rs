//! Accepted events: kept with their deliveries, and forgotten once they are old.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{GridStore, StoreError};
use crate::dev::grid::{admission::AdmittedEvent, clock::Moment, topics::Origin};

/// How many events are kept. Older ones go once all their deliveries are over.
const KEPT_EVENTS: i64 = 10_000;

/// How many events become old at a time. Each is looked at then, and once more when its last delivery is over.
const OLD_AT_ONCE: i64 = 500;

impl GridStore {
    /// Keeps events of a topic, each with a pending delivery to every function named beside it. Returns their numbers once they are on disk.
    pub(in super::super) async fn accept(
        &self,
        origin: Origin,
        events: Arc<Vec<(AdmittedEvent, Vec<&'static str>)>>,
        at: DateTime<Utc>,
        moment: Moment,
    ) -> Result<Vec<i64>, StoreError> {
        self.writer
            .run(move |connection| accept(connection, origin, &events, (at, moment)))
            .await
    }

    /// The text of an event.
    pub(in super::super) async fn text(&self, event: i64) -> Result<Option<String>, StoreError> {
        self.reader
            .run(move |connection| {
                let mut statement =
                    connection.prepare_cached("select body from event where number = ?")?;
                statement.query_row([event], |row| row.get(0)).optional()
            })
            .await
    }

    /// The numbers and texts of the events for this function that were accepted at this moment.
    pub(in super::super) async fn accepted_at(
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
}

fn accept(
    connection: &Connection,
    origin: Origin,
    events: &[(AdmittedEvent, Vec<&'static str>)],
    (at, moment): (DateTime<Utc>, Moment),
) -> rusqlite::Result<Vec<i64>> {
    let mut insert_event = connection.prepare_cached(
        "insert into event (accepted_at, type, subject, body, moment) values (?, ?, ?, ?, ?)",
    )?;
    let mut insert_delivery = connection.prepare_cached(
        "insert into delivery (event, subscription, state, next_at) values (?, ?, 'pending', ?)",
    )?;
    let mut insert_origin =
        connection.prepare_cached("insert into origin (event, topic, schema) values (?, ?, ?)")?;
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
        // Most events are of the topic that everybody has; and so are all of older databases.
        if origin != Origin::DEFAULT {
            insert_origin.execute(params![number, origin.topic, origin.schema.name()])?;
        }
        for function in functions {
            insert_delivery.execute(params![number, function, moment])?;
        }
        if number % OLD_AT_ONCE == 0 {
            let old = number - KEPT_EVENTS;
            forget(connection, old - OLD_AT_ONCE, old)?;
        }
        numbers.push(number);
    }
    Ok(numbers)
}

/// Forgets the events after the first number and up to the last one whose deliveries are over.
fn forget(connection: &Connection, after: i64, to: i64) -> rusqlite::Result<()> {
    let mut select = connection.prepare_cached(
        "select number from event where number > ? and number <= ? and not exists (
             select 1 from delivery where delivery.event = event.number and state = 'pending')",
    )?;
    let over = select
        .query_map([after, to], |row| row.get(0))?
        .collect::<rusqlite::Result<Vec<i64>>>()?;
    for event in over {
        for delete in [
            "delete from attempt where event = ?",
            "delete from origin where event = ?",
            "delete from delivery where event = ?",
            "delete from event where number = ?",
        ] {
            connection.prepare_cached(delete)?.execute([event])?;
        }
    }
    Ok(())
}

/// Forgets the event if it is old and its deliveries are over.
pub(super) fn forget_if_old(connection: &Connection, event: i64) -> rusqlite::Result<()> {
    if event <= newest(connection)? - KEPT_EVENTS {
        forget(connection, event - 1, event)?;
    }
    Ok(())
}

/// Forgets every event that is old and whose deliveries are over.
pub(super) fn forget_all_old(connection: &Connection) -> rusqlite::Result<()> {
    forget(connection, 0, newest(connection)? - KEPT_EVENTS)
}

/// The number of the newest event.
fn newest(connection: &Connection) -> rusqlite::Result<i64> {
    let mut select = connection.prepare_cached("select coalesce(max(number), 0) from event")?;
    select.query_row([], |row| row.get(0))
}
