//! What is over before it is delivered, on the local Event Grid's clock: events that lived too long, and subscriptions.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use axum::{
    Router,
    http::{HeaderMap, Method},
};
use chrono::TimeDelta;
use orderflow::engine::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::{
    dev_clock::{TAKEN_ONCE, still},
    dev_grid::{Endpoint, Grid, odd_event},
    support::eventually,
};

/// A grid whose time stands still with one subscription, `one`, to the function `orders`.
async fn start(properties: Value) -> (TempDir, Arc<Endpoint>, Grid) {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    let grid = start_in(&folder, &address, properties).await;
    (folder, endpoint, grid)
}

async fn start_in(folder: &TempDir, deliver_to: &str, mut properties: Value) -> Grid {
    properties["destination"] =
        json!({"endpointType": "AzureFunction", "properties": {"resourceId": "/functions/orders"}});
    let file = folder.path().join("subscriptions.json");
    std::fs::write(&file, json!({"one": properties}).to_string()).unwrap();
    let mut options = still(&folder.path().join("data"), deliver_to);
    options.delivery.subscriptions = Some(file);
    Grid::start_with(options).await
}

fn lives_for(minutes: u32) -> Value {
    json!({
        "retryPolicy": {"eventTimeToLiveInMinutes": minutes},
        "deadLetterDestination": {"endpointType": "StorageBlob", "properties": {"resourceId": "r", "blobContainerName": "c"}},
    })
}

async fn letters(grid: &Grid) -> Vec<Value> {
    let letters = grid.get("/deadletters").await;
    let letters = letters["deadLetters"].as_array().unwrap().iter();
    letters.map(|letter| letter["events"][0].clone()).collect()
}

#[tokio::test]
async fn the_end_of_an_events_life_is_noticed_when_its_next_attempt_is_due() {
    let (_folder, endpoint, grid) = start(lives_for(2)).await;
    endpoint.will_answer(&[500; 9]);
    grid.publish(&odd_event("1", TAKEN_ONCE)).await;
    grid.until_only_waiting().await;
    for _ in 0..3 {
        grid.step(&json!({"to": "next"})).await;
    }
    // After some 100 s it waits for five minutes: its life ends meanwhile.
    grid.step(&json!({"seconds": 200})).await;
    let delivery = grid.delivery().await;
    assert_eq!(delivery["state"], "pending");
    assert!(
        delivery["nextAttemptAge"].as_f64().unwrap() > 390.0,
        "{delivery}"
    );
    grid.step(&json!({"to": "next"})).await;
    assert!(
        letters(&grid).await.is_empty(),
        "the letter is held for five minutes"
    );
    assert_eq!(grid.step(&json!({"to": "next"})).await["stepped"], 300.0);
    let letters = letters(&grid).await;
    assert_eq!(letters[0]["deadletterreason"], "TimeToLiveExceeded");
    assert_eq!(letters[0]["lastdeliveryoutcome"], "Busy");
    assert_eq!(letters[0]["deliveryattempts"], 4);
    assert_eq!(endpoint.deliveries().len(), 4);
    grid.stop().await;
}

/// A webhook that agrees to deliveries once it is told to.
#[derive(Default)]
struct Reluctant {
    agrees: AtomicBool,
    delivered: AtomicUsize,
}

impl Reluctant {
    async fn start() -> (Arc<Self>, String) {
        let webhook = Arc::new(Self::default());
        let state = Arc::clone(&webhook);
        let router = Router::new().fallback(async move |method: Method| {
            let mut answer = HeaderMap::new();
            if method != Method::OPTIONS {
                state.delivered.fetch_add(1, Ordering::SeqCst);
            } else if state.agrees.load(Ordering::SeqCst) {
                answer.insert("webhook-allowed-origin", "*".parse().unwrap());
            }
            answer
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
        (webhook, url)
    }
}

#[tokio::test]
async fn an_event_that_waits_too_long_for_an_endpoint_to_agree_is_given_up_untried() {
    let (webhook, url) = Reluctant::start().await;
    let folder = tempfile::tempdir().unwrap();
    let mut properties = lives_for(2);
    properties["destination"] =
        json!({"endpointType": "WebHook", "properties": {"endpointUrl": url}});
    let file = folder.path().join("subscriptions.json");
    std::fs::write(&file, json!({"one": properties}).to_string()).unwrap();
    let mut options = still(&folder.path().join("data"), "http://127.0.0.1:1");
    options.delivery.subscriptions = Some(file);
    let grid = Grid::start_with(options).await;
    grid.publish(&odd_event("late", TAKEN_ONCE)).await;
    grid.until_only_waiting().await;
    let waiting = json!({"pending": 1, "underWay": 0, "awaitingHandshake": 1});
    assert_eq!(
        grid.get("/idle").await,
        waiting,
        "told apart from what is under way"
    );
    let clock = grid.get("/clock").await;
    assert_eq!(
        (&clock["next"], &clock["awaitingHandshake"]),
        (&json!(null), &json!({"one": 1}))
    );
    grid.step(&json!({"seconds": 60})).await;
    grid.publish(&odd_event("in time", TAKEN_ONCE)).await;
    grid.step(&json!({"seconds": 61})).await;
    webhook.agrees.store(true, Ordering::SeqCst);
    eventually("it agrees", async || {
        (grid.get("/idle").await["awaitingHandshake"] == 0).then_some(())
    })
    .await;
    grid.until_only_waiting().await;
    grid.step(&json!({"to": "next"})).await;
    grid.until_idle().await;
    let letters = letters(&grid).await;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0]["id"], "late");
    assert_eq!(letters[0]["deadletterreason"], "TimeToLiveExceeded");
    assert_eq!(letters[0]["deliveryattempts"], 0);
    assert_eq!(webhook.delivered.load(Ordering::SeqCst), 1);
    grid.stop().await;
}

