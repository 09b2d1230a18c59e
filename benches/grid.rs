//! What the local Event Grid carries: `cargo bench --bench grid -- [each] [batches] [undelivered]`, all three unless named.
//!
//! Starts `orderflow grid` on a fresh data folder, plays a webhook that costs as little as can be, and publishes events of
//! about 1 KiB, a hundred in a request, each request answered once its events are on disk.
//!
//! - `each`: one event per request of the grid, `batches`: up to 500. The rate counts from the first event published to the
//!   last one delivered and recorded, so the publisher, the webhook and the grid share the machine meanwhile.
//! - `undelivered`: the webhook refuses everything, and the events wait. What the grid holds in memory then.
//!
//! Prints each round, since machines differ and drift: compare rounds of one run, on an idle machine.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops by panicking"
)]
#![expect(clippy::cast_precision_loss, reason = "figures for people")]

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use memchr::memmem;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// Rounds, each with a process and a folder of its own.
const ROUNDS: usize = 3;
/// Events before the measured ones.
const WARM_UP: u64 = 2_000;
/// Events whose delivery is measured.
const DELIVERED: u64 = 200_000;
/// Events that are not delivered.
const UNDELIVERED: u64 = 100_000;
/// Events in a request of the publisher.
const PUBLISHED_AT_ONCE: u64 = 100;
/// Requests of the publisher under way at a time.
const PUBLISHERS: u64 = 4;
/// The kernel counts a process's time in hundredths of a second (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// How long to wait for anything before giving up.
const PATIENCE: Duration = Duration::from_secs(300);

/// What the webhook has seen, and how it answers.
#[derive(Debug)]
struct Webhook {
    answer: &'static str,
    requests: AtomicU64,
    events: AtomicU64,
}

impl Webhook {
    /// Answers every request, and consents to the handshake, with this status.
    fn new(status: &str) -> Arc<Self> {
        let answer = format!(
            "HTTP/1.1 {status}\r\nWebHook-Allowed-Origin: *\r\nWebHook-Allowed-Rate: *\r\nContent-Length: 0\r\n\r\n"
        );
        Arc::new(Self {
            answer: answer.leak(),
            requests: AtomicU64::new(0),
            events: AtomicU64::new(0),
        })
    }

    /// Answers what comes, on a thread of its own.
    fn start(self: &Arc<Self>) -> SocketAddr {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let this = Arc::clone(self);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.unwrap().block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                loop {
                    let (connection, _) = listener.accept().await.unwrap();
                    tokio::spawn(Arc::clone(&this).answer(connection));
                }
            });
        });
        address
    }

    async fn answer(self: Arc<Self>, mut connection: TcpStream) {
        connection.set_nodelay(true).unwrap();
        let mut request = Vec::with_capacity(64 * 1024);
        loop {
            request.clear();
            let body = loop {
                if !matches!(connection.read_buf(&mut request).await, Ok(1..)) {
                    return;
                }
                if let Some(body) = whole(&request) {
                    break body;
                }
            };
            if request.starts_with(b"POST") {
                let events = memmem::find_iter(&request[body..], "\"specversion\"").count();
                self.requests.fetch_add(1, Relaxed);
                self.events.fetch_add(events.try_into().unwrap(), Relaxed);
            }
            if connection.write_all(self.answer.as_bytes()).await.is_err() {
                return;
            }
        }
    }
}

/// Where the body begins, once all of it is there.
fn whole(message: &[u8]) -> Option<usize> {
    let body = memmem::find(message, b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&message[..body]).unwrap();
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length")
            .then(|| value.trim().parse::<usize>().unwrap())
    });
    (message.len() >= body + length.unwrap_or(0)).then_some(body)
}

/// A grid that delivers to the webhook. Killed when dropped.
struct Grid {
    process: Child,
    address: SocketAddr,
    started: Instant,
    _folder: tempfile::TempDir,
}

impl Grid {
    fn start(webhook: SocketAddr, events_at_once: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let subscriptions = folder.path().join("subscriptions.json");
        std::fs::write(&subscriptions, one(webhook, events_at_once).to_string()).unwrap();
        let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let started = Instant::now();
        let process = command(folder.path(), &subscriptions, address.port())
            .spawn()
            .unwrap();
        Self {
            process,
            address,
            started,
            _folder: folder,
        }
    }

