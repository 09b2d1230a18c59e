//! Real `serve` processes on a database.

use std::collections::HashSet;

use axum::{Router, extract::State, routing::post};
use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::open_error;
use crate::{
    postgres_server::{PASSWORD, PostgresServer, number},
    processes::{orderflow, output},
    support::{Answer as HttpAnswer, client, eventually, listen, new_order, subscribers},
};

pub(super) fn serve(topic: &str, port: u16) -> Command {
    let mut serve = orderflow(&["serve"]);
    serve
        .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
        .env("EVENTGRID_TOPIC_ENDPOINT", format!("{topic}/api/events"))
        .env("EVENTGRID_TOPIC_KEY", "a2V5");
    serve
}

/// A running `serve`, and where it listens.
pub(super) async fn running(command: impl FnOnce(u16) -> Command) -> (Child, String) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut command = command(port);
    command.stdout(std::process::Stdio::null());
    let process = command.spawn().unwrap();
    let address = format!("http://127.0.0.1:{port}");
    let client = client();
    eventually("serve is ready", async || {
        let answer = client
            .get(format!("{address}/api/orders"))
            .send()
            .await
            .ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
    (process, address)
}

/// A topic that keeps what is published.
pub(super) async fn topic() -> (String, tokio::sync::mpsc::UnboundedReceiver<Value>) {
    let (sender, events) = tokio::sync::mpsc::unbounded_channel();
    let publish = async |State(sender): State<tokio::sync::mpsc::UnboundedSender<Value>>,
                         body: String| {
        for event in serde_json::from_str::<Vec<Value>>(&body).unwrap() {
            sender.send(event).unwrap();
        }
    };
    let routes = Router::new()
        .route("/api/events", post(publish))
        .with_state(sender);
    (listen(routes).await, events)
}

#[tokio::test]
async fn what_is_wrong_at_the_start_is_said_in_one_line_without_the_password() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.url("postgres");
    let wrong = url.replace("s3cr3t", "hunter2");
    let error = open_error(&wrong).await;
    assert!(error.contains("password authentication failed"), "{error}");
    for (url, expected) in [
        (wrong.as_str(), "password authentication failed"),
        (&server.url("nowhere"), "does not exist"),
        ("postgres://orderflow:hunter2@127.0.0.1:1/orders", "refused"),
        (
            "postgres://orderflow:hunter2@127.0.0.1:1/orders?sslmode=maybe",
            "the sslmode must be",
        ),
    ] {
        let (code, _, errors) = output(serve("http://127.0.0.1:1", 0).env("STORE_URL", url)).await;
        assert_eq!(code, Some(1));
        assert!(
            errors.contains("STORE_URL: ") && errors.contains(expected),
            "{errors}"
        );
        let lines = errors
            .lines()
            .filter(|line| line.starts_with("orderflow: "));
        assert_eq!(lines.count(), 1, "{errors}");
        assert!(
            !errors.contains("hunter2") && !errors.contains("s3cr3t"),
            "{errors}"
        );
    }
}

#[tokio::test]
async fn an_order_goes_its_way_through_two_instances_on_one_database() {
    let Some(server) = PostgresServer::shared() else {
        return;
    };
    let url = server.database().await;
    let (topic, mut events) = topic().await;
    let start = |port| {
        let mut command = serve(&topic, port);
        command.env("STORE_URL", &url);
        command
    };
    // Both make the schema.
    let ((_one, one), (_other, other)) = tokio::join!(running(start), running(start));
    let client = client();
    let place = client
        .post(format!("{one}/api/orders"))
        .header("content-type", "application/json");
    let placed = HttpAnswer::of(place.body(new_order().to_string())).await;
    assert_eq!(placed.status, 202, "{placed:?}");
    let path = placed.header("location").to_owned();
    let view = async || {
        HttpAnswer::of(client.get(format!("{other}{path}")))
            .await
            .json()
    };
    while view().await["status"] != "completed" {
        let event = tokio::time::timeout(crate::support::PATIENCE, events.recv());
        let event = event.await.expect("the order goes on").unwrap();
        // Both instances get each event at once, as when Event Grid grows impatient.
        for function in subscribers(event["type"].as_str().unwrap()) {
            let body = json!({ "Data": { "event": event }, "Metadata": { "sys": { "MethodName": function } } });
            let sent = [&one, &other].map(|instance| {
                let request = client.post(format!("{instance}/{function}"));
                HttpAnswer::of(
                    request
                        .header("content-type", "application/json")
                        .body(body.to_string()),
                )
            });
            for answer in join_all(sent).await {
                answer.assert_done();
            }
        }
    }
    let view = view().await;
    let names: Vec<_> = view["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["event"].as_str().unwrap())
        .collect();
    let distinct: HashSet<_> = names.iter().collect();
    assert_eq!(names.len(), distinct.len(), "each step once: {view:#}");
    assert_eq!(
        number(&url, "SELECT count(*) FROM orderflow.orders").await,
        1
    );
    HttpAnswer::of(client.post(format!("{one}/sweep")))
        .await
        .assert_done();
}

#[tokio::test]
async fn serve_waits_at_its_start_for_a_database_that_is_on_its_way_back() {
    let Some(server) = PostgresServer::start("-c fsync=off") else {
        return;
    };
    let url = server.database().await;
    let (topic, _events) = topic().await;
    server.stop("fast");
    let starting = running(|port| {
        let mut command = serve(&topic, port);
        command.env("STORE_URL", &url);
        command
    });
    // It has been refused by then, several times.
    let coming_back = tokio::task::spawn_blocking(move || {
        std::thread::sleep(std::time::Duration::from_secs(1));
        server.run();
        server
    });
    let ((mut process, _), _server) = tokio::join!(starting, coming_back);
    assert_eq!(process.try_wait().unwrap(), None, "it is the first process");
}

#[tokio::test]
async fn while_the_database_is_away_deliveries_are_answered_with_5xx() {
    let Some(server) = PostgresServer::start("-c fsync=off") else {
        return;
    };
    let url = server.database().await;
    let (topic, _events) = topic().await;
    let (_process, address) = running(|port| {
        let mut command = serve(&topic, port);
        command.env("STORE_URL", &url);
        command
    })
    .await;
    let client = client();
    let deliver = async || {
        let event = crate::support::sample("OrderPlaced");
        let body = json!({ "Data": { "event": event }, "Metadata": { "sys": { "MethodName": "billing" } } });
        let request = client.post(format!("{address}/billing"));
        HttpAnswer::of(
            request
                .header("content-type", "application/json")
                .body(body.to_string()),
        )
        .await
    };
    server.stop("immediate");
    for _ in 0..3 {
        let answer = deliver().await;
        assert!(answer.status >= 500, "{answer:?}");
        assert!(!answer.text.contains(PASSWORD), "{answer:?}");
    }
    server.run();
    eventually("it works again", async || {
        (deliver().await.status == 200).then_some(())
    })
    .await;
}
