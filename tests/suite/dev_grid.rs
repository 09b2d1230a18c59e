//! The local Event Grid over real HTTP: what it accepts, what a function gets, when it tries again and what it keeps.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::{RawQuery, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
    routing::any,
};
use orderflow::dev::{DeliveryOptions, DevError, GridOptions, LocalGrid, Samples, Subscription};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

const ONE: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// An event as a publisher would not write it, so that a rebuilt one would differ.
pub(crate) fn odd_event(id: &str, event_type: &str) -> String {
    format!(
        r#"{{ "type":"{event_type}","id" : "{id}","specversion":"1.0","subject":"orders/o-{id}","data":{{"b":1.0e0,"a":"ä"}},"traceparent":"00-1","source":"/sales/orders"}}"#
    )
}

/// One request that a function got.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Delivery {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .unwrap_or_else(|| panic!("no header {name}"))
            .to_str()
            .unwrap()
    }
}

/// Stands in for the host: consents, records what is delivered and answers as told.
#[derive(Default)]
pub(crate) struct Endpoint {
    refuses: AtomicBool,
    asked: AtomicUsize,
    /// The answers to come; then 202.
    answers: Mutex<VecDeque<u16>>,
    /// A function that never answers.
    stuck: Mutex<Option<&'static str>>,
    deliveries: Mutex<Vec<Delivery>>,
}

impl Endpoint {
    pub(crate) async fn start() -> (Arc<Self>, String) {
        let endpoint = Arc::new(Self::default());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route("/runtime/webhooks/eventgrid", any(answer))
            .with_state(Arc::clone(&endpoint));
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        (endpoint, address)
    }

    pub(crate) fn deliveries(&self) -> Vec<Delivery> {
        self.deliveries.lock().unwrap().clone()
    }

    pub(crate) fn will_answer(&self, answers: &[u16]) {
        self.answers.lock().unwrap().extend(answers);
    }
}

async fn answer(
    State(endpoint): State<Arc<Endpoint>>,
    method: Method,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if method == Method::OPTIONS {
        endpoint.asked.fetch_add(1, Ordering::SeqCst);
        assert_eq!(headers["WebHook-Request-Origin"], "eventgrid.azure.net");
        if endpoint.refuses.load(Ordering::SeqCst) {
            return StatusCode::OK.into_response();
        }
        return [("WebHook-Allowed-Origin", "eventgrid.azure.net")].into_response();
    }
    assert_eq!(method, Method::POST);
    let query = query.unwrap_or_default();
    let body = String::from_utf8(body.to_vec()).unwrap();
    if headers["aeg-event-type"] == "SubscriptionValidation" {
        let events: Value = serde_json::from_str(&body).unwrap();
        let code = &events[0]["data"]["validationCode"];
        let answer = serde_json::json!({ "validationResponse": code });
        return answer.to_string().into_response();
    }
    let stuck = endpoint
        .stuck
        .lock()
        .unwrap()
        .is_some_and(|function| query.ends_with(function));
    endpoint.deliveries.lock().unwrap().push(Delivery {
        query,
        headers,
        body,
    });
    if stuck {
        std::future::pending::<()>().await;
    }
    let status = endpoint.answers.lock().unwrap().pop_front().unwrap_or(202);
    // Whoever followed this would find nothing.
    (
        StatusCode::from_u16(status).unwrap(),
        [("location", "/elsewhere")],
        "because",
    )
        .into_response()
}

/// A running grid.
pub(crate) struct Grid {
    pub(crate) address: String,
    pub(crate) key: String,
    pub(crate) client: reqwest::Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), DevError>>,
}

pub(crate) fn options(data: &Path, deliver_to: &str, speed: f64) -> GridOptions {
    let subscription = |function, event_types| Subscription {
        function,
        binding: "event",
        event_types,
    };
    GridOptions {
        grid_port: 0,
        deliver_to: deliver_to.to_owned(),
        data: data.to_path_buf(),
        speed,
        throttle: false,
        quiet: true,
        delivery: DeliveryOptions {
            dead_letter_hold: Some(Duration::ZERO),
            ..DeliveryOptions::default()
        },
        subscriptions: vec![
            subscription("billing", vec!["Sales.OrderPlaced"]),
            subscription("orders", vec!["Sales.OrderPlaced", "Sales.OrderCompleted"]),
        ],
        samples: Samples::default(),
    }
}

