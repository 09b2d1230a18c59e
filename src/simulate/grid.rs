//! The simulated Event Grid: takes events, and delivers each to every function that subscribes to its type, at
//! least once, in any order, on Azure's schedule.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use cloudevents::{AttributesReader, Event};
use futures_util::future::BoxFuture;

use crate::{
    cloud_event,
    events::{order_of, short_name},
    functions::{FUNCTIONS, Function},
    publish::{PublishError, Publisher},
};

use super::{
    account::Published,
    agenda::{DAY, HOUR, MILLISECOND, MINUTE, Micros, SECOND},
    bugs::Bug,
    customers,
    faults::Fault,
    invariants::Invariant,
    outside::micros,
    versions,
    world::{Next, SharedWorld, World},
};

/// How long Event Grid waits before it delivers again, after the first failure, the second and so on.
const SCHEDULE: [Micros; 10] = [
    10 * SECOND,
    30 * SECOND,
    MINUTE,
    5 * MINUTE,
    10 * MINUTE,
    30 * MINUTE,
    HOUR,
    3 * HOUR,
    6 * HOUR,
    12 * HOUR,
];

/// How long Event Grid waits for an answer.
pub(super) const ACK_WINDOW: Micros = 30 * SECOND;

/// How long Event Grid tries.
const TIME_TO_LIVE: Micros = DAY;

/// The most copies of an event that a duplication adds.
const MOST_COPIES: u64 = 3;

/// An event on its way to one function.
pub(super) struct Letter {
    pub(super) order: u64,
    pub(super) event: Arc<Event>,
    pub(super) function: &'static Function,
    /// Whether it was damaged on the way.
    pub(super) damaged: bool,
    posted: Micros,
    attempts: u32,
    /// After how many attempts nothing comes through any more.
    lost_after: Option<u32>,
    /// The attempt whose answer is awaited.
    awaited: Option<u32>,
}

/// The topic's endpoint.
pub(super) struct Topic(pub(super) SharedWorld);

impl Publisher for Topic {
    fn publish(
        &self,
        events: Vec<Bytes>,
        budget: Duration,
    ) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            let Self(world) = self;
            world
                .pause_between(2 * MILLISECOND, 100 * MILLISECOND)
                .await;
            let (fate, careless) = {
                let mut world = world.lock();
                (world.topic_fate(), world.has(Bug::AcknowledgeBeforePublish))
            };
            let taken = fate.taken(events.len());
            for _ in 0..fate.times() {
                let mut world = world.lock();
                for event in events.iter().take(taken) {
                    world.take(event);
                }
            }
            match fate {
                _ if careless && taken == 0 => Ok(()),
                Fate::Refused => Err(PublishError::Unavailable("503".to_owned())),
                Fate::TooLarge => Err(PublishError::Refused("413".to_owned())),
                Fate::Partial => Err(PublishError::Unavailable("500".to_owned())),
                Fate::Timeout | Fate::Unanswered => {
                    world.pause(micros(budget)).await;
                    let reason = "no answer in time".to_owned();
                    Err(PublishError::Unavailable(reason))
                }
                Fate::Taken | Fate::Resent => {
                    world.pause_between(MILLISECOND, 50 * MILLISECOND).await;
                    Ok(())
                }
            }
        })
    }
}

/// What becomes of a request to the topic.
#[derive(Clone, Copy)]
enum Fate {
    Taken,
    Resent,
    Refused,
    TooLarge,
    Partial,
    Timeout,
    Unanswered,
}

impl Fate {
    /// How many of so many events the topic takes.
    fn taken(self, events: usize) -> usize {
        match self {
            Self::Taken | Self::Resent | Self::Unanswered => events,
            Self::Partial => events / 2,
            Self::Refused | Self::TooLarge | Self::Timeout => 0,
        }
    }

    /// How often it takes them.
    fn times(self) -> usize {
        if matches!(self, Self::Resent) { 2 } else { 1 }
    }
}

impl World {
    fn topic_fate(&mut self) -> Fate {
        let faults = [
            (Fault::TopicRefused, Fate::Refused),
            (Fault::TopicTooLarge, Fate::TooLarge),
            (Fault::TopicPartial, Fate::Partial),
            (Fault::TopicTimeout, Fate::Timeout),
            (Fault::TopicUnanswered, Fate::Unanswered),
            (Fault::TopicResent, Fate::Resent),
        ];
        // Each class has its chance, whatever becomes of the others; the first one that strikes counts.
        let fates = faults.map(|(fault, fate)| self.strikes(fault).then_some(fate));
        fates.into_iter().flatten().next().unwrap_or(Fate::Taken)
    }
}

