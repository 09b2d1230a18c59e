//! Orders paid through Stripe: the real engine on SQLite, every published event delivered, and the stand-in, which loses
//! answers after it has done what it was asked. Whatever happens, the money that the events tell of is the money that
//! moved, to the unit.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use orderflow::{effects::Stripe, engine::DELIVERY_BUDGET};
use serde_json::{Value, json};

use crate::{
    stripe_stand_in::{Fault, KEY, StripeStandIn},
    support::{Handler, eventually, new_order, sample, subscribers, with},
};

const CREATE: &str = "POST /v1/payment_intents";
const CANCEL: &str = "POST /v1/payment_intents/{id}/cancel";
const REFUND: &str = "POST /v1/refunds";

const DAY: i64 = 24 * 60 * 60;

/// Longer than `paymentRetryMinutes` of the development catalog.
const RETRY: i64 = 61;

struct Shop {
    handler: Handler,
    stand_in: StripeStandIn,
    /// How many of the published events are taken.
    taken: AtomicUsize,
}

impl Shop {
    async fn open() -> Self {
        let stand_in = StripeStandIn::start().await;
        let stripe = Stripe::new(&stand_in.url().parse().unwrap(), KEY).unwrap();
        Self {
            handler: Handler::start_performing(Arc::new(stripe)).await,
            stand_in,
            taken: AtomicUsize::new(0),
        }
    }

    /// Delivers what is published, again and again like Event Grid, until everything is taken.
    async fn deliver(&self) {
        loop {
            let taken = self.taken.load(Ordering::SeqCst);
            let events = self.handler.topic.events().split_off(taken);
            if events.is_empty() {
                return;
            }
            for event in events {
                for function in subscribers(event["type"].as_str().unwrap()) {
                    self.deliver_to(function, &event).await;
                }
                self.taken.fetch_add(1, Ordering::SeqCst);
            }
        }
    }

    async fn deliver_to(&self, function: &str, event: &Value) {
        for _ in 0..10 {
            if self.handler.invoke(function, event.clone()).await.status == 200 {
                return;
            }
        }
        panic!("{function} does not take {event}");
    }

    /// Places an order and delivers everything; the order's view.
    async fn run(&self, order: &Value) -> Value {
        let path = self.handler.placed(order).await;
        self.deliver().await;
        self.handler.get(&path).await.json()
    }

    /// The amounts of an event type by order, each event counted once.
    fn told(&self, event_type: &str, amount: &str) -> BTreeMap<String, i64> {
        let events = self.handler.topic.events();
        let events = events.iter().filter(|event| event["type"] == event_type);
        let amount = |event: &Value| {
            let order = event["subject"].as_str().unwrap().replace("orders/", "");
            (
                order,
                event["data"].pointer(amount).unwrap().as_i64().unwrap(),
            )
        };
        events.map(amount).collect()
    }

    /// What the events tell is what the provider booked: per order, once each, and nothing else.
    #[track_caller]
    fn assert_adds_up(&self) {
        let paid = self.told("Sales.PaymentSuccessful", "/payment/amount");
        let refunded = self.told("Sales.PaymentRefunded", "/amount");
        let mut expected = Vec::new();
        expected.extend(paid);
        expected.extend(refunded.into_iter().map(|(order, amount)| (order, -amount)));
        let ledger = self.stand_in.ledger();
        assert!(
            ledger.iter().all(|booking| booking.currency == "eur"),
            "{ledger:?}"
        );
        let booked = ledger
            .into_iter()
            .map(|booking| (booking.order_id, booking.amount));
        let mut booked: Vec<_> = booked.collect();
        expected.sort();
        booked.sort();
        assert_eq!(booked, expected);
        // What is not paid can never be.
        let open =
            |intent: &&Value| intent["status"] != "succeeded" && intent["status"] != "canceled";
        assert_eq!(self.stand_in.payment_intents().iter().find(open), None);
    }
}

#[tokio::test]
async fn an_order_is_paid_once_though_answers_are_lost() {
    let shop = Shop::open().await;
    shop.stand_in.fail_next(CREATE, Fault::DropAnswer);
    let view = shop.run(&new_order()).await;
    assert_eq!(view["status"], "completed", "{view:#}");
    assert_eq!(shop.stand_in.balance("eur"), 15_339);
    shop.assert_adds_up();
}

