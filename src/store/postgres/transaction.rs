//! A group's transaction on the wire: two or three round trips, however many jobs are in the group.
//!
//! 1. Begin, lock and read the orders' own rows and what is pending for the deliveries.
//! 2. Lock and read the shared rows, if any job wants some.
//! 3. Write everything, a statement for each table and kind of change, and commit.
//!
//! The statements of a round trip are sent together, without waiting for each other's answers. When one of them fails,
//! the server refuses those behind it, and the commit at the end undoes everything.
//!
//! **No two transactions can wait for each other in a circle.** All of them take their locks in one order: existing
//! own rows, existing pending rows, existing shared rows, then new own, shared and pending rows, then the rows of
//! lists, then parked ones, each of these sorted. (Rows that are updated or deleted were locked before; a row that
//! is new to one transaction and not to the other is one that the other has inserted, after all that it read.) On a
//! hot row they queue up, each for as long as one group takes, and nobody is turned away.

use std::collections::BTreeMap;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use tokio_postgres::{Client, Error, Row, Statement};
use uuid::Uuid;

use super::{
    connection::Session,
    failure::Failure,
    group::{Group, OrderRow, PendingRow, Tracked},
    job::{Job, Outcome},
};
use crate::{
    events::OrderId,
    sales::status::Summary,
    store::{Key, Parked, Pending},
};

/// Runs jobs in one transaction; the outcomes of the first of them, of all if possible. After an error nothing has been
/// written, unless the commit's outcome is unknown.
pub(super) async fn run(session: &Session, jobs: &[Job]) -> Result<Vec<Outcome>, Failure> {
    let mut group = Group::of(jobs);
    if let Err(error) = load(session, &mut group).await {
        let failure = Failure::from(error);
        if !matches!(failure, Failure::Lost(_)) {
            session.client().batch_execute("ROLLBACK").await?;
        }
        return Err(failure);
    }
    let outcomes = group.run();
    match save(session, &group).await {
        Ok(()) => Ok(outcomes),
        Err(error) => Err(Failure::from(error).of_commit()),
    }
}

async fn load(session: &Session, group: &mut Group<'_>) -> Result<(), Error> {
    let (client, statements) = (session.client(), &session.statements);
    let (begun, order_rows, pending) = tokio::join!(
        biased;
        client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED"),
        lock_order_rows(client, &statements.lock_order_rows, group),
        lock_pending(client, &statements.lock_pending, group),
    );
    begun?;
    fill(&mut group.order_rows, &order_rows?, order_row)?;
    fill(&mut group.pending, &pending?, pending_row)?;
    group.name_shared_rows();
    if group.shared_rows.is_empty() {
        return Ok(());
    }
    let shared_rows = lock_shared_rows(client, &statements.lock_shared_rows, group).await?;
    fill(&mut group.shared_rows, &shared_rows, |row| row.try_get(1))
}

async fn lock_order_rows(
    client: &Client,
    statement: &Statement,
    group: &Group<'_>,
) -> Result<Vec<Row>, Error> {
    if group.order_rows.is_empty() {
        return Ok(Vec::new());
    }
    let (order_ids, owners): (Vec<_>, Vec<_>) = group
        .order_rows
        .keys()
        .map(|(id, owner)| (id.0, *owner))
        .unzip();
    client.query(statement, &[&order_ids, &owners]).await
}

async fn lock_pending(
    client: &Client,
    statement: &Statement,
    group: &Group<'_>,
) -> Result<Vec<Row>, Error> {
    if group.pending.is_empty() {
        return Ok(Vec::new());
    }
    let keys = Keys::of(group.pending.keys().copied());
    client
        .query(statement, &[&keys.functions, &keys.sources, &keys.ids])
        .await
}

async fn lock_shared_rows(
    client: &Client,
    statement: &Statement,
    group: &Group<'_>,
) -> Result<Vec<Row>, Error> {
    let (owners, keys): (Vec<_>, Vec<_>) = group
        .shared_rows
        .keys()
        .map(|(owner, key)| (*owner, key.as_str()))
        .unzip();
    client.query(statement, &[&owners, &keys]).await
}

/// Puts rows in their places. The first column is the number of the key that was asked for, from 1.
fn fill<K, T>(
    places: &mut BTreeMap<K, Tracked<T>>,
    rows: &[Row],
    read: impl Fn(&Row) -> Result<T, Error>,
) -> Result<(), Error> {
    let mut rows = rows.iter().peekable();
    // Both are in the order of the keys.
    for (number, place) in (1_i64..).zip(places.values_mut()) {
        let Some(row) = rows.peek() else {
            break;
        };
        if row.try_get::<_, i64>(0)? == number {
            place.load(read(row)?);
            rows.next();
        }
    }
    Ok(())
}

