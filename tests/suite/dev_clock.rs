//! The clock of the local Event Grid over real HTTP: it stands still, is turned, and runs as fast as it is told to.

use std::{path::Path, sync::Arc, time::Duration};

use orderflow::dev::GridOptions;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    dev_grid::{Endpoint, Grid, odd_event, options},
    support::eventually,
};

/// An event that only `orders` takes.
pub(crate) const TAKEN_ONCE: &str = "Sales.OrderCompleted";

/// What a grid is started with whose time stands still.
pub(crate) fn still(folder: &Path, deliver_to: &str) -> GridOptions {
    let mut options = options(folder, deliver_to, 0.0);
    options.delivery.seed = Some(1);
    options.delivery.dead_letter_hold = None;
    options
}

async fn start() -> (TempDir, Arc<Endpoint>, Grid) {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    let grid = Grid::start_with(still(folder.path(), &address)).await;
    (folder, endpoint, grid)
}

impl Grid {
    /// Turns the clock; returns the status and the answer.
    async fn step_by(&self, step: &str) -> (u16, Value) {
        let request = self.client.post(format!("{}/clock/step", self.address));
        let answer = request.body(step.to_owned()).send().await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.bytes().await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// Turns the clock, and waits until everything whose time has come is done.
    pub(crate) async fn step(&self, step: &Value) -> Value {
        let (status, answer) = self.step_by(&step.to_string()).await;
        assert_eq!(status, 200, "{answer}");
        self.until_only_waiting().await;
        answer
    }

    /// Waits until nothing more happens before the clock is turned.
    pub(crate) async fn until_only_waiting(&self) {
        eventually("nothing is under way", async || {
            (self.get("/idle").await["underWay"] == 0).then_some(())
        })
        .await;
    }

    /// The only delivery of the newest event.
    pub(crate) async fn delivery(&self) -> Value {
        let shown = self.get("/events").await;
        let events = shown["events"].as_array().unwrap();
        events.last().unwrap()["deliveries"][0].clone()
    }
}

fn milliseconds(seconds: &Value) -> u128 {
    let duration = Duration::from_secs_f64(seconds.as_f64().unwrap());
    (duration + Duration::from_micros(1)).as_millis()
}

/// The ages in milliseconds that an event had at its attempts.
fn ages(delivery: &Value) -> Vec<u128> {
    let attempts = delivery["attempts"].as_array().unwrap();
    let ages = attempts.iter().map(|attempt| milliseconds(&attempt["age"]));
    ages.collect()
}

/// The whole life of an event that nobody takes: how old it was at each attempt, and its dead letter.
async fn life(seed: u64) -> (Vec<u128>, Value) {
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    endpoint.will_answer(&[500; 20]);
    let mut options = still(folder.path(), &address);
    options.delivery.seed = Some(seed);
    let grid = Grid::start_with(options).await;
    grid.publish(&odd_event("1", TAKEN_ONCE)).await;
    grid.until_only_waiting().await;
    let mut turned = 0.0;
    loop {
        let stepped = grid.step(&json!({"to": "next"})).await["stepped"]
            .as_f64()
            .unwrap();
        if stepped == 0.0 {
            break;
        }
        turned += stepped;
    }
    assert_eq!(
        grid.get("/idle").await,
        json!({"pending": 0, "underWay": 0, "awaitingHandshake": 0})
    );
    assert!((grid.get("/clock").await["turned"].as_f64().unwrap() - turned).abs() < 0.1);
    let letters = grid.get("/deadletters").await;
    let ages = ages(&grid.delivery().await);
    assert_eq!(ages.len(), endpoint.deliveries().len());
    grid.stop().await;
    (ages, letters["deadLetters"][0]["events"][0].clone())
}

#[tokio::test]
async fn a_seed_and_steps_make_the_same_life_of_a_day_in_every_run() {
    let (ages, letter) = life(1).await;
    // With this seed the wait of twelve hours that follows goes beyond the day.
    let waits = [10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600];
    assert_eq!((ages[0], ages.len()), (0, waits.len() + 1), "{ages:?}");
    for (pair, wait) in ages.windows(2).zip(waits) {
        let took = pair[1] - pair[0];
        let wait = wait * 1_000;
        assert!((wait..=wait + wait / 10).contains(&took), "{ages:?}");
    }
    assert_eq!(letter["deadletterreason"], "TimeToLiveExceeded");
    assert_eq!(letter["deliveryattempts"], ages.len());
    assert_eq!(life(1).await.0, ages);
    assert_ne!(life(2).await.0, ages);
}

#[tokio::test]
async fn how_far_it_is_turned_survives_a_kill() {
    let (folder, endpoint, grid) = start().await;
    endpoint.will_answer(&[500, 500]);
    grid.publish(&odd_event("1", TAKEN_ONCE)).await;
    grid.until_only_waiting().await;
    let stepped = grid.step(&json!({"seconds": 3600.5})).await;
    assert_eq!(stepped["stepped"], 3_600.5);
    assert_eq!(ages(&grid.delivery().await), [0, 3_600_500]);
    let before = grid.get("/clock").await;
    assert_eq!(before["turned"], 3_600.5);
    assert_eq!(before["next"]["at"], Value::Null, "it stands still");
    let deliver_to = format!("http://{}", endpoint.deliveries()[0].header("host"));
    grid.kill().await;

    let grid = Grid::start_with(still(folder.path(), &deliver_to)).await;
    assert_eq!(grid.get("/clock").await, before);
    let wait = milliseconds(&before["next"]["in"]);
    grid.step(&json!({"to": "next"})).await;
    let delivery = grid.delivery().await;
    assert_eq!(delivery["state"], "delivered");
    let third = 3_600_500 + wait;
    assert_eq!(ages(&delivery), [0, 3_600_500, third]);
    grid.stop().await;
}

#[tokio::test]
async fn it_can_be_set_going_while_it_stands() {
    let (_folder, endpoint, grid) = start().await;
    endpoint.will_answer(&[500]);
    grid.publish(&odd_event("1", TAKEN_ONCE)).await;
    grid.until_only_waiting().await;
    let waiting = grid.delivery().await;
    assert_eq!(waiting["nextAttemptAt"], Value::Null);
    assert!(waiting["nextAttemptAge"].as_f64().unwrap() >= 10.0);
    let run_at = async |speed: Value| {
        let request = grid.client.put(format!("{}/clock", grid.address));
        let body = json!({ "speed": speed }).to_string();
        let answer = request.body(body).send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str::<Value>(&text).unwrap())
    };
    let (status, answer) = run_at(json!(1)).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer["next"]["at"].is_string(), "{answer}");
    assert_eq!(run_at(json!(100_000)).await.0, 200);
    grid.until_idle().await;
    assert_eq!(endpoint.deliveries().len(), 2);
    for speed in [json!(-1), json!(1_000_001), json!("fast"), Value::Null] {
        let (status, answer) = run_at(speed).await;
        assert_eq!(status, 400, "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(
            message.contains("from 0 (it stands still) to 1000000"),
            "{message}"
        );
    }
    assert_eq!(grid.get("/clock").await["speed"], 100_000.0);
    grid.stop().await;
}

#[tokio::test]
async fn a_step_says_what_it_did_or_what_is_wanted() {
    let (_folder, _endpoint, grid) = start().await;
    let nothing = json!({"speed": 0.0, "turned": 0.0, "next": null, "stepped": 0.0});
    assert_eq!(grid.step(&json!({"to": "next"})).await, nothing);
    for step in [
        "",
        "{}",
        r#"{"seconds": 0}"#,
        r#"{"seconds": -5}"#,
        r#"{"seconds": 1e9}"#,
        r#"{"seconds": 5, "to": "next"}"#,
        r#"{"to": "yesterday"}"#,
        r#"{"minutes": 5}"#,
    ] {
        let (status, answer) = grid.step_by(step).await;
        assert_eq!(status, 400, "{step}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(r#"send {"seconds": 3600}"#), "{message}");
    }
    let request = grid.client.post(format!("{}/clock/step", grid.address));
    let foreign = request
        .header("origin", "http://example.com")
        .body(r#"{"to":"next"}"#);
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    assert_eq!(grid.get("/clock").await["turned"], 0.0);
    grid.stop().await;
}
