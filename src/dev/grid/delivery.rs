//! Delivering events for one subscription: the attempts, the waits between them and the end of it.

mod due;
mod handshake;
mod probation;
mod request;

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
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
    dead_letters::{DeadLetter, DeadLetters, NotKept},
    faults::Faults,
    retry::{Jitter, Next, Outcome, Speed, after_failure},
    store::{Attempt, Condemned, Grave, GridStore, Leaves},
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

/// At most so many publishers' events are taken over before the next requests are made.
const ARRIVALS: usize = 16;

/// So many events may wait for what became of them to be recorded; then no further request is made. They come again if the
/// process is killed meanwhile.
const UNRECORDED: usize = 5_000;

/// How many dead letters of a subscription are being written at a time.
const LETTERS: usize = 16;

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

/// A request that was made.
struct Made {
    at: DateTime<Utc>,
    took: Duration,
    outcome: Outcome,
    /// What came instead of success, in words.
    problem: String,
    ended: Instant,
    ended_at: DateTime<Utc>,
}

/// What is left after an attempt at a request.
struct Rest {
    /// The request and its events. Nothing if none was made.
    made: Option<(Made, Vec<Due>)>,
    /// Events that could not be read.
    again: Vec<Due>,
}

/// What becomes of an event after a request.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    Delivered,
    /// It is tried again after this time.
    Retry(Duration),
    /// It is given up for this reason, and its dead letter is written once it was held for long enough.
    Condemn(&'static str),
    /// It is given up for this reason without a dead letter.
    Drop(&'static str),
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
        mut arrivals: UnboundedReceiver<Vec<Due>>,
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
        let mut made = Vec::new();
        // One group at a time: what ends meanwhile is the next one.
        let mut recording = JoinSet::new();
        let mut condemned = Waiting::default();
        let mut letters = JoinSet::new();
        let mut probation = Probation::default();
        loop {
            if recording.is_empty() && !made.is_empty() {
                recording.spawn(Arc::clone(&this).settle(std::mem::take(&mut made)));
            }
            while letters.len() < LETTERS {
                let Some(due) = condemned.take(None, Instant::now()).pop() else {
                    break;
                };
                letters.spawn(Arc::clone(&this).bury(due));
            }
            let unrecorded: usize = made
                .iter()
                .map(|(_, events): &(_, Vec<_>)| events.len())
                .sum();
            let limit = match probation.is_on() {
                _ if unrecorded > UNRECORDED => 0,
                true => 1,
                false => at_once,
            };
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
                .and_then(|first| Some(first).max(probation.until()).max(pace.until()))
                .filter(|_| under_way.len() < limit);
            let next_letter = condemned.first().filter(|_| letters.len() < LETTERS);
            let next = next.into_iter().chain(next_letter).min();
            let mut arrived = Vec::new();
            tokio::select! {
                // All that is there at once, so that batches can be filled.
                1.. = arrivals.recv_many(&mut arrived, ARRIVALS) => {}
                Some(ended) = under_way.join_next() => {
                    let mut ended = Some(ended);
                    while let Some(one) = ended {
                        if let Ok(rest) = one {
                            this.note(&mut probation, rest.made.as_ref().map(|(made, _)| made.outcome));
                            arrived.push(rest.again);
                            made.extend(rest.made);
                        }
                        ended = under_way.try_join_next();
                    }
                }
                Some(left) = recording.join_next() => arrived.extend(left),
                Some(left) = letters.join_next() => arrived.extend(left.map(|due| due.into_iter().collect())),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                () = stop.requested() => break,
            }
            for due in arrived.into_iter().flatten() {
                match due.condemned {
                    None => waiting.add(due),
                    Some(_) => condemned.add(due),
                }
            }
        }
        while let Some(ended) = under_way.join_next().await {
            made.extend(ended.ok().and_then(|rest| rest.made));
        }
        while recording.join_next().await.is_some() {}
        this.settle(made).await;
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

    /// Makes one request.
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
            return Rest { made: None, again };
        }
        let at = now();
        let started = Instant::now();
        let (outcome, problem) = self.make(&events).await;
        let took = started.elapsed();
        let made = Made {
            at,
            took,
            outcome,
            problem,
            ended: started + took,
            ended_at: after(at, took),
        };
        let events = events.into_iter();
        let events = events.map(|(due, _)| Due { text: None, ..due });
        Rest {
            made: Some((made, events.collect())),
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

    /// Takes note of how requests ended for each of their events. If that fails, the attempts are made once more, even those
    /// that were a success: that is what "at least once" means. Returns the events for which something is left to do.
    async fn settle(self: Arc<Self>, requests: Vec<(Made, Vec<Due>)>) -> Vec<Due> {
        let mut verdicts = Vec::new();
        let mut attempts = Vec::new();
        for (made, events) in &requests {
            let jitter = self.jitter(made.outcome, events);
            for due in events {
                let verdict = self.judge(due, made, jitter);
                attempts.push(self.attempted(due, made, verdict));
                verdicts.push(verdict);
            }
        }
        if attempts.is_empty() {
            return Vec::new();
        }
        if let Err(error) = self.means.store.record(attempts).await {
            let events = requests.into_iter().flat_map(|(_, events)| events);
            let problem = error.to_string();
            return events.map(|due| self.later(due, &problem)).collect();
        }
        let mut verdicts = verdicts.into_iter();
        let mut left = Vec::new();
        let mut reports = Vec::new();
        for (made, events) in requests {
            for (due, verdict) in events.into_iter().zip(verdicts.by_ref()) {
                reports.extend(self.report(&due, &made, verdict));
                left.extend(self.left(due, &made, verdict));
            }
        }
        self.means.terminal.events(reports);
        left
    }

    /// The random part of the wait, the same for all events of a request: those that failed together come together again.
    fn jitter(&self, outcome: Outcome, events: &[Due]) -> f64 {
        let failed = events.first().filter(|_| !outcome.is_success());
        failed.map_or(0.0, |due| {
            let name = self.subscription.name;
            self.means.jitter.of(name, due.number, due.attempt)
        })
    }

    fn judge(&self, due: &Due, made: &Made, jitter: f64) -> Verdict {
        if made.outcome.is_success() {
            return Verdict::Delivered;
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
            jitter,
        ) {
            Next::Retry(wait) => Verdict::Retry(self.means.speed.shorten(wait)),
            Next::DeadLetter(reason) if self.subscription.keeps_dead_letters => {
                Verdict::Condemn(reason)
            }
            Next::DeadLetter(reason) => Verdict::Drop(reason),
        }
    }

    /// The attempt as the store keeps it.
    fn attempted(&self, due: &Due, made: &Made, verdict: Verdict) -> Attempt {
        Attempt {
            event: due.number,
            subscription: self.subscription.name,
            number: due.attempt,
            at: made.at,
            took: made.took,
            outcome: made.outcome,
            leaves: match verdict {
                Verdict::Delivered => Leaves::Delivered,
                Verdict::Retry(wait) => Leaves::Pending(after(made.ended_at, wait)),
                Verdict::Condemn(reason) => Leaves::Condemned {
                    reason,
                    letter_at: after(made.ended_at, self.means.dead_letter_hold),
                },
                Verdict::Drop(_) => Leaves::Dropped,
            },
        }
    }

    /// What people are told of it now. A dead letter is told of once it is written.
    fn report(&self, due: &Due, made: &Made, verdict: Verdict) -> Option<EventReport> {
        let by = self.subscription.name;
        let what = match verdict {
            Verdict::Delivered => Happening::Taken {
                by,
                attempt: due.attempt,
                within: made.took,
            },
            Verdict::Retry(again_in) => Happening::Failed {
                by,
                attempt: due.attempt,
                problem: made.problem.clone(),
                again_in,
            },
            Verdict::Condemn(_) => return None,
            // As Event Grid does where no container for dead letters is given.
            Verdict::Drop(reason) => {
                self.means.terminal.alarm(format!(
                    "event {} for {by} is dropped after {} ({reason}: {}): the subscription has no deadLetterDestination",
                    due.number,
                    attempts(due.attempt),
                    made.problem
                ));
                return None;
            }
        };
        Some(due.report(what))
    }

    /// The event if something is left to do for it.
    fn left(&self, due: Due, made: &Made, verdict: Verdict) -> Option<Due> {
        match verdict {
            Verdict::Delivered | Verdict::Drop(_) => None,
            Verdict::Retry(wait) => Some(Due {
                at: made.ended + wait,
                attempt: due.attempt.saturating_add(1),
                ..due
            }),
            Verdict::Condemn(reason) => Some(Due {
                at: made.ended + self.means.dead_letter_hold,
                condemned: Some(Arc::new(Condemned {
                    reason,
                    outcome: made.outcome,
                    problem: made.problem.clone(),
                    last_attempt_at: made.at,
                })),
                ..due
            }),
        }
    }

    /// Writes the dead letter of a condemned event, whose time has come. Returns the event if that is to be done again.
    async fn bury(self: Arc<Self>, due: Due) -> Option<Due> {
        let condemned = Arc::clone(due.condemned.as_ref()?);
        let letter = match self.text(&due).await {
            Ok(Some(text)) => self.letter(&due, &condemned, &text),
            Ok(None) => return Some(self.later(due, "the event is gone from the grid's database")),
            Err(problem) => return Some(self.later(due, &problem)),
        };
        // The letter is kept first and then noted: killed in between, the grid writes the same one again.
        let kept = self.means.dead_letters.keep(&letter).await;
        let grave = match kept {
            Ok(_) => Grave::DeadLetter,
            Err(NotKept::Ever(_)) => Grave::None,
            Err(NotKept::Yet) => return Some(in_a_while(due)),
        };
        let name = self.subscription.name;
        if let Err(error) = self.means.store.buried(due.number, name, grave).await {
            return Some(self.later(due, &error.to_string()));
        }
        match kept {
            Ok(kept_in) => {
                let what = Happening::DeadLettered {
                    by: name,
                    attempts: due.attempt,
                    problem: condemned.problem.clone(),
                    reason: condemned.reason,
                    kept_in,
                };
                self.means.terminal.events(vec![due.report(what)]);
            }
            Err(NotKept::Ever(problem)) => self.means.terminal.alarm(format!(
                "event {} for {name} is dropped after {} ({}: {}), since its dead letter cannot be kept: {problem}",
                due.number, attempts(due.attempt), condemned.reason, condemned.problem
            )),
            Err(NotKept::Yet) => {}
        }
        None
    }

    fn letter(&self, due: &Due, condemned: &Condemned, text: &str) -> DeadLetter {
        DeadLetter {
            subscription: self.subscription.name,
            number: due.number,
            text: text.to_owned(),
            reason: condemned.reason,
            attempts: due.attempt,
            last_outcome: condemned.outcome.name(),
            accepted_at: due.accepted_at,
            last_attempt_at: condemned.last_attempt_at,
        }
    }

    /// The grid itself failed: the same is done again.
    fn later(&self, due: Due, problem: &str) -> Due {
        self.means.terminal.alarm(format!(
            "event {} for {} is tried again in {} s, since the grid failed: {problem}",
            due.number,
            self.subscription.name,
            OWN_FAILURE.as_secs()
        ));
        in_a_while(due)
    }
}

/// The same is done again, when the grid may have recovered.
fn in_a_while(due: Due) -> Due {
    Due {
        at: Instant::now() + OWN_FAILURE,
        ..due
    }
}

/// A number of attempts in words.
fn attempts(count: u32) -> String {
    format!("{count} attempt{}", if count == 1 { "" } else { "s" })
}

fn after(time: DateTime<Utc>, wait: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(wait)
        .ok()
        .and_then(|wait| time.checked_add_signed(wait))
        .unwrap_or(DateTime::<Utc>::MAX_UTC)
}
