//! What a topic accepts: events of its schema in JSON, all events of a request or none.

use std::{sync::Arc, time::Duration};

use axum::{
    http::{StatusCode, header::RETRY_AFTER},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};
use url::form_urlencoded;

use super::{event_grid_event, schema::Schema, topics::Origin};
use crate::dev::json::Json;

/// The most bytes in one request, and hence in one event.
pub(super) const MAXIMUM_BYTES: usize = 1024 * 1024;

/// The most events in one request.
pub(super) const MAXIMUM_EVENTS: usize = 5_000;

/// The only version of the publishing API for custom topics.
const API_VERSION: &str = "2018-01-01";

const ONE_EVENT: &str = "application/cloudevents+json";
const BATCH: &str = "application/cloudevents-batch+json";
const EVENT_GRID: &str = "application/json";

/// An event that the topic may accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AdmittedEvent {
    pub(super) id: String,
    pub(super) source: String,
    pub(super) event_type: String,
    pub(super) subject: Option<String>,
    /// A CloudEvent byte for byte as it came; an Event Grid event with what Event Grid adds to it.
    pub(super) text: Arc<str>,
}

/// Why the topic does not accept a request. Printed and answered in Azure's shape.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "the request is not authorized: {0}; send `aeg-sas-key: local-development`, a SAS token made with the key \
         bG9jYWwtZGV2ZWxvcG1lbnQ=, or a bearer token from /msi/token"
    )]
    Unauthorized(&'static str),
    #[error(
        "the request is not authorized: the topic takes no keys (disableLocalAuth); send a bearer token from /msi/token"
    )]
    TokensOnly,
    #[error("the api-version must be {API_VERSION}, the only one for custom topics, it is {0}")]
    ApiVersion(String),
    #[error(
        "the content type must be {ONE_EVENT} (one event) or {BATCH} (an array), it is {0}; \
the topic takes CloudEvents (for the Event Grid schema another one has that inputSchema), and no custom topic accepts \
         their binary mode"
    )]
    ContentType(String),
    #[error(
        "the content type must be {EVENT_GRID}, it is {0}; the topic takes an array of events in the Event Grid schema"
    )]
    EventGridContentType(String),
    #[error("the body is not {expected}: {problem}")]
    NotJson {
        expected: &'static str,
        problem: String,
    },
    #[error("event {position} is not a CloudEvent: {problem}")]
    NotCloudEvent { position: usize, problem: String },
    /// In the words of the service.
    #[error(
        "This resource is configured for 'EventGridEvent' schema and requires '{name}' property to be set: event \
         {position} has none"
    )]
    MissingMember { position: usize, name: &'static str },
    #[error("event {position} is not an event in the Event Grid schema: {problem}")]
    NotEventGridEvent { position: usize, problem: String },
    #[error("the request is larger than 1 MB (1048576 bytes): send fewer events at once")]
    TooLarge,
    #[error("the request has {0} events, more than 5000: send fewer at once")]
    TooManyEvents(usize),
    #[error(
        "the topic takes 5000 events or 5 MB per second (--throttle), and this is more: send it again in {} seconds",
        whole_seconds(*.0)
    )]
    Throttled(Duration),
    #[error("{0}")]
    Incomplete(String),
    #[error("the events could not be kept, and none was accepted: {0}")]
    NotKept(String),
    #[error("there is nothing here: publish to /api/events")]
    NotFound,
    #[error("there is no topic `{asked}`; there are {known}")]
    UnknownTopic { asked: String, known: String },
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::Unauthorized(_) | Self::TokensOnly => StatusCode::UNAUTHORIZED,
            Self::ApiVersion(_)
            | Self::ContentType(_)
            | Self::EventGridContentType(_)
            | Self::NotJson { .. }
            | Self::NotCloudEvent { .. }
            | Self::MissingMember { .. }
            | Self::NotEventGridEvent { .. }
            | Self::Incomplete(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge | Self::TooManyEvents(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Throttled(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::NotKept(_) => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NotFound | Self::UnknownTopic { .. } => StatusCode::NOT_FOUND,
        }
    }

    fn codes(&self) -> (&'static str, &'static str) {
        match self {
            Self::Unauthorized(_) | Self::TokensOnly => ("Unauthorized", "InvalidCredential"),
            Self::ApiVersion(_) => ("BadRequest", "InvalidApiVersion"),
            Self::ContentType(_) | Self::EventGridContentType(_) => {
                ("BadRequest", "InvalidContentType")
            }
            Self::NotJson { .. }
            | Self::NotCloudEvent { .. }
            | Self::MissingMember { .. }
            | Self::NotEventGridEvent { .. } => ("BadRequest", "InputJsonInvalid"),
            Self::Incomplete(_) => ("BadRequest", "IncompleteRequest"),
            Self::TooLarge => ("RequestEntityTooLarge", "RequestTooLarge"),
            Self::TooManyEvents(_) => ("RequestEntityTooLarge", "TooManyEvents"),
            Self::Throttled(_) => ("TooManyRequests", "TooManyRequests"),
            Self::NotKept(_) => ("InternalServerError", "NotAccepted"),
            Self::NotFound | Self::UnknownTopic { .. } => ("NotFound", "ResourceNotFound"),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, detail) = self.codes();
        let message = self.to_string();
        let body = json!({"error": {"code": code, "message": message, "details": [{"code": detail, "message": message}]}});
        let answer = (self.status(), Json(body));
        match self {
            Self::Throttled(wait) => {
                ([(RETRY_AFTER, whole_seconds(wait).to_string())], answer).into_response()
            }
            _ => answer.into_response(),
        }
    }
}

