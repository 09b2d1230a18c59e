//! The stand-in for the Functions host over real HTTP, with a real child process as its handler.
//!
//! The child is this test program itself, told to run only [`handler`], which then serves instead of testing.

#![cfg(unix)]
use std::{
    future::pending,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::any,
};
use orderflow::dev::{Dev, DevError, DevOptions, Samples, Subscription, TimerFunction};
use reqwest::redirect::Policy;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_secs(30);

const ANSWER: &str = r#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#;

/// The handler: serves when the host started it, and is nothing otherwise.
#[tokio::test]
async fn handler() {
    let Some(port) = setting("FUNCTIONS_CUSTOMHANDLER_PORT") else {
        return;
    };
    eprintln!("a complaint");
    let listener = TcpListener::bind(format!("127.0.0.1:{port}"))
        .await
        .unwrap();
    let router = Router::new()
        .route(
            "/api/moved",
            any(|| async { (StatusCode::SEE_OTHER, [("location", "/api/here")]) }),
        )
        .route("/api/{*path}", any(show_request))
        .route("/{function}", any(invoked))
        .fallback(|| async { StatusCode::NOT_FOUND });
    axum::serve(listener, router).await.unwrap();
}

#[expect(
    clippy::disallowed_methods,
    reason = "the host tells the handler its settings this way"
)]
fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Answers with what came, in JSON, under a status and a header of its own.
async fn show_request(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let shown = shown(&method, &uri, &headers, &body);
    (
        StatusCode::IM_A_TEAPOT,
        [("x-own", "yes")],
        shown.to_string(),
    )
        .into_response()
}

fn shown(method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> Value {
    let headers: serde_json::Map<_, _> = headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value.as_bytes()).into(),
            )
        })
        .collect();
    json!({
        "method": method.to_string(),
        "uri": uri.to_string(),
        "headers": headers,
        "body": String::from_utf8_lossy(body),
        "process": std::process::id(),
        "settings": {
            "EVENTGRID_TOPIC_ENDPOINT": setting("EVENTGRID_TOPIC_ENDPOINT"),
            "EVENTGRID_TOPIC_KEY": setting("EVENTGRID_TOPIC_KEY"),
            "FUNCTIONS_HTTPWORKER_PORT": setting("FUNCTIONS_HTTPWORKER_PORT"),
            "OWN": setting("OWN"),
        },
    })
}

/// Does what the event's data says, after noting the invocation in the file of the setting `NOTES`.
async fn invoked(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    use std::io::Write as _;
    let notes = setting("NOTES").unwrap();
    let mut notes = std::fs::File::options()
        .create(true)
        .append(true)
        .open(notes)
        .unwrap();
    let note = format!("{}\n", shown(&method, &uri, &headers, &body));
    notes.write_all(note.as_bytes()).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let asked = &body["Data"]["event"]["data"];
    if let Some(code) = asked["exit"].as_i64() {
        std::process::exit(i32::try_from(code).unwrap());
    }
    if asked["sleep"] == true {
        pending::<()>().await;
    }
    let status = StatusCode::from_u16(
        asked["status"]
            .as_u64()
            .map_or(200, |s| s.try_into().unwrap()),
    );
    let content_type = asked["contentType"]
        .as_str()
        .unwrap_or("application/json")
        .to_owned();
    let answer = asked["answer"].as_str().unwrap_or(ANSWER).to_owned();
    (
        status.unwrap(),
        [(CONTENT_TYPE, content_type)],
        Body::from(answer),
    )
        .into_response()
}

/// The running stand-ins.
struct Application {
    folder: TempDir,
    host: String,
    grid: String,
    key: String,
    client: reqwest::Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), DevError>>,
}

fn options(folder: &Path) -> DevOptions {
    let notes = folder.join("notes").display().to_string();
    DevOptions {
        host_port: 0,
        grid_port: 0,
        data: folder.join("data"),
        speed: 1_000.0,
        throttle: false,
        quiet: true,
        delivery: orderflow::dev::DeliveryOptions::default(),
        open: false,
        managed_identity: false,
        handler: std::env::current_exe().unwrap(),
        handler_arguments: ["--exact", "dev_host::handler", "--nocapture"]
            .map(str::to_owned)
            .to_vec(),
        function_timeout: Duration::from_secs(20),
        subscriptions: vec![Subscription {
            function: "billing",
            binding: "event",
            event_types: vec!["Sales.OrderPlaced"],
        }],
        http_functions: vec![],
        timers: vec![],
        environment: vec![
            ("NOTES".to_owned(), notes),
            ("OWN".to_owned(), "value".to_owned()),
        ],
        samples: Samples::default(),
    }
}

