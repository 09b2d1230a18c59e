//! The thread that writes, and its group commit.

use std::{
    iter,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::{
    answer::{Outcome, Sender},
    flusher::Flusher,
    statements::Statements,
};
use crate::{
    sales::verdict::SharedRows,
    store::{
        Change, Guard, Key, Loaded, Parked, Pending, Receipt, Reminder, Step, StoreError, Work,
        Writes, inbox,
    },
};

/// How much is taken up before it is looked whether the disk is idle: bounds how long the first job waits.
const MAX_GROUP: usize = 256;

/// How long what nobody waits for may wait for company: it is not worth a flush of its own.
const PATIENCE: Duration = Duration::from_millis(50);

/// What the writing thread is told.
pub(super) enum Message {
    /// Something is to be written.
    Job(Job),
    /// The disk is idle.
    Flushed,
    /// Nothing more will come.
    Close,
}

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

/// What is written to an order's own row, besides its inbox.
struct OwnRow {
    body: Option<Vec<u8>>,
    reminder: Option<Reminder>,
    decided_at: i64,
}

/// Writes through a connection that nobody else writes through.
pub(super) struct Writer<'c> {
    connection: &'c Connection,
    statements: Statements<'c>,
    flusher: Flusher,
    /// Whether the disk is busy with what was committed last.
    flushing: bool,
    /// What nobody waits for and has not been done.
    unhurried: Vec<Job>,
    /// What is done in the open transaction, and what came of it.
    group: Vec<(Job, Receipt)>,
    /// What is committed, or failed, and not flushed.
    done: Vec<(Job, Outcome)>,
}

