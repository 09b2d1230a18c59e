//! What somebody on duty does about dead letters: each is delivered by hand once, as the README has it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use crate::{customers::get, dev::Dev};

/// The most letters that the grid lists.
const MOST: usize = 1_000;

/// The reasons for which a letter may be there after the disturbances.
const EXPECTED: [&str; 2] = ["TimeToLiveExceeded", "MaxDeliveryAttemptsExceeded"];

/// The dead letters of the grid.
pub struct DeadLetters {
    client: reqwest::Client,
    dev: Arc<Dev>,
    replayed: Mutex<HashSet<String>>,
}

impl DeadLetters {
    pub fn new(client: reqwest::Client, dev: Arc<Dev>) -> Self {
        let replayed = Mutex::default();
        Self {
            client,
            dev,
            replayed,
        }
    }

    /// How many were delivered by hand.
    pub fn replayed(&self) -> usize {
        self.replayed.lock().unwrap().len()
    }

    /// Delivers each one that has not been delivered by hand yet; whether none is left.
    pub async fn replay(&self) -> bool {
        let Some(letters) = self.list().await else {
            return false;
        };
        let mut all = true;
        for (path, event) in letters {
            if self.replayed.lock().unwrap().contains(&path) {
                continue;
            }
            // The first folder is the subscription in capitals, which is named after its function.
            let function = path.split('/').next().unwrap().to_lowercase();
            let webhook = format!("/runtime/webhooks/eventgrid?functionName={function}");
            let delivery = self
                .client
                .post(self.dev.host(&webhook))
                .header("aeg-event-type", "Notification")
                .header("content-type", "application/cloudevents+json")
                .body(event.to_string());
            match delivery.send().await {
                Ok(answer) if answer.status() == 202 => {
                    self.replayed.lock().unwrap().insert(path);
                }
                _ => all = false,
            }
        }
        all
    }

    /// What is wrong with the letters that there are.
    pub async fn unexpected(&self) -> Vec<String> {
        let Some(letters) = self.list().await else {
            return vec!["the dead letters cannot be listed".to_owned()];
        };
        let replayed = self.replayed.lock().unwrap().clone();
        let wrong = letters.into_iter().filter(|(path, event)| {
            let reason = event["deadletterreason"].as_str().unwrap_or_default();
            !replayed.contains(path) || !EXPECTED.contains(&reason)
        });
        let wrong = wrong.map(|(path, event)| format!("{path}: {event}"));
        wrong.collect()
    }

    async fn list(&self) -> Option<HashMap<String, Value>> {
        let url = self.dev.grid(&format!("/deadletters?limit={MOST}"));
        let listed = get(&self.client, &url).await?;
        let letters = listed["deadLetters"].as_array()?;
        assert!(letters.len() < MOST, "more dead letters than can be listed");
        let letter = |letter: &Value| {
            let path = letter["path"].as_str()?.to_owned();
            Some((path, letter["events"][0].clone()))
        };
        letters.iter().map(letter).collect()
    }
}
