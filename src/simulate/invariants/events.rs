//! What is published, delivered and said.

use bytes::Bytes;
use cloudevents::{AttributesReader, Event, event::ExtensionValue};

use crate::{
    events::{OrderCancelRequested, OrderPlaced, Payload, event_id, short_name},
    simulate::{
        account::Account,
        agenda::{Micros, SECOND},
        customers::CONFIDENTIAL,
        world::World,
    },
    store::Parked,
};

use super::Invariant;

/// How long a delivery may run, apart from a store that stalls.
const BUDGET: Micros = 25 * SECOND;

/// The most attempts that an event is looked for under.
const MOST_ATTEMPTS: u32 = 20;

impl World {
    /// The topic is sent an event in bytes that it has not seen. Whether it is new.
    pub(in crate::simulate) fn check_event(
        &mut self,
        number: u64,
        event: &Event,
        bytes: &Bytes,
    ) -> bool {
        let Some(account) = self.accounts.get(number) else {
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
    pub(in crate::simulate) fn check_acknowledged(
        &mut self,
        number: u64,
        function: &str,
        event: &Event,
    ) {
        let Some(account) = self.accounts.get(number) else {
            return;
        };
        let Some(decided) = account.decided(function, event.source(), event.id()) else {
            self.check(number, Invariant::AcknowledgedWhenDone, false, || {
                let (event, id) = (event.ty(), event.id());
                format!("{function} acknowledges {event} {id} without a decision")
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
                let (event, id) = (event.ty(), event.id());
                format!(
                    "{function} acknowledges {event} {id}; all published {published}, effect open {intends}"
                )
            },
        );
    }

    /// Something is kept because it can never succeed.
    pub(in crate::simulate) fn parked(&mut self, parked: Parked) {
        self.counts.parked += 1;
        let number = self.running.order.unwrap_or(self.scenario.first);
        self.check_discreet(number, "the reason for parking", &parked.reason);
        if let Some(account) = self.accounts.get_mut(number) {
            let event_id = parked.event_id.unwrap_or_default();
            account.parked.push((parked.function, event_id));
        }
    }

    /// Whether what a function refused is kept.
    pub(in crate::simulate) fn is_parked(&self, number: u64, function: &str, id: &str) -> bool {
        let account = self.accounts.get(number);
        account.is_some_and(|account| {
            let mut parked = account.parked.iter();
            parked.any(|(known, event)| known == function && event == id)
        })
    }

    /// Something is told to somebody who may not know everything.
    pub(in crate::simulate) fn check_discreet(&mut self, number: u64, place: &str, text: &str) {
        let told = CONFIDENTIAL
            .into_iter()
            .find(|secret| text.contains(secret));
        self.check(number, Invariant::Discreet, told.is_none(), || {
            format!("{place} tells {:?}: {text}", told.unwrap_or_default())
        });
    }

    /// A delivery was answered after that time, stalls taken off.
    pub(in crate::simulate) fn check_budget(&mut self, number: u64, elapsed: Micros) {
        self.check(number, Invariant::WithinBudget, elapsed <= BUDGET, || {
            format!("answered after {} s", elapsed / SECOND)
        });
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
