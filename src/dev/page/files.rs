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

const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// What the page loads: path, content type and content.
const FILES: [(&str, &str, &str); 11] = [
    ("/page/page.css", STYLE, include_str!("page.css")),
    ("/page/icon.svg", "image/svg+xml", include_str!("icon.svg")),
    ("/page/page.js", SCRIPT, include_str!("page.js")),
    ("/page/clock.js", SCRIPT, include_str!("clock.js")),
    ("/page/dom.js", SCRIPT, include_str!("dom.js")),
    ("/page/events.js", SCRIPT, include_str!("events.js")),
    ("/page/faults.js", SCRIPT, include_str!("faults.js")),
    ("/page/flow.js", SCRIPT, include_str!("flow.js")),
    ("/page/letters.js", SCRIPT, include_str!("letters.js")),
    ("/page/orders.js", SCRIPT, include_str!("orders.js")),
    ("/page/sending.js", SCRIPT, include_str!("sending.js")),
];

/// Where they are.
pub(super) fn routes() -> Router {
    let route = |router: Router, (path, content_type, content)| {
        router.route(path, get(async move || file(content_type, content)))
    };
    FILES.into_iter().fold(Router::new(), route)
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