impl Application {
    async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut DevOptions)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = options(folder.path());
        change(&mut options);
        let dev = Dev::bind(options).await.unwrap();
        let host = dev.host_address().to_owned();
        let grid = dev.grid_address().to_owned();
        let key = orderflow::dev::DEVELOPMENT_KEY.to_owned();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(dev.run(async { drop(stopped.await) }));
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .build()
            .unwrap();
        Self {
            folder,
            host,
            grid,
            key,
            client,
            stop,
            running,
        }
    }

    fn webhook(&self, function: &str) -> String {
        format!(
            "{}/runtime/webhooks/eventgrid?functionName={function}",
            self.host
        )
    }

    /// Delivers a body as Event Grid does.
    async fn deliver_body(&self, body: String) -> (u16, String) {
        let request = self
            .client
            .post(self.webhook("billing"))
            .header("aeg-event-type", "Notification");
        text(request.body(body)).await
    }

    /// Delivers an event with this data.
    async fn deliver(&self, data: Value) -> (u16, String) {
        self.deliver_body(event(&data).to_string()).await
    }

    /// What the handler got so far.
    fn notes(&self) -> Vec<Value> {
        let notes = std::fs::read_to_string(self.folder.path().join("notes")).unwrap_or_default();
        notes
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The handler's process id.
    async fn process(&self) -> u64 {
        let (_, body) = text(self.client.get(format!("{}/api/who", self.host))).await;
        serde_json::from_str::<Value>(&body).unwrap()["process"]
            .as_u64()
            .unwrap()
    }

    async fn stop(self) -> TempDir {
        self.stop.send(()).unwrap();
        self.running.await.unwrap().unwrap();
        self.folder
    }

    /// The error that the stand-ins end with.
    async fn error(self) -> DevError {
        let ended = tokio::time::timeout(PATIENCE, self.running).await;
        ended.unwrap().unwrap().unwrap_err()
    }
}

fn event(data: &Value) -> Value {
    json!({"specversion": "1.0", "id": "e-1", "source": "/s", "type": "Sales.OrderPlaced", "data": data})
}

async fn text(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (
        status,
        String::from_utf8(answer.bytes().await.unwrap().to_vec()).unwrap(),
    )
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn is_alive(process: u64) -> bool {
    // A zombie counts as dead: it only waits for its parent to look.
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, state)| !state.starts_with('Z'))
}

#[tokio::test]
async fn the_webhook_answers_like_the_real_one() {
    let application = Application::start().await;
    let client = &application.client;
    let billing = application.webhook("billing");
    let notify = |url: &str| client.post(url).header("aeg-event-type", "notification");

    // The handshake of CloudEvents.
    for (asked, allowed) in [
        ("eventgrid.azure.net", "eventgrid.azure.net"),
        ("eventgrid.azure.cn", "eventgrid.azure.cn"),
        ("elsewhere", "eventgrid.azure.net"),
    ] {
        let request = client
            .request(Method::OPTIONS, &billing)
            .header("WebHook-Request-Origin", asked);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["Webhook-Allowed-Origin"], allowed);
    }

    // The handshake of Event Grid's own schema, in both forms.
    let validate = || {
        client
            .post(&billing)
            .header("aeg-event-type", "SubscriptionValidation")
    };
    for body in [
        json!([{"data": {"validationCode": "512d"}}]),
        json!({"data": "{\"validationCode\":\"512d\"}"}),
    ] {
        let (status, answer) = text(validate().body(body.to_string())).await;
        assert_eq!(
            (status, answer.as_str()),
            (200, r#"{"validationResponse":"512d"}"#)
        );
    }

    let unsubscribe = client
        .post(&billing)
        .header("aeg-event-type", "Unsubscribe");
    assert_eq!(text(unsubscribe).await.0, 202);

    // The usual mistakes.
    let (status, words) = text(client.post(&billing).body(event(&json!({})).to_string())).await;
    assert_eq!(status, 400);
    assert!(words.contains("aeg-event-type: Notification"), "{words}");
    let (status, words) = text(notify(&application.webhook("Billing")).body("{}")).await;
    assert_eq!(status, 404);
    assert!(
        words.contains("`Billing`") && words.contains("there are billing"),
        "{words}"
    );
    assert_eq!(
        text(notify(&format!(
            "{}/runtime/webhooks/eventgrid",
            application.host
        )))
        .await
        .0,
        404
    );
    let other = billing.replace("eventgrid?", "blobs?");
    assert_eq!(text(notify(&other)).await.0, 404);
    for body in ["", "no JSON", "1", "\"text\"", "[1]"] {
        assert_eq!(text(notify(&billing).body(body)).await.0, 500, "{body}");
    }
    assert!(application.notes().is_empty());

    // The name of the extension in any case, any content type, an object or an array.
    let shouted = billing.replace("eventgrid?", "EventGrid?");
    for (url, body) in [
        (&billing, event(&json!({}))),
        (&shouted, json!([event(&json!({}))])),
    ] {
        assert_eq!(
            text(notify(url).body(body.to_string())).await,
            (202, String::new())
        );
    }
    assert_eq!(application.notes().len(), 2);
    application.stop().await;
}

