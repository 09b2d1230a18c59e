//! What the grid still has to do: what is under way, and what only waits for its time.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    extract::State,
    response::{IntoResponse as _, Response},
};
use serde_json::json;

use super::{StoreError, clock::Moment, open_grid::OpenGrid, routes::unreadable, store::Backlog};
use crate::dev::json::Json;

/// Counts of deliveries, and when something happens by itself.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// Those that are not over.
    pending: u32,
    /// Those of them that do not just wait: for a moment of the clock, or for an endpoint to agree.
    under_way: u32,
    /// Those that wait for an endpoint that has refused the handshake, by subscription.
    pub(super) awaiting_handshake: BTreeMap<String, u32>,
    /// The first moment that one of the others waits for.
    pub(super) next: Option<Moment>,
}

impl Progress {
    pub(super) async fn of(grid: &OpenGrid) -> Result<Self, StoreError> {
        let now = grid.clock.now();
        let mut progress = Self::default();
        for backlog in grid.store.pending(now).await? {
            let standing = grid.standings.get(backlog.subscription.as_str());
            if standing.is_some_and(|standing| standing.is_refused()) {
                progress.pending += backlog.pending;
                let waiting = backlog.pending;
                progress
                    .awaiting_handshake
                    .insert(backlog.subscription, waiting);
                continue;
            }
            let (held_until, under_way) =
                standing.map(|standing| standing.held()).unwrap_or_default();
            progress.add(&backlog, held_until.filter(|until| *until > now), under_way);
        }
        Ok(progress)
    }

    /// Adds the deliveries of a subscription that probation holds until then, but for so many under way.
    fn add(&mut self, backlog: &Backlog, held_until: Option<Moment>, under_way: u32) {
        self.pending += backlog.pending;
        let next = match held_until {
            None => {
                self.under_way += backlog.due;
                backlog.next
            }
            Some(until) => {
                let under_way = under_way.min(backlog.due);
                self.under_way += under_way;
                let held = backlog.due > under_way;
                let later = backlog.next.map(|next| next.max(until));
                if held { Some(until) } else { later }
            }
        };
        self.next = match (self.next, next) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
    }
}

/// `GET /idle`: 0 pending once the grid has nothing more to do, 0 under way once nothing more happens before its
/// time, or before an endpoint agrees to be delivered to.
pub(super) async fn idle(State(grid): State<Arc<OpenGrid>>) -> Response {
    match Progress::of(&grid).await {
        Ok(progress) => {
            let shown = json!({
                "pending": progress.pending,
                "underWay": progress.under_way,
                "awaitingHandshake": progress.awaiting_handshake.values().sum::<u32>(),
            });
            Json(shown).into_response()
        }
        Err(error) => unreadable(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_probation_holds_back_waits_for_its_end() {
        let backlog = |pending, due, next: Option<i64>| Backlog {
            subscription: "one".to_owned(),
            pending,
            due,
            next: next.map(Moment::numbered),
        };
        let seen = |backlog: &Backlog, held: Option<i64>, under_way| {
            let mut progress = Progress::default();
            progress.add(backlog, held.map(Moment::numbered), under_way);
            let next = progress.next.map(Moment::number);
            (progress.pending, progress.under_way, next)
        };
        assert_eq!(seen(&backlog(5, 2, Some(70)), None, 2), (5, 2, Some(70)));
        assert_eq!(
            seen(&backlog(5, 2, Some(70)), Some(40), 0),
            (5, 0, Some(40))
        );
        assert_eq!(
            seen(&backlog(5, 2, Some(70)), Some(90), 2),
            (5, 2, Some(90))
        );
        assert_eq!(
            seen(&backlog(5, 0, Some(70)), Some(40), 0),
            (5, 0, Some(70))
        );
        assert_eq!(seen(&backlog(1, 1, None), Some(40), 1), (1, 1, None));
    }
}
