//! Problem details for HTTP APIs (RFC 9457).

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::{
    cloud_event::{DecodeError, DecodeErrorKind},
    events::Invalid,
    store::Parked,
};

/// The longest text from outside that an answer repeats.
const MAX_DETAIL: usize = 1_000;

/// What went wrong, for people and programs (RFC 9457).
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Problem {
    /// The HTTP status.
    #[serde(serialize_with = "status")]
    #[schemars(with = "u16", range(min = 400, max = 599))]
    status: StatusCode,
    /// What kind of thing went wrong.
    title: &'static str,
    /// What was expected, what came, and where.
    detail: String,
    /// The offending field.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    field: Option<String>,
    /// What arrived about the order and can never succeed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parked: Vec<Parked>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, title: &'static str, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        if let Some((end, _)) = detail.char_indices().nth(MAX_DETAIL) {
            detail.truncate(end);
            detail.push('…');
        }
        Self {
            status,
            title,
            detail,
            field: None,
            parked: Vec::new(),
        }
    }

    /// A field is to blame.
    pub(super) fn invalid(status: StatusCode, title: &'static str, invalid: &Invalid) -> Self {
        let field = Some(invalid.path.clone()).filter(|path| !path.is_empty());
        Self {
            field,
            ..Self::new(status, title, invalid.to_string())
        }
    }

    /// Events about the thing have arrived, and are parked.
    pub(super) fn with_parked(mut self, parked: Vec<Parked>) -> Self {
        self.parked = parked;
        self
    }

    /// The request is no CloudEvent.
    pub(super) fn no_event(error: &DecodeError) -> Self {
        let status = match error.kind {
            DecodeErrorKind::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            DecodeErrorKind::Malformed => StatusCode::BAD_REQUEST,
        };
        let field = Some(error.path.clone()).filter(|path| !path.is_empty());
        Self {
            field,
            ..Self::new(status, "Not a CloudEvent", error.to_string())
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn status<S: serde::Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = serde_json::to_vec(&self).unwrap_or_default();
        body.push(b'\n');
        let mut response = (self.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("10"));
        }
        response
    }
}
