//! What is over before it is delivered, on the local Event Grid's clock: events that lived too long, and subscriptions.

use std::sync::Arc;

use chrono::TimeDelta;
use orderflow::engine::{Clock as _, SystemClock};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    dev_clock::{TAKEN_ONCE, still},
    dev_grid::{Endpoint, Grid, odd_event},
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
        json!({"pending": 11, "underWay": 0}),
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