impl Grid {
    async fn start(data: &Path, deliver_to: &str, speed: f64) -> Self {
        Self::start_with(options(data, deliver_to, speed)).await
    }

    pub(crate) async fn start_with(options: GridOptions) -> Self {
        let grid = LocalGrid::bind(options).await.unwrap();
        let address = grid.grid_address().to_owned();
        let key = orderflow::dev::DEVELOPMENT_KEY.to_owned();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(grid.run(async { drop(stopped.await) }));
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self {
            address,
            key,
            client,
            stop,
            running,
        }
    }

    pub(crate) async fn publish_with(
        &self,
        content_type: &str,
        key: &str,
        body: String,
    ) -> (u16, Value) {
        let url = format!("{}/api/events", self.address);
        self.publish_to(&url, content_type, key, body).await
    }

    pub(crate) async fn publish_to(
        &self,
        url: &str,
        content_type: &str,
        key: &str,
        body: String,
    ) -> (u16, Value) {
        let request = self.client.post(format!("{url}?api-version=2018-01-01"));
        let request = request
            .header("content-type", content_type)
            .header("aeg-sas-key", key);
        let answer = request.body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    pub(crate) async fn publish(&self, event: &str) {
        let (status, body) = self.publish_with(ONE, &self.key, event.to_owned()).await;
        assert_eq!((status, body), (200, Value::Null));
    }

    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self
            .client
            .get(format!("{}{path}", self.address))
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{path}: {answer:?}");
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    pub(crate) async fn until_idle(&self) {
        let started = Instant::now();
        while self.get("/idle").await["pending"] != 0 {
            assert!(
                started.elapsed() < PATIENCE,
                "still pending: {}",
                self.get("/events").await
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
    }

    /// Ends the grid as a kill would: in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled());
    }
}

pub(crate) async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A folder for the grid, an endpoint and a grid that delivers to it.
async fn start(speed: f64) -> (TempDir, Arc<Endpoint>, Grid) {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    let grid = Grid::start(folder.path(), &address, speed).await;
    (folder, endpoint, grid)
}

#[tokio::test]
async fn an_event_reaches_every_function_that_takes_its_type_unchanged_and_alone() {
    let (_folder, endpoint, grid) = start(60.0).await;
    let placed = odd_event("1", "Sales.OrderPlaced");
    let completed = odd_event("2", "Sales.OrderCompleted");
    let batch = format!(
        "[{placed}, {completed},{}]",
        odd_event("3", "Sales.Unheard")
    );
    let batch_type = "application/cloudevents-batch+json; charset=utf-8";
    assert_eq!(grid.publish_with(batch_type, &grid.key, batch).await.0, 200);
    grid.until_idle().await;

    let mut deliveries = endpoint.deliveries();
    deliveries.sort_by_key(|delivery| (delivery.query.clone(), delivery.body.clone()));
    let seen: Vec<_> = deliveries
        .iter()
        .map(|delivery| (delivery.query.as_str(), delivery.body.as_str()))
        .collect();
    let mut expected = [
        ("functionName=billing", placed.as_str()),
        ("functionName=orders", completed.as_str()),
        ("functionName=orders", placed.as_str()),
    ];
    expected.sort_unstable();
    assert_eq!(seen, expected);
    let [billing, ..] = &deliveries[..] else {
        panic!()
    };
    assert_eq!(
        billing.header("content-type"),
        "application/cloudevents+json; charset=utf-8"
    );
    assert_eq!(billing.header("aeg-event-type"), "Notification");
    assert_eq!(billing.header("aeg-subscription-name"), "BILLING");
    assert_eq!(billing.header("aeg-delivery-count"), "1");
    assert_eq!(billing.header("aeg-metadata-version"), "1.0");
    grid.stop().await;
}

#[tokio::test]
async fn publishers_must_show_the_key() {
    let (_folder, _endpoint, grid) = start(60.0).await;
    let event = odd_event("1", "Sales.OrderPlaced");
    for key in ["", "wrong", &format!("{}x", grid.key)] {
        let (status, body) = grid.publish_with(ONE, key, event.clone()).await;
        assert_eq!(status, 401);
        assert_eq!(body["error"]["code"], "Unauthorized");
        assert!(
            body["error"]["message"]
                .as_str()
                .unwrap()
                .contains("aeg-sas-key")
        );
        assert!(body["error"]["details"][0]["code"].is_string());
    }
    let answer = grid
        .client
        .post(format!("{}/", grid.address))
        .body(event)
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status().as_u16(), 401);
    grid.stop().await;
}

#[tokio::test]
async fn all_events_of_a_request_are_accepted_or_none() {
    let (_folder, endpoint, grid) = start(60.0).await;
    let good = odd_event("1", "Sales.OrderPlaced");
    let bad = good.replace("\"1.0\"", "\"0.3\"");
    let (status, body) = grid
        .publish_with(BATCH, &grid.key, format!("[{good},{bad}]"))
        .await;
    assert_eq!(
        (status, body["error"]["code"].as_str()),
        (400, Some("BadRequest"))
    );
    assert!(
        body["error"]["message"]
            .as_str()
            .unwrap()
            .starts_with("event 2 ")
    );
    assert_eq!(
        grid.publish_with("application/json", &grid.key, good)
            .await
            .0,
        400
    );
    assert_eq!(
        grid.get("/events").await["events"]
            .as_array()
            .unwrap()
            .len(),
        0
    );
    assert!(endpoint.deliveries().is_empty());
    grid.stop().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused() {
    let (_folder, _endpoint, grid) = start(60.0).await;
    let event = odd_event("1", "Sales.OrderPlaced");
    let padded = |bytes: usize| format!("{event}{}", " ".repeat(bytes - event.len()));
    assert_eq!(
        grid.publish_with(ONE, &grid.key, padded(1024 * 1024))
            .await
            .0,
        200
    );
    let (status, body) = grid
        .publish_with(ONE, &grid.key, padded(1024 * 1024 + 1))
        .await;
    assert_eq!(
        (status, body["error"]["code"].as_str()),
        (413, Some("RequestEntityTooLarge"))
    );
    let many = format!("[{}]", vec!["{}"; 5_001].join(","));
    assert_eq!(grid.publish_with(BATCH, &grid.key, many).await.0, 413);
    grid.stop().await;
}

#[tokio::test]
async fn the_version_of_the_api_may_be_missing_but_not_another_one() {
    let (_folder, _endpoint, grid) = start(60.0).await;
    let publish = async |query: &str| {
        let request = grid
            .client
            .post(format!("{}/api/events{query}", grid.address));
        let request = request
            .header("content-type", ONE)
            .header("aeg-sas-key", &grid.key);
        let event = odd_event("1", "Sales.OrderPlaced");
        let answer = request.body(event).send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
    };
    for query in ["", "?api-version=2018-01-01", "?a=b&Api-Version=2018-01-01"] {
        assert_eq!(publish(query).await, (200, Value::Null), "{query}");
    }
    for query in [
        "?api-version=2024-06-01",
        "?api-version=",
        "?a=b&api-version=2018-01-01-preview",
    ] {
        let (status, body) = publish(query).await;
        assert_eq!(
            (status, &body["error"]["code"]),
            (400, &"BadRequest".into())
        );
        assert_eq!(body["error"]["details"][0]["code"], "InvalidApiVersion");
        let message = body["error"]["message"].as_str().unwrap();
        assert!(message.contains("must be 2018-01-01"), "{message}");
    }
    let events = grid.get("/events").await;
    assert_eq!(events["events"].as_array().unwrap().len(), 3);
    grid.stop().await;
}

#[tokio::test]
async fn a_throttled_topic_refuses_what_is_more_than_it_takes_in_a_second() {
    let (_endpoint, address) = Endpoint::start().await;
    let batch = || {
        // Nobody takes these, so nothing is delivered.
        let event = odd_event("1", "Sales.Unheard");
        format!("[{}]", vec![event; 5_000].join(","))
    };
    for throttle in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path(), &address, 60.0);
        options.throttle = throttle;
        let grid = Grid::start_with(options).await;
        let publish = || {
            let url = format!("{}/api/events?api-version=2018-01-01", grid.address);
            let request = grid.client.post(url).header("content-type", BATCH);
            request
                .header("aeg-sas-key", &grid.key)
                .body(batch())
                .send()
        };
        // Together they come faster than one after the other is kept.
        let answers = futures_util::future::join_all((0..6).map(|_| publish())).await;
        let (accepted, refused): (Vec<_>, Vec<_>) = answers
            .into_iter()
            .map(Result::unwrap)
            .partition(|answer| answer.status() == 200);
        assert!(!accepted.is_empty());
        assert_eq!(!refused.is_empty(), throttle);
        for answer in refused {
            assert_eq!(answer.status(), 429);
            assert_eq!(answer.headers()["retry-after"], "1");
            let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            assert_eq!(body["error"]["code"], "TooManyRequests");
            assert_eq!(body["error"]["details"][0]["code"], "TooManyRequests");
        }
        grid.stop().await;
    }
}