impl World {
    /// Takes an event, and sends it to its subscribers.
    fn take(&mut self, bytes: &Bytes) {
        self.counts.mark(self.agenda.now(), bytes);
        let known = self
            .running
            .order
            .and_then(|number| self.accounts.get(number).map(|account| (number, account)))
            .and_then(|(number, account)| {
                let known = account.events.iter().find(|known| known.bytes == *bytes);
                known.map(|known| (number, known.event.clone()))
            });
        let (number, event) = match known {
            Some(known) => known,
            None => match self.read(bytes) {
                Some(read) => read,
                None => return,
            },
        };
        self.counts.published += 1;
        self.note(number, || {
            format!("  topic takes {}", short_name(event.ty()))
        });
        for function in subscribers(&event) {
            self.post(number, &event, function);
        }
    }

    /// Reads an event that was not seen before in this form, and checks it.
    fn read(&mut self, bytes: &Bytes) -> Option<(u64, Arc<Event>)> {
        let event = cloud_event::from_json(bytes).ok();
        let order = event
            .as_ref()
            .and_then(|event| order_of(event).ok().flatten());
        let (Some(event), Some(order)) = (event, order) else {
            let text = String::from_utf8_lossy(bytes).into_owned();
            let number = self.running.order.unwrap_or_default();
            self.check(number, Invariant::StablePayload, false, || {
                format!("the topic is sent what is no event of an order: {text}")
            });
            return None;
        };
        let number = customers::number(order);
        let is_new = self.check_event(number, &event, bytes);
        let event = Arc::new(self.in_some_version(number, event));
        if is_new {
            let published = Published {
                bytes: bytes.clone(),
                event: event.clone(),
            };
            self.accounts.get_mut(number)?.events.push(published);
            self.counts.events += 1;
        }
        Some((number, event))
    }

    /// The event as a publisher of another version of the application would have sent it, now and then.
    fn in_some_version(&mut self, order: u64, mut event: Event) -> Event {
        if self.strikes_order(Fault::NewerVersion, Some(order)) {
            versions::newer(&mut event);
        }
        if self.strikes_order(Fault::OlderVersion, Some(order)) {
            versions::older(&mut event);
        }
        event
    }

    /// Posts an event to one function: perhaps several times, perhaps late, perhaps in vain, perhaps with a damaged
    /// copy.
    fn post(&mut self, order: u64, event: &Arc<Event>, function: &'static Function) {
        let owner = Some(order);
        let mut copies = 1;
        if self.strikes_order(Fault::Duplicated, owner) {
            copies += self.random(owner).between(1, MOST_COPIES + 1);
        }
        for _ in 0..copies {
            let mut delay = self
                .random(owner)
                .between(2 * MILLISECOND, 200 * MILLISECOND);
            if self.strikes_order(Fault::Delayed, owner) {
                delay = self.random(owner).spread(SECOND, HOUR);
            }
            let lost_after = self
                .strikes_order(Fault::DeadLettered, owner)
                .then(|| u32::try_from(self.random(owner).below(3)).unwrap_or_default());
            self.send(order, event.clone(), function, lost_after, false, delay);
        }
        if self.strikes_order(Fault::Poisoned, owner) {
            let damage = self.random(owner).below(versions::DAMAGES);
            let damaged = Arc::new(versions::damaged(event, damage));
            let delay = self.random(owner).spread(MILLISECOND, HOUR);
            self.send(order, damaged, function, None, true, delay);
        }
    }

    /// Puts a letter on its way.
    pub(super) fn send(
        &mut self,
        order: u64,
        event: Arc<Event>,
        function: &'static Function,
        lost_after: Option<u32>,
        damaged: bool,
        delay: Micros,
    ) {
        self.letters_sent += 1;
        let letter = Letter {
            order,
            event,
            function,
            damaged,
            posted: self.agenda.now(),
            attempts: 0,
            lost_after,
            awaited: None,
        };
        self.letters.insert(self.letters_sent, letter);
        self.begin(order);
        self.agenda.after(delay, Next::Attempt(self.letters_sent));
    }

