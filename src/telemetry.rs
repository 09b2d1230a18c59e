//! Logs.

use tracing_subscriber::EnvFilter;

use crate::config::Source;

/// Writes the log as JSON lines on standard output, where the Functions host takes it for information; what it reads
/// on standard error counts as an error (functions-host reference: stdout is Information, stderr is Error).
/// `RUST_LOG` chooses what is written, `info` when unset.
///
/// # Errors
/// `RUST_LOG` is malformed.
pub fn init(source: Source<'_>) -> Result<(), String> {
    let directives = source("RUST_LOG").filter(|directives| !directives.trim().is_empty());
    let filter = EnvFilter::try_new(directives.as_deref().unwrap_or("info"))
        .map_err(|error| format!("RUST_LOG: {error}"))?;
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_env_filter(filter);
    // A second call, in tests, leaves the first one's subscriber in place.
    let _ = subscriber.try_init();
    Ok(())
}