#[tokio::test]
async fn nothing_is_delivered_before_the_endpoint_consents() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    endpoint.refuses.store(true, Ordering::SeqCst);
    let grid = Grid::start(folder.path(), &address, 60.0).await;
    grid.publish(&odd_event("1", "Sales.OrderPlaced")).await;
    until("the grid asks again", || {
        endpoint.asked.load(Ordering::SeqCst) >= 4
    })
    .await;
    assert!(endpoint.deliveries().is_empty());
    endpoint.refuses.store(false, Ordering::SeqCst);
    grid.until_idle().await;
    assert_eq!(endpoint.deliveries().len(), 2);
    grid.stop().await;
}

#[tokio::test]
async fn a_failed_delivery_is_tried_again_until_it_succeeds() {
    let (_folder, endpoint, grid) = start(1_000.0).await;
    endpoint.will_answer(&[500, 302, 205]);
    grid.publish(&odd_event("1", "Sales.OrderCompleted")).await;
    grid.until_idle().await;

    let counts: Vec<_> = endpoint
        .deliveries()
        .iter()
        .map(|delivery| delivery.header("aeg-delivery-count").to_owned())
        .collect();
    assert_eq!(counts, ["1", "2", "3", "4"]);
    let events = grid.get("/events").await;
    let delivery = &events["events"][0]["deliveries"][0];
    assert_eq!(
        (&delivery["function"], &delivery["state"]),
        (&"orders".into(), &"delivered".into())
    );
    let attempts = delivery["attempts"].as_array().unwrap();
    let outcomes: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt["status"].as_u64(), attempt["outcome"].as_str()))
        .collect();
    assert_eq!(
        outcomes,
        [
            (Some(500), Some("Busy")),
            (Some(302), Some("Aborted")),
            (Some(205), Some("Aborted")),
            (Some(202), Some("Delivered"))
        ]
    );
    grid.stop().await;
}

