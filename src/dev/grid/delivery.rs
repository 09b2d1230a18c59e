//! Delivering events for one subscription: the attempts, the waits between them and the end of it.

mod due;
mod handshake;
mod probation;
mod request;
mod validation;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::join_all;
use reqwest::Client;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::JoinSet,
    time::{Instant, sleep_until},
};
use url::Url;

use self::{
    due::Waiting,
    probation::{Change, Probation},
    request::Loaded,
};
pub(super) use self::{
    due::{Due, HeldText},
    handshake::Callback,
};
use super::{
    dead_letters::{DeadLetter, DeadLetters},
    faults::Faults,
    retry::{Jitter, Next, Outcome, Speed, after_failure},
    store::{Attempt, Condemned, GridStore, Leaves},
    subscriptions::EventSubscription,
};
use crate::dev::{
    ambient::now,
    stop::Stop,
    terminal::{EventReport, Happening, Terminal},
};

/// How long an endpoint may take to answer. Not shortened by the speed: it is the function's own time.
const ANSWER: Duration = Duration::from_secs(30);

/// How long to wait when the grid itself failed: its database or the folder of dead letters.
const OWN_FAILURE: Duration = Duration::from_secs(5);

/// At most so many events are taken over before the next requests are made.
const ARRIVALS: usize = 5_000;

/// What every delivery uses.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) client: Client,
    pub(super) store: GridStore,
    pub(super) dead_letters: DeadLetters,
    /// How long after the last attempt a dead letter is written.
    pub(super) dead_letter_hold: Duration,
    pub(super) speed: Speed,
    pub(super) jitter: Jitter,
    pub(super) faults: Arc<Faults>,
    /// Where the grid itself is reached, without a slash at the end.
    pub(super) grid_address: Arc<str>,
    pub(super) terminal: Terminal,
}

/// What is delivered for one subscription, and where to.
#[derive(Debug)]
pub(super) struct Delivery {
    subscription: EventSubscription,
    endpoint: Url,
    callback: Arc<Callback>,
    means: Means,
}

/// A request that was made, with one event or several.
struct Made {
    at: DateTime<Utc>,
    took: Duration,
    outcome: Outcome,
    /// What came instead of success, in words.
    problem: String,
    /// The same for all its events: those that failed together come together again.
    jitter: f64,
    ended: Instant,
    ended_at: DateTime<Utc>,
}

/// What is left to do after a request.
struct Rest {
    /// Nothing if none was made.
    outcome: Option<Outcome>,
    again: Vec<Due>,
}

impl Delivery {
    /// That of the subscription; functions are at the host with this base address.
    pub(super) fn new(
        subscription: EventSubscription,
        host: &Url,
        callback: Arc<Callback>,
        means: Means,
    ) -> Self {
        Self {
            endpoint: subscription.destination.address(host),
            subscription,
            callback,
            means,
        }
    }

    /// Delivers what arrives, at most `at_once` requests at a time, until told to stop. Then lets those under way finish.
    pub(super) async fn run(
        self,
        mut arrivals: UnboundedReceiver<Due>,
        at_once: usize,
        stop: Stop,
    ) {
        let mut pace = tokio::select! {
            pace = self.consent() => pace,
            () = stop.requested() => return,
        };
        let this = Arc::new(self);
        let mut waiting = Waiting::default();
        let mut under_way = JoinSet::new();
        let mut letters = JoinSet::new();
        let mut probation = Probation::default();
        loop {
            let limit = if probation.is_on() { 1 } else { at_once };
            while under_way.len() < limit {
                let now = Instant::now();
                if probation.until().max(pace.until()) > Some(now) {
                    break;
                }
                let batch = waiting.take(this.subscription.batching, now);
                if batch.is_empty() {
                    break;
                }
                pace.made(now);
                under_way.spawn(Arc::clone(&this).attempt(batch));
            }
            let next = waiting
                .first()
                .and_then(|first| Some(first).max(probation.until()).max(pace.until()));
            let mut arrived = Vec::new();
            tokio::select! {
                // All that is there at once, so that batches can be filled.
                1.. = arrivals.recv_many(&mut arrived, ARRIVALS) => {}
                Some(ended) = under_way.join_next() => {
                    if let Ok(rest) = ended {
                        this.note(&mut probation, rest.outcome);
                        arrived = rest.again;
                    }
                }
                Some(_) = letters.join_next() => {}
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() && under_way.len() < limit => {}
                () = stop.requested() => break,
            }
            for due in arrived {
                match due.condemned.clone() {
                    None => waiting.add(due),
                    Some(condemned) => {
                        letters.spawn(Arc::clone(&this).bury(due, condemned, stop.clone()));
                    }
                }
            }
        }
        while under_way.join_next().await.is_some() {}
        while letters.join_next().await.is_some() {}
    }