    /// Delivers events of an order's archive again, some of them, in any order, several times.
    pub(super) fn replay(&mut self, order: u64) {
        let Some(account) = self.accounts.get(order) else {
            return;
        };
        let events: Vec<_> = account
            .events
            .iter()
            .map(|known| known.event.clone())
            .collect();
        self.counts.replayed += 1;
        self.note(order, || "its archive is replayed".to_owned());
        // It comes to rest again even if nothing of it is chosen.
        self.begin(order);
        for event in &events {
            for function in subscribers(event) {
                for _ in 0..self.random(Some(order)).below(3) {
                    let delay = self.random(Some(order)).spread(SECOND, 4 * HOUR);
                    self.send(order, event.clone(), function, None, false, delay);
                }
            }
        }
        self.end(order);
    }

    /// Tries to deliver a letter: what is to run, if the attempt reaches the function.
    pub(super) fn attempt(&mut self, id: u64) -> Option<(u64, Arc<Event>, &'static Function, u32)> {
        let letter = self.letters.get_mut(&id)?;
        letter.attempts += 1;
        let (order, attempt) = (letter.order, letter.attempts);
        if letter.lost_after.is_some_and(|most| attempt > most) {
            // All further attempts fail: on to the dead letter.
            let dead_at = letter.posted + TIME_TO_LIVE;
            self.bury(id, dead_at);
            return None;
        }
        let (event, function) = (letter.event.clone(), letter.function);
        letter.awaited = Some(attempt);
        self.counts.deliveries += 1;
        if let Some(account) = self.accounts.get_mut(order) {
            account.deliveries += 1;
        }
        self.agenda
            .after(ACK_WINDOW, Next::AckDeadline(id, attempt));
        if self.strikes_order(Fault::DeliveryLost, Some(order)) {
            return None;
        }
        if self.strikes_order(Fault::ColdStart, Some(order)) {
            self.stop_waiting(id, attempt);
            self.failed(id);
            return None;
        }
        self.note(order, || {
            format!(
                "{} to {}, attempt {attempt}",
                short_name(event.ty()),
                function.name
            )
        });
        Some((order, event, function, attempt))
    }

    /// Whether Event Grid still waits for the answer to an attempt; it waits no longer.
    pub(super) fn stop_waiting(&mut self, id: u64, attempt: u32) -> bool {
        let awaited = self
            .letters
            .get_mut(&id)
            .filter(|letter| letter.awaited == Some(attempt));
        awaited.is_some_and(|letter| letter.awaited.take().is_some())
    }

    /// A letter has arrived.
    pub(super) fn arrived(&mut self, id: u64) {
        if let Some(letter) = self.letters.remove(&id) {
            self.end(letter.order);
        }
    }

    /// An attempt failed: Event Grid tries again later, or gives the letter up.
    pub(super) fn failed(&mut self, id: u64) {
        let Some(letter) = self.letters.get(&id) else {
            return;
        };
        let (order, posted) = (letter.order, letter.posted);
        let index = usize::try_from(letter.attempts.saturating_sub(1)).unwrap_or(usize::MAX);
        let wait = SCHEDULE.get(index).copied().unwrap_or(12 * HOUR);
        let jitter = self.random(Some(order)).below(wait / 10);
        let at = self.agenda.now() + wait + jitter;
        if at > posted + TIME_TO_LIVE {
            self.bury(id, posted + TIME_TO_LIVE);
        } else {
            self.agenda.at(at, Next::Attempt(id));
        }
    }

    /// A letter becomes a dead letter, and somebody replays it later.
    fn bury(&mut self, id: u64, dead_at: Micros) {
        let Some(order) = self.letters.get(&id).map(|letter| letter.order) else {
            return;
        };
        let patience = self.random(Some(order)).spread(HOUR, 2 * DAY);
        let again = self.strikes_order(Fault::DeadLettered, Some(order));
        let replayed = dead_at.max(self.agenda.now()) + patience;
        self.counts.dead_letters += 1;
        self.note(order, || "  a dead letter, replayed later".to_owned());
        if let Some(letter) = self.letters.get_mut(&id) {
            letter.posted = replayed;
            letter.attempts = 0;
            letter.lost_after = again.then_some(0);
        }
        self.agenda.at(replayed, Next::Attempt(id));
    }
}

/// The functions that subscribe to an event's type.
fn subscribers(event: &Event) -> impl Iterator<Item = &'static Function> {
    FUNCTIONS
        .iter()
        .filter(move |function| function.event_types().any(|taken| taken == event.ty()))
}
