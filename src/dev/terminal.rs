//! What the developer sees: one line per event as it flows, and what goes wrong.
//!
//! A thread of its own writes the lines, since a terminal may block (a paused or slow one) and the
//! stand-ins must not wait for it. When it falls too far behind, lines are left out and counted.

mod event_lines;

use std::{
    io::{IsTerminal as _, Write as _, stderr, stdout},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use chrono::Local;
use tokio::sync::{broadcast, oneshot};

use self::event_lines::EventLines;
use super::ambient::now;

/// How many messages may wait to be written, and how many reports in them.
const WAITING: usize = 4096;
const WAITING_REPORTS: usize = 16 * 1024;

/// How many reports may wait for a page. One that falls behind by more is told how many it missed.
const WATCHED: usize = 16 * 1024;

/// How often lines that wait for the rest of their event are looked at.
const TICK: Duration = Duration::from_millis(250);

/// What an event is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EventLabel {
    event_type: String,
    subject: Option<String>,
}

impl EventLabel {
    /// Labels the event of this type about this subject.
    pub(super) fn new(event_type: &str, subject: Option<&str>) -> Self {
        Self {
            event_type: event_type.to_owned(),
            subject: subject.map(str::to_owned),
        }
    }

    /// The event's type.
    pub(super) fn event_type(&self) -> &str {
        &self.event_type
    }

    /// The event's subject.
    pub(super) fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The type without `Sales.`.
    fn name(&self) -> &str {
        self.event_type
            .strip_prefix("Sales.")
            .unwrap_or(&self.event_type)
    }

    /// The end of the order's id: the beginning of a time-ordered id is the same for all orders of a minute.
    fn order(&self) -> &str {
        let subject = self.subject().unwrap_or_default();
        let order = subject.strip_prefix("orders/").unwrap_or(subject);
        let beginning = order
            .char_indices()
            .rev()
            .nth(7)
            .map_or(0, |(start, _)| start);
        order.get(beginning..).unwrap_or_default()
    }
}

/// One thing that happened to an event.
#[derive(Debug, Clone)]
pub(super) struct EventReport {
    /// The event's number in the grid.
    pub(super) number: i64,
    /// How it is named.
    pub(super) label: Arc<EventLabel>,
    /// How many functions the event goes to.
    pub(super) takers: usize,
    /// What happened.
    pub(super) what: Happening,
}

/// What may happen to an event.
#[derive(Debug, Clone)]
pub(super) enum Happening {
    /// It is on disk and goes to these functions.
    Accepted {
        /// The topic that it was published to.
        topic: &'static str,
        /// The functions.
        takers: Vec<&'static str>,
    },
    /// No function takes events of this type.
    NotTaken,
    /// A function took it.
    Taken {
        /// The function.
        by: &'static str,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// How long the function took.
        within: Duration,
    },
    /// A function did not take it.
    Failed {
        /// The function.
        by: &'static str,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// What came instead of success.
        problem: String,
        /// When it is tried again. None while Event Grid's clock stands still.
        again_in: Option<Duration>,
    },
    /// The event is not tried any more.
    DeadLettered {
        /// The function.
        by: &'static str,
        /// How often it was tried.
        attempts: u32,
        /// What came the last time.
        problem: String,
        /// Why it is given up, in Azure's word.
        reason: &'static str,
        /// Where it lies now.
        kept_in: String,
    },
}

#[derive(Debug)]
enum Report {
    Events(Vec<EventReport>),
    Notice(String),
    Alarm(String),
    Flush(oneshot::Sender<()>),
}

/// A handle to the terminal, and to the pages that show the same.
#[derive(Debug, Clone)]
pub(super) struct Terminal {
    reports: SyncSender<Report>,
    watched: broadcast::Sender<Arc<EventReport>>,
    /// How many reports wait to be written.
    waiting: Arc<AtomicUsize>,
    left_out: Arc<AtomicU64>,
}

impl Terminal {
    /// Starts the writing thread. A quiet terminal shows only what went wrong.
    pub(super) fn start(quiet: bool) -> Self {
        let (reports, receiver) = sync_channel(WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left_out = Arc::new(AtomicU64::new(0));
        let mut writer = Writer {
            lines: EventLines::default(),
            quiet,
            coloured: (stdout().is_terminal(), stderr().is_terminal()),
            waiting: Arc::clone(&waiting),
            left_out: Arc::clone(&left_out),
        };
        std::thread::spawn(move || writer.run(&receiver));
        let (watched, _) = broadcast::channel(WATCHED);
        Self {
            reports,
            watched,
            waiting,
            left_out,
        }
    }

    /// Tells what happened to events.
    pub(super) fn events(&self, mut reports: Vec<EventReport>) {
        if self.watched.receiver_count() > 0 {
            for report in &reports {
                // The error says that the last page has gone in this moment.
                drop(self.watched.send(Arc::new(report.clone())));
            }
        }
        // The terminal shows an event once something became of it.
        reports.retain(|report| !matches!(report.what, Happening::Accepted { .. }));
        let count = reports.len();
        if count == 0 {
            return;
        }
        if self.waiting.fetch_add(count, Ordering::Relaxed) < WAITING_REPORTS
            && self.reports.try_send(Report::Events(reports)).is_ok()
        {
            return;
        }
        self.waiting.fetch_sub(count, Ordering::Relaxed);
        let lines = u64::try_from(count).unwrap_or(u64::MAX);
        self.left_out.fetch_add(lines, Ordering::Relaxed);
    }

    /// Everything that is told about events from now on.
    pub(super) fn watch(&self) -> broadcast::Receiver<Arc<EventReport>> {
        self.watched.subscribe()
    }

    /// Tells something worth knowing.
    pub(super) fn notice(&self, text: impl Into<String>) {
        self.send(Report::Notice(text.into()));
    }

    /// Tells something that needs the developer's attention. Shown even when quiet.
    pub(super) fn alarm(&self, text: impl Into<String>) {
        self.send(Report::Alarm(text.into()));
    }

    /// Returns once everything told so far is written.
    pub(super) async fn flush(&self) {
        let (written, done) = oneshot::channel();
        self.send(Report::Flush(written));
        // An error says that the request was left out or the thread is gone; then there is nothing to wait for.
        drop(done.await);
    }

    fn send(&self, report: Report) {
        if self.reports.try_send(report).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A line ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    style: Style,
    text: String,
}

impl Line {
    /// Alarms go to standard error, and are shown even when quiet.
    fn is_alarm(&self) -> bool {
        self.style == Style::Alarm
    }
}

/// How a line is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// All is well.
    Plain,
    /// Something failed and is tried again.
    Warning,
    /// Something needs attention.
    Alarm,
}

impl Style {
    fn colour(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Warning => Some("33"),
            Self::Alarm => Some("1;31"),
        }
    }
}

