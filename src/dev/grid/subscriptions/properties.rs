//! The properties of an event subscription in the shape that ARM has for them, as far as the local grid does what they say.

use chrono::{DateTime, Utc};
use reqwest::header::AUTHORIZATION;
use serde::{
    Deserialize, Deserializer,
    de::{self, IgnoredAny},
};
use serde_json::Value;
use url::Url;

use super::{Destination, EventSubscription, SecureWebhook};
use crate::dev::{
    ambient::now,
    client::is_on_this_machine,
    grid::{
        batching::Batching,
        delivery_properties::{DeliveryProperties, WrittenProperty},
        filters::Filter,
        retry::RetryPolicy,
        schema::Schema,
        topics::Origin,
    },
};

/// `properties` of `Microsoft.EventGrid/eventSubscriptions`. A member that is not here is an error.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Properties {
    destination: Option<WrittenDestination>,
    delivery_with_resource_identity: Option<WithIdentity>,
    event_delivery_schema: Option<Schema>,
    #[serde(default)]
    filter: Option<Filter>,
    retry_policy: Option<RetryPolicy>,
    dead_letter_destination: Option<DeadLetterDestination>,
    dead_letter_with_resource_identity: Option<DeadLettersWithIdentity>,
    #[serde(default, deserialize_with = "time_or_nothing")]
    expiration_time_utc: Option<DateTime<Utc>>,
    /// For people.
    #[serde(rename = "labels")]
    _labels: Option<IgnoredAny>,
}

/// Modules of the Bicep registry write an empty text for "never".
fn time_or_nothing<'de, D: Deserializer<'de>>(
    written: D,
) -> Result<Option<DateTime<Utc>>, D::Error> {
    let text = Option::<String>::deserialize(written)?;
    let time = text
        .filter(|text| !text.is_empty())
        .map(|text| text.parse());
    time.transpose().map_err(de::Error::custom)
}

/// There is nobody here to show an identity to.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WithIdentity {
    destination: WrittenDestination,
    #[serde(rename = "identity")]
    _identity: Option<IgnoredAny>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct DeadLettersWithIdentity {
    dead_letter_destination: DeadLetterDestination,
    #[serde(rename = "identity")]
    _identity: Option<IgnoredAny>,
}

/// A container here is always the folder of dead letters.
#[derive(Debug, Deserialize)]
#[serde(tag = "endpointType", content = "properties", deny_unknown_fields)]
enum DeadLetterDestination {
    StorageBlob(IgnoredAny),
}

