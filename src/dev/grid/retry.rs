//! When Event Grid tries again, and when it gives up.
//!
//! All times here are Event Grid's own. The local grid runs them faster by its [`Speed`].

use std::time::Duration;

/// The waits after the first, second, … failed attempt. Every later one is [`LAST_WAIT`].
const WAITS: [Duration; 9] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    minutes(1),
    minutes(5),
    minutes(10),
    minutes(30),
    hours(1),
    hours(3),
    hours(6),
];

/// The wait once [`WAITS`] is used up.
const LAST_WAIT: Duration = hours(12);

/// After so many attempts an event is dead-lettered.
const MAXIMUM_ATTEMPTS: u32 = 30;

/// So long after it was accepted, an event is dead-lettered.
const TIME_TO_LIVE: Duration = hours(24);

/// At most this part of a wait is added to it at random, lest many events come back at the same moment.
/// Event Grid does not publish its own number.
const JITTER: f64 = 0.1;

const fn minutes(number: u64) -> Duration {
    Duration::from_secs(number * 60)
}

const fn hours(number: u64) -> Duration {
    minutes(number * 60)
}

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The endpoint answered with this status.
    Status(u16),
    /// The endpoint did not answer in time.
    TimedOut,
    /// The endpoint could not be reached, or the connection broke.
    Unreachable,
}

impl Outcome {
    /// Whether the event counts as delivered.
    pub(super) fn is_success(self) -> bool {
        matches!(self, Self::Status(200..=204))
    }

    /// The status, if there was an answer.
    pub(super) fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status),
            Self::TimedOut | Self::Unreachable => None,
        }
    }

    /// Event Grid's word for the outcome, as a dead letter has it in `lastdeliveryoutcome`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Status(200..=204) => "Delivered",
            Self::Status(400) => "BadRequest",
            Self::Status(401) => "Unauthorized",
            Self::Status(403) => "Forbidden",
            Self::Status(404) => "NotFound",
            Self::Status(408) | Self::TimedOut => "TimedOut",
            Self::Status(413) => "PayloadTooLarge",
            Self::Status(429 | 500..=599) => "Busy",
            Self::Status(_) => "Aborted",
            Self::Unreachable => "SocketError",
        }
    }

    /// The shortest wait before the next attempt, whatever the schedule says.
    fn minimum_wait(self) -> Duration {
        match self {
            Self::Status(408) => minutes(2),
            Self::Status(503) => Duration::from_secs(30),
            Self::Status(_) | Self::TimedOut | Self::Unreachable => Duration::from_secs(10),
        }
    }

    /// Why there is no further attempt after this outcome, where that is so.
    fn final_reason(self) -> Option<&'static str> {
        match self {
            Self::Status(400) => Some("UndeliverableDueToHttpBadRequest"),
            Self::Status(401) => Some("UndeliverableDueToHttpUnauthorized"),
            Self::Status(403) => Some("UndeliverableDueToHttpForbidden"),
            Self::Status(413) => Some("UndeliverableDueToHttpPayloadTooLarge"),
            Self::Status(_) | Self::TimedOut | Self::Unreachable => None,
        }
    }
}

/// What happens to an event after a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It is tried again after this time.
    Retry(Duration),
    /// It is given up, for this reason (`deadletterreason` of the dead letter).
    DeadLetter(&'static str),
}

/// What happens after the failed attempt with this number (from 1) to an event of this age.
///
/// `jitter` is between 0 and 1 and decides how much is added to the wait. An event whose next attempt would come after its
/// end of life is given up now, since nothing could happen to it in between.
pub(super) fn after_failure(attempt: u32, outcome: Outcome, age: Duration, jitter: f64) -> Next {
    if let Some(reason) = outcome.final_reason() {
        return Next::DeadLetter(reason);
    }
    if attempt >= MAXIMUM_ATTEMPTS {
        return Next::DeadLetter("MaxDeliveryAttemptsExceeded");
    }
    let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = WAITS
        .get(step)
        .copied()
        .unwrap_or(LAST_WAIT)
        .max(outcome.minimum_wait());
    let wait = wait.saturating_add(wait.mul_f64(JITTER * jitter.clamp(0.0, 1.0)));
    if age.saturating_add(wait) >= TIME_TO_LIVE {
        return Next::DeadLetter("TimeToLiveExceeded");
    }
    Next::Retry(wait)
}

