//! The wire contract with the Functions host and with direct senders, shape by shape.

use orderflow::{events::samples, store::Parked};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Handler, sample};

/// A sample under an id of its own.
fn with_id(event_type: &str, id: &str) -> Value {
    let mut event = sample(event_type);
    event["id"] = json!(id);
    event
}

fn text(value: &Value) -> Value {
    json!(value.to_string())
}

#[tokio::test]
async fn an_invocation_takes_the_event_as_object_string_or_array() {
    let placed = sample("OrderPlaced");
    let shapes: [(&str, Value); 6] = [
        ("object", placed.clone()),
        ("string", text(&placed)),
        (
            "string in a string, as from Service Bus",
            text(&text(&placed)),
        ),
        ("array of objects", json!([placed])),
        ("array of strings", json!([text(&placed)])),
        (
            "string holding an array, as with cardinality many",
            text(&json!([placed])),
        ),
    ];
    for (shape, bound) in shapes {
        let handler = Handler::start_in_memory().await;
        let answer = handler.invoke("billing", bound).await;
        answer.assert_done();
        assert_eq!(handler.topic.names(), ["BillingCompleted"], "{shape}");
    }
}

#[tokio::test]
async fn every_event_of_an_array_is_delivered() {
    let handler = Handler::start().await;
    let mut placed = Vec::new();
    for number in 1..=3_u128 {
        let order = orderflow::events::OrderId(uuid::Uuid::from_u128(number));
        placed.push(crate::support::sample_of("OrderPlaced", order));
    }
    handler.invoke("billing", json!(placed)).await.assert_done();
    assert_eq!(handler.topic.names(), ["BillingCompleted"; 3]);
    assert_eq!(handler.topic.distinct_ids().len(), 3);
}

#[tokio::test]
async fn the_binding_may_have_another_name_if_it_is_the_only_one() {
    let handler = Handler::start_in_memory().await;
    let body = json!({ "Data": { "eventGridEvent": sample("OrderPlaced") }, "Metadata": {} });
    Answer::of(handler.post("/billing").body(body.to_string()))
        .await
        .assert_done();
    assert_eq!(handler.topic.names(), ["BillingCompleted"]);
}

#[tokio::test]
async fn an_empty_array_is_done_at_once() {
    let handler = Handler::start_in_memory().await;
    handler.invoke("billing", json!([])).await.assert_done();
}

#[tokio::test]
async fn a_chunked_invocation_is_read() {
    let handler = Handler::start_in_memory().await;
    let body = json!({ "Data": { "event": sample("OrderPlaced") }, "Metadata": {} }).to_string();
    let (first, second) = body.split_at(body.len() / 2);
    let chunks = futures_util::stream::iter(
        [first.to_owned(), second.to_owned()].map(Ok::<_, std::io::Error>),
    );
    let request = handler
        .post("/billing")
        .header("content-type", "application/json");
    let answer = Answer::of(request.body(reqwest::Body::wrap_stream(chunks))).await;
    answer.assert_done();
    assert_eq!(handler.topic.names(), ["BillingCompleted"]);
}

#[tokio::test]
async fn the_host_gets_done_for_done_duplicate_ignored_and_parked() {
    let handler = Handler::start().await;
    let placed = sample("OrderPlaced");
    handler
        .invoke("billing", placed.clone())
        .await
        .assert_done();
    handler.invoke("billing", placed).await.assert_done();
    // The same order under another event id: done already.
    handler
        .invoke("billing", with_id("OrderPlaced", "another"))
        .await
        .assert_done();
    let mut invalid = with_id("OrderPlaced", "invalid");
    invalid["data"]["order"]["lines"][0]["quantity"] = json!(0);
    let answer = handler.invoke("billing", invalid).await;
    answer.assert_done();
    let log = answer.json()["Logs"][0].as_str().unwrap().to_owned();
    assert_eq!(
        log,
        "parked: data.order.lines[0].quantity: must be at least 1"
    );
    assert_eq!(handler.topic.names(), ["BillingCompleted"]);
}

#[tokio::test]
async fn what_is_parked_is_the_event_as_it_came_however_it_was_wrapped() {
    let handler = Handler::start().await;
    let mut invalid = sample("OrderPlaced");
    invalid["data"]["order"]["lines"][0]["quantity"] = json!(0);
    for (id, shape) in [("object", 0), ("string", 1), ("array", 2)] {
        invalid["id"] = json!(id);
        let bound = match shape {
            0 => invalid.clone(),
            1 => json!(invalid.to_string()),
            _ => json!([invalid]),
        };
        handler.invoke("billing", bound).await.assert_done();
        let parked = handler.store.parked(samples::ORDER_ID).await.unwrap();
        let of_this = |parked: &&Parked| parked.event_id.as_deref() == Some(id);
        let parked = parked.iter().find(of_this).unwrap();
        let body: Value = serde_json::from_slice(&parked.body).unwrap();
        assert_eq!(body, invalid, "{id}");
    }
}

#[tokio::test]
async fn the_host_gets_5xx_with_a_body_when_the_topic_is_away() {
    let handler = Handler::start().await;
    handler.topic.fail_with(403);
    let answer = handler.invoke("billing", sample("OrderPlaced")).await;
    answer.assert_problem(503, "the topic");
    // An invocation of several events fails as a whole.
    let answer = handler
        .invoke("billing", json!([sample("OrderPlaced")]))
        .await;
    answer.assert_problem(503, "the topic");
}

