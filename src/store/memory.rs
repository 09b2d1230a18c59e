//! The store in memory: for tests and trials. It forgets everything with the process.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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
    own: HashMap<OrderId, BTreeMap<&'static str, Own>>,
    shared: BTreeMap<(&'static str, String), Vec<u8>>,
    /// The own rows that have a reminder, earliest first.
    due: BTreeSet<(DateTime<Utc>, &'static str, OrderId)>,
    orders: BTreeMap<OrderId, Summary>,
    pending: BTreeMap<Key, Debt>,
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
    /// How many of the inbox have something pending.
    owing: usize,
}

/// What is pending of a delivery.
#[derive(Debug)]
struct Debt {
    at: DateTime<Utc>,
    order_id: OrderId,
    owner: &'static str,
    pending: Pending,
}

impl MemoryStore {
    fn tables(&self) -> MutexGuard<'_, Tables> {
        // Every change is made by one call that does not panic half way, so a poisoned lock guards whole data.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is pending for an order, and nobody wants to look at it again.
    pub fn is_done_with(&self, order_id: OrderId) -> bool {
        let tables = self.tables();
        let mut rows = tables.own.get(&order_id).into_iter().flatten();
        rows.all(|(_, own)| own.reminder.is_none() && own.owing == 0)
    }

    /// Forgets an order that the store is done with, lest memory grow with every order of a long simulation.
    pub fn forget(&self, order_id: OrderId) {
        let mut tables = self.tables();
        tables.own.remove(&order_id);
        tables.orders.remove(&order_id);
    }

    /// Whether nothing is kept of any order: what all orders share may be there.
    pub fn holds_no_order(&self) -> bool {
        let tables = self.tables();
        let nobody_waits = tables.due.is_empty() && tables.pending.is_empty();
        tables.own.is_empty() && tables.orders.is_empty() && nobody_waits
    }
}

impl Tables {
    fn own(&self, owner: &str, order_id: OrderId) -> Option<&Own> {
        self.own.get(&order_id)?.get(owner)
    }

    fn own_mut(&mut self, owner: &str, order_id: OrderId) -> Option<&mut Own> {
        self.own.get_mut(&order_id)?.get_mut(owner)
    }

    fn transact(&mut self, work: &dyn Work) -> Receipt {
        let (key, (owner, order_id)) = (work.key(), work.own_row());
        let own = self.own(owner, order_id);
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
        let (key, (owner, order_id)) = (work.key(), work.own_row());
        let own = self.own.entry(order_id).or_default();
        let own = own.entry(owner).or_default();
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
            self.settled(key);
        } else {
            let debt = Debt {
                at: writes.at,
                order_id,
                owner,
                pending: pending.clone(),
            };
            let owes_more = self.pending.insert(key.clone(), debt).is_none();
            if let Some(own) = self.own_mut(owner, order_id) {
                own.owing += usize::from(owes_more);
            }
        }
        Receipt {
            answer: Some(writes.answer),
            pending,
        }
    }

    fn pending(&self, key: &Key) -> Pending {
        self.pending
            .get(key)
            .map(|debt| debt.pending.clone())
            .unwrap_or_default()
    }

    /// Nothing is pending of a delivery any more.
    fn settled(&mut self, key: &Key) {
        if let Some(debt) = self.pending.remove(key)
            && let Some(own) = self.own_mut(debt.owner, debt.order_id)
        {
            own.owing -= 1;
        }
    }

    fn published(&mut self, key: &Key, step: Step) {
        let debt = self.pending.get_mut(key);
        let Some(debt) = debt.filter(|debt| debt.pending.step == step) else {
            return;
        };
        debt.pending.outbox = None;
        if debt.pending.is_empty() {
            self.settled(key);
        }
    }

    fn unfinished(&self, before: DateTime<Utc>, limit: usize) -> Vec<(Key, Pending)> {
        let debts = self.pending.iter();
        let mut due: Vec<_> = debts.filter(|(_, debt)| debt.at < before).collect();
        due.sort_by_key(|(_, debt)| (debt.pending.intent.is_some(), debt.at));
        let due = due.into_iter().take(limit);
        due.map(|(key, debt)| (key.clone(), debt.pending.clone()))
            .collect()
    }

    fn due(&self, until: DateTime<Utc>, limit: usize) -> Vec<Due> {
        let due = self.due.iter().take_while(|(at, ..)| *at <= until);
        let found = due.filter_map(|(_, owner, order_id)| {
            let reminder = self.own(owner, *order_id)?.reminder.clone()?;
            Some(Due {
                owner: (*owner).to_owned(),
                order_id: *order_id,
                reminder,
            })
        });
        found.take(limit).collect()
    }

    fn forget_inboxes(&mut self, before: DateTime<Utc>, limit: usize) -> usize {
        let rows = self.own.iter_mut().flat_map(|(order_id, rows)| {
            let place = move |owner: &&'static str| (*order_id, *owner);
            rows.iter_mut().map(move |(owner, own)| (place(owner), own))
        });
        let old = rows.filter(|(_, own)| own.inbox_from.is_some_and(|from| from < before));
        let mut old: Vec<_> = old.collect();
        old.sort_by_key(|(place, own)| (own.inbox_from, *place));
        old.truncate(limit);
        for (_, own) in &mut old {
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
            .own(owner, order_id)
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
