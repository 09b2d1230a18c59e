//! When Event Grid tries again, and when it gives up.
//!
//! All times here are Event Grid's own, as its clock measures them.

use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use crate::dev::ambient::{fraction, random_id};

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

/// The most attempts that a subscription may have, and how many it has unless it says otherwise.
const MOST_ATTEMPTS: u32 = 30;

/// The longest life of an event, in minutes, and how long it is unless a subscription says otherwise.
const LONGEST_LIFE: u32 = 24 * 60;

/// At most this part of a wait is added to it at random, lest many events come back at the same moment.
/// Event Grid does not publish its own number.
const JITTER: f64 = 0.1;

const BAD_REQUEST: &str = "UndeliverableDueToHttpBadRequest";
const UNAUTHORIZED: &str = "UndeliverableDueToHttpUnauthorized";
const FORBIDDEN: &str = "UndeliverableDueToHttpForbidden";
const PAYLOAD_TOO_LARGE: &str = "UndeliverableDueToHttpPayloadTooLarge";
const ATTEMPTS_EXCEEDED: &str = "MaxDeliveryAttemptsExceeded";
pub(super) const LIFE_EXCEEDED: &str = "TimeToLiveExceeded";

/// How long after the last attempt a dead letter is written.
pub(super) const DEAD_LETTER_HOLD: Duration = minutes(5);

const fn minutes(number: u64) -> Duration {
    Duration::from_secs(number * 60)
}

const fn hours(number: u64) -> Duration {
    minutes(number * 60)
}

/// When a subscription gives up. Read in the shape that ARM has for it (`retryPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "WrittenPolicy")]
pub(super) struct RetryPolicy {
    /// After so many attempts.
    pub(super) maximum_attempts: u32,
    /// So long after the event was accepted.
    pub(super) time_to_live: Duration,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct WrittenPolicy {
    max_delivery_attempts: Option<u32>,
    event_time_to_live_in_minutes: Option<u32>,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            maximum_attempts: MOST_ATTEMPTS,
            time_to_live: minutes(u64::from(LONGEST_LIFE)),
        }
    }
}

impl RetryPolicy {
    /// Whether the life of an event of this age is over.
    pub(super) fn is_over(self, age: Duration) -> bool {
        age >= self.time_to_live
    }
}

impl TryFrom<WrittenPolicy> for RetryPolicy {
    type Error = String;

    fn try_from(written: WrittenPolicy) -> Result<Self, String> {
        let within = |member, value: Option<u32>, most| match value.unwrap_or(most) {
            value if (1..=most).contains(&value) => Ok(value),
            value => Err(format!("{member} must be from 1 to {most}, it is {value}")),
        };
        let attempts = within(
            "maxDeliveryAttempts",
            written.max_delivery_attempts,
            MOST_ATTEMPTS,
        )?;
        let life = within(
            "eventTimeToLiveInMinutes",
            written.event_time_to_live_in_minutes,
            LONGEST_LIFE,
        )?;
        Ok(Self {
            maximum_attempts: attempts,
            time_to_live: minutes(life.into()),
        })
    }
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
    /// There was no attempt: the endpoint was on probation for as long as the event lived.
    Probation,
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
            Self::TimedOut | Self::Unreachable | Self::Probation => None,
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
            Self::Probation => "Probation",
        }
    }

    /// The shortest wait before the next attempt, whatever the schedule says.
    fn minimum_wait(self) -> Duration {
        match self {
            Self::Status(408) => minutes(2),
            Self::Status(503) => Duration::from_secs(30),
            Self::Status(_) | Self::TimedOut | Self::Unreachable | Self::Probation => {
                Duration::from_secs(10)
            }
        }
    }

    /// What was recorded as this status and word.
    pub(super) fn recorded(status: Option<u16>, name: &str) -> Self {
        match status {
            Some(status) => Self::Status(status),
            None if name == Self::TimedOut.name() => Self::TimedOut,
            None => Self::Unreachable,
        }
    }

    /// How long an endpoint that keeps answering like this is left alone. Nothing if the outcome tells about the event alone.
    pub(super) fn probation(self) -> Option<Duration> {
        match self {
            Self::Status(408 | 429 | 500..=599) | Self::TimedOut => Some(Duration::from_secs(10)),
            Self::Unreachable => Some(Duration::from_secs(30)),
            Self::Status(401 | 403 | 404) => Some(minutes(5)),
            Self::Status(_) | Self::Probation => None,
        }
    }

    /// Why there is no further attempt after this outcome, where that is so.
    fn final_reason(self) -> Option<&'static str> {
        match self {
            Self::Status(400) => Some(BAD_REQUEST),
            Self::Status(401) => Some(UNAUTHORIZED),
            Self::Status(403) => Some(FORBIDDEN),
            Self::Status(413) => Some(PAYLOAD_TOO_LARGE),
            Self::Status(_) | Self::TimedOut | Self::Unreachable | Self::Probation => None,
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

/// The reason that was recorded as this word.
pub(super) fn recorded_reason(word: &str) -> &'static str {
    let reasons = [
        BAD_REQUEST,
        UNAUTHORIZED,
        FORBIDDEN,
        PAYLOAD_TOO_LARGE,
        LIFE_EXCEEDED,
    ];
    let known = reasons.into_iter().find(|reason| *reason == word);
    known.unwrap_or(ATTEMPTS_EXCEEDED)
}

