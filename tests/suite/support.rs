//! A handler over real HTTP, with a real store and a topic that keeps Event Grid's rules.

use std::{
    collections::HashSet,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU16, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
    routing::post,
};
use chrono::{DateTime, Utc};
use futures_util::future::{BoxFuture, ready};
use orderflow::{
    cloud_event,
    effects::Simulated,
    engine::{Clock, EffectError, Effects, Engine, SystemClock},
    events::{BillingCompleted, Carried, OrderId, ReasonCode, decode, samples, short_name},
    functions::event_named,
    handler,
    publish::{BatchingPublisher, Credential, EventGridPublisher},
    sales::{Catalog, Effect, Outcome},
    store::{Store, memory::MemoryStore, sqlite::SqliteStore},
};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::SetOnce};
use uuid::Uuid;

/// The access key of the test's topic.
pub const KEY: &str = "dGVzdC1rZXk=";

/// How long a condition may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A custom topic: checks the key, the version and the content type, and keeps what it is sent.
#[derive(Default)]
pub struct Topic {
    events: Mutex<Vec<Value>>,
    /// Answered instead of 200 when it is not 0.
    failing: AtomicU16,
}

impl Topic {
    /// A topic, and its endpoint.
    pub async fn start() -> (Arc<Self>, String) {
        let topic = Arc::new(Self::default());
        let routes = Router::new()
            .route("/api/events", post(Self::publish))
            .with_state(topic.clone());
        (topic, format!("{}/api/events", listen(routes).await))
    }

    #[expect(clippy::unused_async, reason = "a handler of axum")]
    async fn publish(
        State(topic): State<Arc<Self>>,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> StatusCode {
        let header = |name: &str| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default()
        };
        if header("aeg-sas-key") != KEY {
            return StatusCode::UNAUTHORIZED;
        }
        let batch = header("content-type").starts_with("application/cloudevents-batch+json");
        let events = serde_json::from_slice::<Vec<Value>>(&body);
        let (true, Some("api-version=2018-01-01"), Ok(events)) = (batch, uri.query(), events)
        else {
            return StatusCode::BAD_REQUEST;
        };
        if let Ok(failure) = StatusCode::from_u16(topic.failing.load(Ordering::SeqCst)) {
            return failure;
        }
        topic.events.lock().unwrap().extend(events);
        StatusCode::OK
    }

    /// Answers this status from now on; 0 is back to normal.
    pub fn fail_with(&self, status: u16) {
        self.failing.store(status, Ordering::SeqCst);
    }

    /// The events published so far.
    pub fn events(&self) -> Vec<Value> {
        self.events.lock().unwrap().clone()
    }

    /// The names of the events published so far, without their prefix.
    pub fn names(&self) -> Vec<String> {
        self.events()
            .iter()
            .map(|event| short_name(event["type"].as_str().unwrap()).to_owned())
            .collect()
    }

    /// The ids of the events published so far.
    pub fn distinct_ids(&self) -> HashSet<String> {
        self.events()
            .iter()
            .map(|event| event["id"].as_str().unwrap().to_owned())
            .collect()
    }
}

/// The system's clock, put forward by so many seconds.
#[derive(Default)]
pub struct TestClock {
    ahead: AtomicI64,
}

impl TestClock {
    pub fn advance(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> DateTime<Utc> {
        SystemClock.now() + chrono::Duration::seconds(self.ahead.load(Ordering::SeqCst))
    }
}

/// The simulated outside world, which may be away.
#[derive(Default)]
pub struct World {
    away: AtomicBool,
    panicking: AtomicBool,
    /// How many charges are declined from now on for want of funds.
    short_of_funds: AtomicU16,
    performed: Mutex<Vec<Uuid>>,
}

impl World {
    pub fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::SeqCst);
    }

    pub fn set_panicking(&self, panicking: bool) {
        self.panicking.store(panicking, Ordering::SeqCst);
    }

    /// Declines so many charges from now on, since the account does not cover them.
    pub fn decline(&self, charges: u16) {
        self.short_of_funds.store(charges, Ordering::SeqCst);
    }

    /// The idempotency keys of what it was asked for and did.
    pub fn performed(&self) -> Vec<Uuid> {
        self.performed.lock().unwrap().clone()
    }
}

