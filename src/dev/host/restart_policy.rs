//! Whether the host starts a handler again that has ended.

use std::time::Duration;

use tokio::time::Instant;

/// The error with this number stops the host.
const ERRORS: u32 = 3;

/// After so long without an error, earlier ones are forgotten.
const QUIET: Duration = Duration::from_secs(30 * 60);

/// The exit code with which a handler asks for a restart that is not counted as an error.
const ASKS_FOR_RESTART: i32 = 200;

/// How a handler's life ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// It ended with this exit code of its own accord.
    Code(i32),
    /// It was killed, by whom and how is in the words.
    Killed(String),
    /// It was started but did not answer in time.
    NotReady(Duration),
    /// The host killed it because a function ran into its time limit.
    FunctionTimeout,
}

impl std::fmt::Display for End {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(formatter, "with exit code {code}"),
            Self::Killed(how) => formatter.write_str(how),
            Self::NotReady(limit) => write!(
                formatter,
                "because it did not answer within {} s",
                limit.as_secs()
            ),
            Self::FunctionTimeout => {
                formatter.write_str("because a function ran into its time limit")
            }
        }
    }
}

/// What the host does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Starts it again, as it may: this was no error.
    Restart,
    /// Starts it again; so many errors have been counted.
    RestartAfterError(u32),
    /// Leaves it at that: every later invocation fails.
    LeaveEnded,
    /// Gives up after so many errors.
    Stop(u32),
}

/// The errors of the handlers so far.
#[derive(Debug, Default)]
pub(super) struct RestartPolicy {
    errors: u32,
    last: Option<Instant>,
}

impl RestartPolicy {
    /// Decides about the end of a handler, as the real host does.
    pub(super) fn decide(&mut self, end: &End, now: Instant) -> Decision {
        match end {
            End::Code(0) => return Decision::LeaveEnded,
            End::Code(ASKS_FOR_RESTART) | End::FunctionTimeout => {
                return Decision::Restart;
            }
            End::Code(_) | End::Killed(_) | End::NotReady(_) => {}
        }
        if self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) > QUIET)
        {
            self.errors = 0;
        }
        self.errors = self.errors.saturating_add(1);
        self.last = Some(now);
        if self.errors >= ERRORS {
            Decision::Stop(self.errors)
        } else {
            Decision::RestartAfterError(self.errors)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_error_stops_the_host() {
        let mut policy = RestartPolicy::default();
        let now = Instant::now();
        assert_eq!(
            policy.decide(&End::Code(1), now),
            Decision::RestartAfterError(1)
        );
        assert_eq!(
            policy.decide(&End::Killed("by signal".to_owned()), now),
            Decision::RestartAfterError(2)
        );
        assert_eq!(policy.decide(&End::NotReady(QUIET), now), Decision::Stop(3));
    }

    #[test]
    fn some_ends_are_not_errors() {
        let mut policy = RestartPolicy::default();
        let now = Instant::now();
        for _ in 0..5 {
            assert_eq!(policy.decide(&End::Code(200), now), Decision::Restart);
            assert_eq!(policy.decide(&End::FunctionTimeout, now), Decision::Restart);
        }
        assert_eq!(policy.decide(&End::Code(0), now), Decision::LeaveEnded);
    }

    #[test]
    fn half_an_hour_without_an_error_forgets_the_earlier_ones() {
        let mut policy = RestartPolicy::default();
        let start = Instant::now();
        assert_eq!(
            policy.decide(&End::Code(1), start),
            Decision::RestartAfterError(1)
        );
        assert_eq!(
            policy.decide(&End::Code(1), start + QUIET),
            Decision::RestartAfterError(2)
        );
        let later = start + QUIET + QUIET + Duration::from_secs(1);
        assert_eq!(
            policy.decide(&End::Code(1), later),
            Decision::RestartAfterError(1)
        );
    }
}
