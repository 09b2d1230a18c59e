//! At-least-once delivery, from the outside: duplicates, failed publishes, concurrency, restarts.

use std::sync::Arc;

use orderflow::{
    engine::Clock,
    events::{OrderId, samples},
    store::{Store, sqlite::SqliteStore},
};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Handler, sample, sample_of};

#[tokio::test]
async fn a_duplicate_publishes_nothing_more() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        for _ in 0..5 {
            handler
                .invoke("payment", sample("BillingCompleted"))
                .await
                .assert_done();
        }
        assert_eq!(handler.topic.names(), ["PaymentSuccessful"]);
    }
}

#[tokio::test]
async fn concurrent_duplicates_are_decided_once() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        let answers = futures_util::future::join_all(
            (0..50).map(|_| handler.invoke("payment", sample("BillingCompleted"))),
        );
        for answer in answers.await {
            answer.assert_done();
        }
        // A duplicate may find the first delivery's events before they are marked as published.
        assert_eq!(
            handler.topic.distinct_ids().len(),
            1,
            "{:?}",
            handler.topic.names()
        );
    }
}

#[tokio::test]
async fn what_could_not_be_published_is_published_as_it_was_decided_on_redelivery() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        handler.topic.fail_with(400);
        assert_eq!(
            handler
                .invoke("billing", sample("OrderPlaced"))
                .await
                .status,
            503
        );
        assert_eq!(
            handler
                .invoke("billing", sample("OrderPlaced"))
                .await
                .status,
            503
        );
        assert_eq!(handler.topic.names(), Vec::<String>::new());
        handler.topic.fail_with(0);
        handler
            .invoke("billing", sample("OrderPlaced"))
            .await
            .assert_done();
        handler
            .invoke("billing", sample("OrderPlaced"))
            .await
            .assert_done();
        assert_eq!(handler.topic.names(), ["BillingCompleted"]);
    }
}

#[tokio::test]
async fn the_sweep_publishes_what_no_redelivery_picked_up() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        handler.topic.fail_with(400);
        let answer = handler.place(&crate::support::new_order()).await;
        assert_eq!(answer.status, 202, "the order is durable: {answer:?}");
        handler.topic.fail_with(0);
        handler.sweep().await;
        let names = handler.topic.names();
        assert_eq!(names, Vec::<String>::new(), "a delivery may still do it");
        handler.clock.advance(31);
        handler.sweep().await;
        assert_eq!(handler.topic.names(), ["OrderPlaced"]);
        let later = handler.clock.now() + chrono::Duration::hours(1);
        crate::support::eventually("nothing is pending", async || {
            let unfinished = handler.store.unfinished(later, 1).await.unwrap();
            unfinished.is_empty().then_some(())
        })
        .await;
        handler.sweep().await;
        assert_eq!(handler.topic.names(), ["OrderPlaced"]);
    }
}

#[tokio::test]
async fn an_effect_without_an_answer_is_asked_for_again_under_the_same_key() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        handler.world.set_away(true);
        let answer = handler.invoke("payment", sample("BillingCompleted")).await;
        answer.assert_problem(503, "no definite answer from the payment provider");
        assert_eq!(handler.topic.names(), Vec::<String>::new());
        handler.world.set_away(false);
        handler.clock.advance(31);
        // The sweep and a redelivery may both come.
        handler.sweep().await;
        handler
            .invoke("payment", sample("BillingCompleted"))
            .await
            .assert_done();
        assert_eq!(handler.topic.names(), ["PaymentSuccessful"]);
        let charge = orderflow::events::event_id(samples::ORDER_ID, "charge", 1);
        assert_eq!(handler.world.performed(), [charge]);
    }
}

#[tokio::test]
async fn a_panic_is_answered_with_500_and_the_event_comes_again() {
    let handler = Handler::start().await;
    handler.world.set_panicking(true);
    let answer = handler.invoke("payment", sample("BillingCompleted")).await;
    answer.assert_problem(500, "this is a bug");
    handler.world.set_panicking(false);
    handler
        .invoke("payment", sample("BillingCompleted"))
        .await
        .assert_done();
    assert_eq!(handler.topic.names(), ["PaymentSuccessful"]);
}