impl Effects for World {
    fn perform<'a>(
        &'a self,
        effect: &'a Effect,
        age: Duration,
        budget: Duration,
    ) -> BoxFuture<'a, Result<Outcome, EffectError>> {
        assert!(!self.panicking.load(Ordering::SeqCst), "a bug");
        if self.away.load(Ordering::SeqCst) {
            return Box::pin(ready(Err(EffectError {
                service: "payment provider",
                problem: "time-out".to_owned(),
            })));
        }
        self.performed
            .lock()
            .unwrap()
            .push(effect.idempotency_key());
        let one_less = |left: u16| left.checked_sub(1);
        let (set, fetch) = (Ordering::SeqCst, Ordering::SeqCst);
        if matches!(effect, Effect::Charge(_))
            && self
                .short_of_funds
                .fetch_update(set, fetch, one_less)
                .is_ok()
        {
            return Box::pin(ready(Ok(Outcome::Declined {
                reason_code: ReasonCode::InsufficientFunds,
                detail: "the account does not cover the amount".to_owned(),
            })));
        }
        Simulated.perform(effect, age, budget)
    }
}

/// A running handler and what is around it.
pub struct Handler {
    pub topic: Arc<Topic>,
    pub clock: Arc<TestClock>,
    pub world: Arc<World>,
    pub store: Arc<dyn Store>,
    pub client: reqwest::Client,
    address: String,
    _folder: TempDir,
}

impl Handler {
    /// A handler on SQLite.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("orders.db")).unwrap();
        Self::start_with(Arc::new(store), folder).await
    }

    /// A handler on the store in memory.
    pub async fn start_in_memory() -> Self {
        Self::start_with(
            Arc::new(MemoryStore::default()),
            tempfile::tempdir().unwrap(),
        )
        .await
    }

    /// A handler on SQLite whose effects somebody else performs.
    pub async fn start_performing(effects: Arc<dyn Effects>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&folder.path().join("orders.db")).unwrap();
        Self::start_around(Arc::new(store), folder, Arc::default(), effects).await
    }

    async fn start_with(store: Arc<dyn Store>, folder: TempDir) -> Self {
        let world = Arc::<World>::default();
        Self::start_around(store, folder, world.clone(), world).await
    }

    async fn start_around(
        store: Arc<dyn Store>,
        folder: TempDir,
        world: Arc<World>,
        effects: Arc<dyn Effects>,
    ) -> Self {
        let (topic, endpoint) = Topic::start().await;
        let publisher =
            EventGridPublisher::new(&endpoint, Credential::access_key(KEY).unwrap()).unwrap();
        let publisher = Arc::new(BatchingPublisher::new(Arc::new(publisher)));
        let catalog = Arc::new(Catalog::from_json(Catalog::DEVELOPMENT).unwrap());
        let clock = Arc::<TestClock>::default();
        let engine = Engine::new(store.clone(), publisher, effects, clock.clone(), catalog);
        let slot = Arc::new(SetOnce::new());
        slot.set(engine).ok();
        let address = listen(handler::router(slot)).await;
        Self {
            topic,
            clock,
            world,
            store,
            client: client(),
            address,
            _folder: folder,
        }
    }

    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.address)
    }

    pub fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(self.url(path))
    }

    /// An invocation as the Functions host sends it.
    pub async fn invoke(&self, function: &str, bound: Value) -> Answer {
        let body = json!({
            "Data": { "event": bound },
            "Metadata": { "sys": { "MethodName": function, "UtcNow": "2026-11-22T07:00:01.23Z", "RandGuid": "x" } }
        });
        let request = self
            .post(&format!("/{function}"))
            .header("content-type", "application/json; charset=utf-8")
            .header(
                "x-azure-functions-invocationid",
                "0e6b7f5c-9c1f-4e7a-9d57-111111111111",
            );
        Answer::of(request.body(body.to_string())).await
    }

    /// A structured CloudEvent, straight.
    pub async fn send(&self, function: &str, event: &Value) -> Answer {
        let request = self
            .post(&format!("/{function}"))
            .header("content-type", "application/cloudevents+json");
        Answer::of(request.body(event.to_string())).await
    }

    pub async fn place(&self, order: &Value) -> Answer {
        let request = self
            .post("/api/orders")
            .header("content-type", "application/json");
        Answer::of(request.body(order.to_string())).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(self.url(path))).await
    }

    /// The timer fires.
    pub async fn sweep(&self) {
        Answer::of(self.post("/sweep")).await.assert_done();
    }

    /// Places an order; the path of its view.
    pub async fn placed(&self, order: &Value) -> String {
        let answer = self.place(order).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.header("location").to_owned()
    }

    /// Asks to cancel the order at a path.
    pub async fn cancel(&self, path: &str) -> Answer {
        Answer::of(self.post(&format!("{path}/cancel"))).await
    }

    /// Delivers every published event to every function that subscribes to it, and what follows, until nothing does.
    /// Returns the number of deliveries.
    pub async fn deliver_all(&self) -> usize {
        let (mut next, mut deliveries) = (0, 0);
        while let Some(event) = self.topic.events().get(next).cloned() {
            next += 1;
            for function in subscribers(event["type"].as_str().unwrap()) {
                let answer = self.invoke(function, event.clone()).await;
                assert_eq!(answer.status, 200, "{function} took {event}: {answer:?}");
                deliveries += 1;
            }
        }
        deliveries
    }
}

