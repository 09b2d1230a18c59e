//! The store in memory: for tests and trials. It forgets everything with the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use futures_util::future::{BoxFuture, ready};
use uuid::Uuid;

use crate::{
    events::OrderId,
    sales::{status::Summary, verdict::SharedRows},
};

use super::{
    Change, Due, Guard, Key, Loaded, OrderQuery, Parked, Pending, Receipt, Reminder, Step, Store,
    StoreError, Work, Writes,
};

/// The store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    own: BTreeMap<(OrderId, &'static str), Own>,
    shared: BTreeMap<(&'static str, String), Vec<u8>>,
    /// The own rows that have a reminder, earliest first.
    due: BTreeSet<(DateTime<Utc>, &'static str, OrderId)>,
    orders: BTreeMap<OrderId, Summary>,
    pending: BTreeMap<Key, (DateTime<Utc>, Pending)>,
    parked: BTreeMap<Uuid, Parked>,
}

/// A service's own row of an order.
#[derive(Debug, Default)]
struct Own {
    body: Option<Vec<u8>>,
    reminder: Option<Reminder>,
    inbox: BTreeSet<Key>,
    decided_at: DateTime<Utc>,
    /// When the inbox began or was last looked at, unless it is forgotten.
    inbox_from: Option<DateTime<Utc>>,
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change is made by one call that does not panic half way, so a poisoned lock guards whole data.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is pending for an order, and nobody wants to look at it again.
    pub fn is_done_with(&self, order_id: OrderId) -> bool {
        let tables = self.tables();
        tables.rows_of(order_id).all(|(_, own)| {
            let pending = |key| tables.pending.contains_key(key);
            own.reminder.is_none() && !own.inbox.iter().any(pending)
        })
    }

    /// Forgets an order that the store is done with, lest memory grow with every order of a long simulation.
    pub fn forget(&self, order_id: OrderId) {
        let mut tables = self.tables();
        let rows: Vec<_> = tables.rows_of(order_id).map(|(row, _)| *row).collect();
        for row in rows {
            tables.own.remove(&row);
        }
        tables.orders.remove(&order_id);
    }
}

impl Tables {
    fn rows_of(&self, order_id: OrderId) -> impl Iterator<Item = (&(OrderId, &'static str), &Own)> {
        let of_order = move |row: &(&(OrderId, &str), &Own)| row.0.0 == order_id;
        self.own.range((order_id, "")..).take_while(of_order)
    }

    fn transact(&mut self, work: &dyn Work) -> Receipt {
        let (key, (owner, order_id)) = (work.key(), work.own_row());
        let own = self.own.get(&(order_id, owner));
        let pending = self.pending(key);
        let done = match work.guard() {
            Guard::NewEvent => own.is_some_and(|own| own.inbox.contains(key)),
            Guard::PendingIntent { step } => pending.intent.is_none() || pending.step != step,
        };
        if done {
            return Receipt {
                answer: None,
                pending,
            };
        }
        let own = own.and_then(|own| own.body.clone());
        let mut shared = SharedRows::new();
        for name in work.shared_rows(own.as_deref()) {
            if let Some(row) = self.shared.get(&(owner, name.clone())) {
                shared.insert(name, row.clone());
            }
        }
        match work.apply(&Loaded { own, shared }) {
            Change::Nothing(answer) => Receipt {
                answer: Some(answer),
                pending: Pending::default(),
            },
            Change::Write(writes) => self.write(work, pending, *writes),
        }
    }

    fn write(&mut self, work: &dyn Work, pending: Pending, writes: Writes) -> Receipt {
        let (key, (owner, order_id)) = (work.key().clone(), work.own_row());
        let own = self.own.entry((order_id, owner)).or_default();
        own.inbox.insert(key.clone());
        own.decided_at = writes.at;
        own.inbox_from.get_or_insert(writes.at);
        if let Some(body) = writes.own {
            own.body = Some(body);
            let place = |reminder: &Reminder| (reminder.at, owner, order_id);
            if let Some(earlier) = &own.reminder {
                self.due.remove(&place(earlier));
            }
            self.due.extend(writes.reminder.as_ref().map(place));
            own.reminder = writes.reminder;
        }
        self.shared.extend(
            writes
                .shared
                .into_iter()
                .map(|(name, row)| ((owner, name), row)),
        );
        self.orders
            .extend(writes.summary.map(|summary| (order_id, summary)));
        let pending = pending.after(work.guard().next_step(), writes.outbox, writes.intent);
        if pending.is_empty() {
            self.pending.remove(&key);
        } else {
            self.pending.insert(key, (writes.at, pending.clone()));
        }
        Receipt {
            answer: Some(writes.answer),
            pending,
        }
    }

    fn pending(&self, key: &Key) -> Pending {
        self.pending
            .get(key)
            .map(|(_, pending)| pending.clone())
            .unwrap_or_default()
    }

    fn published(&mut self, key: &Key, step: Step) {
        let Some((_, pending)) = self
            .pending
            .get_mut(key)
            .filter(|(_, pending)| pending.step == step)
        else {
            return;
        };
        pending.outbox = None;
        if pending.is_empty() {
            self.pending.remove(key);
        }
    }

    fn unfinished(&self, before: DateTime<Utc>, limit: usize) -> Vec<(Key, Pending)> {
        let mut due: Vec<_> = self
            .pending
            .iter()
            .filter(|(_, (at, _))| *at < before)
            .collect();
        due.sort_by_key(|(_, (at, _))| *at);
        due.into_iter()
            .take(limit)
            .map(|(key, (_, pending))| (key.clone(), pending.clone()))
            .collect()
    }

    fn due(&self, until: DateTime<Utc>, limit: usize) -> Vec<Due> {
        let due = self.due.iter().take_while(|(at, ..)| *at <= until);
        let found = due.filter_map(|(_, owner, order_id)| {
            let reminder = self.own.get(&(*order_id, *owner))?.reminder.clone()?;
            Some(Due {
                owner: (*owner).to_owned(),
                order_id: *order_id,
                reminder,
            })
        });
        found.take(limit).collect()
    }

    fn forget_inboxes(&mut self, before: DateTime<Utc>, limit: usize) -> usize {
        let old = |own: &&mut Own| own.inbox_from.is_some_and(|from| from < before);
        let mut old: Vec<_> = self.own.values_mut().filter(old).collect();
        old.sort_by_key(|own| own.inbox_from);
        old.truncate(limit);
        for own in &mut old {
            if own.decided_at < before {
                (own.inbox, own.inbox_from) = (BTreeSet::new(), None);
            } else {
                own.inbox_from = Some(own.decided_at);
            }
        }
        old.len()
    }

    fn orders(&self, query: OrderQuery) -> Vec<Summary> {
        let place = |summary: &Summary| (summary.placed_at, summary.order_id);
        // Behind an order that nobody knows there is nothing.
        let behind = |summary: &Summary, after| {
            let after = self.orders.get(&after);
            after.is_some_and(|after| place(summary) < place(after))
        };
        let mut orders: Vec<_> = self
            .orders
            .values()
            .filter(|summary| query.status.is_none_or(|status| status == summary.status))
            .filter(|summary| query.after.is_none_or(|after| behind(summary, after)))
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
        self.tables().published(key, step);
    }

    fn park(&self, parked: Parked) -> BoxFuture<'_, Result<(), StoreError>> {
        self.tables().parked.entry(parked.id).or_insert(parked);
        Box::pin(ready(Ok(())))
    }

    fn unfinished(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Key, Pending)>, StoreError>> {
        Box::pin(ready(Ok(self.tables().unfinished(before, limit))))
    }

    fn due(
        &self,
        until: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Due>, StoreError>> {
        Box::pin(ready(Ok(self.tables().due(until, limit))))
    }

    fn forget_inboxes(
        &self,
        before: DateTime<Utc>,
        limit: usize,
    ) -> BoxFuture<'_, Result<usize, StoreError>> {
        Box::pin(ready(Ok(self.tables().forget_inboxes(before, limit))))
    }

    fn row(
        &self,
        owner: &'static str,
        order_id: OrderId,
    ) -> BoxFuture<'_, Result<Option<Vec<u8>>, StoreError>> {
        Box::pin(ready(Ok(self
            .tables()
            .own
            .get(&(order_id, owner))
            .and_then(|own| own.body.clone()))))
    }

    fn orders(&self, query: OrderQuery) -> BoxFuture<'_, Result<Vec<Summary>, StoreError>> {
        Box::pin(ready(Ok(self.tables().orders(query))))
    }

    fn parked(&self, order_id: OrderId) -> BoxFuture<'_, Result<Vec<Parked>, StoreError>> {
        let tables = self.tables();
        let parked = tables
            .parked
            .values()
            .filter(|parked| parked.order_id == Some(order_id));
        Box::pin(ready(Ok(parked.cloned().collect())))
    }
}