impl<'c> Writer<'c> {
    pub(super) fn new(connection: &'c Connection, flusher: Flusher) -> rusqlite::Result<Self> {
        // A commit leaves the flush to the flusher.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self {
            connection,
            statements: Statements::prepare(connection)?,
            flusher,
            flushing: false,
            unhurried: Vec::new(),
            group: Vec::new(),
            done: Vec::new(),
        })
    }

    /// Writes until nothing more will come. What comes in while the disk is busy is done in one open transaction, which is
    /// committed as soon as the disk is idle: one flush serves many jobs, and none of them waits for it undone.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Message>) {
        let mut open = true;
        while open {
            let first = if self.waits_for_company() {
                match queue.recv_timeout(PATIENCE) {
                    Err(RecvTimeoutError::Timeout) => {
                        self.commit();
                        continue;
                    }
                    received => received.ok(),
                }
            } else {
                queue.recv().ok()
            };
            let first = first.unwrap_or(Message::Close);
            for message in iter::once(first).chain(queue.try_iter().take(MAX_GROUP)) {
                match message {
                    Message::Job(job) => self.take(job),
                    Message::Flushed => self.flushing = false,
                    Message::Close => open = false,
                }
            }
            let due = !(self.group.is_empty() && self.done.is_empty())
                || self.unhurried.len() >= MAX_GROUP;
            if !open || due && !self.flushing {
                self.commit();
            }
        }
    }

    /// Whether all that is to be done is what nobody waits for.
    fn waits_for_company(&self) -> bool {
        !self.unhurried.is_empty() && self.group.is_empty() && !self.flushing
    }

    /// Does a job now, unless nobody waits for it and there is no transaction that it could join.
    fn take(&mut self, job: Job) {
        if !job.is_awaited() && self.group.is_empty() {
            self.unhurried.push(job);
            return;
        }
        self.join_unhurried();
        self.join(job);
    }

    fn join_unhurried(&mut self) {
        for job in std::mem::take(&mut self.unhurried) {
            self.join(job);
        }
    }

    /// Does a job in the open transaction, or in a new one.
    fn join(&mut self, job: Job) {
        let begun = !self.group.is_empty();
        let receipt = self.guarded(|writer| {
            if !begun {
                writer.statements.begin.execute([])?;
            }
            writer.run_job(&job)
        });
        match receipt {
            Ok(receipt) => self.group.push((job, receipt)),
            Err(error) if !begun => self.done.push((job, Err(error))),
            Err(_) => {
                self.redo_group();
                let outcome = self.commit_alone(&job);
                self.done.push((job, outcome));
            }
        }
    }

    /// Commits what has been done, and has it flushed.
    fn commit(&mut self) {
        self.join_unhurried();
        if !self.group.is_empty() {
            let committed = self.guarded(|writer| writer.statements.commit.execute([]));
            match committed {
                Ok(_) => {
                    let group = self.group.drain(..);
                    self.done
                        .extend(group.map(|(job, receipt)| (job, Ok(receipt))));
                }
                Err(error) if self.group.len() == 1 => {
                    let group = self.group.drain(..);
                    self.done
                        .extend(group.map(|(job, _)| (job, Err(error.clone()))));
                }
                Err(_) => self.redo_group(),
            }
        }
        let done = self.done.drain(..);
        let answers: Vec<_> = done
            .filter_map(|(job, outcome)| job.answer(outcome))
            .collect();
        if !answers.is_empty() {
            self.flushing = self.flusher.flush(answers);
        }
    }

    /// The open transaction is lost: each of its jobs gets a transaction of its own, so that one job's fault is nobody
    /// else's.
    fn redo_group(&mut self) {
        for (job, _) in std::mem::take(&mut self.group) {
            let outcome = self.commit_alone(&job);
            self.done.push((job, outcome));
        }
    }

    fn commit_alone(&mut self, job: &Job) -> Outcome {
        self.guarded(|writer| {
            writer.statements.begin.execute([])?;
            let receipt = writer.run_job(job)?;
            writer.statements.commit.execute([])?;
            Ok(receipt)
        })
    }

    /// A step of a transaction: when it fails, nothing of the transaction stays.
    fn guarded<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        // A panicking decision is a bug; it must not take the store away from everybody else.
        let error = match catch_unwind(AssertUnwindSafe(|| step(self))) {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a decision panicked; this is a bug".to_owned(),
        };
        if !self.connection.is_autocommit() {
            // If even this fails, the next BEGIN reports it.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        Err(StoreError::Unavailable(error))
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
        let mut order_id_text = Uuid::encode_buffer();
        let order_id = order_id.0.hyphenated().encode_lower(&mut order_id_text);
        let (found, own) = self.state(owner, order_id)?;
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
            Change::Write(writes) => self.save(work, order_id, found, pending, *writes),
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
        order_id: &str,
        found: Option<Found>,
        pending: Pending,
        writes: Writes,
    ) -> rusqlite::Result<Receipt> {
        let (key, (owner, _)) = (work.key(), work.own_row());
        let own = OwnRow {
            body: writes.own,
            reminder: writes.reminder,
            decided_at: writes.at.timestamp_micros(),
        };
        self.save_own(owner, order_id, key, found, own)?;
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
        own: OwnRow,
    ) -> rusqlite::Result<usize> {
        let at = own.decided_at;
        let (due, cause) = own
            .reminder
            .map(|reminder| (reminder.at.timestamp_micros(), reminder.cause))
            .unzip();
        let Some(mut found) = found else {
            let inbox = inbox::line(key);
            let slack = slack(&[own.body.as_deref(), cause.as_deref()], &inbox);
            return self.statements.insert_row.execute(params![
                owner, order_id, own.body, inbox, due, cause, at, slack
            ]);
        };
        if !found.knows(key) {
            found.inbox.push_str(&inbox::line(key));
        }
        match own.body {
            Some(body) => {
                let slack = slack(&[Some(&body), cause.as_deref()], &found.inbox);
                self.statements.update_row.execute(params![
                    found.row_id,
                    body,
                    found.inbox,
                    due,
                    cause,
                    at,
                    slack
                ])
            }
            None => self
                .statements
                .update_inbox
                .execute(params![found.row_id, found.inbox, at]),
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

/// How many zeros fill a row up, so that it most often still has the same size after the next decision: SQLite then writes
/// it in its place, and moves no other row.
fn slack(blobs: &[Option<&[u8]>], inbox: &str) -> i64 {
    const UNIT: usize = 256;
    let blobs: usize = blobs.iter().flatten().map(|blob| blob.len()).sum();
    let used = blobs + inbox.len();
    i64::try_from(used.next_multiple_of(UNIT) - used).unwrap_or_default()
}

impl Found {
    fn knows(&self, key: &Key) -> bool {
        inbox::knows(&self.inbox, key)
    }
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
