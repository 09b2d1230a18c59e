//! What every HTTP client here has in common.

use std::{error::Error, net::IpAddr, time::Duration};

use axum::http::{
    HeaderMap,
    header::{DATE, RETRY_AFTER},
};
use chrono::DateTime;
use reqwest::{Client, ClientBuilder, redirect::Policy};
use url::{Host, Url};

/// A handshake that takes longer will not succeed.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// As much of an error as is told.
const MAX_ERROR_TEXT: usize = 500;

/// A client with a limit for connecting, and with the TLS library.
pub(crate) fn builder() -> ClientBuilder {
    // reqwest comes without a TLS implementation and panics if none is installed. Someone may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("orderflow/", env!("CARGO_PKG_VERSION")))
        .connect_timeout(CONNECT_LIMIT)
}

/// A client for one service: its requests carry a secret, so they go where they are sent and nowhere else.
///
/// # Errors
/// This machine's certificates cannot be read.
pub(crate) fn for_service(endpoint: &Url) -> Result<Client, reqwest::Error> {
    let mut client = builder().redirect(Policy::none());
    if is_loopback(endpoint) {
        client = client.no_proxy();
    }
    if endpoint.scheme() == "http" {
        // Reading the system's certificates takes longer than the rest of a start, and here nothing is verified.
        client = client.tls_certs_only([]);
    }
    client.build()
}

/// Whether a URL leads to this machine.
pub(crate) fn is_loopback(endpoint: &Url) -> bool {
    match endpoint.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
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
