//! Faults that are injected into deliveries on purpose: what a real Event Grid does on a bad day.

use std::{
    fmt,
    str::FromStr,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::{
    extract::{Request, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde_json::json;

use super::open_grid::OpenGrid;
use crate::dev::{body, json::Json};

/// The longest that a request is held back: long enough for others to overtake it.
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// The latest that a late answer comes after the time-out, on the clock: sometimes before the next attempt, sometimes after.
const LATEST_ANSWER: Duration = Duration::from_secs(20);

/// A list of faults.
const MAXIMUM_BYTES: usize = 16 * 1024;

/// A fault, into how many requests it is injected, and into whose: `KIND[:RATE[:SUBSCRIPTION]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    kind: Kind,
    rate: f64,
    subscription: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The request is made twice.
    Duplicate,
    /// The request is held back for up to two seconds.
    Delay,
    /// The request is made, and its answer counts as lost.
    DropAcknowledgement,
    /// The request is made, and its answer comes after the time-out.
    LateAnswer,
    /// The request is not made, and counts as answered with this status.
    Fail(u16),
}

impl Kind {
    const NAMED: [(&'static str, Self); 4] = [
        ("duplicate", Self::Duplicate),
        ("delay", Self::Delay),
        ("drop-ack", Self::DropAcknowledgement),
        ("late-answer", Self::LateAnswer),
    ];

    fn parse(text: &str) -> Option<Self> {
        let named = Self::NAMED.iter().find(|(name, _)| *name == text);
        let status = || {
            text.parse()
                .ok()
                .filter(|status| (300..600).contains(status))
        };
        named
            .map(|(_, kind)| *kind)
            .or_else(|| status().map(Self::Fail))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fail(status) => status.fmt(formatter),
            kind => Self::NAMED
                .iter()
                .filter(|(_, named)| named == kind)
                .try_for_each(|(name, _)| formatter.write_str(name)),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, ':');
        let kind = Kind::parse(parts.next().unwrap_or_default()).ok_or_else(|| {
            format!("{text:?} is not duplicate, delay, drop-ack, late-answer or a status from 300 to 599, then perhaps :RATE:SUBSCRIPTION")
        })?;
        let rate = match parts.next() {
            None => 1.0,
            Some(rate) => rate
                .parse()
                .ok()
                .filter(|rate| (0.0..=1.0).contains(rate))
                .ok_or_else(|| format!("{text:?}: the rate must be a number from 0 to 1"))?,
        };
        Ok(Self {
            kind,
            rate,
            subscription: parts.next().map(str::to_owned),
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.kind, self.rate)?;
        match &self.subscription {
            Some(subscription) => write!(formatter, ":{subscription}"),
            None => Ok(()),
        }
    }
}

/// What is injected now. Empty at the start unless the command line says otherwise.
#[derive(Debug, Default)]
pub(super) struct Faults {
    injected: RwLock<Vec<Fault>>,
}

/// What is injected into one request.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub(super) struct Injected {
    pub(super) delay: Option<Duration>,
    pub(super) status: Option<u16>,
    pub(super) duplicate: bool,
    pub(super) lost_answer: bool,
    /// So long after the time-out, on the clock.
    pub(super) late_answer: Option<Duration>,
}

impl Faults {
    pub(super) fn new(faults: Vec<Fault>) -> Self {
        Self {
            injected: RwLock::new(faults),
        }
    }

    /// Draws what is injected into a request. `draw` gives a number from 0 to 1 for each name.
    pub(super) fn draw(&self, subscription: &str, draw: impl Fn(&str) -> f64) -> Injected {
        let faults = self.injected.read().unwrap_or_else(PoisonError::into_inner);
        let mut injected = Injected::default();
        for fault in faults.iter() {
            let meant = fault
                .subscription
                .as_deref()
                .is_none_or(|name| name == subscription);
            // A rate of 1 means every request, whatever was drawn.
            if !meant || draw(&fault.to_string()) >= fault.rate && fault.rate < 1.0 {
                continue;
            }
            match fault.kind {
                Kind::Duplicate => injected.duplicate = true,
                Kind::Delay => {
                    injected.delay = Some(LONGEST_DELAY.mul_f64(draw("how long")));
                }
                Kind::DropAcknowledgement => injected.lost_answer = true,
                Kind::LateAnswer => {
                    injected.late_answer = Some(LATEST_ANSWER.mul_f64(draw("how late")));
                }
                Kind::Fail(status) => injected.status = Some(status),
            }
        }
        injected
    }

    fn list(&self) -> Vec<String> {
        let faults = self.injected.read().unwrap_or_else(PoisonError::into_inner);
        faults.iter().map(Fault::to_string).collect()
    }

    fn replace(&self, faults: Vec<Fault>) {
        *self
            .injected
            .write()
            .unwrap_or_else(PoisonError::into_inner) = faults;
    }
}

/// Whose faults name a subscription that there is not.
pub(super) fn of_nobody<'a>(faults: &'a [Fault], names: &[&str]) -> Option<&'a Fault> {
    let known = |fault: &&Fault| match &fault.subscription {
        Some(name) => !names.contains(&name.as_str()),
        None => false,
    };
    faults.iter().find(known)
}

