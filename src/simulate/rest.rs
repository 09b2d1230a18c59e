//! Orders that have come to rest: whether they have come to their end, whether a replay leaves them as they are, and
//! when they are let go of, so that memory does not grow with the number of orders.

use futures_util::FutureExt;

use crate::{
    events::OrderId,
    sales::{
        State, billing::Billing, inventory::Inventory, orders::OrderView, payment::Payment,
        shipping::Shipping,
    },
    store::Store,
};

use super::{account::Account, invariants::Invariant, runner::Runner};

/// How likely the archive of an order that has come to its end is replayed, in percent.
const REPLAYED: u8 = 12;

/// Whose rows an order has.
const OWNERS: [&str; 5] = [
    Billing::OWNER,
    Payment::OWNER,
    Inventory::OWNER,
    Shipping::OWNER,
    OrderView::OWNER,
];

impl Runner {
    /// Looks after orders that have come to rest.
    pub(super) fn settle(&mut self) {
        let mut resting = std::mem::take(&mut self.world.lock().resting);
        if std::mem::take(&mut self.swept) {
            resting.append(&mut self.owing);
        }
        for number in resting {
            self.rest(number);
        }
        if !self.ended.is_empty() {
            self.forget();
        }
    }

    /// An order has nothing under way. Unless the store owes something for it, it must have come to its end.
    fn rest(&mut self, number: u64) {
        let mut world = self.world.lock();
        let now = world.agenda.now();
        let Some(account) = world.accounts.get_mut(number) else {
            return;
        };
        if account.under_way > 0 {
            return;
        }
        if !self.rows.is_done_with(account.order.order_id) {
            self.owing.push(number);
            return;
        }
        account.rested = now;
        let before = account.at_rest.take();
        let replays = before.is_none() && !account.replayed && account.random.percent(REPLAYED);
        account.replayed = true;
        if replays || before.is_some() {
            let snapshot = account.snapshot(self.rows_of(account.order.order_id));
            if let Some(before) = before {
                world.check_replay(number, &before, &snapshot);
            } else {
                account.at_rest = Some(snapshot);
            }
        }
        world.check_rest(number);
        if replays {
            world.replay(number);
        } else {
            self.ended.push_back((now, number));
        }
    }

    fn rows_of(&self, order_id: OrderId) -> Vec<Option<Vec<u8>>> {
        let row = |owner: &&'static str| self.rows.row(owner, order_id).now_or_never()?.ok()?;
        OWNERS.iter().map(row).collect()
    }

    /// Lets go of orders that have come to their end, unless a sweep may still be at them.
    fn forget(&mut self) {
        let mut world = self.world.lock();
        let oldest_sweep = self.sweeps.first_key_value();
        while let Some((rested, number)) = self.ended.front().copied() {
            if oldest_sweep.is_some_and(|(_, started)| *started <= rested) {
                return;
            }
            self.ended.pop_front();
            // If a sweep had something for it after all, it comes to rest again.
            let at_rest = |account: &&Account| account.under_way == 0 && account.rested == rested;
            if let Some(account) = world.accounts.get(number).filter(at_rest) {
                self.rows.forget(account.order.order_id);
                world.leave(number);
            }
        }
    }

    /// Nothing is to happen any more.
    pub(super) fn check_nothing_left(&self) {
        let mut world = self.world.lock();
        let (orders, letters) = (world.accounts.len(), world.letters.len());
        let store_is_empty = self.rows.holds_no_order();
        let nothing = orders == 0 && letters == 0 && store_is_empty;
        let oldest = world.accounts.oldest().map(|(number, _)| number);
        let number = oldest.unwrap_or(world.scenario.first);
        world.check(number, Invariant::NothingLeft, nothing, || {
            format!("{orders} orders and {letters} letters are under way, the store is empty: {store_is_empty}")
        });
    }
}
