//! The live page over real HTTP: its files, its stream, replaying dead letters, and who is kept out.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Router,
    body::Bytes,
    extract::{RawQuery, State},
    http::{HeaderMap, Method, StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::any,
};
use orderflow::dev::{DevError, GridOptions, LocalGrid, Samples, Subscription};
use reqwest::{Client, RequestBuilder};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::support::{client, eventually, listen};

const PATIENCE: Duration = Duration::from_secs(20);

/// An event as a publisher would not write it, so that a rebuilt one would differ.
const ODD: &str = r#"{ "type":"Sales.OrderPlaced","id" : "e-1","specversion":"1.0","subject":"orders/1","data":{"b":1.0e0,"a":"ä"},"source":"/s"}"#;

/// Stands in for the host: consents, and answers each function's deliveries as told.
#[derive(Default)]
struct Host {
    /// What `billing` answers; 0 is no answer at all.
    billing: Mutex<u16>,
    deliveries: Mutex<Vec<Delivery>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Delivery {
    function: String,
    count: String,
    body: String,
}

impl Host {
    async fn start() -> (Arc<Self>, String) {
        let host = Arc::new(Self::default());
        host.billing_answers(202);
        let router = Router::new()
            .route("/runtime/webhooks/eventgrid", any(answer))
            .route("/api/orders/{*path}", any(echo))
            .with_state(Arc::clone(&host));
        let address = listen(router).await;
        (host, address)
    }

    fn billing_answers(&self, status: u16) {
        *self.billing.lock().unwrap() = status;
    }

    /// What billing got.
    fn billed(&self) -> Vec<Delivery> {
        let deliveries = self.deliveries.lock().unwrap().clone();
        deliveries
            .into_iter()
            .filter(|delivery| delivery.function == "billing")
            .collect()
    }
}

async fn answer(
    State(host): State<Arc<Host>>,
    method: Method,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: String,
) -> Response {
    if method == Method::OPTIONS {
        return [("WebHook-Allowed-Origin", "*")].into_response();
    }
    let function = query.unwrap().replace("functionName=", "");
    let status = match function.as_str() {
        "billing" => *host.billing.lock().unwrap(),
        _ => 202,
    };
    host.deliveries.lock().unwrap().push(Delivery {
        function,
        count: headers["aeg-delivery-count"].to_str().unwrap().to_owned(),
        body,
    });
    if status == 0 {
        std::future::pending::<()>().await;
    }
    StatusCode::from_u16(status).unwrap().into_response()
}

async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let header = |name| headers.get(name).map(|value| value.to_str().unwrap());
    let text = json!({
        "method": method.as_str(),
        "uri": uri.to_string(),
        "type": header("content-type"),
        "key": header("idempotency-key"),
        "cookie": header("cookie"),
        "body": String::from_utf8_lossy(&body),
    });
    let headers = [
        ("location", "/api/orders/1"),
        ("content-type", "application/json"),
    ];
    (StatusCode::ACCEPTED, headers, text.to_string()).into_response()
}

struct Grid {
    address: String,
    client: Client,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), DevError>>,
}

impl Grid {
    async fn start(data: &Path, deliver_to: &str) -> Self {
        let subscription = |function, event_types| Subscription {
            function,
            binding: "event",
            event_types,
        };
        let options = GridOptions {
            throttle: false,
            delivery: orderflow::dev::DeliveryOptions::default(),
            grid_port: 0,
            deliver_to: deliver_to.to_owned(),
            data: data.to_path_buf(),
            speed: 100.0,
            quiet: true,
            subscriptions: vec![
                subscription("billing", vec!["Sales.OrderPlaced"]),
                subscription("orders", vec!["Sales.OrderPlaced"]),
            ],
            samples: Samples {
                events: vec![("Sales.OrderPlaced".to_owned(), ODD.to_owned())],
                order_id: "1".to_owned(),
                order: "{}".to_owned(),
            },
        };
        let grid = LocalGrid::bind(options).await.unwrap();
        let address = grid.grid_address().to_owned();
        let (stop, stopped) = oneshot::channel();
        let running = tokio::spawn(grid.run(async { drop(stopped.await) }));
        Self {
            address,
            client: client(),
            stop,
            running,
        }
    }

