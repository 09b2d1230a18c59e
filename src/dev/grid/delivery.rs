//! Delivering events to one function: the handshake, the attempts, the waits between them and the end of it.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use reqwest::{
    Client, Method,
    header::{ALLOW, CONTENT_TYPE},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc::UnboundedReceiver},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};
use url::Url;

use super::{
    dead_letters::{DeadLetter, DeadLetters},
    retry::{Next, Outcome, Speed, after_failure},
    store::{Attempt, GridStore, Leaves, PendingDelivery},
};
use crate::dev::{
    ambient::{now, random_fraction},
    client::describe,
    stop::Stop,
    terminal::{EventLabel, EventReport, Happening, Terminal},
};

/// Who Event Grid says it is in the handshake.
const ORIGIN: &str = "eventgrid.azure.net";

/// How long an endpoint may take to answer. Not shortened by the speed: it is the function's own time.
const ANSWER: Duration = Duration::from_secs(30);

/// How long to wait before asking again for consent that was not given.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Asked so often in vain, the developer is told.
const ASKED_IN_VAIN: u32 = 20;

/// How long to wait when the grid itself failed: its database or the folder of dead letters.
const OWN_FAILURE: Duration = Duration::from_secs(5);

/// How much of an answer's text is shown.
const SHOWN_TEXT: usize = 300;

/// An event on its way to one function.
#[derive(Debug)]
pub(super) struct Due {
    /// When the next attempt is made.
    at: Instant,
    number: i64,
    /// The number of the next attempt, from 1.
    attempt: u32,
    accepted_at: DateTime<Utc>,
    label: Arc<EventLabel>,
    /// How many functions the event goes to.
    takers: usize,
    /// Held for the first attempt only; later ones read it from the store.
    text: Option<Arc<HeldText>>,
}

/// The text of a new event, held in memory because it will be needed in a moment.
#[derive(Debug)]
pub(super) struct HeldText {
    text: Arc<str>,
    _room: OwnedSemaphorePermit,
}

impl HeldText {
    /// Holds the text if there is room for so many bytes.
    pub(super) fn hold(text: &Arc<str>, room: &Arc<Semaphore>) -> Option<Arc<Self>> {
        let bytes = u32::try_from(text.len()).ok()?;
        let room = Arc::clone(room).try_acquire_many_owned(bytes).ok()?;
        Some(Arc::new(Self {
            text: Arc::clone(text),
            _room: room,
        }))
    }
}

impl Due {
    /// A newly accepted event.
    pub(super) fn new(
        number: i64,
        accepted_at: DateTime<Utc>,
        label: Arc<EventLabel>,
        takers: usize,
        text: Option<Arc<HeldText>>,
    ) -> Self {
        Self {
            at: Instant::now(),
            number,
            attempt: 1,
            accepted_at,
            label,
            takers,
            text,
        }
    }

