//! Binary content mode: attributes as `ce-*` headers, data as the body (HTTP binding section 3.1).

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use chrono::SecondsFormat;
use cloudevents::{AttributesReader, AttributesWriter, Data, Event};
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

use super::{
    attributes::{self, Content, Member, json_in},
    decode_error::{DecodeError, excerpt},
    is_json,
};

const PREFIX: &str = "ce-";

/// What is percent-encoded besides everything outside ASCII (HTTP binding section 3.1.3.2).
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'%');

/// The event of a request in binary mode.
pub(super) fn from_binary(
    headers: &HeaderMap,
    content_type: Option<&str>,
    body: &[u8],
) -> Result<Event, DecodeError> {
    if !headers.contains_key("ce-specversion") {
        return Err(DecodeError::missing(
            "ce-specversion",
            "a CloudEvent: either Content-Type application/cloudevents+json or application/cloudevents-batch+json, \
             or the headers ce-specversion, ce-id, ce-source and ce-type",
        ));
    }
    let members = headers
        .iter()
        .filter_map(|(header, value)| Some((header.as_str().strip_prefix(PREFIX)?, value)))
        // Content-Type says it; this header is not allowed to (section 3.1.1).
        .filter(|(name, _)| *name != "datacontenttype")
        .map(|(name, value)| member(name, value))
        .collect::<Result<Vec<_>, _>>();
    let mut event = members
        .and_then(attributes::event)
        .map_err(|error| error.under(PREFIX))?;
    if let Some(content_type) = content_type {
        event.set_datacontenttype(Some(content_type));
    }
    if !body.is_empty() {
        event.set_data_unchecked(data(content_type, body)?);
    }
    Ok(event)
}

fn member<'a>(name: &'a str, value: &'a HeaderValue) -> Result<Member<'a>, DecodeError> {
    if matches!(name, "data" | "data_base64") {
        return Err(DecodeError::malformed(
            name,
            "the data as the body",
            "a header",
        ));
    }
    Ok((
        Cow::Borrowed(name),
        Content::Text(decoded(name, value.as_bytes())?),
    ))
}

/// Undoes double quotes, then one round of percent-encoding, in this order (section 3.1.3.2).
fn decoded<'a>(name: &str, value: &'a [u8]) -> Result<Cow<'a, str>, DecodeError> {
    let invalid = |bytes: &[u8]| {
        DecodeError::malformed(
            name,
            "percent-encoded UTF-8",
            excerpt(&String::from_utf8_lossy(bytes)),
        )
    };
    let text = match unquoted(value) {
        Some(text) => Cow::Owned(
            percent_decode(&text)
                .decode_utf8()
                .map_err(|_| invalid(value))?
                .into_owned(),
        ),
        None => percent_decode(value)
            .decode_utf8()
            .map_err(|_| invalid(value))?,
    };
    Ok(text)
}

/// The content of a quoted-string with its backslash escapes undone (RFC 7230 section 3.2.6), or nothing if the value is
/// not one from its first to its last character.
fn unquoted(value: &[u8]) -> Option<Vec<u8>> {
    let mut rest = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?.iter();
    let mut text = Vec::with_capacity(value.len());
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => return None,
            b'\\' => text.push(*rest.next()?),
            byte => text.push(*byte),
        }
    }
    Some(text)
}

fn data(content_type: Option<&str>, body: &[u8]) -> Result<Data, DecodeError> {
    if content_type.is_some_and(is_json) {
        return json_in(body)
            .map(|text| Data::String(text.to_owned()))
            .map_err(|error| {
                DecodeError::json("data", "JSON, as Content-Type says", body, &error)
            });
    }
    let is_text = content_type.is_some_and(|value| {
        value
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case("text/"))
    });
    match str::from_utf8(body) {
        Ok(text) if is_text => Ok(Data::String(text.to_owned())),
        _ => Ok(Data::Binary(body.to_vec())),
    }
}

/// The event as the headers and the body of a message in binary mode.
pub fn to_binary(event: &Event) -> (HeaderMap, Vec<u8>) {
    let mut headers = HeaderMap::with_capacity(16);
    let mut set = |name: &str, value: &str| {
        let value: Cow<'_, str> = utf8_percent_encode(value, ENCODED).into();
        // Legal names and encoded values are always legal headers.
        if let (Ok(name), Ok(value)) = (
            HeaderName::from_bytes(format!("{PREFIX}{name}").as_bytes()),
            HeaderValue::from_str(&value),
        ) {
            headers.insert(name, value);
        }
    };
    set("specversion", "1.0");
    set("id", event.id());
    set("source", event.source());
    set("type", event.ty());
    if let Some(subject) = event.subject() {
        set("subject", subject);
    }
    if let Some(time) = event.time() {
        set("time", &time.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    }
    if let Some(dataschema) = event.dataschema() {
        set("dataschema", dataschema.as_str());
    }
    for (name, value) in event.iter_extensions() {
        set(name, &value.to_string());
    }
    if let Some(Ok(content_type)) =
        content_type(event).map(|value| HeaderValue::from_bytes(value.as_bytes()))
    {
        headers.insert(CONTENT_TYPE, content_type);
    }
    (headers, body(event))
}

/// What the JSON format leaves unsaid must be said here (JSON format section 3.1.2).
fn content_type(event: &Event) -> Option<&str> {
    event.datacontenttype().or(match event.data() {
        Some(Data::Json(_) | Data::String(_)) => Some("application/json"),
        Some(Data::Binary(_)) | None => None,
    })
}

fn body(event: &Event) -> Vec<u8> {
    match event.data() {
        Some(Data::Json(value)) => value.to_string().into_bytes(),
        Some(Data::String(text)) => text.clone().into_bytes(),
        Some(Data::Binary(bytes)) => bytes.clone(),
        None => Vec::new(),
    }
}
