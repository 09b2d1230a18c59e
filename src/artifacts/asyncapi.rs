//! `schemas/asyncapi.json`: the events as an AsyncAPI 3 document. One channel, the topic; one message for each event
//! type; one operation for each service that publishes and for each function that subscribes.

use serde_json::{Map, Value, json};

use crate::{
    events::{EventType, Role, samples, short_name},
    functions::{FUNCTIONS, Function, catalogue},
};

use super::{Artifact, samples::sample, schemas};

/// The one channel: the custom topic.
const CHANNEL: &str = "topic";

/// What every event is sent as.
const CONTENT_TYPE: &str = "application/cloudevents+json; charset=utf-8";

/// The schema that all events have in common.
const ENVELOPE: &str = "CloudEvent";

pub(super) fn artifact() -> Artifact {
    let mut generator = schemas::for_asyncapi();
    let mut events = Map::new();
    for event_type in catalogue() {
        let data = schemas::data(event_type, &mut generator);
        events.insert(short_name(event_type.name).to_owned(), Value::Object(data));
    }
    let mut types = generator.take_definitions(true);
    types.sort_keys();
    let mut schemas = Map::new();
    schemas.insert(ENVELOPE.to_owned(), envelope());
    schemas.extend(events);
    schemas.extend(types);
    let document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Orderflow's events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What the services of the sales application tell each other, from the placed order to its end. \
                Events are delivered at least once and in any order; the same `id` of the same `source` is the same event. \
                Unknown fields are to be ignored.",
            "license": { "name": env!("CARGO_PKG_LICENSE") }
        },
        "defaultContentType": CONTENT_TYPE,
        "servers": servers(),
        "channels": { CHANNEL: channel() },
        "operations": operations(),
        "components": {
            "messages": catalogue().map(|known| (short_name(known.name).to_owned(), message(known))).collect::<Map<_, _>>(),
            "schemas": schemas
        }
    });
    Artifact::json("schemas/asyncapi.json", &document)
}

fn servers() -> Value {
    json!({
        "azure": {
            "host": "{topic}.eventgrid.azure.net",
            "protocol": "https",
            "description": "An Event Grid custom topic with the CloudEvents 1.0 input schema.",
            "variables": {
                "topic": { "description": "The topic's name and region, such as sales.westeurope-1." }
            }
        },
        "local": {
            "host": "127.0.0.1:6500",
            "protocol": "http",
            "description": "The local Event Grid of `orderflow dev`."
        }
    })
}

fn channel() -> Value {
    let messages: Map<_, _> = catalogue()
        .map(|known| short_name(known.name))
        .map(|name| {
            (
                name.to_owned(),
                json!({ "$ref": format!("#/components/messages/{name}") }),
            )
        })
        .collect();
    json!({
        "address": "/api/events",
        "title": "The topic",
        "description": "Every event of the application; each subscription names the types that its function takes.",
        "messages": messages
    })
}

fn operations() -> Map<String, Value> {
    let messages = |names: Vec<&str>| -> Vec<Value> {
        names
            .into_iter()
            .map(short_name)
            .map(|name| json!({ "$ref": format!("#/channels/{CHANNEL}/messages/{name}") }))
            .collect()
    };
    let operation = |action: &str, summary: String, names: Vec<&str>| {
        json!({
            "action": action,
            "channel": { "$ref": format!("#/channels/{CHANNEL}") },
            "summary": summary,
            "messages": messages(names)
        })
    };
    let mut operations = Map::new();
    let services = FUNCTIONS
        .iter()
        .filter(|function| !function.rules().is_empty());
    for Function { name, .. } in services.clone() {
        let published: Vec<_> = catalogue()
            .filter(|known| known.service == *name)
            .map(|known| known.name)
            .collect();
        if !published.is_empty() {
            let send = operation("send", format!("What {name} publishes"), published);
            operations.insert(format!("{name}.send"), send);
        }
    }
    for function in services {
        let name = function.name;
        let receive = operation(
            "receive",
            format!("What the function {name} subscribes to"),
            function.event_types().collect(),
        );
        operations.insert(format!("{name}.receive"), receive);
    }
    operations
}

fn message(event_type: &EventType) -> Value {
    let name = short_name(event_type.name);
    let role = match event_type.role {
        Role::Step => "step",
        Role::Failure => "failure",
        Role::Refusal => "refusal",
        Role::Result => "result",
    };
    json!({
        "name": event_type.name,
        "title": name,
        "tags": [{ "name": event_type.service }, { "name": role }],
        "correlationId": {
            "description": "The order's id.",
            "location": "$message.payload#/correlationid"
        },
        "payload": {
            "allOf": [
                { "$ref": format!("#/components/schemas/{ENVELOPE}") },
                {
                    "type": "object",
                    "required": ["data"],
                    "properties": {
                        "type": { "const": event_type.name },
                        "source": { "const": format!("/sales/{}", event_type.service) },
                        "data": { "$ref": format!("#/components/schemas/{name}") }
                    }
                }
            ]
        },
        "examples": [{ "payload": sample(event_type) }]
    })
}

/// The attributes around the data, as this application writes them. Readers need no more than CloudEvents asks for.
fn envelope() -> Value {
    let text =
        |description: &str| json!({ "type": "string", "minLength": 1, "description": description });
    let trace = "00-0199c0de000070008000000000000001-7b7fd3d2463d591c-01";
    json!({
        "type": "object",
        "description": "A CloudEvent 1.0 in structured mode.",
        "required": ["specversion", "id", "source", "type", "subject", "time", "datacontenttype", "correlationid", "traceparent"],
        "properties": {
            "specversion": { "const": "1.0" },
            "id": {
                "type": "string",
                "format": "uuid",
                "description": "A UUIDv5 of order, type and attempt: doing the same thing twice makes the same event."
            },
            "source": text("`/sales/` and the name of the service that publishes it."),
            "type": text("`Sales.` and the event's name."),
            "subject": {
                "type": "string",
                "pattern": "^orders/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
                "description": "`orders/` and the order's id.",
                "examples": [format!("orders/{}", samples::ORDER_ID)]
            },
            "time": { "type": "string", "format": "date-time", "description": "When it was decided." },
            "datacontenttype": { "const": "application/json" },
            "correlationid": { "type": "string", "format": "uuid", "description": "The order's id." },
            "causationid": text("The id of the event that caused this one; absent when a request did."),
            "traceparent": {
                "type": "string",
                "pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$",
                "description": "The W3C trace context.",
                "examples": [trace]
            },
            "tracestate": text("The W3C trace state, where the cause had one.")
        }
    })
}
