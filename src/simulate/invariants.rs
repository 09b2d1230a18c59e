//! What must hold, always and at the end.

use std::collections::BTreeMap;

use bytes::Bytes;
use cloudevents::{AttributesReader, Event, event::ExtensionValue};
use serde::Deserialize;

use crate::{
    events::{
        CreditNoteIssued, InvoiceVoided, OrderCancelRequested, OrderId, OrderPlaced, Payload,
        StockShortage, event_id, short_name,
    },
    sales::{
        Effect, State,
        inventory::{Inventory, Level},
        orders::OrderView,
        shipping::Shipping,
        status::Status,
    },
    store::{Guard, Key, Loaded, Writes},
};

use super::{
    account::{Account, Decided, Snapshot},
    agenda::{Micros, SECOND},
    bugs::plain_id,
    customers, outside,
    world::World,
};

/// Declares the invariants with their sentences.
macro_rules! invariants {
    ($( $invariant:ident = $sentence:literal, )*) => {
        /// Something that must hold.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Invariant { $( #[doc = $sentence] $invariant, )* }

        impl Invariant {
            /// Every invariant.
            pub const ALL: &'static [Self] = &[ $( Self::$invariant, )* ];

            /// What must hold, in words.
            pub fn sentence(self) -> &'static str {
                match self { $( Self::$invariant => $sentence, )* }
            }
        }
    };
}

invariants! {
    OneCapture = "an order is captured at most once, for what its invoice asks",
    RefundOfCapture = "at most what was captured is paid back, once",
    StockConserved = "stock is on hand, reserved or shipped, and set aside once per order",
    DispatchGate = "a parcel is dispatched only when it is captured, reserved, not refunded and not cancelled",
    ShippedOrRefunded = "nothing is both shipped and refunded, and nothing is shipped twice",
    StablePayload = "the same event always has the same bytes",
    DerivedId = "there is one event of each order, type and attempt, under the id made from these",
    KnownCause = "every event names its order, its trace and a cause that exists",
    DecidedOnce = "each function decides once on each event",
    FinalStatus = "an order that is completed, cancelled or refunded stays so",
    WithinBudget = "a delivery is answered within its budget",
    IntentFirst = "nobody outside is called before the intent is committed",
    AcknowledgedWhenDone = "a delivery is acknowledged only when everything that follows from it is done",
    PoisonRefused = "a damaged event is refused and kept, a sound one is not refused",
    ComesToAnEnd = "once the faults stop and dead letters are replayed, every order comes to an end",
    AddsUp = "at the end money, stock, invoice and parcel fit the order's status",
    ReplayChangesNothing = "replaying events of an order that has come to its end changes nothing",
}

/// An invariant that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The simulation's seed.
    pub seed: u64,
    /// The number of the order.
    pub order: u64,
    /// What does not hold.
    pub invariant: Invariant,
    /// How it does not.
    pub detail: String,
}

/// How long a delivery may run, apart from a store that stalls.
const BUDGET: Micros = 25 * SECOND;

/// The most attempts that an event is looked for under.
const MOST_ATTEMPTS: u32 = 20;

/// The part of a committed intent that tells the effect.
#[derive(Deserialize)]
struct Committed {
    effect: Effect,
}

