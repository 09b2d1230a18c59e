//! The HTTP API.

use serde_json::json;

use crate::support::{Answer, Handler, new_order};

#[tokio::test]
async fn placing_an_order_answers_202_with_its_location() {
    let handler = Handler::start().await;
    let answer = handler.place(&new_order()).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["status"], "placed");
    assert_eq!(
        answer.header("location"),
        format!("/api/orders/{}", body["orderId"].as_str().unwrap())
    );
    assert_eq!(handler.topic.names(), ["OrderPlaced"]);
    let view = handler.get(answer.header("location")).await.json();
    assert_eq!(view["status"], "placed");
    assert_eq!(view["order"]["lines"], new_order()["lines"]);
    assert_eq!(
        view["legs"],
        json!({ "billing": "none", "payment": "none", "stock": "none", "shipping": "none" })
    );
    assert_eq!(view["history"][0]["event"], "OrderPlaced");
}

#[tokio::test]
async fn the_same_idempotency_key_is_the_same_order() {
    let handler = Handler::start().await;
    let place = async |order: &serde_json::Value| {
        let request = handler
            .post("/api/orders")
            .header("content-type", "application/json");
        Answer::of(
            request
                .header("Idempotency-Key", "k-1")
                .body(order.to_string()),
        )
        .await
    };
    let (first, second) = (place(&new_order()).await, place(&new_order()).await);
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.json()["orderId"], second.json()["orderId"]);
    assert_eq!(handler.topic.names(), ["OrderPlaced"]);

    let mut other = new_order();
    other["lines"][0]["quantity"] = json!(2);
    place(&other).await.assert_problem(
        422,
        "another order was placed under the same Idempotency-Key",
    );
    let without = handler.place(&new_order()).await;
    assert_ne!(without.json()["orderId"], first.json()["orderId"]);
}

#[tokio::test]
async fn an_order_is_accepted_while_the_topic_is_away() {
    let handler = Handler::start().await;
    // 503 is tried again, but a customer does not wait for as long as a delivery may.
    handler.topic.fail_with(503);
    let patience = orderflow::engine::DELIVERY_BUDGET / 2;
    let answer = tokio::time::timeout(patience, handler.place(&new_order())).await;
    let answer = answer.expect("an answer before a delivery's budget is spent");
    assert_eq!(answer.status, 202, "it is durable: {answer:?}");
    assert_eq!(
        handler.get(answer.header("location")).await.json()["status"],
        "placed"
    );
}

#[tokio::test]
async fn orders_are_listed_newest_first_page_by_page() {
    let handler = Handler::start().await;
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.insert(
            0,
            handler.place(&new_order()).await.json()["orderId"].clone(),
        );
    }
    let mut listed = Vec::new();
    let mut page = handler.get("/api/orders?limit=2").await.json();
    loop {
        assert!(page["orders"].as_array().unwrap().len() <= 2);
        listed.extend(
            page["orders"]
                .as_array()
                .unwrap()
                .iter()
                .map(|order| order["orderId"].clone()),
        );
        let Some(next) = page["next"].as_str() else {
            break;
        };
        page = handler
            .get(&format!("/api/orders?limit=2&after={next}"))
            .await
            .json();
    }
    assert_eq!(listed, placed);
    let count = async |query: &str| {
        handler.get(query).await.json()["orders"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(count("/api/orders?status=placed").await, 5);
    assert_eq!(count("/api/orders?status=completed").await, 0);
    assert_eq!(count("/api/orders").await, 5);
}

#[tokio::test]
async fn a_parked_event_shows_even_if_its_order_is_unknown() {
    let handler = Handler::start().await;
    let mut placed = crate::support::sample("OrderPlaced");
    placed["data"]["order"]["currency"] = json!("euro");
    handler.invoke("orders", placed).await.assert_done();
    let order = orderflow::events::samples::ORDER_ID;
    let answer = handler.get(&format!("/api/orders/{order}")).await;
    answer.assert_problem(404, "there is no order");
    let reason = answer.json()["parked"][0]["reason"].clone();
    assert!(
        reason.as_str().unwrap().starts_with("data.order.currency"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_parked_event_shows_in_its_order() {
    let handler = Handler::start().await;
    let id = handler.place(&new_order()).await.json()["orderId"]
        .as_str()
        .unwrap()
        .to_owned();
    let mut placed = handler.topic.events().remove(0);
    placed["data"]["order"]["currency"] = json!("euro");
    handler.invoke("billing", placed).await.assert_done();
    let view = handler.get(&format!("/api/orders/{id}")).await.json();
    assert_eq!(view["parked"][0]["function"], "billing");
    assert!(
        view["parked"][0]["reason"]
            .as_str()
            .unwrap()
            .starts_with("data.order.currency: must be"),
        "{view}"
    );
}
