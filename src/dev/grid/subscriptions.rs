//! Event subscriptions as data: who gets which events, how often they are tried, and in what form they come.
//!
//! They come from the functions that take events, one for each, or from a file: see [`read`].

mod expression;
mod properties;
mod template;

use std::path::Path;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use url::Url;

use super::{
    batching::Batching, delivery_properties::DeliveryProperties, filters::Filter,
    retry::RetryPolicy,
};
use crate::dev::{DevError, Subscription};

/// An event subscription.
#[derive(Debug, Clone)]
pub(super) struct EventSubscription {
    /// Kept for as long as the process lives: see [`lasting`].
    pub(super) name: &'static str,
    pub(super) destination: Destination,
    pub(super) filter: Filter,
    pub(super) retry: RetryPolicy,
    /// Several events in a request; nothing when each comes alone.
    pub(super) batching: Option<Batching>,
    pub(super) properties: DeliveryProperties,
    /// The webhook wants a token of Entra ID.
    pub(super) secure: Option<SecureWebhook>,
    /// When it expires (`expirationTimeUtc`).
    pub(super) expires_at: Option<DateTime<Utc>>,
    /// Whether an event that is given up becomes a dead letter. Otherwise it is dropped.
    pub(super) keeps_dead_letters: bool,
}

/// A webhook that is shown a token of Entra ID with each request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SecureWebhook {
    /// The tenant of its application.
    pub(super) tenant: String,
    /// The application, which is the token's audience: an id or a URI.
    pub(super) application: String,
}

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    /// The function of this name at the host.
    Function(String),
    /// An address on this machine.
    Webhook(Url),
}

impl Destination {
    /// The address, given that of the host.
    pub(super) fn address(&self, host: &Url) -> Url {
        match self {
            Self::Function(name) => {
                let mut address = host.clone();
                address.set_path("/runtime/webhooks/eventgrid");
                address.query_pairs_mut().append_pair("functionName", name);
                address
            }
            Self::Webhook(address) => address.clone(),
        }
    }
}

/// One subscription for each function, as Orderflow has them in Azure.
pub(super) fn of_functions(functions: &[Subscription]) -> Vec<EventSubscription> {
    functions
        .iter()
        .map(|function| EventSubscription {
            name: function.function,
            destination: Destination::Function(function.function.to_owned()),
            filter: Filter::of_types(&function.event_types),
            retry: RetryPolicy::default(),
            batching: None,
            properties: DeliveryProperties::default(),
            secure: None,
            expires_at: None,
            keeps_dead_letters: true,
        })
        .collect()
}

/// Reads the subscriptions of a file: either an object of `NAME: properties`, with the properties of
/// `Microsoft.EventGrid/eventSubscriptions` as ARM has them, or a compiled ARM template with such resources.
///
/// Whatever the local grid does not do is an error that names the member, and so is a function that is none of `functions`.
pub(super) fn read(
    file: &Path,
    functions: &[Subscription],
) -> Result<Vec<EventSubscription>, DevError> {
    let written = std::fs::read(file).map_err(|error| error.to_string());
    let subscriptions = written.and_then(|written| parse(&written, functions));
    subscriptions.map_err(|problem| DevError::Subscriptions {
        file: file.to_path_buf(),
        problem,
    })
}

fn parse(written: &[u8], functions: &[Subscription]) -> Result<Vec<EventSubscription>, String> {
    let written: Value = serde_json::from_slice(written).map_err(|error| {
        format!("it is not JSON ({error}); compile Bicep with `az bicep build`")
    })?;
    let Value::Object(written) = written else {
        return Err(
            "it is not a JSON object of subscriptions by name, nor an ARM template".to_owned(),
        );
    };
    let found = if written.contains_key("$schema") || written.contains_key("resources") {
        template::subscriptions(&Value::Object(written))?
    } else {
        written
    };
    if found.is_empty() {
        return Err("it has no event subscription in it".to_owned());
    }
    subscriptions(found, functions)
}