/// Rounded up, since a client that comes too early has to wait again.
fn whole_seconds(wait: Duration) -> u64 {
    wait.as_millis()
        .div_ceil(1_000)
        .max(1)
        .try_into()
        .unwrap_or(u64::MAX)
}

/// Checks the version that a request asks for. It may be missing: Azure's own examples for curl publish without it (Azure
/// documentation, "Send custom events to a web endpoint with Azure CLI").
pub(super) fn check_api_version(query: Option<&str>) -> Result<(), Refusal> {
    let mut pairs = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    match pairs.find(|(name, _)| name.eq_ignore_ascii_case("api-version")) {
        Some((_, version)) if version != API_VERSION => {
            Err(Refusal::ApiVersion(version.escape_debug().to_string()))
        }
        _ => Ok(()),
    }
}

/// Checks a request to a topic. Nothing is accepted unless every event is.
pub(super) fn admit(
    topic: Origin,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Vec<AdmittedEvent>, Refusal> {
    let media_type = media_type(content_type);
    let shown = || content_type.unwrap_or("missing").to_owned();
    let events = match (topic.schema, media_type.as_deref()) {
        (Schema::CloudEvents, Some(ONE_EVENT)) => {
            vec![parse::<&RawValue>(body, "one JSON object")?]
        }
        (Schema::CloudEvents, Some(BATCH)) | (Schema::EventGrid, Some(EVENT_GRID)) => {
            parse::<Vec<&RawValue>>(body, "a JSON array")?
        }
        (Schema::CloudEvents, _) => return Err(Refusal::ContentType(shown())),
        (Schema::EventGrid, _) => return Err(Refusal::EventGridContentType(shown())),
    };
    if events.len() > MAXIMUM_EVENTS {
        return Err(Refusal::TooManyEvents(events.len()));
    }
    let topic_id = topic.id();
    let admitted = events.into_iter().zip(1..);
    admitted
        .map(|(event, position)| match topic.schema {
            Schema::CloudEvents => {
                admit_event(event).map_err(|problem| Refusal::NotCloudEvent { position, problem })
            }
            Schema::EventGrid => {
                event_grid_event::admit(event.get(), &topic_id).map_err(|unfit| unfit.at(position))
            }
        })
        .collect()
}

/// Checks one event that was accepted before.
pub(super) fn admit_again(topic: Origin, text: &str) -> Result<Vec<AdmittedEvent>, Refusal> {
    match topic.schema {
        Schema::CloudEvents => admit(topic, Some(ONE_EVENT), text.as_bytes()),
        Schema::EventGrid => admit(topic, Some(EVENT_GRID), format!("[{text}]").as_bytes()),
    }
}

/// Why an event in the Event Grid schema is not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Unfit {
    /// This member is missing.
    Missing(&'static str),
    /// Something else is wrong.
    Wrong(String),
}

impl Unfit {
    fn at(self, position: usize) -> Refusal {
        match self {
            Self::Missing(name) => Refusal::MissingMember { position, name },
            Self::Wrong(problem) => Refusal::NotEventGridEvent { position, problem },
        }
    }
}

/// The media type in lower case and without its parameters.
fn media_type(content_type: Option<&str>) -> Option<String> {
    let essence = content_type?.split(';').next()?;
    Some(essence.trim().to_ascii_lowercase())
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8], expected: &'static str) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::NotJson {
        expected,
        problem: error.to_string(),
    })
}

fn admit_event(event: &RawValue) -> Result<AdmittedEvent, String> {
    #[derive(Deserialize)]
    struct Attributes {
        specversion: Option<Value>,
        id: Option<Value>,
        source: Option<Value>,
        #[serde(rename = "type")]
        event_type: Option<Value>,
        subject: Option<Value>,
    }
    if !event.get().starts_with('{') {
        return Err("it is not a JSON object".to_owned());
    }
    let attributes: Attributes =
        serde_json::from_str(event.get()).map_err(|error| error.to_string())?;
    let version = required("specversion", attributes.specversion)?;
    if version != "1.0" {
        return Err(format!(
            "`specversion` must be \"1.0\", it is \"{version}\""
        ));
    }
    let subject = attributes.subject.as_ref().and_then(Value::as_str);
    printable("subject", subject.unwrap_or_default())?;
    Ok(AdmittedEvent {
        id: required("id", attributes.id)?,
        source: required("source", attributes.source)?,
        event_type: required("type", attributes.event_type)?,
        subject: subject.map(str::to_owned),
        text: event.get().into(),
    })
}

