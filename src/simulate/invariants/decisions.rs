//! What is decided and committed.

use cloudevents::AttributesReader;
use serde::Deserialize;

use crate::{
    events::{OrderCancelRequested, OrderId, Payload, StockShortage, event_id},
    sales::{
        Effect, State,
        inventory::{Inventory, Level},
        orders::OrderView,
        shipping::Shipping,
        status::Status,
    },
    simulate::{account::Decided, bugs::plain_id, customers, outside, world::World},
    store::{Guard, Key, Loaded, Writes},
};

use super::Invariant;

/// The part of a committed intent that tells the effect.
#[derive(Deserialize)]
struct Committed {
    effect: Effect,
}

impl World {
    /// A decision is being committed.
    pub(in crate::simulate) fn decided(
        &mut self,
        key: &Key,
        guard: Guard,
        (owner, order): (&'static str, OrderId),
        loaded: &Loaded,
        writes: &Writes,
    ) {
        let number = customers::number(order);
        self.counts.decisions += 1;
        self.note(number, || format!("  {owner}: {:?}", writes.answer));
        self.check_inbox(number, key, guard, writes);
        if owner == Inventory::OWNER {
            self.check_stock(number, loaded, writes);
        }
        if owner == OrderView::OWNER
            && let Some(summary) = writes.summary
        {
            self.check_status(number, summary.status);
        }
        if owner == Shipping::OWNER {
            self.close_shipping(number, order, key);
        }
        if let Some(intent) = &writes.intent {
            self.intended(number, intent);
        }
        if writes.intent.is_some() || writes.outbox.is_some() {
            self.wake_sweep();
        }
    }

    fn check_inbox(&mut self, number: u64, key: &Key, guard: Guard, writes: &Writes) {
        let Some(account) = self.accounts.get_mut(number) else {
            return;
        };
        let outbox = writes.outbox.clone();
        let intends = writes.intent.is_some();
        let id = plain_id(&key.id);
        let known = account
            .decided
            .iter_mut()
            .find(|known| known.is_of(&key.function, &key.source, id));
        let again = known.is_some() && guard == Guard::NewEvent;
        if let Some(known) = known {
            known.outboxes.extend(outbox);
            known.intends = intends;
        } else {
            account.decided.push(Decided {
                key: Key {
                    id: id.to_owned(),
                    ..key.clone()
                },
                outboxes: outbox.into_iter().collect(),
                intends,
            });
        }
        self.check(number, Invariant::DecidedOnce, !again, || {
            format!("{} decides again on {id}", key.function)
        });
    }

    /// Each article's pieces are conserved, and what is set aside for the order is all of it or nothing.
    fn check_stock(&mut self, number: u64, loaded: &Loaded, writes: &Writes) {
        for (sku, row) in &writes.shared {
            let opening = sku
                .clone()
                .try_into()
                .ok()
                .and_then(|sku| self.catalog.stock.get(&sku).copied())
                .unwrap_or_default();
            let read = |row: &Vec<u8>| serde_json::from_slice::<Level>(row).ok();
            let before = loaded.shared.get(sku).map_or(Some((0, 0)), |row| {
                read(row).map(|level| (level.reserved, level.shipped))
            });
            let (Some(before), Some(after)) = (before, read(row)) else {
                self.check(number, Invariant::StockConserved, false, || {
                    format!("the stock row of {sku} cannot be read")
                });
                continue;
            };
            let total = after.on_hand.checked_add(after.reserved);
            let total = total.and_then(|total| total.checked_add(after.shipped));
            self.check(
                number,
                Invariant::StockConserved,
                total == Some(opening),
                || format!("{sku}: there were {opening}, now {after:?}"),
            );
            let Some(account) = self.accounts.get_mut(number) else {
                continue;
            };
            let held = account.held.entry(sku.clone()).or_default();
            *held = (*held + after.reserved).wrapping_sub(before.0);
            let shipped = account.shipped.entry(sku.clone()).or_default();
            *shipped = (*shipped + after.shipped).wrapping_sub(before.1);
            let (held, shipped) = (*held, *shipped);
            let wanted = account.pieces().get(sku).copied().unwrap_or_default();
            let whole = matches!((held, shipped), (0, 0))
                || held + shipped == wanted && (held == 0 || shipped == 0);
            self.check(number, Invariant::StockConserved, whole, || {
                format!("{sku}: {wanted} wanted, {held} set aside, {shipped} shipped")
            });
        }
    }

    fn check_status(&mut self, number: u64, status: Status) {
        let Some(account) = self.accounts.get_mut(number) else {
            return;
        };
        let before = account.status.replace(status);
        let moved = before != Some(status);
        let is_final = matches!(
            before,
            Some(Status::Completed | Status::Cancelled | Status::Refunded)
        );
        if moved {
            self.note(number, || format!("  status {}", status.as_str()));
        }
        self.check(number, Invariant::FinalStatus, !(is_final && moved), || {
            format!("{before:?} becomes {status:?}")
        });
    }

    /// Shipping learns that the parcel is not to leave.
    fn close_shipping(&mut self, number: u64, order: OrderId, key: &Key) {
        let Some(account) = self.accounts.get_mut(number) else {
            return;
        };
        let learnt = account.event(&key.id).map(|known| known.event.ty());
        let closes = learnt.is_some_and(|event| {
            [OrderCancelRequested::TYPE, StockShortage::TYPE].contains(&event)
        });
        if closes && !account.intents.contains(&event_id(order, "dispatch", 1)) {
            account.shipping_closed = true;
        }
    }

    fn intended(&mut self, number: u64, intent: &[u8]) {
        let Ok(Committed { effect }) = serde_json::from_slice(intent) else {
            self.check(number, Invariant::IntentFirst, false, || {
                "the committed intent cannot be read".to_owned()
            });
            return;
        };
        self.note(number, || format!("  intent: {}", outside::name(&effect)));
        let Some(account) = self.accounts.get_mut(number) else {
            return;
        };
        account.intents.push(effect.idempotency_key());
        if matches!(effect, Effect::Dispatch(_)) {
            let (captured, refunded) = (!account.captures.is_empty(), !account.refunds.is_empty());
            let reserved = account.held == account.pieces();
            let closed = account.shipping_closed;
            let may_leave = captured && reserved && !refunded && !closed;
            self.check(number, Invariant::DispatchGate, may_leave, || {
                format!("captured {captured}, reserved {reserved}, refunded {refunded}, cancelled {closed}")
            });
        }
    }
}
