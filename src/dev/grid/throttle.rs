//! How much a topic takes per second, where that is asked for: 5,000 events or 5 MB, whichever comes first (Azure
//! documentation, "Event Grid quotas and limits", custom topics).

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::admission::AdmittedEvent;

const SECOND: Duration = Duration::from_secs(1);
const EVENTS_PER_SECOND: u64 = 5_000;
const BYTES_PER_SECOND: u64 = 5 * 1024 * 1024;

/// An event counts once for each 64 KB that it has begun.
const CHUNK: usize = 64 * 1024;

/// Lets through what the limits allow, and a second's worth of it at once.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    limits: Mutex<Limits>,
}

#[derive(Debug, Default)]
struct Limits {
    events: Limit,
    bytes: Limit,
}

/// One limit: until when it is busy with what it let through, if it were to let it through evenly.
#[derive(Debug, Default)]
struct Limit {
    busy_until: Option<Instant>,
}

impl Throttle {
    /// Lets a request's events through, all or none.
    ///
    /// # Errors
    /// How long to wait before the same request passes, if nobody else sends meanwhile.
    pub(super) fn pass(&self, events: &[AdmittedEvent], now: Instant) -> Result<(), Duration> {
        let sum = |size: fn(usize) -> usize| -> u64 {
            let sizes = events.iter().map(|event| size(event.text.len()));
            sizes.sum::<usize>().try_into().unwrap_or(u64::MAX)
        };
        let chunks = time_for(sum(|length| length.div_ceil(CHUNK)), EVENTS_PER_SECOND);
        let bytes = time_for(sum(|length| length), BYTES_PER_SECOND);
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = limits
            .events
            .wait(chunks, now)
            .max(limits.bytes.wait(bytes, now));
        if !wait.is_zero() {
            return Err(wait);
        }
        limits.events.take(chunks, now);
        limits.bytes.take(bytes, now);
        Ok(())
    }
}

fn time_for(amount: u64, per_second: u64) -> Duration {
    let whole = Duration::from_secs(amount / per_second);
    whole + Duration::from_nanos((amount % per_second) * 1_000_000_000 / per_second)
}

impl Limit {
    fn busy_until(&self, now: Instant) -> Instant {
        self.busy_until.map_or(now, |until| until.max(now))
    }

    /// What is more than a second's worth passes when nothing else is under way.
    fn wait(&self, time: Duration, now: Instant) -> Duration {
        let busy_until = self.busy_until(now);
        let over = (busy_until + time).saturating_duration_since(now + SECOND);
        over.min(busy_until - now)
    }

    fn take(&mut self, time: Duration, now: Instant) {
        self.busy_until = Some(self.busy_until(now) + time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(count: usize, bytes: usize) -> Vec<AdmittedEvent> {
        let event = AdmittedEvent {
            id: "1".to_owned(),
            source: "/s".to_owned(),
            event_type: "t".to_owned(),
            subject: None,
            text: "x".repeat(bytes).into(),
        };
        vec![event; count]
    }

    #[test]
    fn five_thousand_events_pass_in_a_second() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.pass(&events(4_000, 1), start), Ok(()));
        assert_eq!(throttle.pass(&events(1_000, 1), start), Ok(()));
        let wait = Duration::from_micros(200);
        assert_eq!(throttle.pass(&events(1, 1), start), Err(wait));
        // What is refused counts for nothing.
        assert_eq!(throttle.pass(&events(5_000, 1), start), Err(SECOND));
        assert_eq!(throttle.pass(&events(1, 1), start + wait), Ok(()));
        let wait = throttle.pass(&events(2_500, 1), start + wait).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        let later = start + SECOND * 60;
        assert_eq!(throttle.pass(&events(5_000, 1), later), Ok(()));
        assert!(throttle.pass(&events(1, 1), later).is_err());
    }

    #[test]
    fn five_megabytes_pass_in_a_second() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(throttle.pass(&events(1, 1024 * 1024), start), Ok(()));
        }
        let wait = throttle.pass(&events(1, 1024 * 1024), start).unwrap_err();
        assert_eq!(wait, Duration::from_millis(200));
        assert_eq!(throttle.pass(&events(1, 1024 * 1024), start + wait), Ok(()));
    }

    #[test]
    fn a_large_event_counts_for_its_chunks() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.pass(&events(4_998, 1), start), Ok(()));
        let wait = Duration::from_micros(200);
        assert_eq!(throttle.pass(&events(1, 2 * CHUNK + 1), start), Err(wait));
        assert_eq!(throttle.pass(&events(1, 2 * CHUNK), start), Ok(()));
    }

    #[test]
    fn more_than_a_seconds_worth_passes_alone() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let mut many = events(4_999, 1);
        many.extend(events(1, 3 * CHUNK));
        assert_eq!(throttle.pass(&many, start), Ok(()));
        assert!(throttle.pass(&many, start + SECOND).is_err());
    }
}
