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
use reqwest::RequestBuilder;

use super::{
    Functions,
    handler_process::Running,
    invocation::{InvocationError, with_host_headers},
};
use crate::dev::body::{self, BodyError};

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
    let (mut parts, body) = request.into_parts();
    // The host forwards a body only if its length is told: one in chunks is lost.
    let has_length = parts.headers.contains_key(CONTENT_LENGTH);
    let body = if has_length {
        body::read(body, REQUEST_BYTES).await.map(Some)
    } else {
        Ok(None)
    };
    let body = match body {
        Ok(body) => body,
        Err(error) => return refuse(error),
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    remove_connection_headers(&mut parts.headers);
    parts.headers.remove(CONTENT_LENGTH);
    parts.headers.remove(USER_AGENT);
    let exchange = |running: Running| {
        let request = invoker
            .client
            .request(parts.method.clone(), format!("{}{path}", running.address));
        let request = with_host_headers(request.headers(parts.headers.clone()));
        let request = body.iter().cloned().fold(request, RequestBuilder::body);
        async { Ok(request.send().await?) }
    };
    match invoker.within_limit(path, exchange).await {
        Ok(answer) => give_back(answer),
        Err(error) => {
            let status = match error {
                InvocationError::NoHandler(_) => StatusCode::SERVICE_UNAVAILABLE,
                InvocationError::TimedOut(_) => StatusCode::GATEWAY_TIMEOUT,
                InvocationError::Refused(_)
                | InvocationError::Broken(_)
                | InvocationError::Failure(_)
                | InvocationError::NotJson(_) => StatusCode::BAD_GATEWAY,
            };
            (status, error.to_string()).into_response()
        }
    }
}

fn refuse(error: BodyError) -> Response {
    let status = match error {
        BodyError::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::Incomplete => StatusCode::BAD_REQUEST,
    };
    (status, error.to_string()).into_response()
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
