//! `dev` killed with work left over: what the grid could not deliver is on disk, and the next `dev` has it.

use std::path::Path;

use serde_json::{Value, json};

use crate::{
    processes::{Dev, signal},
    support::{Answer, eventually, subscribers, with},
};

/// `dev` with an order that is paid, and whose handler has ended since in such a way that the host does not start it again:
/// every delivery of what follows fails.
async fn left_alone(data: &Path, speed: &str) -> (Dev, String) {
    let dev = Dev::start_with(data, &["--speed", speed], &[]).await;
    let location = dev
        .place(&with("/paymentMethod", json!("tok_chargeSlow")))
        .await;
    dev.reaches(&location, "billed").await;
    // It finishes the charge, publishes that it was paid, and ends with exit code 0.
    signal(dev.handler().await, "TERM");
    (dev, location)
}

/// The JSON at a path of the grid.
async fn grid(dev: &Dev, path: &str) -> Value {
    Answer::of(dev.client.get(format!("{}{path}", dev.grid)))
        .await
        .json()
}

async fn dead_letters(dev: &Dev) -> Vec<Value> {
    grid(dev, "/deadletters").await["deadLetters"]
        .as_array()
        .unwrap()
        .clone()
}

#[tokio::test]
async fn undelivered_events_are_delivered_by_the_next_dev() {
    let folder = tempfile::tempdir().unwrap();
    // The second attempt would come after ten seconds.
    let (mut dev, location) = left_alone(folder.path(), "1").await;
    eventually("what follows the payment is tried in vain", async || {
        let events = grid(&dev, "/events").await;
        let events = events["events"].as_array().unwrap().iter();
        let mut paid = events.filter(|event| event["event"]["type"] == "Sales.PaymentSuccessful");
        let deliveries = paid.next()?["deliveries"].as_array().unwrap().clone();
        let failed = |delivery: &Value| {
            delivery["state"] == "pending" && delivery["attempts"][0]["status"] == 500
        };
        (deliveries.len() == subscribers("Sales.PaymentSuccessful").len()
            && deliveries.iter().all(failed))
        .then_some(())
    })
    .await;
    dev.process.kill().await.unwrap();
    let dev = Dev::start_with(folder.path(), &["--speed", "60"], &[]).await;
    dev.reaches(&location, "completed").await;
    dev.stop().await;
}

#[tokio::test]
async fn dead_letters_are_kept_and_can_be_delivered_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    // An event's life is shorter than the wait for its second attempt.
    let (mut dev, location) = left_alone(folder.path(), "1000000").await;
    let mut kept = eventually("what follows the payment is given up", async || {
        let kept = dead_letters(&dev).await;
        (kept.len() == subscribers("Sales.PaymentSuccessful").len()).then_some(kept)
    })
    .await;
    dev.process.kill().await.unwrap();
    let dev = Dev::start(folder.path()).await;
    assert_eq!(grid(&dev, "/idle").await["pending"], 0, "nothing goes on");
    let mut found = dead_letters(&dev).await;
    let path = |letter: &Value| letter["path"].as_str().unwrap().to_owned();
    kept.sort_by_key(path);
    found.sort_by_key(path);
    assert_eq!(found, kept);
    for letter in found {
        let event = &letter["events"][0];
        assert_eq!(event["type"], "Sales.PaymentSuccessful");
        assert_eq!(event["deadletterreason"], "TimeToLiveExceeded");
        let path = path(&letter);
        let function = path.split('/').next().unwrap().to_lowercase();
        let delivery = dev.client.post(format!(
            "{}/runtime/webhooks/eventgrid?functionName={function}",
            dev.host
        ));
        let delivery = delivery
            .header("aeg-event-type", "Notification")
            .header("content-type", "application/cloudevents+json");
        let answer = Answer::of(delivery.body(event.to_string())).await;
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    dev.reaches(&location, "completed").await;
    dev.stop().await;
}
