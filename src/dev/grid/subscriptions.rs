//! Event subscriptions as data: who gets which events, how often they are tried, and in what form they come.
//!
//! They come from the functions that take events, one for each, or from a file.

mod expression;
mod properties;
pub(super) mod template;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value, json};
use url::Url;

use super::{
    batching::Batching, delivery_properties::DeliveryProperties, filters::Filter,
    retry::RetryPolicy, schema::Schema, topics::Origin,
};
use crate::dev::Subscription;

/// An event subscription.
#[derive(Debug, Clone)]
pub(super) struct EventSubscription {
    /// Kept for as long as the process lives: see [`lasting`].
    pub(super) name: &'static str,
    pub(super) topic: Origin,
    /// In which its events are delivered.
    pub(super) schema: Schema,
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

impl EventSubscription {
    /// What the page shows of it.
    pub(super) fn shown(&self) -> Value {
        json!({
            "name": self.name,
            "topic": self.topic.topic,
            // Nothing when it is all of them.
            "eventTypes": self.filter.types(),
        })
    }
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
            topic: Origin::DEFAULT,
            schema: Schema::CloudEvents,
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

/// The subscriptions with these properties, by name. Names are those of the whole file, although Azure wants them to differ
/// within a topic only: reports, the database and dead letters name a subscription by nothing else. `known` are those of other
/// topics, each with its topic.
pub(super) fn of_topic(
    topic: Origin,
    found: Map<String, Value>,
    known: &[(&'static str, &'static str)],
    functions: Option<&[Subscription]>,
) -> Result<Vec<EventSubscription>, String> {
    let mut subscriptions: Vec<EventSubscription> = Vec::new();
    for (name, properties) in found {
        check_name(&name)?;
        let twin = |other: &str| other.eq_ignore_ascii_case(&name);
        if subscriptions.iter().any(|other| twin(other.name)) {
            return Err(format!("there are two subscriptions `{name}`"));
        }
        if let Some((_, other)) = known.iter().find(|(other, _)| twin(other)) {
            return Err(format!(
                "there are two subscriptions `{name}`, of the topics `{other}` and `{}`: the local Event Grid tells \
                 subscriptions apart by their names alone; give one of them another name",
                topic.topic
            ));
        }
        let subscription = properties::subscription(lasting(name), topic, properties)?;
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
    functions: Option<&[Subscription]>,
) -> Result<(), String> {
    let (Destination::Function(name), Some(functions)) = (&subscription.destination, functions)
    else {
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
pub(super) fn lasting(name: String) -> &'static str {
    Box::leak(name.into_boxed_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_function_has_a_subscription_to_its_types() {
        let functions = ["billing", "orders"].map(|function| Subscription {
            function,
            binding: "event",
            event_types: vec!["T"],
        });
        let subscriptions = of_functions(&functions);
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
}