/// CloudEvents strings have no control characters (specification, "Type System"); a terminal would obey them.
pub(super) fn printable(name: &str, text: &str) -> Result<(), String> {
    if text.chars().any(char::is_control) {
        return Err(format!("`{name}` has control characters"));
    }
    Ok(())
}

fn required(name: &str, value: Option<Value>) -> Result<String, String> {
    match value {
        Some(Value::String(text)) if !text.is_empty() => printable(name, &text).map(|()| text),
        Some(Value::String(_)) => Err(format!("`{name}` is empty")),
        Some(Value::Null) | None => Err(format!("`{name}` is missing")),
        Some(_) => Err(format!("`{name}` is not a string")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str =
        r#"{"specversion":"1.0","id":"e-1","source":"/sales/orders","type":"Sales.OrderPlaced"}"#;

    fn admit(content_type: Option<&str>, body: &[u8]) -> Result<Vec<AdmittedEvent>, Refusal> {
        super::admit(Origin::DEFAULT, content_type, body)
    }

    fn refusal(content_type: &str, body: &str) -> String {
        admit(Some(content_type), body.as_bytes())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn an_event_is_kept_byte_for_byte() {
        let event = r#"{ "type":"T", "data":{"b":1.0e0, "a":[1 , 2]},"x":"ä","id":"1","source":"s","specversion":"1.0"}"#;
        let admitted = admit(Some(BATCH), format!("[ {event} ,{EVENT}]").as_bytes()).unwrap();
        assert_eq!(
            admitted
                .iter()
                .map(|event| &*event.text)
                .collect::<Vec<_>>(),
            [event, EVENT]
        );
        let admitted = admit(Some(ONE_EVENT), event.as_bytes()).unwrap();
        assert_eq!(
            admitted
                .iter()
                .map(|event| &*event.text)
                .collect::<Vec<_>>(),
            [event]
        );
    }

    #[test]
    fn parameters_and_case_of_the_content_type_do_not_matter() {
        for content_type in [
            "Application/CloudEvents+JSON; charset=utf-8",
            "application/cloudevents+json;x=y",
        ] {
            assert!(
                admit(Some(content_type), EVENT.as_bytes()).is_ok(),
                "{content_type}"
            );
        }
    }

    #[test]
    fn other_content_types_are_refused() {
        assert!(refusal("application/json", EVENT).contains("binary mode"));
        assert!(
            admit(None, EVENT.as_bytes())
                .unwrap_err()
                .to_string()
                .contains("missing")
        );
    }

    #[test]
    fn the_missing_attribute_is_named() {
        for name in ["specversion", "id", "source", "type"] {
            let without = EVENT.replace(&format!("\"{name}\""), "\"other\"");
            assert!(refusal(ONE_EVENT, &without).contains(&format!("`{name}` is missing")));
            let mut event: Value = serde_json::from_str(EVENT).unwrap();
            event[name] = json!(1);
            assert!(
                refusal(ONE_EVENT, &event.to_string())
                    .contains(&format!("`{name}` is not a string"))
            );
            event[name] = json!("");
            assert!(refusal(ONE_EVENT, &event.to_string()).contains(&format!("`{name}` is empty")));
        }
        assert!(refusal(ONE_EVENT, &EVENT.replace("1.0", "0.3")).contains("0.3"));
    }

    #[test]
    fn one_bad_event_refuses_all() {
        let batch = format!("[{EVENT},{EVENT},{{}}]");
        assert!(refusal(BATCH, &batch).starts_with("event 3 is not a CloudEvent"));
        assert!(refusal(BATCH, "[1]").contains("not a JSON object"));
    }

    #[test]
    fn what_is_not_json_is_refused() {
        assert!(refusal(ONE_EVENT, "{").contains("one JSON object"));
        assert!(refusal(BATCH, EVENT).contains("a JSON array"));
        assert!(admit(Some(ONE_EVENT), b"{\"id\":\"\xff\"}").is_err());
    }

    #[test]
    fn too_many_events_are_refused() {
        let batch = |count: usize| format!("[{}]", vec!["{}"; count].join(","));
        assert!(refusal(BATCH, &batch(5_001)).contains("5001"));
        assert!(!refusal(BATCH, &batch(5_000)).contains("5000"));
    }
}
