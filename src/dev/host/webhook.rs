//! The webhook that Event Grid delivers to: `/runtime/webhooks/eventgrid?functionName=NAME`.
//!
//! It answers as the Event Grid extension of the real host does, with more helpful words.

use std::sync::Arc;

use axum::{
    extract::{Path, Query, Request, State},
    http::{HeaderMap, Method, StatusCode},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::future::join_all;
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{Functions, Trigger, invocation::InvocationBody};
use crate::dev::{
    body::{self, BodyError},
    json::Json,
};

/// The largest delivery. Event Grid sends at most 1 MB.
const DELIVERY_BYTES: usize = 4 * 1024 * 1024;

/// The origins that may be consented to: the clouds that have an Event Grid.
const ORIGINS: [&str; 5] = [
    "eventgrid.azure.net",
    "eventgrid.azure.us",
    "eventgrid.azure.eaglex.ic.gov",
    "eventgrid.azure.microsoft.scloud",
    "eventgrid.azure.cn",
];

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(rename = "functionName")]
    function: Option<String>,
}

/// What the webhook answers instead of 200 or 202.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    #[error("there is no webhook of this name; Event Grid's is /runtime/webhooks/eventgrid")]
    UnknownExtension,
    #[error(
        "no function takes Event Grid events under the name `{given}` (case matters); there are {known}"
    )]
    UnknownFunction { given: String, known: String },
    #[error(
        "the header aeg-event-type is {given}: deliveries need `aeg-event-type: Notification` (the real host answers 400 too, without a word)"
    )]
    EventType { given: String },
    #[error("the body is not an event or an array of events in JSON: {0}")]
    NotEvents(String),
    #[error("{0}")]
    Body(BodyError),
    #[error("{0}")]
    Failed(String),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::UnknownExtension | Self::UnknownFunction { .. } => StatusCode::NOT_FOUND,
            Self::EventType { .. } | Self::Body(BodyError::Incomplete) => StatusCode::BAD_REQUEST,
            Self::Body(BodyError::TooLarge(_)) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotEvents(_) | Self::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status(), self.to_string()).into_response()
    }
}

/// Answers a request to the webhook.
pub(super) async fn answer(
    State(functions): State<Arc<Functions>>,
    Path(extension): Path<String>,
    Query(asked): Query<Asked>,
    request: Request,
) -> Response {
    respond(&functions, &extension, asked, request)
        .await
        .unwrap_or_else(IntoResponse::into_response)
}

async fn respond(
    functions: &Functions,
    extension: &str,
    asked: Asked,
    request: Request,
) -> Result<Response, Refusal> {
    if !extension.eq_ignore_ascii_case("eventgrid") {
        return Err(Refusal::UnknownExtension);
    }
    let function = asked.function.unwrap_or_default();
    let Some((function, binding)) = functions.event_function(&function) else {
        let known = functions.names(|trigger| matches!(trigger, Trigger::Event));
        return Err(Refusal::UnknownFunction {
            given: function,
            known,
        });
    };
    if request.method() == Method::OPTIONS {
        return Ok(consent(request.headers()));
    }
    let kind = request.headers().get("aeg-event-type");
    let kind = kind.map(|kind| String::from_utf8_lossy(kind.as_bytes()).into_owned());
    let body = body::read(request.into_body(), DELIVERY_BYTES)
        .await
        .map_err(Refusal::Body)?;
    match kind.as_deref().map(str::to_ascii_lowercase).as_deref() {
        Some("notification") => notify(functions, function, binding, &body).await,
        Some("subscriptionvalidation") => validate(&body),
        Some("unsubscribe") => Ok(StatusCode::ACCEPTED.into_response()),
        _ => Err(Refusal::EventType {
            given: kind.unwrap_or_else(|| "missing".to_owned()),
        }),
    }
}

/// The CloudEvents handshake.
fn consent(headers: &HeaderMap) -> Response {
    let asked = headers
        .get("WebHook-Request-Origin")
        .and_then(|origin| origin.to_str().ok());
    let [azure, ..] = ORIGINS;
    let origin = ORIGINS
        .into_iter()
        .find(|origin| Some(*origin) == asked)
        .unwrap_or(azure);
    [("Webhook-Allowed-Origin", origin)].into_response()
}

/// The handshake of Event Grid's own schema: an array of events, or one object whose data is JSON in a string.
fn validate(body: &[u8]) -> Result<Response, Refusal> {
    let body: Value =
        serde_json::from_slice(body).map_err(|error| Refusal::NotEvents(error.to_string()))?;
    let code = match &body {
        Value::Array(events) => events
            .first()
            .and_then(|event| event.pointer("/data/validationCode"))
            .cloned(),
        Value::Object(event) => event
            .get("data")
            .and_then(Value::as_str)
            .and_then(|data| serde_json::from_str::<Value>(data).ok())
            .and_then(|data| data.get("validationCode").cloned()),
        _ => None,
    };
    match code {
        Some(code) => Ok(Json(json!({"validationResponse": code})).into_response()),
        None => Err(Refusal::NotEvents(
            "it has no data.validationCode".to_owned(),
        )),
    }
}

/// Invokes the function with all events of the delivery at once. One that fails makes the whole delivery fail.
async fn notify(
    functions: &Functions,
    function: &str,
    binding: &str,
    body: &[u8],
) -> Result<Response, Refusal> {
    let mut invocations = Vec::new();
    for event in events(body)? {
        invocations.push(invocation(function, binding, event)?);
    }
    let invoke = |body| functions.invoker.invoke(function, body);
    let mut failures = join_all(invocations.into_iter().map(invoke))
        .await
        .into_iter()
        .filter_map(Result::err);
    match failures.next() {
        Some(failure) => Err(Refusal::Failed(format!(
            "Exception while executing function: Functions.{function}: {failure}"
        ))),
        None => Ok(StatusCode::ACCEPTED.into_response()),
    }
}

fn events(body: &[u8]) -> Result<Vec<&RawValue>, Refusal> {
    let not_events = |error: serde_json::Error| Refusal::NotEvents(error.to_string());
    let whole: &RawValue = serde_json::from_slice(body).map_err(not_events)?;
    if whole.get().starts_with('[') {
        serde_json::from_str(whole.get()).map_err(not_events)
    } else {
        Ok(vec![whole])
    }
}

fn invocation(function: &str, binding: &str, event: &RawValue) -> Result<Bytes, Refusal> {
    if !event.get().starts_with('{') {
        return Err(Refusal::NotEvents("an event is not an object".to_owned()));
    }
    let body = InvocationBody::of_event(function, binding, event).and_then(|body| body.to_bytes());
    body.map_err(|error| Refusal::NotEvents(error.to_string()))
}
