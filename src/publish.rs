//! Publishing: the port through which the engine hands stored events to Event Grid.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::Instant;

mod batching;
mod credential;
mod event_grid;

pub use batching::{BatchingPublisher, MAX_IN_FLIGHT};
pub use credential::{Credential, TOKEN_SCOPE};
pub use event_grid::{EndpointError, EventGridPublisher};

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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The topic refused these events for good (400, 413, or one of them is too big): others may still go through.
    #[error("the topic refused the events: {0}")]
    Refused(String),
    /// The topic lets nothing of ours in (401 after one token refresh, 403, 404 …), whatever the events: its endpoint,
    /// our credential or our role is to be put right.
    #[error("the topic denies us publishing: {0}")]
    Denied(String),
    /// The topic could not be reached or did not accept the events within the budget; the outcome is unknown.
    #[error("the topic did not accept the events in time: {0}")]
    Unavailable(String),
}

/// No caller has longer than this, whatever it says.
const LONGEST_BUDGET: Duration = Duration::from_secs(10 * 60);

pub(crate) fn deadline(budget: Duration) -> Instant {
    Instant::now() + budget.min(LONGEST_BUDGET)
}
