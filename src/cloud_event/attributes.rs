//! The rules for context attributes, the same for JSON members and `ce-*` headers (`spec.md` of CloudEvents 1.0.2).

use std::borrow::Cow;

use base64::{Engine, prelude::BASE64_STANDARD};
use chrono::{DateTime, Datelike, Utc};
use cloudevents::{
    AttributesReader, AttributesWriter, Data, Event, EventBuilder, EventBuilderV10,
    event::{EventBuilderError, ExtensionValue},
};
use serde_json::{Value, value::RawValue};
use url::Url;

use super::{
    decode_error::{DecodeError, excerpt},
    is_json,
};

/// The most members one event may have. Real events have about a dozen; the bound keeps the search for duplicates cheap.
const MAX_MEMBERS: usize = 100;

/// A named attribute, or `data` or `data_base64`, as it came.
pub(super) type Member<'a> = (Cow<'a, str>, Content<'a>);

/// What came under a name.
#[derive(Debug)]
pub(super) enum Content<'a> {
    /// JSON `null`: the same as an absent attribute.
    Null,
    Text(Cow<'a, str>),
    Boolean(bool),
    Integer(i32),
    /// An integer that a CloudEvents Integer (signed 32 bits) cannot hold, in decimal.
    OutOfRange(String),
    /// What no attribute can be; says what it is.
    NoScalar(&'static str),
    /// The value of the member `data`.
    Data(&'a RawValue),
}

/// Judges the members of one event and makes the event of them.
pub(super) fn event(members: Vec<Member<'_>>) -> Result<Event, DecodeError> {
    check_version(&members)?;
    check_names(&members)?;
    let mut builder = EventBuilderV10::new();
    let mut datacontenttype = None;
    let mut dataschema = None;
    let mut data = None;
    let mut data_base64 = None;
    for (name, content) in members {
        match (name.as_ref(), content) {
            ("data", Content::Data(value)) => data = Some(value),
            ("specversion", _) | (_, Content::Null) => {}
            ("id", content) => builder = builder.id(text("id", content)?),
            ("source", content) => builder = builder.source(text("source", content)?),
            ("type", content) => builder = builder.ty(text("type", content)?),
            ("subject", content) => builder = builder.subject(text("subject", content)?),
            ("time", content) => builder = builder.time(timestamp(content)?),
            ("datacontenttype", content) => {
                datacontenttype = Some(text("datacontenttype", content)?);
            }
            ("dataschema", content) => dataschema = absolute_uri(content)?,
            ("data_base64", content) => data_base64 = Some(base64(content)?),
            (name, content) => {
                if let Some(value) = extension(name, content)? {
                    builder = builder.extension(name, value);
                }
            }
        }
    }
    let mut event = builder.build().map_err(|error| incomplete(&error))?;
    event.set_datacontenttype(datacontenttype);
    event.set_dataschema(dataschema);
    if let Some(data) = runtime_data(event.datacontenttype(), data, data_base64)? {
        event.set_data_unchecked(data);
    }
    Ok(event)
}

/// Looks at `specversion` before all else, since no other rule is known to hold in another version.
fn check_version(members: &[Member<'_>]) -> Result<(), DecodeError> {
    const EXPECTED: &str = "\"1.0\"";
    match members.iter().find(|(name, _)| name == "specversion") {
        Some((_, Content::Text(version))) if version == "1.0" => Ok(()),
        Some((_, Content::Text(version))) => Err(DecodeError::malformed(
            "specversion",
            EXPECTED,
            excerpt(version),
        )),
        Some((_, Content::Null)) | None => Err(DecodeError::missing("specversion", EXPECTED)),
        Some((_, content)) => Err(DecodeError::malformed(
            "specversion",
            EXPECTED,
            content.describe(),
        )),
    }
}

fn check_names(members: &[Member<'_>]) -> Result<(), DecodeError> {
    if members.len() > MAX_MEMBERS {
        let expected = format!("at most {MAX_MEMBERS} attributes");
        return Err(DecodeError::malformed(
            "",
            expected,
            members.len().to_string(),
        ));
    }
    for (position, (name, _)) in members.iter().enumerate() {
        let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        if name.is_empty() || !(name.bytes().all(legal) || name == "data_base64") {
            const EXPECTED: &str = "an attribute name of lower-case letters and digits";
            return Err(DecodeError::malformed(name, EXPECTED, "this name"));
        }
        // Which of two values counts would depend on the reader, so neither does.
        if members
            .iter()
            .take(position)
            .any(|(earlier, _)| earlier == name)
        {
            return Err(DecodeError::malformed(name, "one value", "a second one"));
        }
    }
    Ok(())
}

/// An attribute of type String, URI-reference or media type: not empty, no control characters.
fn text<'a>(name: &'static str, content: Content<'a>) -> Result<Cow<'a, str>, DecodeError> {
    match content {
        Content::Text(text) if text.is_empty() => Err(DecodeError::malformed(
            name,
            "a string that is not empty",
            "an empty one",
        )),
        Content::Text(text) => legal(name, text),
        other => Err(DecodeError::malformed(name, "a string", other.describe())),
    }
}

/// The characters that `spec.md` ("Type System", String) disallows make the whole event invalid.
fn legal<'a>(name: &str, text: Cow<'a, str>) -> Result<Cow<'a, str>, DecodeError> {
    let noncharacter = |char: char| {
        let code = u32::from(char);
        (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
    };
    let printable_ascii = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if printable_ascii
        || !text
            .chars()
            .any(|char| char.is_control() || noncharacter(char))
    {
        return Ok(text);
    }
    Err(DecodeError::malformed(
        name,
        "a string without control characters",
        excerpt(&text),
    ))
}

fn timestamp(content: Content<'_>) -> Result<DateTime<Utc>, DecodeError> {
    const EXPECTED: &str = "an RFC 3339 timestamp such as 2018-04-05T17:31:00Z";
    let text = text("time", content)?;
    let time = DateTime::parse_from_rfc3339(&text).map(DateTime::<Utc>::from);
    // In the first and last hours of what RFC 3339 can say, an offset leads to a year that it cannot.
    time.ok()
        .filter(|time| (0..=9999).contains(&time.year()))
        .ok_or_else(|| DecodeError::malformed("time", EXPECTED, excerpt(&text)))
}

/// Event Grid's own events say `"dataschema": "#"`. Nothing here depends on it and the SDK's type cannot hold it, so a
/// reference that is not absolute counts as absent.
fn absolute_uri(content: Content<'_>) -> Result<Option<Url>, DecodeError> {
    match content {
        Content::Text(text) => Ok(Url::parse(&text).ok()),
        other => Err(DecodeError::malformed(
            "dataschema",
            "a URI in a string",
            other.describe(),
        )),
    }
}

fn base64(content: Content<'_>) -> Result<Vec<u8>, DecodeError> {
    const EXPECTED: &str = "base64 (RFC 4648) in a string";
    match content {
        Content::Text(text) => BASE64_STANDARD
            .decode(text.as_bytes())
            .map_err(|error| DecodeError::malformed("data_base64", EXPECTED, error.to_string())),
        other => Err(DecodeError::malformed(
            "data_base64",
            EXPECTED,
            other.describe(),
        )),
    }
}

/// An extension that is no CloudEvents type is dropped: its sender may lose it, the event must not be lost with it.
fn extension(name: &str, content: Content<'_>) -> Result<Option<ExtensionValue>, DecodeError> {
    match content {
        Content::Text(text) => Ok(Some(ExtensionValue::String(
            legal(name, text)?.into_owned(),
        ))),
        Content::Boolean(value) => Ok(Some(ExtensionValue::Boolean(value))),
        Content::Integer(value) => Ok(Some(ExtensionValue::Integer(value.into()))),
        Content::OutOfRange(value) => Err(DecodeError::malformed(
            name,
            "an integer of at most 32 bits, or a string",
            excerpt(&value),
        )),
        Content::NoScalar(_) | Content::Null | Content::Data(_) => Ok(None),
    }
}

/// JSON format section 3.1.2.
fn runtime_data(
    datacontenttype: Option<&str>,
    data: Option<&RawValue>,
    data_base64: Option<Vec<u8>>,
) -> Result<Option<Data>, DecodeError> {
    let json = datacontenttype.is_none_or(is_json);
    match (data.map(RawValue::get), data_base64) {
        (None, None) => Ok(None),
        (Some(_), Some(_)) => Err(DecodeError::malformed(
            "data_base64",
            "either data or data_base64",
            "both",
        )),
        (Some(text), None) if json => Ok(Some(Data::String(text.to_owned()))),
        (Some(text), None) => serde_json::from_str(text)
            .map(|value| match value {
                Value::String(text) => Some(Data::String(text)),
                value => Some(Data::Json(value)),
            })
            .map_err(|error| DecodeError::json("data", "JSON", text.as_bytes(), &error)),
        // "May further interpret this binary data according to the datacontenttype": without one, nothing may be assumed.
        (None, Some(bytes)) if datacontenttype.is_some_and(is_json) => {
            let text = json_in(&bytes).map(|text| Data::String(text.to_owned()));
            Ok(Some(text.unwrap_or(Data::Binary(bytes))))
        }
        (None, Some(bytes)) => Ok(Some(Data::Binary(bytes))),
    }
}

/// The JSON text that some bytes are.
///
/// # Errors
/// They are none.
pub(super) fn json_in(bytes: &[u8]) -> serde_json::Result<&str> {
    let text: &RawValue = serde_json::from_slice(bytes)?;
    Ok(text.get())
}

/// The text of an event's data if it is declared to be JSON, as JSON is when nothing is declared (JSON format 3.1).
pub fn json_text(event: &Event) -> Option<&str> {
    match event.data() {
        Some(Data::String(text)) if event.datacontenttype().is_none_or(is_json) => Some(text),
        _ => None,
    }
}

fn incomplete(error: &EventBuilderError) -> DecodeError {
    match error {
        EventBuilderError::MissingRequiredAttribute { attribute_name } => {
            DecodeError::missing(attribute_name, "a string that is not empty")
        }
        EventBuilderError::ParseTimeError { attribute_name, .. }
        | EventBuilderError::ParseUrlError { attribute_name, .. }
        | EventBuilderError::InvalidUriRefError { attribute_name } => {
            DecodeError::malformed(attribute_name, "a legal value", error.to_string())
        }
    }
}

impl Content<'_> {
    /// What came, for an error.
    fn describe(&self) -> String {
        match self {
            Content::Null => "null".to_owned(),
            Content::Text(text) => excerpt(text),
            Content::Boolean(value) => value.to_string(),
            Content::Integer(value) => value.to_string(),
            Content::OutOfRange(value) => value.clone(),
            Content::NoScalar(what) => (*what).to_owned(),
            Content::Data(_) => "data".to_owned(),
        }
    }
}