    /// A delivery that an earlier process left behind.
    pub(super) fn left_behind(pending: &PendingDelivery, takers: usize) -> Self {
        let wait = (pending.next_at - now()).to_std().unwrap_or_default();
        Self {
            at: Instant::now() + wait,
            number: pending.event,
            attempt: pending.attempts.saturating_add(1),
            accepted_at: pending.accepted_at,
            label: Arc::new(EventLabel::new(
                &pending.event_type,
                pending.subject.as_deref(),
            )),
            takers,
            text: None,
        }
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Due {}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// What every delivery uses.
#[derive(Debug, Clone)]
pub(super) struct Means {
    pub(super) client: Client,
    pub(super) store: GridStore,
    pub(super) dead_letters: DeadLetters,
    pub(super) speed: Speed,
    pub(super) terminal: Terminal,
}

/// An event subscription: one function and where it is reached.
#[derive(Debug)]
pub(super) struct EventSubscription {
    function: &'static str,
    endpoint: Url,
    means: Means,
}

impl EventSubscription {
    /// The subscription of a function at the host with this base address.
    pub(super) fn new(function: &'static str, host: &Url, means: Means) -> Self {
        let mut endpoint = host.clone();
        endpoint.set_path("/runtime/webhooks/eventgrid");
        endpoint
            .query_pairs_mut()
            .append_pair("functionName", function);
        Self {
            function,
            endpoint,
            means,
        }
    }

    /// Delivers what arrives, at most `at_once` at a time, until told to stop. Then lets the attempts under way finish.
    pub(super) async fn run(
        self,
        mut arrivals: UnboundedReceiver<Due>,
        at_once: usize,
        stop: Stop,
    ) {
        tokio::select! {
            () = self.consent() => {}
            () = stop.requested() => return,
        }
        let this = Arc::new(self);
        let mut waiting = BinaryHeap::new();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.len() < at_once
                && let Some(due) = pop_due(&mut waiting)
            {
                under_way.spawn(Arc::clone(&this).attempt(due));
            }
            let next = waiting.peek().map(|Reverse(due): &Reverse<Due>| due.at);
            tokio::select! {
                Some(due) = arrivals.recv() => waiting.push(Reverse(due)),
                Some(ended) = under_way.join_next() => waiting.extend(ended.ok().flatten().map(Reverse)),
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() && under_way.len() < at_once => {}
                () = stop.requested() => break,
            }
        }
        while under_way.join_next().await.is_some() {}
    }

    /// Asks until the endpoint agrees to be delivered to.
    async fn consent(&self) {
        let mut asked = 0;
        while let Err(refusal) = self.ask().await {
            asked += 1;
            if asked == ASKED_IN_VAIN {
                self.means.terminal.alarm(format!(
                    "{}: nothing is delivered yet, {} has not agreed to it ({refusal}); asking again",
                    self.function, self.endpoint
                ));
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// The handshake of the CloudEvents webhook specification. Headers give consent, the status does not matter.
    async fn ask(&self) -> Result<(), String> {
        let request = self
            .means
            .client
            .request(Method::OPTIONS, self.endpoint.clone());
        let request = request
            .header("WebHook-Request-Origin", ORIGIN)
            .timeout(ANSWER);
        let answer = request.send().await.map_err(|error| describe(&error))?;
        let allowed = answer
            .headers()
            .get("WebHook-Allowed-Origin")
            .and_then(|origin| origin.to_str().ok());
        match allowed {
            Some(origin) if origin == "*" || origin.eq_ignore_ascii_case(ORIGIN) => Ok(()),
            Some(origin) => Err(format!("it allows {origin}, not {ORIGIN}")),
            None => Err(format!(
                "status {} without the header WebHook-Allowed-Origin{}",
                answer.status().as_u16(),
                if answer.headers().contains_key(ALLOW) {
                    ", but with Allow"
                } else {
                    ""
                }
            )),
        }
    }

    /// Makes one attempt. Returns the event when it must be tried again.
    async fn attempt(self: Arc<Self>, due: Due) -> Option<Due> {
        let text = match self.text(&due).await {
            Ok(Some(text)) => text,
            Ok(None) => {
                self.means.terminal.alarm(format!(
                    "event {} is gone from the grid's database",
                    due.number
                ));
                return None;
            }
            Err(problem) => return Some(self.later(due, &problem)),
        };
        let at = now();
        let started = Instant::now();
        let (outcome, problem) = self.post(&due, &text).await;
        let took = started.elapsed();
        let record = Attempt {
            event: due.number,
            subscription: self.function,
            number: due.attempt,
            at,
            took,
            outcome,
            leaves: Leaves::Delivered,
        };
        if outcome.is_success() {
            return self.delivered(due, record).await;
        }
        let age = (now() - due.accepted_at).to_std().unwrap_or_default();
        match after_failure(
            due.attempt,
            outcome,
            self.means.speed.stretch(age),
            random_fraction(),
        ) {
            Next::Retry(wait) => self.retry(due, record, wait, problem).await,
            Next::DeadLetter(reason) => {
                let letter = DeadLetter {
                    subscription: self.function,
                    number: due.number,
                    text: text.to_string(),
                    reason,
                    attempts: due.attempt,
                    last_outcome: outcome.name(),
                    accepted_at: due.accepted_at,
                    last_attempt_at: at,
                };
                self.give_up(due, record, letter, problem).await
            }
        }
    }

    async fn text(&self, due: &Due) -> Result<Option<Arc<str>>, String> {
        if let Some(held) = &due.text {
            return Ok(Some(Arc::clone(&held.text)));
        }
        let text = self
            .means
            .store
            .text(due.number)
            .await
            .map_err(|error| error.to_string())?;
        Ok(text.map(Arc::from))
    }

    /// Posts the event; returns how it ended and, for people, in words.
    async fn post(&self, due: &Due, text: &str) -> (Outcome, String) {
        let request = self
            .means
            .client
            .post(self.endpoint.clone())
            .header("aeg-event-type", "Notification")
            .header("aeg-subscription-name", self.function.to_uppercase())
            .header("aeg-delivery-count", due.attempt)
            .header("aeg-metadata-version", "1.0")
            .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .timeout(ANSWER)
            .body(text.to_owned());
        match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let outcome = Outcome::Status(status);
                let said = if outcome.is_success() {
                    String::new()
                } else {
                    beginning(answer).await
                };
                // What the host says before the cause is shown already.
                let known = format!(
                    "Exception while executing function: Functions.{}: ",
                    self.function
                );
                let said = said.strip_prefix(&known).unwrap_or(&said);
                (outcome, format!("{status} {said}").trim_end().to_owned())
            }
            Err(error) if error.is_timeout() => (
                Outcome::TimedOut,
                format!("no answer within {} s", ANSWER.as_secs()),
            ),
            Err(error) => (Outcome::Unreachable, describe(&error)),
        }
    }

    async fn delivered(&self, due: Due, record: Attempt) -> Option<Due> {
        let within = record.took;
        if let Err(error) = self.means.store.record(record).await {
            // Not noted as delivered, so it is delivered once more: that is what "at least once" means.
            return Some(self.later(due, &error.to_string()));
        }
        self.report(
            &due,
            Happening::Taken {
                by: self.function,
                attempt: due.attempt,
                within,
            },
        );
        None
    }

    async fn retry(
        &self,
        due: Due,
        record: Attempt,
        wait: Duration,
        problem: String,
    ) -> Option<Due> {
        let again_in = self.means.speed.shorten(wait);
        let next_at = now() + TimeDelta::from_std(again_in).unwrap_or(TimeDelta::MAX);
        let record = Attempt {
            leaves: Leaves::Pending(next_at),
            ..record
        };
        if let Err(error) = self.means.store.record(record).await {
            return Some(self.later(due, &error.to_string()));
        }
        self.report(
            &due,
            Happening::Failed {
                by: self.function,
                attempt: due.attempt,
                problem,
                again_in,
            },
        );
        Some(Due {
            at: Instant::now() + again_in,
            attempt: due.attempt.saturating_add(1),
            text: None,
            ..due
        })
    }

    /// Keeps the dead letter first and then notes it: killed in between, the grid writes the same file again.
    async fn give_up(
        &self,
        due: Due,
        record: Attempt,
        letter: DeadLetter,
        problem: String,
    ) -> Option<Due> {
        let (attempts, reason) = (letter.attempts, letter.reason);
        let dead_letters = self.means.dead_letters.clone();
        let kept = tokio::task::spawn_blocking(move || dead_letters.keep(&letter)).await;
        let file = match kept.map_err(std::io::Error::other).flatten() {
            Ok(file) => file,
            Err(error) => {
                return Some(
                    self.later(due, &format!("its dead letter cannot be written: {error}")),
                );
            }
        };
        let record = Attempt {
            leaves: Leaves::DeadLettered,
            ..record
        };
        if let Err(error) = self.means.store.record(record).await {
            return Some(self.later(due, &error.to_string()));
        }
        self.report(
            &due,
            Happening::DeadLettered {
                by: self.function,
                attempts,
                problem,
                reason,
                file,
            },
        );
        None
    }

    /// The grid itself failed: the same attempt is made again.
    fn later(&self, due: Due, problem: &str) -> Due {
        self.means.terminal.alarm(format!(
            "event {} for {} is tried again in {} s, since the grid failed: {problem}",
            due.number,
            self.function,
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

/// Takes the next event whose time has come.
fn pop_due(waiting: &mut BinaryHeap<Reverse<Due>>) -> Option<Due> {
    let Reverse(first) = waiting.peek()?;
    if first.at > Instant::now() {
        return None;
    }
    waiting.pop().map(|Reverse(due)| due)
}

/// The beginning of an answer's text, on one line.
async fn beginning(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < SHOWN_TEXT
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(SHOWN_TEXT);
    String::from_utf8_lossy(&bytes)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
