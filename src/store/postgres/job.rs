//! What the writers are asked to do.

use tokio::sync::oneshot;

use crate::store::{Key, Parked, Receipt, Step, StoreError, Work};

/// What a job came to: an empty receipt where there is nothing to say.
pub(super) type Outcome = Result<Receipt, StoreError>;

/// Where an outcome goes.
pub(super) type Sender = oneshot::Sender<Outcome>;

/// Something to be written.
pub(super) enum Job {
    /// A piece of work.
    Transact { work: Box<dyn Work>, answer: Sender },
    /// What was in the outbox up to a step is published.
    Published { key: Key, step: Step },
    /// Something can never succeed.
    Park { parked: Box<Parked>, answer: Sender },
}

impl Job {
    /// Whether somebody waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            Self::Transact { .. } | Self::Park { .. } => true,
            Self::Published { .. } => false,
        }
    }

    /// Tells whoever waits for it.
    pub(super) fn answer(self, outcome: Outcome) {
        match self {
            // Whoever asked may have gone away; the work is done all the same.
            Self::Transact { answer, .. } | Self::Park { answer, .. } => drop(answer.send(outcome)),
            Self::Published { key, .. } => {
                if let Err(error) = outcome {
                    tracing::warn!(event = key.id, %error, "not marked as published; its events will go out again");
                }
            }
        }
    }
}
