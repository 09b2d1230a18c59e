//! The saga over time: what is tried again, what is given up, what is overdue and what is stuck.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use orderflow::{
    effects::Simulated,
    engine::{DELIVERY_BUDGET, Effects},
    events::{Amount, CurrencyCode, event_id, samples},
    sales::{Effect, Outcome, effect::Charge},
};
use serde_json::{Value, json};

use crate::support::{Handler, bill, new_order, subscribers, with};

/// A payment is tried again after so many seconds: `paymentRetryMinutes` of the development catalog.
const RETRY: i64 = 60;

/// The declined attempts, and whether another one follows. An event may be published again under its id.
fn attempts(handler: &Handler) -> Vec<Value> {
    let mut events = handler.topic.events();
    events.retain(|event| event["type"] == "Sales.PaymentDeclined");
    events.dedup_by(|later, earlier| later["id"] == earlier["id"]);
    let attempt = |event: &Value| json!([event["data"]["attempt"], event["data"]["retryable"]]);
    events.iter().map(attempt).collect()
}

#[tokio::test]
async fn a_payment_that_may_succeed_later_is_tried_again_until_it_does() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        handler.world.decline(2);
        let path = handler.placed(&new_order()).await;
        handler.deliver_all().await;
        let view = handler.get(&path).await.json();
        assert_eq!(view["status"], "awaitingPayment", "{view:#}");
        handler.sweep().await;
        assert_eq!(handler.world.performed().len(), 1, "it is not time yet");
        handler.clock.advance(RETRY + 1);
        handler.sweep().await;
        handler.sweep().await;
        assert_eq!(attempts(&handler), [json!([1, true]), json!([2, true])]);
        handler.clock.advance(RETRY + 1);
        handler.sweep().await;
        handler.deliver_all().await;
        let view = handler.get(&path).await.json();
        assert_eq!(view["status"], "completed", "{view:#}");
        let order_id = serde_json::from_value(view["orderId"].clone()).unwrap();
        let charge = |attempt| event_id(order_id, "charge", attempt);
        assert_eq!(
            handler.world.performed()[..3],
            [charge(1), charge(2), charge(3)],
            "each try has a key of its own"
        );
    }
}

#[tokio::test]
async fn a_payment_is_given_up_after_the_last_attempt() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        handler.world.decline(100);
        let path = handler.placed(&new_order()).await;
        handler.deliver_all().await;
        for _ in 0..5 {
            handler.clock.advance(RETRY + 1);
            handler.sweep().await;
        }
        assert_eq!(
            attempts(&handler),
            [json!([1, true]), json!([2, true]), json!([3, false])]
        );
        handler.deliver_all().await;
        let view = handler.get(&path).await.json();
        assert_eq!(view["status"], "cancelled", "{view:#}");
        assert_eq!(view["legs"]["billing"], "voided");
        assert_eq!(view["reasonCode"], "insufficientFunds");
    }
}

#[tokio::test]
async fn a_retry_without_an_answer_is_asked_for_again_under_its_own_key() {
    let handler = Handler::start().await;
    handler.world.decline(1);
    let path = handler.placed(&new_order()).await;
    handler.deliver_all().await;
    handler.clock.advance(RETRY + 1);
    handler.world.set_away(true);
    handler.sweep().await;
    handler.clock.advance(RETRY + 1);
    handler.sweep().await;
    handler.world.set_away(false);
    assert_eq!(handler.world.performed().len(), 1);
    handler.sweep().await;
    handler.sweep().await;
    handler.deliver_all().await;
    assert_eq!(handler.get(&path).await.json()["status"], "completed");
    assert_eq!(
        handler.world.performed().len(),
        3,
        "two charges, one parcel"
    );
}

#[tokio::test]
async fn a_retry_belongs_to_the_tree_of_its_order() {
    let handler = Handler::start().await;
    handler.world.decline(1);
    let order = new_order();
    let trace = "00-11111111111111111111111111111111-2222222222222222-01";
    let request = handler
        .post("/api/orders")
        .header("content-type", "application/json")
        .header("traceparent", trace)
        .body(order.to_string());
    assert_eq!(request.send().await.unwrap().status(), 202);
    handler.deliver_all().await;
    handler.clock.advance(RETRY + 1);
    handler.sweep().await;
    let events = handler.topic.events();
    let find = |name: &str| {
        let wanted = format!("Sales.{name}");
        events
            .iter()
            .find(|event| event["type"] == *wanted)
            .unwrap()
    };
    let paid = find("PaymentSuccessful");
    assert_eq!(paid["causationid"], find("BillingCompleted")["id"]);
    assert_eq!(paid["traceparent"].as_str().unwrap()[..35], trace[..35]);
}

