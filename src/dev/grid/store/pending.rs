//! Deliveries that are not over: how many there are, and what an earlier process left behind.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row, params};

use super::{GridStore, StoreError, events::forget_all_old, time};
use crate::dev::grid::retry::{Outcome, recorded_reason};

/// A delivery that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct PendingDelivery {
    pub(in super::super) event: i64,
    pub(in super::super) subscription: String,
    pub(in super::super) attempts: u32,
    pub(in super::super) next_at: DateTime<Utc>,
    pub(in super::super) accepted_at: DateTime<Utc>,
    pub(in super::super) event_type: String,
    pub(in super::super) subject: Option<String>,
    /// The size of the event's text.
    pub(in super::super) bytes: usize,
    /// Set once there are no more attempts.
    pub(in super::super) condemned: Option<Condemned>,
}

/// Why an event was given up, for its dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Condemned {
    pub(in super::super) reason: &'static str,
    pub(in super::super) outcome: Outcome,
    /// What came instead of success, in words.
    pub(in super::super) problem: String,
    pub(in super::super) last_attempt_at: DateTime<Utc>,
}

impl GridStore {
    /// The deliveries that are not over, oldest events first. Those of functions that are gone are given up, as they are when a
    /// subscription is deleted.
    pub(in super::super) async fn take_up(
        &self,
        functions: Vec<&'static str>,
    ) -> Result<Vec<PendingDelivery>, StoreError> {
        self.writer
            .run(move |connection| take_up(connection, &functions))
            .await
    }

    /// How many deliveries are not over.
    pub(in super::super) async fn pending(&self) -> Result<i64, StoreError> {
        self.reader
            .run(|connection| {
                let mut statement = connection
                    .prepare_cached("select count(*) from delivery where state = 'pending'")?;
                statement.query_row([], |row| row.get(0))
            })
            .await
    }
}

fn take_up(
    connection: &Connection,
    functions: &[&'static str],
) -> rusqlite::Result<Vec<PendingDelivery>> {
    let mut select = connection.prepare(
        "select delivery.event, delivery.subscription, attempts, next_at, accepted_at, type, subject,
             octet_length(body), reason, outcome, status, at
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
    for delivery in gone {
        for delete in [
            "delete from attempt where event = ? and subscription = ?",
            "delete from condemned where event = ? and subscription = ?",
            "delete from delivery where event = ? and subscription = ?",
        ] {
            let mut delete = connection.prepare_cached(delete)?;
            delete.execute(params![delivery.event, delivery.subscription])?;
        }
    }
    forget_all_old(connection)?;
    Ok(pending)
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
