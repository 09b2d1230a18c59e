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
    dead_letters::{DeadLetter, DeadLetters, NotKept},
    faults::Faults,
    retry::{Jitter, Next, Outcome, after_failure},
    store::{Attempt, Grave, GridStore, LastAttempt, Leaves},
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

/// A request that was made.
struct Made {
    last: Arc<LastAttempt>,
    /// When it began and ended, on the clock.
    moment: Moment,
    ended: Moment,
    took: Duration,
    /// The answer comes so long after its end, on the clock.
    late_by: Option<Duration>,
}

/// A request that was made and is not recorded.
struct Unrecorded {
    made: Made,
    events: Vec<Due>,
    unanswered: Option<Unanswered>,
    _under_way: UnderWay,
}

/// What is left after an attempt at a request.
#[derive(Default)]
struct Rest {
    /// Nothing if none was made.
    made: Option<Unrecorded>,
    again: Vec<Due>,
}

/// What is left once requests are recorded.
#[derive(Default)]
struct Settled {
    again: Vec<Due>,
    unanswered: Vec<Unanswered>,
}

/// What becomes of an event after a request.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    Delivered,
    Retry {
        wait: Duration,
        /// When that is over, or the late answer comes.
        at: Moment,
        answered_late: bool,
    },
    /// It is given up for this reason.
    GiveUp(&'static str),
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
        mut arrivals: UnboundedReceiver<Vec<Due>>,
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
        arrivals: &mut UnboundedReceiver<Vec<Due>>,
        at_once: usize,
        stop: &Stop,
    ) {
        let mut waiting = Waiting::default();
        let mut under_way = JoinSet::new();
        let mut made: Vec<Unrecorded> = Vec::new();
        // One group at a time: what ends meanwhile is the next one.
        let mut recording = JoinSet::new();
        let mut late_answers = JoinSet::new();
        let mut condemned = Waiting::default();
        let mut letters = JoinSet::new();
        loop {
            if recording.is_empty() && !made.is_empty() {
                recording.spawn(Arc::clone(this).settle(std::mem::take(&mut made)));
            }
            while letters.len() < LETTERS
                && let Some(due) = condemned.take(None, this.means.clock.now()).pop()
            {
                letters.spawn(Arc::clone(this).bury(due, stop.clone()));
            }
            let unrecorded: usize = made.iter().map(|request| request.events.len()).sum();
            let limit = match this.standing.is_on_probation() {
                _ if unrecorded > UNRECORDED => 0,
                true => 1,
                false => at_once,
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
                .and_then(|first| Some(first).max(held_until))
                .filter(|_| under_way.len() < limit);
            let next_letter = condemned.first().filter(|_| letters.len() < LETTERS);
            let mut arrived = Vec::new();
            tokio::select! {
                // All that is there at once, so that batches can be filled.
                1.. = arrivals.recv_many(&mut arrived, ARRIVALS) => {}
                Some(ended) = under_way.join_next() => {
                    let mut ended = Some(ended);
                    while let Some(rest) = ended {
                        let rest: Rest = rest.unwrap_or_default();
                        arrived.push(rest.again);
                        made.extend(rest.made);
                        ended = under_way.try_join_next();
                    }
                }
                Some(settled) = recording.join_next() => {
                    let settled: Settled = settled.unwrap_or_default();
                    arrived.push(settled.again);
                    for unanswered in settled.unanswered {
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
                Some(left) = letters.join_next() => arrived.extend(left.map(Vec::from_iter)),
                () = this.time_for(next, pace.until()), if next.is_some() => {}
                () = this.time_for(next_letter, None), if next_letter.is_some() => {}
                () = this.expires() => {
                    letters.abort_all();
                    break;
                }
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
        drop(Arc::clone(this).settle(made).await);
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

    /// Makes one request.
    async fn attempt(self: Arc<Self>, batch: Vec<Due>, under_way: UnderWay) -> Rest {
        let mut again = Vec::new();
        let mut events: Vec<Loaded> = Vec::new();
        let moment = self.means.clock.now();
        for due in batch {
            if due.answered_late {
                again.extend(self.delivered_late(due).await);
            } else if self.is_over(&due, moment) {
                again.extend(self.give_up_untried(due).await);
            } else {
                match self.text(&due).await {
                    Ok(Some(text)) => events.push((due, text)),
                    Ok(None) => self.means.terminal.alarm(format!(
                        "event {} is gone from the grid's database",
                        due.number
                    )),
                    Err(problem) => again.extend(self.later(vec![due], &problem).await),
                }
            }
        }
        if events.is_empty() {
            return Rest { made: None, again };
        }
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
            late_by,
        };
        // Before any of it is on disk: whoever sees that the events wait again sees for how long.
        self.note(outcome, made.ended);
        let unanswered = unanswered.map(|answer| Unanswered::new(answer, &events));
        let events = events.into_iter();
        let made = Unrecorded {
            made,
            events: events.map(|(due, _)| Due { text: None, ..due }).collect(),
            unanswered,
            _under_way: under_way,
        };
        Rest {
            made: Some(made),
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
    /// that were a success: that is what "at least once" means.
    async fn settle(self: Arc<Self>, requests: Vec<Unrecorded>) -> Settled {
        let mut verdicts = Vec::new();
        let mut attempts = Vec::new();
        for Unrecorded { made, events, .. } in &requests {
            let jitter = self.jitter(made.last.outcome, events);
            for due in events {
                let verdict = self.judge(due, made, jitter);
                attempts.push(self.attempted(due, made, verdict));
                verdicts.push(verdict);
            }
        }
        let mut settled = Settled::default();
        if attempts.is_empty() {
            return settled;
        }
        if let Err(error) = self.means.store.record(attempts).await {
            let events = requests.into_iter().flat_map(|request| request.events);
            settled.again = self.later(events.collect(), &error.to_string()).await;
            return settled;
        }
        let mut verdicts = verdicts.into_iter();
        let mut reports = Vec::new();
        for request in requests {
            let made = &request.made;
            for (due, verdict) in request.events.into_iter().zip(verdicts.by_ref()) {
                reports.extend(self.report(&due, made, verdict));
                settled.again.extend(self.left(due, made, verdict));
            }
            settled.unanswered.extend(request.unanswered);
        }
        self.means.terminal.events(reports);
        settled
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
        let outcome = made.last.outcome;
        if outcome.is_success() {
            return Verdict::Delivered;
        }
        match after_failure(self.subscription.retry, due.attempt, outcome, jitter) {
            Next::Retry(wait) => {
                let again_at = made.ended.after(wait);
                // A late answer that comes before takes its place.
                let answered_at = made.late_by.map(|late| made.ended.after(late));
                let answered_at = answered_at.filter(|answered_at| *answered_at < again_at);
                Verdict::Retry {
                    wait,
                    at: answered_at.unwrap_or(again_at),
                    answered_late: answered_at.is_some(),
                }
            }
            Next::DeadLetter(reason) => Verdict::GiveUp(reason),
        }
    }

    /// The attempt as the store keeps it.
    fn attempted(&self, due: &Due, made: &Made, verdict: Verdict) -> Attempt {
        Attempt {
            event: due.number,
            subscription: self.subscription.name,
            number: due.attempt,
            at: made.last.at,
            moment: made.moment,
            took: made.took,
            outcome: made.last.outcome,
            leaves: match verdict {
                Verdict::Delivered => Leaves::Delivered,
                Verdict::Retry { at, .. } => Leaves::Pending(at),
                Verdict::GiveUp(reason) => self.given_up(reason, made.ended),
            },
        }
    }

    /// There are no more attempts: the dead letter is written when it was held for long enough. Where no container for dead
    /// letters is given the event is dropped, as Event Grid does.
    fn given_up(&self, reason: &'static str, ended: Moment) -> Leaves {
        if self.subscription.keeps_dead_letters {
            let letter_at = ended.after(self.means.dead_letter_hold);
            Leaves::Condemned { reason, letter_at }
        } else {
            Leaves::Dropped
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
            Verdict::Retry { wait, .. } => Happening::Failed {
                by,
                attempt: due.attempt,
                problem: made.last.problem.clone(),
                again_in: self.means.clock.speed().shorten(wait),
            },
            Verdict::GiveUp(reason) => {
                if !self.subscription.keeps_dead_letters {
                    self.tell_dropped(due, due.attempt, reason, &made.last.problem);
                }
                return None;
            }
        };
        Some(due.report(what))
    }

    fn tell_dropped(&self, due: &Due, attempts: u32, reason: &str, problem: &str) {
        self.means.terminal.alarm(format!(
            "event {} for {} is dropped after {} ({reason}: {problem}): the subscription has no deadLetterDestination",
            due.number,
            self.subscription.name,
            in_words(attempts)
        ));
    }

    /// The event if something is left to do for it.
    fn left(&self, due: Due, made: &Made, verdict: Verdict) -> Option<Due> {
        let due = Due {
            last: Some(Arc::clone(&made.last)),
            ..due
        };
        match verdict {
            Verdict::Delivered => None,
            Verdict::Retry {
                at, answered_late, ..
            } => Some(Due {
                at,
                attempt: due.attempt.saturating_add(1),
                answered_late,
                ..due
            }),
            Verdict::GiveUp(reason) => condemned(due, self.given_up(reason, made.ended)),
        }
    }

    /// Takes note of where an event is left without an attempt. Fails with what is to be done again.
    async fn leave(&self, due: Due, leaves: Leaves) -> Result<Due, Vec<Due>> {
        let name = self.subscription.name;
        match self
            .means
            .store
            .leave(due.number, name, leaves, now())
            .await
        {
            Ok(()) => Ok(due),
            Err(error) => Err(self.later(vec![due], &error.to_string()).await),
        }
    }

    /// Writes the dead letter of a condemned event, whose time has come. Returns the event if that is to be done again; told to
    /// stop before, it is left to the next start.
    async fn bury(self: Arc<Self>, due: Due, stop: Stop) -> Option<Due> {
        let problem = self.write_letter(&due).await.err()?;
        if let Some(problem) = problem {
            self.tell_failure(&due, 1, &problem);
        }
        tokio::select! {
            () = sleep(OWN_FAILURE) => Some(due),
            () = stop.requested() => None,
        }
    }

    /// Keeps the dead letter first and then notes it: killed in between, the grid writes the same one again. Fails with what
    /// people are to be told, unless they know.
    async fn write_letter(&self, due: &Due) -> Result<(), Option<String>> {
        let (Some(reason), Some(last)) = (due.condemned, &due.last) else {
            return Ok(());
        };
        let text = self.text(due).await.map_err(Some)?;
        let gone = || Some("the event is gone from the grid's database".to_owned());
        let letter = DeadLetter {
            subscription: self.subscription.name,
            number: due.number,
            text: text.ok_or_else(gone)?.to_string(),
            reason,
            attempts: due.attempt,
            last_outcome: last.outcome.name(),
            accepted_at: due.accepted_at,
            last_attempt_at: last.at,
            schema: self.subscription.topic.schema,
        };
        let kept = self.means.dead_letters.keep(&letter).await;
        let grave = match kept {
            Ok(_) => Grave::DeadLetter,
            Err(NotKept::Ever(_)) => Grave::None,
            Err(NotKept::Yet) => return Err(None),
        };
        let name = self.subscription.name;
        let noted = self.means.store.buried(due.number, name, grave).await;
        noted.map_err(|error| Some(error.to_string()))?;
        match kept {
            Ok(kept_in) => {
                let what = Happening::DeadLettered {
                    by: name,
                    attempts: due.attempt,
                    problem: last.problem.clone(),
                    reason,
                    kept_in,
                };
                self.means.terminal.events(vec![due.report(what)]);
            }
            Err(NotKept::Ever(problem)) => self.means.terminal.alarm(format!(
                "event {} for {name} is dropped after {} ({reason}: {}), since its dead letter cannot be kept: {problem}",
                due.number,
                in_words(due.attempt),
                last.problem
            )),
            Err(NotKept::Yet) => {}
        }
        Ok(())
    }

    /// The grid itself failed: the same is done again after a while, which is real time.
    async fn later(&self, events: Vec<Due>, problem: &str) -> Vec<Due> {
        if let Some(first) = events.first() {
            self.tell_failure(first, events.len(), problem);
            sleep(OWN_FAILURE).await;
        }
        events
    }

    fn tell_failure(&self, first: &Due, events: usize, problem: &str) {
        let others = match events.saturating_sub(1) {
            0 => String::new(),
            others => format!(" and {others} more"),
        };
        self.means.terminal.alarm(format!(
            "event {}{others} for {}: tried again in {} s, since the grid failed: {problem}",
            first.number,
            self.subscription.name,
            OWN_FAILURE.as_secs()
        ));
    }
}

/// The event that waits for its dead letter, if it is left to that.
fn condemned(due: Due, leaves: Leaves) -> Option<Due> {
    match leaves {
        Leaves::Condemned { reason, letter_at } => Some(Due {
            at: letter_at,
            condemned: Some(reason),
            ..due
        }),
        Leaves::Delivered | Leaves::Pending(_) | Leaves::Dropped => None,
    }
}

/// A number of attempts in words.
fn in_words(attempts: u32) -> String {
    format!("{attempts} attempt{}", if attempts == 1 { "" } else { "s" })
}
