//! How many deliveries are not over, and what they wait for.

use super::{GridStore, StoreError};
use crate::dev::grid::clock::Moment;

/// The deliveries of one subscription that are not over, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::dev::grid) struct Backlog {
    pub(in crate::dev::grid) subscription: String,
    /// All of them.
    pub(in crate::dev::grid) pending: u32,
    /// Those whose time has come.
    pub(in crate::dev::grid) due: u32,
    /// When the time of the next of the others comes.
    pub(in crate::dev::grid) next: Option<Moment>,
}

impl GridStore {
    /// The deliveries that are not over at this moment, by subscription.
    pub(in crate::dev::grid) async fn pending(
        &self,
        now: Moment,
    ) -> Result<Vec<Backlog>, StoreError> {
        self.reader
            .run(move |connection| {
                let mut select = connection.prepare_cached(
                    "select subscription, count(*), count(*) filter (where next_at <= ?1),
                         min(next_at) filter (where next_at > ?1)
                     from delivery where state = 'pending' group by subscription",
                )?;
                let rows = select.query_map([now.number()], |row| {
                    Ok(Backlog {
                        subscription: row.get(0)?,
                        pending: row.get(1)?,
                        due: row.get(2)?,
                        next: row.get::<_, Option<i64>>(3)?.map(Moment::numbered),
                    })
                })?;
                rows.collect()
            })
            .await
    }
}
