//! The store in an SQLite file: for one machine, with nothing to install.
//!
//! One thread owns the connection that writes. All the work that it does while the disk is busy becomes one record of a redo
//! log, so that one flush to disk serves many events (group commit); another thread flushes. SQLite's transaction is
//! committed some times a second, and before anybody reads. Nothing is acknowledged before it is on disk.

mod answer;
mod flusher;
mod redo;
mod retention;
mod rows;
mod statements;
mod writer;

use std::{
    error::Error,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use futures_util::future::BoxFuture;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension, Row, config::DbConfig, named_params,
    params,
};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::{
    events::OrderId,
    sales::status::{Status, Summary},
};

use super::{
    Due, Key, OrderQuery, Parked, Pending, Receipt, Reminder, Schema, Step, Store, StoreError, Work,
};
use flusher::Flusher;
use redo::{Position, RedoLog};
use writer::{Job, Message, Writer};

/// The migrations in order, each a file that stays as it is once it has been released. The schema's version, kept in
/// the file's `user_version`, is how many of them a file has had.
const MIGRATIONS: [&str; 4] = [
    include_str!("sqlite/migrations/0001_initial.sql"),
    include_str!("sqlite/migrations/0002_retention_and_pending.sql"),
    include_str!("sqlite/migrations/0003_rows_in_place.sql"),
    include_str!("sqlite/migrations/0004_redo_log.sql"),
];

/// The schema's version from which on there is a redo log.
const FIRST_WITH_REDO_LOG: i64 = 4;

/// How long a statement waits for another process that holds the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long it waits between two tries.
const BUSY_PAUSE: Duration = Duration::from_micros(200);

/// The store in an SQLite file.
#[derive(Debug)]
pub struct SqliteStore {
    messages: mpsc::Sender<Message>,
    reader: Arc<Mutex<Connection>>,
}

impl SqliteStore {
    /// Opens the file, and makes it and its schema where there is none.
    ///
    /// # Errors
    /// [`StoreError::Open`] when the file cannot be opened or was written by a newer version.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = |error: rusqlite::Error| {
            StoreError::Open(format!("cannot open {}: {error}", path.display()))
        };
        if let Some(folder) = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
        {
            std::fs::create_dir_all(folder).map_err(|error| {
                StoreError::Open(format!("cannot make {}: {error}", folder.display()))
            })?;
        }
        let connection = connect(path).map_err(failed)?;
        let mut log = beside(path, "-redo", RedoLog::open)?;
        let write_ahead_log = set_up(&connection, path, &mut log)?;
        let reader = Arc::new(Mutex::new(connect(path).map_err(failed)?));
        let (messages, queue) = mpsc::channel();
        let no_thread = |error: io::Error| {
            StoreError::Open(format!("cannot start the threads that write: {error}"))
        };
        let flusher = log
            .file()
            .and_then(|file| Flusher::start(file, messages.clone()))
            .map_err(no_thread)?;
        thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(
                move || match Writer::new(&connection, log, write_ahead_log, flusher) {
                    Ok(writer) => writer.run(&queue),
                    // Everybody who asks is told that the thread has ended.
                    Err(error) => tracing::error!(%error, "the writing thread cannot start"),
                },
            )
            .map_err(no_thread)?;
        Ok(Self { messages, reader })
    }

    /// Looks whether [`SqliteStore::open`] would succeed, and leaves everything as it is.
    ///
    /// # Errors
    /// [`StoreError::Open`] as for `open`.
    pub fn probe(path: &Path) -> Result<Schema, StoreError> {
        let at = path.display().to_string();
        let failed = |error: String| StoreError::Open(format!("cannot open {at}: {error}"));
        let known = MIGRATIONS.len();
        if !path.exists() {
            // It would be made, with its folder.
            let existing = path.ancestors().skip(1).find(|folder| folder.exists());
            let folder = existing.filter(|folder| !folder.as_os_str().is_empty());
            let folder = folder.unwrap_or(Path::new("."));
            let trial = folder.join(format!(".orderflow-probe-{}", std::process::id()));
            File::create_new(&trial)
                .and_then(|_| std::fs::remove_file(&trial))
                .map_err(|error| failed(format!("{}: {error}", folder.display())))?;
            return Ok(Schema { at, has: 0, known });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags);
        let version = connection.and_then(|mut connection| {
            connection.busy_handler(Some(wait_for_others))?;
            // Whether it may be written to shows only in the lock.
            connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?;
            connection.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        });
        let version = version.map_err(|error| failed(error.to_string()))?;
        let has = MIGRATIONS.len() - missing(version, path)?.len();
        Ok(Schema { at, has, known })
    }

    /// The path in a `sqlite:PATH` setting.
    pub fn path(url: &str) -> Option<PathBuf> {
        url.strip_prefix("sqlite:")
            .filter(|path| !path.is_empty())
            .map(PathBuf::from)
    }

    fn send(&self, job: impl FnOnce(answer::Sender) -> Job) -> BoxFuture<'_, answer::Outcome> {
        let (answer, answered) = oneshot::channel();
        let sent = self.messages.send(Message::Job(job(answer)));
        Box::pin(async move {
            sent.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?.take()
        })
    }

    /// Asks the writing thread.
    fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Message,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let sent = self.messages.send(question(answer));
        Box::pin(async move {
            sent.map_err(|_| gone())?;
            answered.await.map_err(|_| gone())?
        })
    }

    fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let reader = self.reader.clone();
        let settled = self.ask(Message::Settle);
        Box::pin(async move {
            settled.await?;
            let read = move || query(&reader.lock().unwrap_or_else(PoisonError::into_inner));
            let unavailable = |problem: String| StoreError::Unavailable(problem);
            tokio::task::spawn_blocking(read)
                .await
                .map_err(|error| unavailable(error.to_string()))?
                .map_err(|error| unavailable(error.to_string()))
        })
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        // If the writing thread has ended, there is nothing to close.
        let _ = self.messages.send(Message::Close);
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable("the writing thread has ended".to_owned())
}

