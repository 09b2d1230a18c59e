//! The live page at the grid's port: its files, what it must know at the start, what happens as it happens, and the way
//! to the orders behind the host.
//!
//! The page is plain HTML, CSS and one module of JavaScript, built into the program. It loads nothing from elsewhere and
//! speaks with the grid alone.

mod files;
mod orders;
mod same_origin;
mod stream;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{
        HeaderMap,
        header::{ACCEPT, CACHE_CONTROL},
    },
    response::IntoResponse,
    routing::get,
};
use reqwest::Client;
use serde_json::{Value, json};
use url::Url;

pub(super) use self::{
    files::index,
    same_origin::{asked_by_its_address, of_no_foreign_page},
};
use super::{
    DEVELOPMENT_KEY, DevError, Samples, client, json::Json, stop::Stop, terminal::Terminal,
};

/// What the page's routes work with.
#[derive(Debug, Clone)]
pub(super) struct Page {
    setup: Arc<Value>,
    host: Url,
    client: Client,
    terminal: Terminal,
    stop: Stop,
}

impl Page {
    /// The page of a grid with these topics, the default one first, and subscriptions, that delivers to this host. Its streams end with `stop`.
    pub(super) fn new(
        topics: &Value,
        host: Url,
        subscriptions: &Value,
        samples: Samples,
        terminal: Terminal,
        stop: Stop,
    ) -> Result<Self, DevError> {
        let events: Vec<_> = samples
            .events
            .into_iter()
            .map(|(event_type, json)| json!({"type": event_type, "json": json}))
            .collect();
        let setup = json!({
            "topics": topics,
            // No secret: the same for everybody, and written in the README.
            "key": DEVELOPMENT_KEY,
            "host": host.as_str(),
            "subscriptions": subscriptions,
            "samples": {"events": events, "orderId": samples.order_id, "order": samples.order},
        });
        Ok(Self {
            setup: Arc::new(setup),
            host,
            client: client::loopback()?,
            terminal,
            stop,
        })
    }
}

/// Whether the sender would rather have the page than JSON: a browser that was given the address.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    headers
        .get(ACCEPT)
        .and_then(|accept| accept.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

/// Everything of the page but [`index`].
pub(super) fn routes(page: Page) -> Router {
    Router::new()
        .route("/page/setup", get(setup))
        .route("/stream", get(stream::stream))
        .route("/api/orders", get(orders::forward).post(orders::forward))
        .route(
            "/api/orders/{*path}",
            get(orders::forward).post(orders::forward),
        )
        .with_state(page)
        .merge(files::routes())
}

async fn setup(State(page): State<Page>) -> impl IntoResponse {
    (
        [(CACHE_CONTROL, "no-store")],
        Json(page.setup.as_ref().clone()),
    )
}