/// What happens under this policy to an event after the failed attempt with this number (from 1).
///
/// `jitter` is between 0 and 1 and decides how much is added to the wait. Whether the event lives that long is examined when
/// the wait is over, and not before ([`RetryPolicy::is_over`]).
pub(super) fn after_failure(
    policy: RetryPolicy,
    attempt: u32,
    outcome: Outcome,
    jitter: f64,
) -> Next {
    if let Some(reason) = outcome.final_reason() {
        return Next::DeadLetter(reason);
    }
    if attempt >= policy.maximum_attempts {
        return Next::DeadLetter(ATTEMPTS_EXCEEDED);
    }
    let step = usize::try_from(attempt.saturating_sub(1)).unwrap_or(usize::MAX);
    let wait = WAITS
        .get(step)
        .copied()
        .unwrap_or(LAST_WAIT)
        .max(outcome.minimum_wait());
    let wait = wait.saturating_add(wait.mul_f64(JITTER * jitter.clamp(0.0, 1.0)));
    Next::Retry(wait)
}

/// Where the random part of a wait comes from: from chance, or from a seed. With a seed, the same attempt at the same event
/// is always followed by the same wait, whatever happens beside it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Jitter {
    pub(super) seed: Option<u64>,
}

impl Jitter {
    /// The number from 0 to 1 for this attempt.
    pub(super) fn of(self, subscription: &str, event: i64, attempt: u32) -> f64 {
        fraction(match self.seed {
            Some(seed) => {
                let name = format!("{seed}/{subscription}/{event}/{attempt}");
                Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
            }
            None => random_id(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSY: Outcome = Outcome::Status(500);

    /// The waits, without jitter, of an event whose every attempt ends with `outcome`, and why it is given up.
    fn life(outcome: Outcome) -> (Vec<u64>, &'static str) {
        life_under(RetryPolicy::default(), outcome)
    }

    fn life_under(policy: RetryPolicy, outcome: Outcome) -> (Vec<u64>, &'static str) {
        let mut waits = Vec::new();
        let mut age = Duration::ZERO;
        for attempt in 1.. {
            match after_failure(policy, attempt, outcome, 0.0) {
                Next::Retry(wait) => {
                    waits.push(wait.as_secs());
                    age += wait;
                    if policy.is_over(age) {
                        return (waits, LIFE_EXCEEDED);
                    }
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
            [
                10, 30, 60, 300, 600, 1_800, 3_600, 10_800, 21_600, 43_200, 43_200
            ],
            "the end of its life is noticed when the last wait is over"
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
            after_failure(RetryPolicy::default(), 29, BUSY, 0.0),
            Next::Retry(_)
        ));
        assert_eq!(
            after_failure(RetryPolicy::default(), 30, BUSY, 0.0),
            Next::DeadLetter("MaxDeliveryAttemptsExceeded")
        );
    }

    #[test]
    fn a_subscription_may_give_up_sooner() {
        let policy = |written| serde_json::from_str::<RetryPolicy>(written).unwrap();
        assert_eq!(policy("{}"), RetryPolicy::default());
        assert_eq!(
            life_under(policy(r#"{"maxDeliveryAttempts": 3}"#), BUSY),
            (vec![10, 30], "MaxDeliveryAttemptsExceeded")
        );
        assert_eq!(
            life_under(policy(r#"{"eventTimeToLiveInMinutes": 2}"#), BUSY),
            (vec![10, 30, 60, 300], "TimeToLiveExceeded")
        );
    }

    #[test]
    fn jitter_adds_at_most_a_tenth() {
        let wait = |jitter| match after_failure(RetryPolicy::default(), 1, BUSY, jitter) {
            Next::Retry(wait) => wait,
            Next::DeadLetter(reason) => panic!("{reason}"),
        };
        assert_eq!(wait(0.0), Duration::from_secs(10));
        assert_eq!(wait(0.5), Duration::from_millis(10_500));
        assert_eq!(wait(1.0), Duration::from_secs(11));
        assert_eq!(wait(7.0), Duration::from_secs(11));
    }

    #[test]
    fn a_seed_says_which_jitter_belongs_to_an_attempt() {
        let jitter = Jitter { seed: Some(7) };
        let first = jitter.of("billing", 1, 1);
        assert!((0.0..=1.0).contains(&first));
        assert_eq!(first.to_bits(), jitter.of("billing", 1, 1).to_bits());
        for other in [
            jitter.of("orders", 1, 1),
            jitter.of("billing", 2, 1),
            jitter.of("billing", 1, 2),
            Jitter { seed: Some(8) }.of("billing", 1, 1),
            Jitter { seed: None }.of("billing", 1, 1),
        ] {
            assert_ne!(first.to_bits(), other.to_bits());
        }
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
}
