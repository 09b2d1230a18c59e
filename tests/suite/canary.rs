//! `orderflow canary`, and what an order that is marked as a test does to a running application.

use serde_json::json;

use crate::{
    processes::{Dev, orderflow, output},
    support::{Handler, new_order},
};

#[tokio::test]
async fn a_test_order_reaches_every_service_and_none_of_them_does_anything() {
    let handler = Handler::start().await;
    let mut order = new_order();
    order["test"] = json!(true);
    // It is sent where nobody knows what is sold there.
    order["lines"][0]["sku"] = json!("CANARY");
    let answer = handler.place(&order).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    handler.deliver_all().await;
    let view = handler.get(answer.header("location")).await.json();
    assert_eq!(
        (&view["status"], &view["reasonCode"]),
        (&json!("cancelled"), &json!("testOrder")),
        "{view:#}"
    );
    let history: Vec<_> = view["history"].as_array().unwrap().iter().collect();
    assert_eq!(history[0]["event"], "OrderPlaced");
    assert_eq!(history[1]["event"], "OrderCancelRequested");
    for answer in [
        "BillingRejected",
        "PaymentDeclined",
        "StockReleased",
        "ShipmentCancelled",
        "OrderCancelled",
    ] {
        let said = history.iter().filter(|entry| entry["event"] == answer);
        assert_eq!(said.count(), 1, "{answer}: {view:#}");
    }
    assert!(
        handler.world.performed().is_empty(),
        "nobody outside was called"
    );
    // The same order without the mark is refused: its article is on no price list.
    order["test"] = json!(false);
    handler
        .place(&order)
        .await
        .assert_problem(422, "lines[0].sku");
}

#[tokio::test]
async fn the_canary_comes_back_from_every_service() {
    let data = tempfile::tempdir().unwrap();
    let dev = Dev::start(data.path()).await;
    let (code, printed, errors) = output(&mut orderflow(&["canary", "--to", &dev.host])).await;
    assert_eq!((code, errors.as_str()), (Some(0), ""), "{printed}");
    let lines: Vec<_> = printed.lines().collect();
    assert!(lines[0].starts_with("placed the test order "), "{printed}");
    let last = lines.last().unwrap();
    assert!(
        last.starts_with("every service has answered, the order is cancelled ("),
        "{printed}"
    );
    // Two lines about it, and each event once: two of the order's, and five answers.
    assert_eq!(lines.len(), 9, "{printed}");
    dev.stop().await;
}

#[tokio::test]
async fn the_canary_names_those_who_do_not_answer() {
    // Nobody delivers what this handler publishes.
    let handler = Handler::start().await;
    let (code, _, errors) = output(&mut orderflow(&[
        "canary",
        "--to",
        &handler.url("/"),
        "--timeout",
        "1",
    ]))
    .await;
    assert_eq!(code, Some(1));
    for service in ["billing", "payment", "inventory", "shipping", "orders"] {
        assert!(errors.contains(&format!("{service} (no ")), "{errors}");
    }
    assert_eq!(errors.lines().count(), 1, "{errors}");
}

#[tokio::test]
async fn the_canary_shows_its_key_to_the_application_alone() {
    use axum::{
        Router,
        http::{HeaderMap, StatusCode},
        routing::post,
    };
    let guarded = async |headers: HeaderMap| match headers.get("x-functions-key") {
        Some(key) if key == "s3cret" => StatusCode::BAD_REQUEST,
        _ => StatusCode::UNAUTHORIZED,
    };
    let app = crate::support::listen(Router::new().route("/api/orders", post(guarded))).await;
    for (key, expected) in [("s3cret", "400"), ("wr0ng", "401")] {
        let mut command = orderflow(&["canary", "--to", &app, "--timeout", "5"]);
        let (code, printed, errors) = output(command.env("ORDERFLOW_FUNCTION_KEY", key)).await;
        assert_eq!(code, Some(1));
        assert!(errors.contains(expected), "{errors}");
        assert!(!format!("{printed}{errors}").contains(key), "{errors}");
    }
}
