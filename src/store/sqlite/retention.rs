//! How old inboxes are found without an index on their age: row by row, a stretch at a time, since rows stand in the order
//! in which their inboxes began, or nearly so.

use rusqlite::{Connection, params};

/// How many rows one look at them goes over at most: some milliseconds.
const STRETCH: i64 = 10_000;

/// How far the walk over the rows has come; after the last one it begins again.
#[derive(Debug, Default)]
pub(super) struct Walk {
    row_id: i64,
}

impl Walk {
    /// Goes on until `limit` inboxes that began before `before` (microseconds since 1970) have been looked at, or
    /// [`STRETCH`] rows; how many inboxes those were. Empties those of rows on which nothing has been decided since.
    ///
    /// # Errors
    /// The rows cannot be read or written.
    pub(super) fn forget(
        &mut self,
        connection: &Connection,
        before: i64,
        limit: usize,
    ) -> rusqlite::Result<usize> {
        let (rows, last): (i64, Option<i64>) = connection
            .prepare_cached(
                "SELECT count(*), max(rowid) FROM
                     (SELECT rowid FROM state WHERE rowid > ?1 ORDER BY rowid LIMIT ?2)",
            )?
            .query_row(params![self.row_id, STRETCH], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let last = last.unwrap_or(self.row_id);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let looked_at: Vec<i64> = connection
            .prepare_cached(
                "UPDATE state SET
                     inbox = CASE WHEN decided_at < ?1 THEN '' ELSE inbox END,
                     inbox_from = CASE WHEN decided_at < ?1 THEN NULL ELSE decided_at END
                 WHERE rowid IN (SELECT rowid FROM state
                     WHERE rowid > ?2 AND rowid <= ?3 AND inbox_from < ?1
                     ORDER BY rowid LIMIT ?4)
                 RETURNING rowid",
            )?
            .query_map(params![before, self.row_id, last, limit], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let found = looked_at.len();
        self.row_id = match looked_at.into_iter().max() {
            Some(stopped) if i64::try_from(found) == Ok(limit) => stopped,
            _ if rows == STRETCH => last,
            _ => 0,
        };
        Ok(found)
    }
}
