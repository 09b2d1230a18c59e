//! Event Grid custom topics: `POST` of CloudEvents in batch format (`Microsoft.EventGrid` data plane, 2018-01-01).

use std::{
    error::Error,
    fmt,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

use axum::http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{CONTENT_TYPE, DATE, RETRY_AFTER},
};
use bytes::Bytes;
use chrono::DateTime;
use futures_util::future::BoxFuture;
use reqwest::{Client, Response};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use super::{Credential, PublishError, Publisher, client_for, deadline};

/// The most bytes in one request: the service's 1 MB, less a little for what may be counted differently there.
pub(super) const MAX_BODY: usize = 1_048_576 - 1_024;

/// The most events in one request.
pub(super) const MAX_EVENTS: usize = 5_000;

/// The only stable version of basic topics, and the first one that takes tokens of Entra ID.
const API_VERSION: (&str, &str) = ("api-version", "2018-01-01");

const BATCH: HeaderValue =
    HeaderValue::from_static("application/cloudevents-batch+json; charset=utf-8");

/// One attempt. The service answers within milliseconds, or within a few seconds when it is in trouble.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(10);

/// Back-off after the first failed attempt; it doubles up to the last.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LAST_DELAY: Duration = Duration::from_secs(5);

/// As much of an error's body as is read, and as is told.
const MAX_ERROR_BODY: usize = 16 * 1024;
const MAX_ERROR_TEXT: usize = 500;

/// Publishes to one custom topic whose input schema is CloudEvents 1.0. `Debug` shows no secret.
pub struct EventGridPublisher {
    client: Client,
    endpoint: Url,
    credential: Credential,
}

/// Why a topic cannot be published to.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// No `http` or `https` URL with a host. What came is not shown, for its query may hold a key.
    #[error(
        "expected a topic endpoint such as https://NAME.REGION-1.eventgrid.azure.net/api/events"
    )]
    NoUrl,
    /// The HTTP client could not be set up, for want of root certificates for instance.
    #[error("the HTTP client could not be set up")]
    Client(#[from] reqwest::Error),
}

/// What came of one attempt.
enum Attempt {
    Accepted,
    Unauthorized {
        refused: HeaderValue,
        reason: String,
    },
    /// The events are at fault.
    Refused(String),
    /// Everything else that will not get better.
    Denied(String),
    /// May go better later, at the time the service names if it does.
    Failed {
        reason: String,
        retry_after: Option<Duration>,
    },
}

impl EventGridPublisher {
    /// A publisher to the topic at `endpoint`, which is taken as it is but for the `api-version` it lacks.
    pub fn new(
        endpoint: &str,
        credential: Credential,
    ) -> Result<EventGridPublisher, EndpointError> {
        let mut endpoint = Url::parse(endpoint.trim()).map_err(|_| EndpointError::NoUrl)?;
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() {
            return Err(EndpointError::NoUrl);
        }
        endpoint.set_fragment(None);
        if !endpoint
            .query_pairs()
            .any(|(name, _)| name == API_VERSION.0)
        {
            endpoint
                .query_pairs_mut()
                .append_pair(API_VERSION.0, API_VERSION.1);
        }
        Ok(EventGridPublisher {
            client: client_for(&endpoint)?,
            endpoint,
            credential,
        })
    }

    /// Sends one request until it is accepted, refused, or the time is up.
    async fn send(&self, body: Bytes, deadline: Instant) -> Result<(), PublishError> {
        let mut failures = 0_u32;
        let mut renewed = false;
        loop {
            let (reason, retry_after) = match self.attempt(body.clone(), deadline).await {
                Attempt::Accepted => return Ok(()),
                Attempt::Refused(reason) => return Err(PublishError::Refused(reason)),
                Attempt::Denied(reason) => return Err(PublishError::Denied(reason)),
                Attempt::Unauthorized { refused, reason } => {
                    if renewed || !self.credential.renew(&refused) {
                        return Err(PublishError::Denied(reason));
                    }
                    renewed = true;
                    continue;
                }
                Attempt::Failed {
                    reason,
                    retry_after,
                } => (reason, retry_after),
            };
            failures = failures.saturating_add(1);
            let delay = retry_after.unwrap_or_else(|| jittered(failures));
            if delay >= deadline.saturating_duration_since(Instant::now()) {
                return Err(PublishError::Unavailable(format!(
                    "{reason} (attempts: {failures})"
                )));
            }
            tracing::debug!(reason, ?delay, "publishing is to be tried again");
            tokio::time::sleep(delay).await;
        }
    }

