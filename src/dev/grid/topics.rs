//! Topics as data: where they are, the schema in which they take events, and their subscriptions.
//!
//! There is always a default topic, at `/api/events`: the only one, or the one named `default`. The others are at
//! `/NAME/api/events` or at ports of their own.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    schema::Schema,
    subscriptions::{self, EventSubscription, lasting, template},
};
use crate::dev::{DevError, Subscription};

/// The name of the topic that is there even if nothing says so.
const DEFAULT: &str = "default";

/// The first segments of the grid's own paths. A topic of such a name could not be published to at `/NAME`.
const OWN_PATHS: [&str; 10] = [
    "api",
    "clock",
    "consent",
    "deadletters",
    "events",
    "faults",
    "idle",
    "msi",
    "page",
    "stream",
];

/// A topic as its events know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) topic: &'static str,
    /// The schema of its events.
    pub(super) schema: Schema,
}

impl Origin {
    /// The default topic of a grid that is told nothing else.
    pub(super) const DEFAULT: Self = Self {
        topic: DEFAULT,
        schema: Schema::CloudEvents,
    };

    /// The topic's id in the shape of ARM's. Subscription and resource group are made up.
    pub(super) fn id(self) -> String {
        format!(
            "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local/providers/Microsoft.EventGrid/topics/{}",
            self.topic
        )
    }
}

/// A custom topic.
#[derive(Debug)]
pub(super) struct CustomTopic {
    pub(super) origin: Origin,
    /// A port where it is at `/` and `/api/events`; 0 picks a free one.
    pub(super) port: Option<u16>,
    /// Takes tokens of Entra ID alone, no keys (`disableLocalAuth`).
    pub(super) tokens_only: bool,
    pub(super) subscriptions: Vec<EventSubscription>,
}

/// A topic as it stands in a file.
#[derive(Debug, Clone)]
pub(super) struct FoundTopic {
    pub(super) name: String,
    pub(super) schema: Schema,
    pub(super) port: Option<u16>,
    pub(super) tokens_only: bool,
    /// The properties of its subscriptions, by name.
    pub(super) subscriptions: Map<String, Value>,
}

impl FoundTopic {
    /// One of this name with nothing special.
    pub(super) fn new(name: &str, schema: Schema, subscriptions: Map<String, Value>) -> Self {
        Self {
            name: name.to_owned(),
            schema,
            port: None,
            tokens_only: false,
            subscriptions,
        }
    }

    /// The default topic, with these subscriptions.
    pub(super) fn default(subscriptions: Map<String, Value>) -> Self {
        Self::new(DEFAULT, Schema::CloudEvents, subscriptions)
    }
}

/// The default topic, with one subscription for each function.
pub(super) fn of_functions(functions: &[Subscription]) -> Vec<CustomTopic> {
    vec![CustomTopic {
        origin: Origin::DEFAULT,
        port: None,
        tokens_only: false,
        subscriptions: subscriptions::of_functions(functions),
    }]
}

/// Reads the topics of a file, the default one first. It has one of three forms:
///
/// - `{"topics": {NAME: {"inputSchema": …, "port": …, "subscriptions": {NAME: properties}}}}`, with the properties of
///   `Microsoft.EventGrid/eventSubscriptions` as ARM has them;
/// - `{NAME: properties}`, subscriptions of the default topic;
/// - a compiled ARM template with such resources, and perhaps with topics.
///
/// Whatever the local grid does not do is an error that names the member, and so is a function that is none of `functions`,
/// if they are known.
pub(super) fn read(
    file: &Path,
    functions: Option<&[Subscription]>,
) -> Result<Vec<CustomTopic>, DevError> {
    let written = std::fs::read(file).map_err(|error| error.to_string());
    let topics = written.and_then(|written| parse(&written, functions));
    topics.map_err(|problem| DevError::Subscriptions {
        file: file.to_path_buf(),
        problem,
    })
}

