//! One line per event: gathers what the functions that take an event say about it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{EventLabel, EventReport, Happening, Line, Style, span, time_of_day};

/// How long a line waits for the slower functions before it shows what is known.
const WAIT: Duration = Duration::from_secs(1);

/// The lines that are not complete yet, by the number of their event.
#[derive(Debug, Default)]
pub(super) struct EventLines {
    open: HashMap<i64, OpenLine>,
}

#[derive(Debug)]
struct OpenLine {
    since: Instant,
    heading: String,
    /// How many functions have yet to answer their first attempt.
    awaited: usize,
    taken: Vec<String>,
}

impl OpenLine {
    fn close(self) -> Option<Line> {
        // Where no function took the event, the failures have been told already.
        (!self.taken.is_empty()).then(|| Line {
            style: Style::Plain,
            text: format!("{} → {}", self.heading, self.taken.join(" · ")),
        })
    }
}

impl EventLines {
    /// Adds a report; returns the lines that can be written now.
    pub(super) fn add(&mut self, report: EventReport, now: Instant) -> Vec<Line> {
        let heading = heading(&report.label);
        let mut ready = Vec::new();
        let attempt = match report.what {
            // Its line comes once it is taken.
            Happening::Accepted { .. } => return ready,
            Happening::NotTaken => {
                ready.push(Line {
                    style: Style::Plain,
                    text: format!("{heading} → no function takes it"),
                });
                return ready;
            }
            Happening::Taken {
                by,
                attempt: 1,
                within,
            } => {
                let line = self.open_line(report.number, heading, report.takers, now);
                line.taken.push(format!("{by} {}", span(within)));
                ready.extend(self.answered(report.number));
                return ready;
            }
            Happening::Taken {
                by,
                attempt,
                within,
            } => {
                let text = format!("{heading} → {by} {} (attempt {attempt})", span(within));
                ready.push(Line {
                    style: Style::Plain,
                    text,
                });
                attempt
            }
            Happening::Failed {
                by,
                attempt,
                problem,
                again_in,
            } => {
                let again = again_in.map_or("once the clock is turned".to_owned(), |wait| {
                    format!("in {}", span(wait))
                });
                let text =
                    format!("{heading} ✗ {by}, attempt {attempt}: {problem}; tried again {again}");
                ready.push(Line {
                    style: Style::Warning,
                    text,
                });
                attempt
            }
            Happening::DeadLettered {
                by,
                attempts,
                problem,
                reason,
                kept_in,
            } => {
                ready.push(dead_letter(
                    &heading, by, attempts, &problem, reason, &kept_in,
                ));
                attempts
            }
        };
        if attempt == 1 {
            self.open_line(report.number, heading, report.takers, now);
            ready.extend(self.answered(report.number));
        }
        ready
    }

    /// Returns the lines that have waited long enough.
    pub(super) fn overdue(&mut self, now: Instant) -> Vec<Line> {
        self.close(|line| now.saturating_duration_since(line.since) >= WAIT)
    }

    /// Returns all lines, complete or not.
    pub(super) fn finish(&mut self) -> Vec<Line> {
        self.close(|_| true)
    }

    fn close(&mut self, which: impl Fn(&OpenLine) -> bool) -> Vec<Line> {
        let mut closed: Vec<_> = self.open.extract_if(|_, line| which(line)).collect();
        closed.sort_by_key(|(number, _)| *number);
        closed
            .into_iter()
            .filter_map(|(_, line)| line.close())
            .collect()
    }

    fn open_line(
        &mut self,
        number: i64,
        heading: String,
        awaited: usize,
        since: Instant,
    ) -> &mut OpenLine {
        self.open.entry(number).or_insert(OpenLine {
            since,
            heading,
            awaited,
            taken: Vec::new(),
        })
    }

    fn answered(&mut self, number: i64) -> Option<Line> {
        let line = self.open.get_mut(&number)?;
        line.awaited = line.awaited.saturating_sub(1);
        if line.awaited > 0 {
            return None;
        }
        self.open.remove(&number)?.close()
    }
}