    async fn attempt(&self, body: Bytes, deadline: Instant) -> Attempt {
        let (name, value) = match tokio::time::timeout_at(deadline, self.credential.header()).await
        {
            Ok(Ok(header)) => header,
            Ok(Err(error)) => return Attempt::failed(error.to_string()),
            Err(_) => return Attempt::failed("no token came in time".to_owned()),
        };
        let remaining = deadline.saturating_duration_since(Instant::now());
        let request = self
            .client
            .post(self.endpoint.clone())
            .header(CONTENT_TYPE, BATCH)
            .header(name, value.clone())
            .timeout(remaining.min(ATTEMPT_LIMIT))
            .body(body);
        match request.send().await {
            Ok(response) if response.status().is_success() => Attempt::Accepted,
            Ok(response) => judge(response, value).await,
            Err(error) => Attempt::failed(chain(&error.without_url())),
        }
    }
}

impl Publisher for EventGridPublisher {
    fn publish(
        &self,
        events: Vec<Bytes>,
        budget: Duration,
    ) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let deadline = deadline(budget);
            for body in bodies(&events)? {
                self.send(body, deadline).await?;
            }
            Ok(())
        })
    }
}

impl fmt::Debug for EventGridPublisher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the query, which may hold a key.
        formatter
            .debug_struct("EventGridPublisher")
            .field(
                "endpoint",
                &format_args!(
                    "{}{}",
                    self.endpoint.origin().ascii_serialization(),
                    self.endpoint.path()
                ),
            )
            .field("credential", &self.credential)
            .finish_non_exhaustive()
    }
}

impl Attempt {
    fn failed(reason: String) -> Attempt {
        Attempt::Failed {
            reason,
            retry_after: None,
        }
    }
}

/// The events as JSON arrays, as many as the limits of a request make necessary.
fn bodies(events: &[Bytes]) -> Result<Vec<Bytes>, PublishError> {
    let mut bodies = Vec::new();
    let mut body = Vec::new();
    let mut count = 0;
    for event in events {
        let size = event.len() + "[]".len();
        if size > MAX_BODY {
            return Err(PublishError::Refused(format!(
                "expected at most {MAX_BODY} bytes in one event, came {size}; nothing was sent"
            )));
        }
        if count == MAX_EVENTS || body.len() + size > MAX_BODY {
            bodies.push(finished(&mut body));
            count = 0;
        }
        body.push(if count == 0 { b'[' } else { b',' });
        body.extend_from_slice(event);
        count += 1;
    }
    if count > 0 {
        bodies.push(finished(&mut body));
    }
    Ok(bodies)
}

fn finished(body: &mut Vec<u8>) -> Bytes {
    body.push(b']');
    Bytes::from(std::mem::take(body))
}

/// What an unsuccessful answer means.
async fn judge(response: Response, credential: HeaderValue) -> Attempt {
    let status = response.status();
    let retry_after = retry_after(response.headers());
    let reason = reason(response, &credential).await;
    match status {
        StatusCode::UNAUTHORIZED => Attempt::Unauthorized {
            refused: credential,
            reason,
        },
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => Attempt::Refused(reason),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Attempt::Failed {
            reason,
            retry_after,
        },
        status if status.is_server_error() => Attempt::Failed {
            reason,
            retry_after,
        },
        _ => Attempt::Denied(reason),
    }
}

/// `Retry-After` in seconds or as a date, which is compared with the service's own clock.
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = DateTime::parse_from_rfc2822(value).ok()?;
    let now = DateTime::parse_from_rfc2822(headers.get(DATE)?.to_str().ok()?).ok()?;
    Some((then - now).to_std().unwrap_or_default())
}

/// Status, code and message of an error, without the credential should the answer repeat it.
async fn reason(mut response: Response, credential: &HeaderValue) -> String {
    #[derive(Deserialize)]
    struct Body {
        error: ServiceError,
    }
    #[derive(Deserialize)]
    struct ServiceError {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let mut body = Vec::new();
    while body.len() < MAX_ERROR_BODY {
        match response.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) | Err(_) => break,
        }
    }
    let text = match serde_json::from_slice(&body) {
        Ok(Body {
            error: ServiceError { code, message },
        }) => format!("{code}: {message}"),
        Err(_) => String::from_utf8_lossy(&body).into_owned(),
    };
    let secret = credential.to_str().unwrap_or_default();
    let secret = secret.strip_prefix("Bearer ").unwrap_or(secret);
    let text = if secret.is_empty() {
        text
    } else {
        text.replace(secret, "[redacted]")
    };
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}: {text}", response.status())
        .chars()
        .take(MAX_ERROR_TEXT)
        .collect()
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text.chars().take(MAX_ERROR_TEXT).collect()
}

/// Between half and all of a delay that doubles with every failure, so that callers who failed together come back apart.
pub(crate) fn jittered(failures: u32) -> Duration {
    let delay = FIRST_DELAY
        .saturating_mul(1 << failures.saturating_sub(1).min(10))
        .min(LAST_DELAY);
    // Every `RandomState` has other keys, which is random enough here.
    let thousandths = RandomState::new().hash_one(failures) % 501;
    delay / 2 + delay / 1_000 * u32::try_from(thousandths).unwrap_or_default()
}