#[derive(Debug, Deserialize)]
#[serde(tag = "endpointType", content = "properties", deny_unknown_fields)]
enum WrittenDestination {
    WebHook(WebHook),
    AzureFunction(AzureFunction),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WebHook {
    endpoint_url: String,
    max_events_per_batch: Option<u32>,
    preferred_batch_size_in_kilobytes: Option<u32>,
    delivery_attribute_mappings: Option<Vec<WrittenProperty>>,
    azure_active_directory_tenant_id: Option<String>,
    azure_active_directory_application_id_or_uri: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AzureFunction {
    resource_id: String,
    max_events_per_batch: Option<u32>,
    preferred_batch_size_in_kilobytes: Option<u32>,
    delivery_attribute_mappings: Option<Vec<WrittenProperty>>,
}

/// The subscription with these properties, or the member that is wrong and why.
pub(super) fn subscription(
    name: &'static str,
    topic: Origin,
    properties: Value,
) -> Result<EventSubscription, String> {
    let properties: Properties = serde_path_to_error::deserialize(properties).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." {
            String::new()
        } else {
            format!(".{path}")
        };
        format!(
            "{name}: properties{path}: {}; the local Event Grid does no more than that",
            error.into_inner()
        )
    })?;
    let wrong = |member: &str, problem: &str| format!("{name}: properties.{member}: {problem}");
    // As the topic takes them, unless said otherwise (`az eventgrid event-subscription create --help`).
    let schema = properties.event_delivery_schema.unwrap_or(topic.schema);
    if !topic.schema.can_become(schema) {
        let problem = format!(
            "`{}` is not supported: the topic takes CloudEvents, so it can be {} only",
            schema.name(),
            topic.schema.name()
        );
        return Err(wrong("eventDeliverySchema", &problem));
    }
    if let Some(time) = properties.expiration_time_utc.filter(|time| *time <= now()) {
        let problem =
            format!("{time} has passed; give a later time, or none for a subscription that stays");
        return Err(wrong("expirationTimeUtc", &problem));
    }
    let mut filter = properties.filter.unwrap_or_default();
    filter
        .check(topic.schema)
        .map_err(|problem| wrong("filter", &format!("it {problem}")))?;
    let (member, written) = match (
        properties.destination,
        properties.delivery_with_resource_identity,
    ) {
        (Some(destination), None) => ("destination", destination),
        (None, Some(with)) => ("deliveryWithResourceIdentity.destination", with.destination),
        (None, None) => return Err(wrong("destination", "it is missing")),
        (Some(_), Some(_)) => {
            return Err(wrong(
                "destination",
                "there is deliveryWithResourceIdentity too; keep one of them",
            ));
        }
    };
    let (destination, form) = written
        .resolve()
        .map_err(|problem| wrong(member, &problem))?;
    let in_destination = |problem: String| wrong(&format!("{member}.properties"), &problem);
    let batching = Batching::new(form.events, form.kilobytes).map_err(in_destination)?;
    let delivery_properties =
        DeliveryProperties::new(form.properties, topic.schema).map_err(in_destination)?;
    if batching.is_some() && delivery_properties.differ_by_event() {
        return Err(in_destination(
            "deliveryAttributeMappings of type Dynamic together with output batching are not supported: \
             the events of a request would need one value; keep maxEventsPerBatch at 1"
                .to_owned(),
        ));
    }
    if form.secure.is_some() && delivery_properties.sets(&AUTHORIZATION) {
        return Err(in_destination(
            "deliveryAttributeMappings sets the header authorization, which carries the token for \
             azureActiveDirectoryApplicationIdOrUri; keep one of them"
                .to_owned(),
        ));
    }
    let letters = properties.dead_letter_destination.or(properties
        .dead_letter_with_resource_identity
        .map(|with| with.dead_letter_destination));
    Ok(EventSubscription {
        name,
        topic,
        schema,
        destination,
        filter,
        retry: properties.retry_policy.unwrap_or_default(),
        batching,
        properties: delivery_properties,
        secure: form.secure,
        expires_at: properties.expiration_time_utc,
        keeps_dead_letters: letters.is_some(),
    })
}

/// The form in which events are sent.
struct Form {
    events: Option<u32>,
    kilobytes: Option<u32>,
    properties: Vec<WrittenProperty>,
    secure: Option<SecureWebhook>,
}

impl WrittenDestination {
    fn resolve(self) -> Result<(Destination, Form), String> {
        match self {
            Self::AzureFunction(function) => {
                let form = Form {
                    events: function.max_events_per_batch,
                    kilobytes: function.preferred_batch_size_in_kilobytes,
                    properties: function.delivery_attribute_mappings.unwrap_or_default(),
                    secure: None,
                };
                Ok((function_of(&function.resource_id)?, form))
            }
            Self::WebHook(webhook) => {
                let form = Form {
                    events: webhook.max_events_per_batch,
                    kilobytes: webhook.preferred_batch_size_in_kilobytes,
                    properties: webhook.delivery_attribute_mappings.unwrap_or_default(),
                    secure: secure_webhook(
                        webhook.azure_active_directory_tenant_id,
                        webhook.azure_active_directory_application_id_or_uri,
                    )?,
                };
                Ok((webhook_at(&webhook.endpoint_url)?, form))
            }
        }
    }
}

