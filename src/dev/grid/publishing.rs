//! Publishing: which topic a request is for, whether it may, and whether all of its events are accepted.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Request, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    routing::post,
};
use tokio::time::Instant;

use super::{
    admission::{AdmittedEvent, MAXIMUM_BYTES, Refusal, admit, check_api_version},
    filters::{Filter, FilteredEvent},
    open_grid::OpenGrid,
    throttle::Throttle,
    topics::{CustomTopic, Origin},
};
use crate::dev::{
    ambient::now,
    body::{self, BodyError},
};

/// A topic that takes events.
#[derive(Debug)]
pub(super) struct OpenTopic {
    pub(super) origin: Origin,
    /// Where it is published to. The first one is for clients that drop the path, if it has one.
    pub(super) addresses: Vec<String>,
    pub(super) tokens_only: bool,
    /// None: it takes whatever comes.
    throttle: Option<Throttle>,
    /// What each subscription takes.
    pub(super) filters: Vec<(&'static str, Filter)>,
}

impl OpenTopic {
    /// The topic at this position, the default one at 0, of a grid with this address.
    pub(super) fn new(position: usize, topic: &CustomTopic, address: &str, throttle: bool) -> Self {
        let mut addresses = vec![format!("{address}/{}/api/events", topic.origin.topic)];
        if position == 0 {
            addresses.insert(0, format!("{address}/api/events"));
        }
        let filters = topic.subscriptions.iter();
        Self {
            origin: topic.origin,
            addresses,
            tokens_only: topic.tokens_only,
            throttle: throttle.then(Throttle::default),
            filters: filters.map(|one| (one.name, one.filter.clone())).collect(),
        }
    }

    /// The subscriptions that take the event.
    pub(super) fn takers(&self, event: &AdmittedEvent) -> Vec<&'static str> {
        let event = FilteredEvent::new(&event.event_type, event.subject.as_deref(), &event.text);
        self.filters
            .iter()
            .filter_map(|(name, filter)| filter.takes(&event).then_some(*name))
            .collect()
    }
}

/// Publishing to the topic at this position, without its name.
pub(super) fn without_name(grid: Arc<OpenGrid>, position: usize) -> Router {
    let publish = move |State(grid): State<Arc<OpenGrid>>, request: Request| async move {
        match grid.topics.get(position) {
            Some(topic) => publish(&grid, topic, request).await,
            None => Err(Refusal::NotFound),
        }
    };
    Router::new()
        .route("/", post(publish))
        .route("/api/events", post(publish))
        .with_state(grid)
}

/// Publishing to any topic, by its name.
pub(super) fn by_name(grid: Arc<OpenGrid>) -> Router {
    // There may be no such page, whatever the method.
    let by_name = || post(publish_by_name).fallback(async || Refusal::NotFound);
    Router::new()
        .route("/{topic}", by_name())
        .route("/{topic}/api/events", by_name())
        .with_state(grid)
}

/// Topics are named without regard to case, as in Azure.
async fn publish_by_name(
    State(grid): State<Arc<OpenGrid>>,
    Path(name): Path<String>,
    request: Request,
) -> Result<StatusCode, Refusal> {
    let named = |topic: &&OpenTopic| topic.origin.topic.eq_ignore_ascii_case(&name);
    let Some(named) = grid.topics.iter().find(named) else {
        let known = grid.topics.iter().map(|topic| topic.origin.topic);
        return Err(Refusal::UnknownTopic {
            asked: name.escape_debug().to_string(),
            known: known.collect::<Vec<_>>().join(", "),
        });
    };
    publish(&grid, named, request).await
}

async fn publish(
    grid: &OpenGrid,
    topic: &OpenTopic,
    request: Request,
) -> Result<StatusCode, Refusal> {
    let (parts, body) = request.into_parts();
    grid.gate
        .check(&parts.headers, &parts.uri, topic.tokens_only, now())?;
    check_api_version(parts.uri.query())?;
    let body = body::read(body, MAXIMUM_BYTES)
        .await
        .map_err(|error| match error {
            BodyError::TooLarge(_) => Refusal::TooLarge,
            BodyError::Incomplete => Refusal::Incomplete(error.to_string()),
        })?;
    let events = admit(topic.origin, content_type(&parts.headers), &body)?;
    if let Some(throttle) = &topic.throttle {
        throttle
            .pass(&events, Instant::now())
            .map_err(Refusal::Throttled)?;
    }
    grid.accept(topic, events).await?;
    Ok(StatusCode::OK)
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
}
