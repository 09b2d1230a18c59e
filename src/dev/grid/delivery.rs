//! Delivering events for one subscription: the attempts, the waits between them and the end of it.

mod due;
mod expiry;
mod handshake;
mod late_answer;
mod probation;
mod request;
mod standing;
mod validation;

use std::{sync::Arc, time::Duration};

use futures_util::future::join_all;
use reqwest::Client;
use tokio::{
    sync::mpsc::UnboundedReceiver,
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use url::Url;

use self::{
    due::Waiting,
    handshake::Pace,
    late_answer::Unanswered,
    probation::Change,
    request::{Answer, Loaded},
    standing::UnderWay,
};
pub(super) use self::{
    due::{Due, HeldText},
    handshake::Callback,
    standing::Standing,
};
use super::{
    authentication::Gate,
    clock::{Clock, Moment},
    dead_letters::{DeadLetter, DeadLetters},
    faults::Faults,
    retry::{Jitter, Next, Outcome, after_failure},
    store::{Attempt, GridStore, LastAttempt, Leaves},
    subscriptions::EventSubscription,
};
use crate::dev::{
    ambient::now,
    stop::Stop,
    terminal::{EventReport, Happening, Terminal},
};

/// How long endpoints are waited for. Not shortened by the speed: it is the function's own time.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Patience {
    /// So long for an answer, then the event waits to be delivered again.
    pub(in super::super) answer: Duration,
    /// So long for a late one, which still takes the event off that queue.
    pub(in super::super) late_answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(30),
            late_answer: Duration::from_secs(180),
        }
    }
}

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
    /// How long after the last attempt a dead letter is written, on the clock.
    pub(super) dead_letter_hold: Duration,
    pub(super) clock: Arc<Clock>,
    pub(super) patience: Patience,
    /// Issues the tokens for endpoints that want one.
    pub(super) gate: Arc<Gate>,
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
    standing: Arc<Standing>,
    means: Means,
}

/// A request that was made, with one event or several.
struct Made {
    last: Arc<LastAttempt>,
    /// When it began and ended, on the clock.
    moment: Moment,
    ended: Moment,
    took: Duration,
    /// The same for all its events: those that failed together come together again.
    jitter: f64,
    /// The answer comes so long after its end, on the clock.
    late_by: Option<Duration>,
}

/// What is left to do after a request.
#[derive(Default)]
struct Rest {
    again: Vec<Due>,
    unanswered: Option<Unanswered>,
}

impl Delivery {
    /// That of the subscription; functions are at the host with this base address.
    pub(super) fn new(
        subscription: EventSubscription,
        host: &Url,
        callback: Arc<Callback>,
        standing: Arc<Standing>,
        means: Means,
    ) -> Self {
        Self {
            endpoint: subscription.destination.address(host),
            subscription,
            callback,
            standing,
            means,
        }
    }

    /// Delivers what arrives, at most `at_once` requests at a time, until told to stop or the subscription expires. Then lets
    /// those under way finish.
    pub(super) async fn run(
        self,
        mut arrivals: UnboundedReceiver<Due>,
        at_once: usize,
        stop: Stop,
    ) {
        let this = Arc::new(self);
        let pace = tokio::select! {
            pace = this.consent() => Some(pace),
            () = this.expires() => None,
            () = stop.requested() => return,
        };
        if let Some(pace) = pace {
            Self::deliver(&this, pace, &mut arrivals, at_once, &stop).await;
        }
        if this.standing.has_expired(this.means.clock.now()) {
            this.forget(arrivals, &stop).await;
        }
    }

