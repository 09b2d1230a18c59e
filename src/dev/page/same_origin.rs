//! Keeping other pages of the same browser out.
//!
//! A page from anywhere may send requests to this machine, and one whose name suddenly resolves to 127.0.0.1 may read the
//! answers too. A browser says in `Origin` which page sends, and in `Host` which name was asked for.

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderName, StatusCode,
        header::{HOST, ORIGIN},
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use serde_json::json;
use url::{Host, Url};

use crate::dev::json::Json;

/// Lets a request through unless a page of another origin sends it. Programs that are no browsers send no `Origin`.
pub(in crate::dev) async fn of_no_foreign_page(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let own = header(headers, &HOST).filter(|host| is_loopback(host));
    let from_elsewhere = headers.contains_key(ORIGIN)
        && own.is_none_or(|host| header(headers, &ORIGIN) != Some(&format!("http://{host}")));
    if from_elsewhere {
        return refusal("a page of another origin may not send requests to the local Event Grid");
    }
    next.run(request).await
}

/// Lets a request through if it was sent to this machine by one of its own names.
pub(in crate::dev) async fn asked_by_its_address(request: Request, next: Next) -> Response {
    if header(request.headers(), &HOST).is_none_or(|host| !is_loopback(host)) {
        return refusal("this is for localhost or 127.0.0.1 only: use that as the host's name");
    }
    next.run(request).await
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_loopback(host: &str) -> bool {
    let Ok(address) = Url::parse(&format!("http://{host}")) else {
        return false;
    };
    match address.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn refusal(message: &str) -> Response {
    let body = json!({"error": {"code": "Forbidden", "message": message}});
    (StatusCode::FORBIDDEN, Json(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_its_own() {
        for host in ["localhost:6500", "127.0.0.1", "127.1.2.3:80", "[::1]:6500"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1:6500", "example.com", "", "@"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