/// Opens a file beside the store's.
fn beside<T>(
    path: &Path,
    suffix: &str,
    open: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<T, StoreError> {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    let path = Path::new(&path);
    open(path).map_err(|error| StoreError::Open(format!("cannot open {}: {error}", path.display())))
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let mut connection = Connection::open(path)?;
    connection.busy_handler(Some(wait_for_others))?;
    // Only a new file takes it: some two dozen rows on a page, so that a transaction writes few of them.
    connection.pragma_update(None, "page_size", 8_192)?;
    connection.set_prepared_statement_cache_capacity(64);
    // A plan that depends on bound values would be made anew for every value.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    log_ahead(&connection)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // Fewer, larger checkpoints: up to 32 MB of log.
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    Ok(connection)
}

/// Waits a little for another process that holds the file, unless that has been tried for too long. SQLite's own waiting, of
/// up to 100 ms at a time, would miss the moments in which one that is never idle gives way.
fn wait_for_others(tries: i32) -> bool {
    thread::sleep(BUSY_PAUSE);
    BUSY_PAUSE.saturating_mul(u32::try_from(tries).unwrap_or(0)) < BUSY_TIMEOUT
}

/// Switches the file to a write-ahead log, unless it has one. SQLite does not wait for others here, since two that upgrade
/// their locks could wait for each other: whoever comes in second is told that the file is locked, and tries again.
fn log_ahead(connection: &Connection) -> rusqlite::Result<()> {
    let started = Instant::now();
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && started.elapsed() < BUSY_TIMEOUT =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            switched => return switched,
        }
    }
}

/// Brings the file up to date: what a process that was killed left in the redo log, then the schema. All of that is on disk
/// before anybody acts on it. Returns SQLite's own log, which SQLite keeps as long as there is a connection.
fn set_up(connection: &Connection, path: &Path, log: &mut RedoLog) -> Result<File, StoreError> {
    let failed = |error: Box<dyn Error>| {
        StoreError::Open(format!("cannot set up {}: {error}", path.display()))
    };
    let begin = || -> Result<i64, Box<dyn Error>> {
        // Several processes may start at once: the first one takes the write lock and brings the file up to date.
        connection.execute_batch("BEGIN IMMEDIATE")?;
        Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
    };
    let version = begin().map_err(failed)?;
    let missing = missing(version, path)?;
    let write_ahead_log = beside(path, "-wal", |path| File::options().write(true).open(path))?;
    let mut bring_up = || -> Result<(), Box<dyn Error>> {
        if version >= FIRST_WITH_REDO_LOG {
            log.replay(connection, Position::of(connection)?)?;
        }
        for (version, migration) in (version + 1..).zip(missing) {
            connection.execute_batch(migration)?;
            connection.pragma_update(None, "user_version", version)?;
        }
        let position = Position::commit_anew(connection)?;
        write_ahead_log.sync_data()?;
        Ok(log.renew(position)?)
    };
    bring_up().map_err(failed)?;
    Ok(write_ahead_log)
}

/// The migrations that a file of a version has not had.
fn missing(version: i64, path: &Path) -> Result<&'static [&'static str], StoreError> {
    let known = usize::try_from(version).ok();
    known
        .and_then(|version| MIGRATIONS.get(version..))
        .ok_or_else(|| {
            StoreError::Open(format!(
                "{} has schema version {version}, this program knows up to {}; use a newer version",
                path.display(),
                MIGRATIONS.len()
            ))
        })
}

