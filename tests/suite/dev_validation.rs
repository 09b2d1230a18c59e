//! The handshake of the Event Grid schema with the local Event Grid, over real HTTP.

use std::sync::{Arc, Mutex};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::post,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    dev_grid::{Grid, until},
    dev_subscriptions::with,
    support::{eventually, listen},
};

/// How an endpoint answers the validation event.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// With this status and the code.
    Code(u16),
    /// With 200 and something else.
    Other,
}

/// An endpoint whose validation is looked at.
struct Webhook {
    answer: Mutex<Answer>,
    asked: Mutex<Vec<(HeaderMap, Value)>>,
    delivered: Mutex<Vec<String>>,
}

impl Webhook {
    /// Starts it and a grid with one subscription to it, and publishes one event.
    async fn start(answer: Answer, speed: f64) -> (Arc<Self>, TempDir, Grid) {
        let webhook = Arc::new(Self {
            answer: Mutex::new(answer),
            asked: Mutex::default(),
            delivered: Mutex::default(),
        });
        let routes = Router::new()
            .route("/hook", post(take))
            .with_state(Arc::clone(&webhook));
        let url = format!("{}/hook?code=secret", listen(routes).await);
        let subscriptions = json!({"topics": {"stock": {"inputSchema": "EventGridSchema", "subscriptions": {
            "one": {"destination": {"endpointType": "WebHook", "properties": {"endpointUrl": url}}},
        }}}});
        let folder = tempfile::tempdir().unwrap();
        let mut options = with(folder.path(), "http://127.0.0.1:1", &subscriptions);
        options.speed = speed;
        let grid = Grid::start_with(options).await;
        let event = json!([{"id": "1", "subject": "", "data": {}, "eventType": "Any", "eventTime": "2026-11-24T10:00:00Z", "dataVersion": ""}]);
        let published = grid.publish_with("application/json", &grid.key, event.to_string());
        assert_eq!(published.await.0, 200);
        (webhook, folder, grid)
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    fn delivered(&self) -> usize {
        self.delivered.lock().unwrap().len()
    }

    fn will_answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The address for consent by hand.
    fn validation_url(&self) -> String {
        let asked = self.asked.lock().unwrap();
        let (_, event) = asked.last().unwrap();
        event["data"]["validationUrl"].as_str().unwrap().to_owned()
    }
}

async fn take(State(webhook): State<Arc<Webhook>>, headers: HeaderMap, body: Bytes) -> Response {
    let body = String::from_utf8(body.to_vec()).unwrap();
    if headers["aeg-event-type"] == "Notification" {
        webhook.delivered.lock().unwrap().push(body);
        return StatusCode::OK.into_response();
    }
    let events: Vec<Value> = serde_json::from_str(&body).unwrap();
    let [event] = &events[..] else {
        panic!("{body}")
    };
    let code = event["data"]["validationCode"].clone();
    webhook.asked.lock().unwrap().push((headers, event.clone()));
    let answer = *webhook.answer.lock().unwrap();
    match answer {
        Answer::Code(status) => {
            let body = json!({"validationResponse": code}).to_string();
            (StatusCode::from_u16(status).unwrap(), body).into_response()
        }
        Answer::Other => r#"{"validationResponse":"another"}"#.into_response(),
    }
}

/// Nothing is delivered, and nothing lost, while the grid answers so many times.
async fn nothing_is_delivered(webhook: &Webhook, grid: &Grid) {
    for _ in 0..30 {
        assert_eq!(grid.get("/idle").await["pending"], 1);
    }
    assert_eq!(webhook.delivered(), 0);
}

#[tokio::test]
async fn the_code_sent_back_with_200_gives_consent() {
    let (webhook, _folder, grid) = Webhook::start(Answer::Code(200), 60.0).await;
    grid.until_idle().await;
    assert_eq!((webhook.asked(), webhook.delivered()), (1, 1));
    let (headers, event) = webhook.asked.lock().unwrap()[0].clone();
    for (name, value) in [
        ("aeg-event-type", "SubscriptionValidation"),
        ("aeg-subscription-name", "ONE"),
        ("aeg-metadata-version", "1"),
        ("aeg-data-version", "1"),
        ("content-type", "application/json; charset=utf-8"),
    ] {
        assert_eq!(headers[name], value, "{name}");
    }
    assert_eq!(
        event["eventType"],
        "Microsoft.EventGrid.SubscriptionValidationEvent"
    );
    assert!(event["topic"].as_str().unwrap().ends_with("/topics/stock"));
    assert_eq!(event["metadataVersion"], "1");
    for member in ["id", "subject", "eventTime", "dataVersion"] {
        assert!(event[member].is_string(), "{event}");
    }
    assert!(
        webhook
            .validation_url()
            .starts_with(&format!("{}/consent/", grid.address))
    );
    grid.stop().await;
}

#[tokio::test]
async fn another_status_gives_no_consent_and_the_event_is_sent_again() {
    // At this speed the grid asks again after 10 ms.
    let (webhook, _folder, grid) = Webhook::start(Answer::Code(202), 500.0).await;
    until("the grid asks again", || webhook.asked() >= 3).await;
    nothing_is_delivered(&webhook, &grid).await;
    // The endpoint did not take the event, so there is nothing to confirm.
    let visited = grid.client.get(webhook.validation_url()).send().await;
    assert_eq!(visited.unwrap().status(), 404);
    webhook.will_answer(Answer::Code(200));
    grid.until_idle().await;
    assert_eq!(webhook.delivered(), 1);
    grid.stop().await;
}

#[tokio::test]
async fn an_answer_without_the_code_is_confirmed_by_hand() {
    let (webhook, _folder, grid) = Webhook::start(Answer::Other, 1.0).await;
    until("the grid asks", || webhook.asked() == 1).await;
    nothing_is_delivered(&webhook, &grid).await;
    let url = webhook.validation_url();
    let visit = async |url: &str| grid.client.get(url).send().await.unwrap().status();
    assert_eq!(visit(&format!("{url}x")).await, 404);
    // Refused until the answer has arrived.
    eventually("consent is taken", async || {
        (visit(&url).await == 200).then_some(())
    })
    .await;
    grid.until_idle().await;
    assert_eq!((webhook.asked(), webhook.delivered()), (1, 1));
    grid.stop().await;
}

#[tokio::test]
async fn who_does_not_confirm_for_too_long_is_asked_again() {
    // At this speed ten minutes take 60 ms.
    let (webhook, _folder, grid) = Webhook::start(Answer::Other, 10_000.0).await;
    until("the grid asks again", || webhook.asked() >= 2).await;
    assert_eq!(webhook.delivered(), 0);
    webhook.will_answer(Answer::Code(200));
    grid.until_idle().await;
    assert_eq!(webhook.delivered(), 1);
    grid.stop().await;
}