#[tokio::test]
async fn a_direct_event_is_taken_in_structured_batch_and_binary_mode() {
    let placed = sample("OrderPlaced");
    let attributes = [
        "id",
        "source",
        "type",
        "specversion",
        "subject",
        "time",
        "traceparent",
        "correlationid",
    ];

    let handler = Handler::start_in_memory().await;
    let answer = handler.send("billing", &placed).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(
        answer.json()["results"][0],
        json!({ "id": placed["id"], "outcome": "accepted" })
    );

    let handler = Handler::start_in_memory().await;
    let request = handler
        .post("/billing")
        .header("content-type", "application/cloudevents-batch+json");
    let answer = Answer::of(request.body(json!([placed]).to_string())).await;
    assert_eq!(
        (answer.status, handler.topic.names().len()),
        (200, 1),
        "{answer:?}"
    );

    let handler = Handler::start_in_memory().await;
    let request = handler
        .post("/billing")
        .header("content-type", "application/json");
    let request = attributes.iter().fold(request, |request, name| {
        request.header(format!("ce-{name}"), placed[*name].as_str().unwrap())
    });
    let answer = Answer::of(request.body(placed["data"].to_string())).await;
    assert_eq!(
        (answer.status, handler.topic.names().len()),
        (200, 1),
        "{answer:?}"
    );
    let billed = handler.topic.events().remove(0);
    assert_eq!(billed["causationid"], placed["id"]);
}

#[tokio::test]
async fn a_structured_event_under_a_careless_content_type_is_taken() {
    for content_type in [
        "application/json",
        "application/x-www-form-urlencoded",
        "text/plain",
    ] {
        let handler = Handler::start_in_memory().await;
        let request = handler
            .post("/billing")
            .header("content-type", content_type);
        let answer = Answer::of(request.body(sample("OrderPlaced").to_string())).await;
        assert_eq!(answer.status, 200, "{content_type}: {answer:?}");
    }
}

#[tokio::test]
async fn a_direct_sender_is_told_what_became_of_its_event() {
    let handler = Handler::start().await;
    let placed = sample("OrderPlaced");
    let outcome = |answer: &Answer| {
        answer.json()["results"][0]["outcome"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(outcome(&handler.send("billing", &placed).await), "accepted");
    assert_eq!(
        outcome(&handler.send("billing", &placed).await),
        "duplicate"
    );
    assert_eq!(
        outcome(
            &handler
                .send("billing", &with_id("OrderPlaced", "another"))
                .await
        ),
        "ignored"
    );

    let mut invalid = with_id("OrderPlaced", "invalid");
    invalid["data"]["order"]["lines"][1]["quantity"] = json!(-2);
    let answer = handler.send("billing", &invalid).await;
    answer.assert_problem(400, "must be at least 1");
    assert_eq!(answer.json()["field"], "data.order.lines[1].quantity");

    let request = handler
        .post("/billing")
        .header("content-type", "application/cloudevents+xml");
    Answer::of(request.body("<event/>"))
        .await
        .assert_problem(415, "application/cloudevents+json");

    handler.topic.fail_with(404);
    let other = orderflow::events::OrderId(uuid::Uuid::from_u128(7));
    let answer = handler
        .send("billing", &crate::support::sample_of("OrderPlaced", other))
        .await;
    answer.assert_problem(503, "the topic");
    assert_eq!(answer.header("retry-after"), "10");
}

#[tokio::test]
async fn every_function_answers_the_cloud_events_handshake() {
    let handler = Handler::start_in_memory().await;
    for function in ["billing", "payment", "inventory", "shipping", "orders"] {
        let request = handler
            .client
            .request(Method::OPTIONS, handler.url(&format!("/{function}")));
        let request = request
            .header("WebHook-Request-Origin", "eventgrid.azure.net")
            .header("WebHook-Request-Rate", "120");
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.header("webhook-allowed-origin"),
            "eventgrid.azure.net"
        );
        assert_eq!(answer.header("webhook-allowed-rate"), "120");
        assert_eq!(answer.header("allow"), "POST, OPTIONS");
    }
}

#[tokio::test]
async fn the_probe_answers_and_the_timer_sweeps() {
    let handler = Handler::start_in_memory().await;
    let answer = handler.get("/").await;
    assert_eq!(
        (answer.status, answer.json()["name"].as_str()),
        (200, Some("orderflow"))
    );
    let timer = json!({ "Data": { "timer": { "IsPastDue": false } }, "Metadata": {} });
    Answer::of(handler.post("/sweep").body(timer.to_string()))
        .await
        .assert_done();
    Answer::of(handler.post("/sweep")).await.assert_done();
}

#[tokio::test]
async fn the_probe_answers_before_the_store_is_open() {
    let slot = std::sync::Arc::new(tokio::sync::SetOnce::new());
    let address = crate::support::listen(orderflow::handler::router(slot)).await;
    let answer = Answer::of(crate::support::client().get(address)).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn unknown_paths_and_methods_are_explained() {
    let handler = Handler::start_in_memory().await;
    Answer::of(handler.post("/Billing"))
        .await
        .assert_problem(404, "the functions are billing");
    handler
        .get("/billing")
        .await
        .assert_problem(405, "does not take GET");
    Answer::of(handler.client.delete(handler.url("/api/orders")))
        .await
        .assert_problem(405, "does not take DELETE");
}
