//! A thread that owns a database connection and runs, in one transaction, whatever waits for it.

use std::{
    fmt,
    sync::Arc,
    thread::{self, JoinHandle},
};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

/// How many pieces of work may wait, and how many share a transaction.
const GROUP: usize = 256;

/// Why the store could not do something. None of it has happened.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct StoreError(String);

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self(error.to_string())
    }
}

/// Tells the one who waits what came of the transaction.
type Announcement = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Does its part of the transaction, unless that has failed already.
type Work = Box<
    dyn FnOnce(Result<&Connection, StoreError>) -> (Result<(), StoreError>, Announcement) + Send,
>;

/// A handle to the thread. The thread ends with its last handle, and the connection is closed by then.
#[derive(Clone)]
pub(super) struct Worker(Arc<Thread>);

struct Thread {
    /// Taken when it is to end.
    waiting: Option<mpsc::Sender<Work>>,
    running: Option<JoinHandle<()>>,
}

impl Drop for Thread {
    fn drop(&mut self) {
        drop(self.waiting.take());
        // The error says that it panicked, which has been told already.
        drop(self.running.take().map(JoinHandle::join));
    }
}

impl Worker {
    /// Starts the thread.
    pub(super) fn start(connection: Connection) -> Self {
        let (sender, mut waiting) = mpsc::channel::<Work>(GROUP);
        let running = thread::spawn(move || {
            let mut group = Vec::with_capacity(GROUP);
            while waiting.blocking_recv_many(&mut group, GROUP) > 0 {
                run_group(&connection, group.drain(..));
            }
        });
        Self(Arc::new(Thread {
            waiting: Some(sender),
            running: Some(running),
        }))
    }

    /// Runs `work` and returns its result once it is committed.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (sender, result) = oneshot::channel();
        // Whoever stopped waiting needs no result: hence the drops.
        let work = move |transaction: Result<&Connection, StoreError>| -> (_, Announcement) {
            match transaction.and_then(|open| Ok(work(open)?)) {
                Ok(value) => {
                    let announce =
                        |committed: Result<(), _>| drop(sender.send(committed.map(|()| value)));
                    (Ok(()), Box::new(announce))
                }
                Err(error) => {
                    let own = error.clone();
                    (Err(error), Box::new(|_| drop(sender.send(Err(own)))))
                }
            }
        };
        let gone = || StoreError("its thread has ended".to_owned());
        let waiting = self.0.waiting.as_ref().ok_or_else(gone)?;
        waiting.send(Box::new(work)).await.map_err(|_| gone())?;
        result.await.map_err(|_| gone())?
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Worker")
    }
}

/// Commits all of the group or, when one piece of it fails, nothing: what fails here (a full disk, say) fails for all.
fn run_group(connection: &Connection, group: impl Iterator<Item = Work>) {
    let mut outcome = connection.execute_batch("begin").map_err(StoreError::from);
    let mut announcements = Vec::new();
    for work in group {
        let (done, announcement) = work(outcome.map(|()| connection));
        outcome = done;
        announcements.push(announcement);
    }
    let outcome =
        outcome.and_then(|()| connection.execute_batch("commit").map_err(StoreError::from));
    if outcome.is_err() && !connection.is_autocommit() {
        // The transaction is undone when the connection closes, if not now.
        drop(connection.execute_batch("rollback"));
    }
    for announcement in announcements {
        announcement(outcome.clone());
    }
}
