//! The store in a PostgreSQL database: for any number of instances.
//!
//! An instance has few connections, since there may be many instances: two that write and one that reads, each made when
//! it is first needed. A writer takes all the work that has come in, runs it in one transaction and commits once, so
//! that a flush to disk and two or three round trips serve many events (group commit). Nothing is acknowledged
//! before it is on disk: `synchronous_commit` is on, whatever the server's default.

mod address;
mod connection;
mod failure;
mod group;
mod job;
mod migrations;
mod statements;
mod tls;
mod transaction;
mod writer;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};
use tokio_postgres::{
    Row,
    types::{ToSql, Type},
};
use uuid::Uuid;

use crate::{
    entra::TokenCache,
    events::OrderId,
    sales::status::{Status, Summary},
};

use super::{
    Due, Key, OrderQuery, Parked, Pending, Receipt, Reminder, Schema, Step, Store, StoreError, Work,
};
pub use address::Address;
use connection::{Gateway, Link};
use failure::{Failure, describe};
use job::Job;

/// The audience of Azure Database for PostgreSQL.
pub const TOKEN_SCOPE: &str = "https://ossrdbms-aad.database.windows.net/.default";

/// Connections that write. While one waits for the server, the other one's group is prepared.
const WRITERS: usize = 2;

/// How long reading may take: longer than the server's own limit.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// The store in a PostgreSQL database.
pub struct PostgresStore {
    jobs: mpsc::UnboundedSender<Job>,
    reader: Mutex<Link>,
}

impl PostgresStore {
    /// Connects, waiting some seconds for a server that is away, and makes or migrates the schema. `tokens` are the password where the address has none.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the server cannot be reached, lets us not in, or has a newer version's schema.
    pub async fn open(address: Address, tokens: Option<TokenCache>) -> Result<Self, StoreError> {
        let gateway = Arc::new(Gateway::new(address, tokens).map_err(StoreError::Open)?);
        let first = gateway.first_connection().await;
        let mut connection = first.map_err(StoreError::Open)?;
        migrations::migrate(&mut connection.client).await?;
        let (jobs, queue) = mpsc::unbounded_channel();
        let queue = Arc::new(Mutex::new(queue));
        let first = Link::new(gateway.clone()).with(connection).await;
        let first = first.map_err(StoreError::Open)?;
        tokio::spawn(writer::run(first, queue.clone()));
        for _ in 1..WRITERS {
            tokio::spawn(writer::run(Link::new(gateway.clone()), queue.clone()));
        }
        let reader = Mutex::new(Link::new(gateway));
        Ok(Self { jobs, reader })
    }

    /// Looks whether [`PostgresStore::open`] would succeed, and leaves everything as it is. A server that is away is
    /// not waited for.
    ///
    /// # Errors
    /// [`StoreError::Open`] as for `open`, and when there is no schema and the user may not make one.
    pub async fn probe(address: Address, tokens: Option<TokenCache>) -> Result<Schema, StoreError> {
        let gateway = Gateway::new(address, tokens).map_err(StoreError::Open)?;
        let connection = gateway.connect().await;
        let connection = connection.map_err(|failure| StoreError::Open(failure.into_reason()))?;
        migrations::probe(&connection.client).await
    }

    fn send(&self, job: impl FnOnce(job::Sender) -> Job) -> BoxFuture<'_, job::Outcome> {
        let (answer, answered) = oneshot::channel();
        let sent = self.jobs.send(job(answer));
        Box::pin(async move {
            let gone = || StoreError::Unavailable("the writing tasks have ended".to_owned());
            sent.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }

    /// Runs a statement by itself.
    async fn read(&self, sql: &str, parameters: Parameters<'_>) -> Result<Vec<Row>, StoreError> {
        let session = self.reader.lock().await.session().await;
        let session = session.map_err(StoreError::Unavailable)?;
        let reading = session.client().query_typed(sql, parameters);
        let failure = match timeout(READ_LIMIT, reading).await {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(error)) => Failure::from(error),
            Err(_) => Failure::Lost(format!("no answer within {READ_LIMIT:?}")),
        };
        if matches!(failure, Failure::Lost(_)) {
            self.reader.lock().await.give_up();
        }
        Err(StoreError::Unavailable(failure.into_reason()))
    }
}