#[tokio::test]
async fn a_delivery_that_cannot_succeed_becomes_a_dead_letter_at_once() {
    let (folder, endpoint, grid) = start(1.0).await;
    endpoint.will_answer(&[413]);
    grid.publish(&odd_event("1", "Sales.OrderCompleted")).await;
    grid.until_idle().await;

    assert_eq!(endpoint.deliveries().len(), 1);
    let listed = grid.get("/deadletters").await;
    let [letter] = &listed["deadLetters"].as_array().unwrap()[..] else {
        panic!("{listed}")
    };
    let path = letter["path"].as_str().unwrap();
    assert!(path.starts_with("ORDERS/"), "{path}");
    let file = std::fs::read(folder.path().join("deadletters").join(path)).unwrap();
    let event = &serde_json::from_slice::<Value>(&file).unwrap()[0];
    assert_eq!(event, &letter["events"][0]);
    assert_eq!(event["data"]["b"], 1.0);
    assert_eq!(
        event["deadletterreason"],
        "UndeliverableDueToHttpPayloadTooLarge"
    );
    assert_eq!(event["deliveryattempts"], 1);
    assert_eq!(event["lastdeliveryoutcome"], "PayloadTooLarge");
    assert!(event["publishtime"].is_string() && event["lastdeliveryattempttime"].is_string());
    assert_eq!(
        grid.get("/events").await["events"][0]["deliveries"][0]["state"],
        "deadLettered"
    );
    grid.stop().await;
}

#[tokio::test]
async fn an_event_that_nobody_can_be_reached_for_lives_a_day() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    // A day in 0.86 s.
    let grid = Grid::start(folder.path(), &address, 100_000.0).await;
    endpoint.will_answer(&[503; 30]);
    grid.publish(&odd_event("1", "Sales.OrderCompleted")).await;
    grid.until_idle().await;
    let listed = grid.get("/deadletters").await;
    let event = &listed["deadLetters"][0]["events"][0];
    assert_eq!(event["deadletterreason"], "TimeToLiveExceeded");
    assert!(event["deliveryattempts"].as_u64().unwrap() > 5, "{event}");
    grid.stop().await;
}

