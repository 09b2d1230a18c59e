//! The store in memory: for tests and trials. It forgets everything with the process.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use futures_util::future::{BoxFuture, ready};
use uuid::Uuid;

use crate::{
    events::OrderId,
    sales::{status::Summary, verdict::SharedRows},
};

use super::{Change, Guard, Key, Loaded, OrderQuery, Parked, Pending, Receipt, Step, Store, StoreError, Work, Writes};

/// The store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    own: BTreeMap<(&'static str, OrderId), Vec<u8>>,
    shared: BTreeMap<(&'static str, String), Vec<u8>>,
    orders: BTreeMap<OrderId, Summary>,
    inbox: BTreeMap<Key, DateTime<Utc>>,
    outbox: BTreeMap<(Key, Step), (DateTime<Utc>, Vec<u8>)>,
    intents: BTreeMap<Key, (DateTime<Utc>, Step, Vec<u8>)>,
    parked: BTreeMap<Uuid, Parked>,
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change is made by one call that does not panic half way, so a poisoned lock guards whole data.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn transact(&mut self, work: &dyn Work) -> Receipt {
        let key = work.key();
        let done = match work.guard() {
            Guard::NewEvent => self.inbox.contains_key(key),
            Guard::PendingIntent { step } => self.intents.get(key).is_none_or(|(_, pending, _)| *pending != step),
        };
        if done {
            return Receipt { answer: None, pending: self.pending(key) };
        }
        let (owner, order_id) = work.own_row();
        let own = self.own.get(&(owner, order_id)).cloned();
        let mut shared = SharedRows::new();
        for name in work.shared_rows(own.as_deref()) {
            if let Some(row) = self.shared.get(&(owner, name.clone())) {
                shared.insert(name, row.clone());
            }
        }
        match work.apply(&Loaded { own, shared }) {
            Change::Nothing(answer) => Receipt { answer: Some(answer), pending: Pending::default() },
            Change::Write(writes) => {
                let answer = writes.answer.clone();
                self.write(work, *writes);
                Receipt { answer: Some(answer), pending: self.pending(key) }
            }
        }
    }

    fn write(&mut self, work: &dyn Work, writes: Writes) {
        let (owner, order_id) = work.own_row();
        let key = work.key();
        let step = match work.guard() {
            Guard::NewEvent => 0,
            Guard::PendingIntent { step } => step,
        };
        self.own.extend(writes.own.map(|own| ((owner, order_id), own)));
        self.shared.extend(writes.shared.into_iter().map(|(name, row)| ((owner, name), row)));
        self.orders.extend(writes.summary.map(|summary| (order_id, summary)));
        self.inbox.entry(key.clone()).or_insert(writes.at);
        self.outbox.extend(writes.outbox.map(|events| ((key.clone(), step), (writes.at, events))));
        self.intents.remove(key);
        self.intents.extend(writes.intent.map(|intent| (key.clone(), (writes.at, step + 1, intent))));
    }

    fn pending(&self, key: &Key) -> Pending {
        let steps = (key.clone(), Step::MIN)..=(key.clone(), Step::MAX);
        Pending {
            outbox: self.outbox.range(steps).map(|((_, step), (_, events))| (*step, events.clone())).collect(),
            intent: self.intents.get(key).map(|(_, step, intent)| (*step, intent.clone())),
        }
    }

    fn unfinished(&self, before: DateTime<Utc>, limit: usize) -> Vec<(Key, Pending)> {
        let outbox = self.outbox.iter().map(|((key, _), (at, _))| (*at, key));
        let intents = self.intents.iter().map(|(key, (at, _, _))| (*at, key));
        let mut due: Vec<_> = outbox.chain(intents).filter(|(at, _)| *at < before).collect();
        due.sort();
        due.dedup_by_key(|(_, key)| *key);
        due.into_iter().take(limit).map(|(_, key)| (key.clone(), self.pending(key))).collect()
    }

    fn orders(&self, query: OrderQuery) -> Vec<Summary> {
        let place = |summary: &Summary| (summary.placed_at, summary.order_id);
        let after = query.after.and_then(|id| self.orders.get(&id)).map(place);
        let mut orders: Vec<_> = self
            .orders
            .values()
            .filter(|summary| query.status.is_none_or(|status| status == summary.status))
            .filter(|summary| after.is_none_or(|after| place(summary) < after))
            .copied()
            .collect();
        orders.sort_by_key(|summary| std::cmp::Reverse(place(summary)));
        orders.truncate(query.limit);
        orders
    }
}

impl Store for MemoryStore {
    fn transact(&self, work: Box<dyn Work>) -> BoxFuture<'_, Result<Receipt, StoreError>> {
        Box::pin(async move { Ok(self.tables().transact(work.as_ref())) })
    }

    fn published(&self, key: &Key, step: Step) {
        self.tables().outbox.remove(&(key.clone(), step));
    }

    fn park(&self, parked: Parked) -> BoxFuture<'_, Result<(), StoreError>> {
        self.tables().parked.entry(parked.id).or_insert(parked);
        Box::pin(ready(Ok(())))
    }

    fn unfinished(&self, before: DateTime<Utc>, limit: usize) -> BoxFuture<'_, Result<Vec<(Key, Pending)>, StoreError>> {
        Box::pin(ready(Ok(self.tables().unfinished(before, limit))))
    }

    fn row(&self, owner: &'static str, order_id: OrderId) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(ready(Ok(self.tables().own.get(&(owner, order_id)).cloned())))
    }

    fn orders(&self, query: OrderQuery) -> BoxFuture<'_, Result<Vec<Summary>, StoreError>> {
        Box::pin(ready(Ok(self.tables().orders(query))))
    }

    fn parked(&self, order_id: OrderId) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>> {
        let tables = self.tables();
        let parked = tables.parked.values().filter(|parked| parked.order_id == Some(order_id));
        Box::pin(ready(Ok(parked.cloned().collect())))
    }
}
