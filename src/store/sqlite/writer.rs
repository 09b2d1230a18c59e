//! The thread that writes, and its group commit.

use std::{
    error::Error,
    fs::File,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{
    BUSY_PAUSE,
    answer::{Outcome, Sender},
    flusher::Flusher,
    redo::{Position, RedoLog},
    retention::Walk,
    rows::Rows,
    statements::Statements,
};
use crate::store::{Key, Parked, Receipt, Step, StoreError, Work};

/// How much is taken up before it is looked whether the disk is idle: bounds how long the first job waits.
const MAX_GROUP: usize = 256;

/// How long SQLite's transaction stays open: so late do others who read the file see what has been done.
const LONGEST: Duration = Duration::from_millis(50);

/// How often one who is never idle gives way to other processes.
const GIVES_WAY: Duration = Duration::from_millis(500);

/// For how long: longer than they wait between two tries.
const GAP: Duration = BUSY_PAUSE.saturating_mul(3);

/// What the writing thread is told.
pub(super) enum Message {
    /// Something is to be written.
    Job(Job),
    /// The disk is done with one group.
    Flushed,
    /// Others are to see all that has been done.
    Settle(oneshot::Sender<Result<(), StoreError>>),
    /// Old inboxes are to be forgotten: those that began before `before`, microseconds since 1970.
    Forget {
        before: i64,
        limit: usize,
        answer: oneshot::Sender<Result<usize, StoreError>>,
    },
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

/// What a step of a transaction comes to.
type Done<T> = Result<T, Box<dyn Error>>;

/// Writes through a connection that nobody else writes through.
pub(super) struct Writer<'c> {
    connection: &'c Connection,
    statements: Statements<'c>,
    log: RedoLog,
    /// SQLite's own log.
    write_ahead_log: File,
    /// That SQLite's own log could not be flushed: what it lost, the next flush may not write either.
    broken: Option<String>,
    flusher: Flusher,
    /// How many groups the disk is busy with.
    flushing: usize,
    /// Since when the transaction is open.
    began: Option<Instant>,
    /// When other processes could have had the file for certain.
    gave_way: Instant,
    /// What is done in the open transaction and not in the log, and what came of it.
    group: Vec<(Job, Receipt)>,
    /// What is in the log, or failed, and not flushed.
    done: Vec<(Job, Outcome)>,
    walk: Walk,
}

impl<'c> Writer<'c> {
    pub(super) fn new(
        connection: &'c Connection,
        log: RedoLog,
        write_ahead_log: File,
        flusher: Flusher,
    ) -> rusqlite::Result<Self> {
        // The redo log is flushed instead.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        Ok(Self {
            connection,
            statements: Statements::prepare(connection)?,
            log,
            write_ahead_log,
            broken: None,
            flusher,
            flushing: 0,
            began: None,
            gave_way: Instant::now(),
            group: Vec::new(),
            done: Vec::new(),
            walk: Walk::default(),
        })
    }

    /// Writes until nothing more will come. What comes in while the disk is busy is one group, which goes to the log as
    /// soon as the disk is idle: one flush serves many jobs, and none of them waits for it undone.
    pub(super) fn run(mut self, queue: &mpsc::Receiver<Message>) {
        let mut open = true;
        while open {
            let first = match self.began {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(began) => queue.recv_timeout(LONGEST.saturating_sub(began.elapsed())),
            };
            let first = match first {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => Some(Message::Close),
            };
            let mut settled = Vec::new();
            for message in first.into_iter().chain(queue.try_iter().take(MAX_GROUP)) {
                match message {
                    Message::Job(job) => self.join(job),
                    Message::Flushed => self.flushing -= 1,
                    Message::Settle(answer) => settled.push(answer),
                    Message::Forget {
                        before,
                        limit,
                        answer,
                    } => {
                        // Whoever asked may have gone away; here and below.
                        let _ = answer.send(self.forget(before, limit));
                    }
                    Message::Close => open = false,
                }
            }
            if self.flushing == 0 && self.is_awaited() {
                self.append();
            }
            let overdue = self.began.is_some_and(|began| began.elapsed() >= LONGEST);
            if overdue || !open || !settled.is_empty() {
                let outcome = self.settle();
                if let Err(error) = &outcome {
                    tracing::warn!(%error, "not committed, will be tried again");
                }
                for answer in settled {
                    let _ = answer.send(outcome.clone());
                }
                if overdue && self.gave_way.elapsed() >= GIVES_WAY {
                    thread::sleep(GAP);
                    self.gave_way = Instant::now();
                }
            }
        }
    }

    /// Whether somebody waits for what has been done.
    fn is_awaited(&self) -> bool {
        !self.done.is_empty() || self.group.iter().any(|(job, _)| job.is_awaited())
    }

    /// Does a job in the open transaction, or in a new one.
    fn join(&mut self, job: Job) {
        match self.guarded(|writer| writer.run_job(&job)) {
            Ok(receipt) => self.group.push((job, receipt)),
            Err(error) if self.group.is_empty() => self.done.push((job, Err(error))),
            Err(_) => {
                // What was done and is not in the log is lost with it. Each is done alone now, so that one job's fault is
                // nobody else's.
                let group = mem::take(&mut self.group).into_iter();
                for job in group.map(|(job, _)| job).chain([job]) {
                    let outcome = self.guarded(|writer| {
                        let receipt = writer.run_job(&job)?;
                        writer.log.append()?;
                        Ok(receipt)
                    });
                    self.done.push((job, outcome));
                }
            }
        }
    }

    fn run_job(&mut self, job: &Job) -> Done<Receipt> {
        self.begin()?;
        let mut rows = Rows {
            statements: &mut self.statements,
            log: &mut self.log,
        };
        match job {
            Job::Transact { work, .. } => return Ok(rows.transact(work.as_ref())?),
            Job::Published { key, step } => rows.published(key, *step)?,
            Job::Park { parked, .. } => rows.park(parked)?,
        }
        Ok(Receipt::default())
    }

    /// Puts what has been done into the log, and has it flushed.
    fn append(&mut self) {
        let appended = self.guarded(|writer| Ok(writer.log.append()?));
        let group = self.group.drain(..);
        let group = group.map(|(job, receipt)| (job, appended.clone().map(|()| receipt)));
        let done = self.done.drain(..).chain(group);
        let answers: Vec<_> = done
            .filter_map(|(job, outcome)| job.answer(outcome))
            .collect();
        if !answers.is_empty() && self.flusher.flush(answers) {
            self.flushing += 1;
        }
    }

    /// Commits, so that everybody who reads the file sees what has been done, here or by a process that was killed. If that
    /// fails, nothing is lost: it is in the log, and is done again before anything else is.
    fn settle(&mut self) -> Result<(), StoreError> {
        self.append();
        self.guarded(|writer| {
            if writer.began.is_none() && Position::of(writer.connection)? == writer.log.position() {
                return Ok(());
            }
            writer.begin()?;
            if writer.log.is_full() {
                writer.renew()
            } else {
                writer.commit()
            }
        })
    }

    /// Forgets old inboxes.
    fn forget(&mut self, before: i64, limit: usize) -> Result<usize, StoreError> {
        self.append();
        self.guarded(|writer| {
            writer.begin()?;
            let found = writer.walk.forget(writer.connection, before, limit)?;
            // It is not in the log.
            writer.renew()?;
            Ok(found)
        })
    }

    /// Begins a transaction, unless one is open: with what is in the log and SQLite does not have, whoever put it there.
    fn begin(&mut self) -> Done<()> {
        if let Some(problem) = &self.broken {
            return Err(problem.clone().into());
        }
        while self.began.is_none() {
            self.connection
                .prepare_cached("BEGIN IMMEDIATE")?
                .execute([])?;
            self.began = Some(Instant::now());
            let has = Position::of(self.connection)?;
            if has != self.log.position() {
                self.log.replay(self.connection, has)?;
                self.renew()?;
            }
        }
        Ok(())
    }

    fn commit(&mut self) -> Done<()> {
        self.log.position().commit(self.connection)?;
        self.began = None;
        Ok(())
    }

    /// Commits durably; the log begins anew.
    fn renew(&mut self) -> Done<()> {
        let position = Position::commit_anew(self.connection)?;
        if let Err(error) = self.write_ahead_log.sync_data() {
            let problem = format!(
                "SQLite's log could not be flushed to disk, start the process again: {error}"
            );
            tracing::error!("{problem}");
            return Err(self.broken.insert(problem).clone().into());
        }
        self.log.renew(position)?;
        self.began = None;
        Ok(())
    }

    /// A step of a transaction: when it fails, nothing of the transaction stays but what is in the log.
    fn guarded<T>(&mut self, step: impl FnOnce(&mut Self) -> Done<T>) -> Result<T, StoreError> {
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
        self.began = None;
        self.log.discard();
        Err(StoreError::Unavailable(error))
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