#[tokio::test]
async fn what_was_accepted_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    *endpoint.stuck.lock().unwrap() = Some("billing");
    let grid = Grid::start(folder.path(), &address, 60.0).await;
    let event = odd_event("1", "Sales.OrderPlaced");
    grid.publish(&event).await;
    until("both functions are called", || {
        endpoint.deliveries().len() == 2
    })
    .await;
    while grid.get("/idle").await["pending"] != 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let key = grid.key.clone();
    grid.kill().await;

    *endpoint.stuck.lock().unwrap() = None;
    let grid = Grid::start(folder.path(), &address, 60.0).await;
    assert_eq!(grid.key, key);
    grid.until_idle().await;
    let again: Vec<_> = endpoint.deliveries().split_off(2);
    let [again] = &again[..] else {
        panic!("{again:?}")
    };
    assert_eq!(
        (again.query.as_str(), again.body.as_str()),
        ("functionName=billing", event.as_str())
    );
    grid.stop().await;
}

#[tokio::test]
async fn a_stuck_function_holds_up_no_other_and_is_not_flooded() {
    let (_folder, endpoint, grid) = start(60.0).await;
    *endpoint.stuck.lock().unwrap() = Some("billing");
    let events: Vec<_> = (0..200)
        .map(|number| odd_event(&number.to_string(), "Sales.OrderPlaced"))
        .collect();
    let batch = format!("[{}]", events.join(","));
    assert_eq!(grid.publish_with(BATCH, &grid.key, batch).await.0, 200);
    let delivered = |function: &'static str| {
        let deliveries = endpoint.deliveries();
        deliveries
            .iter()
            .filter(|delivery| delivery.query.ends_with(function))
            .count()
    };
    until("orders gets all its events", || delivered("orders") == 200).await;
    assert_eq!(delivered("billing"), 32);
    grid.kill().await;
}

