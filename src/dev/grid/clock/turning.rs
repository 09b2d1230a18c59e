//! The clock over HTTP: what it shows, turning it, and how fast it runs.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::json;

use crate::dev::{
    ambient::timestamp,
    body,
    grid::{
        StoreError,
        open_grid::OpenGrid,
        progress::Progress,
        speed::{FASTEST, Speed},
    },
    json::Json,
};

/// A number and what stands around it.
const MAXIMUM_BYTES: usize = 4096;

/// The longest step: a year, in seconds.
const LONGEST_STEP: f64 = 366.0 * 86_400.0;

/// Why the clock is not turned or cannot be shown.
#[derive(Debug, thiserror::Error)]
enum Unturned {
    #[error("{0}")]
    Body(String),
    #[error("the grid's database failed: {0}")]
    Store(#[from] StoreError),
}

impl IntoResponse for Unturned {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::Body(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Store(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError"),
        };
        let body = json!({"error": {"code": code, "message": self.to_string()}});
        (status, Json(body)).into_response()
    }
}

pub(in crate::dev::grid) fn routes() -> Router<Arc<OpenGrid>> {
    Router::new()
        .route("/clock", get(show).put(run_at))
        .route("/clock/step", post(step))
}

/// By how much to turn it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, expecting = "an object")]
struct Step {
    seconds: Option<f64>,
    to: Option<Destination>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Destination {
    /// The moment when the time of the next delivery that waits comes.
    Next,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object")]
struct NewSpeed {
    speed: f64,
}

/// The clock as it is shown. Times are in its own seconds.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    speed: f64,
    /// How far it was turned by hand, in all.
    turned: f64,
    next: Option<Next>,
    /// What no turn of the clock moves: deliveries whose endpoint has refused the handshake, by subscription.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    awaiting_handshake: BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stepped: Option<f64>,
}

/// When the time of the next delivery that waits comes.
#[derive(Debug, Serialize)]
struct Next {
    #[serde(rename = "in")]
    seconds: f64,
    /// In real time. None while the clock stands still.
    at: Option<String>,
}

impl Shown {
    async fn of(grid: &OpenGrid) -> Result<Self, StoreError> {
        let clock = &grid.clock;
        let progress = Progress::of(grid).await?;
        let next = progress.next.map(|next| Next {
            seconds: next.since(clock.now()).as_secs_f64(),
            at: clock.real_time(next).map(timestamp),
        });
        Ok(Self {
            speed: clock.speed().times(),
            turned: clock.reading().turned.as_secs_f64(),
            next,
            awaiting_handshake: progress.awaiting_handshake,
            stepped: None,
        })
    }
}

async fn show(State(grid): State<Arc<OpenGrid>>) -> Result<Response, Unturned> {
    Ok(Json(Shown::of(&grid).await?).into_response())
}

/// `POST /clock/step`: answers once it is on disk how far the clock is turned.
async fn step(State(grid): State<Arc<OpenGrid>>, request: Request) -> Result<Response, Unturned> {
    const WANTED: &str =
        r#"send {"seconds": 3600}, a number above 0 and at most a year's, or {"to": "next"}"#;
    let step: Step = read(request, WANTED).await?;
    let before = grid.clock.reading().turned;
    match (step.seconds, step.to) {
        (Some(seconds), None) if seconds > 0.0 && seconds <= LONGEST_STEP => {
            grid.clock.turn(Duration::from_secs_f64(seconds));
        }
        (None, Some(Destination::Next)) => {
            if let Some(next) = Progress::of(&grid).await?.next {
                grid.clock.turn_to(next);
            }
        }
        _ => return Err(Unturned::Body(WANTED.to_owned())),
    }
    let kept = grid.clock.reading();
    grid.store.keep_clock(kept).await?;
    let shown = Shown {
        stepped: Some(kept.turned.saturating_sub(before).as_secs_f64()),
        ..Shown::of(&grid).await?
    };
    Ok(Json(shown).into_response())
}

/// `PUT /clock`: lets it run at another speed from now on.
async fn run_at(State(grid): State<Arc<OpenGrid>>, request: Request) -> Result<Response, Unturned> {
    let wanted = format!(r#"send {{"speed": 60}}, a number from 0 (it stands still) to {FASTEST}"#);
    let NewSpeed { speed } = read(request, &wanted).await?;
    let speed = Speed::new(speed).ok_or(Unturned::Body(wanted))?;
    grid.clock.run_at(speed);
    grid.terminal.notice(if speed.times() > 0.0 {
        format!(
            "Event Grid's clock runs {} times as fast as the real one from now on",
            speed.times()
        )
    } else {
        "Event Grid's clock stands still from now on".to_owned()
    });
    show(State(grid)).await
}

async fn read<T: DeserializeOwned>(request: Request, wanted: &str) -> Result<T, Unturned> {
    let body = body::read(request.into_body(), MAXIMUM_BYTES)
        .await
        .map_err(|error| Unturned::Body(error.to_string()))?;
    serde_json::from_slice(&body).map_err(|error| Unturned::Body(format!("{error}; {wanted}")))
}
