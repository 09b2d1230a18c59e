//! A group of jobs as one transaction: the rows that they name, and what the jobs make of them, one after the other.
//!
//! Nothing here talks to the database. Several jobs may be about the same row; later ones see what earlier ones did.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use uuid::Uuid;

use super::job::{Job, Outcome};
use crate::{
    events::OrderId,
    sales::status::Summary,
    store::{
        Change, Guard, Key, Loaded, Parked, Pending, Receipt, Reminder, Step, StoreError, Work,
        Writes, inbox,
    },
};

/// A service's own row of an order.
#[derive(Debug, Default)]
pub(super) struct OrderRow {
    pub(super) body: Option<Vec<u8>>,
    pub(super) inbox: String,
    /// When the owner wants to look at the order again, and what caused that.
    pub(super) due: Option<i64>,
    pub(super) cause: Option<Vec<u8>>,
    pub(super) decided_at: i64,
    pub(super) inbox_from: Option<i64>,
}

/// What is still owed for a delivery.
#[derive(Debug, Default)]
pub(super) struct PendingRow {
    pub(super) pending: Pending,
    pub(super) at: i64,
}

/// A row, whether the database has it, and whether it is to be written.
#[derive(Debug, Default)]
pub(super) struct Tracked<T> {
    pub(super) row: T,
    pub(super) exists: bool,
    pub(super) changed: bool,
}

impl<T> Tracked<T> {
    /// Takes over what the database has.
    pub(super) fn load(&mut self, row: T) {
        (self.row, self.exists) = (row, true);
    }
}

