//! The grid while it runs: what publishers, people and deliveries share.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, Semaphore, mpsc::UnboundedSender},
    time::sleep,
};

use super::{
    admission::{AdmittedEvent, Refusal},
    authentication::Gate,
    clock::Clock,
    dead_letters::DeadLetters,
    delivery::{Callback, Due, HeldText, Standing},
    faults::Faults,
    publishing::OpenTopic,
    store::{GridStore, StoreError},
    topics::Origin,
};
use crate::dev::{
    DevError,
    ambient::now,
    stop::Stop,
    terminal::{EventLabel, EventReport, Happening, Terminal},
};

/// How often it is kept where the clock is, in real time.
const KEEP_CLOCK: Duration = Duration::from_secs(10);

/// What the HTTP side works with.
#[derive(Debug)]
pub(super) struct OpenGrid {
    pub(super) gate: Arc<Gate>,
    /// The default one first.
    pub(super) topics: Vec<OpenTopic>,
    pub(super) store: GridStore,
    pub(super) dead_letters: DeadLetters,
    pub(super) terminal: Terminal,
    pub(super) subscriptions: HashMap<&'static str, UnboundedSender<Vec<Due>>>,
    pub(super) held_bytes: Arc<Semaphore>,
    /// One replay at a time: a letter clicked twice is replayed once.
    pub(super) replaying: Mutex<()>,
    pub(super) callbacks: Vec<Arc<Callback>>,
    pub(super) clock: Arc<Clock>,
    pub(super) standings: HashMap<&'static str, Arc<Standing>>,
    pub(super) faults: Arc<Faults>,
}

impl OpenGrid {
    /// Goes on with what an earlier process left behind.
    pub(super) async fn take_up(&self) -> Result<(), DevError> {
        let subscriptions = self.topics.iter().flat_map(|topic| {
            let names = topic.filters.iter();
            names.map(|(name, _)| (*name, topic.origin))
        });
        let (pending, gone) = self.store.take_up(subscriptions.collect()).await?;
        if !gone.is_empty() {
            let mut names: Vec<_> = gone.iter().map(|one| one.subscription.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            self.terminal.alarm(format!(
                "{} deliveries are given up, since their subscriptions are not there any more: {}",
                gone.len(),
                names.join(", ")
            ));
        }
        if !pending.is_empty() {
            self.terminal.notice(format!(
                "{} deliveries are left from the last time and go on",
                pending.len()
            ));
        }
        let mut takers: HashMap<i64, usize> = HashMap::new();
        for delivery in &pending {
            *takers.entry(delivery.event).or_default() += 1;
        }
        for delivery in &pending {
            let takers = takers.get(&delivery.event).copied().unwrap_or(1);
            let due = Due::left_behind(delivery, takers);
            self.hand_over(&delivery.subscription, vec![due]);
        }
        Ok(())
    }

    pub(super) async fn accept(
        &self,
        topic: &OpenTopic,
        events: Vec<AdmittedEvent>,
    ) -> Result<(), Refusal> {
        let routed = events.into_iter().map(|event| {
            let mut takers = topic.takers(&event);
            takers.retain(|name| !self.has_expired(name));
            (event, takers)
        });
        self.keep_and_deliver(topic.origin, routed.collect()).await
    }

    pub(super) fn has_expired(&self, subscription: &str) -> bool {
        let standing = self.standings.get(subscription);
        standing.is_some_and(|standing| standing.has_expired(self.clock.now()))
    }

    /// The topic of a subscription.
    pub(super) fn topic_of(&self, subscription: &str) -> Origin {
        let has_it =
            |topic: &&OpenTopic| topic.filters.iter().any(|(name, _)| *name == subscription);
        let found = self.topics.iter().find(has_it);
        found.map_or(Origin::DEFAULT, |topic| topic.origin)
    }

    /// The topics for people and the page, the default one first.
    pub(super) fn shown_topics(&self) -> Value {
        let topics = self.topics.iter();
        topics
            .map(|topic| {
                json!({
                    "name": topic.origin.topic,
                    "inputSchema": topic.origin.schema,
                    "addresses": topic.addresses,
                })
            })
            .collect()
    }

    /// Keeps events of a topic and hands them over to the functions named beside them.
    pub(super) async fn keep_and_deliver(
        &self,
        origin: Origin,
        routed: Vec<(AdmittedEvent, Vec<&'static str>)>,
    ) -> Result<(), Refusal> {
        let routed = Arc::new(routed);
        let accepted = (now(), self.clock.now());
        let kept = self
            .store
            .accept(origin, Arc::clone(&routed), accepted.0, accepted.1)
            .await;
        let numbers = kept.map_err(|error| Refusal::NotKept(error.to_string()))?;
        let mut reports = Vec::new();
        let mut arrivals: HashMap<&'static str, Vec<Due>> = HashMap::new();
        for (number, (event, takers)) in numbers.into_iter().zip(routed.iter()) {
            let label = Arc::new(EventLabel::new(&event.event_type, event.subject.as_deref()));
            let mut report = |what| {
                reports.push(EventReport {
                    number,
                    label: Arc::clone(&label),
                    takers: takers.len(),
                    what,
                });
            };
            report(Happening::Accepted {
                topic: origin.topic,
                takers: takers.clone(),
            });
            if takers.is_empty() {
                report(Happening::NotTaken);
            }
            let text = HeldText::hold(&event.text, &self.held_bytes);
            for function in takers {
                let due = Due::new(
                    number,
                    accepted,
                    Arc::clone(&label),
                    takers.len(),
                    event.text.len(),
                    text.clone(),
                );
                arrivals.entry(function).or_default().push(due);
            }
        }
        self.terminal.events(reports);
        for (function, events) in arrivals {
            self.hand_over(function, events);
        }
        Ok(())
    }

    /// Keeps now and then where the clock is: a killed grid goes on from there. Returns when told to stop.
    pub(super) async fn keep_clock_until(&self, stop: &Stop) {
        loop {
            tokio::select! {
                () = sleep(KEEP_CLOCK) => {}
                () = stop.requested() => return,
            }
            if let Err(error) = self.keep_clock().await {
                self.terminal
                    .alarm(format!("it is not kept where the clock is: {error}"));
            }
        }
    }

    /// Keeps where the clock is, if something waits for it.
    pub(super) async fn keep_clock(&self) -> Result<(), StoreError> {
        let reading = self.clock.reading();
        if self.store.pending(reading.reading).await?.is_empty() {
            return Ok(());
        }
        self.store.keep_clock(reading).await
    }

    fn hand_over(&self, function: &str, events: Vec<Due>) {
        // The error says that deliveries have ended; the event is on disk and goes on at the next start.
        drop(
            self.subscriptions
                .get(function)
                .map(|subscription| subscription.send(events)),
        );
    }
}