#[tokio::test]
async fn the_handler_gets_the_invocation_that_the_real_host_sends() {
    let application = Application::start().await;
    let event = r#"{ "id":"e-1","data":{"b":1.0e0,"a":"ä"},"time":"2026-11-22T07:00:00.1234567Z"}"#;
    assert_eq!(application.deliver_body(event.to_owned()).await.0, 202);
    let notes = application.notes();
    let [note] = &notes[..] else {
        panic!("{notes:?}")
    };
    assert_eq!(
        (&note["method"], &note["uri"]),
        (&"POST".into(), &"/billing".into())
    );
    let headers = &note["headers"];
    assert_eq!(headers["content-type"], "application/json; charset=utf-8");
    assert_eq!(headers["transfer-encoding"], "chunked");
    assert_eq!(headers.get("content-length"), None);
    assert_eq!(
        headers["x-azure-functions-invocationid"]
            .as_str()
            .unwrap()
            .len(),
        36
    );
    let version = headers["x-azure-functions-hostversion"].as_str().unwrap();
    assert_eq!(
        headers["user-agent"],
        format!("Azure-Functions-Host/{version}")
    );
    let body = note["body"].as_str().unwrap();
    assert!(
        body.starts_with(&format!(
            r#"{{"Data":{{"event":{event}}},"Metadata":{{"data":"#
        )),
        "{body}"
    );
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["Metadata"]["sys"]["MethodName"], "billing");
    let settings = &note["settings"];
    let endpoint = format!("{}/api/events", application.grid);
    assert_eq!(settings["EVENTGRID_TOPIC_ENDPOINT"], endpoint);
    assert_eq!(settings["EVENTGRID_TOPIC_KEY"], application.key);
    assert_eq!(settings["OWN"], "value");
    assert!(
        settings["FUNCTIONS_HTTPWORKER_PORT"]
            .as_str()
            .unwrap()
            .parse::<u16>()
            .is_ok()
    );
    application.stop().await;
}

#[tokio::test]
async fn an_event_published_to_the_grid_reaches_the_handler() {
    let application = Application::start().await;
    let endpoints = application.folder.path().join("data/endpoints.json");
    let event = event(&json!({"note": "through the grid"})).to_string();
    let request = application
        .client
        .post(format!("{}/api/events", application.grid));
    let request = request.header("content-type", "application/cloudevents+json");
    let request = request
        .header("aeg-sas-key", &application.key)
        .body(event.clone());
    assert_eq!(text(request).await.0, 200);
    until("the handler is invoked", || !application.notes().is_empty()).await;
    assert!(
        application.notes()[0]["body"]
            .as_str()
            .unwrap()
            .contains(&event)
    );
    let announced: Value = serde_json::from_slice(&std::fs::read(&endpoints).unwrap()).unwrap();
    assert_eq!(
        announced,
        json!({"host": application.host, "grid": application.grid})
    );
    let process = application.process().await;
    let folder = application.stop().await;
    assert!(!endpoints.exists());
    until("the handler is gone", || !is_alive(process)).await;
    let log = std::fs::read_to_string(folder.path().join("data/handler.log")).unwrap();
    assert!(log.contains("a complaint"), "{log}");
}

#[tokio::test]
async fn one_failed_event_fails_the_whole_delivery() {
    let application = Application::start().await;
    let batch = json!([
        event(&json!({})),
        event(&json!({"status": 503, "answer": "later"}))
    ]);
    let (status, words) = application.deliver_body(batch.to_string()).await;
    assert_eq!(status, 500);
    assert!(
        words.starts_with("Exception while executing function: Functions.billing"),
        "{words}"
    );
    assert!(words.contains("503 later"), "{words}");
    assert_eq!(application.notes().len(), 2);
    let batch = json!([event(&json!({})), event(&json!({}))]);
    assert_eq!(application.deliver_body(batch.to_string()).await.0, 202);
    for failure in [
        json!({"contentType": "application/problem+json"}),
        json!({"answer": "[]"}),
        json!({"status": 302}),
        json!({"status": 400}),
    ] {
        assert_eq!(
            application.deliver(failure.clone()).await.0,
            500,
            "{failure}"
        );
    }
    application.stop().await;
}

