//! How those who wait for a group are answered, once it is flushed.
//!
//! Waking a task from another thread costs a call into the kernel. So the first who waits for a group gets the answers
//! of the whole group, and passes the others on from its own thread, where it is cheap.

use tokio::sync::oneshot;

use crate::store::{Receipt, StoreError};

/// Where an answer goes.
pub(super) type Sender = oneshot::Sender<Answer>;

/// What a job came to: nothing but an empty receipt where there is nothing to say.
pub(super) type Outcome = Result<Receipt, StoreError>;

/// One's own answer, and those to pass on.
pub(super) struct Answer {
    outcome: Outcome,
    others: Others,
}

impl Answer {
    /// One's own, once the others are passed on.
    pub(super) fn take(self) -> Outcome {
        let Self { outcome, others } = self;
        drop(others);
        outcome
    }
}

/// Answers to pass on: when they are dropped, so that nobody can forget them, and nobody waits in vain for one who
/// has gone away.
struct Others(Vec<(Sender, Outcome)>);

impl Drop for Others {
    fn drop(&mut self) {
        for (sender, outcome) in self.0.drain(..) {
            let others = Self(Vec::new());
            // Whoever asked may have gone away; the work is done all the same.
            drop(sender.send(Answer { outcome, others }));
        }
    }
}

/// Answers a group.
pub(super) fn tell(mut group: Vec<(Sender, Outcome)>) {
    if let Some((first, outcome)) = group.pop() {
        let others = Others(group);
        // If the first has gone away, the others' answers come back and are passed on from here.
        drop(first.send(Answer { outcome, others }));
    }
}