#[tokio::test]
async fn events_are_shown_in_pages_and_by_subject() {
    let (_folder, _endpoint, grid) = start(60.0).await;
    for id in ["1", "2", "3"] {
        grid.publish(&odd_event(id, "Sales.OrderPlaced")).await;
    }
    let ids = |page: &Value| -> Vec<String> {
        let events = page["events"].as_array().unwrap();
        events
            .iter()
            .map(|event| event["event"]["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let page = grid.get("/events?limit=2").await;
    assert_eq!(ids(&page), ["2", "3"]);
    let page = grid.get("/events?limit=2&after=0").await;
    assert_eq!(ids(&page), ["1", "2"]);
    let page = grid.get(&format!("/events?after={}", page["next"])).await;
    assert_eq!(ids(&page), ["3"]);
    let next = &page["next"];
    assert_eq!(
        &grid.get(&format!("/events?after={next}")).await["next"],
        next
    );
    assert_eq!(ids(&grid.get("/events?subject=orders/o-2").await), ["2"]);
    assert!(grid.get("/").await["publish"].is_string());
    grid.stop().await;
}

#[tokio::test]
async fn what_prevents_a_start_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refusal = async |change: &dyn Fn(&mut GridOptions)| {
        let mut options = options(folder.path(), "http://127.0.0.1:1", 60.0);
        change(&mut options);
        let line = LocalGrid::bind(options).await.unwrap_err().to_string();
        assert!(!line.contains('\n'), "{line}");
        line
    };
    let port = taken.local_addr().unwrap().port();
    let line = refusal(&|options| options.grid_port = port).await;
    assert!(
        line.contains(&port.to_string()) && line.contains("--grid-port"),
        "{line}"
    );
    assert!(
        refusal(&|options| options.speed = -1.0)
            .await
            .contains("speed")
    );
    let line = refusal(&|options| options.deliver_to = "localhost:7071".to_owned()).await;
    assert!(
        line.contains("localhost:7071") && line.contains("--deliver-to"),
        "{line}"
    );
    let held = LocalGrid::bind(options(folder.path(), "http://127.0.0.1:1", 1.0))
        .await
        .unwrap();
    assert!(
        refusal(&|_| ())
            .await
            .contains("in use by another orderflow")
    );
    drop(held);
}

/// What the topic answers to a publisher who shows this header.
async fn shown(grid: &Grid, name: &str, value: &str) -> (u16, Value) {
    let request = grid.client.post(format!(
        "{}/api/events?api-version=2018-01-01",
        grid.address
    ));
    let request = request.header("content-type", ONE).header(name, value);
    let event = odd_event("1", "Sales.OrderPlaced");
    let answer = request.body(event).send().await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

/// A SAS token as the JavaScript client makes it.
pub(crate) fn sas(resource: &str, expiry: &str, key: &[u8]) -> String {
    use base64::{Engine as _, prelude::BASE64_STANDARD};
    let encoded =
        |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    let signed = format!("r={}&e={}", encoded(resource), encoded(expiry));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key);
    let signature = ring::hmac::sign(&key, signed.as_bytes());
    format!("{signed}&s={}", encoded(&BASE64_STANDARD.encode(signature)))
}

#[tokio::test]
async fn a_publisher_shows_a_key_or_a_token_made_with_it() {
    let (_folder, _endpoint, grid) = start(60.0).await;
    let resource = format!("{}/api/events", grid.address);
    let good = sas(&resource, "1/1/2100 1:00:00 AM", b"local-development");
    for (name, value) in [
        ("aeg-sas-key", "local-development".to_owned()),
        ("aeg-sas-key", "bG9jYWwtZGV2ZWxvcG1lbnQ=".to_owned()),
        ("aeg-sas-token", good.clone()),
        ("authorization", format!("SharedAccessSignature {good}")),
    ] {
        assert_eq!(shown(&grid, name, &value).await.0, 200, "{name}: {value}");
    }
    for (name, value, why) in [
        (
            "aeg-sas-key",
            "wrong".to_owned(),
            "the access key is another one",
        ),
        ("x-other", "nothing".to_owned(), "there is none"),
        (
            "aeg-sas-token",
            sas(&resource, "1/1/2020 1:00:00 AM", b"local-development"),
            "has expired",
        ),
        (
            "aeg-sas-token",
            sas(&resource, "1/1/2100 1:00:00 AM", b"other"),
            "another key",
        ),
        (
            "aeg-sas-token",
            sas(
                "http://localhost/x",
                "1/1/2100 1:00:00 AM",
                b"local-development",
            ),
            "another resource",
        ),
        (
            "authorization",
            "Bearer x.y.z".to_owned(),
            "not a JSON Web Token",
        ),
        ("authorization", "Basic eDp5".to_owned(), "there is none"),
    ] {
        let (status, body) = shown(&grid, name, &value).await;
        let message = body["error"]["message"].as_str().unwrap_or_default();
        assert_eq!(
            (status, &body["error"]["code"]),
            (401, &Value::from("Unauthorized"))
        );
        assert!(message.contains(why), "{name}: {value}: {message}");
        assert!(!message.contains(&value), "{message}");
    }
}

#[tokio::test]
async fn a_publisher_shows_a_token_of_the_identity_endpoint() {
    let (_folder, _endpoint, grid) = start(60.0).await;
    let issued = async |resource: &str, secret: &str| {
        let request = grid.client.get(format!(
            "{}/msi/token?api-version=2019-08-01&resource={resource}",
            grid.address
        ));
        let answer = request
            .header("x-identity-header", secret)
            .send()
            .await
            .unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        (status, body)
    };
    assert_eq!(issued("https://eventgrid.azure.net", "wrong").await.0, 403);
    let (status, body) = issued("https://eventgrid.azure.net", "local-development").await;
    assert_eq!((status, &body["token_type"]), (200, &Value::from("Bearer")));
    let bearer = |body: &Value| format!("Bearer {}", body["access_token"].as_str().unwrap());
    assert_eq!(shown(&grid, "authorization", &bearer(&body)).await.0, 200);
    let (_, body) = issued("https://vault.azure.net", "local-development").await;
    let (status, refusal) = shown(&grid, "authorization", &bearer(&body)).await;
    assert_eq!(status, 401);
    assert!(
        refusal.to_string().contains("another audience"),
        "{refusal}"
    );
    // Entra ID's own endpoint, with the scope that clients ask for.
    let grant = |scope: &str| {
        let request = grid
            .client
            .post(format!("{}/any/oauth2/v2.0/token", grid.address));
        request
            .header("content-type", "application/x-www-form-urlencoded")
            .body(format!(
                "grant_type=client_credentials&client_id=x&client_secret=y&scope={scope}"
            ))
            .send()
    };
    let answer = grant("https%3A%2F%2Feventgrid.azure.net%2F.default")
        .await
        .unwrap();
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(shown(&grid, "authorization", &bearer(&body)).await.0, 200);
    assert_eq!(grant("eventgrid").await.unwrap().status(), 400);
}
