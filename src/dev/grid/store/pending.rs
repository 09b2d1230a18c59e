//! Deliveries that an earlier process left behind.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, Row, params};

use super::{GridStore, StoreError, events::forget_all_old, time};
use crate::dev::grid::{
    clock::Moment,
    retry::{Outcome, recorded_reason},
    topics::Origin,
};

/// A delivery that is not over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct PendingDelivery {
    pub(in super::super) event: i64,
    pub(in super::super) subscription: String,
    pub(in super::super) attempts: u32,
    pub(in super::super) next_at: Moment,
    pub(in super::super) accepted_at: DateTime<Utc>,
    /// When it was accepted, on the clock.
    pub(in super::super) accepted: Moment,
    pub(in super::super) event_type: String,
    pub(in super::super) subject: Option<String>,
    /// The size of the event's text.
    pub(in super::super) bytes: usize,
    pub(in super::super) last: Option<LastAttempt>,
    /// Set once there are no more attempts: why.
    pub(in super::super) condemned: Option<&'static str>,
}

/// How the last attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct LastAttempt {
    pub(in super::super) outcome: Outcome,
    /// What came instead of success, in words.
    pub(in super::super) problem: String,
    /// When it began. Of an event that was given up without any attempt, when that was.
    pub(in super::super) at: DateTime<Utc>,
}

impl GridStore {
    /// The deliveries that are not over, oldest events first. Those of subscriptions that are gone are given up, as they are
    /// when a subscription is deleted: also of those that are at another topic now. They come second.
    pub(in super::super) async fn take_up(
        &self,
        subscriptions: Vec<(&'static str, Origin)>,
    ) -> Result<(Vec<PendingDelivery>, Vec<PendingDelivery>), StoreError> {
        self.writer
            .run(move |connection| take_up(connection, &subscriptions))
            .await
    }

    /// Gives up every delivery of a subscription that is not over, as when it is deleted.
    pub(in super::super) async fn forget(
        &self,
        subscription: &'static str,
    ) -> Result<(), StoreError> {
        self.writer
            .run(move |connection| {
                let mut select = connection.prepare_cached(
                    "select event from delivery where state = 'pending' and subscription = ?",
                )?;
                let events = select
                    .query_map([subscription], |row| row.get(0))?
                    .collect::<rusqlite::Result<Vec<i64>>>()?;
                for event in events {
                    give_up(connection, event, subscription)?;
                }
                forget_all_old(connection)
            })
            .await
    }
}

fn take_up(
    connection: &Connection,
    subscriptions: &[(&'static str, Origin)],
) -> rusqlite::Result<(Vec<PendingDelivery>, Vec<PendingDelivery>)> {
    let mut select = connection.prepare(
        "select delivery.event, delivery.subscription, attempts, next_at, accepted_at, type, subject,
             octet_length(body), reason, outcome, status, coalesce(attempt.at, condemned.at),
             coalesce(event.moment, accepted_at), origin.topic, origin.schema
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
            let topic = row.get::<_, Option<String>>(13)?;
            let schema = row.get::<_, Option<String>>(14)?;
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
    for (delivery, _) in &gone {
        give_up(connection, delivery.event, &delivery.subscription)?;
    }
    forget_all_old(connection)?;
    let deliveries =
        |rows: Vec<(_, bool)>| rows.into_iter().map(|(delivery, _)| delivery).collect();
    Ok((deliveries(pending), deliveries(gone)))
}

/// Deletes a delivery, as if there had never been a subscription for it.
fn give_up(connection: &Connection, event: i64, subscription: &str) -> rusqlite::Result<()> {
    for delete in [
        "delete from attempt where event = ? and subscription = ?",
        "delete from condemned where event = ? and subscription = ?",
        "delete from delivery where event = ? and subscription = ?",
    ] {
        let mut delete = connection.prepare_cached(delete)?;
        delete.execute(params![event, subscription])?;
    }
    Ok(())
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
