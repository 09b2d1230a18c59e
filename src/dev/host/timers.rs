//! Timer functions: invoked at their interval, for the first time one interval after the start.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{json, value::to_raw_value};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::{
    Functions,
    invocation::{InvocationBody, InvocationError},
};
use crate::dev::{TimerFunction, ambient::now, ambient::timestamp};

/// Fires a timer for ever. A run that takes longer than the interval puts off the next one, so runs never overlap.
pub(super) async fn run(functions: Arc<Functions>, timer: TimerFunction) {
    let mut ticks = interval_at(Instant::now() + timer.every, timer.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = None;
    loop {
        ticks.tick().await;
        let next = now() + TimeDelta::from_std(timer.every).unwrap_or(TimeDelta::MAX);
        if let Err(error) = fire(&functions, timer.function, timer.binding, last, Some(next)).await
        {
            functions
                .invoker
                .terminal
                .alarm(format!("{}: {error}", timer.function));
        }
        last = Some(now());
    }
}

/// Invokes a timer function once.
pub(super) async fn fire(
    functions: &Functions,
    function: &str,
    binding: &str,
    last: Option<DateTime<Utc>>,
    next: Option<DateTime<Utc>>,
) -> Result<(), InvocationError> {
    let body = body(function, binding, last, next)?;
    functions.invoker.invoke(function, body).await
}

/// The body of an invocation by a timer that fired `last` and will fire `next`.
pub(crate) fn body(
    function: &str,
    binding: &str,
    last: Option<DateTime<Utc>>,
    next: Option<DateTime<Utc>>,
) -> Result<Bytes, serde_json::Error> {
    // What .NET has where there was no time yet.
    let at = |time: Option<DateTime<Utc>>| {
        time.map_or_else(|| "0001-01-01T00:00:00".to_owned(), timestamp)
    };
    let value = to_raw_value(&json!({
        "Schedule": {"AdjustForDST": true},
        "ScheduleStatus": {"Last": at(last), "Next": at(next), "LastUpdated": at(last)},
        "IsPastDue": false,
    }))?;
    InvocationBody::of_timer(function, binding, &value).to_bytes()
}