    fn get(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.address))
    }

    fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.client
            .post(format!("{}{path}", self.address))
            .body(body)
    }

    /// Publishes an event, or a batch.
    fn publishing(&self, event: &str) -> RequestBuilder {
        let media_type = if event.starts_with('[') {
            "application/cloudevents-batch+json"
        } else {
            "application/cloudevents+json"
        };
        self.post("/api/events", event.to_owned())
            .header("content-type", media_type)
            .header("aeg-sas-key", orderflow::dev::DEVELOPMENT_KEY)
    }

    async fn publish(&self, event: &str) {
        assert_eq!(status(self.publishing(event)).await, 200);
    }

    /// The paths of the dead letters.
    async fn letters(&self) -> Vec<String> {
        let listed = body(self.get("/deadletters")).await;
        let letters = listed["deadLetters"].as_array().unwrap();
        let path = |letter: &Value| letter["path"].as_str().unwrap().to_owned();
        letters.iter().map(path).collect()
    }

    /// The one dead letter, once it is there.
    async fn letter(&self) -> String {
        eventually("a dead letter", async || self.letters().await.pop()).await
    }

    fn replaying(&self, path: &str) -> RequestBuilder {
        self.post("/deadletters/replay", json!({ "path": path }).to_string())
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.running)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
    }

    /// Ends the grid as a kill would.
    async fn kill(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled());
    }
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

async fn body(request: RequestBuilder) -> Value {
    let answer = request.send().await.unwrap();
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

/// A stream of server-sent events, read to its first message.
struct Stream {
    answer: reqwest::Response,
    read: String,
}

impl Stream {
    async fn open(grid: &Grid) -> Self {
        let answer = grid.get("/stream").send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut stream = Self {
            answer,
            read: String::new(),
        };
        assert!(stream.message().await.unwrap().contains("event: ready\n"));
        stream
    }

    async fn message(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.find("\n\n") {
                let message = self.read.drain(..end + 2).collect::<String>();
                return Some(message.trim_end().to_owned());
            }
            let chunk = timeout(PATIENCE, self.answer.chunk()).await.unwrap();
            self.read
                .push_str(std::str::from_utf8(&chunk.unwrap()?).unwrap());
        }
    }

    /// So many reports, each as number, what, function and attempt.
    async fn reports(&mut self, count: usize) -> Vec<Value> {
        let mut reports: Vec<Value> = Vec::new();
        while reports.len() < count {
            let message = self.message().await.unwrap();
            let data = message.strip_prefix("data: ").unwrap();
            reports.extend(serde_json::from_str::<Vec<Value>>(data).unwrap());
        }
        reports
    }
}

async fn start() -> (tempfile::TempDir, Arc<Host>, Grid) {
    let folder = tempfile::tempdir().unwrap();
    let (host, address) = Host::start().await;
    let grid = Grid::start(folder.path(), &address).await;
    (folder, host, grid)
}

#[tokio::test]
async fn the_page_is_served_with_everything_it_names() {
    let (_folder, _host, grid) = start().await;
    let page = grid.get("/").header("accept", "text/html,*/*");
    let page = page.send().await.unwrap();
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    let policy = page.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"));
    let html = page.text().await.unwrap();
    assert!(!html.contains("<style") && !html.contains(" style=") && !html.contains("://"));

    let mut named: Vec<String> = html
        .split('"')
        .filter(|text| text.starts_with("/page/"))
        .map(str::to_owned)
        .collect();
    let mut seen = Vec::new();
    while let Some(path) = named.pop() {
        let answer = grid.get(&path).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 200, "{path}");
        assert_eq!(answer.headers()["x-content-type-options"], "nosniff");
        let (_, extension) = path.rsplit_once('.').unwrap();
        let expected = match extension {
            "css" => "text/css; charset=utf-8",
            "js" => "text/javascript; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(answer.headers()["content-type"], expected, "{path}");
        let text = answer.text().await.unwrap();
        assert!(!text.contains("innerHTML"), "{path}");
        let imports = text
            .split('"')
            .filter_map(|text| text.strip_prefix("./"))
            .map(|name| format!("/page/{name}"));
        seen.push(path);
        named.extend(imports.filter(|path| !seen.contains(path)));
    }
    assert!(seen.contains(&"/page/flow.js".to_owned()), "{seen:?}");

    // Scripts that ask for nothing in particular still get the index.
    assert!(body(grid.get("/")).await["publish"].is_string());
    let setup = body(grid.get("/page/setup")).await;
    assert_eq!(setup["subscriptions"][0]["name"], "billing");
    assert_eq!(setup["samples"]["events"][0]["json"], ODD);
    grid.stop().await;
}

