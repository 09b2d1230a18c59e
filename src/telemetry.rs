//! Logs.

use tracing_subscriber::{
    filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use crate::config::Source;

/// Writes the log as JSON lines on standard output, where the Functions host takes it for information; what it reads
/// on standard error counts as an error (functions-host reference: stdout is Information, stderr is Error).
/// `RUST_LOG` chooses what is written, `info` when unset: a level, or levels by target, such as `warn,orderflow=debug`.
///
/// # Errors
/// `RUST_LOG` is malformed.
pub fn init(source: Source<'_>) -> Result<(), String> {
    let directives = source("RUST_LOG").filter(|directives| !directives.trim().is_empty());
    let filter: Targets = directives
        .as_deref()
        .unwrap_or("info")
        .parse()
        .map_err(|error| format!("RUST_LOG: {error}; give a level, or TARGET=LEVEL,…"))?;
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false);
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    // A second call, in tests, leaves the first one's subscriber in place.
    let _ = subscriber.try_init();
    Ok(())
}
