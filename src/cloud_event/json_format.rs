//! The JSON event format and the JSON batch format (JSON format sections 2 to 4).

use std::{borrow::Cow, fmt};

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::SecondsFormat;
use cloudevents::{AttributesReader, Data, Event, event::ExtensionValue};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
    ser::SerializeMap,
};

use super::{
    MAX_BATCH,
    attributes::{self, Content, Member, json_text},
    decode_error::DecodeError,
};

/// One event in the JSON format (an object).
pub fn from_json(json: &[u8]) -> Result<Event, DecodeError> {
    let Members(members) = parse(json)
        .map_err(|error| DecodeError::json("", "a CloudEvent as a JSON object", json, &error))?;
    attributes::event(members)
}

/// An event in the JSON format that is part of a larger JSON text, or what is wrong with it.
pub struct Embedded(pub Result<Event, DecodeError>);

impl<'de> Deserialize<'de> for Embedded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Members(members) = Members::deserialize(deserializer)?;
        Ok(Self(attributes::event(members)))
    }
}

/// Checks the encoding once for the whole text: `serde_json` would do it string by string.
fn parse<'a, T: Deserialize<'a>>(json: &'a [u8]) -> serde_json::Result<T> {
    match str::from_utf8(json) {
        Ok(text) => serde_json::from_str(text),
        // serde_json says where.
        Err(_) => serde_json::from_slice(json),
    }
}

/// A list of events in the JSON batch format, at most [`MAX_BATCH`] of them.
pub(super) fn batch_from_json(json: &[u8]) -> Result<Vec<Event>, DecodeError> {
    let Batch(events) = parse(json)
        .map_err(|error| DecodeError::json("", "CloudEvents in a JSON array", json, &error))?;
    events
}

/// The event in the JSON format; equal events give equal bytes.
pub fn to_json(event: &Event) -> Vec<u8> {
    let text = json_text(event);
    // Enough for the attributes of most events, so that the text need not move as it grows.
    let mut json = Vec::with_capacity(512 + text.map_or(0, str::len));
    // Writing to memory fails only for maps whose keys are no strings, and there is none.
    let _ = serde_json::to_writer(&mut json, &JsonFormat(event));
    if let Some(text) = text {
        json.pop();
        json.extend_from_slice(br#","data":"#);
        json.extend_from_slice(text.as_bytes());
        json.push(b'}');
    }
    json
}

/// The members of a JSON object, strings borrowed from the input, judged only once all are there: what `data` means
/// depends on `datacontenttype`, which may come after it.
struct Members<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a CloudEvent as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
        let mut members = Vec::with_capacity(16);
        while let Some(Name(name)) = map.next_key()? {
            let content = if name == "data" {
                Content::Data(map.next_value()?)
            } else {
                map.next_value()?
            };
            members.push((name, content));
        }
        Ok(Members(members))
    }
}

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Deserialize<'de> for Content<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Content<'de>, E> {
        Ok(Content::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Content<'de>, E> {
        Ok(Content::Boolean(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Content<'de>, E> {
        Ok(i32::try_from(value)
            .map_or_else(|_| Content::OutOfRange(value.to_string()), Content::Integer))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Content<'de>, E> {
        Ok(i32::try_from(value)
            .map_or_else(|_| Content::OutOfRange(value.to_string()), Content::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Content<'de>, E> {
        // An integer beyond 64 bits comes as a float too.
        if value.fract() == 0.0 && value.abs() > f64::from(i32::MAX) {
            return Ok(Content::OutOfRange(value.to_string()));
        }
        Ok(Content::NoScalar("a number with a fraction"))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Content<'de>, E> {
        Ok(Content::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Content<'de>, E> {
        Ok(Content::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Content<'de>, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Content::NoScalar("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Content<'de>, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Content::NoScalar("an object"))
    }
}

/// The events of a batch, or what is wrong with the first one that is wrong.
struct Batch(Result<Vec<Event>, DecodeError>);

impl<'de> Deserialize<'de> for Batch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(BatchVisitor)
    }
}

struct BatchVisitor;

impl<'de> Visitor<'de> for BatchVisitor {
    type Value = Batch;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CloudEvents in a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Batch, A::Error> {
        let mut events: Result<Vec<Event>, DecodeError> = Ok(Vec::new());
        while let Ok(decoded) = &mut events {
            let position = decoded.len();
            let Some(Embedded(event)) = elements.next_element()? else {
                return Ok(Batch(events));
            };
            if position == MAX_BATCH {
                let expected = format!("at most {MAX_BATCH} events");
                events = Err(DecodeError::malformed("", expected, "more"));
                break;
            }
            match event {
                Ok(event) => decoded.push(event),
                Err(error) => events = Err(error.under(&format!("[{position}]."))),
            }
        }
        // serde_json wants the rest of the array read.
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Batch(events))
    }
}

/// Writes an event in the JSON format, extensions in the order of their names, all but data that is JSON text.
struct JsonFormat<'a>(&'a Event);

impl Serialize for JsonFormat<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let JsonFormat(event) = self;
        let mut members = serializer.serialize_map(None)?;
        members.serialize_entry("specversion", "1.0")?;
        members.serialize_entry("id", event.id())?;
        members.serialize_entry("source", event.source())?;
        members.serialize_entry("type", event.ty())?;
        if let Some(subject) = event.subject() {
            members.serialize_entry("subject", subject)?;
        }
        if let Some(time) = event.time() {
            members.serialize_entry("time", &time.to_rfc3339_opts(SecondsFormat::AutoSi, true))?;
        }
        if let Some(datacontenttype) = event.datacontenttype() {
            members.serialize_entry("datacontenttype", datacontenttype)?;
        }
        if let Some(dataschema) = event.dataschema() {
            members.serialize_entry("dataschema", dataschema.as_str())?;
        }
        let mut extensions: Vec<(&str, &ExtensionValue)> = event.iter_extensions().collect();
        extensions.sort_unstable_by_key(|(name, _)| *name);
        for (name, value) in extensions {
            members.serialize_entry(name, value)?;
        }
        match event.data() {
            Some(Data::Json(value)) => members.serialize_entry("data", value)?,
            Some(Data::String(text)) if json_text(event).is_none() => {
                members.serialize_entry("data", text)?;
            }
            Some(Data::Binary(bytes)) => {
                members.serialize_entry("data_base64", &BASE64_STANDARD.encode(bytes))?;
            }
            Some(Data::String(_)) | None => {}
        }
        members.end()
    }
}