fn parse(written: &[u8], functions: Option<&[Subscription]>) -> Result<Vec<CustomTopic>, String> {
    let written: Value = serde_json::from_slice(written).map_err(|error| {
        format!("it is not JSON ({error}); compile Bicep with `az bicep build`")
    })?;
    let Value::Object(written) = written else {
        return Err(
            "it is not a JSON object of topics or of subscriptions by name, nor an ARM template"
                .to_owned(),
        );
    };
    let found = if written.contains_key("$schema") || written.contains_key("resources") {
        template::topics(&Value::Object(written))?
    } else if written.contains_key("topics") {
        listed(Value::Object(written))?
    } else {
        vec![FoundTopic::default(written)]
    };
    // A topic alone shows what is published to it.
    let nothing = |topic: &FoundTopic| topic.name == DEFAULT && topic.subscriptions.is_empty();
    if found.iter().all(nothing) {
        return Err("it has no event subscription in it".to_owned());
    }
    topics(found, functions)
}

/// `{"topics": …}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    topics: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ListedTopic {
    #[serde(default = "cloud_events")]
    input_schema: Schema,
    port: Option<u16>,
    #[serde(default)]
    disable_local_auth: bool,
    #[serde(default)]
    subscriptions: Map<String, Value>,
}

fn cloud_events() -> Schema {
    Schema::CloudEvents
}

fn listed(written: Value) -> Result<Vec<FoundTopic>, String> {
    let no_more = "; the local Event Grid does no more than that";
    let Listed { topics } =
        serde_json::from_value(written).map_err(|error| format!("{error}{no_more}"))?;
    let found = topics.into_iter().map(|(name, topic)| {
        let topic: ListedTopic = serde_path_to_error::deserialize(topic).map_err(|error| {
            format!(
                "topics.{name}.{}: {}{no_more}",
                error.path().clone(),
                error.inner()
            )
        })?;
        Ok(FoundTopic {
            name,
            schema: topic.input_schema,
            port: topic.port,
            tokens_only: topic.disable_local_auth,
            subscriptions: topic.subscriptions,
        })
    });
    found.collect()
}

/// The default topic comes first. If several have other names, there is one more of that name, without subscriptions.
fn topics(
    mut found: Vec<FoundTopic>,
    functions: Option<&[Subscription]>,
) -> Result<Vec<CustomTopic>, String> {
    let default = found.iter().position(|topic| topic.name == DEFAULT);
    match default {
        Some(position) => found.swap(0, position),
        None if found.len() > 1 => found.insert(0, FoundTopic::default(Map::new())),
        None => {}
    }
    let mut topics: Vec<CustomTopic> = Vec::new();
    for topic in found {
        check_name(&topic.name)?;
        if topics
            .iter()
            .any(|other| other.origin.topic.eq_ignore_ascii_case(&topic.name))
        {
            return Err(format!("there are two topics `{}`", topic.name));
        }
        let origin = Origin {
            topic: lasting(topic.name),
            schema: topic.schema,
        };
        let known = topics.iter().flat_map(|topic| &topic.subscriptions);
        let known: Vec<_> = known.map(|one| (one.name, one.topic.topic)).collect();
        topics.push(CustomTopic {
            origin,
            port: topic.port,
            tokens_only: topic.tokens_only,
            subscriptions: subscriptions::of_topic(origin, topic.subscriptions, &known, functions)?,
        });
    }
    Ok(topics)
}

