//! `POST /admin/functions/NAME` with `{"input": …}`: invokes a function by hand, answers at once and tells the result
//! on the terminal only.

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    Functions, Trigger,
    invocation::{InvocationBody, InvocationError},
    timers,
};
use crate::dev::body;

/// The largest request.
const REQUEST_BYTES: usize = 4 * 1024 * 1024;

#[derive(Debug, Deserialize)]
struct Asked {
    #[serde(default)]
    input: Value,
}

/// Invokes a function by hand.
pub(super) async fn invoke(
    State(functions): State<Arc<Functions>>,
    Path(function): Path<String>,
    request: Request,
) -> Response {
    let Some((name, binding, trigger)) = functions.find(&function) else {
        let known = functions.names(|_| true);
        let problem =
            format!("no function has the name `{function}` (case matters); there are {known}");
        return (StatusCode::NOT_FOUND, problem).into_response();
    };
    let body = match body::read(request.into_body(), REQUEST_BYTES).await {
        Ok(body) => body,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let Ok(asked) = serde_json::from_slice::<Asked>(&body) else {
        let problem = "the body must be a JSON object such as {\"input\": \"\"}";
        return (StatusCode::BAD_REQUEST, problem).into_response();
    };
    let event = match trigger {
        Trigger::Timer => None,
        Trigger::Event => match event(asked.input) {
            Ok(event) => Some(event),
            Err(problem) => return (StatusCode::BAD_REQUEST, problem).into_response(),
        },
    };
    tokio::spawn(async move {
        let ended = match event {
            Some(event) => invoke_with(&functions, name, binding, &event).await,
            None => timers::fire(&functions, name, binding, None, None).await,
        };
        match ended {
            Ok(()) => functions
                .invoker
                .terminal
                .notice(format!("{name}: invoked by hand, done")),
            Err(error) => functions
                .invoker
                .terminal
                .alarm(format!("{name}: invoked by hand, failed: {error}")),
        }
    });
    StatusCode::ACCEPTED.into_response()
}

/// The event, which comes as JSON in a string; as an object it is welcome too.
fn event(input: Value) -> Result<Box<RawValue>, String> {
    let text = match input {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let event = RawValue::from_string(text)
        .map_err(|error| format!("`input` is not an event in JSON: {error}"))?;
    if event.get().starts_with('{') {
        Ok(event)
    } else {
        Err("`input` must be an event in JSON".to_owned())
    }
}

async fn invoke_with(
    functions: &Functions,
    function: &str,
    binding: &str,
    event: &RawValue,
) -> Result<(), InvocationError> {
    let body = InvocationBody::of_event(function, binding, event)?.to_bytes()?;
    functions.invoker.invoke(function, body).await
}