#[tokio::test]
async fn the_stream_tells_what_happens_in_order_and_ends_with_the_grid() {
    let (_folder, host, grid) = start().await;
    host.billing_answers(503);
    let mut stream = Stream::open(&grid).await;
    grid.publish(ODD).await;
    let mut reports = stream.reports(3).await;
    assert_eq!(reports[0]["what"], "accepted");
    assert_eq!(reports[0]["functions"], json!(["billing", "orders"]));
    assert_eq!(reports[0]["type"], "Sales.OrderPlaced");
    assert_eq!(reports[0]["subject"], "orders/1");
    host.billing_answers(202);
    let of_billing = |reports: &[Value]| -> Vec<Value> {
        reports
            .iter()
            .filter(|report| report["function"] == "billing")
            .map(|report| json!([report["what"], report["attempt"]]))
            .collect()
    };
    while of_billing(&reports)
        .last()
        .is_none_or(|told| told[0] != "taken")
    {
        reports.extend(stream.reports(1).await);
    }
    let told = of_billing(&reports);
    assert_eq!(told.first(), Some(&json!(["failed", 1])));
    let last = told.last().unwrap();
    assert_eq!(last[0], "taken");
    assert_eq!(last[1], host.billed().len());

    host.billing_answers(400);
    grid.publish(ODD).await;
    let reports = stream.reports(3).await;
    let letter = reports
        .iter()
        .find(|report| report["what"] == "deadLettered")
        .unwrap();
    assert_eq!(letter["reason"], "UndeliverableDueToHttpBadRequest");
    grid.publish(&ODD.replace("OrderPlaced", "Unheard")).await;
    let reports = stream.reports(2).await;
    assert_eq!(reports[1]["what"], "notTaken");
    grid.stop().await;
    assert_eq!(stream.message().await, None);
}

#[tokio::test]
async fn a_reader_that_is_too_slow_is_told_that_it_missed_something() {
    let (_folder, _host, grid) = start().await;
    let address = grid.address.trim_start_matches("http://").to_owned();
    let mut reader = TcpStream::connect(&address).await.unwrap();
    let request = format!("GET /stream HTTP/1.1\r\nhost: {address}\r\n\r\n");
    reader.write_all(request.as_bytes()).await.unwrap();
    let mut read = vec![0; 64 * 1024];
    assert!(reader.read(&mut read).await.unwrap() > 0);

    // More than the reports that wait and all buffers on the way can hold.
    let subject = "s".repeat(2_000);
    let event = ODD
        .replace("OrderPlaced", "Unheard")
        .replace("orders/1", &subject);
    let batch = format!("[{}]", vec![event; 400].join(","));
    for _ in 0..30 {
        assert_eq!(status(grid.publishing(&batch)).await, 200);
    }
    let mut end = String::new();
    while !end.contains("event: missed") {
        let count = timeout(PATIENCE, reader.read(&mut read))
            .await
            .unwrap()
            .unwrap();
        let new = String::from_utf8_lossy(&read[..count]).into_owned();
        end = format!("{}{new}", &end[end.len().saturating_sub(20)..]);
    }
    drop(reader);
    grid.stop().await;
}