/// How many times faster than Azure the local grid lives: at 60, a wait of a minute takes a second and the 24 hours of an
/// event's life take 24 minutes. The 30 seconds in which a function must answer are never shortened.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Speed(f64);

impl Speed {
    /// Takes a number above 0.
    pub(in super::super) fn new(times: f64) -> Option<Self> {
        (times.is_finite() && times > 0.0).then_some(Self(times))
    }

    /// How long something that takes `duration` in Azure takes here.
    pub(super) fn shorten(self, duration: Duration) -> Duration {
        Duration::try_from_secs_f64(duration.as_secs_f64() / self.0).unwrap_or(Duration::MAX)
    }

    /// How much time of Azure's passes here in `duration`.
    pub(super) fn stretch(self, duration: Duration) -> Duration {
        Duration::try_from_secs_f64(duration.as_secs_f64() * self.0).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Outcome = Outcome::Status(500);

    /// The waits, without jitter, of an event whose every attempt ends with `outcome`, and why it is given up.
    fn life(outcome: Outcome) -> (Vec<u64>, &'static str) {
        let mut waits = Vec::new();
        let mut age = Duration::ZERO;
        for attempt in 1.. {
            match after_failure(attempt, outcome, age, 0.0) {
                Next::Retry(wait) => {
                    waits.push(wait.as_secs());
                    age += wait;
                }
                Next::DeadLetter(reason) => return (waits, reason),
            }
        }
        unreachable!("the attempts have an end")
    }

    #[test]
    fn waits_follow_the_schedule_until_the_event_is_a_day_old() {
        let (waits, reason) = life(BUSY);
        assert_eq!(
            waits,
            [10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200]
        );
        assert_eq!(reason, "TimeToLiveExceeded");
    }

    #[test]
    fn some_statuses_wait_longer() {
        assert_eq!(
            life(Outcome::Status(503)).0.get(..4),
            Some(&[30, 30, 60, 300][..])
        );
        assert_eq!(
            life(Outcome::Status(408)).0.get(..4),
            Some(&[120, 120, 120, 300][..])
        );
        assert_eq!(life(Outcome::TimedOut).0.first(), Some(&10));
        assert_eq!(life(Outcome::Unreachable).0.first(), Some(&10));
    }

    #[test]
    fn some_statuses_are_never_tried_again() {
        for status in [400, 401, 403, 413] {
            let (waits, reason) = life(Outcome::Status(status));
            assert!(waits.is_empty(), "{status}");
            assert!(reason.starts_with("UndeliverableDueToHttp"), "{reason}");
        }
        for status in [404, 408, 409, 429, 500, 503, 205, 302] {
            assert!(!life(Outcome::Status(status)).0.is_empty(), "{status}");
        }
    }

    #[test]
    fn attempts_have_a_maximum() {
        assert!(matches!(
            after_failure(29, BUSY, Duration::ZERO, 0.0),
            Next::Retry(_)
        ));
        assert_eq!(
            after_failure(30, BUSY, Duration::ZERO, 0.0),
            Next::DeadLetter("MaxDeliveryAttemptsExceeded")
        );
    }

    #[test]
    fn jitter_adds_at_most_a_tenth() {
        let wait = |jitter| match after_failure(1, BUSY, Duration::ZERO, jitter) {
            Next::Retry(wait) => wait,
            Next::DeadLetter(reason) => panic!("{reason}"),
        };
        assert_eq!(wait(0.0), Duration::from_secs(10));
        assert_eq!(wait(0.5), Duration::from_millis(10_500));
        assert_eq!(wait(1.0), Duration::from_secs(11));
        assert_eq!(wait(7.0), Duration::from_secs(11));
    }

    #[test]
    fn only_the_first_five_successes_count() {
        for status in 200..=204 {
            assert!(Outcome::Status(status).is_success());
        }
        for status in [100, 199, 205, 206, 302, 404, 500] {
            assert!(!Outcome::Status(status).is_success());
        }
    }

    #[test]
    fn speed_shortens_waits_and_stretches_ages() {
        let speed = Speed::new(60.0).unwrap();
        assert_eq!(
            speed.shorten(Duration::from_secs(60)),
            Duration::from_secs(1)
        );
        assert_eq!(
            speed.stretch(Duration::from_secs(1)),
            Duration::from_secs(60)
        );
        for nonsense in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(Speed::new(nonsense).is_none());
        }
    }
}
