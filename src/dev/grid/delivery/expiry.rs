//! What is over before it is delivered: events that lived too long, and subscriptions.

use std::{future::pending, sync::Arc};

use tokio::{sync::mpsc::UnboundedReceiver, time::sleep};

use super::{ARRIVALS, Delivery, Due, OWN_FAILURE, condemned};
use crate::dev::{
    ambient::now,
    grid::{
        clock::Moment,
        retry::{LIFE_EXCEEDED, Outcome},
        store::{LastAttempt, Leaves},
    },
    stop::Stop,
};

impl Delivery {
    /// Whether the event's life is over, now that the time of its next attempt has come. The first attempt is always made,
    /// unless probation, or an endpoint that had not agreed to it, has put it off until then.
    pub(super) fn is_over(&self, due: &Due, now: Moment) -> bool {
        self.subscription.retry.is_over(now.since(due.accepted))
            && (due.attempt > 1
                || self.standing.is_on_probation()
                || self.standing.agreed_after(due.accepted))
    }

    /// Gives up an event without the attempt whose time has come. Returns what is left to do.
    pub(super) async fn give_up_untried(&self, due: Due) -> Vec<Due> {
        let last = due.last.clone().unwrap_or_else(|| {
            Arc::new(LastAttempt {
                outcome: Outcome::Probation,
                problem: "nothing was delivered to the endpoint meanwhile".to_owned(),
                at: now(),
            })
        });
        let due = Due {
            text: None,
            attempt: due.attempt.saturating_sub(1),
            last: Some(last),
            ..due
        };
        let leaves = self.given_up(LIFE_EXCEEDED, self.means.clock.now());
        let due = match self.leave(due, leaves).await {
            Ok(due) => due,
            Err(again) => return again,
        };
        if let (Leaves::Dropped, Some(last)) = (leaves, &due.last) {
            self.tell_dropped(&due, due.attempt, LIFE_EXCEEDED, &last.problem);
        }
        condemned(due, leaves).into_iter().collect()
    }

    /// Returns when the subscription expires, if ever.
    pub(super) async fn expires(&self) {
        match self.standing.expires {
            Some(expires) => self.means.clock.reaches(expires).await,
            None => pending().await,
        }
    }

    /// The subscription has expired: gives up what is left, and what still arrives.
    pub(super) async fn forget(&self, mut arrivals: UnboundedReceiver<Vec<Due>>, stop: &Stop) {
        let name = self.subscription.name;
        self.means.terminal.notice(format!(
            "{name} has expired (expirationTimeUtc): nothing more is delivered for it"
        ));
        let mut arrived = Vec::new();
        loop {
            while let Err(error) = self.means.store.forget(name).await {
                self.means.terminal.alarm(format!(
                    "the deliveries of {name} cannot be given up: {error}; tried again in {} s",
                    OWN_FAILURE.as_secs()
                ));
                sleep(OWN_FAILURE).await;
            }
            tokio::select! {
                1.. = arrivals.recv_many(&mut arrived, ARRIVALS) => arrived.clear(),
                () = stop.requested() => return,
                else => return,
            }
        }
    }
}