fn order_row(row: &Row) -> Result<OrderRow, Error> {
    Ok(OrderRow {
        body: row.try_get(1)?,
        inbox: row.try_get(2)?,
        due: row.try_get(3)?,
        cause: row.try_get(4)?,
        decided_at: row.try_get(5)?,
        inbox_from: row.try_get(6)?,
    })
}

fn pending_row(row: &Row) -> Result<PendingRow, Error> {
    Ok(PendingRow {
        pending: pending(row, 1)?,
        at: row.try_get(4)?,
    })
}

/// What is pending, from three columns.
pub(super) fn pending(row: &Row, first: usize) -> Result<Pending, Error> {
    let step: i32 = row.try_get(first)?;
    Ok(Pending {
        step: step.unsigned_abs(),
        outbox: row.try_get(first + 1)?,
        intent: row.try_get(first + 2)?,
    })
}

/// Writes what has changed, and commits. Rows that are new to their table come before those of the next one.
async fn save(session: &Session, group: &Group<'_>) -> Result<(), Error> {
    let (client, known) = (session.client(), &session.statements);
    let mut writing: Vec<BoxFuture<'_, Result<u64, Error>>> = Vec::new();

    let rows = |exists| changed(&group.order_rows, exists);
    save_order_rows(&mut writing, client, &known.insert_order_rows, rows(false));
    save_order_rows(&mut writing, client, &known.update_order_rows, rows(true));

    let rows = |exists| changed(&group.shared_rows, exists);
    save_shared_rows(&mut writing, client, &known.insert_shared_rows, rows(false));
    save_shared_rows(&mut writing, client, &known.update_shared_rows, rows(true));

    let owed = |exists| {
        let rows = changed(&group.pending, exists).into_iter();
        rows.partition(|(_, owed)| !owed.row.pending.is_empty())
    };
    // What was paid before it was ever written needs no row.
    let (new, _): (Vec<_>, Vec<_>) = owed(false);
    let (still, paid): (Vec<_>, Vec<_>) = owed(true);
    save_pending(&mut writing, client, &known.insert_pending, new);
    save_pending(&mut writing, client, &known.update_pending, still);
    if !paid.is_empty() {
        let keys = Keys::of(paid.into_iter().map(|(key, _)| *key));
        let delete = async move {
            let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 3] =
                [&keys.functions, &keys.sources, &keys.ids];
            client.execute(&known.delete_pending, &parameters).await
        };
        writing.push(delete.boxed());
    }
    if !group.orders.is_empty() {
        writing.push(save_orders(client, &known.save_orders, group.orders.values()).boxed());
    }
    if !group.parked.is_empty() {
        writing.push(park(client, &known.park, group.parked.values()).boxed());
    }
    let commit = async { client.batch_execute("COMMIT").await.map(|()| 0) };
    writing.push(commit.boxed());
    // The first error is the reason of those behind it.
    join_all(writing)
        .await
        .into_iter()
        .find_map(Result::err)
        .map_or(Ok(()), Err)
}

type Entry<'g, K, T> = (&'g K, &'g Tracked<T>);

/// The rows that are to be written, of those that the database has or of the others.
fn changed<K, T>(rows: &BTreeMap<K, Tracked<T>>, exists: bool) -> Vec<Entry<'_, K, T>> {
    rows.iter()
        .filter(|(_, tracked)| tracked.changed && tracked.exists == exists)
        .collect()
}

fn save_order_rows<'w, 'g: 'w>(
    writing: &mut Vec<BoxFuture<'w, Result<u64, Error>>>,
    client: &'w Client,
    statement: &'w Statement,
    rows: Vec<Entry<'g, (OrderId, &'static str), OrderRow>>,
) {
    if rows.is_empty() {
        return;
    }
    let save = async move {
        let column = |read: fn(&OrderRow) -> Option<&[u8]>| -> Vec<_> {
            rows.iter().map(|(_, tracked)| read(&tracked.row)).collect()
        };
        let order_ids: Vec<Uuid> = rows.iter().map(|((id, _), _)| id.0).collect();
        let owners: Vec<&str> = rows.iter().map(|((_, owner), _)| *owner).collect();
        let bodies = column(|row| row.body.as_deref());
        let inboxes: Vec<&str> = rows.iter().map(|(_, new)| new.row.inbox.as_str()).collect();
        let dues: Vec<_> = rows.iter().map(|(_, new)| new.row.due).collect();
        let causes = column(|row| row.cause.as_deref());
        let decided_at: Vec<_> = rows.iter().map(|(_, new)| new.row.decided_at).collect();
        let inbox_from: Vec<_> = rows.iter().map(|(_, new)| new.row.inbox_from).collect();
        client
            .execute(
                statement,
                &[
                    &order_ids,
                    &owners,
                    &bodies,
                    &inboxes,
                    &dues,
                    &causes,
                    &decided_at,
                    &inbox_from,
                ],
            )
            .await
    };
    writing.push(save.boxed());
}