fn secure_webhook(
    tenant: Option<String>,
    application: Option<String>,
) -> Result<Option<SecureWebhook>, String> {
    match (tenant, application) {
        (None, None) => Ok(None),
        (Some(tenant), Some(application)) if !tenant.is_empty() && !application.is_empty() => {
            Ok(Some(SecureWebhook {
                tenant,
                application,
            }))
        }
        _ => Err(
            "properties.azureActiveDirectoryTenantId and properties.azureActiveDirectoryApplicationIdOrUri \
             belong together: give both or none"
                .to_owned(),
        ),
    }
}

fn function_of(resource_id: &str) -> Result<Destination, String> {
    let name = resource_id.rsplit_once("/functions/").map(|(_, name)| name);
    match name {
        Some(name) if !name.is_empty() && !name.contains('/') => {
            Ok(Destination::Function(name.to_owned()))
        }
        _ => Err("properties.resourceId does not end with /functions/NAME".to_owned()),
    }
}

/// The address is not part of any message: it may hold a key.
fn webhook_at(address: &str) -> Result<Destination, String> {
    let address = Url::parse(address)
        .map_err(|error| format!("properties.endpointUrl is not an address: {error}"))?;
    let function = address
        .query_pairs()
        .find_map(|(name, value)| (name == "functionName").then(|| value.into_owned()));
    if let Some(function) = function {
        return Ok(Destination::Function(function));
    }
    if is_on_this_machine(&address) && address.scheme() == "http" {
        return Ok(Destination::Webhook(address));
    }
    Err(format!(
        "properties.endpointUrl leads to {}://{}: the local Event Grid delivers to this machine only; \
         give http://127.0.0.1:PORT/… or an address with ?functionName=NAME",
        address.scheme(),
        address.host_str().unwrap_or_default()
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn read(properties: Value) -> Result<EventSubscription, String> {
        subscription("one", Origin::DEFAULT, properties)
    }

    fn webhook(url: &str) -> Value {
        json!({"endpointType": "WebHook", "properties": {"endpointUrl": url}})
    }

    #[test]
    fn a_whole_subscription_is_read() {
        let function = json!({"endpointType": "AzureFunction", "properties": {
            "resourceId": "/subscriptions/s/x/functions/billing", "maxEventsPerBatch": 20, "preferredBatchSizeInKilobytes": 64}});
        let read = read(json!({
            "deliveryWithResourceIdentity": {"identity": {"type": "SystemAssigned"}, "destination": function},
            "eventDeliverySchema": "CloudEventSchemaV1_0",
            "filter": {"includedEventTypes": ["T"], "subjectBeginsWith": "", "advancedFilters": []},
            "retryPolicy": {"maxDeliveryAttempts": 3, "eventTimeToLiveInMinutes": 60},
            "deadLetterWithResourceIdentity": {"identity": {"type": "SystemAssigned"}, "deadLetterDestination": {
                "endpointType": "StorageBlob", "properties": {"resourceId": "r", "blobContainerName": "c"}}},
            "labels": ["a"],
        }))
        .unwrap();
        assert_eq!(
            read.destination,
            Destination::Function("billing".to_owned())
        );
        assert_eq!(read.filter.types(), Some(&["T".to_owned()][..]));
        assert_eq!(read.retry.maximum_attempts, 3);
        assert_eq!(read.retry.time_to_live, Duration::from_secs(3_600));
        assert_eq!(
            read.batching,
            Some(Batching {
                events: 20,
                bytes: 65_536
            })
        );
        assert!(read.keeps_dead_letters);
    }

    #[test]
    fn what_is_not_said_is_as_in_azure() {
        let read =
            read(json!({"destination": webhook("http://localhost:9000/hook?code=x")})).unwrap();
        let Destination::Webhook(address) = read.destination else {
            panic!()
        };
        assert_eq!(address.as_str(), "http://localhost:9000/hook?code=x");
        assert_eq!(read.filter.types(), None);
        assert_eq!(read.retry, RetryPolicy::default());
        assert_eq!(read.batching, None);
        assert!(!read.keeps_dead_letters);
    }

    #[test]
    fn a_webhook_of_the_functions_host_is_a_function() {
        let address =
            "https://app.azurewebsites.net/runtime/webhooks/eventgrid?code=s&functionName=orders";
        let read = read(json!({"destination": webhook(address)})).unwrap();
        assert_eq!(read.destination, Destination::Function("orders".to_owned()));
    }

    fn with(member: &str, value: Value) -> Value {
        let mut properties = json!({"destination": webhook("http://127.0.0.1:1")});
        properties[member] = value;
        properties
    }

    fn hook(member: &str, value: Value) -> Value {
        let mut properties = json!({"destination": webhook("http://127.0.0.1:1")});
        properties["destination"]["properties"][member] = value;
        properties
    }

    fn refuses(properties: Value, place: &str, why: &str) {
        let refusal = read(properties).unwrap_err();
        let place = format!("one: {place}");
        assert!(refusal.contains(&place), "{place}: {refusal}");
        assert!(refusal.contains(why), "{why}: {refusal}");
        assert!(!refusal.contains("secret"), "{refusal}");
    }

    #[test]
    fn what_the_local_grid_does_not_do_is_named_with_its_place() {
        for (properties, place, why) in [
            (json!({}), "properties.destination", "missing"),
            (
                json!({"destination": {"endpointType": "ServiceBusQueue", "properties": {"resourceId": "r"}}}),
                "properties.destination",
                "ServiceBusQueue",
            ),
            (
                json!({"destination": webhook("https://example.com/x?code=secret")}),
                "properties.destination",
                "this machine only",
            ),
            (
                json!({"destination": {"endpointType": "AzureFunction", "properties": {"resourceId": "/sites/app"}}}),
                "properties.destination",
                "/functions/NAME",
            ),
            (
                with("eventDeliverySchema", json!("EventGridSchema")),
                "properties.eventDeliverySchema",
                "EventGridSchema",
            ),
            (
                with("expirationTimeUtc", json!("tomorrow")),
                "properties.expirationTimeUtc",
                "input contains invalid characters",
            ),
            (
                with("expirationTimeUtc", json!("2020-01-01T00:00:00Z")),
                "properties.expirationTimeUtc",
                "has passed",
            ),
            (
                with("filter", json!({"subjectContains": "x"})),
                "properties.filter",
                "subjectContains",
            ),
            (
                with(
                    "filter",
                    json!({"advancedFilters": [{"operatorType": "StringLike", "key": "id"}]}),
                ),
                "properties.filter.advancedFilters[0]",
                "StringLike",
            ),
            (
                with(
                    "filter",
                    json!({"advancedFilters": vec![json!({"operatorType": "IsNotNull", "key": "id"}); 26]}),
                ),
                "properties.filter",
                "26",
            ),
            (
                with("retryPolicy", json!({"maxDeliveryAttempts": 31})),
                "properties.retryPolicy",
                "30",
            ),
            (
                with("retryPolicy", json!({"eventTimeToLiveInMinutes": 0})),
                "properties.retryPolicy",
                "1440",
            ),
            (
                with(
                    "deadLetterDestination",
                    json!({"endpointType": "Tape", "properties": {}}),
                ),
                "properties.deadLetterDestination",
                "Tape",
            ),
        ] {
            refuses(properties, place, why);
        }
    }

    #[test]
    fn a_form_of_delivery_that_event_grid_does_not_have_is_refused() {
        for (properties, place, why) in [
            (
                hook("azureActiveDirectoryTenantId", json!("t")),
                "properties.destination",
                "belong together",
            ),
            (
                hook("maxEventsPerBatch", json!(5_001)),
                "properties.destination.properties",
                "5000",
            ),
            (
                hook(
                    "deliveryAttributeMappings",
                    json!([{"name": "aeg-x", "type": "Static", "properties": {"value": "v"}}]),
                ),
                "properties.destination.properties",
                "aeg-",
            ),
        ] {
            refuses(properties, place, why);
        }
        let mut both = hook("maxEventsPerBatch", json!(2));
        both["destination"]["properties"]["deliveryAttributeMappings"] =
            json!([{"name": "x", "type": "Dynamic", "properties": {"sourceField": "id"}}]);
        refuses(both, "properties.destination.properties", "output batching");
    }
}