type Parameters<'a> = &'a [(&'a (dyn ToSql + Sync), Type)];

impl Store for PostgresStore {
    fn transact(&self, work: Box<dyn Work>) -> BoxFuture<'_, Result<Receipt, StoreError>> {
        self.send(|answer| Job::Transact { work, answer })
    }

    fn published(&self, key: &Key, step: Step) {
        // If the writers have ended, the events are published again after the restart.
        let _ = self.jobs.send(Job::Published {
            key: key.clone(),
            step,
        });
    }

    fn park(&self, parked: Parked) -> BoxFuture<'_, Result<(), StoreError>> {
        let parking = self.send(|answer| Job::Park {
            parked: Box::new(parked),
            answer,
        });
        Box::pin(async move { parking.await.map(drop) })
    }

    fn unfinished(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Pending)>, StoreError>> {
        Box::pin(async move {
            let sql = "SELECT function, source, id, step, outbox, intent FROM orderflow.pending
                       WHERE at < $1 ORDER BY intent IS NOT NULL, at LIMIT $2";
            let (before, limit) = (before.timestamp_micros(), count(limit));
            let parameters: Parameters<'_> = &[(&before, Type::INT8), (&limit, Type::INT8)];
            each(&self.read(sql, parameters).await?, |row| {
                let key = Key {
                    function: row.try_get(0)?,
                    source: row.try_get(1)?,
                    id: row.try_get(2)?,
                };
                Ok((key, transaction::pending(row, 3)?))
            })
        })
    }

    fn due(
        &self,
        until: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        Box::pin(async move {
            let sql = "SELECT owner, order_id, due, coalesce(cause, '') FROM orderflow.order_rows
                       WHERE due <= $1 ORDER BY due LIMIT $2";
            let (until, limit) = (until.timestamp_micros(), count(limit));
            let parameters: Parameters<'_> = &[(&until, Type::INT8), (&limit, Type::INT8)];
            each(&self.read(sql, parameters).await?, |row| {
                Ok(Due {
                    owner: row.try_get(0)?,
                    order_id: OrderId(row.try_get(1)?),
                    reminder: Reminder {
                        at: time(row, 2)?,
                        cause: row.try_get(3)?,
                    },
                })
            })
        })
    }

    fn forget_inboxes(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(async move {
            // Rows that somebody holds are left for the next time: whoever waits for nobody is in nobody's way.
            let sql = "WITH old AS (
                           SELECT order_id, owner FROM orderflow.order_rows
                           WHERE inbox_from < $1 ORDER BY inbox_from LIMIT $2
                           FOR UPDATE SKIP LOCKED
                       )
                       UPDATE orderflow.order_rows r SET
                           inbox = CASE WHEN decided_at < $1 THEN '' ELSE inbox END,
                           inbox_from = CASE WHEN decided_at < $1 THEN NULL ELSE decided_at END
                       FROM old WHERE r.order_id = old.order_id AND r.owner = old.owner
                       RETURNING 1";
            let (before, limit) = (before.timestamp_micros(), count(limit));
            let parameters: Parameters<'_> = &[(&before, Type::INT8), (&limit, Type::INT8)];
            Ok(self.read(sql, parameters).await?.len())
        })
    }

    fn row(
        &self,
        owner: &'static str,
        order_id: OrderId,
    ) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(async move {
            let sql = "SELECT body FROM orderflow.order_rows WHERE order_id = $1 AND owner = $2";
            let parameters: Parameters<'_> = &[(&order_id.0, Type::UUID), (&owner, Type::TEXT)];
            let rows = self.read(sql, parameters).await?;
            let bodies: Vec<Option<Vec<u8>>> = each(&rows, |row| Ok(row.try_get(0)?))?;
            Ok(bodies.into_iter().next().flatten())
        })
    }

    fn orders(&self, query: OrderQuery) -> BoxFuture<'_, Result<Vec<Summary>, StoreError>> {
        Box::pin(async move {
            let sql = match (query.status, query.after) {
                (None, None) => {
                    "SELECT order_id, status, placed_at FROM orderflow.orders
                     WHERE $1::text IS NULL AND $2::uuid IS NULL
                     ORDER BY placed_at DESC, order_id DESC LIMIT $3"
                }
                (Some(_), None) => {
                    "SELECT order_id, status, placed_at FROM orderflow.orders
                     WHERE status = $1 AND $2::uuid IS NULL
                     ORDER BY placed_at DESC, order_id DESC LIMIT $3"
                }
                (None, Some(_)) => {
                    "SELECT order_id, status, placed_at FROM orderflow.orders
                     WHERE $1::text IS NULL AND (placed_at, order_id) <
                         (SELECT placed_at, order_id FROM orderflow.orders WHERE order_id = $2)
                     ORDER BY placed_at DESC, order_id DESC LIMIT $3"
                }
                (Some(_), Some(_)) => {
                    "SELECT order_id, status, placed_at FROM orderflow.orders
                     WHERE status = $1 AND (placed_at, order_id) <
                         (SELECT placed_at, order_id FROM orderflow.orders WHERE order_id = $2)
                     ORDER BY placed_at DESC, order_id DESC LIMIT $3"
                }
            };
            let status = query.status.map(Status::as_str);
            let after = query.after.map(|id| id.0);
            let limit = count(query.limit);
            let parameters: Parameters<'_> = &[
                (&status, Type::TEXT),
                (&after, Type::UUID),
                (&limit, Type::INT8),
            ];
            each(&self.read(sql, parameters).await?, |row| {
                let status: String = row.try_get(1)?;
                Ok(Summary {
                    order_id: OrderId(row.try_get(0)?),
                    status: Status::parse(&status)
                        .ok_or_else(|| unreadable(format_args!("status {status}")))?,
                    placed_at: time(row, 2)?,
                })
            })
        })
    }

    fn parked(&self, order_id: OrderId) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>> {
        Box::pin(async move {
            let sql = "SELECT id, function, event_id, reason, body, at FROM orderflow.parked
                       WHERE order_id = $1 ORDER BY at";
            let parameters: Parameters<'_> = &[(&order_id.0, Type::UUID)];
            each(&self.read(sql, parameters).await?, |row| {
                Ok(Parked {
                    id: row.try_get::<_, Uuid>(0)?,
                    function: row.try_get(1)?,
                    event_id: row.try_get(2)?,
                    order_id: Some(order_id),
                    reason: row.try_get(3)?,
                    body: row.try_get(4)?,
                    at: time(row, 5)?,
                })
            })
        })
    }
}

/// Why a row could not be read.
enum Unreadable {
    Column(tokio_postgres::Error),
    Value(String),
}

impl From<tokio_postgres::Error> for Unreadable {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Column(error)
    }
}

fn unreadable(value: std::fmt::Arguments<'_>) -> Unreadable {
    Unreadable::Value(format!("a stored row is unreadable: {value}"))
}

fn each<T>(
    rows: &[Row],
    read: impl Fn(&Row) -> Result<T, Unreadable>,
) -> Result<Vec<T>, StoreError> {
    let rows: Result<Vec<T>, _> = rows.iter().map(read).collect();
    rows.map_err(|problem| {
        StoreError::Unavailable(match problem {
            Unreadable::Column(error) => describe(&error),
            Unreadable::Value(problem) => problem,
        })
    })
}

fn time(row: &Row, column: usize) -> Result<DateTime<Utc>, Unreadable> {
    let micros: i64 = row.try_get(column)?;
    DateTime::from_timestamp_micros(micros).ok_or_else(|| unreadable(format_args!("time {micros}")))
}

fn count(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