impl World {
    /// A decision is being committed.
    pub(super) fn decided(
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
        let key = Key {
            id: plain_id(&key.id).to_owned(),
            ..key.clone()
        };
        let Some(account) = self.accounts.get_mut(&number) else {
            return;
        };
        let outbox = writes.outbox.clone();
        let intends = writes.intent.is_some();
        let known = account.decided.iter_mut().find(|known| known.key == key);
        let again = known.is_some() && guard == Guard::NewEvent;
        if let Some(known) = known {
            known.outboxes.extend(outbox);
            known.intends = intends;
        } else {
            account.decided.push(Decided {
                key: key.clone(),
                outboxes: outbox.into_iter().collect(),
                intends,
            });
        }
        self.check(number, Invariant::DecidedOnce, !again, || {
            format!("{} decides again on {}", key.function, key.id)
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
            let Some(account) = self.accounts.get_mut(&number) else {
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
        let Some(account) = self.accounts.get_mut(&number) else {
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
        let Some(account) = self.accounts.get_mut(&number) else {
            return;
        };
        let closes = [OrderCancelRequested::TYPE, StockShortage::TYPE]
            .iter()
            .any(|event| key.id == event_id(order, event, 1).to_string());
        let dispatching = event_id(order, "dispatch", 1);
        if closes && !account.intents.contains(&dispatching) {
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
        let Some(account) = self.accounts.get_mut(&number) else {
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

    /// What the provider holds of an order.
    pub(super) fn check_money(&mut self, number: u64) {
        let Some(account) = self.accounts.get(&number) else {
            return;
        };
        let (captures, refunds) = (account.captures.clone(), account.refunds.clone());
        let invoiced = account.invoiced();
        let one = captures.len() <= 1 && captures.iter().all(|amount| Some(*amount) == invoiced);
        self.check(number, Invariant::OneCapture, one, || {
            format!("captured {captures:?}, invoiced {invoiced:?}")
        });
        let covered = refunds.is_empty() || refunds == captures;
        self.check(number, Invariant::RefundOfCapture, covered, || {
            format!("captured {captures:?}, paid back {refunds:?}")
        });
    }

    /// What the carrier has of an order.
    pub(super) fn check_parcel(&mut self, number: u64) {
        let Some(account) = self.accounts.get(&number) else {
            return;
        };
        let (parcels, refunded) = (account.parcels, !account.refunds.is_empty());
        let holds = parcels <= 1 && !(parcels == 1 && refunded);
        self.check(number, Invariant::ShippedOrRefunded, holds, || {
            format!("{parcels} parcels, refunded {refunded}")
        });
    }

    /// The topic is sent an event in bytes that it has not seen. Whether it is new.
    pub(super) fn check_event(&mut self, number: u64, event: &Event, bytes: &Bytes) -> bool {
        let Some(account) = self.accounts.get(&number) else {
            self.check(number, Invariant::KnownCause, false, || {
                format!("{} is about an order that nobody placed", event.ty())
            });
            return false;
        };
        let known = account.event(event.id()).map(|known| known.bytes.clone());
        let order = account.order.order_id;
        let cause = cause_problem(account, event);
        if let Some(known) = known {
            self.check(number, Invariant::StablePayload, known == *bytes, || {
                let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).into_owned();
                format!("first {}, then {}", text(&known), text(bytes))
            });
            return false;
        }
        let derived = |attempt| event_id(order, event.ty(), attempt).to_string() == event.id();
        let derived = (1..=MOST_ATTEMPTS).any(derived);
        self.check(number, Invariant::DerivedId, derived, || {
            format!("{} has the id {}", short_name(event.ty()), event.id())
        });
        self.check(number, Invariant::KnownCause, cause.is_none(), || {
            format!("{}: {}", short_name(event.ty()), cause.unwrap_or_default())
        });
        true
    }

    /// A delivery is being acknowledged.
    pub(super) fn check_acknowledged(&mut self, number: u64, key: &Key) {
        let Some(account) = self.accounts.get(&number) else {
            return;
        };
        let Some(decided) = account.decided(key) else {
            self.check(number, Invariant::AcknowledgedWhenDone, false, || {
                format!(
                    "{} acknowledges {} without a decision",
                    key.function, key.id
                )
            });
            return;
        };
        let published = decided
            .outboxes
            .iter()
            .flat_map(|outbox| outbox.split(|byte| *byte == b'\n'))
            .all(|line| account.events.iter().any(|event| event.bytes == line));
        let intends = decided.intends;
        self.check(
            number,
            Invariant::AcknowledgedWhenDone,
            published && !intends,
            || {
                format!(
                    "{} acknowledges {}; everything published {published}, effect open {intends}",
                    key.function, key.id
                )
            },
        );
    }

    /// A delivery was answered after that time, stalls taken off.
    pub(super) fn check_budget(&mut self, number: u64, elapsed: Micros) {
        self.check(number, Invariant::WithinBudget, elapsed <= BUDGET, || {
            format!("answered after {} s", elapsed / SECOND)
        });
    }

    /// An order has nothing under way and owes nothing.
    pub(super) fn check_rest(&mut self, number: u64) {
        let Some(account) = self.accounts.get(&number) else {
            return;
        };
        let status = account.status;
        let ended = matches!(
            status,
            None | Some(
                Status::Completed | Status::Cancelled | Status::Refunded | Status::NeedsAttention
            )
        );
        let fits = account.adds_up();
        let detail = || {
            format!(
                "{status:?}: captured {:?}, paid back {:?}, {} parcels, set aside {:?}, shipped {:?}",
                account.captures, account.refunds, account.parcels, account.held, account.shipped
            )
        };
        let detail = if ended && fits {
            String::new()
        } else {
            detail()
        };
        self.check(number, Invariant::ComesToAnEnd, ended, || detail.clone());
        self.check(number, Invariant::AddsUp, fits || !ended, || detail.clone());
    }

    /// An order whose archive was replayed has nothing under way again.
    pub(super) fn check_replay(&mut self, number: u64, before: &Snapshot, after: &Snapshot) {
        self.check(
            number,
            Invariant::ReplayChangesNothing,
            before == after,
            || format!("before {before:?}, after {after:?}"),
        );
    }
}

/// What is wrong with an event's order, trace or cause.
fn cause_problem(account: &Account, event: &Event) -> Option<String> {
    let text = |name| match event.extension(name) {
        Some(ExtensionValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    if text("correlationid") != Some(account.order.order_id.to_string().as_str()) {
        return Some("another correlationid".to_owned());
    }
    let trace = account.order.order_id.0.simple().to_string();
    if !text("traceparent").is_some_and(|parent| parent.contains(&trace)) {
        return Some("another trace".to_owned());
    }
    match text("causationid") {
        Some(cause) if account.event(cause).is_none() => Some(format!("unknown cause {cause}")),
        None if ![OrderPlaced::TYPE, OrderCancelRequested::TYPE].contains(&event.ty()) => {
            Some("no cause".to_owned())
        }
        _ => None,
    }
}

impl Account {
    /// Whether money, stock, invoice and parcel fit the final status.
    fn adds_up(&self) -> bool {
        let (captures, refunds) = (self.captures.len(), self.refunds.len());
        let none = |pieces: &BTreeMap<String, u64>| pieces.values().all(|count| *count == 0);
        let stock_is_free = none(&self.held) && none(&self.shipped);
        let kept = self.parcels == 0 && stock_is_free;
        let (voided, credited) = (
            self.has_event::<InvoiceVoided>(),
            self.has_event::<CreditNoteIssued>(),
        );
        match self.status {
            None => self.events.is_empty() && captures == 0 && kept,
            Some(Status::Completed) => {
                let left = none(&self.held) && self.shipped == self.pieces();
                (captures, refunds, self.parcels) == (1, 0, 1) && left && !voided && !credited
            }
            Some(Status::Cancelled) => {
                let open = self.invoiced().is_some() && !voided;
                captures == 0 && kept && !open
            }
            Some(Status::Refunded) => (captures, refunds) == (1, 1) && kept && credited,
            Some(Status::NeedsAttention) => {
                self.refund_refused && (captures, refunds) == (1, 0) && kept && credited
            }
            Some(_) => false,
        }
    }
}