impl Store for SqliteStore {
    fn transact(&self, work: Box<dyn Work>) -> BoxFuture<'_, Result<Receipt, StoreError>> {
        self.send(|answer| Job::Transact { work, answer })
    }

    fn published(&self, key: &Key, step: Step) {
        // If the writing thread has ended, the events are published again after the restart.
        let _ = self.messages.send(Message::Job(Job::Published {
            key: key.clone(),
            step,
        }));
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
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT function, source, id, step, outbox, intent FROM pending
                 WHERE at < ?1 ORDER BY intent IS NOT NULL, at LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let unfinished = |row: &Row<'_>| {
                let key = Key {
                    function: row.get(0)?,
                    source: row.get(1)?,
                    id: row.get(2)?,
                };
                let pending = Pending {
                    step: row.get(3)?,
                    outbox: row.get(4)?,
                    intent: row.get(5)?,
                };
                Ok((key, pending))
            };
            statement
                .query_map(params![before.timestamp_micros(), limit], unfinished)?
                .collect()
        })
    }

    fn due(
        &self,
        until: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        self.read(move |connection| {
            let mut statement = connection.prepare_cached(
                "SELECT owner, key, due, cause FROM state
                 WHERE due IS NOT NULL AND due <= ?1 ORDER BY due LIMIT ?2",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let due = |row: &Row<'_>| {
                Ok(Due {
                    owner: row.get(0)?,
                    order_id: OrderId(uuid(row, 1)?),
                    reminder: Reminder {
                        at: time(row, 2)?,
                        cause: row.get(3)?,
                    },
                })
            };
            statement
                .query_map(params![until.timestamp_micros(), limit], due)?
                .collect()
        })
    }

    fn row(
        &self,
        owner: &'static str,
        order_id: OrderId,
    ) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        self.read(move |connection| {
            connection
                .prepare_cached("SELECT body FROM state WHERE owner = ?1 AND key = ?2")?
                .query_row(params![owner, order_id.to_string()], |row| row.get(0))
                .optional()
                .map(Option::flatten)
        })
    }

    fn orders(&self, query: OrderQuery) -> BoxFuture<'_, Result<Vec<Summary>, StoreError>> {
        self.read(move |connection| {
            let status = query.status.map(Status::as_str);
            let after = query.after.map(|id| id.to_string());
            let limit = i64::try_from(query.limit).unwrap_or(i64::MAX);
            let mut statement = connection.prepare_cached(if status.is_some() {
                "SELECT order_id, status, placed_at FROM orders
                 WHERE status = :status AND (:after IS NULL OR (placed_at, order_id)
                       < (SELECT placed_at, order_id FROM orders WHERE order_id = :after))
                 ORDER BY placed_at DESC, order_id DESC LIMIT :limit"
            } else {
                "SELECT order_id, status, placed_at FROM orders
                 WHERE :status IS NULL AND (:after IS NULL OR (placed_at, order_id)
                       < (SELECT placed_at, order_id FROM orders WHERE order_id = :after))
                 ORDER BY placed_at DESC, order_id DESC LIMIT :limit"
            })?;
            let parameters = named_params! { ":status": status, ":after": after, ":limit": limit };
            statement.query_map(parameters, summary)?.collect()
        })
    }

    fn forget_inboxes(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        let before = before.timestamp_micros();
        self.ask(|answer| Message::Forget {
            before,
            limit,
            answer,
        })
    }

    fn parked(&self, order_id: OrderId) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>> {
        self.read(move |connection| {
            let mut statement = connection
                .prepare_cached("SELECT id, function, event_id, reason, body, at FROM parked WHERE order_id = ?1 ORDER BY at")?;
            let parked = |row: &Row<'_>| {
                Ok(Parked {
                    id: uuid(row, 0)?,
                    function: row.get(1)?,
                    event_id: row.get(2)?,
                    order_id: Some(order_id),
                    reason: row.get(3)?,
                    body: row.get(4)?,
                    at: time(row, 5)?,
                })
            };
            statement.query_map([order_id.to_string()], parked)?.collect()
        })
    }
}

fn summary(row: &Row<'_>) -> rusqlite::Result<Summary> {
    let status: String = row.get(1)?;
    let status =
        Status::parse(&status).ok_or_else(|| unreadable(1, format!("unknown status {status}")))?;
    Ok(Summary {
        order_id: OrderId(uuid(row, 0)?),
        status,
        placed_at: time(row, 2)?,
    })
}

fn uuid(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let id: String = row.get(column)?;
    Uuid::try_parse(&id).map_err(|error| unreadable(column, error.to_string()))
}

fn unreadable(column: usize, problem: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, problem.into())
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<DateTime<Utc>> {
    let micros: i64 = row.get(column)?;
    DateTime::from_timestamp_micros(micros)
        .ok_or(rusqlite::Error::IntegralValueOutOfRange(column, micros))
}