    async fn deliver(
        this: &Arc<Self>,
        mut pace: Pace,
        arrivals: &mut UnboundedReceiver<Due>,
        at_once: usize,
        stop: &Stop,
    ) {
        let mut waiting = Waiting::default();
        let mut under_way = JoinSet::new();
        let mut late_answers = JoinSet::new();
        let mut letters = JoinSet::new();
        loop {
            let limit = if this.standing.is_on_probation() {
                1
            } else {
                at_once
            };
            let held_until = this.standing.held_until();
            while under_way.len() < limit {
                let (moment, now) = (this.means.clock.now(), Instant::now());
                if held_until > Some(moment)
                    || pace.until() > Some(now)
                    || this.standing.has_expired(moment)
                {
                    break;
                }
                let batch = waiting.take(this.subscription.batching, moment);
                if batch.is_empty() {
                    break;
                }
                pace.made(now);
                let begun = this.standing.begin(batch.len());
                under_way.spawn(Arc::clone(this).attempt(batch, begun));
            }
            let next = waiting
                .first()
                .and_then(|first| Some(first).max(held_until));
            let mut arrived = Vec::new();
            tokio::select! {
                // All that is there at once, so that batches can be filled.
                1.. = arrivals.recv_many(&mut arrived, ARRIVALS) => {}
                Some(ended) = under_way.join_next() => {
                    let rest: Rest = ended.unwrap_or_default();
                    arrived = rest.again;
                    if let Some(unanswered) = rest.unanswered {
                        late_answers.spawn(unanswered.answered());
                    }
                }
                Some(Ok(answered)) = late_answers.join_next() => {
                    for (number, attempt) in answered {
                        // Otherwise it is delivered again already, or given up.
                        if let Some(due) = waiting.take_out(number, attempt.saturating_add(1)) {
                            let begun = this.standing.begin(1);
                            under_way.spawn(Arc::clone(this).note_late_answer(due, begun));
                        }
                    }
                }
                Some(_) = letters.join_next() => {}
                () = this.time_for(next, pace.until()), if next.is_some() && under_way.len() < limit => {}
                () = this.expires() => {
                    letters.abort_all();
                    break;
                }
                () = stop.requested() => break,
            }
            for due in arrived {
                match due.condemned {
                    None => waiting.add(due),
                    Some(reason) => {
                        letters.spawn(Arc::clone(this).bury(due, reason, stop.clone()));
                    }
                }
            }
        }
        while under_way.join_next().await.is_some() {}
        while letters.join_next().await.is_some() {}
    }

    /// Returns when a request may be made: at a moment of the clock, and then at the endpoint's pace.
    async fn time_for(&self, next: Option<Moment>, pace: Option<Instant>) {
        if let Some(next) = next {
            self.means.clock.reaches(next).await;
        }
        if let Some(pace) = pace {
            sleep_until(pace).await;
        }
    }

