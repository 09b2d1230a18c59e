//! The thread that writes, and its group commit.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
};

use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::oneshot;

use crate::{
    sales::verdict::SharedRows,
    store::{Change, Guard, Key, Loaded, Parked, Pending, Receipt, Step, StoreError, Work, Writes},
};

/// The most jobs in one transaction: bounds how long the first of them waits.
const MAX_GROUP: usize = 256;

/// Something to be written.
pub(super) enum Job {
    /// A piece of work.
    Transact { work: Box<dyn Work>, answer: oneshot::Sender<Result<Receipt, StoreError>> },
    /// A step's events are published.
    Published { key: Key, step: Step },
    /// Something can never succeed.
    Park { parked: Box<Parked>, answer: oneshot::Sender<Result<(), StoreError>> },
}

/// What a job came to, kept back until it is on disk.
enum Done {
    Receipt(Receipt),
    Nothing,
}

/// Owns the connection that writes.
pub(super) struct Writer {
    connection: Connection,
}

impl Writer {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Writes until nobody can send any more.
    pub(super) fn run(self, queue: &mpsc::Receiver<Job>) {
        while let Ok(first) = queue.recv() {
            let mut group = vec![first];
            group.extend(queue.try_iter().take(MAX_GROUP - 1));
            self.write(group);
        }
    }

    /// Writes a group in one transaction. If that fails, each job gets a transaction of its own, so that one
    /// job's fault is nobody else's.
    fn write(&self, group: Vec<Job>) {
        match self.commit(&group) {
            Ok(done) => group.into_iter().zip(done).for_each(|(job, done)| job.answer(Ok(done))),
            Err(error) if group.len() == 1 => group.into_iter().for_each(|job| job.answer(Err(error.clone()))),
            Err(_) => group.into_iter().for_each(|job| self.write(vec![job])),
        }
    }

    fn commit(&self, group: &[Job]) -> Result<Vec<Done>, StoreError> {
        let run = || -> rusqlite::Result<Vec<Done>> {
            self.connection.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            let done = group.iter().map(|job| self.run_job(job)).collect::<rusqlite::Result<Vec<_>>>()?;
            self.connection.prepare_cached("COMMIT")?.execute([])?;
            Ok(done)
        };
        // A panicking decision is a bug; it must not take the store away from everybody else.
        let outcome = catch_unwind(AssertUnwindSafe(run));
        if !self.connection.is_autocommit() {
            // Nothing of the group may stay. If even this fails, the next BEGIN reports it.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        match outcome {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => Err(StoreError::Unavailable(error.to_string())),
            Err(_) => Err(StoreError::Unavailable("a decision panicked; this is a bug".to_owned())),
        }
    }

    fn run_job(&self, job: &Job) -> rusqlite::Result<Done> {
        match job {
            Job::Transact { work, .. } => self.transact(work.as_ref()).map(Done::Receipt),
            Job::Published { key, step } => self
                .connection
                .prepare_cached("DELETE FROM outbox WHERE function = ?1 AND source = ?2 AND id = ?3 AND step = ?4")?
                .execute(params![key.function, key.source, key.id, step])
                .map(|_| Done::Nothing),
            Job::Park { parked, .. } => self.park(parked).map(|()| Done::Nothing),
        }
    }

    fn transact(&self, work: &dyn Work) -> rusqlite::Result<Receipt> {
        let key = work.key();
        if self.done(key, work.guard())? {
            return Ok(Receipt { answer: None, pending: pending(&self.connection, key)? });
        }
        let (owner, order_id) = work.own_row();
        let own = self.state(owner, &order_id.to_string())?;
        let mut shared = SharedRows::new();
        for name in work.shared_rows(own.as_deref()) {
            if let Some(row) = self.state(owner, &name)? {
                shared.insert(name, row);
            }
        }
        match work.apply(&Loaded { own, shared }) {
            Change::Nothing(answer) => Ok(Receipt { answer: Some(answer), pending: Pending::default() }),
            Change::Write(writes) => self.save(work, *writes),
        }
    }

    fn done(&self, key: &Key, guard: Guard) -> rusqlite::Result<bool> {
        let known = match guard {
            Guard::NewEvent => self
                .connection
                .prepare_cached("SELECT 1 FROM inbox WHERE function = ?1 AND source = ?2 AND id = ?3")?
                .exists(params![key.function, key.source, key.id])?,
            Guard::PendingIntent { step } => !self
                .connection
                .prepare_cached("SELECT 1 FROM intents WHERE function = ?1 AND source = ?2 AND id = ?3 AND step = ?4")?
                .exists(params![key.function, key.source, key.id, step])?,
        };
        Ok(known)
    }