#[tokio::test]
async fn a_cancelled_order_is_not_tried_again() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        handler.world.decline(1);
        let path = handler.placed(&new_order()).await;
        handler.deliver_all().await;
        assert_eq!(handler.cancel(&path).await.status, 202);
        handler.deliver_all().await;
        handler.clock.advance(RETRY + 1);
        handler.sweep().await;
        handler.deliver_all().await;
        assert_eq!(handler.world.performed().len(), 1, "one declined charge");
        assert_eq!(handler.get(&path).await.json()["status"], "cancelled");
    }
}

/// What the log of this thread says while the guard lives.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || log.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }

    fn lines(&self, words: &str) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().filter(|line| line.contains(words));
        lines.map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const HOUR: i64 = 3_600;

/// Lets the hours pass, one sweep in each.
async fn wait(handler: &Handler, hours: i64) {
    for _ in 0..hours {
        handler.clock.advance(HOUR);
        handler.sweep().await;
    }
}

/// Delivers so many of the events published so far to all but these functions.
async fn deliver_without(handler: &Handler, without: &[&str], events: std::ops::Range<usize>) {
    for event in &handler.topic.events()[events] {
        for function in subscribers(event["type"].as_str().unwrap()) {
            if !without.contains(&function) {
                handler.invoke(function, event.clone()).await.assert_done();
            }
        }
    }
}

fn cancel_requests(handler: &Handler) -> Vec<Value> {
    let mut events = handler.topic.events();
    events.retain(|event| event["type"] == "Sales.OrderCancelRequested");
    events.dedup_by(|later, earlier| later["id"] == earlier["id"]);
    events
        .into_iter()
        .map(|event| event["data"].clone())
        .collect()
}

#[tokio::test]
async fn an_order_that_is_not_paid_in_time_is_cancelled() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        let path = handler.placed(&new_order()).await;
        // Payment does not learn of the invoice.
        deliver_without(&handler, &[], 0..1).await;
        deliver_without(&handler, &["payment"], 1..2).await;
        wait(&handler, 47).await;
        assert_eq!(cancel_requests(&handler), Vec::<Value>::new(), "not yet");
        wait(&handler, 3).await;
        let requests = cancel_requests(&handler);
        assert_eq!(requests.len(), 1, "{requests:?}");
        assert_eq!(requests[0]["requestedBy"], "sweep");
        assert_eq!(requests[0]["reasonCode"], "paymentOverdue");
        // The cancellation overtakes the late invoice, which is not charged any more.
        deliver_without(&handler, &[], 2..3).await;
        handler.deliver_all().await;
        let view = handler.get(&path).await.json();
        assert_eq!(view["status"], "cancelled", "{view:#}");
        assert_eq!(view["legs"]["billing"], "voided");
        assert_eq!(view["reasonCode"], "paymentOverdue");
        assert_eq!(handler.world.performed().len(), 0);
        wait(&handler, 60).await;
        assert_eq!(cancel_requests(&handler).len(), 1, "it is over");
    }
}

#[tokio::test]
async fn a_paid_order_whose_reservation_expires_is_undone() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        let order = with(
            "/lines",
            json!([{ "sku": "LAST-1", "quantity": 5, "unitAmount": 500 }]),
        );
        let path = handler.placed(&order).await;
        // Shipping learns of the payment, never of the reservation.
        let mut next = 0;
        while next < handler.topic.events().len() {
            let reserved = handler.topic.names()[next] == "StockReserved";
            let without: &[_] = if reserved { &["shipping"] } else { &[] };
            deliver_without(&handler, without, next..next + 1).await;
            next += 1;
        }
        assert_eq!(handler.get(&path).await.json()["status"], "fulfilling");
        wait(&handler, 23).await;
        assert_eq!(cancel_requests(&handler), Vec::<Value>::new(), "not yet");
        wait(&handler, 2).await;
        let requests = cancel_requests(&handler);
        assert_eq!(requests.len(), 1, "{requests:?}");
        assert_eq!(requests[0]["reasonCode"], "fulfilmentOverdue");
        let cancelled = handler.topic.events().len();
        deliver_without(&handler, &[], next..cancelled).await;
        // The late reservation opens no gate.
        handler.deliver_all().await;
        let view = handler.get(&path).await.json();
        let legs = json!({ "billing": "credited", "payment": "refunded", "stock": "released", "shipping": "cancelled" });
        assert_eq!(
            (&view["status"], &view["legs"]),
            (&json!("refunded"), &legs),
            "{view:#}"
        );
        let again = handler.placed(&order).await;
        handler.deliver_all().await;
        assert_eq!(
            handler.get(&again).await.json()["status"],
            "completed",
            "the stock is free again"
        );
    }
}