    fn note(&self, outcome: Outcome, ended: Moment) {
        let name = self.subscription.name;
        match self.standing.note(outcome, ended) {
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
    async fn attempt(self: Arc<Self>, batch: Vec<Due>, _under_way: UnderWay) -> Rest {
        let mut rest = Rest::default();
        let mut events: Vec<Loaded> = Vec::new();
        let moment = self.means.clock.now();
        for due in batch {
            if due.answered_late {
                rest.again.extend(self.delivered_late(due).await);
            } else if self.is_over(&due, moment) {
                rest.again.extend(self.give_up_untried(due).await);
            } else {
                match self.text(&due).await {
                    Ok(Some(text)) => events.push((due, text)),
                    Ok(None) => self.means.terminal.alarm(format!(
                        "event {} is gone from the grid's database",
                        due.number
                    )),
                    Err(problem) => rest.again.push(self.later(due, &problem).await),
                }
            }
        }
        let Some((first, _)) = events.first() else {
            return rest;
        };
        let jitter = self
            .means
            .jitter
            .of(self.subscription.name, first.number, first.attempt);
        let (at, started) = (now(), Instant::now());
        let Answer {
            outcome,
            problem,
            late_by,
            unanswered,
        } = self.make(&events).await;
        let made = Made {
            last: Arc::new(LastAttempt {
                outcome,
                problem,
                at,
            }),
            moment,
            ended: self.means.clock.now(),
            took: started.elapsed(),
            jitter,
            late_by,
        };
        // Before any of it is on disk: whoever sees that the events wait again sees for how long.
        self.note(outcome, made.ended);
        rest.unanswered = unanswered.map(|answer| Unanswered::new(answer, &events));
        let settled = join_all(events.into_iter().map(|(due, _)| self.settle(due, &made))).await;
        rest.again.extend(settled.into_iter().flatten());
        rest
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
        let outcome = made.last.outcome;
        if outcome.is_success() {
            return self.delivered(due, made).await;
        }
        let due = Due {
            last: Some(Arc::clone(&made.last)),
            ..due
        };
        match after_failure(self.subscription.retry, due.attempt, outcome, made.jitter) {
            Next::Retry(wait) => self.retry(due, made, wait).await,
            Next::DeadLetter(reason) => self.give_up(due, Some(made), reason).await,
        }
    }

    /// Takes note of the attempt and where it leaves the event. If that fails, the attempt is made once more, even if it was
    /// a success: that is what "at least once" means. Without an attempt, only of where the event is left.
    async fn record(&self, due: Due, made: Option<&Made>, leaves: Leaves) -> Result<Due, Due> {
        let (event, subscription) = (due.number, self.subscription.name);
        let store = &self.means.store;
        let recorded = if let Some(made) = made {
            let attempt = Attempt {
                event,
                subscription,
                number: due.attempt,
                at: made.last.at,
                moment: made.moment,
                took: made.took,
                outcome: made.last.outcome,
                leaves,
            };
            store.record(attempt).await
        } else {
            store.leave(event, subscription, leaves, now()).await
        };
        match recorded {
            Ok(()) => Ok(due),
            Err(error) => Err(self.later(due, &error.to_string()).await),
        }
    }

    async fn delivered(&self, due: Due, made: &Made) -> Option<Due> {
        let due = match self.record(due, Some(made), Leaves::Delivered).await {
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
        let again_at = made.ended.after(wait);
        // A late answer that comes before takes its place.
        let answered_at = made.late_by.map(|late| made.ended.after(late));
        let answered_at = answered_at.filter(|answered_at| *answered_at < again_at);
        let at = answered_at.unwrap_or(again_at);
        let due = match self.record(due, Some(made), Leaves::Pending(at)).await {
            Ok(due) => due,
            Err(again) => return Some(again),
        };
        self.report(
            &due,
            Happening::Failed {
                by: self.subscription.name,
                attempt: due.attempt,
                problem: made.last.problem.clone(),
                again_in: self.means.clock.speed().shorten(wait),
            },
        );
        Some(Due {
            at,
            attempt: due.attempt.saturating_add(1),
            answered_late: answered_at.is_some(),
            ..due
        })
    }

    /// There are no more attempts: the dead letter is written when it was held for long enough. Where no container for dead
    /// letters is given the event is dropped, as Event Grid does.
    async fn give_up(&self, due: Due, made: Option<&Made>, reason: &'static str) -> Option<Due> {
        let ended = made.map_or_else(|| self.means.clock.now(), |made| made.ended);
        let letter_at = ended.after(self.means.dead_letter_hold);
        let leaves = if self.subscription.keeps_dead_letters {
            Leaves::Condemned { reason, letter_at }
        } else {
            Leaves::Dropped
        };
        let due = match self.record(due, made, leaves).await {
            Ok(due) => due,
            Err(again) => return Some(again),
        };
        if self.subscription.keeps_dead_letters {
            return Some(Due {
                at: letter_at,
                condemned: Some(reason),
                ..due
            });
        }
        let problem = due.last.as_ref().map_or("", |last| &last.problem);
        self.means.terminal.alarm(format!(
            "event {} for {} is dropped after {} attempts ({reason}: {problem}): the subscription has no deadLetterDestination",
            due.number, self.subscription.name, due.attempt
        ));
        None
    }

    /// Writes the dead letter when its time has come. Told to stop before, it is left to the next start.
    async fn bury(self: Arc<Self>, mut due: Due, reason: &'static str, stop: Stop) {
        tokio::select! {
            () = self.means.clock.reaches(due.at) => {}
            () = stop.requested() => return,
        }
        while let Err(problem) = self.write_letter(&due, reason).await {
            let problem = format!("its dead letter cannot be written: {problem}");
            tokio::select! {
                again = self.later(due, &problem) => due = again,
                () = stop.requested() => return,
            }
        }
    }

    /// Keeps the dead letter first and then notes it: killed in between, the grid writes the same file again.
    async fn write_letter(&self, due: &Due, reason: &'static str) -> Result<(), String> {
        let last = due.last.as_ref().ok_or("it was never tried")?;
        let text = self.text(due).await?;
        let text = text.ok_or("the event is gone from the grid's database")?;
        let letter = DeadLetter {
            subscription: self.subscription.name,
            number: due.number,
            text: text.to_string(),
            reason,
            attempts: due.attempt,
            last_outcome: last.outcome.name(),
            accepted_at: due.accepted_at,
            last_attempt_at: last.at,
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
                problem: last.problem.clone(),
                reason,
                file,
            },
        );
        Ok(())
    }

    /// The grid itself failed: the same is done again after a while, which is real time.
    async fn later(&self, due: Due, problem: &str) -> Due {
        self.means.terminal.alarm(format!(
            "event {} for {} is tried again in {} s, since the grid failed: {problem}",
            due.number,
            self.subscription.name,
            OWN_FAILURE.as_secs()
        ));
        sleep(OWN_FAILURE).await;
        due
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
