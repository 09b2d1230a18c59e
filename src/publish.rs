//! Publishing: the port through which the engine hands stored events to Event Grid.

use std::{net::IpAddr, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use reqwest::{Client, redirect::Policy};
use tokio::time::Instant;
use url::{Host, Url};

mod batching;
mod credential;
mod event_grid;

pub use batching::{BatchingPublisher, MAX_IN_FLIGHT};
pub use credential::{Credential, Token, TokenCache, TokenError, TokenSource};
pub use event_grid::{EndpointError, EventGridPublisher};
pub(crate) use event_grid::{chain, jittered, retry_after};

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

/// A handshake with the topic or the identity endpoint that takes longer will not succeed.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// What every HTTP client here has in common.
pub(crate) fn client_builder() -> reqwest::ClientBuilder {
    // reqwest comes without a TLS implementation and panics if none is installed. Someone may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("orderflow/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_LIMIT)
}

/// A client for one service: its requests carry a secret, so they go where they are sent and nowhere else.
pub(crate) fn client_for(endpoint: &Url) -> Result<Client, reqwest::Error> {
    let mut client = client_builder().redirect(Policy::none());
    if is_loopback(endpoint) {
        client = client.no_proxy();
    }
    if endpoint.scheme() == "http" {
        // Reading the system's certificates takes longer than the rest of a start, and here nothing is verified.
        client = client.tls_certs_only([]);
    }
    client.build()
}

fn is_loopback(endpoint: &Url) -> bool {
    match endpoint.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}