fn save_shared_rows<'w, 'g: 'w>(
    writing: &mut Vec<BoxFuture<'w, Result<u64, Error>>>,
    client: &'w Client,
    statement: &'w Statement,
    rows: Vec<Entry<'g, (&'static str, String), Vec<u8>>>,
) {
    if rows.is_empty() {
        return;
    }
    let save = async move {
        let owners: Vec<&str> = rows.iter().map(|((owner, _), _)| *owner).collect();
        let keys: Vec<&str> = rows.iter().map(|((_, key), _)| key.as_str()).collect();
        let bodies: Vec<&[u8]> = rows.iter().map(|(_, new)| new.row.as_slice()).collect();
        client.execute(statement, &[&owners, &keys, &bodies]).await
    };
    writing.push(save.boxed());
}

fn save_pending<'w, 'g: 'w>(
    writing: &mut Vec<BoxFuture<'w, Result<u64, Error>>>,
    client: &'w Client,
    statement: &'w Statement,
    rows: Vec<Entry<'g, &'g Key, PendingRow>>,
) {
    if rows.is_empty() {
        return;
    }
    let save = async move {
        let keys = Keys::of(rows.iter().map(|(key, _)| **key));
        let column = |read: fn(&Pending) -> Option<&[u8]>| -> Vec<_> {
            rows.iter().map(|(_, new)| read(&new.row.pending)).collect()
        };
        let step = |step| i32::try_from(step).unwrap_or(i32::MAX);
        let steps: Vec<i32> = rows
            .iter()
            .map(|(_, new)| step(new.row.pending.step))
            .collect();
        let outboxes = column(|pending| pending.outbox.as_deref());
        let intents = column(|pending| pending.intent.as_deref());
        let at: Vec<i64> = rows.iter().map(|(_, new)| new.row.at).collect();
        client
            .execute(
                statement,
                &[
                    &keys.functions,
                    &keys.sources,
                    &keys.ids,
                    &steps,
                    &outboxes,
                    &intents,
                    &at,
                ],
            )
            .await
    };
    writing.push(save.boxed());
}

async fn save_orders(
    client: &Client,
    statement: &Statement,
    summaries: impl Iterator<Item = &Summary> + Clone,
) -> Result<u64, Error> {
    let order_ids: Vec<Uuid> = summaries
        .clone()
        .map(|summary| summary.order_id.0)
        .collect();
    let statuses: Vec<&str> = summaries
        .clone()
        .map(|summary| summary.status.as_str())
        .collect();
    let placed_at: Vec<i64> = summaries
        .map(|summary| summary.placed_at.timestamp_micros())
        .collect();
    client
        .execute(statement, &[&order_ids, &statuses, &placed_at])
        .await
}

async fn park<'a>(
    client: &Client,
    statement: &Statement,
    parked: impl Iterator<Item = &'a &'a Parked> + Clone,
) -> Result<u64, Error> {
    let ids: Vec<Uuid> = parked.clone().map(|parked| parked.id).collect();
    let functions: Vec<&str> = parked
        .clone()
        .map(|parked| parked.function.as_str())
        .collect();
    let event_ids: Vec<_> = parked
        .clone()
        .map(|parked| parked.event_id.as_deref())
        .collect();
    let order_ids: Vec<_> = parked
        .clone()
        .map(|parked| parked.order_id.map(|id| id.0))
        .collect();
    let reasons: Vec<&str> = parked
        .clone()
        .map(|parked| parked.reason.as_str())
        .collect();
    let bodies: Vec<&[u8]> = parked
        .clone()
        .map(|parked| parked.body.as_slice())
        .collect();
    let at: Vec<i64> = parked.map(|parked| parked.at.timestamp_micros()).collect();
    client
        .execute(
            statement,
            &[
                &ids, &functions, &event_ids, &order_ids, &reasons, &bodies, &at,
            ],
        )
        .await
}

/// Deliveries as three arrays.
struct Keys<'k> {
    functions: Vec<&'k str>,
    sources: Vec<&'k str>,
    ids: Vec<&'k str>,
}

impl<'k> Keys<'k> {
    fn of(keys: impl Iterator<Item = &'k Key>) -> Self {
        let mut columns = Self {
            functions: Vec::new(),
            sources: Vec::new(),
            ids: Vec::new(),
        };
        for key in keys {
            columns.functions.push(&key.function);
            columns.sources.push(&key.source);
            columns.ids.push(&key.id);
        }
        columns
    }
}
