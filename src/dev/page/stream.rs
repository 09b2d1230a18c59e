//! What happens, as it happens: server-sent events.
//!
//! Each message is a JSON array of what has happened since the last one, in order. There are at most some thirty messages a
//! second, so that a browser keeps up whatever the number of events. A reader that is too slow gets a message
//! `missed` with the number of reports that it will not get, and asks for the state afresh.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    extract::State,
    http::header::{CACHE_CONTROL, CONTENT_TYPE},
    response::IntoResponse,
};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};
use tokio::{
    sync::broadcast::{
        Receiver,
        error::{RecvError, TryRecvError},
    },
    time::{sleep, timeout},
};

use super::Page;
use crate::dev::{
    stop::Stop,
    terminal::{EventReport, Happening},
};

/// How long a message waits for more to report.
const GATHERING: Duration = Duration::from_millis(30);

/// How many reports go into one message at most.
const AT_ONCE: usize = 500;

/// A comment is sent after so long a silence, so that both ends notice when the other is gone.
const SILENCE: Duration = Duration::from_secs(15);

/// The first message: from here on nothing is missed. A lost connection is tried again after half a second.
const READY: &str = "retry: 500\nevent: ready\ndata: 0\n\n";

/// Reports until the reader goes away or the grid stops.
pub(super) async fn stream(State(page): State<Page>) -> impl IntoResponse {
    let reports = Reports {
        receiver: page.terminal.watch(),
        stop: page.stop,
    };
    let messages = stream::unfold(reports, async |mut reports| {
        let message = reports.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(message)), reports))
    });
    let body = Body::from_stream(stream::iter([Ok(Bytes::from(READY))]).chain(messages));
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    (headers, body)
}

struct Reports {
    receiver: Receiver<Arc<EventReport>>,
    stop: Stop,
}

impl Reports {
    /// The next message, `None` at the end.
    async fn next(&mut self) -> Option<String> {
        let first = tokio::select! {
            first = timeout(SILENCE, self.receiver.recv()) => first,
            () = self.stop.requested() => return None,
        };
        let first = match first {
            Ok(Ok(report)) => report,
            Ok(Err(RecvError::Lagged(count))) => return Some(missed(count)),
            Ok(Err(RecvError::Closed)) => return None,
            Err(_silence) => return Some(":\n\n".to_owned()),
        };
        sleep(GATHERING).await;
        let mut gathered = vec![shown(&first)];
        let mut lost = None;
        while gathered.len() < AT_ONCE {
            match self.receiver.try_recv() {
                Ok(report) => gathered.push(shown(&report)),
                Err(TryRecvError::Lagged(count)) => {
                    lost = Some(count);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        let mut message = format!("data: {}\n\n", Value::Array(gathered));
        if let Some(count) = lost {
            message.push_str(&missed(count));
        }
        Some(message)
    }
}

fn missed(count: u64) -> String {
    format!("event: missed\ndata: {count}\n\n")
}

/// A report as the page reads it. JSON has no line breaks, which would end the message.
fn shown(report: &EventReport) -> Value {
    let mut shown = json!({
        "number": report.number,
        "type": report.label.event_type(),
        "subject": report.label.subject(),
    });
    let what = match &report.what {
        Happening::Accepted { topic, takers } => {
            json!({"what": "accepted", "topic": topic, "functions": takers})
        }
        Happening::NotTaken => json!({"what": "notTaken"}),
        Happening::Taken {
            by,
            attempt,
            within,
        } => json!({
            "what": "taken",
            "function": by,
            "attempt": attempt,
            "milliseconds": within.as_secs_f64() * 1000.0,
        }),
        Happening::Failed {
            by,
            attempt,
            problem,
            again_in,
        } => json!({
            "what": "failed",
            "function": by,
            "attempt": attempt,
            "problem": problem,
            "againInMilliseconds": again_in.map(|wait| wait.as_secs_f64() * 1000.0),
        }),
        Happening::DeadLettered {
            by,
            attempts,
            problem,
            reason,
            kept_in: _,
        } => json!({
            "what": "deadLettered",
            "function": by,
            "attempt": attempts,
            "problem": problem,
            "reason": reason,
        }),
    };
    if let (Value::Object(shown), Value::Object(what)) = (&mut shown, what) {
        shown.extend(what);
    }
    shown
}
