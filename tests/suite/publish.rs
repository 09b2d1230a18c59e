//! Publishing over real HTTP to a fake topic that keeps Event Grid's rules.
use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, Uri, header::AUTHORIZATION},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use orderflow::{
    entra::{Token, TokenCache, TokenError, TokenSource},
    publish::{
        BatchingPublisher, Credential, EndpointError, EventGridPublisher, MAX_IN_FLIGHT,
        PublishError, Publisher,
    },
};
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

const KEY: &str = "a2V5LXRoYXQtbm9ib2R5LXNlZXM=";
const BUDGET: Duration = Duration::from_secs(10);

/// More permits than a test takes.
const MANY: usize = 1_000;

// --- The fake topic

/// One answer of the topic instead of its own judgement.
type Answer = (StatusCode, Vec<(&'static str, String)>, String);

/// A topic that takes what Event Grid takes, and remembers it.
#[derive(Default)]
struct Topic {
    /// Answers to the next requests.
    script: Mutex<VecDeque<Answer>>,
    /// What each request was, accepted or not.
    requests: Mutex<Vec<Request>>,
    /// Ids of the events accepted, in order.
    accepted: Mutex<Vec<String>>,
    /// The bearer token it takes besides the key.
    token: Mutex<String>,
    /// While set, requests wait here before they are judged.
    gate: Mutex<Option<Arc<Semaphore>>>,
}

#[derive(Clone)]
struct Request {
    uri: Uri,
    headers: HeaderMap,
    size: usize,
    ids: Vec<String>,
}

impl Topic {
    async fn start() -> (Arc<Topic>, SocketAddr) {
        let topic = Arc::new(Topic::default());
        let app = Router::new()
            .route("/api/events", post(take))
            .with_state(Arc::clone(&topic));
        (
            topic,
            serve(app.layer(axum::extract::DefaultBodyLimit::disable())).await,
        )
    }

    fn will_answer(
        &self,
        status: u16,
        headers: &[(&'static str, &str)],
        body: &(impl ToString + ?Sized),
    ) {
        let headers = headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect();
        let status = StatusCode::from_u16(status).unwrap();
        self.script
            .lock()
            .unwrap()
            .push_back((status, headers, body.to_string()));
    }

    fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    fn accepted(&self) -> Vec<String> {
        let mut accepted = self.accepted.lock().unwrap().clone();
        accepted.sort();
        accepted
    }

    /// The status and the body of Event Grid's answer.
    fn judge(&self, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> (StatusCode, String) {
        let error = |status: StatusCode, message: &str| {
            let code = status.canonical_reason().unwrap().replace(' ', "");
            (
                status,
                json!({"error": {"code": code, "message": message}}).to_string(),
            )
        };
        let bearer = format!("Bearer {}", self.token.lock().unwrap());
        let header = |name: &str| {
            headers
                .get(name)
                .map_or("", |value| value.to_str().unwrap())
        };
        if header("aeg-sas-key") != KEY && header("authorization") != bearer {
            return error(
                StatusCode::UNAUTHORIZED,
                "The request authorization header is not valid.",
            );
        }
        if !uri
            .query()
            .unwrap_or_default()
            .split('&')
            .any(|pair| pair == "api-version=2018-01-01")
        {
            return error(StatusCode::BAD_REQUEST, "The api-version is missing.");
        }
        if header("content-type") != "application/cloudevents-batch+json; charset=utf-8" {
            return error(
                StatusCode::BAD_REQUEST,
                "The content type is not supported.",
            );
        }
        if body.len() > 1_048_576 {
            return error(
                StatusCode::PAYLOAD_TOO_LARGE,
                "The maximum size (1048576) has been exceeded.",
            );
        }
        let Ok(Value::Array(events)) = serde_json::from_slice(body) else {
            return error(StatusCode::BAD_REQUEST, "The JSON is no array.");
        };
        let complete = |event: &Value| {
            ["id", "source", "type", "specversion"]
                .iter()
                .all(|name| event[name].is_string())
        };
        if events.len() > 5_000 || !events.iter().all(complete) {
            return error(
                StatusCode::BAD_REQUEST,
                "This resource is configured to receive event in 'CloudEventV10' schema.",
            );
        }
        (StatusCode::OK, String::new())
    }
}

async fn take(
    State(topic): State<Arc<Topic>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let events: Vec<Value> = serde_json::from_slice(&body).unwrap_or_default();
    let ids: Vec<String> = events
        .iter()
        .map(|event| event["id"].as_str().unwrap_or_default().to_owned())
        .collect();
    let request = Request {
        uri: uri.clone(),
        headers: headers.clone(),
        size: body.len(),
        ids: ids.clone(),
    };
    topic.requests.lock().unwrap().push(request);
    let gate = topic.gate.lock().unwrap().clone();
    if let Some(gate) = gate {
        gate.acquire().await.unwrap().forget();
    }
    let scripted = topic.script.lock().unwrap().pop_front();
    if let Some((status, headers, body)) = scripted {
        let mut response = (status, body).into_response();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        return response;
    }
    let (status, body) = topic.judge(&uri, &headers, &body);
    if status == StatusCode::OK {
        topic.accepted.lock().unwrap().extend(ids);
    }
    (status, body).into_response()
}

async fn serve(app: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

fn publisher(address: SocketAddr) -> EventGridPublisher {
    let credential = Credential::access_key(KEY).unwrap();
    EventGridPublisher::new(&format!("http://{address}/api/events"), credential).unwrap()
}

fn event(id: &str) -> Bytes {
    Bytes::from(
        json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "data": {"a": 1}})
            .to_string(),
    )
}

/// An event of exactly `size` bytes.
fn event_of(id: &str, size: usize) -> Bytes {
    let filled = |padding: usize| {
        let data = "x".repeat(padding);
        json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "data": data})
            .to_string()
    };
    Bytes::from(filled(size - filled(0).len()))
}

fn refused(outcome: Result<(), PublishError>) -> String {
    match outcome {
        Err(PublishError::Refused(reason)) => reason,
        other => panic!("expected Refused, came {other:?}"),
    }
}

fn denied(outcome: Result<(), PublishError>) -> String {
    match outcome {
        Err(PublishError::Denied(reason)) => reason,
        other => panic!("expected Denied, came {other:?}"),
    }
}

fn unavailable(outcome: Result<(), PublishError>) -> String {
    match outcome {
        Err(PublishError::Unavailable(reason)) => reason,
        other => panic!("expected Unavailable, came {other:?}"),
    }
}

/// Waits until `condition` holds.
async fn until(condition: impl Fn() -> bool) {
    let waited = timeout(Duration::from_secs(20), async {
        while !condition() {
            sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.expect("the condition holds within 20 s");
}

// --- Event Grid's wire contract

#[tokio::test]
async fn events_go_out_in_one_batch_as_they_are_stored() {
    let (topic, address) = Topic::start().await;
    publisher(address)
        .publish(vec![event("1"), event("2")], BUDGET)
        .await
        .unwrap();
    let requests = topic.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].uri, "/api/events?api-version=2018-01-01");
    assert_eq!(
        requests[0].headers["content-type"],
        "application/cloudevents-batch+json; charset=utf-8"
    );
    assert_eq!(requests[0].headers["aeg-sas-key"], KEY);
    assert_eq!(requests[0].headers.get("authorization"), None);
    assert_eq!(
        requests[0].size,
        event("1").len() + event("2").len() + "[,]".len()
    );
    assert_eq!(topic.accepted(), ["1", "2"]);
}

#[tokio::test]
async fn no_events_make_no_request() {
    let (topic, address) = Topic::start().await;
    publisher(address)
        .publish(Vec::new(), BUDGET)
        .await
        .unwrap();
    BatchingPublisher::new(Arc::new(publisher(address)))
        .publish(Vec::new(), BUDGET)
        .await
        .unwrap();
    assert!(topic.requests().is_empty());
}

#[tokio::test]
async fn the_endpoint_keeps_its_own_query() {
    let (topic, address) = Topic::start().await;
    for query in ["?a=b", "?a=b&api-version=2018-01-01", "?a=b#fragment"] {
        let endpoint = format!("http://{address}/api/events{query}");
        let publisher =
            EventGridPublisher::new(&endpoint, Credential::access_key(KEY).unwrap()).unwrap();
        publisher.publish(vec![event("1")], BUDGET).await.unwrap();
    }
    for request in topic.requests() {
        assert_eq!(request.uri, "/api/events?a=b&api-version=2018-01-01");
    }
}

#[test]
fn an_endpoint_that_is_no_http_url_is_rejected_without_showing_it() {
    for endpoint in [
        "",
        "topic.eventgrid.azure.net",
        "ftp://host/",
        "https://",
        "amqps://host?aeg-sas-key=secret",
    ] {
        let error =
            EventGridPublisher::new(endpoint, Credential::access_key(KEY).unwrap()).unwrap_err();
        assert!(matches!(error, EndpointError::NoUrl), "{endpoint}");
        assert!(!error.to_string().contains("secret"));
    }
    assert!(Credential::access_key("a\nb").is_err());
}

#[tokio::test]
async fn debug_shows_no_secret() {
    let endpoint = "https://host/api/events?aeg-sas-key=query-secret";
    let tokens = TokenCache::new(Tokens::living(Duration::from_secs(60)), BUDGET);
    tokens.authorization().await.unwrap();
    for credential in [
        Credential::access_key(KEY).unwrap(),
        Credential::Entra(tokens),
    ] {
        let publisher = EventGridPublisher::new(endpoint, credential).unwrap();
        let shown = format!("{publisher:?}");
        assert!(shown.contains("https://host/api/events"), "{shown}");
        assert!(
            !shown.contains(KEY) && !shown.contains("token-1") && !shown.contains("query-secret"),
            "{shown}"
        );
    }
    let token = Token::new("token-1", Duration::from_secs(1)).unwrap();
    assert!(!format!("{token:?}").contains("token-1"));
}

// --- Limits of a request

#[tokio::test]
async fn more_than_five_thousand_events_are_split() {
    let (topic, address) = Topic::start().await;
    let events = (0..10_001)
        .map(|number| event(&format!("{number:05}")))
        .collect();
    publisher(address).publish(events, BUDGET).await.unwrap();
    let counts: Vec<usize> = topic
        .requests()
        .iter()
        .map(|request| request.ids.len())
        .collect();
    assert_eq!(counts, [5_000, 5_000, 1]);
    assert_eq!(topic.accepted().len(), 10_001);
}

#[tokio::test]
async fn more_than_a_megabyte_is_split() {
    let (topic, address) = Topic::start().await;
    let events = (0..8)
        .map(|number| event_of(&number.to_string(), 300_000))
        .collect();
    publisher(address).publish(events, BUDGET).await.unwrap();
    let counts: Vec<usize> = topic
        .requests()
        .iter()
        .map(|request| request.ids.len())
        .collect();
    assert_eq!(counts, [3, 3, 2]);
    assert_eq!(topic.accepted(), ["0", "1", "2", "3", "4", "5", "6", "7"]);
}

#[tokio::test]
async fn an_event_over_the_limit_is_refused_before_anything_is_sent() {
    let (topic, address) = Topic::start().await;
    let outcome = publisher(address)
        .publish(vec![event("1"), event_of("2", 1_048_576)], BUDGET)
        .await;
    let reason = refused(outcome);
    assert!(
        reason.contains("expected at most 1047552 bytes in one event, came 1048578"),
        "{reason}"
    );
    assert!(topic.requests().is_empty());
    publisher(address)
        .publish(vec![event("1"), event_of("2", 1_047_550)], BUDGET)
        .await
        .unwrap();
    assert_eq!(topic.requests().len(), 2);
}

// --- Refusals

#[tokio::test]
async fn bad_events_are_refused_at_once_with_the_service_s_words() {
    let (topic, address) = Topic::start().await;
    let reason = refused(
        publisher(address)
            .publish(vec![Bytes::from("{}")], BUDGET)
            .await,
    );
    let expected = "400 Bad Request: BadRequest: This resource is configured to receive event in 'CloudEventV10' schema.";
    assert_eq!(reason, expected);
    assert_eq!(topic.requests().len(), 1);
}

#[tokio::test]
async fn what_will_not_get_better_is_tried_once() {
    for status in [301, 307, 402, 403, 404, 405, 410] {
        let (topic, address) = Topic::start().await;
        topic.will_answer(
            status,
            &[("location", "/api/events?api-version=2018-01-01")],
            "no way in",
        );
        let reason = denied(publisher(address).publish(vec![event("1")], BUDGET).await);
        assert!(
            reason.starts_with(&status.to_string()) && reason.ends_with("no way in"),
            "{reason}"
        );
        assert_eq!(topic.requests().len(), 1, "{status}");
    }
    for status in [400, 413] {
        let (topic, address) = Topic::start().await;
        topic.will_answer(status, &[], "");
        refused(publisher(address).publish(vec![event("1")], BUDGET).await);
        assert_eq!(topic.requests().len(), 1, "{status}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_denied_at_once() {
    let (topic, address) = Topic::start().await;
    let credential = Credential::access_key("d3Jvbmc=").unwrap();
    let publisher =
        EventGridPublisher::new(&format!("http://{address}/api/events"), credential).unwrap();
    let reason = denied(publisher.publish(vec![event("1")], BUDGET).await);
    assert_eq!(
        reason,
        "401 Unauthorized: Unauthorized: The request authorization header is not valid."
    );
    assert_eq!(topic.requests().len(), 1);
}

#[tokio::test]
async fn an_error_is_told_in_few_words_and_without_the_key() {
    let (topic, address) = Topic::start().await;
    topic.will_answer(
        400,
        &[],
        &format!("your key {KEY} is\r\n no good {}", "x".repeat(100_000)),
    );
    let reason = refused(publisher(address).publish(vec![event("1")], BUDGET).await);
    assert!(
        reason.starts_with("400 Bad Request: your key [redacted] is no good xxx"),
        "{reason}"
    );
    assert!(reason.len() <= 500, "{reason}");
}

// --- Retries

#[tokio::test]
async fn trouble_at_the_service_is_retried() {
    for status in [408, 429, 500, 502, 503, 504] {
        let (topic, address) = Topic::start().await;
        topic.will_answer(status, &[], "");
        topic.will_answer(503, &[], "");
        publisher(address)
            .publish(vec![event("1")], BUDGET)
            .await
            .unwrap();
        assert_eq!(topic.requests().len(), 3, "{status}");
        assert_eq!(topic.accepted(), ["1"]);
    }
}

#[tokio::test]
async fn retry_after_is_honoured() {
    // A date is meant by the service's clock, whatever ours says.
    let by_date = [
        ("retry-after", "Sun, 06 Nov 1994 08:49:38 GMT"),
        ("date", "Sun, 06 Nov 1994 08:49:37 GMT"),
    ];
    for headers in [&[("retry-after", "1")][..], &by_date] {
        let (topic, address) = Topic::start().await;
        topic.will_answer(429, headers, "");
        let started = Instant::now();
        publisher(address)
            .publish(vec![event("1")], BUDGET)
            .await
            .unwrap();
        let waited = started.elapsed();
        assert!((1_000..4_000).contains(&waited.as_millis()), "{waited:?}");
        assert_eq!(topic.requests().len(), 2);
    }
}

#[tokio::test]
async fn retry_after_beyond_the_budget_gives_up_at_once() {
    for retry_after in ["3600", "18446744073709551615"] {
        let (topic, address) = Topic::start().await;
        let body = json!({"error": {"code": "TooManyRequests", "message": "slow down"}});
        topic.will_answer(429, &[("retry-after", retry_after)], &body);
        let started = Instant::now();
        let reason = unavailable(publisher(address).publish(vec![event("1")], BUDGET).await);
        assert_eq!(
            reason,
            "429 Too Many Requests: TooManyRequests: slow down (attempts: 1)"
        );
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn the_budget_bounds_all_attempts() {
    let (topic, address) = Topic::start().await;
    for _ in 0..1_000 {
        topic.will_answer(503, &[], "");
    }
    let started = Instant::now();
    unavailable(
        publisher(address)
            .publish(vec![event("1")], Duration::from_millis(600))
            .await,
    );
    assert!(started.elapsed() < Duration::from_secs(3));
    let attempts = topic.requests().len();
    assert!((2..12).contains(&attempts), "{attempts}");
}

#[tokio::test]
async fn the_budget_bounds_a_topic_that_does_not_answer() {
    let (topic, address) = Topic::start().await;
    *topic.gate.lock().unwrap() = Some(Arc::new(Semaphore::new(0)));
    let started = Instant::now();
    let reason = unavailable(
        publisher(address)
            .publish(vec![event("1")], Duration::from_millis(300))
            .await,
    );
    assert!(reason.contains("timed out"), "{reason}");
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_topic_that_nobody_serves_is_unavailable() {
    let free = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let reason = unavailable(
        publisher(free)
            .publish(vec![event("1")], Duration::from_millis(300))
            .await,
    );
    assert!(reason.contains("refused"), "{reason}");
    assert!(
        !reason.contains("127.0.0.1"),
        "the URL may hold a key: {reason}"
    );
}

// --- Tokens

/// A token service whose tokens are `token-1`, `token-2` …
struct Tokens {
    lifetime: Duration,
    issued: Arc<AtomicUsize>,
    /// While it has no permits, no token comes.
    open: Arc<Semaphore>,
    failing: Arc<Mutex<Option<TokenError>>>,
}

impl Tokens {
    fn living(lifetime: Duration) -> Tokens {
        let open = Arc::new(Semaphore::new(MANY));
        Tokens {
            lifetime,
            issued: Arc::default(),
            open,
            failing: Arc::default(),
        }
    }
}

impl TokenSource for Tokens {
    fn acquire(&self) -> BoxFuture<'_, Result<Token, TokenError>> {
        async move {
            let number = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
            let _permit = self.open.acquire().await.unwrap();
            match self.failing.lock().unwrap().clone() {
                Some(error) => Err(error),
                None => Token::new(&format!("token-{number}"), self.lifetime),
            }
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let (topic, address) = Topic::start().await;
    let tokens = Tokens::living(Duration::from_secs(60));
    let issued = Arc::clone(&tokens.issued);
    let credential = Credential::Entra(TokenCache::new(tokens, BUDGET));
    let publisher =
        EventGridPublisher::new(&format!("http://{address}/api/events"), credential).unwrap();

    *topic.token.lock().unwrap() = "token-2".to_owned();
    publisher.publish(vec![event("1")], BUDGET).await.unwrap();
    publisher.publish(vec![event("2")], BUDGET).await.unwrap();
    assert_eq!(topic.requests().len(), 3);
    assert_eq!(issued.load(Ordering::SeqCst), 2);
    let last = topic.requests().pop().unwrap();
    assert_eq!(last.headers[AUTHORIZATION], "Bearer token-2");
    assert_eq!(last.headers.get("aeg-sas-key"), None);

    *topic.token.lock().unwrap() = "another".to_owned();
    let reason = denied(publisher.publish(vec![event("3")], BUDGET).await);
    assert!(reason.starts_with("401 Unauthorized"), "{reason}");
    assert_eq!(topic.requests().len(), 5);
}

#[tokio::test]
async fn without_a_token_nothing_is_published() {
    let (topic, address) = Topic::start().await;
    let tokens = Tokens::living(Duration::from_secs(60));
    *tokens.failing.lock().unwrap() = Some(TokenError::new("nobody is logged in"));
    let credential = Credential::Entra(TokenCache::new(tokens, BUDGET));
    let publisher =
        EventGridPublisher::new(&format!("http://{address}/api/events"), credential).unwrap();
    let reason = unavailable(
        publisher
            .publish(vec![event("1")], Duration::from_millis(300))
            .await,
    );
    assert!(
        reason.starts_with("no credential: nobody is logged in"),
        "{reason}"
    );
    assert!(topic.requests().is_empty());
}

#[tokio::test]
async fn callers_share_one_acquisition_which_outlives_them() {
    let tokens = Tokens::living(Duration::from_secs(60));
    let (issued, open) = (Arc::clone(&tokens.issued), Arc::clone(&tokens.open));
    open.forget_permits(MANY);
    let cache = TokenCache::new(tokens, BUDGET);
    assert!(
        timeout(Duration::from_millis(20), cache.authorization())
            .await
            .is_err(),
        "nothing to serve yet"
    );
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { cache.authorization().await.unwrap() })
        })
        .collect();
    open.add_permits(MANY);
    for authorization in join_all(waiting).await {
        assert_eq!(authorization.unwrap(), "Bearer token-1");
    }
    assert_eq!(issued.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_token_is_renewed_in_the_background_at_half_of_its_life() {
    let tokens = Tokens::living(Duration::from_secs(4));
    let (issued, failing) = (Arc::clone(&tokens.issued), Arc::clone(&tokens.failing));
    let cache = TokenCache::new(tokens, BUDGET);
    let started = Instant::now();
    let mut served = cache.authorization().await.unwrap();
    assert_eq!(served, "Bearer token-1");
    // The first renewal fails, which nobody notices.
    *failing.lock().unwrap() = Some(TokenError::new("the token service is down"));
    while served == "Bearer token-1" {
        if issued.load(Ordering::SeqCst) == 2 {
            assert!(
                started.elapsed() >= Duration::from_secs(2),
                "half of its life has passed"
            );
            *failing.lock().unwrap() = None;
        }
        served = timeout(Duration::from_millis(500), cache.authorization())
            .await
            .expect("served at once")
            .unwrap();
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(served, "Bearer token-3");
    assert!(
        started.elapsed() < Duration::from_secs(4),
        "before the first one has expired"
    );
}

#[tokio::test]
async fn an_expired_token_is_not_served() {
    let tokens = Tokens::living(Duration::from_millis(50));
    let failing = Arc::clone(&tokens.failing);
    let cache = TokenCache::new(tokens, BUDGET);
    cache.authorization().await.unwrap();
    *failing.lock().unwrap() = Some(TokenError::new("down"));
    sleep(Duration::from_millis(60)).await;
    assert_eq!(
        cache.authorization().await.unwrap_err(),
        TokenError::new("down")
    );
    *failing.lock().unwrap() = None;
    cache.authorization().await.unwrap();
}

#[tokio::test]
async fn an_acquisition_is_given_up_after_its_limit() {
    struct Never;
    impl TokenSource for Never {
        fn acquire(&self) -> BoxFuture<'_, Result<Token, TokenError>> {
            std::future::pending().boxed()
        }
    }
    let cache = TokenCache::new(Never, Duration::from_millis(50));
    let error = cache.authorization().await.unwrap_err();
    assert_eq!(error.to_string(), "no credential: none came within 50ms");
}

#[tokio::test]
async fn only_the_refused_token_is_forgotten() {
    let cache = TokenCache::new(Tokens::living(Duration::from_secs(60)), BUDGET);
    let first = cache.authorization().await.unwrap();
    cache.invalidate(&first);
    assert_eq!(cache.authorization().await.unwrap(), "Bearer token-2");
    // Another caller comes late with the same news.
    cache.invalidate(&first);
    assert_eq!(cache.authorization().await.unwrap(), "Bearer token-2");
}

/// The identity endpoint of App Service and Functions: what the SDK asks for and what it wants to hear. It issues
/// `managed-token` for one audience, to the user-assigned identity with `client_id`, or else to the system-assigned one.
pub async fn identity_endpoint(
    audience: &'static str,
    client_id: Option<&'static str>,
) -> SocketAddr {
    let issue = async move |Query(query): Query<HashMap<String, String>>,
                            headers: HeaderMap|
                -> Response {
        let asked_well = query
            .get("api-version")
            .is_some_and(|version| version == "2019-08-01")
            && query
                .get("resource")
                .is_some_and(|resource| resource == audience)
            && query.get("client_id").map(String::as_str) == client_id
            && headers
                .get("x-identity-header")
                .is_some_and(|header| header == "identity-secret");
        if !asked_well {
            return StatusCode::BAD_REQUEST.into_response();
        }
        let expires_on = (chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(40_000))
            .timestamp()
            .to_string();
        let token = json!({
            "access_token": "managed-token", "expires_on": expires_on, "token_type": "Bearer", "resource": audience,
        });
        token.to_string().into_response()
    };
    serve(Router::new().route("/msi/token", get(issue))).await
}

/// The SDK reads the environment itself, so this test runs itself again in a process that has the variables.
#[tokio::test]
async fn managed_identity_publishes_with_the_platform_s_token() {
    const TOPIC: &str = "TEST_TOPIC_ENDPOINT";
    #[expect(
        clippy::disallowed_methods,
        reason = "tells the two processes of this test apart"
    )]
    if let Ok(endpoint) = std::env::var(TOPIC) {
        let credential = Credential::managed_identity(None).unwrap();
        let publisher = EventGridPublisher::new(&endpoint, credential).unwrap();
        return publisher.publish(vec![event("1")], BUDGET).await.unwrap();
    }
    let (topic, address) = Topic::start().await;
    *topic.token.lock().unwrap() = "managed-token".to_owned();
    let identity = identity_endpoint("https://eventgrid.azure.net", None).await;
    let child = tokio::task::spawn_blocking(move || {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "publish::managed_identity_publishes_with_the_platform_s_token",
                "--nocapture",
            ])
            .env(TOPIC, format!("http://{address}/api/events"))
            .env("IDENTITY_ENDPOINT", format!("http://{identity}/msi/token"))
            .env("IDENTITY_HEADER", "identity-secret")
            .output()
    });
    let child = child.await.unwrap().unwrap();
    assert!(
        child.status.success(),
        "{}",
        String::from_utf8_lossy(&child.stderr)
    );
    assert_eq!(topic.accepted(), ["1"]);
}

// --- Many callers

fn batching(address: SocketAddr) -> Arc<BatchingPublisher> {
    Arc::new(BatchingPublisher::new(Arc::new(publisher(address))))
}

/// Starts a caller of its own for each of `events`.
fn callers(
    publisher: &Arc<BatchingPublisher>,
    events: Vec<Bytes>,
    budget: Duration,
) -> Vec<tokio::task::JoinHandle<Result<(), PublishError>>> {
    let start = |event: Bytes| {
        let publisher = Arc::clone(publisher);
        tokio::spawn(async move { publisher.publish(vec![event], budget).await })
    };
    events.into_iter().map(start).collect()
}

/// Closes the topic's gate and has as many requests run into it as there may be at a time, so that all further calls have to wait.
async fn occupied(topic: &Topic, publisher: &Arc<BatchingPublisher>) -> Arc<Semaphore> {
    let gate = Arc::new(Semaphore::new(0));
    *topic.gate.lock().unwrap() = Some(Arc::clone(&gate));
    for number in 1..=MAX_IN_FLIGHT {
        callers(publisher, vec![event(&format!("first-{number}"))], BUDGET);
        until(|| topic.requests().len() == number).await;
    }
    gate
}

#[tokio::test]
async fn a_lone_call_goes_out_at_once() {
    let (topic, address) = Topic::start().await;
    let publisher = batching(address);
    for number in 0..20 {
        publisher
            .publish(vec![event(&format!("{number:02}"))], BUDGET)
            .await
            .unwrap();
    }
    assert_eq!(topic.requests().len(), 20);
    assert_eq!(topic.accepted().len(), 20);
}

#[tokio::test]
async fn concurrent_calls_are_combined_and_each_event_is_published_once() {
    let (topic, address) = Topic::start().await;
    let publisher = batching(address);
    let gate = occupied(&topic, &publisher).await;
    let ids: Vec<String> = (0..1_000)
        .map(|number| format!("later-{number:04}"))
        .collect();
    let mut calls = Vec::new();
    for id in &ids {
        calls.extend(callers(&publisher, vec![event(id)], BUDGET));
        // Long enough for a request to start, if one did.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
    }
    assert_eq!(
        topic.requests().len(),
        MAX_IN_FLIGHT,
        "no more requests than that at a time"
    );
    gate.add_permits(MANY);
    for outcome in join_all(calls).await {
        outcome.unwrap().unwrap();
    }
    until(|| topic.accepted().len() >= MAX_IN_FLIGHT + ids.len()).await;
    let requests = topic.requests().len();
    assert!(requests <= 2 * MAX_IN_FLIGHT, "{requests} requests");
    assert_eq!(topic.accepted()[MAX_IN_FLIGHT..], ids);
}

#[tokio::test]
async fn combined_requests_keep_the_limits_of_one() {
    let (topic, address) = Topic::start().await;
    let publisher = batching(address);
    let gate = occupied(&topic, &publisher).await;
    let calls = callers(
        &publisher,
        (0..7)
            .map(|number| event_of(&number.to_string(), 300_000))
            .collect(),
        BUDGET,
    );
    tokio::task::yield_now().await;
    // The first request that ends makes way for three events, and the second one for three more.
    gate.add_permits(2);
    until(|| topic.requests().len() == MAX_IN_FLIGHT + 2).await;
    gate.add_permits(MANY);
    for outcome in join_all(calls).await {
        outcome.unwrap().unwrap();
    }
    let counts: Vec<usize> = topic
        .requests()
        .iter()
        .skip(MAX_IN_FLIGHT)
        .map(|request| request.ids.len())
        .collect();
    assert_eq!(counts, [3, 3, 1]);
}

#[tokio::test]
async fn a_bad_event_fails_its_own_caller_only() {
    let (topic, address) = Topic::start().await;
    let publisher = batching(address);
    let gate = occupied(&topic, &publisher).await;
    let mut events: Vec<Bytes> = (0..100)
        .map(|number| event(&format!("good-{number:02}")))
        .collect();
    events.insert(37, Bytes::from(r#"{"id":"bad"}"#));
    events.insert(80, event_of("big", 1_048_576));
    let calls = callers(&publisher, events, BUDGET);
    tokio::task::yield_now().await;
    gate.add_permits(MANY);
    for (position, outcome) in join_all(calls).await.into_iter().enumerate() {
        match position {
            37 => assert!(refused(outcome.unwrap()).contains("CloudEventV10")),
            80 => assert!(refused(outcome.unwrap()).contains("came 1048578")),
            _ => outcome.unwrap().unwrap(),
        }
    }
    until(|| topic.accepted().len() >= 100 + MAX_IN_FLIGHT).await;
    assert_eq!(
        topic
            .accepted()
            .iter()
            .filter(|id| id.starts_with("good"))
            .count(),
        100
    );
    let requests = topic.requests().len();
    assert!(requests < 40, "{requests} requests");
}

#[tokio::test]
async fn a_topic_that_denies_is_not_asked_for_every_caller() {
    let (topic, address) = Topic::start().await;
    let publisher = batching(address);
    let gate = occupied(&topic, &publisher).await;
    for _ in 0..200 {
        topic.will_answer(403, &[], "");
    }
    let calls = callers(
        &publisher,
        (0..100).map(|number| event(&number.to_string())).collect(),
        BUDGET,
    );
    tokio::task::yield_now().await;
    gate.add_permits(MANY);
    for outcome in join_all(calls).await {
        denied(outcome.unwrap());
    }
    assert!(topic.requests().len() <= 2 * MAX_IN_FLIGHT);
}

#[tokio::test]
async fn callers_who_leave_disturb_nobody() {
    let (topic, address) = Topic::start().await;
    let publisher = batching(address);
    let gate = occupied(&topic, &publisher).await;
    let mut calls = callers(
        &publisher,
        (10..60).map(|number| event(&number.to_string())).collect(),
        BUDGET,
    );
    tokio::task::yield_now().await;
    for call in calls.iter().step_by(2) {
        call.abort();
    }
    let stayed: Vec<_> = calls
        .drain(..)
        .enumerate()
        .filter(|(position, _)| position % 2 == 1)
        .collect();
    gate.add_permits(MANY);
    for (_, call) in stayed {
        call.await.unwrap().unwrap();
    }
    for number in (11..60).step_by(2) {
        assert!(topic.accepted().contains(&number.to_string()));
    }
    publisher
        .publish(vec![event("afterwards")], BUDGET)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_caller_in_a_hurry_does_not_cut_the_others_short() {
    let (topic, address) = Topic::start().await;
    let publisher = batching(address);
    let gate = occupied(&topic, &publisher).await;
    let patient = callers(&publisher, vec![event("patient")], BUDGET).remove(0);
    let hurried = callers(
        &publisher,
        vec![event("hurried")],
        Duration::from_millis(400),
    )
    .remove(0);
    tokio::task::yield_now().await;
    gate.add_permits(MAX_IN_FLIGHT);
    until(|| topic.requests().len() == MAX_IN_FLIGHT + 1).await;
    assert_eq!(topic.requests()[MAX_IN_FLIGHT].ids, ["patient", "hurried"]);
    assert!(unavailable(hurried.await.unwrap()).contains("400ms"));
    gate.add_permits(MANY);
    patient.await.unwrap().unwrap();
    assert_eq!(topic.requests().len(), MAX_IN_FLIGHT + 1);
}

#[tokio::test]
async fn a_panicking_publisher_fails_its_callers_only() {
    struct Broken(EventGridPublisher);
    impl Publisher for Broken {
        fn publish(
            &self,
            events: Vec<Bytes>,
            budget: Duration,
        ) -> BoxFuture<'_, Result<(), PublishError>> {
            assert!(
                events.len() < 2,
                "two events are too many for this publisher"
            );
            self.0.publish(events, budget)
        }
    }
    let (_, address) = Topic::start().await;
    let publisher = BatchingPublisher::new(Arc::new(Broken(publisher(address))));
    for _ in 0..10 {
        let reason = unavailable(
            publisher
                .publish(vec![event("1"), event("2")], BUDGET)
                .await,
        );
        assert_eq!(reason, "the request broke off");
    }
    publisher.publish(vec![event("3")], BUDGET).await.unwrap();
}
