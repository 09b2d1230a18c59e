//! Events and what became of them, as they are shown.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{GridStore, StoreError, time};
use crate::dev::grid::{
    clock::{Clock, Moment},
    topics::Origin,
};

/// At most so many bytes of events are shown at once.
const SHOWN_BYTES: usize = 8 * 1024 * 1024;

/// Which events to show. They come in the order in which they were accepted.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct EventQuery {
    /// Those after this number; without it, the newest.
    pub(in super::super) after: Option<i64>,
    /// Those with this subject.
    pub(in super::super) subject: Option<String>,
    /// At most so many.
    pub(in super::super) limit: u32,
}

/// An event and what became of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct ShownEvent {
    pub(in super::super) number: i64,
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

impl GridStore {
    /// Events and what became of them.
    pub(in super::super) async fn events(
        &self,
        query: EventQuery,
        clock: Arc<Clock>,
    ) -> Result<Vec<ShownEvent>, StoreError> {
        self.reader
            .run(move |connection| events(connection, &query, &clock))
            .await
    }
}

fn events(
    connection: &Connection,
    query: &EventQuery,
    clock: &Clock,
) -> rusqlite::Result<Vec<ShownEvent>> {
    let direction = if query.after.is_some() { "asc" } else { "desc" };
    let mut select = connection.prepare_cached(&format!(
        "select number, accepted_at, body, coalesce(moment, accepted_at), coalesce(topic, ?) from event
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
        let accepted = Moment::numbered(row.get(3)?);
        let deliveries = deliveries(connection, number, accepted, clock)?;
        shown.push(ShownEvent {
            number,
            accepted_at: time(row.get(1)?),
            topic: row.get(4)?,
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
