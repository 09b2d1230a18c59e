//! Orders on their way, and where the way can turn: every published event goes to every function that takes it.

use serde_json::{Value, json};

use crate::support::{Answer, Handler, new_order, with};

/// Places an order, delivers everything, and gives its view.
async fn run(handler: &Handler, order: &Value) -> Value {
    let answer = handler.place(order).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    handler.deliver_all().await;
    handler.get(answer.header("location")).await.json()
}

#[track_caller]
fn assert_result(view: &Value, status: &str, legs: [&str; 4], result: &str) {
    let [billing, payment, stock, shipping] = legs;
    assert_eq!(view["status"], status, "{view:#}");
    let expected =
        json!({ "billing": billing, "payment": payment, "stock": stock, "shipping": shipping });
    assert_eq!(view["legs"], expected, "{view:#}");
    let history: Vec<_> = view["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| &entry["event"])
        .collect();
    assert_eq!(history.first(), Some(&&json!("OrderPlaced")), "{view:#}");
    assert_eq!(
        history.iter().filter(|event| **event == result).count(),
        1,
        "{result} once: {view:#}"
    );
}

#[tokio::test]
async fn an_order_is_billed_paid_reserved_and_dispatched() {
    let handler = Handler::start().await;
    let view = run(&handler, &new_order()).await;
    assert_result(
        &view,
        "completed",
        ["completed", "successful", "committed", "dispatched"],
        "OrderCompleted",
    );
    let billed = handler
        .topic
        .events()
        .into_iter()
        .find(|event| event["type"] == "Sales.BillingCompleted")
        .unwrap();
    // 19 % of 8990 is 1708.1, of 3900 is 741: rounded per line.
    let invoice = &billed["data"]["invoice"];
    assert_eq!(
        (&invoice["netAmount"], &invoice["taxAmount"]),
        (&json!(12_890), &json!(2_449))
    );
    assert_eq!(invoice["totalAmount"], 15_339);
}

#[tokio::test]
async fn an_order_to_a_country_without_a_tax_rate_is_cancelled() {
    let handler = Handler::start().await;
    let view = run(&handler, &with("/shipTo/country", json!("AQ"))).await;
    assert_result(
        &view,
        "cancelled",
        ["rejected", "none", "none", "none"],
        "OrderCancelled",
    );
    assert_eq!(view["reasonCode"], "unknownCountry");
}

#[tokio::test]
async fn a_declined_payment_voids_the_invoice() {
    let handler = Handler::start().await;
    let view = run(
        &handler,
        &with("/paymentMethod", json!("tok_chargeDeclined")),
    )
    .await;
    assert_result(
        &view,
        "cancelled",
        ["voided", "declined", "none", "none"],
        "OrderCancelled",
    );
    assert_eq!(view["reasonCode"], "cardDeclined");
}

#[tokio::test]
async fn a_payment_that_may_succeed_later_is_awaited_until_the_customer_cancels() {
    let handler = Handler::start().await;
    let view = run(
        &handler,
        &with(
            "/paymentMethod",
            json!("tok_chargeDeclinedInsufficientFunds"),
        ),
    )
    .await;
    assert_eq!(view["status"], "awaitingPayment", "{view:#}");
    let path = format!("/api/orders/{}", view["orderId"].as_str().unwrap());
    assert_eq!(
        Answer::of(handler.post(&format!("{path}/cancel")))
            .await
            .status,
        202
    );
    handler.deliver_all().await;
    let view = handler.get(&path).await.json();
    assert_result(
        &view,
        "cancelled",
        ["voided", "declined", "released", "cancelled"],
        "OrderCancelled",
    );
}

#[tokio::test]
async fn a_shortage_refunds_credits_and_cancels_the_shipment() {
    let handler = Handler::start().await;
    let last = json!([{ "sku": "LAST-1", "quantity": 6, "unitAmount": 500 }]);
    let view = run(&handler, &with("/lines", last)).await;
    assert_result(
        &view,
        "refunded",
        ["credited", "refunded", "short", "cancelled"],
        "OrderCancelled",
    );
    assert_eq!(view["reasonCode"], "outOfStock");
    let five = json!([{ "sku": "LAST-1", "quantity": 5, "unitAmount": 500 }]);
    let view = run(&handler, &with("/lines", five)).await;
    assert_eq!(
        view["status"], "completed",
        "a shortage takes nothing: {view:#}"
    );
}

#[tokio::test]
async fn a_shipment_that_fails_refunds_credits_and_releases_the_stock() {
    let handler = Handler::start().await;
    let mut order = with("/shipTo/postalCode", json!("00000"));
    order["lines"] = json!([{ "sku": "LAST-1", "quantity": 5, "unitAmount": 500 }]);
    let view = run(&handler, &order).await;
    assert_result(
        &view,
        "refunded",
        ["credited", "refunded", "released", "failed"],
        "OrderCancelled",
    );
    order["shipTo"]["postalCode"] = json!("10117");
    assert_eq!(
        run(&handler, &order).await["status"],
        "completed",
        "the stock is free again"
    );
}

#[tokio::test]
async fn a_refund_that_fails_needs_attention() {
    let handler = Handler::start().await;
    let mut order = with("/shipTo/postalCode", json!("00000"));
    order["paymentMethod"] = json!("tok_refundFail");
    let view = run(&handler, &order).await;
    assert_result(
        &view,
        "needsAttention",
        ["credited", "refundFailed", "released", "failed"],
        "OrderNeedsAttention",
    );
}

#[tokio::test]
async fn a_cancelled_order_is_undone_wherever_it_stands() {
    // Before anything is delivered, and after each further event.
    for delivered in 0..8 {
        let handler = Handler::start().await;
        let placed = handler.place(&new_order()).await;
        let path = placed.header("location").to_owned();
        for number in 0..delivered {
            let Some(event) = handler.topic.events().get(number).cloned() else {
                break;
            };
            for function in crate::support::subscribers(event["type"].as_str().unwrap()) {
                handler.invoke(function, event.clone()).await.assert_done();
            }
        }
        let answer = Answer::of(handler.post(&format!("{path}/cancel"))).await;
        handler.deliver_all().await;
        let view = handler.get(&path).await.json();
        match answer.status {
            202 => assert!(
                ["cancelled", "refunded", "completed"].contains(&view["status"].as_str().unwrap()),
                "{view:#}"
            ),
            409 => assert_eq!(view["status"], "completed", "{view:#}"),
            _ => panic!("{answer:?}"),
        }
        let again = Answer::of(handler.post(&format!("{path}/cancel"))).await;
        assert_eq!(
            again.status,
            if view["status"] == "completed" {
                409
            } else {
                202
            },
            "{again:?}"
        );
        if delivered == 0 {
            assert_result(
                &view,
                "cancelled",
                ["voided", "declined", "released", "cancelled"],
                "OrderCancelled",
            );
        }
        let names = handler.topic.names();
        let dispatched = names.contains(&"ShipmentDispatched".to_owned());
        let refunded = names.contains(&"PaymentRefunded".to_owned());
        assert!(
            !(dispatched && refunded),
            "after {delivered} events: {names:?}"
        );
    }
}

#[tokio::test]
async fn a_cancellation_that_overtakes_the_order_leaves_tombstones() {
    let handler = Handler::start().await;
    let placed = handler.place(&new_order()).await;
    let path = placed.header("location").to_owned();
    assert_eq!(
        Answer::of(handler.post(&format!("{path}/cancel")))
            .await
            .status,
        202
    );
    let cancel = handler
        .topic
        .events()
        .into_iter()
        .find(|event| event["type"] == "Sales.OrderCancelRequested")
        .unwrap();
    for function in ["billing", "payment", "inventory", "shipping", "orders"] {
        handler.invoke(function, cancel.clone()).await.assert_done();
    }
    handler.deliver_all().await;
    let view = handler.get(&path).await.json();
    assert_result(
        &view,
        "cancelled",
        ["rejected", "declined", "released", "cancelled"],
        "OrderCancelled",
    );
    let names = handler.topic.names();
    assert!(!names.contains(&"BillingCompleted".to_owned()), "{names:?}");
}
