//! The way to the orders: `/api/orders` of the host, under the page's own origin.

use std::time::Duration;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{
        HeaderName, StatusCode,
        header::{CONTENT_TYPE, LOCATION},
    },
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::Page;
use crate::dev::{body, client::describe, json::Json};

/// The largest order.
const MAXIMUM_BYTES: usize = 1024 * 1024;

/// How long the host may take.
const ANSWER: Duration = Duration::from_secs(30);

/// The headers that go on, in either direction.
static PASSED_ON: [HeaderName; 3] = [
    CONTENT_TYPE,
    LOCATION,
    HeaderName::from_static("idempotency-key"),
];

/// Forwards a request to the host and its answer back.
pub(super) async fn forward(State(page): State<Page>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = match body::read(body, MAXIMUM_BYTES).await {
        Ok(body) => body,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let mut address = page.host.clone();
    address.set_path(parts.uri.path());
    address.set_query(parts.uri.query());
    let request = page
        .client
        .request(parts.method, address)
        .timeout(ANSWER)
        .body(body);
    let passed_on = PASSED_ON
        .iter()
        .filter_map(|name| Some((name, parts.headers.get(name)?)));
    let request = passed_on.fold(request, |request, (name, value)| {
        request.header(name, value)
    });
    match request.send().await {
        Ok(answer) => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = answer.status();
            for name in &PASSED_ON {
                if let Some(value) = answer.headers().get(name) {
                    response.headers_mut().insert(name, value.clone());
                }
            }
            *response.body_mut() = Body::new(reqwest::Body::from(answer));
            response
        }
        Err(error) => problem(
            StatusCode::BAD_GATEWAY,
            &format!(
                "the host at {} does not answer: {}",
                page.host,
                describe(&error)
            ),
        ),
    }
}

fn problem(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({"detail": detail}))).into_response()
}