/// The rows that a group is about. Sorted, since that is the order in which they are locked.
#[derive(Default)]
pub(super) struct Group<'a> {
    jobs: &'a [Job],
    pub(super) order_rows: BTreeMap<(OrderId, &'static str), Tracked<OrderRow>>,
    pub(super) pending: BTreeMap<&'a Key, Tracked<PendingRow>>,
    /// Those that the jobs wanted, whether they exist or not.
    pub(super) shared_rows: BTreeMap<(&'static str, String), Tracked<Vec<u8>>>,
    pub(super) orders: BTreeMap<OrderId, Summary>,
    pub(super) parked: BTreeMap<Uuid, &'a Parked>,
}

impl<'a> Group<'a> {
    /// The rows that can be named before anything is loaded.
    pub(super) fn of(jobs: &'a [Job]) -> Self {
        let mut group = Self {
            jobs,
            ..Self::default()
        };
        for job in jobs {
            match job {
                Job::Transact { work, .. } => {
                    let (owner, order_id) = work.own_row();
                    group.order_rows.entry((order_id, owner)).or_default();
                    group.pending.entry(work.key()).or_default();
                }
                Job::Published { key, .. } => {
                    group.pending.entry(key).or_default();
                }
                Job::Park { .. } => {}
            }
        }
        group
    }

    /// Adds the shared rows that the jobs want in view of their own rows.
    pub(super) fn name_shared_rows(&mut self) {
        for job in self.jobs {
            let Job::Transact { work, .. } = job else {
                continue;
            };
            if self.receipt_if_done(work.as_ref()).is_some() {
                continue;
            }
            let (owner, order_id) = work.own_row();
            let own = self.order_rows.get(&(order_id, owner));
            // Whoever panics here does so again when it is its turn, and is told then.
            let names = wanted(work.as_ref(), own).unwrap_or_default();
            for name in names {
                self.shared_rows.entry((owner, name)).or_default();
            }
        }
    }

    /// Runs the jobs in turn; the outcomes of those that were done. The first one that wants a shared row that is not
    /// loaded, since an earlier job has changed its own row, ends this group and begins the next one.
    pub(super) fn run(&mut self) -> Vec<Outcome> {
        let jobs = self.jobs;
        jobs.iter().map_while(|job| self.run_job(job)).collect()
    }

    fn run_job(&mut self, job: &'a Job) -> Option<Outcome> {
        match job {
            Job::Transact { work, .. } => return self.transact(work.as_ref()),
            Job::Published { key, step } => self.published(key, *step),
            Job::Park { parked, .. } => {
                self.parked.entry(parked.id).or_insert(parked);
            }
        }
        Some(Ok(Receipt::default()))
    }

    /// What to answer if the guard says that the work is done already.
    fn receipt_if_done(&self, work: &dyn Work) -> Option<Receipt> {
        let (owner, order_id) = work.own_row();
        let pending = self.pending.get(work.key());
        let pending = pending.map(|tracked| &tracked.row.pending);
        let done = match work.guard() {
            Guard::NewEvent => self
                .order_rows
                .get(&(order_id, owner))
                .is_some_and(|own| inbox::knows(&own.row.inbox, work.key())),
            Guard::PendingIntent { step } => {
                pending.is_none_or(|pending| pending.intent.is_none() || pending.step != step)
            }
        };
        done.then(|| Receipt {
            answer: None,
            pending: pending.cloned().unwrap_or_default(),
        })
    }

    fn transact(&mut self, work: &'a dyn Work) -> Option<Outcome> {
        if let Some(receipt) = self.receipt_if_done(work) {
            return Some(Ok(receipt));
        }
        let (owner, order_id) = work.own_row();
        let own = self.order_rows.get(&(order_id, owner));
        let Ok(names) = wanted(work, own) else {
            return Some(Err(panicked()));
        };
        let mut loaded = Loaded {
            own: own.and_then(|own| own.row.body.clone()),
            ..Loaded::default()
        };
        for name in names {
            let place = (owner, name);
            let shared = self.shared_rows.get(&place)?;
            if shared.exists || shared.changed {
                loaded.shared.insert(place.1, shared.row.clone());
            }
        }
        // A panicking decision is a bug; it must not take the store away from everybody else.
        let change = catch_unwind(AssertUnwindSafe(|| work.apply(&loaded)));
        Some(match change {
            Ok(Change::Nothing(answer)) => Ok(Receipt {
                answer: Some(answer),
                pending: Pending::default(),
            }),
            Ok(Change::Write(writes)) => Ok(self.write(work, *writes)),
            Err(_) => Err(panicked()),
        })
    }

    fn write(&mut self, work: &'a dyn Work, writes: Writes) -> Receipt {
        let (key, (owner, order_id)) = (work.key(), work.own_row());
        let at = writes.at.timestamp_micros();
        let own = self.order_rows.entry((order_id, owner)).or_default();
        own.changed = true;
        let row = &mut own.row;
        if !inbox::knows(&row.inbox, key) {
            row.inbox.push_str(&inbox::line(key));
        }
        row.decided_at = at;
        row.inbox_from.get_or_insert(at);
        if writes.own.is_some() {
            row.body = writes.own;
            (row.due, row.cause) = writes
                .reminder
                .map(|Reminder { at, cause }| (at.timestamp_micros(), cause))
                .unzip();
        }
        for (name, body) in writes.shared {
            let shared = self.shared_rows.entry((owner, name)).or_default();
            (shared.row, shared.changed) = (body, true);
        }
        self.orders
            .extend(writes.summary.map(|summary| (order_id, summary)));
        let owed = self.pending.entry(key).or_default();
        owed.row = PendingRow {
            pending: std::mem::take(&mut owed.row.pending).after(
                work.guard().next_step(),
                writes.outbox,
                writes.intent,
            ),
            at,
        };
        owed.changed = true;
        Receipt {
            answer: Some(writes.answer),
            pending: owed.row.pending.clone(),
        }
    }

    fn published(&mut self, key: &'a Key, step: Step) {
        let owed = self.pending.entry(key).or_default();
        if owed.exists && owed.row.pending.step == step {
            owed.row.pending.outbox = None;
            owed.changed = true;
        }
    }
}

/// The shared rows that a piece of work wants.
fn wanted(work: &dyn Work, own: Option<&Tracked<OrderRow>>) -> std::thread::Result<Vec<String>> {
    let body = own.and_then(|own| own.row.body.as_deref());
    catch_unwind(AssertUnwindSafe(|| work.shared_rows(body)))
}

fn panicked() -> StoreError {
    StoreError::Unavailable("a decision panicked; this is a bug".to_owned())
}
