//! The simulated store: the store in memory, reached over a bad connection, and watched.

use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, Utc};
use futures_util::{FutureExt, future::BoxFuture};

use crate::{
    events::OrderId,
    sales::status::Summary,
    store::{
        Change, Due, Guard, Key, Loaded, OrderQuery, Parked, Pending, Receipt, Step, Store,
        StoreError, Work, memory::MemoryStore,
    },
};

use super::{
    agenda::{MILLISECOND, Micros, SECOND},
    bugs::{self, Bug},
    customers,
    faults::Fault,
    world::{SharedWorld, World},
};

/// How long the store's client waits for an answer.
const TIMEOUT: Micros = 4 * SECOND;

/// The store as the application sees it.
pub(super) struct WatchedStore {
    pub(super) world: SharedWorld,
    pub(super) rows: Arc<MemoryStore>,
    pub(super) bug: Option<Bug>,
}

fn refused() -> StoreError {
    StoreError::Unavailable("refused".to_owned())
}

fn no_answer() -> StoreError {
    StoreError::Unavailable("no answer in time".to_owned())
}

/// What goes wrong with one call.
struct CallFaults {
    refused: bool,
    timeout: bool,
    stalled: Option<Micros>,
    unanswered: bool,
}

impl World {
    fn store_faults(&mut self) -> CallFaults {
        let refused = self.strikes(Fault::StoreRefused);
        let timeout = self.strikes(Fault::StoreTimeout);
        let unanswered = self.strikes(Fault::StoreUnanswered);
        let stalled = self
            .strikes(Fault::StoreStalled)
            .then(|| self.latency(31 * SECOND, 120 * SECOND));
        if let Some(stall) = stalled.filter(|_| !refused && !timeout) {
            *self.stalls.entry(self.running.task).or_default() += stall;
        }
        CallFaults {
            refused,
            timeout,
            stalled,
            unanswered,
        }
    }
}

impl WatchedStore {
    /// Makes a call to the store that writes.
    async fn call<T>(&self, run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let world = &self.world;
        world.pause_between(MILLISECOND, 20 * MILLISECOND).await;
        let faults = world.lock().store_faults();
        if faults.refused {
            return Err(refused());
        }
        if faults.timeout {
            world.pause(TIMEOUT).await;
            return Err(no_answer());
        }
        if let Some(stall) = faults.stalled {
            world.pause(stall).await;
        }
        let result = run();
        if faults.unanswered {
            world.pause(TIMEOUT).await;
            return Err(no_answer());
        }
        world.pause_between(MILLISECOND, 20 * MILLISECOND).await;
        result
    }

    /// What stands for a key in the store, if a bug makes that another one.
    fn stored_key(&self, key: &Key, guard: Guard) -> Option<Key> {
        let bug = self.bug?;
        bugs::stored_key(bug, &self.world.lock(), key, guard)
    }

    fn commit(&self, work: Box<dyn Work>) -> Result<Receipt, StoreError> {
        let lost_intent = match self.bug {
            Some(Bug::NoIntent) => Some(Arc::default()),
            _ => None,
        };
        let watched = WatchedWork {
            key: self.stored_key(work.key(), work.guard()),
            work,
            world: self.world.clone(),
            bug: self.bug,
            lost_intent: lost_intent.clone(),
        };
        let mut receipt = ready(self.rows.transact(Box::new(watched)))?;
        if let Some(lost) = lost_intent {
            let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
            receipt.pending.intent = receipt.pending.intent.or(lost.take());
        }
        Ok(receipt)
    }
}

/// What the store in memory has to say: it never waits.
fn ready<T>(answer: BoxFuture<'_, Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.now_or_never().unwrap_or_else(|| Err(no_answer()))
}

impl Store for WatchedStore {
    fn transact(&self, work: Box<dyn Work>) -> BoxFuture<'_, Result<Receipt, StoreError>> {
        Box::pin(self.call(|| self.commit(work)))
    }

    fn published(&self, key: &Key, step: Step) {
        if self.world.lock().strikes(Fault::MarkLost) {
            return;
        }
        let stored = self.stored_key(key, Guard::NewEvent);
        self.rows.published(stored.as_ref().unwrap_or(key), step);
    }

    fn park(&self, parked: Parked) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(self.call(|| {
            self.world.lock().parked(parked);
            Ok(())
        }))
    }

    fn unfinished(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Pending)>, StoreError>> {
        Box::pin(self.call(move || ready(self.rows.unfinished(before, limit))))
    }

    fn due(
        &self,
        until: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        Box::pin(self.call(move || ready(self.rows.due(until, limit))))
    }

    fn forget_inboxes(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(self.call(move || ready(self.rows.forget_inboxes(before, limit))))
    }

    fn row(
        &self,
        owner: &'static str,
        order_id: OrderId,
    ) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(self.call(move || ready(self.rows.row(owner, order_id))))
    }

    fn orders(&self, query: OrderQuery) -> BoxFuture<'_, Result<Vec<Summary>, StoreError>> {
        Box::pin(self.call(move || ready(self.rows.orders(query))))
    }

    fn parked(&self, order_id: OrderId) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>> {
        Box::pin(self.call(move || ready(self.rows.parked(order_id))))
    }
}

/// A piece of work whose decision is watched.
struct WatchedWork {
    work: Box<dyn Work>,
    /// What stands for its key, if a bug makes that another one.
    key: Option<Key>,
    world: SharedWorld,
    bug: Option<Bug>,
    /// Where a bug puts an intent that it keeps out of the store, but not from the caller.
    lost_intent: Option<Arc<Mutex<Option<Vec<u8>>>>>,
}

impl Work for WatchedWork {
    fn key(&self) -> &Key {
        self.key.as_ref().unwrap_or_else(|| self.work.key())
    }

    fn guard(&self) -> Guard {
        match self.bug {
            Some(Bug::NoIntent) => Guard::NewEvent,
            _ => self.work.guard(),
        }
    }

    fn own_row(&self) -> (&'static str, OrderId) {
        self.work.own_row()
    }

    fn shared_rows(&self, own: Option<&[u8]>) -> Vec<String> {
        self.work.shared_rows(own)
    }

    fn apply(&self, loaded: &Loaded) -> Change {
        let (owner, order) = self.own_row();
        let change = match self.bug {
            Some(bug) => self.work.apply(&bugs::seen(bug, owner, loaded)),
            None => self.work.apply(loaded),
        };
        let mut world = self.world.lock();
        let mut writes = match change {
            Change::Nothing(answer) => {
                world.note(customers::number(order), || {
                    format!("  {owner}: {answer:?}")
                });
                return Change::Nothing(answer);
            }
            Change::Write(writes) => writes,
        };
        if self.bug.is_some() {
            bugs::spoil(&mut world, order, self.key(), loaded, &mut writes);
        }
        if let Some(lost) = &self.lost_intent {
            let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
            *lost = writes.intent.take();
        }
        world.decided(
            self.work.key(),
            self.work.guard(),
            (owner, order),
            loaded,
            &writes,
        );
        Change::Write(writes)
    }
}
