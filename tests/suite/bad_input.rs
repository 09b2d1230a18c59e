//! Whatever arrives on any route: a clear error, or a parked event with its reason and an acknowledgement. Never a
//! panic, never a hang, nothing lost.

use orderflow::events::samples;
use serde_json::{Value, json};

use crate::support::{Answer, Handler, new_order, sample};

/// What a function makes of a body: from the host, and straight.
struct Case {
    name: &'static str,
    body: Vec<u8>,
    /// Words of the parked reason or of the problem.
    says: &'static str,
}

fn case(name: &'static str, body: impl Into<Vec<u8>>, says: &'static str) -> Case {
    Case {
        name,
        body: body.into(),
        says,
    }
}

fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut event = sample("OrderPlaced");
    change(&mut event);
    event.to_string()
}

fn nested(depth: usize) -> String {
    changed(|event| event["data"] = json!(null)).replace(
        "null",
        &format!("{}{}", "[".repeat(depth), "]".repeat(depth)),
    )
}

/// Events that are JSON, but can never be decided on.
fn impossible_events() -> Vec<Case> {
    vec![
        case("no object", "42", ""),
        case("null", "null", ""),
        case("empty object", "{}", "specversion"),
        case("no id", changed(|event| drop(event.as_object_mut().unwrap().remove("id"))), "id"),
        case("empty type", changed(|event| event["type"] = json!("")), "type"),
        case("old specversion", changed(|event| event["specversion"] = json!("0.3")), "specversion"),
        case("unknown type", changed(|event| event["type"] = json!("Sales.OrderLost")), "billing takes Sales.OrderPlaced"),
        case("event for another function", sample("StockReserved").to_string(), "billing takes Sales.OrderPlaced"),
        case("time is no time", changed(|event| event["time"] = json!("yesterday")), "time"),
        case("no data", changed(|event| drop(event.as_object_mut().unwrap().remove("data"))), "data"),
        case("data is null", changed(|event| event["data"] = json!(null)), "data"),
        case("data is a list", changed(|event| event["data"] = json!([1])), "data"),
        case("no order", changed(|event| event["data"] = json!({})), "data"),
        case("no lines", changed(|event| event["data"]["order"]["lines"] = json!([])), "data.order.lines: must have at least 1 line"),
        case("quantity 0", changed(|event| event["data"]["order"]["lines"][1]["quantity"] = json!(0)), "data.order.lines[1].quantity: must be at least 1"),
        case("quantity 1.5", changed(|event| event["data"]["order"]["lines"][0]["quantity"] = json!(1.5)), "data.order.lines[0].quantity"),
        case("huge quantity", changed(|event| event["data"]["order"]["lines"][0]["quantity"] = json!(u64::MAX)), "data.order.lines[0].quantity"),
        case("negative amount", changed(|event| event["data"]["order"]["lines"][0]["unitAmount"] = json!(-1)), "data.order.lines[0].unitAmount"),
        case("amount beyond 2^53", changed(|event| event["data"]["order"]["lines"][0]["unitAmount"] = json!(1_i64 << 53)), "data.order.lines[0].unitAmount"),
        case("small letters in a country", changed(|event| event["data"]["order"]["shipTo"]["country"] = json!("de")), "data.order.shipTo.country"),
        case("order id is no UUID", changed(|event| event["data"]["order"]["orderId"] = json!("42")), "data.order.orderId"),
        case("subject of another order", changed(|event| event["subject"] = json!(format!("orders/{}", uuid::Uuid::nil()))), "subject"),
        case("subject of something else", changed(|event| event["subject"] = json!("parcels/1")), "subject"),
        case("control characters in a name", changed(|event| event["data"]["order"]["shipTo"]["name"] = json!("a\u{0}b")), "data.order.shipTo.name"),
        case("Event Grid schema", json!({ "id": "1", "eventType": "Sales.OrderPlaced", "subject": "x", "eventTime": "2026-01-01T00:00:00Z", "data": {}, "dataVersion": "1" }).to_string(), "specversion"),
        case("duplicate members", changed(|_| ()).replacen('{', r#"{"id":"twice","#, 1), "id"),
        case("duplicate members in data", changed(|_| ()).replacen(r#""quantity":"#, r#""quantity":3,"quantity":"#, 1), "data: duplicate field `quantity`"),
        case("nested 120 deep", nested(120), "data"),
    ]
}

#[tokio::test]
async fn an_impossible_event_is_parked_for_the_host_and_refused_to_a_direct_sender() {
    let handler = Handler::start().await;
    for Case { name, body, says } in impossible_events() {
        let body = String::from_utf8(body).unwrap();
        let bound: Value = match serde_json::from_str(&body) {
            // What a parser would tidy up goes as text.
            Ok(_) if name.starts_with("duplicate") => json!(body),
            Ok(value) => value,
            Err(_) => json!(body),
        };
        let answer = handler.invoke("billing", bound).await;
        answer.assert_done();
        let log = answer.json()["Logs"][0]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        assert!(
            log.starts_with("parked: ") && log.contains(says),
            "{name}: {answer:?}"
        );

        let request = handler
            .post("/billing")
            .header("content-type", "application/cloudevents+json");
        let answer = Answer::of(request.body(body)).await;
        answer.assert_problem(400, says);
    }
    assert_eq!(
        handler.topic.names(),
        Vec::<String>::new(),
        "nothing followed"
    );
    let parked = handler.store.parked(samples::ORDER_ID).await.unwrap();
    assert!(
        parked.len() >= 5,
        "what names an order is found by it: {parked:?}"
    );
    assert!(
        parked.iter().all(|parked| !parked.body.is_empty()),
        "nothing is lost"
    );
}

#[tokio::test]
async fn a_body_that_is_no_json_is_parked_for_the_host_and_refused_to_a_direct_sender() {
    let handler = Handler::start().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases = [
        case("empty", "", ""),
        case("blank", "   ", ""),
        case("text", "hello", ""),
        case("half an object", r#"{"Data":{"event":"#, ""),
        case(
            "invalid UTF-8",
            b"{\"Data\":{\"event\":\"\xff\xfe\"}}".to_vec(),
            "",
        ),
        case("nested 100,000 deep", deep, ""),
        case(
            "a number that no type holds",
            format!(r#"{{"Data":1e{}}}"#, "9".repeat(400)),
            "",
        ),
    ];
    for Case { name, body, says } in cases {
        for path in ["/billing", "/payment", "/inventory", "/shipping", "/orders"] {
            let from_host = handler
                .post(path)
                .header("x-azure-functions-invocationid", "1");
            let answer = Answer::of(
                from_host
                    .header("content-type", "application/json")
                    .body(body.clone()),
            )
            .await;
            answer.assert_done();
            assert!(
                answer.text.contains("parked"),
                "{name} at {path}: {answer:?}"
            );
            for content_type in [
                "application/json",
                "application/cloudevents+json",
                "application/cloudevents-batch+json",
            ] {
                let request = handler.post(path).header("content-type", content_type);
                Answer::of(request.body(body.clone()))
                    .await
                    .assert_problem(400, says);
            }
        }
    }
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_413_declared_or_not() {
    let handler = Handler::start_in_memory().await;
    let large = vec![b' '; 9 * 1024 * 1024];
    for path in ["/billing", "/api/orders"] {
        let request = handler
            .post(path)
            .header("content-type", "application/json");
        Answer::of(request.body(large.clone()))
            .await
            .assert_problem(413, "at most 8388608 bytes");
        let chunks = large
            .chunks(64 * 1024)
            .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
            .collect::<Vec<_>>();
        let request = handler
            .post(path)
            .header("content-type", "application/json");
        let stream = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
        Answer::of(request.body(stream))
            .await
            .assert_problem(413, "at most 8388608 bytes");
    }
    let mut event = sample("OrderPlaced");
    event["padding"] = json!("x".repeat(1_000_000));
    assert_eq!(
        handler.invoke("billing", event).await.status,
        200,
        "an event of Event Grid's 1 MB passes"
    );
}

#[tokio::test]
async fn a_header_that_is_no_text_is_an_error() {
    let handler = Handler::start_in_memory().await;
    let request = handler
        .post("/billing")
        .header("content-type", b"\xff\xfe".as_slice())
        .header("ce-specversion", "1.0");
    Answer::of(request.body("{}")).await.assert_problem(400, "");
}

#[tokio::test]
async fn an_order_that_cannot_be_is_refused_with_the_field() {
    let handler = Handler::start().await;
    let set = |path: &str, value: Value| {
        let mut order = new_order();
        *order.pointer_mut(path).unwrap() = value;
        order
    };
    let cases = [
        (
            set("/lines", json!([])),
            "lines",
            "must have at least 1 line",
        ),
        (
            set("/lines/1/quantity", json!(0)),
            "lines[1].quantity",
            "must be at least 1",
        ),
        (
            set("/lines/0/quantity", json!(1_000_001)),
            "lines[0].quantity",
            "must be at most 1000000",
        ),
        (
            set("/lines/0/quantity", json!("1")),
            "lines[0].quantity",
            "invalid type",
        ),
        (
            set("/lines/0/unitAmount", json!(8991)),
            "lines[0].unitAmount",
            "the price of KB-87 is 8990, got 8991",
        ),
        (
            set("/lines/1/sku", json!("XX-1")),
            "lines[1].sku",
            "not on the price list",
        ),
        (
            set("/currency", json!("USD")),
            "currency",
            "no price list in USD",
        ),
        (set("/currency", json!("euro")), "currency", "ISO 4217"),
        (
            set("/customer/email", json!("ada")),
            "customer.email",
            "e-mail",
        ),
        (
            set("/shipTo/country", json!("Germany")),
            "shipTo.country",
            "ISO 3166-1",
        ),
        (
            set("/shipTo/street", json!("x".repeat(201))),
            "shipTo.street",
            "1 to 200 characters",
        ),
        (
            set("/paymentMethod", json!("")),
            "paymentMethod",
            "1 to 200 characters",
        ),
        (json!({}), "", "missing field `customer`"),
        (json!([]), "", "invalid"),
    ];
    for (order, field, says) in cases {
        let answer = handler.place(&order).await;
        answer.assert_problem(422, says);
        assert_eq!(
            answer.json()["field"].as_str().unwrap_or_default(),
            field,
            "{answer:?}"
        );
    }
    assert_eq!(
        handler.topic.names(),
        Vec::<String>::new(),
        "nothing was placed"
    );
}

#[tokio::test]
async fn a_request_that_is_no_order_is_explained() {
    let handler = Handler::start_in_memory().await;
    let json = |body: &'static str| {
        handler
            .post("/api/orders")
            .header("content-type", "application/json")
            .body(body)
    };
    Answer::of(json(""))
        .await
        .assert_problem(400, "the body is empty");
    Answer::of(json("{")).await.assert_problem(400, "EOF");
    Answer::of(handler.post("/api/orders").body("{}"))
        .await
        .assert_problem(415, "application/json");
    for key in ["", &"k".repeat(256)] {
        let request = handler
            .post("/api/orders")
            .header("content-type", "application/json");
        let answer = Answer::of(
            request
                .header("Idempotency-Key", key)
                .body(new_order().to_string()),
        )
        .await;
        answer.assert_problem(400, "Idempotency-Key");
    }
    handler
        .get("/api/orders/42")
        .await
        .assert_problem(400, "must be a UUID");
    handler
        .get(&format!("/api/orders/{}", uuid::Uuid::nil()))
        .await
        .assert_problem(404, "there is no order");
    handler
        .get("/api/orders?status=lost")
        .await
        .assert_problem(400, "must be one of placed");
    handler
        .get("/api/orders?limit=0")
        .await
        .assert_problem(400, "from 1 to 200");
    handler
        .get("/api/orders?after=x")
        .await
        .assert_problem(400, "UUID");
    handler
        .get("/api/orders?limit=1&limit=2")
        .await
        .assert_problem(400, "duplicate field");
    handler
        .get("/api/orders/%ff")
        .await
        .assert_problem(400, "must be a UUID");
    Answer::of(handler.post("/api/orders/42/cancel"))
        .await
        .assert_problem(400, "must be a UUID");
    let unknown = format!("/api/orders/{}/cancel", uuid::Uuid::nil());
    Answer::of(handler.post(&unknown))
        .await
        .assert_problem(404, "there is no order");
}
