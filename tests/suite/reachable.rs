//! Whatever can happen to one order, it ends well: the search's findings, judged.

use std::collections::{BTreeMap, BTreeSet};

use orderflow::{
    functions::{FUNCTIONS, catalogue},
    sales::{
        Outcome,
        orders::OrderView,
        status::{BillingLeg, PaymentLeg, Status, StockLeg},
    },
};

use crate::search::{CATALOG, FOUND, Final, Search, orders, view_of, with_cancellation};

fn finals() -> impl Iterator<Item = (&'static Final, OrderView)> {
    let finals = FOUND.iter().flat_map(|found| &found.finals);
    finals.map(|end| (end, end.view()))
}

#[test]
fn whatever_happens_every_order_comes_to_a_result() {
    let visited: usize = FOUND.iter().map(|found| found.states).sum();
    assert!(visited > 50_000, "the search saw {visited} states only");
    let mut results = BTreeSet::new();
    for (end, view) in finals() {
        let status = view.facts.status();
        let names = end.names();
        assert!(status.is_over(), "ends as {status:?} after {names:?}");
        assert!(
            !view.facts.conflict(),
            "facts that exclude each other: {names:?}"
        );
        let refund_failed = names.contains(&"RefundFailed");
        assert_eq!(status == Status::NeedsAttention, refund_failed, "{names:?}");
        results.insert(status);
    }
    let every = [
        Status::Completed,
        Status::Refunded,
        Status::Cancelled,
        Status::NeedsAttention,
    ];
    assert_eq!(results, BTreeSet::from(every));
}

#[test]
fn at_rest_money_stock_invoice_and_parcel_agree() {
    for (end, view) in finals() {
        let names = end.names();
        let has = |wanted: fn(&Outcome) -> bool| end.outcomes.iter().any(wanted);
        let captured = has(|outcome| matches!(outcome, Outcome::Charged { .. }));
        let refunded = has(|outcome| matches!(outcome, Outcome::Refunded));
        let dispatched = has(|outcome| matches!(outcome, Outcome::Dispatched { .. }));
        let (legs, status) = (view.facts.legs(), view.facts.status());
        let completed = status == Status::Completed;
        assert_eq!(completed, dispatched, "{names:?}");
        match status {
            Status::Completed | Status::NeedsAttention => {
                assert!(captured && !refunded, "{names:?}");
            }
            _ => assert_eq!(captured, refunded, "{names:?}"),
        }
        let invoice_open = legs.billing == BillingLeg::Completed;
        assert_eq!(invoice_open, completed, "{names:?}");
        assert_eq!(
            legs.payment == PaymentLeg::Successful,
            completed,
            "{names:?}"
        );
        assert_eq!(legs.stock == StockLeg::Committed, completed, "{names:?}");
        for (sku, row) in end.rows.iter().flat_map(|(_, shared)| shared) {
            let level: BTreeMap<String, u64> = serde_json::from_slice(row).unwrap();
            let stock: BTreeMap<_, _> = CATALOG
                .stock
                .iter()
                .map(|(sku, count)| (sku.to_string(), *count))
                .collect();
            assert_eq!(level.values().sum::<u64>(), stock[sku], "{sku}: {names:?}");
            assert_eq!(level["reserved"], 0, "{sku} stays reserved: {names:?}");
            assert_eq!(level["shipped"] > 0, completed, "{sku}: {names:?}");
        }
    }
}

#[test]
fn every_event_type_happens_and_nobody_waits_for_one_that_does_not() {
    let mut published: BTreeSet<_> = FOUND
        .iter()
        .flat_map(|found| &found.sets)
        .flatten()
        .map(|event| event.event_type)
        .collect();
    for end in FOUND.iter().flat_map(|found| &found.finals) {
        let (_, results) = view_of(&end.events.iter().collect::<Vec<_>>());
        published.extend(results.iter().map(|event| event.event_type));
    }
    let catalogue: BTreeSet<_> = catalogue().map(|known| known.name).collect();
    assert_eq!(published, catalogue, "the catalogue has what can happen");
    for function in FUNCTIONS {
        let taken: BTreeSet<_> = function.event_types().collect();
        assert!(
            taken.is_subset(&published),
            "{} takes what nobody publishes",
            function.name
        );
    }
}

/// Once, a service that was asked to cancel what it did not know kept that to itself and waited for the event that it
/// would refuse. If that event was lost, as it is after a day of retries, the order was compensated for ever.
#[test]
fn a_cancellation_ends_an_order_whose_next_event_was_lost() {
    for lost in [
        ("OrderPlaced", "billing"),
        ("BillingCompleted", "payment"),
        ("PaymentSuccessful", "inventory"),
        ("PaymentSuccessful", "shipping"),
        ("StockReserved", "shipping"),
    ] {
        let [order, ..] = orders();
        let mut search = Search::new();
        search.lost = Some(lost);
        for end in search.run(&with_cancellation(order)).finals {
            let status = end.view().facts.status();
            let names = end.names();
            assert!(
                status.is_over(),
                "without {lost:?} it ends as {status:?} after {names:?}"
            );
        }
    }
}
