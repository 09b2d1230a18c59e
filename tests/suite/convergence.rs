//! What is known of an order does not depend on the order in which its events arrive, or how often.

use std::collections::BTreeSet;

use orderflow::{
    events::{InvoiceVoided, Outgoing, PaymentDeclined, ReasonCode, Role, StockReleased, samples},
    functions::event_named,
    sales::{
        orders::OrderView,
        status::{Fact, Facts, Status},
    },
};
use proptest::{prelude::*, sample};
use serde_json::json;

use crate::search::{FOUND, view_of};

/// Up to this many events, every order of arrival is tried.
const EXHAUSTIVE: usize = 4;

/// Calls `visit` with every permutation (Heap's algorithm).
fn permutations<T>(items: &mut [T], size: usize, visit: &mut impl FnMut(&[T])) {
    if size <= 1 {
        return visit(items);
    }
    for index in 0..size {
        permutations(items, size - 1, visit);
        let other = if size.is_multiple_of(2) { index } else { 0 };
        items.swap(other, size - 1);
    }
}

/// All that may be told about an order, as far as nobody has announced a result yet. A result is announced once,
/// for the facts that are known then, so that the history may hold another one.
fn told(mut view: OrderView) -> impl PartialEq + std::fmt::Debug {
    let result = |name: &str| event_named(name).is_some_and(|known| known.role == Role::Result);
    view.history.retain(|entry| !result(&entry.event));
    (
        (
            view.facts.status(),
            view.facts.legs(),
            view.facts.awaiting(),
        ),
        (
            view.facts,
            view.reason,
            view.order,
            view.placed_at,
            view.history,
        ),
    )
}

#[test]
fn every_order_of_arrival_tells_the_same_with_duplicates() {
    let sets: BTreeSet<Vec<_>> = FOUND
        .iter()
        .flat_map(|found| &found.sets)
        .filter(|set| set.len() <= EXHAUSTIVE)
        .map(|set| set.iter().map(Outgoing::id).collect())
        .collect();
    assert!(sets.len() > 20, "{} small sets", sets.len());
    let mut seen = BTreeSet::new();
    for set in FOUND.iter().flat_map(|found| &found.sets) {
        let ids: Vec<_> = set.iter().map(Outgoing::id).collect();
        if set.len() > EXHAUSTIVE || !seen.insert(ids) {
            continue;
        }
        let mut events: Vec<_> = set.iter().collect();
        let expected = told(view_of(&events).0);
        let size = events.len();
        permutations(&mut events, size, &mut |arrived| {
            let again: Vec<_> = arrived.iter().chain(arrived).copied().collect();
            assert_eq!(told(view_of(&again).0), expected, "{arrived:?}");
        });
    }
}

/// A large set of events that one order can have, in any order, with some of them twice.
fn arrivals() -> impl Strategy<Value = (Vec<&'static Outgoing>, Vec<&'static Outgoing>)> {
    let large: Vec<_> = FOUND
        .iter()
        .flat_map(|found| &found.sets)
        .filter(|set| set.len() > EXHAUSTIVE)
        .collect();
    sample::select(large).prop_flat_map(|set| {
        let all: Vec<_> = set.iter().collect();
        let twice = sample::subsequence(all.clone(), 0..=all.len());
        let arrived = twice.prop_map({
            let all = all.clone();
            move |twice| all.iter().copied().chain(twice).collect::<Vec<_>>()
        });
        (Just(all), arrived.prop_shuffle())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_order_of_arrival_tells_the_same_with_duplicates((all, arrived) in arrivals()) {
        prop_assert_eq!(told(view_of(&arrived).0), told(view_of(&all).0));
    }
}

#[test]
fn an_order_awaits_something_until_it_is_over() {
    for set in FOUND.iter().flat_map(|found| &found.sets) {
        let facts = view_of(&set.iter().collect::<Vec<_>>()).0.facts;
        let (status, awaiting) = (facts.status(), facts.awaiting());
        let done = status.is_over() && status != Status::NeedsAttention;
        assert!(
            done == awaiting.is_empty() || status == Status::NeedsAttention,
            "{status:?} awaits {awaiting:?} of {facts:?}"
        );
        let known = |name: &&str| set.iter().any(|event| event.event_type.ends_with(name));
        assert!(
            !awaiting
                .iter()
                .any(|name| *name != "PaymentDeclined" && known(name)),
            "{awaiting:?} of {facts:?}"
        );
    }
}

/// Once, an entry that was as old as the result found no certain place in the history.
#[test]
fn events_of_one_moment_stand_in_one_order() {
    let order_id = samples::ORDER_ID;
    let declined = |attempt| {
        let payload = PaymentDeclined {
            order_id,
            reason_code: ReasonCode::CardDeclined,
            detail: String::new(),
            retryable: attempt == 1,
            attempt,
        };
        Outgoing::attempt(&payload, attempt)
    };
    let voided = Outgoing::once(&InvoiceVoided {
        order_id,
        invoice_id: order_id.0,
        reason_code: ReasonCode::CardDeclined,
    });
    let released = Outgoing::once(&StockReleased {
        order_id,
        reservation_id: None,
        reason_code: ReasonCode::CardDeclined,
    });
    let (first, second) = (declined(1), declined(2));
    let expected = told(view_of(&[&first, &second, &voided, &released]).0);
    for arrived in [
        [&first, &voided, &released, &second],
        [&second, &voided, &released, &first],
    ] {
        assert_eq!(told(view_of(&arrived).0), expected, "{arrived:?}");
    }
}

const FACTS: [Fact; 18] = [
    Fact::Placed,
    Fact::Billed,
    Fact::BillingRejected,
    Fact::InvoiceVoided,
    Fact::CreditNoteIssued,
    Fact::PaymentDeclined,
    Fact::PaymentGivenUp,
    Fact::Paid,
    Fact::Refunded,
    Fact::RefundFailed,
    Fact::StockReserved,
    Fact::StockShort,
    Fact::StockReleased,
    Fact::ShipmentPrepared,
    Fact::ShipmentDispatched,
    Fact::ShipmentFailed,
    Fact::ShipmentCancelled,
    Fact::CancelRequested,
];

fn facts(known: &[Fact]) -> Facts {
    let mut facts = Facts::default();
    for fact in known {
        facts.add(*fact);
    }
    facts
}

/// All subsets of up to three facts, possible or not, in every order.
#[test]
fn facts_merge_in_every_order() {
    for first in FACTS {
        for second in FACTS {
            for third in FACTS {
                let mut sorted = [first, second, third];
                sorted.sort_unstable();
                let (one, other) = (facts(&[first, second, third]), facts(&sorted));
                assert_eq!(one.status(), other.status());
                assert_eq!(one.legs(), other.legs());
            }
        }
    }
}

/// A result that was told stays, whatever arrives later: of the facts of any final state, every subset may be what is
/// known at some moment.
#[test]
fn a_result_is_never_taken_back() {
    let finals = FOUND.iter().flat_map(|found| &found.finals);
    let known = finals.map(|end| end.view().facts);
    let known: BTreeSet<Vec<Fact>> = known
        .map(|facts| serde_json::from_value(json!(facts)).unwrap())
        .collect();
    for all in known {
        let result = facts(&all).status();
        for chosen in 0..1_u32 << all.len() {
            let some = all.iter().enumerate();
            let some = some.filter(|(place, _)| chosen & 1 << place != 0);
            let some: Vec<_> = some.map(|(_, fact)| *fact).collect();
            let status = facts(&some).status();
            assert!(
                !status.is_over() || status == result,
                "{status:?} of {some:?}, then {result:?} of {all:?}"
            );
        }
    }
}