#[tokio::test]
async fn a_stuck_order_is_named_with_what_it_awaits() {
    let log = Log::default();
    let _guard = log.capture();
    let handler = Handler::start().await;
    let path = handler.placed(&new_order()).await;
    let order = path.rsplit('/').next().unwrap();
    let stuck = || log.lines("waited for too long");
    wait(&handler, 3).await;
    assert_eq!(stuck(), Vec::<String>::new());
    wait(&handler, 2).await;
    let lines = stuck();
    assert_eq!(lines.len(), 1, "once in stuckHours: {lines:?}");
    for words in [order, "placed", "BillingCompleted"] {
        assert!(lines[0].contains(words), "{words}: {lines:?}");
    }
    wait(&handler, 8).await;
    assert_eq!(stuck().len(), 3, "and again: {:?}", stuck());
    handler.deliver_all().await;
    let view = handler.get(&path).await.json();
    assert_eq!(
        (&view["status"], &view["awaiting"]),
        (&json!("completed"), &json!([]))
    );
    wait(&handler, 60).await;
    assert_eq!(stuck().len(), 3, "not when it is over: {:?}", stuck());
}

#[tokio::test]
async fn a_cancelled_order_that_nobody_undoes_is_named() {
    let log = Log::default();
    let _guard = log.capture();
    let handler = Handler::start().await;
    let path = handler.placed(&new_order()).await;
    assert_eq!(handler.cancel(&path).await.status, 202);
    wait(&handler, 5).await;
    let lines = log.lines("waited for too long");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("compensating"), "{lines:?}");
}

#[tokio::test]
async fn an_order_shows_what_it_awaits() {
    let handler = Handler::start().await;
    let path = handler.placed(&new_order()).await;
    let mut seen = Vec::new();
    for next in 0.. {
        let view = handler.get(&path).await.json();
        if seen.last() != Some(&view["awaiting"]) {
            seen.push(view["awaiting"].clone());
        }
        if next == handler.topic.events().len() {
            break;
        }
        deliver_without(&handler, &[], next..next + 1).await;
    }
    let expected = json!([
        ["BillingCompleted"],
        ["PaymentSuccessful"],
        ["StockReserved", "ShipmentPrepared"],
        ["ShipmentPrepared"],
        ["ShipmentDispatched"],
        [],
    ]);
    assert_eq!(json!(seen), expected);
}

#[tokio::test]
async fn a_charge_that_succeeds_after_the_cancellation_is_paid_back() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        let path = handler.placed(&new_order()).await;
        deliver_without(&handler, &[], 0..1).await;
        // Whether the money was captured is unknown, and stays so until the order is overdue.
        handler.world.set_away(true);
        deliver_without(&handler, &["payment"], 1..2).await;
        let billed = handler.topic.events()[1].clone();
        assert_eq!(handler.invoke("payment", billed).await.status, 503);
        wait(&handler, 49).await;
        assert_eq!(cancel_requests(&handler).len(), 1);
        let cancelled = handler.topic.events().len();
        deliver_without(&handler, &[], 2..cancelled).await;
        let undone = handler.topic.events().len();
        deliver_without(&handler, &[], cancelled..undone).await;
        handler.world.set_away(false);
        handler.sweep().await;
        handler.deliver_all().await;
        let view = handler.get(&path).await.json();
        let legs = json!({ "billing": "credited", "payment": "refunded", "stock": "released", "shipping": "cancelled" });
        assert_eq!(
            (&view["status"], &view["legs"]),
            (&json!("refunded"), &legs),
            "{view:#}"
        );
        assert_eq!(handler.world.performed().len(), 2, "one charge, one refund");
    }
}

#[tokio::test]
async fn the_pause_before_a_retry_begins_with_the_decline() {
    let handler = Handler::start().await;
    handler.world.decline(1);
    handler.placed(&new_order()).await;
    deliver_without(&handler, &[], 0..1).await;
    handler.world.set_away(true);
    let billed = handler.topic.events()[1].clone();
    assert_eq!(handler.invoke("payment", billed).await.status, 503);
    handler.clock.advance(10 * RETRY);
    handler.world.set_away(false);
    // The first one brings the decline, however late; the second one comes right after it.
    handler.sweep().await;
    handler.sweep().await;
    assert_eq!(handler.world.performed().len(), 1);
    handler.clock.advance(RETRY + 1);
    handler.sweep().await;
    assert_eq!(handler.world.performed().len(), 2);
}

