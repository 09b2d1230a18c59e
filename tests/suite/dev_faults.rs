//! Faults that the local Event Grid injects on purpose, over real HTTP.

use std::sync::Arc;

use orderflow::dev::{DevError, Fault, GridOptions, LocalGrid};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    dev_clock::TAKEN_ONCE,
    dev_grid::{Endpoint, Grid, odd_event, options},
    processes::{Dev, orderflow, output},
    support::new_order,
};

/// A grid that lives a thousand times faster than Azure, with these faults from the start.
async fn start(faults: &[&str]) -> (TempDir, Arc<Endpoint>, Grid) {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    let faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    let grid = Grid::start_with(with(&folder, &address, faults)).await;
    (folder, endpoint, grid)
}

fn with(folder: &TempDir, deliver_to: &str, faults: Vec<Fault>) -> GridOptions {
    let mut options = options(folder.path(), deliver_to, 1_000.0);
    options.delivery.faults = faults;
    options
}

async fn inject(grid: &Grid, faults: &Value) -> (u16, Value) {
    let request = grid.client.put(format!("{}/faults", grid.address));
    let answer = request.body(faults.to_string()).send().await.unwrap();
    let status = answer.status().as_u16();
    let body = answer.bytes().await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

/// How often each subscription was delivered to, and what Event Grid thought of each attempt.
async fn attempts(grid: &Grid, endpoint: &Endpoint, subscription: &str) -> (usize, Vec<String>) {
    grid.until_idle().await;
    let delivered = endpoint.deliveries();
    let delivered = delivered
        .iter()
        .filter(|delivery| delivery.header("aeg-subscription-name") == subscription.to_uppercase());
    let events = grid.get("/events").await;
    let deliveries = events["events"][0]["deliveries"].as_array().unwrap();
    let delivery = deliveries
        .iter()
        .find(|delivery| delivery["function"] == subscription)
        .unwrap();
    let outcomes = delivery["attempts"].as_array().unwrap().iter();
    let outcomes = outcomes.map(|attempt| attempt["outcome"].as_str().unwrap().to_owned());
    (delivered.count(), outcomes.collect())
}

#[tokio::test]
async fn a_duplicate_is_delivered_twice_and_counts_once() {
    let (_folder, endpoint, grid) = start(&["duplicate:1:billing"]).await;
    grid.publish(&odd_event("1", "Sales.OrderPlaced")).await;
    let delivered = ["Delivered".to_owned()];
    assert_eq!(
        attempts(&grid, &endpoint, "billing").await,
        (2, delivered.to_vec())
    );
    assert_eq!(
        attempts(&grid, &endpoint, "orders").await,
        (1, delivered.to_vec())
    );
}

#[tokio::test]
async fn a_lost_answer_brings_the_event_again_until_nothing_is_injected() {
    let (_folder, endpoint, grid) = start(&["drop-ack:1:billing"]).await;
    grid.publish(&odd_event("1", "Sales.OrderPlaced")).await;
    crate::dev_grid::until("it came again", || {
        let delivered = endpoint.deliveries();
        let to_billing = |delivery: &&crate::dev_grid::Delivery| {
            delivery.header("aeg-subscription-name") == "BILLING"
        };
        delivered.iter().filter(to_billing).count() >= 2
    })
    .await;
    assert_eq!(
        inject(&grid, &json!([])).await,
        (200, json!({"faults": []}))
    );
    let (delivered, outcomes) = attempts(&grid, &endpoint, "billing").await;
    assert_eq!(delivered, outcomes.len());
    let (last, before) = outcomes.split_last().unwrap();
    assert_eq!(last, "Delivered");
    assert!(
        before.len() >= 2 && before.iter().all(|outcome| outcome == "TimedOut"),
        "{before:?}"
    );
}

#[tokio::test]
async fn a_failure_is_not_delivered_and_follows_the_rules_of_its_status() {
    let (_folder, endpoint, grid) = start(&["400:1:orders"]).await;
    grid.publish(&odd_event("1", "Sales.OrderPlaced")).await;
    assert_eq!(
        attempts(&grid, &endpoint, "orders").await,
        (0, vec!["BadRequest".to_owned()])
    );
    let letters = grid.get("/deadletters").await;
    assert_eq!(
        letters["deadLetters"].as_array().unwrap().len(),
        1,
        "{letters}"
    );
}

#[tokio::test]
async fn what_cannot_be_injected_is_refused_and_changes_nothing() {
    let (folder, endpoint, grid) = start(&["delay:0.5"]).await;
    for (faults, why) in [
        (json!("duplicate"), "expected a sequence"),
        (
            json!(["lose"]),
            "is not duplicate, delay, drop-ack, late-answer or a status",
        ),
        (
            json!(["duplicate:2"]),
            "the rate must be a number from 0 to 1",
        ),
        (
            json!(["duplicate:1:nobody"]),
            "there is no such subscription",
        ),
    ] {
        let (status, body) = inject(&grid, &faults).await;
        assert_eq!(status, 400, "{faults}");
        assert!(
            body["error"]["message"].as_str().unwrap().contains(why),
            "{body}"
        );
    }
    assert_eq!(grid.get("/faults").await, json!({"faults": ["delay:0.5"]}));
    grid.stop().await;
    let unknown = with(
        &folder,
        "http://127.0.0.1:1",
        vec!["500:1:nobody".parse().unwrap()],
    );
    let error = LocalGrid::bind(unknown).await.unwrap_err();
    assert!(matches!(error, DevError::Fault(_)), "{error}");
    assert!(endpoint.deliveries().is_empty());
    let wrong = output(&mut orderflow(&["grid", "--fault", "lose"])).await;
    assert_eq!(wrong.0, Some(2));
}

#[tokio::test]
async fn an_order_comes_to_its_end_whatever_is_injected() {
    let data = tempfile::tempdir().unwrap();
    let faults = ["duplicate:0.5", "delay:0.2", "drop-ack:0.3", "503:0.3"];
    let mut arguments = vec!["--speed", "1000", "--seed", "7"];
    for fault in faults {
        arguments.extend(["--fault", fault]);
    }
    let dev = Dev::start_with(data.path(), &arguments, &[]).await;
    let location = dev.place(&new_order()).await;
    dev.reaches(&location, "completed").await;
    dev.stop().await;
}

/// How an event ends whose first answer comes late: the outcomes of its attempts, and how often it was delivered.
async fn answered_late(seed: u64) -> (Vec<String>, usize) {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    let mut options = with(
        &folder,
        &address,
        vec!["late-answer:1:orders".parse().unwrap()],
    );
    options.speed = 0.0;
    options.delivery.seed = Some(seed);
    let grid = Grid::start_with(options).await;
    grid.publish(&odd_event("1", TAKEN_ONCE)).await;
    grid.until_only_waiting().await;
    assert_eq!(grid.delivery().await["state"], "pending");
    assert_eq!(inject(&grid, &json!([])).await.0, 200);
    grid.step(&json!({"to": "next"})).await;
    let (delivered, outcomes) = attempts(&grid, &endpoint, "orders").await;
    assert_eq!(grid.delivery().await["state"], "delivered");
    grid.stop().await;
    (outcomes, delivered)
}

#[tokio::test]
async fn a_late_answer_comes_before_the_next_attempt_or_in_vain() {
    let (mut in_time, mut in_vain) = (0, 0);
    // The seed decides how late it is.
    for seed in 1..=8 {
        let (outcomes, delivered) = answered_late(seed).await;
        match (outcomes.as_slice(), delivered) {
            ([first], 1) if first == "TimedOut" => in_time += 1,
            ([first, second], 2) if first == "TimedOut" && second == "Delivered" => in_vain += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(in_time > 0 && in_vain > 0, "{in_time} and {in_vain}");
}