    async fn connect(&self) -> TcpStream {
        loop {
            if let Ok(connection) = TcpStream::connect(self.address).await {
                connection.set_nodelay(true).unwrap();
                return connection;
            }
            assert!(self.started.elapsed() < PATIENCE, "the grid does not start");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }

    /// Publishes so many events and returns once all are accepted.
    async fn publish(&self, count: u64) {
        let next = Arc::new(AtomicU64::new(0));
        let mut publishers = tokio::task::JoinSet::new();
        for _ in 0..PUBLISHERS {
            let (next, mut connection) = (Arc::clone(&next), self.connect().await);
            publishers.spawn(async move {
                loop {
                    let first = next.fetch_add(PUBLISHED_AT_ONCE, Relaxed);
                    if first >= count {
                        return;
                    }
                    let events = PUBLISHED_AT_ONCE.min(count - first);
                    publish(&mut connection, first..first + events).await;
                }
            });
        }
        publishers.join_all().await;
    }

    /// Returns once nothing is on its way any more.
    async fn idle(&self) {
        let mut connection = self.connect().await;
        let begun = Instant::now();
        let request = "GET /idle HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";
        while !exchange(&mut connection, request.to_owned())
            .await
            .contains(r#""pending":0,"#)
        {
            assert!(begun.elapsed() < PATIENCE, "the deliveries do not end");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The processor time that it has used, in seconds.
    fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()));
        let stat = stat.expect("Linux");
        let (_, fields) = stat.rsplit_once(") ").unwrap();
        let fields: Vec<_> = fields.split(' ').collect();
        let ticks = |index: usize| fields[index].parse::<f64>().unwrap();
        (ticks(11) + ticks(12)) / TICKS_PER_SECOND
    }

    /// Its memory in MiB: `VmRSS`, what it holds now, or `VmHWM`, the most it ever held.
    fn memory(&self, what: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.expect("Linux");
        let line = status.lines().find(|line| line.starts_with(what)).unwrap();
        let kibibytes: f64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
        kibibytes / 1024.0
    }
}

impl Drop for Grid {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

fn command(folder: &Path, subscriptions: &Path, port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
    command
        .args(["grid", "--grid-port", &port.to_string()])
        .arg("--data")
        .arg(folder.join("data"))
        .arg("--subscriptions")
        .arg(subscriptions)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// One subscription to everything.
fn one(webhook: SocketAddr, events_at_once: u32) -> Value {
    let mut properties = json!({"endpointUrl": format!("http://{webhook}/events")});
    if events_at_once > 1 {
        properties["maxEventsPerBatch"] = events_at_once.into();
        properties["preferredBatchSizeInKilobytes"] = 1_024.into();
    }
    json!({"hook": {
        "destination": {"endpointType": "WebHook", "properties": properties},
        "deadLetterDestination": {
            "endpointType": "StorageBlob",
            "properties": {"resourceId": "account", "blobContainerName": "letters"},
        },
    }})
}

async fn publish(connection: &mut TcpStream, numbers: std::ops::Range<u64>) {
    let padding = "x".repeat(800);
    let events: Vec<_> = numbers
        .map(|number| {
            format!(
                r#"{{"specversion":"1.0","id":"event-{number}","source":"/benchmark","type":"Sales.OrderPlaced","subject":"orders/{number:036}","time":"2026-11-24T10:00:00Z","datacontenttype":"application/json","data":{{"number":{number},"text":"{padding}"}}}}"#
            )
        })
        .collect();
    let body = format!("[{}]", events.join(","));
    let head = format!(
        "POST /api/events?api-version=2018-01-01 HTTP/1.1\r\nHost: 127.0.0.1\r\naeg-sas-key: local-development\r\n\
         Content-Type: application/cloudevents-batch+json; charset=utf-8\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let answer = exchange(connection, head + &body).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Sends a request and reads its answer.
async fn exchange(connection: &mut TcpStream, request: String) -> String {
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::with_capacity(512);
    while whole(&answer).is_none() {
        let read = connection.read_buf(&mut answer).await.unwrap();
        assert_ne!(read, 0, "the grid hung up");
    }
    String::from_utf8(answer).unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
}

async fn deliveries(round: usize, events_at_once: u32) {
    let webhook = Webhook::new("200 OK");
    let grid = Grid::start(webhook.start(), events_at_once);
    let delivered = |count: u64| webhook.events.load(Relaxed) >= count;
    publish(&mut grid.connect().await, 0..1).await;
    until("the first event is delivered", || delivered(1)).await;
    let first = grid.started.elapsed();
    grid.publish(WARM_UP).await;
    grid.idle().await;

    let (requests, cpu, begun) = (webhook.requests.load(Relaxed), grid.cpu(), Instant::now());
    grid.publish(DELIVERED).await;
    let accepted = begun.elapsed().as_secs_f64();
    until("all are delivered", || delivered(1 + WARM_UP + DELIVERED)).await;
    grid.idle().await;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = grid.cpu() - cpu;
    println!(
        "{round:>5}  {:>8.1}  {:>10.0}  {:>11.0}  {:>15.1}  {:>18.1}  {:>8.1}",
        first.as_secs_f64() * 1e3,
        DELIVERED as f64 / accepted,
        DELIVERED as f64 / seconds,
        DELIVERED as f64 / (webhook.requests.load(Relaxed) - requests) as f64,
        cpu * 1e6 / DELIVERED as f64,
        grid.memory("VmHWM"),
    );
}

async fn undelivered(round: usize) {
    let webhook = Webhook::new("500 Internal Server Error");
    let grid = Grid::start(webhook.start(), 1);
    let begun = Instant::now();
    grid.publish(UNDELIVERED).await;
    let accepted = begun.elapsed().as_secs_f64();
    until("some are refused", || webhook.requests.load(Relaxed) > 10).await;
    println!(
        "{round:>5}  {:>10.0}  {:>7.1}  {:>8.1}",
        UNDELIVERED as f64 / accepted,
        grid.memory("VmRSS"),
        grid.memory("VmHWM"),
    );
}

fn main() {
    // Cargo adds an option of its own.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let says = |word: &str| words.is_empty() || words.iter().any(|said| said == word);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    for (part, events_at_once) in [("each", 1), ("batches", 500)] {
        if says(part) {
            println!("{part}: {DELIVERED} events, at most {events_at_once} in a request");
            println!(
                "round  start ms  accepted/s  delivered/s  events/request  CPU us of the grid  peak MiB"
            );
            for round in 1..=ROUNDS {
                runtime.block_on(deliveries(round, events_at_once));
            }
        }
    }
    if says("undelivered") {
        println!("undelivered: {UNDELIVERED} events, all refused");
        println!("round  accepted/s  now MiB  peak MiB");
        for round in 1..=ROUNDS {
            runtime.block_on(undelivered(round));
        }
    }
}
