//! Publishing: the port through which the engine hands stored events to Event Grid.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

/// Where outgoing events go.
pub trait Publisher: Send + Sync {
    /// Publishes `events`, each one a CloudEvent in the JSON format (a serialized object).
    ///
    /// All or nothing as far as the caller can tell: an error leaves the outcome of every event unknown,
    /// and the caller publishes the same events, with the same ids, again.
    /// `budget` bounds the whole call, retries included.
    fn publish(
        &self,
        events: Vec<Bytes>,
        budget: Duration,
    ) -> BoxFuture<'_, Result<(), PublishError>>;
}

/// Why events could not be published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// The topic refused the request for good (400, 403, 404, 413, or 401 after one token refresh).
    #[error("the topic refused the events: {0}")]
    Refused(String),
    /// The topic could not be reached or did not accept the events within the budget; the outcome is unknown.
    #[error("the topic did not accept the events in time: {0}")]
    Unavailable(String),
}
