//! What one event costs: `cargo bench --bench serve -- [sqlite|postgres] [hot]`.
//!
//! Starts `orderflow serve` on a fresh SQLite file or on a fresh database of a PostgreSQL server of its own (with its
//! defaults: `fsync` and `synchronous_commit` are on), plays Event Grid's publish endpoint, and sends invocations as the
//! Functions host sends them, every one about an order of its own. Each event is decided on, durable and published
//! before it is answered.
//!
//! Without `hot` they go to the payment function, which commits twice (the intent to charge, and its outcome). With it
//! they go to the inventory function, and all orders want the same articles.
//!
//! Prints each round, since machines differ and drift: compare rounds of one run, on an idle machine.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a benchmark stops by panicking"
)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

#[path = "../tests/suite/postgres_server.rs"]
#[allow(dead_code, unreachable_pub, reason = "the tests use more of it")]
mod postgres_server;

use axum::{Router, body::Bytes, extract::State, routing::post};
use orderflow::{
    cloud_event,
    events::{OrderId, samples},
    functions::event_named,
};
use postgres_server::PostgresServer;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use uuid::Uuid;

/// Rounds, each with a process and a file of its own.
const ROUNDS: usize = 5;
/// Events before the measured ones.
const WARM_UP: u64 = 2_000;
/// Measured events.
const EVENTS: u64 = 20_000;
/// Invocations at a time.
const CONNECTIONS: usize = 32;
/// The kernel counts a process's time in hundredths of a second (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

/// What is measured.
#[derive(Clone, Copy)]
struct Scenario {
    function: &'static str,
    event: &'static str,
}

const PAYMENT: Scenario = Scenario {
    function: "payment",
    event: "BillingCompleted",
};
const HOT_SKU: Scenario = Scenario {
    function: "inventory",
    event: "PaymentSuccessful",
};

fn main() {
    // Cargo adds an option of its own.
    let words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| !word.starts_with('-'))
        .collect();
    let says = |word: &str| words.iter().any(|said| said == word);
    let scenario = if says("hot") { HOT_SKU } else { PAYMENT };
    let server =
        says("postgres").then(|| PostgresServer::start("").expect("PostgreSQL is installed"));
    let binary = env!("CARGO_BIN_EXE_orderflow");
    let size = std::fs::metadata(binary).unwrap().len();
    println!("binary: {:.1} MiB", mebibytes(size / 1024));
    println!(
        "{} on {}, {CONNECTIONS} connections, {EVENTS} events a round",
        scenario.function,
        if server.is_some() {
            "PostgreSQL"
        } else {
            "SQLite"
        }
    );
    println!(
        "round  start ms  events/s  p50 us  p99 us  CPU us/event  peak MiB  publish requests  database commits"
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for round in 1..=ROUNDS {
        let figures = runtime.block_on(measure(binary, scenario, server.as_ref()));
        println!("{round:>5}  {figures}");
    }
}

async fn measure(binary: &str, scenario: Scenario, server: Option<&PostgresServer>) -> String {
    let folder = tempfile::tempdir().unwrap();
    let store = match server {
        Some(server) => server.database().await,
        None => format!("sqlite:{}", folder.path().join("orders.db").display()),
    };
    let requests = Arc::new(AtomicU64::new(0));
    let topic = Router::new()
        .route("/api/events", post(accept))
        .with_state(requests.clone());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let topic_address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, topic).await });

    let started = Instant::now();
    let (mut handler, address) = start(binary, topic_address, &store);
    let first = loop {
        if let Ok(mut connection) = TcpStream::connect(address).await {
            invoke(&mut connection, scenario, 0).await;
            break started.elapsed();
        }
        tokio::time::sleep(Duration::from_micros(200)).await;
    };
    run(address, scenario, 1, WARM_UP).await;
    requests.store(0, Relaxed);
    let commits_before = commits(server, &store).await;
    let (cpu, begun) = (cpu_seconds(handler.id()), Instant::now());
    let mut latencies = run(address, scenario, WARM_UP + 1, EVENTS).await;
    let seconds = begun.elapsed().as_secs_f64();
    let cpu = cpu_seconds(handler.id()) - cpu;
    let peak = peak_kibibytes(handler.id());
    let commits = commits(server, &store).await - commits_before;
    handler.kill().unwrap();
    handler.wait().unwrap();
    serving.abort();

    latencies.sort_unstable();
    let quantile = |share: f64| latencies[(latencies.len() as f64 * share) as usize];
    format!(
        "{:>8.1}  {:>8.0}  {:>6}  {:>6}  {:>12.1}  {:>8.1}  {:>16}  {:>16}",
        first.as_secs_f64() * 1e3,
        EVENTS as f64 / seconds,
        quantile(0.5),
        quantile(0.99),
        cpu * 1e6 / EVENTS as f64,
        mebibytes(peak),
        requests.load(Relaxed),
        commits,
    )
}

