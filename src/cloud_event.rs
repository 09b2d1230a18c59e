//! CloudEvents 1.0 over HTTP: the three content modes and the JSON format, read into the SDK's [`Event`].
//!
//! The SDK's own extractors keep `ce-*` headers percent-encoded, know no batch on the server side and let one odd
//! extension kill an event, so this module brings the layer between bytes and [`Event`] itself. It is strict where a
//! mistake would change what an event means (names, required attributes, duplicate members) and lenient where real
//! senders deviate without harm: a relative `dataschema` and an extension that is no scalar are dropped.
//!
//! Data that is JSON is kept as the text that it is, in [`cloudevents::Data::String`]: it is read once, by whoever knows its
//! type, and written as it came.
//!
//! "HTTP binding" and "JSON format" in comments are `http-protocol-binding.md` and `json-format.md` of CloudEvents 1.0.2.

mod attributes;
mod binary;
mod decode_error;
mod json_format;

use axum::http::{HeaderMap, header::CONTENT_TYPE};
use cloudevents::Event;

pub use attributes::json_text;
pub use binary::to_binary;
pub use decode_error::{DecodeError, DecodeErrorKind};
pub use json_format::{Embedded, from_json, to_json};

/// The most events that one batch may hold: what Event Grid takes and delivers in one request.
pub const MAX_BATCH: usize = 5_000;

/// How a request carries its events (HTTP binding section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The body is one event in an event format.
    Structured,
    /// The body is a list of events in a batch format.
    Batch,
    /// The attributes are `ce-*` headers, the body is the data. Also what a request that is no CloudEvent looks like.
    Binary,
}

/// Tells the mode by the prefix of the content type, as HTTP binding section 3 wants it.
pub fn mode(content_type: Option<&str>) -> Mode {
    let has_prefix = |prefix: &str| {
        content_type
            .and_then(|value| value.trim_start().get(..prefix.len()))
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    if has_prefix("application/cloudevents-batch") {
        Mode::Batch
    } else if has_prefix("application/cloudevents") {
        Mode::Structured
    } else {
        Mode::Binary
    }
}

/// Whether a media type declares JSON: subtype `json` or suffix `+json`, parameters and case aside (JSON format 3.1.1).
pub fn is_json(media_type: &str) -> bool {
    let Some((_, subtype)) = essence(media_type).split_once('/') else {
        return false;
    };
    let suffix = subtype
        .rsplit_once('+')
        .map_or(subtype, |(_, suffix)| suffix);
    suffix.eq_ignore_ascii_case("json")
}

/// The CloudEvents of one HTTP request, in any mode. A batch may be empty.
///
/// The caller bounds the size of `body`; the number of events is bounded here, by [`MAX_BATCH`].
pub fn from_http(headers: &HeaderMap, body: &[u8]) -> Result<Vec<Event>, DecodeError> {
    let content_type = headers
        .get(CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()));
    let content_type = content_type.as_deref();
    match mode(content_type) {
        Mode::Structured => {
            supports(content_type, "application/cloudevents+json")?;
            from_json(body).map(|event| vec![event])
        }
        Mode::Batch => {
            supports(content_type, "application/cloudevents-batch+json")?;
            json_format::batch_from_json(body)
        }
        Mode::Binary => binary::from_binary(headers, content_type, body).map(|event| vec![event]),
    }
}

/// Of the event formats only JSON is understood; the others are for HTTP status 415.
fn supports(content_type: Option<&str>, supported: &'static str) -> Result<(), DecodeError> {
    let content_type = content_type.unwrap_or_default();
    if essence(content_type).eq_ignore_ascii_case(supported) {
        return Ok(());
    }
    Err(DecodeError::unsupported_media_type(supported, content_type))
}

/// A media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type
        .split_once(';')
        .map_or(media_type, |(essence, _)| essence)
        .trim()
}
