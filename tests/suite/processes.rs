//! The program itself: real processes, real signals, real kills.

use std::{
    path::Path,
    process::{Output, Stdio},
    sync::Arc,
};

use axum::{Router, routing::post};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    sync::Notify,
};

use crate::stripe_stand_in::{self, Fault, StripeStandIn};
use crate::support::{Answer, PATIENCE, client, eventually, listen, new_order, root, sample_of};

pub fn orderflow(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
    command
        .args(arguments)
        .current_dir(root())
        .kill_on_drop(true);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // Nothing of the machine's own settings may leak in.
    for name in orderflow::config::NAMES {
        command.env_remove(name);
    }
    command
}

pub async fn output(command: &mut Command) -> (Option<i32>, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = tokio::time::timeout(PATIENCE, command.output())
        .await
        .expect("it ends")
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

pub fn signal(process: u32, name: &str) {
    let status = std::process::Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status();
    assert!(status.unwrap().success());
}

/// The child processes of a process.
fn children(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let listed =
        tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    listed
        .flat_map(|list| {
            list.split_whitespace()
                .filter_map(|id| id.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn alive(process: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z"))
}

/// A running `orderflow dev`.
pub struct Dev {
    pub process: Child,
    pub host: String,
    pub grid: String,
    pub client: reqwest::Client,
}

impl Dev {
    pub async fn start(data: &Path) -> Self {
        Self::start_with(data, &[], &[]).await
    }

    pub async fn start_with(data: &Path, options: &[&str], settings: &[(&str, &str)]) -> Self {
        let arguments = ["dev", "--host-port", "0", "--grid-port", "0"];
        let mut arguments = arguments.to_vec();
        arguments.extend(["--data", data.to_str().unwrap()]);
        arguments.extend(options);
        // A killed one leaves its announcement behind until the next one starts.
        drop(std::fs::remove_file(data.join("endpoints.json")));
        let mut command = orderflow(&arguments);
        let mut process = command.envs(settings.iter().copied()).spawn().unwrap();
        // What it prints must not fill a pipe that nobody reads.
        let mut printed = process.stdout.take().unwrap();
        tokio::spawn(async move { printed.read_to_end(&mut Vec::new()).await });
        let endpoints = eventually("dev listens", async || {
            let text = std::fs::read_to_string(data.join("endpoints.json")).ok()?;
            serde_json::from_str::<Value>(&text).ok()
        });
        let endpoints = endpoints.await;
        let address = |of: &str| endpoints[of].as_str().unwrap().to_owned();
        Self {
            process,
            host: address("host"),
            grid: address("grid"),
            client: client(),
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id().unwrap()
    }

    pub async fn handler(&self) -> u32 {
        eventually("the handler runs", async || {
            children(self.id()).first().copied()
        })
        .await
    }

    pub async fn place(&self, order: &Value) -> String {
        let request = self.client.post(format!("{}/api/orders", self.host));
        let request = request
            .header("content-type", "application/json")
            .body(order.to_string());
        let answer = Answer::of(request).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        answer.header("location").to_owned()
    }

    pub async fn reaches(&self, location: &str, status: &str) -> Value {
        eventually(&format!("{location} is {status}"), async || {
            let response = self
                .client
                .get(format!("{}{location}", self.host))
                .send()
                .await
                .ok()?;
            let view: Value = serde_json::from_str(&response.text().await.ok()?).ok()?;
            (view["status"] == status).then_some(view)
        })
        .await
    }

    pub async fn stop(mut self) {
        let (dev, handler) = (self.id(), self.handler().await);
        signal(dev, "INT");
        let status = tokio::time::timeout(PATIENCE, self.process.wait())
            .await
            .expect("it ends")
            .unwrap();
        assert_eq!(status.code(), Some(0));
        eventually("the handler is gone", async || {
            (!alive(handler)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn dev_runs_an_order_to_its_end_and_ends_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    let location = dev.place(&new_order()).await;
    let view = dev.reaches(&location, "completed").await;
    let legs = json!({ "billing": "completed", "payment": "successful", "stock": "committed", "shipping": "dispatched" });
    assert_eq!(view["legs"], legs);
    dev.stop().await;
}

#[tokio::test]
async fn what_dev_keeps_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut dev = Dev::start(folder.path()).await;
    let location = dev.place(&new_order()).await;
    let handler = dev.handler().await;
    dev.process.kill().await.unwrap();
    eventually("the handler went with it", async || {
        (!alive(handler)).then_some(())
    })
    .await;
    let dev = Dev::start(folder.path()).await;
    dev.reaches(&location, "completed").await;
    dev.stop().await;
}

#[tokio::test]
async fn dev_keeps_the_orders_where_it_is_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let (data, elsewhere) = (folder.path().join("data"), folder.path().join("other.db"));
    std::fs::create_dir(&data).unwrap();
    let store = format!("sqlite:{}", elsewhere.display());
    let dev = Dev::start_with(&data, &["--store", &store], &[]).await;
    let location = dev.place(&new_order()).await;
    dev.reaches(&location, "completed").await;
    dev.stop().await;
    assert!(elsewhere.exists());
    assert!(!data.join("orders.db").exists());
}

#[tokio::test]
async fn the_handler_of_dev_publishes_with_a_managed_identity_if_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("EVENTGRID_TOPIC_KEY", "the developer's own")];
    let dev = Dev::start_with(folder.path(), &["--managed-identity"], &settings).await;
    let location = dev.place(&new_order()).await;
    dev.reaches(&location, "completed").await;
    dev.stop().await;
}

#[tokio::test]
async fn a_killed_handler_loses_no_order() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    let mut locations = Vec::new();
    for kill in [false, true, false, true, false] {
        for _ in 0..10 {
            locations.push(dev.place(&new_order()).await);
        }
        if kill {
            let killed = dev.handler().await;
            signal(killed, "KILL");
            eventually("another handler runs", async || {
                children(dev.id())
                    .first()
                    .copied()
                    .filter(|handler| *handler != killed)
            })
            .await;
        }
    }
    for location in &locations {
        let view = dev.reaches(location, "completed").await;
        let count = |name: &str| {
            view["history"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|entry| entry["event"] == name)
                .count()
        };
        assert_eq!(
            (count("PaymentSuccessful"), count("ShipmentDispatched")),
            (1, 1),
            "{view:#}"
        );
    }
    dev.stop().await;
}

#[tokio::test]
async fn dev_charges_through_stripe_if_told_to_and_never_logs_the_key() {
    let stand_in = StripeStandIn::start().await;
    stand_in.fail_next("POST /v1/payment_intents", Fault::DropAnswer);
    let folder = tempfile::tempdir().unwrap();
    let settings = [
        ("PAYMENT_PROVIDER", "stripe"),
        ("STRIPE_API_BASE", stand_in.url()),
        ("STRIPE_API_KEY", stripe_stand_in::KEY),
        ("RUST_LOG", "trace"),
    ];
    let dev = Dev::start_with(folder.path(), &[], &settings).await;
    let location = dev.place(&new_order()).await;
    dev.reaches(&location, "completed").await;
    // A killed handler's orders are paid by the next one.
    let location = dev.place(&new_order()).await;
    signal(dev.handler().await, "KILL");
    dev.reaches(&location, "completed").await;
    let amounts: Vec<i64> = stand_in
        .ledger()
        .iter()
        .map(|booking| booking.amount)
        .collect();
    assert_eq!(amounts, [15_339, 15_339]);
    dev.stop().await;
    let log = std::fs::read_to_string(folder.path().join("handler.log")).unwrap();
    assert!(log.contains("TRACE"), "everything is logged");
    assert!(!log.contains(stripe_stand_in::KEY), "the key is in the log");
}

#[tokio::test]
async fn an_event_fired_by_hand_is_taken_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    let order = uuid::Uuid::from_u128(0x0199_c0de_0000_7000_8000_0000_0000_0abc);
    let fire = [
        "fire",
        "OrderPlaced",
        "--to",
        &dev.host,
        "--order",
        &order.to_string(),
    ];
    let (code, printed, errors) = output(&mut orderflow(&fire)).await;
    assert_eq!(code, Some(0), "{errors}");
    assert!(
        printed.contains("-> billing: 202 Accepted") && printed.contains("-> orders: 202 Accepted"),
        "{printed}"
    );
    dev.reaches(&format!("/api/orders/{order}"), "completed")
        .await;

    let by_hand = dev.client.post(format!(
        "{}/runtime/webhooks/eventgrid?functionName=billing",
        dev.host
    ));
    let other = sample_of(
        "OrderPlaced",
        orderflow::events::OrderId(uuid::Uuid::from_u128(5)),
    )
    .to_string();
    let without_header = Answer::of(by_hand.try_clone().unwrap().body(other.clone())).await;
    assert_eq!(without_header.status, 400);
    assert!(
        without_header.text.contains("aeg-event-type: Notification"),
        "{without_header:?}"
    );
    let answer = Answer::of(by_hand.header("aeg-event-type", "Notification").body(other)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    dev.stop().await;
}

#[tokio::test]
async fn fire_explains_what_it_cannot_do() {
    let (code, _, errors) = output(&mut orderflow(&["fire", "OrderLost"])).await;
    assert_eq!(code, Some(2), "wrong usage");
    assert!(
        errors.contains("invalid value 'OrderLost'") && errors.contains("BillingCompleted"),
        "{errors}"
    );
    let whole_event = ["fire", "OrderPlaced", "--data", "samples/order-placed.json"];
    let (code, _, errors) = output(&mut orderflow(&whole_event)).await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("is a whole event"), "{errors}");
    let wrong_data = ["fire", "OrderPlaced", "--data", "samples/place-order.json"];
    let (code, _, errors) = output(&mut orderflow(&wrong_data)).await;
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("billing: data: missing field `order`"),
        "{errors}"
    );
    let (code, _, errors) = output(&mut orderflow(&[
        "fire",
        "OrderPlaced",
        "--to",
        "http://127.0.0.1:1",
    ]))
    .await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("start `orderflow dev` first"), "{errors}");
    let (code, printed, _) = output(&mut orderflow(&["fire", "OrderPlaced", "--curl"])).await;
    assert_eq!(code, Some(0));
    assert!(
        printed.contains("functionName=billing' -H 'aeg-event-type: Notification'"),
        "{printed}"
    );
    let (code, _, _) = output(&mut orderflow(&["fire"])).await;
    assert_eq!(code, Some(2), "wrong usage");
}

#[tokio::test]
async fn serve_names_the_setting_or_the_port_at_fault_in_one_line() {
    let (code, _, errors) = output(&mut orderflow(&["serve"])).await;
    assert_eq!(code, Some(1));
    assert_eq!(errors.lines().count(), 1, "{errors}");
    assert!(
        errors.contains("EVENTGRID_TOPIC_ENDPOINT: is not set")
            && errors.contains("STORE_URL: is not set"),
        "{errors}"
    );

    let (code, _, errors) = output(orderflow(&["serve"]).env("RUST_LOG", "a=b=c")).await;
    assert_eq!((code, errors.lines().count()), (Some(1), 1), "{errors}");
    assert!(errors.contains("RUST_LOG: "), "{errors}");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut serve = orderflow(&["serve"]);
    serve
        .env("EVENTGRID_TOPIC_ENDPOINT", "http://127.0.0.1:1/api/events")
        .env("STORE_URL", "memory:");
    let (code, _, errors) = output(serve.env("FUNCTIONS_CUSTOMHANDLER_PORT", &port)).await;
    assert_eq!(code, Some(1));
    assert!(
        errors.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{errors}"
    );

    let mut serve = orderflow(&["serve"]);
    serve
        .env("EVENTGRID_TOPIC_ENDPOINT", "http://127.0.0.1:1/api/events")
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", "0");
    let (code, _, errors) = output(serve.env("STORE_URL", "sqlite:/proc/no/orders.db")).await;
    assert_eq!(code, Some(1));
    assert!(
        errors.contains("STORE_URL: cannot make /proc/no"),
        "{errors}"
    );
}

#[tokio::test]
async fn serve_lets_what_is_under_way_finish_when_it_is_asked_to_stop() {
    // A topic that says when a request has arrived, and answers when it is told to.
    let (arrived, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let publish = {
        let (arrived, release) = (arrived.clone(), release.clone());
        move || async move {
            arrived.notify_one();
            release.notified().await;
        }
    };
    let topic = listen(Router::new().route("/api/events", post(publish))).await;
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut serve = orderflow(&["serve"]);
    serve
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .env("STORE_URL", "memory:");
    serve
        .env("EVENTGRID_TOPIC_ENDPOINT", format!("{topic}/api/events"))
        .env("EVENTGRID_TOPIC_KEY", "a2V5");
    let mut process = serve.spawn().unwrap();
    let address = format!("http://127.0.0.1:{port}");
    let client = client();
    eventually("serve listens", async || {
        client.get(&address).send().await.ok()
    })
    .await;
    let event = crate::support::sample("OrderPlaced").to_string();
    let request = client
        .post(format!("{address}/billing"))
        .header("content-type", "application/cloudevents+json");
    let invocation = tokio::spawn(Answer::of(request.body(event)));
    arrived.notified().await;
    signal(process.id().unwrap(), "TERM");
    eventually("serve listens no more", async || {
        client.get(&address).send().await.err()
    })
    .await;
    release.notify_one();
    assert_eq!(invocation.await.unwrap().status, 200);
    let status = tokio::time::timeout(PATIENCE, process.wait())
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(status.code(), Some(0));
}

#[tokio::test]
async fn the_log_is_json_lines_with_invocation_function_order_and_event() {
    let folder = tempfile::tempdir().unwrap();
    let dev = Dev::start(folder.path()).await;
    let location = dev.place(&new_order()).await;
    dev.reaches(&location, "completed").await;
    let log = std::fs::read_to_string(folder.path().join("handler.log")).unwrap();
    let order = location.rsplit('/').next().unwrap();
    let lines: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = lines
        .iter()
        .find(|line| line["function"] == "payment" && line["order"] == order)
        .unwrap();
    for field in [
        "timestamp",
        "level",
        "message",
        "invocation",
        "event",
        "type",
        "duration_us",
    ] {
        assert!(!line[field].is_null(), "{field}: {line}");
    }
    assert!(!log.contains("ada@example.com"), "no personal data");
    dev.stop().await;
}

#[tokio::test]
async fn check_says_that_everything_is_up_to_date() {
    let (code, printed, errors) = output(&mut orderflow(&["check"])).await;
    assert_eq!(code, Some(0), "{printed}{errors}");
}