fn subscriptions(
    found: Map<String, Value>,
    functions: &[Subscription],
) -> Result<Vec<EventSubscription>, String> {
    let mut subscriptions: Vec<EventSubscription> = Vec::new();
    for (name, properties) in found {
        check_name(&name)?;
        let twin = subscriptions
            .iter()
            .find(|other| other.name.eq_ignore_ascii_case(&name));
        if twin.is_some() {
            return Err(format!("there are two subscriptions `{name}`"));
        }
        let subscription = properties::subscription(lasting(name), properties)?;
        check_function(&subscription, functions)?;
        subscriptions.push(subscription);
    }
    Ok(subscriptions)
}

fn check_name(name: &str) -> Result<(), String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    if (3..=64).contains(&name.len()) && name.chars().all(allowed) {
        return Ok(());
    }
    Err(format!(
        "`{name}` is no name for a subscription: Event Grid wants 3 to 64 letters, digits and hyphens"
    ))
}

/// Event Grid refuses a subscription while its function does not exist.
fn check_function(
    subscription: &EventSubscription,
    functions: &[Subscription],
) -> Result<(), String> {
    let Destination::Function(name) = &subscription.destination else {
        return Ok(());
    };
    if functions.iter().any(|function| function.function == name) {
        return Ok(());
    }
    let known: Vec<_> = functions.iter().map(|function| function.function).collect();
    Err(format!(
        "{}: properties.destination: no function `{name}` takes events; there are {}",
        subscription.name,
        known.join(", ")
    ))
}

/// Names are read once, at the start, and go into every report of an event: they are never freed.
fn lasting(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn functions() -> Vec<Subscription> {
        ["billing", "orders"]
            .map(|function| Subscription {
                function,
                binding: "event",
                event_types: vec!["T"],
            })
            .to_vec()
    }

    fn parsed(written: &Value) -> Result<Vec<EventSubscription>, String> {
        parse(written.to_string().as_bytes(), &functions())
    }

    fn to_function(name: &str) -> Value {
        json!({"destination": {"endpointType": "AzureFunction", "properties": {
            "resourceId": format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/app/functions/{name}")}}})
    }

    #[test]
    fn each_function_has_a_subscription_to_its_types() {
        let subscriptions = of_functions(&functions());
        assert_eq!(
            subscriptions.iter().map(|one| one.name).collect::<Vec<_>>(),
            ["billing", "orders"]
        );
        let host = Url::parse("http://127.0.0.1:7071").unwrap();
        let address = subscriptions[0].destination.address(&host);
        assert_eq!(
            address.as_str(),
            "http://127.0.0.1:7071/runtime/webhooks/eventgrid?functionName=billing"
        );
    }

    #[test]
    fn a_file_names_its_subscriptions() {
        let subscriptions =
            parsed(&json!({"to-billing": to_function("billing"), "also": to_function("billing")}))
                .unwrap();
        let found: Vec<_> = subscriptions
            .iter()
            .map(|one| (one.name, one.destination.clone()))
            .collect();
        let billing = Destination::Function("billing".to_owned());
        assert_eq!(found, [("to-billing", billing.clone()), ("also", billing)]);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        for (written, why) in [
            (json!([]), "not a JSON object"),
            (json!({}), "no event subscription"),
            (json!({"resources": []}), "no event subscription"),
            (json!({"a": to_function("billing")}), "3 to 64"),
            (json!({"a b c": to_function("billing")}), "3 to 64"),
            (
                json!({"one": to_function("billing"), "ONE": to_function("orders")}),
                "two subscriptions",
            ),
            (
                json!({"one": to_function("Billing")}),
                "no function `Billing` takes events; there are billing, orders",
            ),
        ] {
            let refusal = parsed(&written).unwrap_err();
            assert!(refusal.contains(why), "{refusal}");
        }
        assert!(
            parse(b"resource x", &functions())
                .unwrap_err()
                .contains("az bicep build")
        );
    }
}
