//! Stripe over HTTP: authentication, the pinned version, idempotency keys, repetition, limits.

use std::{fmt, time::Duration};

use axum::http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use reqwest::Response;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use url::{Url, form_urlencoded};

use super::object::{ApiError, ErrorBody};
use crate::publish::{chain, client_for, jittered, retry_after};

/// The version of the API that this client was written for; without it the account's own would hold.
pub(super) const VERSION: &str = "2026-10-28.endive";

const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// One attempt. A bank takes seconds to answer Stripe; a longer one is asked for again under the same key.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// As much of an answer as is read. A page of a hundred refunds has about a quarter of it.
const MAX_BODY: usize = 512 * 1024;

/// As much of a problem as is told.
const MAX_TEXT: usize = 400;

/// A client of one Stripe account. `Debug` shows no secret.
pub(super) struct Client {
    http: reqwest::Client,
    base: Url,
    authorization: HeaderValue,
    secret: String,
}

/// Names and values of a request, as they are published: nested ones in brackets.
pub(super) type Parameters<'a> = &'a [(&'a str, &'a str)];

/// Why there is no answer to go by.
#[derive(Debug)]
pub(super) enum Failure {
    /// Stripe said no: 400, 402 or 404. This request did nothing, or what the error's `PaymentIntent` says.
    Refused(Box<ApiError>),
    /// This key leads to nothing while it lives: it was used with other parameters, or a server error is stored under it.
    KeySpent(String),
    /// It may have been done or not, now or later.
    Unknown(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(error) => formatter.write_str(&error.text()),
            Self::KeySpent(problem) | Self::Unknown(problem) => formatter.write_str(problem),
        }
    }
}

/// What came of one attempt.
enum Attempt {
    Answered(Vec<u8>),
    Failed(Failure),
    /// May go better later, at the time that Stripe names if it does.
    Again {
        reason: String,
        retry_after: Option<Duration>,
    },
}

