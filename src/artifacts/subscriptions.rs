//! `infra/subscriptions.json`: the topic's event subscriptions, one for each function, by event type. The Bicep files
//! load it.

use serde_json::{Map, Value, json};

use crate::functions::{FUNCTIONS, Function};

use super::Artifact;

pub(super) fn artifact() -> Artifact {
    let subscription = |function: &Function| {
        let types: Vec<_> = function.event_types().collect();
        (
            function.name.to_owned(),
            json!({ "includedEventTypes": types }),
        )
    };
    let subscriptions: Map<_, _> = FUNCTIONS
        .iter()
        .filter(|function| !function.rules().is_empty())
        .map(subscription)
        .collect();
    Artifact::json("infra/subscriptions.json", &Value::Object(subscriptions))
}