#[tokio::test]
async fn a_dead_letter_is_replayed_to_its_function_alone() {
    let (_folder, host, grid) = start().await;
    host.billing_answers(400);
    grid.publish(ODD).await;
    let letter = grid.letter().await;
    eventually("orders took the event", async || {
        (host.deliveries.lock().unwrap().len() == 2).then_some(())
    })
    .await;

    host.billing_answers(202);
    assert_eq!(
        body(grid.replaying(&letter)).await,
        json!({"replayedTo": "billing"})
    );
    eventually("the replay is delivered", async || {
        (body(grid.get("/idle")).await["pending"] == 0).then_some(())
    })
    .await;
    let first = Delivery {
        function: "billing".to_owned(),
        count: "1".to_owned(),
        body: ODD.to_owned(),
    };
    assert_eq!(host.billed(), [first.clone(), first]);
    assert_eq!(host.deliveries.lock().unwrap().len(), 3);
    assert!(grid.letters().await.is_empty());
    assert_eq!(status(grid.replaying(&letter)).await, 404);

    for (body, expected) in [
        ("", 400),
        ("[]", 400),
        (r#"{"path":"../grid.db"}"#, 404),
        (r#"{"path":"/etc/hostname"}"#, 404),
        (r#"{"path":""}"#, 404),
    ] {
        assert_eq!(
            status(grid.post("/deadletters/replay", body)).await,
            expected,
            "{body}"
        );
    }
    grid.stop().await;
}

#[tokio::test]
async fn a_replay_survives_the_end_of_the_grid() {
    let (folder, host, grid) = start().await;
    host.billing_answers(400);
    grid.publish(ODD).await;
    let letter = grid.letter().await;
    host.billing_answers(0);
    assert_eq!(status(grid.replaying(&letter)).await, 200);
    let deliver_to = body(grid.get("/page/setup")).await["host"]
        .as_str()
        .unwrap()
        .to_owned();
    grid.kill().await;
    host.billing_answers(202);
    host.deliveries.lock().unwrap().clear();
    let grid = Grid::start(folder.path(), &deliver_to).await;
    eventually("the replay goes on", async || host.billed().pop()).await;
    assert_eq!(host.billed()[0].body, ODD);
    grid.stop().await;
}

#[tokio::test]
async fn a_letter_is_enough_for_a_replay() {
    let (folder, host, grid) = start().await;
    host.billing_answers(400);
    grid.publish(ODD).await;
    let letter = grid.letter().await;
    let setup = body(grid.get("/page/setup")).await;
    let deliver_to = setup["host"].as_str().unwrap();
    grid.stop().await;
    // Another folder, whose database knows nothing of it.
    let other = tempfile::tempdir().unwrap();
    let letters = "deadletters";
    std::fs::rename(folder.path().join(letters), other.path().join(letters)).unwrap();
    host.deliveries.lock().unwrap().clear();
    let grid = Grid::start(other.path(), deliver_to).await;
    host.billing_answers(202);
    assert_eq!(status(grid.replaying(&letter)).await, 200);
    let delivered = eventually("the replay", async || host.billed().pop()).await;
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(json(&delivered.body), json(ODD));
    assert!(grid.letters().await.is_empty());
    grid.stop().await;
}

#[tokio::test]
async fn pages_from_elsewhere_are_kept_out() {
    let (_folder, host, grid) = start().await;
    host.billing_answers(400);
    grid.publish(ODD).await;
    let letter = grid.letter().await;
    let before = host.deliveries.lock().unwrap().len();
    let port = grid.address.rsplit(':').next().unwrap();
    for origin in [
        "http://evil.example".to_owned(),
        "null".to_owned(),
        format!("http://evil.example:{port}"),
        "http://127.0.0.1:1".to_owned(),
        format!("https://127.0.0.1:{port}"),
    ] {
        for request in [
            grid.replaying(&letter),
            grid.publishing(ODD),
            grid.post("/api/orders/1/cancel", ""),
            grid.get("/stream"),
        ] {
            assert_eq!(
                status(request.header("origin", &origin)).await,
                403,
                "{origin}"
            );
        }
    }
    // A name that has suddenly come to mean 127.0.0.1.
    let evil = format!("evil.example:{port}");
    for request in [
        grid.replaying(&letter),
        grid.post("/api/orders/1/cancel", ""),
        grid.get("/"),
        grid.get("/events"),
        grid.get("/page/setup"),
        grid.get("/stream"),
    ] {
        assert_eq!(status(request.header("host", &evil)).await, 403);
    }
    let both = grid.publishing(ODD).header("host", &evil);
    let both = both.header("origin", format!("http://{evil}"));
    assert_eq!(status(both).await, 403);
    assert_eq!(grid.letters().await, std::slice::from_ref(&letter));
    assert_eq!(host.deliveries.lock().unwrap().len(), before);

    // The page itself, by either name.
    host.billing_answers(202);
    let own = grid.replaying(&letter).header("origin", &grid.address);
    assert_eq!(status(own).await, 200);
    let named = format!("localhost:{port}");
    let own = grid.publishing(ODD).header("host", &named);
    let own = own.header("origin", format!("http://{named}"));
    assert_eq!(status(own).await, 200);
    grid.stop().await;
}

#[tokio::test]
async fn orders_are_asked_of_the_host() {
    let (_folder, _host, grid) = start().await;
    let request = grid
        .post("/api/orders/1/cancel?x=%20y", "text")
        .header("content-type", "application/json")
        .header("idempotency-key", "k")
        .header("cookie", "secret");
    let answer = request.send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 202);
    assert_eq!(answer.headers()["location"], "/api/orders/1");
    let seen: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(
        seen,
        json!({
            "method": "POST", "uri": "/api/orders/1/cancel?x=%20y", "type": "application/json",
            "key": "k", "cookie": null, "body": "text",
        })
    );
    let large = grid.post("/api/orders/1/cancel", vec![b' '; 1024 * 1024 + 1]);
    assert_eq!(status(large).await, 400);
    grid.stop().await;

    let folder = tempfile::tempdir().unwrap();
    let nobody = "http://127.0.0.1:9";
    let grid = Grid::start(folder.path(), nobody).await;
    let answer = body(grid.get("/api/orders")).await;
    assert!(answer["detail"].as_str().unwrap().contains(nobody));
    grid.stop().await;
}