    fn note(&self, probation: &mut Probation, outcome: Option<Outcome>) {
        let Some(outcome) = outcome else { return };
        let name = self.subscription.name;
        match probation.note(outcome, self.means.speed, Instant::now()) {
            Some(Change::Began) => self.means.terminal.notice(format!(
                "{name} is on probation: it failed ten times in a row, the last time with {}; \
                 new events wait as well, and one request at a time is tried",
                outcome.name()
            )),
            Some(Change::Ended) => {
                self.means
                    .terminal
                    .notice(format!("{name} is no longer on probation"));
            }
            None => {}
        }
    }

    /// Makes one request and takes note of how it ended for each of its events.
    async fn attempt(self: Arc<Self>, batch: Vec<Due>) -> Rest {
        let mut again = Vec::new();
        let mut events: Vec<Loaded> = Vec::new();
        for due in batch {
            match self.text(&due).await {
                Ok(Some(text)) => events.push((due, text)),
                Ok(None) => self.means.terminal.alarm(format!(
                    "event {} is gone from the grid's database",
                    due.number
                )),
                Err(problem) => again.push(self.later(due, &problem)),
            }
        }
        if events.is_empty() {
            return Rest {
                outcome: None,
                again,
            };
        }
        let at = now();
        let started = Instant::now();
        let (outcome, problem) = self.make(&events).await;
        let took = started.elapsed();
        let jitter = events.first().map(|(due, _)| {
            let name = self.subscription.name;
            self.means.jitter.of(name, due.number, due.attempt)
        });
        let made = Made {
            at,
            took,
            outcome,
            problem,
            jitter: jitter.unwrap_or_default(),
            ended: started + took,
            ended_at: after(at, took),
        };
        let settled = join_all(events.into_iter().map(|(due, _)| self.settle(due, &made))).await;
        again.extend(settled.into_iter().flatten());
        Rest {
            outcome: Some(outcome),
            again,
        }
    }

    async fn text(&self, due: &Due) -> Result<Option<Arc<str>>, String> {
        if let Some(held) = &due.text {
            return Ok(Some(Arc::clone(&held.text)));
        }
        let text = self.means.store.text(due.number).await;
        Ok(text.map_err(|error| error.to_string())?.map(Arc::from))
    }

    /// Takes note of what became of one event. Returns it when something is left to do.
    async fn settle(&self, due: Due, made: &Made) -> Option<Due> {
        let due = Due { text: None, ..due };
        if made.outcome.is_success() {
            return self.delivered(due, made).await;
        }
        let age = (made.ended_at - due.accepted_at)
            .to_std()
            .unwrap_or_default();
        let age = self.means.speed.stretch(age);
        match after_failure(
            self.subscription.retry,
            due.attempt,
            made.outcome,
            age,
            made.jitter,
        ) {
            Next::Retry(wait) => self.retry(due, made, wait).await,
            Next::DeadLetter(reason) if self.subscription.keeps_dead_letters => {
                self.condemn(due, made, reason).await
            }
            Next::DeadLetter(reason) => self.drop_event(due, made, reason).await,
        }
    }

    /// Takes note of the attempt and where it leaves the event. If that fails, the attempt is made once more, even if it was
    /// a success: that is what "at least once" means.
    async fn record(&self, due: Due, made: &Made, leaves: Leaves) -> Result<Due, Due> {
        let record = Attempt {
            event: due.number,
            subscription: self.subscription.name,
            number: due.attempt,
            at: made.at,
            took: made.took,
            outcome: made.outcome,
            leaves,
        };
        match self.means.store.record(record).await {
            Ok(()) => Ok(due),
            Err(error) => Err(self.later(due, &error.to_string())),
        }
    }

    async fn delivered(&self, due: Due, made: &Made) -> Option<Due> {
        let due = match self.record(due, made, Leaves::Delivered).await {
            Ok(due) => due,
            Err(again) => return Some(again),
        };
        self.report(
            &due,
            Happening::Taken {
                by: self.subscription.name,
                attempt: due.attempt,
                within: made.took,
            },
        );
        None
    }

