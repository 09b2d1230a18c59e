//! Where the local Event Grid keeps dead letters. `.ci/clients` tries a blob container.

use std::path::Path;

use orderflow::dev::{GridOptions, LocalGrid};

use crate::dev_grid::{Endpoint, Grid, odd_event, options};

const ORDER_PLACED: &str = "Sales.OrderPlaced";

fn kept_in(folder: &Path, deliver_to: &str, place: &str) -> GridOptions {
    let mut options = options(&folder.join("data"), deliver_to, 1_000.0);
    options.delivery.dead_letters = Some(place.to_owned());
    options
}

#[tokio::test]
async fn letters_lie_in_the_folder_that_was_asked_for_however_many_come_at_once() {
    const EVENTS: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    let (endpoint, address) = Endpoint::start().await;
    let place = folder.path().join("letters");
    let grid = Grid::start_with(kept_in(folder.path(), &address, &place.to_string_lossy())).await;
    endpoint.will_answer(&[400; 3 * EVENTS]);
    let events: Vec<_> = (0..EVENTS)
        .map(|number| odd_event(&number.to_string(), ORDER_PLACED))
        .collect();
    let batch = format!("[{}]", events.join(","));
    let content_type = "application/cloudevents-batch+json";
    let (status, _) = grid
        .publish_with(content_type, "local-development", batch)
        .await;
    assert_eq!(status, 200);
    grid.until_idle().await;
    let listed = grid.get("/deadletters?limit=1000").await;
    let letters = listed["deadLetters"].as_array().unwrap();
    assert_eq!(letters.len(), endpoint.deliveries().len());
    assert!(letters.len() >= EVENTS, "{}", letters.len());
    for letter in letters {
        let file = std::fs::read(place.join(letter["path"].as_str().unwrap())).unwrap();
        let file: serde_json::Value = serde_json::from_slice(&file).unwrap();
        assert_eq!(file, letter["events"]);
    }
    grid.stop().await;
}

#[tokio::test]
async fn a_place_elsewhere_is_refused_without_its_signature() {
    let folder = tempfile::tempdir().unwrap();
    for place in [
        "https://acme.blob.core.windows.net/letters?sig=secret",
        "http://127.0.0.1:10000/devstoreaccount1/letters?sig=secret",
    ] {
        let options = kept_in(folder.path(), "http://127.0.0.1:7071", place);
        let error = LocalGrid::bind(options).await.unwrap_err().to_string();
        let expected = "a container of Azurite such as http://127.0.0.1:10000/devstoreaccount1/";
        assert!(
            error.contains(expected) && !error.contains("secret"),
            "{error}"
        );
    }
}
