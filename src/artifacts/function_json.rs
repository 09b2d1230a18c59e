//! `functions/<name>/function.json`: what the host is told about each function.

use std::path::Path;

use serde_json::{Value, json};

use crate::functions::{EVENT_BINDING, FUNCTIONS, Function, TIMER_BINDING, Trigger};

use super::Artifact;

pub(super) fn all() -> Vec<Artifact> {
    let artifact = |function: &Function| {
        let folder = Path::new("functions").join(function.name);
        Artifact::json(folder.join("function.json"), &function_json(function))
    };
    FUNCTIONS.iter().map(artifact).collect()
}

fn function_json(function: &Function) -> Value {
    match function.trigger {
        Trigger::EventGrid { .. } => json!({
            "bindings": [{ "type": "eventGridTrigger", "direction": "in", "name": EVENT_BINDING }]
        }),
        Trigger::Timer { schedule } => json!({
            "bindings": [{ "type": "timerTrigger", "direction": "in", "name": TIMER_BINDING, "schedule": schedule }]
        }),
        Trigger::Http { method, route } => json!({
            "bindings": [
                {
                    "type": "httpTrigger",
                    "direction": "in",
                    "name": "req",
                    // The OpenAPI document says so too, as its security schemes.
                    "authLevel": "function",
                    "methods": [method.to_ascii_lowercase()],
                    "route": route
                },
                { "type": "http", "direction": "out", "name": "res" }
            ]
        }),
    }
}