#[tokio::test]
async fn a_charge_that_outlives_the_order_is_paid_back() {
    let handler = Handler::start().await;
    handler.world.set_away(true);
    let billed = sample("BillingCompleted");
    assert_eq!(handler.invoke("payment", billed.clone()).await.status, 503);
    // Whether the money was captured is unknown; meanwhile the order is cancelled.
    for event in ["OrderCancelRequested", "ShipmentCancelled"] {
        handler.invoke("payment", sample(event)).await.assert_done();
    }
    assert_eq!(handler.topic.names(), Vec::<String>::new());
    handler.world.set_away(false);
    handler.invoke("payment", billed).await.assert_done();
    let names = handler.topic.names();
    assert_eq!(names, ["PaymentSuccessful", "PaymentRefunded"]);
    assert_eq!(handler.world.performed().len(), 2, "one charge, one refund");
}

#[tokio::test]
async fn every_event_carries_its_cause_its_order_and_one_trace() {
    let handler = Handler::start().await;
    let placed = sample("OrderPlaced");
    handler
        .invoke("billing", placed.clone())
        .await
        .assert_done();
    handler.deliver_all().await;
    let events = handler.topic.events();
    assert!(events.len() >= 6, "{:?}", handler.topic.names());
    let mut known = vec![placed["id"].clone()];
    let trace =
        |event: &serde_json::Value| event["traceparent"].as_str().unwrap()[3..35].to_owned();
    for event in &events {
        assert!(
            known.contains(&event["causationid"]),
            "its cause is known: {event}"
        );
        assert_eq!(event["correlationid"], json!(samples::ORDER_ID));
        assert_eq!(
            event["subject"],
            json!(format!("orders/{}", samples::ORDER_ID))
        );
        assert_eq!(trace(event), trace(&placed));
        assert_eq!(
            Uuid::parse_str(event["id"].as_str().unwrap())
                .unwrap()
                .get_version_num(),
            5
        );
        known.push(event["id"].clone());
    }
    assert_eq!(handler.topic.distinct_ids().len(), events.len());
}

#[tokio::test]
async fn the_same_thing_done_twice_makes_the_same_event() {
    let (first, second) = (Handler::start().await, Handler::start_in_memory().await);
    for handler in [&first, &second] {
        handler
            .invoke("billing", sample("OrderPlaced"))
            .await
            .assert_done();
        handler.deliver_all().await;
    }
    assert_eq!(first.topic.distinct_ids(), second.topic.distinct_ids());
}

#[tokio::test]
async fn concurrent_orders_share_stock_without_selling_a_piece_twice() {
    for handler in [Handler::start().await, Handler::start_in_memory().await] {
        let deliveries = (1..=12_u128).map(|number| {
            let mut paid = sample_of("PaymentSuccessful", OrderId(Uuid::from_u128(number)));
            paid["data"]["order"]["lines"] =
                json!([{ "sku": "LAST-1", "quantity": 1, "unitAmount": 500 }]);
            handler.invoke("inventory", paid)
        });
        for answer in futures_util::future::join_all(deliveries).await {
            answer.assert_done();
        }
        let names = handler.topic.names();
        let count = |wanted: &str| names.iter().filter(|name| *name == wanted).count();
        assert_eq!(
            (count("StockReserved"), count("StockShortage")),
            (5, 7),
            "five of LAST-1 are in stock"
        );
    }
}

#[tokio::test]
async fn a_store_keeps_what_it_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new/folder/orders.db");
    let parked = orderflow::store::Parked {
        id: Uuid::from_u128(1),
        function: "billing".to_owned(),
        event_id: None,
        order_id: Some(samples::ORDER_ID),
        reason: "data: must be an object".to_owned(),
        body: b"{}".to_vec(),
        at: samples::time(),
    };
    let store = SqliteStore::open(&path).unwrap();
    store.park(parked.clone()).await.unwrap();
    drop(store);
    let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&path).unwrap());
    assert_eq!(store.parked(samples::ORDER_ID).await.unwrap(), [parked]);
}

#[tokio::test]
async fn a_file_of_a_newer_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("orders.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection
        .pragma_update(None, "user_version", 1_000)
        .unwrap();
    let error = SqliteStore::open(&path).unwrap_err().to_string();
    assert!(
        error.starts_with("STORE_URL: ") && error.contains("use a newer version"),
        "{error}"
    );
}
