//! Probation: an endpoint that keeps failing is left alone for a while, by retries and new events alike.

use crate::dev::grid::{clock::Moment, retry::Outcome};

/// After so many failed requests in a row.
const FAILURES: u32 = 10;

/// How an endpoint has done lately.
#[derive(Debug, Default)]
pub(super) struct Probation {
    failures: u32,
    until: Option<Moment>,
}

/// What a request changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Began,
    Ended,
}

impl Probation {
    /// Takes note of how a request ended. Outcomes that only say something about the event, such as 400, do not count.
    pub(super) fn note(&mut self, outcome: Outcome, now: Moment) -> Option<Change> {
        if outcome.is_success() {
            let was_on = self.is_on();
            *self = Self::default();
            return was_on.then_some(Change::Ended);
        }
        let time = outcome.probation()?;
        self.failures = self.failures.saturating_add(1);
        if self.failures < FAILURES {
            return None;
        }
        self.until = Some(now.after(time));
        (self.failures == FAILURES).then_some(Change::Began)
    }

    /// While it is on, one request at a time shows whether the endpoint is well again.
    pub(super) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// When the next request may be made, if one has to wait.
    pub(super) fn until(&self) -> Option<Moment> {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn ten_failures_in_a_row_put_an_endpoint_on_probation_and_a_success_ends_it() {
        let now = Moment::numbered(1);
        let mut probation = Probation::default();
        let mut note = |outcome| {
            let change = probation.note(outcome, now);
            (change, probation.until().map(|until| until.since(now)))
        };
        for _ in 0..9 {
            assert_eq!(note(Outcome::Status(503)), (None, None));
        }
        for outcome in [
            Outcome::Status(400),
            Outcome::Status(413),
            Outcome::Status(302),
        ] {
            assert_eq!(note(outcome), (None, None));
        }
        let tenth = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(note(Outcome::TimedOut), (Some(Change::Began), tenth(10)));
        assert_eq!(note(Outcome::Unreachable), (None, tenth(30)));
        assert_eq!(note(Outcome::Status(404)), (None, tenth(300)));
        assert_eq!(note(Outcome::Status(202)), (Some(Change::Ended), None));
        assert_eq!(note(Outcome::Status(503)), (None, None));
    }
}
