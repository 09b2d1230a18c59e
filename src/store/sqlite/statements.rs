//! The SQL of the writing thread, prepared once.

use rusqlite::{Connection, Statement};

/// Declares the statements with their SQL.
macro_rules! statements {
    ($( $(#[$doc:meta])* $statement:ident = $sql:literal; )*) => {
        /// The statements, ready to run.
        pub(super) struct Statements<'c> { $( $(#[$doc])* pub(super) $statement: Statement<'c>, )* }

        impl<'c> Statements<'c> {
            /// Prepares all of them.
            pub(super) fn prepare(connection: &'c Connection) -> rusqlite::Result<Self> {
                Ok(Self { $( $statement: connection.prepare($sql)?, )* })
            }
        }
    };
}

statements! {
    begin = "BEGIN IMMEDIATE";
    commit = "COMMIT";
    row = "SELECT rowid, inbox, body FROM state WHERE owner = ?1 AND key = ?2";
    insert_row =
        "INSERT INTO state (owner, key, body, inbox, due, cause, decided_at, inbox_from, slack)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, zeroblob(?8))";
    /// An inbox that was forgotten begins again.
    update_row =
        "UPDATE state SET body = ?2, inbox = ?3, due = ?4, cause = ?5, decided_at = ?6,
             inbox_from = coalesce(inbox_from, ?6), slack = zeroblob(?7)
         WHERE rowid = ?1";
    /// Likewise.
    update_inbox =
        "UPDATE state SET inbox = ?2, decided_at = ?3, inbox_from = coalesce(inbox_from, ?3)
         WHERE rowid = ?1";
    save_shared_row =
        "INSERT INTO state (owner, key, body, inbox) VALUES (?1, ?2, ?3, '')
         ON CONFLICT (owner, key) DO UPDATE SET body = excluded.body";
    save_summary =
        "INSERT INTO orders (order_id, status, placed_at) VALUES (?1, ?2, ?3)
         ON CONFLICT (order_id) DO UPDATE
         SET status = excluded.status, placed_at = excluded.placed_at";
    pending =
        "SELECT step, outbox, intent FROM pending WHERE function = ?1 AND source = ?2 AND id = ?3";
    insert_pending =
        "INSERT INTO pending (function, source, id, step, outbox, intent, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    update_pending =
        "UPDATE pending SET step = ?4, outbox = ?5, intent = ?6, at = ?7
         WHERE function = ?1 AND source = ?2 AND id = ?3";
    delete_pending = "DELETE FROM pending WHERE function = ?1 AND source = ?2 AND id = ?3";
    /// Nothing but the events was pending.
    delete_published =
        "DELETE FROM pending WHERE function = ?1 AND source = ?2 AND id = ?3
         AND step = ?4 AND intent IS NULL";
    /// An effect is still pending.
    clear_outbox =
        "UPDATE pending SET outbox = NULL
         WHERE function = ?1 AND source = ?2 AND id = ?3 AND step = ?4";
    park =
        "INSERT OR IGNORE INTO parked (id, function, event_id, order_id, reason, body, at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
}