struct Writer {
    lines: EventLines,
    quiet: bool,
    /// Whether standard output and standard error are.
    coloured: (bool, bool),
    waiting: Arc<AtomicUsize>,
    left_out: Arc<AtomicU64>,
}

impl Writer {
    fn run(&mut self, reports: &Receiver<Report>) {
        loop {
            match reports.recv_timeout(TICK) {
                Ok(Report::Events(reports)) => {
                    let (count, now) = (reports.len(), Instant::now());
                    let ready = reports.into_iter();
                    let ready: Vec<_> = ready
                        .flat_map(|report| self.lines.add(report, now))
                        .collect();
                    self.write(&ready);
                    self.waiting.fetch_sub(count, Ordering::Relaxed);
                }
                Ok(Report::Notice(text)) => self.write(&[Line {
                    style: Style::Plain,
                    text,
                }]),
                Ok(Report::Alarm(text)) => self.write(&[Line {
                    style: Style::Alarm,
                    text,
                }]),
                Ok(Report::Flush(written)) => {
                    let ready = self.lines.finish();
                    self.write(&ready);
                    // Nobody waits any more: fine.
                    let _ = written.send(());
                }
                Err(RecvTimeoutError::Timeout) => {
                    let ready = self.lines.overdue(Instant::now());
                    self.write(&ready);
                    self.tell_left_out();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn tell_left_out(&self) {
        let left_out = self.left_out.swap(0, Ordering::Relaxed);
        if left_out > 0 {
            let text = format!("{left_out} lines left out: the terminal was too slow");
            self.write(&[Line {
                style: Style::Warning,
                text,
            }]);
        }
    }

    /// Writes the lines in their order, those that go to the same place in one piece.
    fn write(&self, lines: &[Line]) {
        let (out, error) = self.coloured;
        for piece in lines.chunk_by(|one, other| one.is_alarm() == other.is_alarm()) {
            // A terminal that is gone is no reason to stop, and there is nowhere to tell it: hence the drops.
            if piece.iter().any(Line::is_alarm) {
                drop(stderr().write_all(written(piece, error).as_bytes()));
            } else if !self.quiet {
                let mut stream = stdout().lock();
                drop(stream.write_all(written(piece, out).as_bytes()));
                drop(stream.flush());
            }
        }
    }
}

/// The lines as they are written.
fn written(lines: &[Line], coloured: bool) -> String {
    let line = |line: &Line| match line.style.colour().filter(|_| coloured) {
        Some(colour) => format!("\u{1b}[{colour}m{}\u{1b}[0m\n", line.text),
        None => format!("{}\n", line.text),
    };
    lines.iter().map(line).collect()
}

/// The time of day as the developer's own clock shows it.
fn time_of_day() -> String {
    now().with_timezone(&Local).format("%H:%M:%S").to_string()
}

/// A span of time in the unit that a person would use.
fn span(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{} ms", duration.as_millis())
    } else if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.1} min", seconds / 60.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_named_by_its_short_type_and_the_end_of_its_order() {
        let label = EventLabel::new(
            "Sales.OrderPlaced",
            Some("orders/0190d0a0-0000-7000-8000-0000a1b2c3d4"),
        );
        assert_eq!((label.name(), label.order()), ("OrderPlaced", "a1b2c3d4"));
        let label = EventLabel::new("Other", None);
        assert_eq!((label.name(), label.order()), ("Other", ""));
        assert_eq!(EventLabel::new("X", Some("orders/äöü")).order(), "äöü");
    }

    #[test]
    fn colours_are_used_on_a_terminal_only() {
        let line = Line {
            style: Style::Alarm,
            text: "broken".to_owned(),
        };
        let lines = [line];
        assert_eq!(written(&lines, false), "broken\n");
        assert_eq!(written(&lines, true), "\u{1b}[1;31mbroken\u{1b}[0m\n");
    }

    #[test]
    fn spans_are_told_in_the_unit_a_person_would_use() {
        assert_eq!(span(Duration::from_micros(12_900)), "12 ms");
        assert_eq!(span(Duration::from_millis(1_250)), "1.2 s");
        assert_eq!(span(Duration::from_secs(90)), "1.5 min");
    }
}
