//! HTTP-triggered functions: requests under `/api` go to the handler as they came, its answers go back as they are.
//!
//! That is what the real host does with `enableForwardingHttpRequest`. Routes are the handler's own business here: what no
//! function answers, the handler answers with 404.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Request, State},
    http::{
        HeaderMap, HeaderName, StatusCode,
        header::{CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, USER_AGENT},
    },
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use super::{Functions, invocation::with_host_headers};
use crate::dev::{
    body::{self, BodyError},
    client::describe,
};

/// The largest request.
const REQUEST_BYTES: usize = 16 * 1024 * 1024;

/// Headers that concern one connection only.
const OF_CONNECTION: [HeaderName; 7] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Forwards a request to the handler.
pub(super) async fn forward(State(functions): State<Arc<Functions>>, request: Request) -> Response {
    let invoker = &functions.invoker;
    let running = match invoker.handler.ready().await {
        Ok(running) => running,
        Err(error) => return (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    };
    let (parts, body) = request.into_parts();
    // The host forwards a body only if its length is told: one in chunks is lost.
    let has_length = parts.headers.contains_key(CONTENT_LENGTH);
    let body = if has_length {
        body::read(body, REQUEST_BYTES).await
    } else {
        Ok(bytes::Bytes::new())
    };
    let body = match body {
        Ok(body) => body,
        Err(error @ BodyError::TooLarge(_)) => {
            return (StatusCode::PAYLOAD_TOO_LARGE, error.to_string()).into_response();
        }
        Err(error @ BodyError::Incomplete) => {
            return (StatusCode::BAD_REQUEST, error.to_string()).into_response();
        }
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut headers = parts.headers;
    remove_connection_headers(&mut headers);
    headers.remove(CONTENT_LENGTH);
    headers.remove(USER_AGENT);
    let request = invoker
        .client
        .request(parts.method, format!("{}{path}", running.address));
    let mut request = with_host_headers(request.headers(headers));
    if has_length {
        request = request.body(body);
    }
    match timeout(invoker.function_timeout, request.send()).await {
        Ok(Ok(answer)) => give_back(answer),
        Ok(Err(error)) => {
            let problem = format!("the handler cannot be reached: {}", describe(&error));
            (StatusCode::BAD_GATEWAY, problem).into_response()
        }
        Err(_) => {
            invoker.terminal.alarm(format!(
                "{path} ran into the time limit of {} s: the handler is killed, with all that it is doing",
                invoker.function_timeout.as_secs()
            ));
            invoker.handler.kill(&running);
            (
                StatusCode::GATEWAY_TIMEOUT,
                "the function ran into its time limit",
            )
                .into_response()
        }
    }
}

fn give_back(answer: reqwest::Response) -> Response {
    let mut answer = axum::http::Response::<reqwest::Body>::from(answer).map(Body::new);
    remove_connection_headers(answer.headers_mut());
    answer
}

/// Removes the headers that concern one connection, among them those that `Connection` names.
fn remove_connection_headers(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&OF_CONNECTION) {
        headers.remove(name);
    }
}
