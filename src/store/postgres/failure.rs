//! What can go wrong with a transaction, and what is to be done about it.

use std::{
    error::Error as _,
    io::{self, ErrorKind},
};

use tokio_postgres::{Error, error::SqlState};

/// The longest text of an error that is passed on.
const MAX_TEXT: usize = 300;

/// Why a transaction did not come about.
#[derive(Debug)]
pub(super) enum Failure {
    /// Somebody else was faster, and nothing was written: it may be run again at once.
    Again(String),
    /// The server refused a statement, and nothing was written: it may have been one job's fault.
    Refused(String),
    /// The connection is of no more use, and nothing was written.
    Lost(String),
    /// The connection is of no more use, and nobody knows whether it took place: the event's redelivery finds out by
    /// the inbox.
    Unknown(String),
}

impl Failure {
    /// The reason, for people.
    pub(super) fn into_reason(self) -> String {
        match self {
            Self::Again(reason)
            | Self::Refused(reason)
            | Self::Lost(reason)
            | Self::Unknown(reason) => reason,
        }
    }

    /// Why there is no connection. What the server or we have against it stays; a server that is away may come back.
    pub(super) fn of_connecting(error: Error) -> Self {
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        let away = cause.is_some_and(|cause: &io::Error| {
            matches!(
                cause.kind(),
                ErrorKind::ConnectionRefused
                    | ErrorKind::ConnectionReset
                    | ErrorKind::ConnectionAborted
                    | ErrorKind::BrokenPipe
                    | ErrorKind::UnexpectedEof
                    | ErrorKind::TimedOut
            )
        });
        if away || error.is_closed() || error.code().is_some() {
            return Self::from(error);
        }
        // A name that nobody knows, or a certificate, say.
        Self::Refused(describe(&error))
    }

    /// The same failure once the commit has been sent.
    pub(super) fn of_commit(self) -> Self {
        match self {
            Self::Lost(reason) => Self::Unknown(reason),
            other => other,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let reason = describe(&error);
        match error.code() {
            // The order of locks rules deadlocks out (writer.rs); whatever else the server counts as one is tried again.
            Some(
                &SqlState::T_R_DEADLOCK_DETECTED
                | &SqlState::T_R_SERIALIZATION_FAILURE
                // A row that did not exist when it was looked for, and does now.
                | &SqlState::UNIQUE_VIOLATION,
            ) => Self::Again(reason),
            // A server that became a standby keeps its connections and refuses to write.
            Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => Self::Lost(reason),
            // Operator intervention: the server goes down or comes up, except for a statement that took too long.
            Some(code) if code.code().starts_with("57") && *code != SqlState::QUERY_CANCELED => {
                Self::Lost(reason)
            }
            Some(_) if !error.is_closed() => Self::Refused(reason),
            _ => Self::Lost(reason),
        }
    }
}

/// An error in one line. What the server says in detail may quote a row, and stays out of it.
pub(super) fn describe(error: &Error) -> String {
    let text = match error.as_db_error() {
        Some(error) => format!("{} ({})", error.message(), error.code().code()),
        None => match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    };
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(MAX_TEXT).collect()
}
