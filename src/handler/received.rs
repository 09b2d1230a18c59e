//! What arrives at an Event Grid function's route: from the host or straight, one event or several.
//!
//! The host wraps events in `{"Data":{…},"Metadata":{…}}`; a webhook or curl sends CloudEvents as they are. The two
//! are told apart by content type and the first token of the body.

use std::{borrow::Cow, collections::BTreeMap};

use axum::http::{HeaderMap, header::CONTENT_TYPE};
use cloudevents::Event;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{
    cloud_event::{self, DecodeError, Embedded, Mode},
    events::Invalid,
    functions::EVENT_BINDING,
};

/// How often a JSON text may be wrapped in a JSON string: a Service Bus message is a string in a string.
const MAX_WRAPPING: usize = 3;

/// What arrived.
pub(super) enum Received<'a> {
    /// From the host: what cannot be read is parked, since the host knows only "done" and "again".
    Invocation(Vec<Part<'a>>),
    /// Straight: the sender is told what is wrong.
    Direct(Result<Vec<Event>, DecodeError>),
}

/// One event of an invocation.
pub(super) struct Part<'a> {
    /// What it says.
    pub(super) event: Result<Event, Invalid>,
    /// As it came.
    pub(super) json: Json<'a>,
}

/// The text of an event.
pub(super) enum Json<'a> {
    /// The text.
    Text(Cow<'a, str>),
    /// It is looked for in the invocation's body when somebody asks for it: nearly nobody does.
    InvocationOf(&'a [u8]),
}

impl Json<'_> {
    /// The text.
    pub(super) fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::InvocationOf(body) => envelope(body)
                .and_then(|data| data.get(EVENT_BINDING).map(|json| json.get().into()))
                .unwrap_or_else(|| String::from_utf8_lossy(body)),
        }
    }
}

/// The host's envelope around one event that is an object: what nearly every invocation is, read in one pass.
#[derive(Deserialize)]
struct Usual {
    #[serde(rename = "Data")]
    data: UsualData,
}

#[derive(Deserialize)]
struct UsualData {
    /// Named as [`EVENT_BINDING`].
    event: Embedded,
}

/// The host's envelope. Everything in `Metadata` is in the event too.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "Data", borrow)]
    data: Option<BTreeMap<Cow<'a, str>, &'a RawValue>>,
}

/// Reads what arrived.
pub(super) fn read<'a>(headers: &HeaderMap, body: &'a [u8]) -> Received<'a> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let declared =
        cloud_event::mode(content_type) != Mode::Binary || headers.contains_key("ce-specversion");
    if declared {
        return Received::Direct(cloud_event::from_http(headers, body));
    }
    if let Some(event) = usual(body) {
        return Received::Invocation(vec![Part {
            event: Ok(event),
            json: Json::InvocationOf(body),
        }]);
    }
    match envelope(body) {
        Some(data) => Received::Invocation(parts(&data)),
        _ if from_host(headers) => Received::Invocation(vec![unreadable(body)]),
        // A structured event under application/json, or under what curl sends unasked.
        _ if starts_with(body, b'{') && has_specversion(body) => {
            Received::Direct(cloud_event::from_json(body).map(|event| vec![event]))
        }
        // Whatever else it is, it is no CloudEvent, and the decoder says what one needs.
        _ => Received::Direct(cloud_event::from_http(headers, body)),
    }
}

/// The event of an invocation, if it is the usual one and there is nothing to say against the event.
fn usual(body: &[u8]) -> Option<Event> {
    // Checked once for the whole text: serde_json would do it string by string.
    let text = str::from_utf8(body).ok()?;
    let Usual { data } = serde_json::from_str(text).ok()?;
    data.event.0.ok()
}

fn envelope(body: &[u8]) -> Option<BTreeMap<Cow<'_, str>, &RawValue>> {
    serde_json::from_str::<Envelope<'_>>(str::from_utf8(body).ok()?)
        .ok()?
        .data
}

fn from_host(headers: &HeaderMap) -> bool {
    headers.contains_key("x-azure-functions-invocationid")
}

fn starts_with(body: &[u8], token: u8) -> bool {
    body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&token)
}

fn has_specversion(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Versioned {
        specversion: Option<serde::de::IgnoredAny>,
    }
    serde_json::from_slice(body).is_ok_and(|Versioned { specversion }| specversion.is_some())
}

fn unreadable(body: &[u8]) -> Part<'_> {
    let expected =
        format!(r#"must be an invocation, {{"Data":{{"{EVENT_BINDING}":…}},"Metadata":{{…}}}}"#);
    Part {
        event: Err(Invalid::new("body", expected)),
        json: Json::Text(String::from_utf8_lossy(body)),
    }
}

/// The events under the trigger's binding: an object, a JSON text in a string, or an array of either.
fn parts<'a>(data: &BTreeMap<Cow<'a, str>, &'a RawValue>) -> Vec<Part<'a>> {
    let bound = data
        .get(EVENT_BINDING)
        .or_else(|| data.values().next().filter(|_| data.len() == 1));
    let Some(bound) = bound else {
        let names: Vec<_> = data.keys().map(AsRef::as_ref).collect();
        let problem = format!(
            "must hold the trigger's binding {EVENT_BINDING:?}, got [{}]",
            names.join(", ")
        );
        return vec![Part {
            event: Err(Invalid::new("Data", problem)),
            json: Json::Text(names.join(", ").into()),
        }];
    };
    let mut parts = Vec::with_capacity(1);
    unwrap(Cow::Borrowed(bound.get()), 0, &mut parts);
    parts
}

fn unwrap<'a>(json: Cow<'a, str>, wrapping: usize, parts: &mut Vec<Part<'a>>) {
    let first = json.trim_start().bytes().next();
    match first {
        Some(b'"') if wrapping < MAX_WRAPPING => {
            if let Ok(inner) = serde_json::from_str::<String>(&json) {
                return unwrap(Cow::Owned(inner), wrapping + 1, parts);
            }
        }
        Some(b'[') if wrapping < MAX_WRAPPING => {
            if let Some(items) = items(&json) {
                return items
                    .into_iter()
                    .for_each(|item| unwrap(item, wrapping + 1, parts));
            }
        }
        _ => {}
    }
    let event = cloud_event::from_json(json.as_bytes()).map_err(|error| {
        let problem = format!("expected {}, came {}", error.expected, error.came);
        Invalid::new(error.path, problem)
    });
    let json = Json::Text(json);
    parts.push(Part { event, json });
}

/// The elements of a JSON array, borrowed where the array is.
fn items<'a>(json: &Cow<'a, str>) -> Option<Vec<Cow<'a, str>>> {
    let items = match json {
        Cow::Borrowed(json) => serde_json::from_str::<Vec<&RawValue>>(json)
            .ok()?
            .into_iter()
            .map(|item| Cow::Borrowed(item.get()))
            .collect(),
        Cow::Owned(json) => serde_json::from_str::<Vec<&RawValue>>(json)
            .ok()?
            .into_iter()
            .map(|item| Cow::Owned(item.get().to_owned()))
            .collect(),
    };
    Some(items)
}
