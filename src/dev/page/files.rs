//! The page's files, built into the program.

use axum::{
    Router,
    http::{
        HeaderName,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse as _, Response},
    routing::get,
};

/// Only files of the grid itself, no script or style within the page, and no place in another page's frame.
const POLICY: &str = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// The page itself.
pub(in crate::dev) fn index() -> Response {
    file("text/html; charset=utf-8", include_str!("index.html"))
}

/// What the page loads.
pub(super) fn routes() -> Router {
    Router::new()
        .route(
            "/page/page.css",
            get(async || file("text/css; charset=utf-8", include_str!("page.css"))),
        )
        .route(
            "/page/page.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("page.js"))),
        )
        .route(
            "/page/icon.svg",
            get(async || file("image/svg+xml", include_str!("icon.svg"))),
        )
}

fn file(content_type: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, &'static str); 6] = [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The next version of the program may have another page.
        (CACHE_CONTROL, "no-cache"),
        (VARY, "accept"),
    ];
    (headers, content).into_response()
}
