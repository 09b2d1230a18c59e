//! What every HTTP client here has in common.

use std::time::Duration;

/// A handshake that takes longer will not succeed.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A client with a limit for connecting, and with the TLS library.
pub(crate) fn builder() -> reqwest::ClientBuilder {
    // reqwest comes without a TLS implementation and panics if none is installed. Someone may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder()
        .user_agent(concat!("orderflow/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_LIMIT)
}