/// The functions that subscribe to an event type.
pub fn subscribers(event_type: &str) -> Vec<&'static str> {
    let takes = |function: &&orderflow::functions::Function| {
        function.event_types().any(|taken| taken == event_type)
    };
    orderflow::functions::FUNCTIONS
        .iter()
        .filter(takes)
        .map(|function| function.name)
        .collect()
}

/// A whole HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self {
            status,
            headers,
            text: response.text().await.expect("a body"),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    }

    /// The answer that the host takes for done.
    #[track_caller]
    pub fn assert_done(&self) {
        assert_eq!(self.status, 200, "{self:?}");
        assert_eq!(self.header("content-type"), "application/json", "{self:?}");
        let body = self.json();
        assert_eq!(body["Outputs"], json!({}), "{self:?}");
        assert!(
            body["Logs"].is_array() && body["ReturnValue"].is_null(),
            "{self:?}"
        );
    }

    /// A problem document that says these words.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, words: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(
            self.header("content-type"),
            "application/problem+json",
            "{self:?}"
        );
        assert_eq!(self.json()["status"], status, "{self:?}");
        assert!(self.text.contains(words), "{words:?} is not in {self:?}");
    }
}

/// Serves `routes` on a free port until the test ends.
pub async fn listen(routes: Router) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(handler::serve(listener, routes, std::future::pending()));
    format!("http://{address}")
}

pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// A sample event, as JSON.
pub fn sample(event_type: &str) -> Value {
    sample_of(event_type, samples::ORDER_ID)
}

/// What billing says of an order in the samples, as a charge carries it.
pub fn bill(order_id: OrderId) -> Carried<BillingCompleted> {
    let billed = samples::event(event_named("BillingCompleted").unwrap(), order_id);
    Carried::of(&decode(&billed).unwrap())
}

/// A sample event about an order.
pub fn sample_of(event_type: &str, order_id: OrderId) -> Value {
    let event = samples::event(event_named(event_type).unwrap(), order_id);
    serde_json::from_slice(&cloud_event::to_json(&event)).unwrap()
}

/// The body that places the sample order.
pub fn new_order() -> Value {
    serde_json::from_str(include_str!("../../samples/place-order.json")).unwrap()
}

/// The sample order with another value at a path.
pub fn with(path: &str, value: Value) -> Value {
    let mut order = new_order();
    *order.pointer_mut(path).unwrap() = value;
    order
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// Waits until `condition` gives something.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(met) = condition().await {
            return met;
        }
        assert!(
            started.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
