//! The HTTP client of the stand-ins.

use reqwest::{Client, redirect::Policy};

use super::DevError;

/// A client for addresses on this machine: no proxy, no cookies, and a redirect is an answer like any other.
///
/// That holds for the host as well: with `enableForwardingHttpRequest`, which Orderflow's host.json sets,
/// the real host does not follow redirects either.
pub(crate) fn loopback() -> Result<Client, DevError> {
    // The client cannot be built without a provider of cryptography, even for plain HTTP.
    // An error means that one is installed already.
    drop(rustls::crypto::ring::default_provider().install_default());
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .build()
        .map_err(|error| DevError::Client(error.to_string()))
}

/// What went wrong, with its cause: the error of the client itself says only that something did.
pub(crate) fn describe(error: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    deepest.to_string()
}

/// Whether an address leads to this machine.
pub(super) fn is_on_this_machine(address: &url::Url) -> bool {
    match address.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}
