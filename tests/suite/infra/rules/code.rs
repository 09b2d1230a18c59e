//! What the templates say about the code is what the code says.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use orderflow::{
    config::Settings,
    functions::{FUNCTIONS, Trigger},
};
use serde_json::Value;

use super::Files;
use crate::infra::{syntax::Node, template::Template};

/// App settings of the Functions host.
const HOST_SETTINGS: &[&str] = &[
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "AzureWebJobsStorage__accountName",
    "AzureWebJobsStorage__clientId",
    "AzureWebJobsStorage__credential",
];

/// Settings that the app does not work without.
const NEEDED: &[&str] = &[
    "AZURE_CLIENT_ID",
    "EVENTGRID_TOPIC_ENDPOINT",
    "PAYMENT_PROVIDER",
    "STORE_URL",
    "STRIPE_API_KEY",
];

/// Settings that the handler reads and that no template may write: the platform's own, and a key.
const NOT_WRITTEN: &[&str] = &[
    "EVENTGRID_TOPIC_KEY",
    "FUNCTIONS_CUSTOMHANDLER_PORT",
    "IDENTITY_ENDPOINT",
];

/// The names of the settings that the handler reads.
fn settings_read() -> BTreeSet<String> {
    let names = RefCell::new(BTreeSet::new());
    let source = |name: &str| {
        names.borrow_mut().insert(name.to_owned());
        (name == "PAYMENT_PROVIDER").then(|| "stripe".to_owned())
    };
    // Nothing is set, so it fails, having asked for everything.
    assert!(Settings::read(&source).is_err());
    // An app that is complete is asked for the rest.
    let complete = |name: &str| {
        names.borrow_mut().insert(name.to_owned());
        match name {
            "EVENTGRID_TOPIC_ENDPOINT" => Some("https://topic.example.com/api/events".to_owned()),
            "STORE_URL" => Some("memory:".to_owned()),
            "IDENTITY_ENDPOINT" => Some("http://127.0.0.1:41741/msi/token".to_owned()),
            _ => None,
        }
    };
    assert!(Settings::read(&complete).is_ok());
    names.into_inner()
}

/// The app settings in the template, with their values as they are written.
pub fn settings_written(template: &Template) -> BTreeMap<String, Node> {
    let variables = ["settings", "stripeSettings"].map(|name| template.variables.get(name));
    let objects = variables.into_iter().flatten();
    objects
        .flat_map(|object| object.properties())
        .map(|(name, value)| (name, value.clone()))
        .collect()
}

pub fn settings(templates: &BTreeMap<&str, Template>, found: &mut Vec<String>) {
    let Some(template) = templates.get("modules/app.bicep") else {
        return;
    };
    let (written, read) = (settings_written(template), settings_read());
    for (name, value) in &written {
        let ours = read.contains(name) && !NOT_WRITTEN.contains(&name.as_str());
        if !ours && !HOST_SETTINGS.contains(&name.as_str()) {
            found.push(format!(
                "modules/app.bicep: nobody reads the app setting {name}"
            ));
        }
        if name == "STRIPE_API_KEY" && !value.unquoted().starts_with("@Microsoft.KeyVault(") {
            found.push("modules/app.bicep: STRIPE_API_KEY must come from the key vault".to_owned());
        }
    }
    for name in NEEDED.iter().chain(HOST_SETTINGS) {
        if !written.contains_key(*name) {
            found.push(format!(
                "modules/app.bicep: the app setting {name} is missing"
            ));
        }
    }
}

/// What Event Grid is told is what the registry says.
pub fn subscriptions(files: &Files, found: &mut Vec<String>) {
    let listed: BTreeMap<String, Value> =
        serde_json::from_str(&files["subscriptions.json"]).unwrap();
    for function in FUNCTIONS
        .iter()
        .filter(|function| !function.rules().is_empty())
    {
        let types: Vec<_> = function.event_types().map(Value::from).collect();
        let listed = listed
            .get(function.name)
            .map(|it| &it["includedEventTypes"]);
        if listed != Some(&Value::from(types)) {
            found.push(format!(
                "subscriptions.json: {} takes other events",
                function.name
            ));
        }
    }
    for name in listed.keys() {
        let takes = FUNCTIONS
            .iter()
            .any(|function| function.name == name && !function.rules().is_empty());
        if !takes {
            found.push(format!("subscriptions.json: {name} takes no events"));
        }
    }
}

/// Instances are kept warm for groups that exist: all HTTP functions together, each other function by itself.
pub fn always_ready(templates: &BTreeMap<&str, Template>, found: &mut Vec<String>) {
    for (path, template) in templates {
        let Some(groups) = template
            .variables
            .get("alwaysReady")
            .filter(|_| template.using.is_some())
        else {
            continue;
        };
        for group in groups.objects() {
            let name = group
                .property("name")
                .map(Node::unquoted)
                .unwrap_or_default();
            let alone = |name: &str| {
                let function = FUNCTIONS.iter().find(|function| function.name == name);
                function.is_some_and(|function| !matches!(function.trigger, Trigger::Http { .. }))
            };
            let exists = name == "http" || name.strip_prefix("function:").is_some_and(alone);
            if !exists {
                found.push(format!("{path}: there is no group {name} to keep warm"));
            }
        }
    }
}
