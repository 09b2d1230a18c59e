//! The thread that flushes the redo log: what was done is on disk before anybody is told of it, and the writing thread goes
//! on while the disk is busy.

use std::{fs::File, io, sync::mpsc, thread};

use super::{
    answer::{Outcome, Sender, tell},
    writer::Message,
};
use crate::store::StoreError;

/// Hands over what is to be flushed.
pub(super) struct Flusher {
    batches: mpsc::Sender<Vec<(Sender, Outcome)>>,
}

impl Flusher {
    /// Starts the thread. It ends with this.
    ///
    /// # Errors
    /// There is no more thread to be had.
    pub(super) fn start(log: File, writer: mpsc::Sender<Message>) -> io::Result<Self> {
        let (batches, queue) = mpsc::channel();
        thread::Builder::new()
            .name("sqlite-flusher".to_owned())
            .spawn(move || run(&log, &queue, &writer))?;
        Ok(Self { batches })
    }

    /// Flushes what is in the log, then passes the answers on and tells the writing thread. Whether it will.
    pub(super) fn flush(&self, answers: Vec<(Sender, Outcome)>) -> bool {
        self.batches.send(answers).is_ok()
    }
}

fn run(log: &File, queue: &mpsc::Receiver<Vec<(Sender, Outcome)>>, writer: &mpsc::Sender<Message>) {
    let mut failed = None;
    for mut answers in queue {
        if failed.is_none() {
            failed = log.sync_data().err().map(|error| {
                tracing::error!(%error, "the log could not be flushed to disk");
                format!("the log could not be flushed to disk, start the process again: {error}")
            });
        }
        // The writing thread has ended if nobody hears it.
        let _ = writer.send(Message::Flushed);
        if let Some(problem) = &failed {
            // After a failed flush the next one may succeed without having written what the first one lost.
            for (_, outcome) in &mut answers {
                *outcome = Err(StoreError::Unavailable(problem.clone()));
            }
        }
        tell(answers);
    }
}

#[cfg(all(test, unix))]
mod tests {
    use tokio::sync::oneshot;

    use super::*;
    use crate::store::Receipt;

    #[test]
    fn after_a_failed_flush_nothing_is_acknowledged_any_more() {
        let (writer, told) = mpsc::channel();
        // What is no file cannot be flushed.
        let log = File::options().write(true).open("/dev/null").unwrap();
        let flusher = Flusher::start(log, writer).unwrap();
        for _ in 0..2 {
            let (answer, answered) = oneshot::channel();
            assert!(flusher.flush(vec![(answer, Ok(Receipt::default()))]));
            let outcome = answered.blocking_recv().unwrap().take();
            let error = outcome.unwrap_err().to_string();
            assert!(error.contains("could not be flushed"), "{error}");
            assert!(
                matches!(told.recv().unwrap(), Message::Flushed),
                "the writing thread goes on"
            );
        }
    }
}
