//! `samples/<event>.json`: one event of each type, and `samples/place-order.json`, the body of `POST /api/orders`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::{
    cloud_event,
    events::{EventType, samples},
    functions::catalogue,
};

use super::{Artifact, file_name};

pub(super) fn all() -> Vec<Artifact> {
    let events = catalogue()
        .map(|event_type| Artifact::json(sample_path(event_type.name), &sample(event_type)));
    let order = Artifact::json("samples/place-order.json", &new_order());
    events.chain([order]).collect()
}

/// Where the sample of an event type stands: `samples/order-placed.json` for `Sales.OrderPlaced`.
pub fn sample_path(event_type: &str) -> PathBuf {
    Path::new("samples")
        .join(file_name(event_type))
        .with_extension("json")
}

/// The event as it travels.
pub(super) fn sample(event_type: &EventType) -> Value {
    let event = samples::event(event_type, samples::ORDER_ID);
    // What this program has written as JSON, it can read.
    serde_json::from_slice(&cloud_event::to_json(&event)).unwrap_or_default()
}

/// What a customer asks for: the sample order without an id.
pub fn new_order() -> Value {
    let mut order = json!(samples::order(samples::ORDER_ID));
    if let Some(fields) = order.as_object_mut() {
        // The other fields keep their order.
        fields.shift_remove("orderId");
    }
    order
}
