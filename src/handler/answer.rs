//! Answers that are not problems, and what the host is told.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::json;

use super::problem::Problem;

/// A JSON body. Never empty: the host would wait for an empty answer until the function's time-out.
pub(super) fn json(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = (status, body.into()).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// A JSON body in one line.
pub(super) fn brief(status: StatusCode, body: &impl Serialize) -> Response {
    // A plain struct of strings, numbers and lists: it always has a JSON form.
    json(status, line(serde_json::to_vec(body).unwrap_or_default()))
}

/// A JSON body for people who look at it with curl.
pub(super) fn readable(status: StatusCode, body: &impl Serialize) -> Response {
    json(
        status,
        line(serde_json::to_vec_pretty(body).unwrap_or_default()),
    )
}

fn line(mut text: Vec<u8>) -> Vec<u8> {
    text.push(b'\n');
    text
}

/// The invocation is done: what the host wants of a custom handler. `logs` appear in the invocation's log.
pub(super) fn invocation_done(logs: &[String]) -> Response {
    if logs.is_empty() {
        return json(
            StatusCode::OK,
            r#"{"Outputs":{},"Logs":[],"ReturnValue":null}"#,
        );
    }
    json(
        StatusCode::OK,
        json!({ "Outputs": {}, "Logs": logs, "ReturnValue": null }).to_string(),
    )
}

/// Not done: whoever called is to call again.
pub(super) fn try_again(reason: &str) -> Response {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Try again", reason).into_response()
}