impl Client {
    /// A client of the API at `base` (which ends before `/v1`) with a secret or restricted key.
    ///
    /// # Errors
    /// The key cannot be a header, or there are no root certificates.
    pub(super) fn new(base: &Url, key: &str) -> Result<Self, String> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {key}"))
            .map_err(|_| "the key has characters that no header can hold".to_owned())?;
        authorization.set_sensitive(true);
        Ok(Self {
            http: client_for(base).map_err(|error| chain(&error))?,
            base: base.clone(),
            authorization,
            secret: key.to_owned(),
        })
    }

    /// Reads.
    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: Parameters<'_>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        self.send(Method::GET, path, parameters, None, deadline)
            .await
    }

    /// Does something, once per `key`. Without one it is something that can be done once only.
    pub(super) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        parameters: Parameters<'_>,
        key: Option<&str>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        self.send(Method::POST, path, parameters, key, deadline)
            .await
    }

    /// Sends a request until there is an answer or the time is up.
    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        parameters: Parameters<'_>,
        key: Option<&str>,
        deadline: Instant,
    ) -> Result<T, Failure> {
        let mut failures = 0_u32;
        loop {
            let attempt = self.attempt(method.clone(), path, parameters, key, deadline);
            let (reason, retry_after) = match attempt.await {
                Attempt::Answered(body) => {
                    return serde_json::from_slice(&body).map_err(|error| {
                        let problem = format!("Stripe's answer to {method} {path}: {error}");
                        tracing::error!(problem, "an answer that cannot be understood");
                        Failure::Unknown(problem)
                    });
                }
                Attempt::Failed(failure) => return Err(failure),
                Attempt::Again {
                    reason,
                    retry_after,
                } => (reason, retry_after),
            };
            failures = failures.saturating_add(1);
            let delay = retry_after.unwrap_or_else(|| jittered(failures));
            if delay >= deadline.saturating_duration_since(Instant::now()) {
                let problem = format!("{reason} (attempts: {failures})");
                return Err(Failure::Unknown(problem));
            }
            tracing::debug!(reason, ?delay, "Stripe is to be asked again");
            tokio::time::sleep(delay).await;
        }
    }

    async fn attempt(
        &self,
        method: Method,
        path: &str,
        parameters: Parameters<'_>,
        key: Option<&str>,
        deadline: Instant,
    ) -> Attempt {
        let remaining = deadline.saturating_duration_since(Instant::now());
        if remaining.is_zero() {
            return Attempt::Failed(Failure::Unknown("no time left to ask Stripe".to_owned()));
        }
        let encoded = form_urlencoded::Serializer::new(String::new())
            .extend_pairs(parameters)
            .finish();
        let mut url = self.base.clone();
        url.set_path(&format!(
            "{}/v1/{path}",
            self.base.path().trim_end_matches('/')
        ));
        let post = method == Method::POST;
        if !post && !encoded.is_empty() {
            url.set_query(Some(&encoded));
        }
        let mut request = self
            .http
            .request(method, url)
            .header(AUTHORIZATION, self.authorization.clone())
            .header("stripe-version", VERSION)
            .timeout(remaining.min(ATTEMPT_LIMIT));
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        if post {
            request = request.header(CONTENT_TYPE, FORM).body(encoded);
        }
        match request.send().await {
            Ok(response) => self.judge(response, key.is_some()).await,
            Err(error) => Attempt::again(chain(&error.without_url())),
        }
    }

    /// What an answer means (Stripe documentation, "Advanced error handling").
    async fn judge(&self, mut response: Response, keyed: bool) -> Attempt {
        let (status, headers) = (response.status(), response.headers().clone());
        let body = match read(&mut response).await {
            Ok(body) => body,
            Err(problem) => return Attempt::again(problem),
        };
        if status.is_success() {
            return Attempt::Answered(body);
        }
        // Should the answer repeat the key, it goes no further.
        let body = String::from_utf8_lossy(&body).replace(&self.secret, "[redacted]");
        let error = match serde_json::from_str(&body) {
            Ok(ErrorBody { error }) => error,
            Err(_) => ApiError::default(),
        };
        let reason = reason(status, &headers, &error);
        let says = |name: &str, value: &str| {
            headers
                .get(name)
                .is_some_and(|came| came.as_bytes() == value.as_bytes())
        };
        if error.kind == "idempotency_error" && status == StatusCode::BAD_REQUEST {
            tracing::error!(reason, "an idempotency key was used for something else");
            return Attempt::Failed(Failure::KeySpent(reason));
        }
        if keyed && status.is_server_error() && says("idempotent-replayed", "true") {
            return Attempt::Failed(Failure::KeySpent(reason));
        }
        let passing = status == StatusCode::CONFLICT
            || status == StatusCode::REQUEST_TIMEOUT
            || status == StatusCode::TOO_MANY_REQUESTS
            || status.is_server_error();
        if says("stripe-should-retry", "true") || passing && !says("stripe-should-retry", "false") {
            return Attempt::Again {
                reason,
                retry_after: retry_after(&headers),
            };
        }
        match status {
            StatusCode::BAD_REQUEST | StatusCode::PAYMENT_REQUIRED | StatusCode::NOT_FOUND => {
                Attempt::Failed(Failure::Refused(Box::new(error)))
            }
            _ if passing => Attempt::Failed(Failure::Unknown(reason)),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                tracing::error!(
                    reason,
                    "Stripe lets us do nothing: STRIPE_API_KEY is to be put right"
                );
                Attempt::Failed(Failure::Unknown(reason))
            }
            _ => {
                tracing::error!(reason, "STRIPE_API_BASE does not answer as Stripe does");
                Attempt::Failed(Failure::Unknown(reason))
            }
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Client")
            .field("base", &self.base.origin().ascii_serialization())
            .finish_non_exhaustive()
    }
}

impl Attempt {
    fn again(reason: String) -> Self {
        Self::Again {
            reason,
            retry_after: None,
        }
    }
}

/// A whole body, within limits.
async fn read(response: &mut Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(chunk) = response
        .chunk()
        .await
        .map_err(|error| chain(&error.without_url()))?
    {
        if body.len() + chunk.len() > MAX_BODY {
            return Err(format!("Stripe's answer has more than {MAX_BODY} bytes"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Status, error and request id in one line.
fn reason(status: StatusCode, headers: &HeaderMap, error: &ApiError) -> String {
    let request = headers.get("request-id").and_then(|id| id.to_str().ok());
    let request = request.map(|id| format!(" ({id})")).unwrap_or_default();
    shortened(&format!(
        "Stripe answered {status}{request}: {}",
        error.text()
    ))
}

/// A text from outside in one line, as much of it as is told.
pub(super) fn shortened(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").chars().take(MAX_TEXT).collect()
}