    fn state(&self, owner: &str, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        self.connection
            .prepare_cached("SELECT body FROM state WHERE owner = ?1 AND key = ?2")?
            .query_row(params![owner, key], |row| row.get(0))
            .optional()
    }

    fn save(&self, work: &dyn Work, writes: Writes) -> rusqlite::Result<Receipt> {
        let (owner, order_id) = work.own_row();
        let order_id = order_id.to_string();
        let key = work.key();
        let at = writes.at.timestamp_micros();
        if let Some(own) = &writes.own {
            self.save_state(owner, &order_id, own)?;
        }
        for (name, row) in &writes.shared {
            self.save_state(owner, name, row)?;
        }
        if let Some(summary) = writes.summary {
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO orders (order_id, status, placed_at) VALUES (?1, ?2, ?3)")?
                .execute(params![order_id, summary.status.as_str(), summary.placed_at.timestamp_micros()])?;
        }
        let step = match work.guard() {
            Guard::NewEvent => {
                self.connection
                    .prepare_cached(
                        "INSERT INTO inbox (function, source, id, event_type, order_id, at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                    )?
                    .execute(params![key.function, key.source, key.id, writes.event_type, order_id, at])?;
                0
            }
            Guard::PendingIntent { step } => {
                self.connection
                    .prepare_cached("DELETE FROM intents WHERE function = ?1 AND source = ?2 AND id = ?3")?
                    .execute(params![key.function, key.source, key.id])?;
                step
            }
        };
        if let Some(events) = &writes.outbox {
            self.connection
                .prepare_cached(
                    "INSERT INTO outbox (function, source, id, step, events, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![key.function, key.source, key.id, step, events, at])?;
        }
        if let Some(intent) = &writes.intent {
            self.connection
                .prepare_cached(
                    "INSERT INTO intents (function, source, id, step, intent, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                )?
                .execute(params![key.function, key.source, key.id, step + 1, intent, at])?;
        }
        let mut pending = Pending {
            outbox: writes.outbox.into_iter().map(|events| (step, events)).collect(),
            intent: writes.intent.map(|intent| (step + 1, intent)),
        };
        if step > 0 {
            // An earlier step's events may still be there if another delivery is publishing them.
            pending.outbox = pending_outbox(&self.connection, key)?;
        }
        Ok(Receipt { answer: Some(writes.answer), pending })
    }

    fn save_state(&self, owner: &str, key: &str, body: &[u8]) -> rusqlite::Result<usize> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO state (owner, key, body) VALUES (?1, ?2, ?3)")?
            .execute(params![owner, key, body])
    }

    fn park(&self, parked: &Parked) -> rusqlite::Result<()> {
        let order_id = parked.order_id.map(|id| id.to_string());
        self.connection
            .prepare_cached(
                "INSERT OR IGNORE INTO parked (id, function, event_id, order_id, reason, body, at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                parked.id.to_string(),
                parked.function,
                parked.event_id,
                order_id,
                parked.reason,
                parked.body,
                parked.at.timestamp_micros()
            ])?;
        Ok(())
    }
}

/// What is pending of a delivery.
pub(super) fn pending(connection: &Connection, key: &Key) -> rusqlite::Result<Pending> {
    let intent = connection
        .prepare_cached("SELECT step, intent FROM intents WHERE function = ?1 AND source = ?2 AND id = ?3")?
        .query_row(params![key.function, key.source, key.id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(Pending { outbox: pending_outbox(connection, key)?, intent })
}

fn pending_outbox(connection: &Connection, key: &Key) -> rusqlite::Result<Vec<(Step, Vec<u8>)>> {
    connection
        .prepare_cached(
            "SELECT step, events FROM outbox WHERE function = ?1 AND source = ?2 AND id = ?3 ORDER BY step",
        )?
        .query_map(params![key.function, key.source, key.id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}

impl Job {
    fn answer(self, done: Result<Done, StoreError>) {
        // Whoever asked may have gone away; the work is done all the same.
        match (self, done) {
            (Self::Transact { answer, .. }, Ok(Done::Receipt(receipt))) => drop(answer.send(Ok(receipt))),
            (Self::Transact { answer, .. }, Ok(Done::Nothing)) => drop(answer.send(Ok(Receipt::default()))),
            (Self::Transact { answer, .. }, Err(error)) => drop(answer.send(Err(error))),
            (Self::Park { answer, .. }, done) => drop(answer.send(done.map(|_| ()))),
            (Self::Published { .. }, Ok(_)) => {}
            (Self::Published { key, .. }, Err(error)) => {
                tracing::warn!(event = key.id, %error, "not marked as published; its events will go out again");
            }
        }
    }
}
