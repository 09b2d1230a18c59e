//! Where the clock was, for the next start.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::{GridStore, StoreError};
use crate::dev::grid::clock::Moment;

pub(super) const SCHEMA: &str = "
    create table if not exists clock (
        one integer primary key check (one = 1),
        reading integer not null,
        turned integer not null
    );
";

/// What a clock showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dev::grid) struct KeptClock {
    /// The moment.
    pub(in crate::dev::grid) reading: Moment,
    /// How far it had been turned by hand, in all. Kept in milliseconds.
    pub(in crate::dev::grid) turned: Duration,
}

impl GridStore {
    /// Where the clock was when the database was opened. None in a new one.
    pub(in crate::dev::grid) fn kept_clock(&self) -> Option<KeptClock> {
        self.kept_clock
    }

    /// Keeps where the clock is.
    pub(in crate::dev::grid) async fn keep_clock(
        &self,
        clock: KeptClock,
    ) -> Result<(), StoreError> {
        self.writer
            .run(move |connection| {
                connection
                    .prepare_cached(
                        "insert or replace into clock (one, reading, turned) values (1, ?, ?)",
                    )?
                    .execute(params![
                        clock.reading.number(),
                        i64::try_from(clock.turned.as_millis()).unwrap_or(i64::MAX)
                    ])?;
                Ok(())
            })
            .await
    }
}

/// Where the clock was: never before what is known to have happened, lest an event become younger when the grid was killed.
pub(super) fn kept(connection: &Connection) -> rusqlite::Result<Option<KeptClock>> {
    let row = connection
        .query_row("select reading, turned from clock", [], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?))
        })
        .optional()?;
    let latest: Option<i64> = connection.query_row(
        "select max(moment) from (
             select moment from (select moment from event order by number desc limit 1)
             union all
             select attempt.moment from delivery join attempt using (event, subscription) where state = 'pending')",
        [],
        |row| row.get(0),
    )?;
    let (reading, turned) = row.unzip();
    Ok(reading.max(latest).map(|reading| KeptClock {
        reading: Moment::numbered(reading),
        turned: Duration::from_millis(turned.unwrap_or_default().try_into().unwrap_or_default()),
    }))
}