/// `GET /faults`: what is injected.
pub(super) async fn list(State(grid): State<Arc<OpenGrid>>) -> Response {
    Json(json!({"faults": grid.faults.list()})).into_response()
}

/// `PUT /faults`: injects these from now on, and no others.
pub(super) async fn replace(State(grid): State<Arc<OpenGrid>>, request: Request) -> Response {
    let refused = |problem: String| {
        let message = format!("{problem}; send an array such as [\"drop-ack:0.1:payment\"]");
        let body = json!({"error": {"code": "BadRequest", "message": message}});
        (StatusCode::BAD_REQUEST, Json(body)).into_response()
    };
    let body = match body::read(request.into_body(), MAXIMUM_BYTES).await {
        Ok(body) => body,
        Err(error) => return refused(error.to_string()),
    };
    let texts: Vec<String> = match serde_json::from_slice(&body) {
        Ok(texts) => texts,
        Err(error) => return refused(error.to_string()),
    };
    let faults: Vec<Fault> = match texts.iter().map(|text| text.parse()).collect() {
        Ok(faults) => faults,
        Err(problem) => return refused(problem),
    };
    let names: Vec<_> = grid.subscriptions.keys().copied().collect();
    if let Some(fault) = of_nobody(&faults, &names) {
        return refused(format!("{fault}: there is no such subscription"));
    }
    let said = faults
        .iter()
        .map(Fault::to_string)
        .collect::<Vec<_>>()
        .join(", ");
    grid.terminal.notice(match said.as_str() {
        "" => "no fault is injected any more".to_owned(),
        said => format!("injected into deliveries: {said}"),
    });
    grid.faults.replace(faults);
    Json(json!({"faults": grid.faults.list()})).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(texts: &[&str]) -> Faults {
        Faults::new(texts.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[test]
    fn a_fault_is_read_as_it_is_written() {
        for text in [
            "duplicate:0.5",
            "delay:1",
            "drop-ack:0.1:payment",
            "503:0:billing",
        ] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        assert_eq!("500".parse::<Fault>().unwrap().to_string(), "500:1");
        for text in [
            "",
            "lose",
            "200",
            "600",
            "delay:2",
            "delay:x",
            "delay:-1",
            "delay:NaN",
        ] {
            assert!(text.parse::<Fault>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_rate_decides_and_the_subscription() {
        let faults = faults(&["500:0.5:billing", "duplicate:1", "drop-ack:0", "delay:0.25"]);
        let drawn = |subscription: &str, number: f64| faults.draw(subscription, |_| number);
        let duplicate = Injected {
            duplicate: true,
            ..Injected::default()
        };
        assert_eq!(drawn("payment", 0.4), duplicate);
        assert_eq!(
            drawn("billing", 0.4),
            Injected {
                status: Some(500),
                ..duplicate
            }
        );
        assert_eq!(drawn("billing", 0.5), duplicate);
        assert_eq!(
            drawn("payment", 1.0),
            duplicate,
            "a rate of 1 is every request"
        );
        let delay = Some(Duration::from_millis(400));
        assert_eq!(drawn("payment", 0.2), Injected { delay, ..duplicate });
    }
}
