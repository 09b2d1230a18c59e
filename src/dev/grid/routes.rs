//! What the grid's main port answers.

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    admission::Refusal, authentication::identity_routes, clock, faults, open_grid::OpenGrid,
    progress, publishing, replay, store::EventQuery,
};
use crate::dev::{
    json::Json,
    page::{self, Page},
};

/// How many events or dead letters are shown unless asked otherwise, and at most.
const SHOWN: u32 = 100;
const SHOWN_AT_MOST: u32 = 1_000;

pub(super) fn router(grid: Arc<OpenGrid>, page: Page) -> Router {
    let identity = identity_routes(grid.gate.clone());
    let own = Router::new()
        .route("/", get(index))
        .route("/events", get(events))
        .route("/deadletters", get(dead_letters))
        .route("/deadletters/replay", post(replay::replay))
        .route("/faults", get(faults::list).put(faults::replace))
        .merge(clock::routes())
        .route("/idle", get(progress::idle))
        .route("/consent/{id}", get(consent).post(consent))
        .with_state(Arc::clone(&grid))
        .merge(page::routes(page))
        .route_layer(middleware::from_fn(page::asked_by_its_address));
    let publishing = publishing::by_name(Arc::clone(&grid));
    let publishing = publishing.merge(publishing::without_name(grid, 0));
    guarded(own.merge(publishing).merge(identity))
}

/// What every port has in common.
pub(super) fn guarded(router: Router) -> Router {
    router
        .fallback(async || Refusal::NotFound)
        .layer(middleware::from_fn(page::of_no_foreign_page))
        .layer(CatchPanicLayer::new())
}

/// The page for browsers, and for everybody else what there is.
async fn index(State(grid): State<Arc<OpenGrid>>, headers: HeaderMap) -> Response {
    if page::is_wanted(&headers) {
        return page::index();
    }
    Json(json!({
        "name": "orderflow local Event Grid",
        "publish": "POST /api/events",
        "topics": grid.shown_topics(),
        "events": "/events?after=&limit=&subject=",
        "deadLetters": "/deadletters?limit=",
        "replay": "POST /deadletters/replay",
        "faults": "GET and PUT /faults",
        "clock": "GET and PUT /clock, POST /clock/step",
        "stream": "/stream",
        "idle": "/idle",
    }))
    .into_response()
}

#[derive(Debug, Deserialize)]
struct EventsAsked {
    after: Option<i64>,
    limit: Option<u32>,
    subject: Option<String>,
}

/// Without `after` the newest events, with it those that follow: ask again with `next` to go on.
async fn events(State(grid): State<Arc<OpenGrid>>, Query(asked): Query<EventsAsked>) -> Response {
    let limit = asked.limit.unwrap_or(SHOWN).min(SHOWN_AT_MOST);
    let query = EventQuery {
        after: asked.after,
        subject: asked.subject,
        limit,
    };
    match grid.store.events(query, Arc::clone(&grid.clock)).await {
        Ok(events) => {
            let next = events.last().map(|event| event.number).or(asked.after);
            Json(json!({"events": events, "next": next})).into_response()
        }
        Err(error) => unreadable(&error),
    }
}

#[derive(Debug, Deserialize)]
struct LettersAsked {
    limit: Option<u32>,
}

async fn dead_letters(
    State(grid): State<Arc<OpenGrid>>,
    Query(asked): Query<LettersAsked>,
) -> Response {
    let limit = asked.limit.unwrap_or(SHOWN).min(SHOWN_AT_MOST);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    match grid.dead_letters.list(limit).await {
        Ok(letters) => Json(json!({"deadLetters": letters})).into_response(),
        Err(error) => unreadable(&error),
    }
}

/// An endpoint's consent to be delivered to, given later than in the handshake itself.
async fn consent(
    State(grid): State<Arc<OpenGrid>>,
    Path(id): Path<String>,
) -> Result<&'static str, Refusal> {
    let callback = grid.callbacks.iter().find(|callback| callback.id() == id);
    let given = callback.is_some_and(|callback| callback.consent());
    given
        .then_some("events are delivered from now on")
        .ok_or(Refusal::NotFound)
}

pub(super) fn unreadable(error: &dyn std::error::Error) -> Response {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        Json(json!({"error": {"message": error.to_string()}})),
    )
        .into_response()
}
