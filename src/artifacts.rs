//! The files that are made from the code: function.json, samples and the list of event subscriptions. `orderflow check` compares them with what
//! stands in the repository, `orderflow check --write` writes them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    cloud_event,
    events::{CATALOGUE, samples, short_name},
    functions::{EVENT_BINDING, FUNCTIONS, Function, TIMER_BINDING, Trigger},
};

/// A file made from the code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// Where it stands, below the repository's root.
    pub path: PathBuf,
    /// What it holds.
    pub content: String,
}

/// What a file differs in from what the code says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// It is not there.
    Missing(PathBuf),
    /// It holds something else.
    Stale(PathBuf),
    /// Nothing in the code asks for it.
    Stray(PathBuf),
}

impl std::fmt::Display for Difference {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing(path) => write!(formatter, "{}: is missing", path.display()),
            Self::Stale(path) => write!(
                formatter,
                "{}: differs from what the code says",
                path.display()
            ),
            Self::Stray(path) => write!(
                formatter,
                "{}: the code knows no such thing",
                path.display()
            ),
        }
    }
}

/// Every file that is made from the code.
pub fn all() -> Vec<Artifact> {
    let functions = FUNCTIONS.iter().map(|function| Artifact {
        path: Path::new("functions")
            .join(function.name)
            .join("function.json"),
        content: pretty(&function_json(function)),
    });
    let samples = CATALOGUE.iter().filter_map(|event_type| {
        let event = samples::event(event_type.name, samples::ORDER_ID)?;
        let value = serde_json::from_slice(&cloud_event::to_json(&event)).ok()?;
        Some(Artifact {
            path: sample_path(event_type.name),
            content: pretty(&value),
        })
    });
    let single = [place_order(), subscriptions()];
    functions.chain(samples).chain(single).collect()
}

/// Where the sample of an event type stands: `samples/order-placed.json` for `Sales.OrderPlaced`.
pub fn sample_path(event_type: &str) -> PathBuf {
    let mut name = String::new();
    for letter in short_name(event_type).chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    Path::new("samples").join(name).with_extension("json")
}

/// The body of `POST /api/orders`.
fn place_order() -> Artifact {
    Artifact {
        path: PathBuf::from("samples/place-order.json"),
        content: order_to_place(),
    }
}

/// The sample order as `POST /api/orders` takes it.
pub fn order_to_place() -> String {
    let mut order = json!(samples::order(samples::ORDER_ID));
    if let Some(fields) = order.as_object_mut() {
        fields.remove("orderId");
    }
    pretty(&order)
}

/// The event subscriptions of the topic: one for each function, by event type.
fn subscriptions() -> Artifact {
    let subscribing = FUNCTIONS
        .iter()
        .filter(|function| !function.rules().is_empty());
    let subscription = |function: &Function| {
        let types: Vec<_> = function.event_types().collect();
        (
            function.name.to_owned(),
            json!({ "includedEventTypes": types }),
        )
    };
    let subscriptions: serde_json::Map<_, _> = subscribing.map(subscription).collect();
    Artifact {
        path: PathBuf::from("infra/subscriptions.json"),
        content: pretty(&Value::Object(subscriptions)),
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// What the host is told about a function.
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
                    "authLevel": "function",
                    "methods": [method.to_ascii_lowercase()],
                    "route": route
                },
                { "type": "http", "direction": "out", "name": "res" }
            ]
        }),
    }
}

/// Compares the files below `root` with what the code says.
///
/// # Errors
/// A folder cannot be read.
pub fn differences(root: &Path) -> io::Result<Vec<Difference>> {
    let artifacts = all();
    let mut differences: Vec<_> = artifacts
        .iter()
        .filter_map(
            |artifact| match fs::read_to_string(root.join(&artifact.path)) {
                Ok(content) if content == artifact.content => None,
                Ok(_) => Some(Difference::Stale(artifact.path.clone())),
                Err(_) => Some(Difference::Missing(artifact.path.clone())),
            },
        )
        .collect();
    // A folder without a route would be invoked in vain, and its events redelivered for a day.
    for folder in ["functions", "samples"] {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten() {
            let path = Path::new(folder).join(entry?.file_name());
            if !artifacts
                .iter()
                .any(|artifact| artifact.path.starts_with(&path))
            {
                differences.push(Difference::Stray(path));
            }
        }
    }
    Ok(differences)
}

/// Writes every file below `root`.
///
/// # Errors
/// A file cannot be written.
pub fn write(root: &Path) -> io::Result<usize> {
    let artifacts = all();
    for artifact in &artifacts {
        let path = root.join(&artifact.path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, &artifact.content)?;
    }
    Ok(artifacts.len())
}
