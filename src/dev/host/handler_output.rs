//! What the handler writes: all of it goes to a file, what needs attention to the terminal as well.

use std::{
    fs::File,
    io::{self, Seek as _, Write as _},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use crate::dev::{DevError, LastWords, terminal::Terminal};

/// A longer line is cut into pieces of this size.
const LINE: u64 = 64 * 1024;

/// When the file has grown to this size it starts from the beginning.
const FILE: u64 = 64 * 1024 * 1024;

/// How much of a line is shown.
const SHOWN: usize = 500;

/// Where the lines go.
#[derive(Debug, Clone)]
pub(super) struct HandlerOutput {
    log: Arc<Mutex<Log>>,
    terminal: Terminal,
}

#[derive(Debug)]
struct Log {
    file: File,
    size: u64,
    last_words: LastWords,
}

impl HandlerOutput {
    /// Writes to this file, which is emptied first.
    pub(super) fn create(path: &Path, terminal: Terminal) -> Result<Self, DevError> {
        let unusable = |cause| DevError::DataFolder {
            path: path.to_path_buf(),
            cause,
        };
        let file = File::create(path).map_err(unusable)?;
        let log = Log {
            file,
            size: 0,
            last_words: LastWords::default(),
        };
        Ok(Self {
            log: Arc::new(Mutex::new(log)),
            terminal,
        })
    }

    /// Forgets what an earlier handler said last.
    pub(super) fn begin(&self) {
        self.with_log(|log| log.last_words = LastWords::default());
    }

    /// The last line that the handler wrote to stderr; where there is none, its last logged error.
    pub(super) fn last_words(&self) -> LastWords {
        self.with_log(|log| log.last_words.clone())
    }

    /// Reads what the handler logs until it ends.
    pub(super) async fn read_stdout(self, stream: impl AsyncRead + Unpin) {
        self.read(stream, |output, line| {
            let Some(shown) = alarming(line) else { return };
            if let Some(error) = shown.strip_prefix("ERROR ") {
                output.with_log(|log| log.last_words = LastWords(Some(error.to_owned())));
            }
            output.terminal.alarm(format!("handler: {shown}"));
        })
        .await;
    }

    /// Reads what the handler complains about until it ends.
    pub(super) async fn read_stderr(self, stream: impl AsyncRead + Unpin) {
        self.read(stream, |output, line| {
            let shown: String = line.chars().take(SHOWN).collect();
            output.with_log(|log| log.last_words = LastWords(Some(shown.clone())));
            output.terminal.alarm(format!("handler: {shown}"));
        })
        .await;
    }

    async fn read(&self, stream: impl AsyncRead + Unpin, show: impl Fn(&Self, &str)) {
        let mut stream = BufReader::new(stream);
        let mut bytes = Vec::new();
        // An error means the same as the end: the handler is gone.
        while let Ok(1..) = (&mut stream).take(LINE).read_until(b'\n', &mut bytes).await {
            let text = String::from_utf8_lossy(&bytes);
            let line = text.trim_end();
            self.keep(line);
            if !line.is_empty() {
                show(self, line);
            }
            bytes.clear();
        }
    }

    fn keep(&self, line: &str) {
        // A log that cannot be written must not stop the handler; what matters is on the terminal.
        self.with_log(|log| drop(log.write(line)));
    }

    fn with_log<T>(&self, act: impl FnOnce(&mut Log) -> T) -> T {
        act(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Log {
    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.size > FILE {
            self.file.set_len(0)?;
            self.file.rewind()?;
            self.size = 0;
        }
        self.size = self
            .size
            .saturating_add(u64::try_from(line.len()).unwrap_or(u64::MAX));
        self.file.write_all(format!("{line}\n").as_bytes())
    }
}

/// What the terminal shows of a logged line: the level, the message and the order of a warning or an error.
fn alarming(line: &str) -> Option<String> {
    // Most lines are neither, and need not be parsed to know it.
    if !(line.contains("WARN") || line.contains("ERROR")) {
        return None;
    }
    let record: Value = serde_json::from_str(line).ok()?;
    let level = record
        .get("level")?
        .as_str()
        .filter(|level| ["WARN", "ERROR"].contains(level))?;
    let message = member(&record, &["message"]).unwrap_or_else(|| line.to_owned());
    let message: String = message.chars().take(SHOWN).collect();
    let order = member(&record, &["order.id", "order", "orderId", "order_id"]);
    Some(match order {
        Some(order) => format!("{level} {message} (order {order})"),
        None => format!("{level} {message}"),
    })
}

/// The first of these members that the record has: on its own, among its fields or in a span around it.
fn member(record: &Value, names: &[&str]) -> Option<String> {
    let spans = record
        .get("spans")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .rev();
    let places = [Some(record), record.get("fields"), record.get("span")]
        .into_iter()
        .flatten()
        .chain(spans);
    let values = places.flat_map(|place| names.iter().filter_map(|name| place.get(*name)));
    let mut texts = values.map(|value| {
        value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned)
    });
    texts.next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_and_errors_are_shown_in_short() {
        let nested = r#"{"level":"WARN","fields":{"message":"no stock","order.id":"o-1","sku":"KB-87"},"target":"x"}"#;
        assert_eq!(
            alarming(nested).as_deref(),
            Some("WARN no stock (order o-1)")
        );
        let flat =
            r#"{"level":"ERROR","message":"broken","spans":[{"order":"o-0"},{"order":"o-2"}]}"#;
        assert_eq!(alarming(flat).as_deref(), Some("ERROR broken (order o-2)"));
        assert_eq!(
            alarming(r#"{"level":"ERROR","message":"alone"}"#).as_deref(),
            Some("ERROR alone")
        );
    }

    #[test]
    fn other_lines_are_not_shown() {
        assert_eq!(
            alarming(r#"{"level":"INFO","message":"an ERROR was averted"}"#),
            None
        );
        assert_eq!(alarming("ERROR in plain text"), None);
    }

    #[tokio::test]
    async fn every_line_is_kept_and_the_last_complaint_remembered() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("handler.log");
        let output = HandlerOutput::create(&path, Terminal::start(true)).unwrap();
        output
            .clone()
            .read_stdout(&b"{\"level\":\"ERROR\",\"message\":\"first\"}\nplain\n\n"[..])
            .await;
        assert_eq!(output.last_words().to_string(), ": first");
        output.clone().read_stderr(&b"second\n"[..]).await;
        assert_eq!(output.last_words().to_string(), ": second");
        output.begin();
        assert_eq!(output.last_words().to_string(), "");
        let kept = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            kept,
            "{\"level\":\"ERROR\",\"message\":\"first\"}\nplain\n\nsecond\n"
        );
    }
}
