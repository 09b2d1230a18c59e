//! For how long dead letters could not be kept.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::dev::grid::clock::Moment;

/// Since when no dead letter could be kept, on the clock, if it is so.
#[derive(Debug, Default)]
pub(super) struct Outage {
    since: Mutex<Option<Moment>>,
}

impl Outage {
    /// Takes note of a failure. Returns for how long it has been so; nothing the first time.
    pub(super) fn failed(&self, now: Moment) -> Option<Duration> {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        let lasted = since.map(|since| now.since(since));
        since.get_or_insert(now);
        lasted
    }

    /// Takes note that it works. Returns whether that is news.
    pub(super) fn ended(&self) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.take().is_some()
    }
}
