//! The thread that writes, and its group commit.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    answer::{Outcome, Sender, tell},
    statements::Statements,
};
use crate::{
    sales::verdict::SharedRows,
    store::{
        Change, Guard, Key, Loaded, Parked, Pending, Receipt, Reminder, Step, StoreError, Work,
        Writes,
    },
};

/// The most jobs in one transaction: bounds how long the first of them waits.
const MAX_GROUP: usize = 256;

/// How long what nobody waits for may wait for company: it is not worth a flush of its own.
const PATIENCE: Duration = Duration::from_millis(50);

/// Something to be written.
pub(super) enum Job {
    /// A piece of work.
    Transact { work: Box<dyn Work>, answer: Sender },
    /// What was in the outbox up to a step is published.
    Published { key: Key, step: Step },
    /// Something can never succeed.
    Park { parked: Box<Parked>, answer: Sender },
}

/// Where a row of the state stands, and its inbox.
struct Found {
    row_id: i64,
    inbox: String,
}

/// Writes through a connection that nobody else writes through.
pub(super) struct Writer<'c> {
    connection: &'c Connection,
    statements: Statements<'c>,
}

impl<'c> Writer<'c> {
    pub(super) fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            statements: Statements::prepare(connection)?,
        })
    }

    /// Writes until nobody can send any more.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Job>) {
        let mut unhurried = Vec::new();
        loop {
            let first = if unhurried.is_empty() {
                queue.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(PATIENCE)
            };
            let first = match first {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.write(std::mem::take(&mut unhurried));
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => return self.write(unhurried),
            };
            unhurried.push(first);
            unhurried.extend(queue.try_iter().take(MAX_GROUP - 1));
            if unhurried.iter().any(Job::is_awaited) || unhurried.len() >= MAX_GROUP {
                self.write(std::mem::take(&mut unhurried));
            }
        }
    }

    /// Writes a group in one transaction. If that fails, each job gets a transaction of its own, so that one
    /// job's fault is nobody else's.
    fn write(&mut self, group: Vec<Job>) {
        let outcomes: Vec<Outcome> = match self.commit(&group) {
            Ok(receipts) => receipts.into_iter().map(Ok).collect(),
            Err(error) if group.len() == 1 => vec![Err(error)],
            Err(_) => group.iter().map(|job| self.commit_alone(job)).collect(),
        };
        let answers = group.into_iter().zip(outcomes);
        tell(
            answers
                .filter_map(|(job, outcome)| job.answer(outcome))
                .collect(),
        );
    }

    fn commit_alone(&mut self, job: &Job) -> Outcome {
        let receipts = self.commit(std::slice::from_ref(job))?;
        Ok(receipts.into_iter().next().unwrap_or_default())
    }

    fn commit(&mut self, group: &[Job]) -> Result<Vec<Receipt>, StoreError> {
        if group.is_empty() {
            return Ok(Vec::new());
        }
        let run = || -> rusqlite::Result<Vec<Receipt>> {
            self.statements.begin.execute([])?;
            let receipts: rusqlite::Result<Vec<_>> =
                group.iter().map(|job| self.run_job(job)).collect();
            let receipts = receipts?;
            self.statements.commit.execute([])?;
            Ok(receipts)
        };
        // A panicking decision is a bug; it must not take the store away from everybody else.
        let outcome = catch_unwind(AssertUnwindSafe(run));
        if !self.connection.is_autocommit() {
            // Nothing of the group may stay. If even this fails, the next BEGIN reports it.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        match outcome {
            Ok(Ok(receipts)) => Ok(receipts),
            Ok(Err(error)) => Err(StoreError::Unavailable(error.to_string())),
            Err(_) => Err(StoreError::Unavailable(
                "a decision panicked; this is a bug".to_owned(),
            )),
        }
    }

    fn run_job(&mut self, job: &Job) -> rusqlite::Result<Receipt> {
        match job {
            Job::Transact { work, .. } => self.transact(work.as_ref()),
            Job::Published { key, step } => {
                self.published(key, *step)?;
                Ok(Receipt::default())
            }
            Job::Park { parked, .. } => {
                self.park(parked)?;
                Ok(Receipt::default())
            }
        }
    }

    fn transact(&mut self, work: &dyn Work) -> rusqlite::Result<Receipt> {
        let (key, (owner, order_id)) = (work.key(), work.own_row());
        let (found, own) = self.state(owner, &order_id.to_string())?;
        let known = found.as_ref().is_some_and(|found| found.knows(key));
        let pending = match work.guard() {
            Guard::NewEvent if !known => Pending::default(),
            Guard::NewEvent => {
                let pending = self.pending(key)?;
                return Ok(Receipt {
                    answer: None,
                    pending,
                });
            }
            Guard::PendingIntent { step } => {
                let pending = self.pending(key)?;
                if pending.intent.is_none() || pending.step != step {
                    return Ok(Receipt {
                        answer: None,
                        pending,
                    });
                }
                pending
            }
        };
        let mut shared = SharedRows::new();
        for name in work.shared_rows(own.as_deref()) {
            if let (_, Some(row)) = self.state(owner, &name)? {
                shared.insert(name, row);
            }
        }
        match work.apply(&Loaded { own, shared }) {
            Change::Nothing(answer) => Ok(Receipt {
                answer: Some(answer),
                pending: Pending::default(),
            }),
            Change::Write(writes) => self.save(work, found, pending, *writes),
        }
    }

    /// A row of the state, by its owner and key: where it is, and its body.
    fn state(
        &mut self,
        owner: &str,
        key: &str,
    ) -> rusqlite::Result<(Option<Found>, Option<Vec<u8>>)> {
        let row = self
            .statements
            .row
            .query_row(params![owner, key], |row| {
                let found = Found {
                    row_id: row.get(0)?,
                    inbox: row.get(1)?,
                };
                Ok((Some(found), row.get(2)?))
            })
            .optional()?;
        Ok(row.unwrap_or_default())
    }

    fn pending(&mut self, key: &Key) -> rusqlite::Result<Pending> {
        let pending = self
            .statements
            .pending
            .query_row(params![key.function, key.source, key.id], |row| {
                Ok(Pending {
                    step: row.get(0)?,
                    outbox: row.get(1)?,
                    intent: row.get(2)?,
                })
            })
            .optional()?;
        Ok(pending.unwrap_or_default())
    }

    fn save(
        &mut self,
        work: &dyn Work,
        found: Option<Found>,
        pending: Pending,
        writes: Writes,
    ) -> rusqlite::Result<Receipt> {
        let (key, (owner, order_id)) = (work.key(), work.own_row());
        let order_id = order_id.to_string();
        self.save_own(owner, &order_id, key, found, writes.own, writes.reminder)?;
        for (name, row) in &writes.shared {
            self.statements
                .save_shared_row
                .execute(params![owner, name, row])?;
        }
        if let Some(summary) = writes.summary {
            let placed_at = summary.placed_at.timestamp_micros();
            self.statements.save_summary.execute(params![
                order_id,
                summary.status.as_str(),
                placed_at
            ])?;
        }
        let pending = pending.after(work.guard().next_step(), writes.outbox, writes.intent);
        self.save_pending(key, work.guard(), &pending, writes.at.timestamp_micros())?;
        Ok(Receipt {
            answer: Some(writes.answer),
            pending,
        })
    }

    /// Saves the order's own row, with the delivery in its inbox.
    fn save_own(
        &mut self,
        owner: &str,
        order_id: &str,
        key: &Key,
        found: Option<Found>,
        body: Option<Vec<u8>>,
        reminder: Option<Reminder>,
    ) -> rusqlite::Result<usize> {
        let (due, cause) = reminder
            .map(|reminder| (reminder.at.timestamp_micros(), reminder.cause))
            .unzip();
        let Some(mut found) = found else {
            return self.statements.insert_row.execute(params![
                owner,
                order_id,
                body,
                line(key),
                due,
                cause
            ]);
        };
        if !found.knows(key) {
            found.inbox.push_str(&line(key));
        }
        match body {
            Some(body) => self.statements.update_row.execute(params![
                found.row_id,
                body,
                found.inbox,
                due,
                cause
            ]),
            None => self
                .statements
                .update_inbox
                .execute(params![found.row_id, found.inbox]),
        }
    }

    fn save_pending(
        &mut self,
        key: &Key,
        guard: Guard,
        pending: &Pending,
        at: i64,
    ) -> rusqlite::Result<usize> {
        let Pending {
            step,
            outbox,
            intent,
        } = pending;
        let Key {
            function,
            source,
            id,
        } = key;
        match (guard, pending.is_empty()) {
            (Guard::NewEvent, true) => Ok(0),
            (Guard::NewEvent, false) => self
                .statements
                .insert_pending
                .execute(params![function, source, id, step, outbox, intent, at]),
            (Guard::PendingIntent { .. }, false) => self
                .statements
                .update_pending
                .execute(params![function, source, id, step, outbox, intent, at]),
            (Guard::PendingIntent { .. }, true) => self
                .statements
                .delete_pending
                .execute(params![function, source, id]),
        }
    }

    /// What was in the outbox up to a step is published.
    fn published(&mut self, key: &Key, step: Step) -> rusqlite::Result<()> {
        let deleted = self.statements.delete_published.execute(params![
            key.function,
            key.source,
            key.id,
            step
        ])?;
        if deleted == 0 {
            self.statements.clear_outbox.execute(params![
                key.function,
                key.source,
                key.id,
                step
            ])?;
        }
        Ok(())
    }

    fn park(&mut self, parked: &Parked) -> rusqlite::Result<usize> {
        self.statements.park.execute(params![
            parked.id.to_string(),
            parked.function,
            parked.event_id,
            parked.order_id.map(|id| id.to_string()),
            parked.reason,
            parked.body,
            parked.at.timestamp_micros()
        ])
    }
}

impl Found {
    fn knows(&self, key: &Key) -> bool {
        let line = line(key);
        self.inbox.split_inclusive('\n').any(|known| known == line)
    }
}

/// A delivery as it stands in the inbox. Control characters are refused when an event is decoded.
fn line(key: &Key) -> String {
    format!("{}\t{}\t{}\n", key.function, key.source, key.id)
}

impl Job {
    /// Whether somebody waits for it.
    fn is_awaited(&self) -> bool {
        match self {
            Self::Transact { .. } | Self::Park { .. } => true,
            Self::Published { .. } => false,
        }
    }

    /// Where its outcome goes.
    fn answer(self, outcome: Outcome) -> Option<(Sender, Outcome)> {
        match self {
            Self::Transact { answer, .. } | Self::Park { answer, .. } => Some((answer, outcome)),
            Self::Published { key, .. } => {
                if let Err(error) = outcome {
                    tracing::warn!(event = key.id, %error, "not marked as published; its events will go out again");
                }
                None
            }
        }
    }
}
