//! Why the stand-ins cannot start or go on.

use std::{io, path::PathBuf};

use super::grid::StoreError;

/// Why `orderflow dev` or `orderflow grid` ended. Each variant prints as one line that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The data folder is missing and cannot be made, or cannot be written.
    #[error("cannot write in the data folder {}: {cause}; choose another one with --data", path.display())]
    DataFolder {
        /// The folder or the file in it.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// Another process holds the data folder. Two would deliver each event twice.
    #[error(
        "the data folder {} is in use by another orderflow; stop that one or choose another folder with --data",
        path.display()
    )]
    DataFolderInUse {
        /// The folder.
        path: PathBuf,
    },
    /// The port cannot be listened on.
    #[error(
        "cannot listen on 127.0.0.1:{port}: {cause}; stop what uses the port or choose another one with {flag}"
    )]
    Port {
        /// The port asked for.
        port: u16,
        /// The command line flag that chooses it.
        flag: &'static str,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The speed is no number that a clock can run at.
    #[error(
        "the speed must be a number from 0 (time stands still) to 1000000, such as 1 (as slow as Azure) or 60; it is {0}"
    )]
    Speed(f64),
    /// The address to deliver to is not an address.
    #[error(
        "cannot deliver to `{given}`: {problem}; give an address such as http://127.0.0.1:7071 with --deliver-to"
    )]
    DeliverTo {
        /// What was given.
        given: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The file of event subscriptions cannot be read or says something that the local grid does not do.
    #[error("cannot use the event subscriptions in {}: {problem}", file.display())]
    Subscriptions {
        /// The file given with --subscriptions.
        file: PathBuf,
        /// Which member of it, and what is wrong there.
        problem: String,
    },
    /// Dead letters cannot be kept where they are to be.
    #[error(
        "--dead-letters takes a folder, or a container of Azurite such as \
         http://127.0.0.1:10000/devstoreaccount1/deadletters: {0}"
    )]
    DeadLetters(String),
    /// A fault is to be injected into deliveries of a subscription that there is not.
    #[error("--fault {0}: there is no such subscription")]
    Fault(String),
    /// The default topic is one that the application's handler cannot publish to.
    #[error("the handler cannot publish to the default topic in the file of --subscriptions: {0}")]
    DefaultTopic(&'static str),
    /// The grid's own database failed.
    #[error("the local Event Grid cannot keep its events: {0}")]
    Store(#[from] StoreError),
    /// The HTTP client could not be made.
    #[error("cannot make an HTTP client: {0}")]
    Client(String),
    /// A listener broke.
    #[error("cannot go on listening: {0}")]
    Listener(io::Error),
    /// The operating system would not start the handler.
    #[error("cannot start the handler {}: {cause}; build it first, or check that it may be executed", program.display())]
    HandlerNotStarted {
        /// The program.
        program: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// The handler left of its own accord before it ever answered.
    #[error(
        "the handler ended with exit code 0 before it answered{last_words}; a handler must run until it is killed"
    )]
    HandlerEnded {
        /// The last line it wrote to stderr, ready to be appended.
        last_words: LastWords,
    },
    /// The handler failed for the third time; the real host gives up here as well.
    #[error("the handler failed {errors} times within 30 minutes, the last time {how}{last_words}")]
    HandlerFailed {
        /// How often it failed.
        errors: u32,
        /// How it failed the last time.
        how: String,
        /// The last line it wrote to stderr, ready to be appended.
        last_words: LastWords,
    },
}

/// The last line a handler wrote to stderr, if it wrote any.
#[derive(Debug, Clone, Default)]
pub struct LastWords(pub(super) Option<String>);

impl std::fmt::Display for LastWords {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(line) => write!(formatter, ": {line}"),
            None => Ok(()),
        }
    }
}
