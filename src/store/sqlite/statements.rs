//! The SQL of the writing thread, prepared once.

use rusqlite::{Connection, Statement, ToSql};

use super::redo::RedoLog;

/// Declares the statements with their SQL.
macro_rules! statements {
    (
        reads { $( $(#[$doc:meta])* $statement:ident = $sql:literal; )* }
        writes { $( $(#[$write_doc:meta])* $write:ident = $write_sql:literal; )* }
    ) => {
        /// The statements, ready to run.
        pub(super) struct Statements<'c> {
            $( $(#[$doc])* pub(super) $statement: Statement<'c>, )*
            writes: Vec<Statement<'c>>,
        }

        /// What changes rows.
        #[derive(Debug, Clone, Copy)]
        pub(super) enum Write { $( $(#[$write_doc])* $write, )* }

        const WRITES: &[&str] = &[$( $write_sql ),*];

        impl<'c> Statements<'c> {
            /// Prepares all of them.
            pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
                Ok(Self {
                    $( $statement: connection.prepare($sql)?, )*
                    writes: WRITES.iter().map(|sql| connection.prepare(sql)).collect::<Result<_, _>>()?,
                })
            }
        }
    };
}

impl Statements<'_> {
    /// Changes rows, and notes that down; how many.
    pub(super) fn write(
        &mut self,
        write: Write,
        values: &[&dyn ToSql],
        log: &mut RedoLog,
    ) -> rusqlite::Result<usize> {
        let number = write as u8;
        let index = usize::from(number);
        let (Some(statement), Some(sql)) = (self.writes.get_mut(index), WRITES.get(index)) else {
            return Err(rusqlite::Error::InvalidQuery);
        };
        let changed = statement.execute(values)?;
        log.note(number, sql, values)?;
        Ok(changed)
    }
}

statements! {
    reads {
        row =
            "SELECT rowid, inbox, body FROM state WHERE owner = ?1 AND key = ?2";
        pending =
            "SELECT step, outbox, intent FROM pending WHERE function = ?1 AND source = ?2 AND id = ?3";
    }
    writes {
        InsertRow =
            "INSERT INTO state (owner, key, body, inbox, due, cause, decided_at, inbox_from, slack)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, zeroblob(?8))";
        /// An inbox that was forgotten begins again.
        UpdateRow =
            "UPDATE state SET body = ?2, inbox = ?3, due = ?4, cause = ?5, decided_at = ?6,
                 inbox_from = coalesce(inbox_from, ?6), slack = zeroblob(?7)
             WHERE rowid = ?1";
        /// Likewise.
        UpdateInbox =
            "UPDATE state SET inbox = ?2, decided_at = ?3, inbox_from = coalesce(inbox_from, ?3)
             WHERE rowid = ?1";
        SaveSharedRow =
            "INSERT INTO state (owner, key, body, inbox) VALUES (?1, ?2, ?3, '')
             ON CONFLICT (owner, key) DO UPDATE SET body = excluded.body";
        SaveSummary =
            "INSERT INTO orders (order_id, status, placed_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (order_id) DO UPDATE
             SET status = excluded.status, placed_at = excluded.placed_at";
        InsertPending =
            "INSERT INTO pending (function, source, id, step, outbox, intent, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
        UpdatePending =
            "UPDATE pending SET step = ?4, outbox = ?5, intent = ?6, at = ?7
             WHERE function = ?1 AND source = ?2 AND id = ?3";
        DeletePending =
            "DELETE FROM pending WHERE function = ?1 AND source = ?2 AND id = ?3";
        /// Nothing but the events was pending.
        DeletePublished =
            "DELETE FROM pending WHERE function = ?1 AND source = ?2 AND id = ?3
             AND step = ?4 AND intent IS NULL";
        /// An effect is still pending.
        ClearOutbox =
            "UPDATE pending SET outbox = NULL
             WHERE function = ?1 AND source = ?2 AND id = ?3 AND step = ?4";
        Park =
            "INSERT OR IGNORE INTO parked (id, function, event_id, order_id, reason, body, at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    }
}
