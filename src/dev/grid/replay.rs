//! Replaying a dead letter: its event goes once more to the function that did not take it, and to no other.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    admission::{Refusal, admit_again},
    dead_letters::{OpenedLetter, PlaceError},
    open_grid::OpenGrid,
};
use crate::dev::{body, json::Json};

/// A path and what stands around it.
const MAXIMUM_BYTES: usize = 4096;

/// Which letter to replay: its path as `/deadletters` shows it.
#[derive(Debug, Deserialize)]
struct Wanted {
    path: String,
}

/// Why a letter is not replayed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unplayable {
    #[error("the body must be {{\"path\": …}}, the path as /deadletters shows it: {0}")]
    Body(String),
    #[error("there is no dead letter at {0}: it may have been replayed already")]
    Unknown(String),
    #[error("there is no subscription {0} now: start the grid with the subscriptions that have it")]
    NoFunction(String),
    #[error("the dead letter cannot be read or removed: {0}")]
    Letter(#[from] PlaceError),
    #[error("the replay broke off")]
    BrokenOff,
    #[error("the event of the dead letter is not accepted: {0}")]
    Event(#[from] Refusal),
    #[error("the grid's database failed: {0}")]
    Store(#[from] super::StoreError),
}

impl IntoResponse for Unplayable {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Body(_) => StatusCode::BAD_REQUEST,
            Self::Unknown(_) => StatusCode::NOT_FOUND,
            Self::NoFunction(_) | Self::Event(_) => StatusCode::CONFLICT,
            Self::Letter(_) | Self::BrokenOff | Self::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let body = json!({"error": {"message": self.to_string()}});
        (status, Json(body)).into_response()
    }
}

/// Answers once the new delivery is on disk.
pub(super) async fn replay(
    State(grid): State<Arc<OpenGrid>>,
    request: Request,
) -> Result<Response, Unplayable> {
    let body = body::read(request.into_body(), MAXIMUM_BYTES)
        .await
        .map_err(|error| Unplayable::Body(error.to_string()))?;
    let wanted: Wanted =
        serde_json::from_slice(&body).map_err(|error| Unplayable::Body(error.to_string()))?;
    // A sender that goes away does not stop a replay half-way.
    let replayed = tokio::spawn(async move { grid.replay(wanted.path).await }).await;
    let function = replayed.map_err(|_| Unplayable::BrokenOff)??;
    Ok(Json(json!({"replayedTo": function})).into_response())
}

impl OpenGrid {
    /// Accepts the letter's event once more, for its function alone, and removes the letter. Killed in between, the grid
    /// keeps the letter though it is replayed: at least once, never not at all. Returns the function.
    async fn replay(&self, path: String) -> Result<&'static str, Unplayable> {
        let _alone = self.replaying.lock().await;
        let opened = self.dead_letters.open(&path).await?;
        let letter = opened.ok_or(Unplayable::Unknown(path))?;
        let function = self
            .subscriptions
            .keys()
            .copied()
            .find(|function| function.to_uppercase() == letter.subscription)
            .ok_or_else(|| Unplayable::NoFunction(letter.subscription.clone()))?;
        let text = self.text_of(&letter, function).await?;
        let topic = self.topic_of(function);
        let events = admit_again(topic, &text)?;
        let routed = events.into_iter().map(|event| (event, vec![function]));
        self.keep_and_deliver(topic, routed.collect()).await?;
        self.dead_letters.remove(&letter).await?;
        Ok(function)
    }

    /// The event byte for byte as it was accepted, or as the letter has it when the grid has forgotten the event.
    async fn text_of(
        &self,
        letter: &OpenedLetter,
        function: &'static str,
    ) -> Result<String, Unplayable> {
        let candidates = self.store.accepted_at(letter.accepted_at, function).await?;
        // Whether it is marked as a dead letter does not matter: the letter comes a moment before the mark.
        let kept = candidates
            .into_iter()
            .find(|(number, _)| letter.is_of(function, *number));
        Ok(kept.map_or_else(|| letter.text.clone(), |(_, text)| text))
    }
}
