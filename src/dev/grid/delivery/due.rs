//! Events on their way, and in which order their time comes.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::dev::{
    grid::{
        batching::Batching,
        clock::Moment,
        store::{LastAttempt, PendingDelivery},
    },
    terminal::{EventLabel, EventReport, Happening},
};

/// An event on its way to one function.
#[derive(Debug)]
pub(in super::super) struct Due {
    /// When the next attempt is made.
    pub(super) at: Moment,
    pub(super) number: i64,
    /// The number of the next attempt, from 1. Of the last one, if it is condemned.
    pub(super) attempt: u32,
    pub(super) accepted_at: DateTime<Utc>,
    /// The same on the clock.
    pub(super) accepted: Moment,
    pub(super) label: Arc<EventLabel>,
    /// How many functions the event goes to.
    pub(super) takers: usize,
    /// The size of its text.
    pub(super) bytes: usize,
    /// Held for the first attempt only; later ones read it from the store.
    pub(super) text: Option<Arc<HeldText>>,
    pub(super) last: Option<Arc<LastAttempt>>,
    /// Set once there are no more attempts, to the reason: then it waits for its dead letter to be written.
    pub(super) condemned: Option<&'static str>,
    /// What it waits for is no attempt, but the late answer to the last one.
    pub(super) answered_late: bool,
}

/// The text of a new event, held in memory because it will be needed in a moment.
#[derive(Debug)]
pub(in super::super) struct HeldText {
    pub(super) text: Arc<str>,
    _room: OwnedSemaphorePermit,
}

impl HeldText {
    /// Holds the text if there is room for so many bytes.
    pub(in super::super) fn hold(text: &Arc<str>, room: &Arc<Semaphore>) -> Option<Arc<Self>> {
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
    pub(in super::super) fn new(
        number: i64,
        (accepted_at, accepted): (DateTime<Utc>, Moment),
        label: Arc<EventLabel>,
        takers: usize,
        bytes: usize,
        text: Option<Arc<HeldText>>,
    ) -> Self {
        Self {
            at: accepted,
            number,
            attempt: 1,
            accepted_at,
            accepted,
            label,
            takers,
            bytes,
            text,
            last: None,
            condemned: None,
            answered_late: false,
        }
    }

    /// What happened to it, to be told.
    pub(super) fn report(&self, what: Happening) -> EventReport {
        EventReport {
            number: self.number,
            label: Arc::clone(&self.label),
            takers: self.takers,
            what,
        }
    }

    /// A delivery that an earlier process left behind.
    pub(in super::super) fn left_behind(pending: &PendingDelivery, takers: usize) -> Self {
        Self {
            at: pending.next_at,
            number: pending.event,
            attempt: pending
                .attempts
                .saturating_add(u32::from(pending.condemned.is_none())),
            accepted_at: pending.accepted_at,
            accepted: pending.accepted,
            label: Arc::new(EventLabel::new(
                &pending.event_type,
                pending.subject.as_deref(),
            )),
            takers,
            bytes: pending.bytes,
            text: None,
            last: pending.last.clone().map(Arc::new),
            condemned: pending.condemned,
            answered_late: false,
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

/// The events that wait for their time.
#[derive(Debug, Default)]
pub(super) struct Waiting(BinaryHeap<Reverse<Due>>);

impl Waiting {
    pub(super) fn add(&mut self, due: Due) {
        self.0.push(Reverse(due));
    }

    /// When the time of the first one comes.
    pub(super) fn first(&self) -> Option<Moment> {
        self.0.peek().map(|Reverse(due)| due.at)
    }

    /// Takes an event out before its time, if it waits for its attempt with this number.
    pub(super) fn take_out(&mut self, number: i64, attempt: u32) -> Option<Due> {
        let sought = |due: &Due| due.number == number && due.attempt == attempt;
        if !self.0.iter().any(|Reverse(due)| sought(due)) {
            return None;
        }
        let all = std::mem::take(&mut self.0).into_vec();
        let (mut found, rest): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|Reverse(due)| sought(due));
        self.0 = rest.into();
        found.pop().map(|Reverse(due)| due)
    }

    /// Takes what goes into the next request, if the time of anything has come.
    pub(super) fn take(&mut self, batching: Option<Batching>, now: Moment) -> Vec<Due> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        while let Some(Reverse(next)) = self.0.peek() {
            let has_room = match batching {
                Some(batching) => batching.has_room(batch.len(), bytes, next.bytes),
                None => batch.is_empty(),
            };
            if next.at > now || !has_room {
                break;
            }
            bytes += next.bytes;
            batch.extend(self.0.pop().map(|Reverse(due)| due));
        }
        batch
    }
}
