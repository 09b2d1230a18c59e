//! How one subscription stands: whether it has expired, whether its endpoint is on probation, and what is under way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::probation::{Change, Probation};
use crate::dev::grid::{clock::Moment, retry::Outcome};

/// Shared between the deliveries of a subscription and those who ask about them.
#[derive(Debug)]
pub(in super::super) struct Standing {
    /// When the subscription expires (`expirationTimeUtc`), on the clock.
    pub(in super::super) expires: Option<Moment>,
    now: Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    probation: Probation,
    under_way: u32,
    consent: Consent,
}

/// Whether the endpoint has agreed to be delivered to.
#[derive(Debug, Clone, Copy, Default)]
enum Consent {
    /// It is being asked for the first time.
    #[default]
    Asked,
    Refused,
    /// At this moment.
    Given(Moment),
}

/// Events under way until it is dropped: they are taken, and what became of them is not on disk yet.
#[derive(Debug)]
pub(super) struct UnderWay {
    standing: Arc<Standing>,
    events: u32,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut now = self.standing.lock();
        now.under_way = now.under_way.saturating_sub(self.events);
    }
}

impl Standing {
    pub(in super::super) fn new(expires: Option<Moment>) -> Self {
        Self {
            expires,
            now: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nothing is delivered any more.
    pub(in super::super) fn has_expired(&self, now: Moment) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }

    /// Takes note that the endpoint has not agreed to be delivered to.
    pub(super) fn refuse(&self) {
        self.lock().consent = Consent::Refused;
    }

    /// Takes note that the endpoint has agreed to be delivered to.
    pub(super) fn agree(&self, now: Moment) {
        self.lock().consent = Consent::Given(now);
    }

    /// Whether nothing is delivered since the endpoint has refused, until it agrees.
    pub(in super::super) fn is_refused(&self) -> bool {
        matches!(self.lock().consent, Consent::Refused)
    }

    /// Whether an event that was accepted at this moment had to wait for the endpoint to agree.
    pub(super) fn agreed_after(&self, accepted: Moment) -> bool {
        matches!(self.lock().consent, Consent::Given(agreed) if agreed > accepted)
    }

    /// Takes note that so many events are under way from now on.
    pub(super) fn begin(self: &Arc<Self>, events: usize) -> UnderWay {
        let events = events.try_into().unwrap_or(u32::MAX);
        self.lock().under_way += events;
        UnderWay {
            standing: Arc::clone(self),
            events,
        }
    }

    /// Takes note of how a request ended.
    pub(super) fn note(&self, outcome: Outcome, now: Moment) -> Option<Change> {
        self.lock().probation.note(outcome, now)
    }

    /// While it is on probation, one request at a time shows whether the endpoint is well again.
    pub(super) fn is_on_probation(&self) -> bool {
        self.lock().probation.is_on()
    }

    /// Until when probation holds back everything.
    pub(super) fn held_until(&self) -> Option<Moment> {
        self.lock().probation.until()
    }

    /// Until when probation holds back everything, and how many events are under way nevertheless.
    pub(in super::super) fn held(&self) -> (Option<Moment>, u32) {
        let now = self.lock();
        (now.probation.until(), now.under_way)
    }
}