#[tokio::test]
async fn an_empty_answer_hangs_until_the_time_limit_and_kills_the_handler() {
    let limit = Duration::from_secs(1);
    let application = Application::start_with(|options| options.function_timeout = limit).await;
    for trap in [
        json!({"answer": ""}),
        json!({"answer": "null"}),
        json!({"sleep": true}),
    ] {
        let before = application.process().await;
        let started = Instant::now();
        let (status, words) = application.deliver(trap).await;
        assert_eq!(status, 500);
        assert!(words.contains("time limit"), "{words}");
        assert!(started.elapsed() >= limit);
        until("the handler is killed", || !is_alive(before)).await;
        assert_ne!(application.process().await, before);
    }
    // Not counted as errors of the handler: three of those would have ended the host.
    assert_eq!(application.deliver(json!({})).await.0, 202);
    application.stop().await;
}

#[tokio::test]
async fn requests_under_api_are_forwarded_as_they_came() {
    let application = Application::start().await;
    let url = format!("{}/api/orders/42%2F1?status=a%20b&x", application.host);
    let request = application
        .client
        .put(&url)
        .header("Idempotency-Key", "k-1")
        .body("the body");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status(), 418);
    assert_eq!(answer.headers()["x-own"], "yes");
    let seen: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(seen["method"], "PUT");
    assert_eq!(seen["uri"], "/api/orders/42%2F1?status=a%20b&x");
    assert_eq!(seen["body"], "the body");
    assert_eq!(seen["headers"]["idempotency-key"], "k-1");
    assert_eq!(
        seen["headers"]["host"],
        application.host.trim_start_matches("http://")
    );
    assert!(
        seen["headers"]["user-agent"]
            .as_str()
            .unwrap()
            .starts_with("Azure-Functions-Host/")
    );
    assert!(seen["headers"]["x-azure-functions-invocationid"].is_string());

    let moved = application
        .client
        .get(format!("{}/api/moved", application.host))
        .send()
        .await
        .unwrap();
    assert_eq!(
        (moved.status().as_u16(), &moved.headers()["location"]),
        (303, &"/api/here".parse().unwrap())
    );

    // A body in chunks is lost on the way, as the real host loses it.
    let frames = http_body_util::BodyExt::map_frame(
        http_body_util::Full::new(Bytes::from_static(b"lost")),
        std::convert::identity,
    );
    let request = application
        .client
        .put(&url)
        .body(reqwest::Body::wrap(frames));
    let seen: Value = serde_json::from_str(&text(request).await.1).unwrap();
    assert_eq!(seen["body"], "");
    application.stop().await;
}