#[tokio::test]
async fn a_declined_order_is_cancelled_and_costs_nothing() {
    let shop = Shop::open().await;
    let view = shop
        .run(&with("/paymentMethod", json!("tok_chargeDeclined")))
        .await;
    assert_eq!(view["status"], "cancelled", "{view:#}");
    assert_eq!(view["reasonCode"], "cardDeclined");
    assert_eq!(shop.stand_in.ledger(), []);
    shop.assert_adds_up();
}

#[tokio::test]
async fn a_payment_short_of_funds_is_tried_three_times_with_an_intent_each() {
    let shop = Shop::open().await;
    let order = with(
        "/paymentMethod",
        json!("tok_chargeDeclinedInsufficientFunds"),
    );
    let path = shop.handler.placed(&order).await;
    shop.deliver().await;
    for _ in 0..3 {
        shop.stand_in.fail_next(CREATE, Fault::DropAnswer);
        shop.handler.clock.advance(RETRY);
        shop.handler.sweep().await;
    }
    shop.deliver().await;
    let view = shop.handler.get(&path).await.json();
    assert_eq!(view["status"], "cancelled", "{view:#}");
    assert_eq!(view["reasonCode"], "insufficientFunds");
    assert_eq!(shop.stand_in.payment_intents().len(), 3);
    shop.assert_adds_up();
}

#[tokio::test]
async fn a_shortage_is_paid_back_once_though_answers_are_lost() {
    let shop = Shop::open().await;
    shop.stand_in.fail_next(REFUND, Fault::DropAnswer);
    let six = json!([{ "sku": "LAST-1", "quantity": 6, "unitAmount": 500 }]);
    let view = shop.run(&with("/lines", six)).await;
    assert_eq!(view["status"], "refunded", "{view:#}");
    assert_eq!(shop.stand_in.ledger().len(), 2);
    assert_eq!(shop.stand_in.balance("eur"), 0);
    shop.assert_adds_up();
}

#[tokio::test]
async fn a_pending_refund_is_asked_for_until_the_bank_has_it() {
    let shop = Shop::open().await;
    let mut order = with("/paymentMethod", json!("tok_pendingRefund"));
    order["lines"] = json!([{ "sku": "LAST-1", "quantity": 6, "unitAmount": 500 }]);
    let path = shop.handler.placed(&order).await;
    // Everything but the refund, which is not to be had yet.
    for next in 0.. {
        let Some(event) = shop.handler.topic.events().get(next).cloned() else {
            break;
        };
        for function in subscribers(event["type"].as_str().unwrap()) {
            shop.handler.invoke(function, event.clone()).await;
        }
    }
    let view = shop.handler.get(&path).await.json();
    assert_eq!(view["status"], "compensating", "{view:#}");
    for days in [0, 1, 2] {
        shop.handler.clock.advance(days * DAY + 60);
        shop.stand_in.forget_keys();
        shop.handler.sweep().await;
        assert_eq!(shop.stand_in.refunds().len(), 1, "after {days} days");
    }
    shop.stand_in.settle("succeeded");
    shop.handler.sweep().await;
    shop.deliver().await;
    let view = shop.handler.get(&path).await.json();
    assert_eq!(view["status"], "refunded", "{view:#}");
    assert_eq!(shop.stand_in.balance("eur"), 0);
    shop.assert_adds_up();
}

