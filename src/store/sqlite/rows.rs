//! What jobs write to rows, in the open transaction.

use rusqlite::{OptionalExtension, ToSql, params};
use uuid::Uuid;

use super::{
    redo::RedoLog,
    statements::{Statements, Write},
};
use crate::{
    sales::verdict::SharedRows,
    store::{
        Change, Guard, Key, Loaded, Parked, Pending, Receipt, Reminder, Step, Work, Writes, inbox,
    },
};

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

/// The rows, and the log where every change of them is noted down.
pub(super) struct Rows<'w, 'c> {
    pub(super) statements: &'w mut Statements<'c>,
    pub(super) log: &'w mut RedoLog,
}

impl Rows<'_, '_> {
    /// Does a piece of work, if its guard lets it.
    pub(super) fn transact(&mut self, work: &dyn Work) -> rusqlite::Result<Receipt> {
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

    /// Changes rows, and notes that down; how many.
    fn write(&mut self, write: Write, values: &[&dyn ToSql]) -> rusqlite::Result<usize> {
        self.statements.write(write, values, self.log)
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
            self.write(Write::SaveSharedRow, params![owner, name, row])?;
        }
        if let Some(summary) = writes.summary {
            let placed_at = summary.placed_at.timestamp_micros();
            self.write(
                Write::SaveSummary,
                params![order_id, summary.status.as_str(), placed_at],
            )?;
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
            return self.write(
                Write::InsertRow,
                params![owner, order_id, own.body, inbox, due, cause, at, slack],
            );
        };
        if !found.knows(key) {
            found.inbox.push_str(&inbox::line(key));
        }
        match own.body {
            Some(body) => {
                let slack = slack(&[Some(&body), cause.as_deref()], &found.inbox);
                self.write(
                    Write::UpdateRow,
                    params![found.row_id, body, found.inbox, due, cause, at, slack],
                )
            }
            None => self.write(Write::UpdateInbox, params![found.row_id, found.inbox, at]),
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
            (Guard::NewEvent, false) => self.write(
                Write::InsertPending,
                params![function, source, id, step, outbox, intent, at],
            ),
            (Guard::PendingIntent { .. }, false) => self.write(
                Write::UpdatePending,
                params![function, source, id, step, outbox, intent, at],
            ),
            (Guard::PendingIntent { .. }, true) => {
                self.write(Write::DeletePending, params![function, source, id])
            }
        }
    }

    /// What was in the outbox up to a step is published.
    pub(super) fn published(&mut self, key: &Key, step: Step) -> rusqlite::Result<()> {
        let deleted = self.write(
            Write::DeletePublished,
            params![key.function, key.source, key.id, step],
        )?;
        if deleted == 0 {
            self.write(
                Write::ClearOutbox,
                params![key.function, key.source, key.id, step],
            )?;
        }
        Ok(())
    }

    /// Keeps something that can never succeed.
    pub(super) fn park(&mut self, parked: &Parked) -> rusqlite::Result<()> {
        let values = params![
            parked.id.to_string(),
            parked.function,
            parked.event_id,
            parked.order_id.map(|id| id.to_string()),
            parked.reason,
            parked.body,
            parked.at.timestamp_micros()
        ];
        self.write(Write::Park, values).map(drop)
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