fn check_name(name: &str) -> Result<(), String> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    if !((3..=50).contains(&name.len()) && name.chars().all(allowed)) {
        return Err(format!(
            "`{name}` is no name for a topic: Event Grid wants 3 to 50 letters, digits and hyphens"
        ));
    }
    if OWN_PATHS.contains(&name.to_ascii_lowercase().as_str()) {
        return Err(format!(
            "a topic cannot be named `{name}`: the local Event Grid has a path /{name} of its own"
        ));
    }
    Ok(())
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

    fn parsed(written: &Value) -> Result<Vec<CustomTopic>, String> {
        parse(written.to_string().as_bytes(), Some(&functions()))
    }

    fn to(name: &str) -> Value {
        json!({"destination": {"endpointType": "AzureFunction", "properties": {
            "resourceId": format!("/subscriptions/s/resourceGroups/g/providers/Microsoft.Web/sites/app/functions/{name}")}}})
    }

    /// The names of topics and their subscriptions.
    fn names(topics: &[CustomTopic]) -> Vec<(&str, Vec<&str>)> {
        let names = topics.iter().map(|topic| {
            let subscriptions = topic.subscriptions.iter().map(|one| one.name);
            (topic.origin.topic, subscriptions.collect())
        });
        names.collect()
    }

    #[test]
    fn a_file_names_the_subscriptions_of_the_default_topic() {
        let topics = parsed(&json!({"to-billing": to("billing"), "also": to("billing")})).unwrap();
        assert_eq!(names(&topics), [("default", vec!["to-billing", "also"])]);
        assert_eq!(topics[0].origin, Origin::DEFAULT);
    }

    #[test]
    fn a_file_names_topics_and_the_default_one_comes_first() {
        let stock = json!({"inputSchema": "EventGridSchema", "port": 6501, "subscriptions": {"one": to("billing")}});
        let default = json!({"subscriptions": {"two": to("orders")}});
        let topics = parsed(&json!({"topics": {"stock": stock, "default": default}})).unwrap();
        let expected = [("default", vec!["two"]), ("stock", vec!["one"])];
        assert_eq!(names(&topics), expected);
        assert_eq!(topics[1].origin.schema, Schema::EventGrid);
        assert_eq!(topics[1].port, Some(6501));
        // The only one is the default one, whatever its name.
        let topics = parsed(&json!({"topics": {"stock": stock}})).unwrap();
        assert_eq!(names(&topics), [("stock", vec!["one"])]);
        // Of several that have other names, none is.
        let topics = parsed(&json!({"topics": {"stock": stock, "more": {}}})).unwrap();
        let expected = [
            ("default", vec![]),
            ("stock", vec!["one"]),
            ("more", vec![]),
        ];
        assert_eq!(names(&topics), expected);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let topic = |member: &str, value: Value| {
            let mut topic = json!({"subscriptions": {"one": to("billing")}});
            topic[member] = value;
            json!({"topics": {"stock": topic}})
        };
        let twice = json!({"subscriptions": {"one": to("billing")}});
        for (written, why) in [
            (json!([]), "not a JSON object"),
            (json!({}), "no event subscription"),
            (json!({"resources": []}), "no event subscription"),
            (json!({"topics": {"default": {}}}), "no event subscription"),
            (json!({"a": to("billing")}), "3 to 64"),
            (json!({"a b c": to("billing")}), "3 to 64"),
            (
                json!({"one": to("billing"), "ONE": to("orders")}),
                "two subscriptions `ONE`",
            ),
            (
                json!({"topics": {"stock": twice, "other": twice}}),
                "two subscriptions `one`, of the topics `stock` and `other`",
            ),
            (json!({"topics": {"st": twice}}), "3 to 50"),
            (json!({"topics": {"st_ock": twice}}), "3 to 50"),
            (json!({"topics": {"Events": twice}}), "a path /Events"),
            (
                json!({"topics": {"abc": twice, "ABC": {}}}),
                "two topics `ABC`",
            ),
            (json!({"topics": [], "more": 1}), "invalid type"),
            (
                topic("inputSchema", json!("CustomEventSchema")),
                "topics.stock.inputSchema: unknown variant `CustomEventSchema`",
            ),
            (topic("port", json!(70_000)), "topics.stock.port"),
            (topic("inputSchemaMapping", json!({})), "inputSchemaMapping"),
            (
                json!({"one": to("Billing")}),
                "no function `Billing` takes events; there are billing, orders",
            ),
        ] {
            let refusal = parsed(&written).unwrap_err();
            assert!(refusal.contains(why), "{refusal}");
        }
        assert!(
            parse(b"resource x", Some(&functions()))
                .unwrap_err()
                .contains("az bicep build")
        );
    }
}