#[tokio::test]
async fn a_charge_of_unknown_outcome_is_resolved_a_day_later_without_charging_again() {
    let shop = Shop::open().await;
    let billed = sample("BillingCompleted");
    // Charged, but the answer is a server error, and the search shows nothing yet.
    shop.stand_in.freeze_index();
    shop.stand_in.fail_next(CREATE, Fault::FailAfter);
    assert_eq!(
        shop.handler.invoke("payment", billed.clone()).await.status,
        503
    );
    assert_eq!(
        shop.handler.invoke("payment", billed.clone()).await.status,
        503
    );
    assert!(
        shop.handler.topic.names().is_empty(),
        "unknown is neither paid nor declined"
    );
    // Stripe has forgotten the key when somebody asks again.
    shop.stand_in.forget_keys();
    shop.stand_in.thaw_index();
    shop.handler.clock.advance(DAY + 60);
    shop.handler.sweep().await;
    assert_eq!(shop.handler.topic.names(), ["PaymentSuccessful"]);
    assert_eq!(shop.stand_in.payment_intents().len(), 1);
    shop.assert_adds_up();
    assert_eq!(shop.handler.invoke("payment", billed).await.status, 200);
    assert_eq!(shop.stand_in.payment_intents().len(), 1);
}

#[tokio::test]
async fn many_orders_under_every_fault_add_up() {
    let shop = Shop::open().await;
    let tokens = [
        "tok_visa",
        "tok_chargeDeclined",
        "pm_card_visa",
        "tok_chargeDeclinedInsufficientFunds",
        "tok_visa",
        "tok_chargeDeclinedProcessingError",
    ];
    let faults = [
        Fault::DropAnswer,
        Fault::Refuse(500),
        Fault::RefuseWith(503, "stripe-should-retry", "false"),
        Fault::FailAfter,
        Fault::RefuseWith(429, "retry-after", "0"),
        Fault::LeaveIn("requires_capture"),
        Fault::LeaveIn("requires_action"),
    ];
    for (number, fault) in faults.iter().cycle().take(42).enumerate() {
        let mut order = with("/paymentMethod", json!(tokens[number % tokens.len()]));
        if number % 3 == 0 {
            order["lines"] = json!([{ "sku": "LAST-1", "quantity": 6, "unitAmount": 500 }]);
        }
        if number % 5 == 0 {
            order["shipTo"]["postalCode"] = json!("00000");
        }
        shop.stand_in.fail_next(CREATE, fault.clone());
        if number % 2 == 0 && !matches!(fault, Fault::LeaveIn(_)) {
            shop.stand_in.fail_next(CANCEL, fault.clone());
            shop.stand_in.fail_next(REFUND, fault.clone());
        }
        shop.handler.placed(&order).await;
    }
    shop.deliver().await;
    for _ in 0..4 {
        shop.handler.clock.advance(RETRY);
        shop.handler.sweep().await;
        shop.deliver().await;
    }
    shop.assert_adds_up();
    let list = shop.handler.get("/api/orders?limit=100").await.json();
    let orders = list["orders"].as_array().unwrap();
    assert_eq!(orders.len(), 42);
    let ended = |order: &&Value| {
        ["completed", "cancelled", "refunded"].contains(&order["status"].as_str().unwrap())
    };
    assert_eq!(orders.iter().find(|order| !ended(order)), None);
    let refunds = shop.told("Sales.PaymentRefunded", "/amount").len();
    assert!(
        refunds > 5,
        "{refunds} refunds are too few to prove anything"
    );
}

#[tokio::test]
async fn a_charge_that_nobody_answers_does_not_keep_other_events_from_being_published() {
    let shop = Shop::open().await;
    let fault = Fault::RefuseWith(500, "stripe-should-retry", "false");
    shop.stand_in.fail_next(CREATE, fault);
    let billed = sample("BillingCompleted");
    assert_eq!(shop.handler.invoke("payment", billed).await.status, 503);
    shop.handler.topic.fail_with(400);
    shop.handler.placed(&new_order()).await;
    shop.handler.topic.fail_with(0);
    assert!(shop.handler.topic.names().is_empty());
    shop.handler.clock.advance(60);
    shop.stand_in
        .fail_next(CREATE, Fault::Delay(Duration::from_secs(60)));
    let published = eventually("the event is published", async || {
        let names = shop.handler.topic.names();
        names.contains(&"OrderPlaced".to_owned()).then_some(())
    });
    tokio::select! {
        () = shop.handler.sweep() => panic!("the provider does not answer"),
        // Half of the time after which the charge is given up.
        () = tokio::time::sleep(DELIVERY_BUDGET / 2) => panic!("the event waits for the provider"),
        () = published => {}
    }
}