/// The cancellation comes to some services before everything else and to the others after everything else.
#[tokio::test]
async fn a_cancellation_leaves_a_tombstone_in_whichever_service_it_comes_to_first() {
    const SERVICES: [&str; 4] = ["billing", "payment", "inventory", "shipping"];
    for chosen in 0..1 << SERVICES.len() {
        let handler = Handler::start_in_memory().await;
        let path = handler.placed(&new_order()).await;
        assert_eq!(handler.cancel(&path).await.status, 202);
        let chosen = |place: &usize| chosen & 1 << place != 0;
        let first: Vec<_> = (0..SERVICES.len())
            .filter(chosen)
            .map(|place| SERVICES[place])
            .collect();
        let late: Vec<_> = SERVICES
            .into_iter()
            .filter(|service| !first.contains(service))
            .collect();
        let cancel = handler.topic.events()[1].clone();
        for function in &first {
            handler.invoke(function, cancel.clone()).await.assert_done();
        }
        let mut next = 0;
        while next < handler.topic.events().len() {
            if next != 1 {
                deliver_without(&handler, &[], next..next + 1).await;
            }
            next += 1;
        }
        for function in &late {
            handler.invoke(function, cancel.clone()).await.assert_done();
        }
        handler.deliver_all().await;
        let view = handler.get(&path).await.json();
        let expected = match first[..] {
            [] => "completed",
            // It is paid; its stock is gone, so that nothing opens the gate until shipping is told.
            ["inventory"] => "refunded",
            _ => "cancelled",
        };
        let names = handler.topic.names();
        assert_eq!(
            view["status"], expected,
            "cancelled first at {first:?}: {names:?}"
        );
        assert_eq!(view["awaiting"], json!([]));
    }
}

/// Both permit the refund, and either may come first.
#[tokio::test]
async fn a_shortage_and_the_cancelled_shipment_that_follows_pay_back_once() {
    let handler = Handler::start().await;
    let order = with(
        "/lines",
        json!([{ "sku": "LAST-1", "quantity": 6, "unitAmount": 500 }]),
    );
    let path = handler.placed(&order).await;
    let mut next = 0;
    while next < handler.topic.events().len() {
        let short = handler.topic.names()[next] == "StockShortage";
        let without: &[_] = if short { &["payment"] } else { &[] };
        deliver_without(&handler, without, next..next + 1).await;
        next += 1;
    }
    let find = |name: &str| {
        let place = handler.topic.names().iter().position(|known| known == name);
        handler.topic.events()[place.unwrap()].clone()
    };
    assert_eq!(
        handler.world.performed().len(),
        2,
        "the charge, and the refund for the cancelled parcel"
    );
    handler
        .invoke("payment", find("StockShortage"))
        .await
        .assert_done();
    handler.deliver_all().await;
    assert_eq!(handler.get(&path).await.json()["status"], "refunded");
    assert_eq!(handler.world.performed().len(), 2, "paid back once");
}

#[tokio::test]
async fn a_charge_that_times_out_is_found_by_the_next_who_asks() {
    let handler = Handler::start_performing(Arc::new(Simulated)).await;
    let path = handler
        .placed(&with("/paymentMethod", json!("tok_chargeTimeout")))
        .await;
    for function in subscribers("Sales.OrderPlaced") {
        let placed = handler.topic.events()[0].clone();
        handler.invoke(function, placed).await.assert_done();
    }
    let billed = handler.topic.events()[1].clone();
    let answer = handler.invoke("payment", billed).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(
        !handler
            .topic
            .names()
            .contains(&"PaymentDeclined".to_owned())
    );
    handler.clock.advance(60);
    handler.sweep().await;
    handler.deliver_all().await;
    let view = handler.get(&path).await.json();
    assert_eq!(view["status"], "completed", "{view:#}");
}

#[tokio::test]
async fn a_slow_provider_answers_within_the_budget_or_not_at_all() {
    let slow = Effect::Charge(Charge {
        order_id: samples::ORDER_ID,
        attempt: 1,
        amount: Amount::from_minor_units(15_339).unwrap(),
        currency: CurrencyCode::try_from("EUR".to_owned()).unwrap(),
        payment_method: "tok_chargeSlow".to_owned(),
        bill: bill(samples::ORDER_ID),
    });
    let hasty = Simulated.perform(&slow, Duration::ZERO, Duration::from_millis(10));
    assert!(hasty.await.is_err());
    let patient = Simulated.perform(&slow, Duration::ZERO, DELIVERY_BUDGET);
    let (started, outcome) = (Instant::now(), patient.await.unwrap());
    assert!(matches!(outcome, Outcome::Charged { .. }), "{outcome:?}");
    assert!(started.elapsed() > Duration::from_secs(1), "it is slow");
    let again = Simulated.perform(&slow, Duration::ZERO, DELIVERY_BUDGET);
    assert_eq!(
        again.await.unwrap(),
        outcome,
        "the same key, the same answer"
    );
}