#[tokio::test]
async fn a_handler_that_crashes_is_started_again_twice() {
    let application = Application::start().await;
    for _ in 0..2 {
        assert_eq!(application.deliver(json!({"exit": 7})).await.0, 500);
        assert_eq!(application.deliver(json!({})).await.0, 202);
    }
    // The third error ends the host, which may be gone before it can answer.
    let request = application.client.post(application.webhook("billing"));
    let request = request.header("aeg-event-type", "Notification");
    drop(
        request
            .body(event(&json!({"exit": 7})).to_string())
            .send()
            .await,
    );
    let error = application.error().await;
    assert!(
        matches!(error, DevError::HandlerFailed { errors: 3, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("exit code 7"), "{error}");
    assert!(error.to_string().contains("a complaint"), "{error}");
}

#[tokio::test]
async fn a_handler_that_asks_for_a_restart_gets_any_number_of_them() {
    let application = Application::start().await;
    for _ in 0..4 {
        assert_eq!(application.deliver(json!({"exit": 200})).await.0, 500);
    }
    assert_eq!(application.deliver(json!({})).await.0, 202);
    application.stop().await;
}

#[tokio::test]
async fn a_handler_that_ends_well_is_not_started_again() {
    let application = Application::start().await;
    assert_eq!(application.deliver(json!({"exit": 0})).await.0, 500);
    let (status, words) = application.deliver(json!({})).await;
    assert_eq!(status, 500);
    assert!(
        words.contains("has ended and is not started again"),
        "{words}"
    );
    let api = application
        .client
        .get(format!("{}/api/orders", application.host));
    assert_eq!(text(api).await.0, 503);
    application.stop().await;
}

#[tokio::test]
async fn invocations_wait_for_a_handler_that_was_killed() {
    let application = Application::start().await;
    let killed = application.process().await;
    let status = Command::new("kill")
        .args(["-9", &killed.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
    until("the handler is gone", || !is_alive(killed)).await;
    // Over a connection from before the kill one delivery may fail, as it may in the real host.
    application.deliver(json!({})).await;
    assert_eq!(application.deliver(json!({})).await.0, 202);
    assert_ne!(application.process().await, killed);
    application.stop().await;
}

#[tokio::test]
async fn no_handler_is_left_when_the_host_fails() {
    let application = Application::start().await;
    let mut seen = vec![application.process().await];
    for _ in 0..2 {
        application.deliver(json!({"exit": 1})).await;
        seen.push(application.process().await);
    }
    application.running.abort();
    for process in seen {
        until("the handler is gone", || !is_alive(process)).await;
    }
}

#[tokio::test]
async fn a_handler_that_does_not_start_is_told_in_one_line() {
    let shell = |script: &'static str| {
        move |options: &mut DevOptions| {
            options.handler = "/bin/sh".into();
            options.handler_arguments = vec!["-c".to_owned(), script.to_owned()];
        }
    };
    let application = Application::start_with(shell("echo STORE_URL is missing >&2; exit 1")).await;
    let error = application.error().await;
    assert!(
        matches!(error, DevError::HandlerFailed { errors: 3, .. }),
        "{error:?}"
    );
    let line = error.to_string();
    assert!(
        line.ends_with("ended with exit code 1: STORE_URL is missing"),
        "{line}"
    );

    let error = Application::start_with(shell("exit 0")).await.error().await;
    assert!(matches!(error, DevError::HandlerEnded { .. }), "{error:?}");

    let missing = |options: &mut DevOptions| options.handler = "/no/such/handler".into();
    let error = Application::start_with(missing).await.error().await;
    assert!(
        matches!(error, DevError::HandlerNotStarted { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("/no/such/handler"), "{error}");
}

#[tokio::test]
async fn timers_fire_at_their_interval() {
    let every = Duration::from_millis(300);
    let application = Application::start_with(|options| {
        options.timers = vec![TimerFunction {
            function: "sweep",
            binding: "timer",
            every,
        }];
    })
    .await;
    let started = Instant::now();
    until("the timer fires twice", || application.notes().len() >= 2).await;
    assert!(started.elapsed() > every);
    let notes = application.notes();
    assert_eq!(notes[0]["uri"], "/sweep");
    let body: Value = serde_json::from_str(notes[1]["body"].as_str().unwrap()).unwrap();
    let timer = &body["Data"]["timer"];
    assert_eq!(timer["Schedule"]["AdjustForDST"], true);
    assert_eq!(timer["IsPastDue"], false);
    for name in ["Last", "Next", "LastUpdated"] {
        assert!(
            timer["ScheduleStatus"][name]
                .as_str()
                .unwrap()
                .starts_with("20"),
            "{timer}"
        );
    }
    assert_eq!(body["Metadata"]["sys"]["MethodName"], "sweep");
    application.stop().await;
}

#[tokio::test]
async fn functions_are_invoked_by_hand() {
    let every = Duration::from_secs(3_600);
    let application = Application::start_with(|options| {
        options.timers = vec![TimerFunction {
            function: "sweep",
            binding: "timer",
            every,
        }];
    })
    .await;
    let invoke = async |function: &str, body: Value| {
        let url = format!("{}/admin/functions/{function}", application.host);
        text(application.client.post(url).body(body.to_string()))
            .await
            .0
    };
    let event = event(&json!({"by": "hand"}));
    assert_eq!(invoke("sweep", json!({"input": ""})).await, 202);
    until("the timer function is invoked", || {
        application.notes().len() == 1
    })
    .await;
    assert_eq!(
        invoke("billing", json!({"input": event.to_string()})).await,
        202
    );
    until("the event function is invoked", || {
        application.notes().len() == 2
    })
    .await;
    let body: Value =
        serde_json::from_str(application.notes()[1]["body"].as_str().unwrap()).unwrap();
    assert_eq!(body["Data"]["event"], event);
    assert_eq!(invoke("billing", json!({"input": "no event"})).await, 400);
    assert_eq!(invoke("none", json!({"input": ""})).await, 404);
    application.stop().await;
}

#[tokio::test]
async fn a_port_in_use_is_told_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut options = options(folder.path());
    options.host_port = taken.local_addr().unwrap().port();
    let line = Dev::bind(options).await.unwrap_err().to_string();
    assert!(
        line.contains("--host-port") && !line.contains('\n'),
        "{line}"
    );
}