/// The transactions of the database so far; its processes tell them a second late.
async fn commits(server: Option<&PostgresServer>, url: &str) -> i64 {
    if server.is_none() {
        return 0;
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let sql = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
    postgres_server::number(url, sql).await
}

async fn accept(State(requests): State<Arc<AtomicU64>>, body: Bytes) {
    assert!(body.starts_with(b"["), "a batch");
    requests.fetch_add(1, Relaxed);
}

fn start(binary: &str, topic: SocketAddr, store: &str) -> (Child, SocketAddr) {
    let free = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let handler = Command::new(binary)
        .arg("serve")
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", address.port().to_string())
        .env(
            "EVENTGRID_TOPIC_ENDPOINT",
            format!("http://{topic}/api/events"),
        )
        .env("EVENTGRID_TOPIC_KEY", "a2V5")
        .env("STORE_URL", store)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (handler, address)
}

/// Sends `count` invocations over all connections; the latency of each, in microseconds.
async fn run(address: SocketAddr, scenario: Scenario, first: u64, count: u64) -> Vec<u64> {
    let next = Arc::new(AtomicU64::new(first));
    let connections = (0..CONNECTIONS).map(|_| {
        let next = next.clone();
        tokio::spawn(async move {
            let mut connection = TcpStream::connect(address).await.unwrap();
            connection.set_nodelay(true).unwrap();
            let mut latencies = Vec::new();
            loop {
                let number = next.fetch_add(1, Relaxed);
                if number >= first + count {
                    return latencies;
                }
                let sent = Instant::now();
                invoke(&mut connection, scenario, number).await;
                latencies.push(u64::try_from(sent.elapsed().as_micros()).unwrap());
            }
        })
    });
    let mut latencies = Vec::new();
    for connection in connections.collect::<Vec<_>>() {
        latencies.extend(connection.await.unwrap());
    }
    latencies
}

/// One invocation, answered with 200.
async fn invoke(connection: &mut TcpStream, scenario: Scenario, number: u64) {
    let Scenario { function, event } = scenario;
    let order = OrderId(Uuid::from_u128(
        0x0199_c0de_0000_7000_8000_0000_0000_0000 + u128::from(number),
    ));
    let event = samples::event(event_named(event).unwrap(), order);
    let event = String::from_utf8(cloud_event::to_json(&event)).unwrap();
    let body = format!(
        r#"{{"Data":{{"event":{event}}},"Metadata":{{"data":{{}},"sys":{{"MethodName":"{function}"}}}}}}"#
    );
    let head = format!(
        "POST /{function} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json; charset=utf-8\r\n\
         x-azure-functions-invocationid: {number}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    connection
        .write_all((head + &body).as_bytes())
        .await
        .unwrap();
    let mut answer = Vec::with_capacity(512);
    while !answer.ends_with(br#""ReturnValue":null}"#) {
        assert_ne!(
            connection.read_buf(&mut answer).await.unwrap(),
            0,
            "the handler hung up"
        );
    }
    assert!(
        answer.starts_with(b"HTTP/1.1 200"),
        "{}",
        String::from_utf8_lossy(&answer)
    );
}

/// The processor time that a process has used.
fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("Linux");
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = |index: usize| {
        fields
            .split(' ')
            .nth(index)
            .unwrap()
            .parse::<f64>()
            .unwrap()
    };
    (ticks(11) + ticks(12)) / TICKS_PER_SECOND
}

fn peak_kibibytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("Linux");
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn mebibytes(kibibytes: u64) -> f64 {
    kibibytes as f64 / 1024.0
}