#[tokio::test]
async fn an_event_that_probation_outlives_is_given_up_untried() {
    let (folder, endpoint, grid) = start(lives_for(1)).await;
    endpoint.will_answer(&[404; 10]);
    for number in 0..10 {
        grid.publish(&odd_event(&number.to_string(), TAKEN_ONCE))
            .await;
        grid.until_only_waiting().await;
    }
    grid.publish(&odd_event("untried", TAKEN_ONCE)).await;
    grid.until_only_waiting().await;
    let idle = grid.get("/idle").await;
    assert_eq!(
        idle,
        json!({"pending": 11, "underWay": 0, "awaitingHandshake": 0}),
        "probation holds it back"
    );
    assert_eq!(grid.step(&json!({"to": "next"})).await["stepped"], 300.0);
    let delivery = grid.delivery().await;
    assert_eq!(delivery["state"], "pending", "its letter is held");
    let deliver_to = format!("http://{}", endpoint.deliveries()[0].header("host"));
    grid.kill().await;

    let grid = start_in(&folder, &deliver_to, lives_for(1)).await;
    grid.step(&json!({"to": "next"})).await;
    grid.until_idle().await;
    let letters = letters(&grid).await;
    assert_eq!(letters.len(), 11);
    let untried = letters
        .iter()
        .find(|letter| letter["id"] == "untried")
        .unwrap();
    assert_eq!(untried["lastdeliveryoutcome"], "Probation");
    assert_eq!(untried["deliveryattempts"], 0);
    assert_eq!(untried["deadletterreason"], "TimeToLiveExceeded");
    let tried = letters.iter().find(|letter| letter["id"] == "3").unwrap();
    assert_eq!(tried["lastdeliveryoutcome"], "NotFound");
    assert_eq!(tried["deliveryattempts"], 1);
    assert_eq!(endpoint.deliveries().len(), 10);
    grid.stop().await;

    // Without a container it is dropped.
    let mut policy = lives_for(1);
    policy
        .as_object_mut()
        .unwrap()
        .remove("deadLetterDestination");
    let (_folder, endpoint, grid) = start(policy).await;
    endpoint.will_answer(&[404; 10]);
    for number in 0..10 {
        grid.publish(&odd_event(&number.to_string(), TAKEN_ONCE))
            .await;
        grid.until_only_waiting().await;
    }
    grid.publish(&odd_event("untried", TAKEN_ONCE)).await;
    grid.step(&json!({"seconds": 300})).await;
    let delivery = grid.delivery().await;
    assert_eq!(
        (&delivery["state"], &delivery["attempts"]),
        (&json!("dropped"), &json!([]))
    );
    grid.stop().await;
}

#[tokio::test]
async fn nothing_is_delivered_for_a_subscription_that_has_expired() {
    let in_an_hour = SystemClock.now() + TimeDelta::hours(1);
    let expires = json!({"expirationTimeUtc": in_an_hour.to_rfc3339()});
    let (_folder, endpoint, grid) = start(expires).await;
    endpoint.will_answer(&[500]);
    grid.publish(&odd_event("1", TAKEN_ONCE)).await;
    grid.until_only_waiting().await;
    assert_eq!(grid.delivery().await["state"], "pending");
    // The wait of ten seconds ends meanwhile: it is over, and not delivered.
    grid.step(&json!({"seconds": 3600})).await;
    grid.until_idle().await;
    grid.publish(&odd_event("2", TAKEN_ONCE)).await;
    let shown = grid.get("/events").await;
    for event in shown["events"].as_array().unwrap() {
        assert_eq!(event["deliveries"], json!([]));
    }
    assert_eq!(endpoint.deliveries().len(), 1);
    assert!(letters(&grid).await.is_empty());
    grid.stop().await;
}
