//! What the timer does: pays debts that no redelivery picked up, and looks at orders whose time has come.

use std::time::Duration;

use chrono::SecondsFormat;
use futures_util::future::join_all;

use crate::{
    events::{Cause, OrderId},
    functions::{FUNCTIONS, Function},
    store::{Answer, Due, Guard, Key, StoreError},
};

use super::{DELIVERY_BUDGET, Engine, transaction::Transaction};

/// How old a debt must be for the timer's sweep to pay it: older than any delivery that may still be paying it.
pub const SWEEP_AFTER: Duration = Duration::from_secs(30);

/// The most deliveries that one sweep finishes, all of them at the same time.
const SWEEP_LIMIT: usize = 500;

/// The most orders that one sweep looks at again. They are looked at concurrently, so that they share flushes and
/// publish requests.
const REMIND_LIMIT: usize = 100;

/// What a sweep did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Deliveries that had something pending and have nothing any more.
    pub finished: usize,
    /// Deliveries that still have something pending.
    pub pending: usize,
}

/// An order that a service was reminded of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reminded {
    /// The service's function.
    pub function: &'static str,
    /// The order.
    pub order_id: OrderId,
}

impl Engine {
    /// Finishes deliveries that have had something pending for `age` or longer: publishes what was committed and
    /// never published, and asks again about effects whose outcome is unknown.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn sweep(&self, age: Duration) -> Result<Swept, StoreError> {
        let now = self.clock.now();
        let unfinished = self.store.unfinished(now - age, SWEEP_LIMIT).await?;
        // Concurrently: a provider that does not answer must not keep the others' events from being published.
        let finishing = unfinished.into_iter().map(|(key, pending)| async move {
            let settle = Function::named(&key.function).and_then(Function::settle);
            let finished = self.finish(&key, settle, pending, now + DELIVERY_BUDGET);
            let Err(reason) = finished.await else {
                return true;
            };
            let (function, event) = (&key.function, &key.id);
            tracing::warn!(function, event, reason, "still pending");
            false
        });
        let finished = join_all(finishing).await;
        let pending = finished.iter().filter(|finished| !**finished).count();
        Ok(Swept {
            finished: finished.len() - pending,
            pending,
        })
    }

    /// Has services look again at the orders whose time has come; those that they looked at. What could not be done
    /// wholly is pending or still due, for the next sweep.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn remind(&self) -> Result<Vec<Reminded>, StoreError> {
        let due = self.store.due(self.clock.now(), REMIND_LIMIT).await?;
        let looked_at = join_all(due.iter().map(|due| async move {
            self.look_again(due).await.unwrap_or_else(|reason| {
                let (owner, order) = (&due.owner, due.order_id);
                tracing::warn!(owner, %order, reason, "not wholly done, though its time has come");
                None
            })
        }));
        Ok(looked_at.await.into_iter().flatten().collect())
    }

    /// Decides on an order whose time has come, once for each such time.
    async fn look_again(&self, due: &Due) -> Result<Option<Reminded>, String> {
        let (function, remind) = FUNCTIONS
            .iter()
            .filter_map(|function| Some((function, function.remind()?)))
            .find(|(_, remind)| remind.owner() == due.owner)
            .ok_or_else(|| format!("nobody is reminded of orders of {}", due.owner))?;
        let (order_id, at) = (due.order_id, due.reminder.at);
        let cause: Cause = serde_json::from_slice(&due.reminder.cause)
            .map_err(|error| format!("stored cause: {error}"))?;
        let now = self.clock.now();
        let at = at.to_rfc3339_opts(SecondsFormat::Micros, true);
        let key = Key {
            function: function.name.to_owned(),
            source: "/sweep".to_owned(),
            id: format!("{order_id}/{at}"),
        };
        let transaction = Transaction {
            key: key.clone(),
            guard: Guard::NewEvent,
            owner: remind.owner(),
            case: remind.read(order_id),
            catalog: self.catalog.clone(),
            cause: Cause { time: now, ..cause },
            now,
        };
        let receipt = self.store.transact(Box::new(transaction)).await;
        let receipt = receipt.map_err(|error| error.to_string())?;
        let looked_at = match receipt.answer {
            Some(Answer::Accepted) => Some(Reminded {
                function: function.name,
                order_id,
            }),
            None | Some(Answer::Ignored(_)) => None,
            Some(Answer::Deferred(reason) | Answer::Rejected(reason)) => {
                return Err(reason.to_owned());
            }
            Some(Answer::Unreadable(problem)) => return Err(problem),
        };
        self.finish(
            &key,
            function.settle(),
            receipt.pending,
            now + DELIVERY_BUDGET,
        )
        .await
        .map(|()| looked_at)
    }
}