    async fn retry(&self, due: Due, made: &Made, wait: Duration) -> Option<Due> {
        let again_in = self.means.speed.shorten(wait);
        let leaves = Leaves::Pending(after(made.ended_at, again_in));
        let due = match self.record(due, made, leaves).await {
            Ok(due) => due,
            Err(again) => return Some(again),
        };
        self.report(
            &due,
            Happening::Failed {
                by: self.subscription.name,
                attempt: due.attempt,
                problem: made.problem.clone(),
                again_in,
            },
        );
        Some(Due {
            at: made.ended + again_in,
            attempt: due.attempt.saturating_add(1),
            ..due
        })
    }

    /// There are no more attempts: the dead letter is written when it was held for long enough.
    async fn condemn(&self, due: Due, made: &Made, reason: &'static str) -> Option<Due> {
        let hold = self.means.dead_letter_hold;
        let leaves = Leaves::Condemned {
            reason,
            letter_at: after(made.ended_at, hold),
        };
        let due = match self.record(due, made, leaves).await {
            Ok(due) => due,
            Err(again) => return Some(again),
        };
        Some(Due {
            at: made.ended + hold,
            condemned: Some(Arc::new(Condemned {
                reason,
                outcome: made.outcome,
                problem: made.problem.clone(),
                last_attempt_at: made.at,
            })),
            ..due
        })
    }

    /// As Event Grid does where no container for dead letters is given.
    async fn drop_event(&self, due: Due, made: &Made, reason: &str) -> Option<Due> {
        let due = match self.record(due, made, Leaves::Dropped).await {
            Ok(due) => due,
            Err(again) => return Some(again),
        };
        self.means.terminal.alarm(format!(
            "event {} for {} is dropped after {} attempts ({reason}: {}): the subscription has no deadLetterDestination",
            due.number, self.subscription.name, due.attempt, made.problem
        ));
        None
    }

    /// Writes the dead letter when its time has come. Told to stop before, it is left to the next start.
    async fn bury(self: Arc<Self>, mut due: Due, condemned: Arc<Condemned>, stop: Stop) {
        loop {
            tokio::select! {
                () = sleep_until(due.at) => {}
                () = stop.requested() => return,
            }
            match self.write_letter(&due, &condemned).await {
                Ok(()) => return,
                Err(problem) => {
                    due = self.later(
                        due,
                        &format!("its dead letter cannot be written: {problem}"),
                    );
                }
            }
        }
    }

    /// Keeps the dead letter first and then notes it: killed in between, the grid writes the same file again.
    async fn write_letter(&self, due: &Due, condemned: &Condemned) -> Result<(), String> {
        let text = self.text(due).await?;
        let text = text.ok_or("the event is gone from the grid's database")?;
        let letter = DeadLetter {
            subscription: self.subscription.name,
            number: due.number,
            text: text.to_string(),
            reason: condemned.reason,
            attempts: due.attempt,
            last_outcome: condemned.outcome.name(),
            accepted_at: due.accepted_at,
            last_attempt_at: condemned.last_attempt_at,
            schema: self.subscription.topic.schema,
        };
        let dead_letters = self.means.dead_letters.clone();
        let kept = tokio::task::spawn_blocking(move || dead_letters.keep(&letter)).await;
        let file = kept
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(|error| error.to_string())?;
        self.means
            .store
            .letter_written(due.number, self.subscription.name)
            .await
            .map_err(|error| error.to_string())?;
        self.report(
            due,
            Happening::DeadLettered {
                by: self.subscription.name,
                attempts: due.attempt,
                problem: condemned.problem.clone(),
                reason: condemned.reason,
                file,
            },
        );
        Ok(())
    }

    /// The grid itself failed: the same is done again.
    fn later(&self, due: Due, problem: &str) -> Due {
        self.means.terminal.alarm(format!(
            "event {} for {} is tried again in {} s, since the grid failed: {problem}",
            due.number,
            self.subscription.name,
            OWN_FAILURE.as_secs()
        ));
        Due {
            at: Instant::now() + OWN_FAILURE,
            ..due
        }
    }

    fn report(&self, due: &Due, what: Happening) {
        let label = Arc::clone(&due.label);
        self.means.terminal.event(EventReport {
            number: due.number,
            label,
            takers: due.takers,
            what,
        });
    }
}

fn after(time: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(wait)
        .ok()
        .and_then(|wait| time.checked_add_signed(wait))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