fn heading(label: &EventLabel) -> String {
    format!(
        "{}  {:<20} {:>8}",
        time_of_day(),
        label.name(),
        label.order()
    )
}

fn dead_letter(
    heading: &str,
    by: &str,
    attempts: u32,
    problem: &str,
    reason: &str,
    kept_in: &str,
) -> Line {
    let times = if attempts == 1 { "attempt" } else { "attempts" };
    Line {
        style: Style::Alarm,
        text: format!(
            "{heading} ✗ {by}: DEAD LETTER after {attempts} {times} ({reason}; {problem}), kept in {kept_in}"
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn report(number: i64, takers: usize, what: Happening) -> EventReport {
        let label = Arc::new(EventLabel::new(
            "Sales.OrderPlaced",
            Some("orders/12345678"),
        ));
        EventReport {
            number,
            label,
            takers,
            what,
        }
    }

    fn taken(by: &'static str, attempt: u32) -> Happening {
        Happening::Taken {
            by,
            attempt,
            within: Duration::from_millis(7),
        }
    }

    fn failed(by: &'static str) -> Happening {
        Happening::Failed {
            by,
            attempt: 1,
            problem: "500".to_owned(),
            again_in: Some(Duration::from_millis(170)),
        }
    }

    /// The lines without their time of day.
    fn texts(lines: &[Line]) -> Vec<&str> {
        lines
            .iter()
            .map(|line| line.text.get(10..).unwrap())
            .collect()
    }

    #[test]
    fn an_event_gets_one_line_when_all_its_functions_took_it() {
        let mut lines = EventLines::default();
        let now = Instant::now();
        assert!(lines.add(report(1, 2, taken("billing", 1)), now).is_empty());
        let ready = lines.add(report(1, 2, taken("orders", 1)), now);
        assert_eq!(
            texts(&ready),
            ["OrderPlaced          12345678 → billing 7 ms · orders 7 ms"]
        );
        assert!(lines.open.is_empty());
    }

    #[test]
    fn a_slow_function_does_not_hold_the_line_back_for_long() {
        let mut lines = EventLines::default();
        let now = Instant::now();
        lines.add(report(1, 2, taken("billing", 1)), now);
        assert!(lines.overdue(now).is_empty());
        assert_eq!(
            texts(&lines.overdue(now + WAIT)),
            ["OrderPlaced          12345678 → billing 7 ms"]
        );
        assert!(lines.open.is_empty());
    }

    #[test]
    fn a_failure_is_told_at_once_and_its_retry_on_a_line_of_its_own() {
        let mut lines = EventLines::default();
        let now = Instant::now();
        let ready = lines.add(report(1, 1, failed("billing")), now);
        assert_eq!(
            texts(&ready),
            ["OrderPlaced          12345678 ✗ billing, attempt 1: 500; tried again in 170 ms"]
        );
        let ready = lines.add(report(1, 1, taken("billing", 2)), now);
        assert_eq!(
            texts(&ready),
            ["OrderPlaced          12345678 → billing 7 ms (attempt 2)"]
        );
        assert!(lines.open.is_empty());
    }

    #[test]
    fn a_dead_letter_is_loud() {
        let mut lines = EventLines::default();
        let what = Happening::DeadLettered {
            by: "billing",
            attempts: 1,
            problem: "400".to_owned(),
            reason: "UndeliverableDueToHttpBadRequest",
            kept_in: "a/b.json".to_owned(),
        };
        let ready = lines.add(report(1, 1, what), Instant::now());
        assert_eq!(
            ready.iter().map(|line| line.style).collect::<Vec<_>>(),
            [Style::Alarm]
        );
        assert!(
            texts(&ready)
                .concat()
                .contains("DEAD LETTER after 1 attempt ")
        );
        assert!(lines.open.is_empty());
    }
}
