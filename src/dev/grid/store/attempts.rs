//! Attempts at deliveries, and where each leaves its delivery.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};

use super::{GridStore, StoreError, events::forget_if_old};
use crate::dev::grid::{clock::Moment, retry::Outcome};

/// One attempt at a delivery, and where it leaves the delivery.
#[derive(Debug, Clone)]
pub(in super::super) struct Attempt {
    pub(in super::super) event: i64,
    pub(in super::super) subscription: &'static str,
    /// Its number, from 1.
    pub(in super::super) number: u32,
    pub(in super::super) at: DateTime<Utc>,
    /// The same on the clock.
    pub(in super::super) moment: Moment,
    pub(in super::super) took: Duration,
    pub(in super::super) outcome: Outcome,
    pub(in super::super) leaves: Leaves,
}

/// Where an attempt leaves its delivery.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Leaves {
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

/// Where an event ended that was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Grave {
    /// Its dead letter lies where dead letters are kept.
    DeadLetter,
    /// There was no place for its dead letter.
    None,
}

impl GridStore {
    /// Keeps what came of attempts: of all or, if that fails, of none.
    pub(in super::super) async fn record(&self, attempts: Vec<Attempt>) -> Result<(), StoreError> {
        self.writer
            .run(move |connection| {
                attempts
                    .iter()
                    .try_for_each(|attempt| record(connection, attempt))
            })
            .await
    }

    /// Keeps where a delivery is left without another attempt, at this time.
    pub(in super::super) async fn leave(
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

    /// Keeps what became of an event that was given up.
    pub(in super::super) async fn buried(
        &self,
        event: i64,
        subscription: &'static str,
        grave: Grave,
    ) -> Result<(), StoreError> {
        self.writer
            .run(move |connection| buried(connection, event, subscription, grave))
            .await
    }
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
    if matches!(leaves, Leaves::Delivered | Leaves::Dropped) {
        forget_if_old(connection, event)?;
    }
    Ok(())
}

fn buried(
    connection: &Connection,
    event: i64,
    subscription: &str,
    grave: Grave,
) -> rusqlite::Result<()> {
    let state = match grave {
        Grave::DeadLetter => "deadLettered",
        Grave::None => "dropped",
    };
    connection
        .prepare_cached("delete from condemned where event = ? and subscription = ?")?
        .execute(params![event, subscription])?;
    connection
        .prepare_cached(
            "update delivery set state = ?, next_at = null where event = ? and subscription = ?",
        )?
        .execute(params![state, event, subscription])?;
    forget_if_old(connection, event)
}
