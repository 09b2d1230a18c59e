//! Many callers, few requests.

use std::{
    collections::VecDeque,
    fmt, mem,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::{sync::oneshot, time::Instant};

use super::{
    PublishError, Publisher, deadline,
    event_grid::{MAX_BODY, MAX_EVENTS},
};

/// Requests at a time. More would make them smaller without making them faster.
pub const MAX_IN_FLIGHT: usize = 2;

/// Calls that may wait for their turn. A topic that is so far behind does better with redeliveries than with memory.
const MAX_WAITING: usize = 20_000;

/// Combines the events of concurrent callers into few requests.
///
/// A call that finds the publisher idle goes out at once and alone. While [`MAX_IN_FLIGHT`] requests are under way, later
/// calls wait and then go out together. Each caller learns what became of its own events: where a combined request is
/// refused for the events in it, it is halved until the refusal falls on the caller whose events brought it about.
pub struct BatchingPublisher {
    queue: Arc<Queue>,
}

struct Queue {
    publisher: Arc<dyn Publisher>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Call>,
    in_flight: usize,
}

struct Call {
    events: Vec<Bytes>,
    deadline: Instant,
    answer: oneshot::Sender<Result<(), PublishError>>,
}

impl BatchingPublisher {
    /// Publishes through `publisher`.
    pub fn new(publisher: Arc<dyn Publisher>) -> BatchingPublisher {
        BatchingPublisher {
            queue: Arc::new(Queue {
                publisher,
                state: Mutex::default(),
            }),
        }
    }
}

impl Publisher for BatchingPublisher {
    fn publish(
        &self,
        events: Vec<Bytes>,
        budget: Duration,
    ) -> BoxFuture<'_, Result<(), PublishError>> {
        Box::pin(async move {
            if events.is_empty() {
                return Ok(());
            }
            let deadline = deadline(budget);
            let (answer, answered) = oneshot::channel();
            self.queue.add(Call {
                events,
                deadline,
                answer,
            })?;
            match tokio::time::timeout_at(deadline, answered).await {
                Ok(Ok(outcome)) => outcome,
                Ok(Err(_)) => Err(PublishError::Unavailable(
                    "the request broke off".to_owned(),
                )),
                Err(_) => Err(PublishError::Unavailable(format!(
                    "no answer within {budget:?}"
                ))),
            }
        })
    }
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(self: &Arc<Self>, call: Call) -> Result<(), PublishError> {
        let mut state = self.state();
        if state.waiting.len() >= MAX_WAITING {
            return Err(PublishError::Unavailable(format!(
                "{MAX_WAITING} calls are waiting already"
            )));
        }
        state.waiting.push_back(call);
        if state.in_flight < MAX_IN_FLIGHT {
            state.in_flight += 1;
            // The task outlives a caller who leaves, since others may have come to depend on it.
            tokio::spawn(Arc::clone(self).drain());
        }
        Ok(())
    }

    async fn drain(self: Arc<Self>) {
        // Callers whose decisions were committed together wake up together: let them all queue first.
        tokio::task::yield_now().await;
        while let Some(calls) = self.next() {
            let sent = AssertUnwindSafe(self.send(calls)).catch_unwind().await;
            if sent.is_err() {
                tracing::error!(
                    "publishing panicked; its callers were told that their events are not published"
                );
            }
        }
    }

    /// What fits into one request of those who wait, or nothing, which ends this run.
    fn next(&self) -> Option<Vec<Call>> {
        let mut state = self.state();
        let mut calls = Vec::new();
        let (mut events, mut size) = (0, 0);
        while let Some(call) = state.waiting.pop_front() {
            // Its caller has left.
            if call.answer.is_closed() {
                continue;
            }
            events += call.events.len();
            size += call
                .events
                .iter()
                .map(|event| event.len() + 1)
                .sum::<usize>();
            if !calls.is_empty() && (events > MAX_EVENTS || size >= MAX_BODY) {
                state.waiting.push_front(call);
                break;
            }
            calls.push(call);
        }
        if calls.is_empty() {
            state.in_flight -= 1;
            return None;
        }
        Some(calls)
    }

    /// Publishes the events of `calls` and answers every one.
    async fn send(&self, calls: Vec<Call>) {
        let mut groups = vec![calls];
        while let Some(mut calls) = groups.pop() {
            match self.publish_together(&mut calls).await {
                Err(PublishError::Refused(_)) if calls.len() > 1 => {
                    let second_half = calls.split_off(calls.len() / 2);
                    groups.extend([second_half, calls]);
                }
                outcome => {
                    for call in calls {
                        // Nobody hears it if the caller has left.
                        let _ = call.answer.send(outcome.clone());
                    }
                }
            }
        }
    }

    async fn publish_together(&self, calls: &mut [Call]) -> Result<(), PublishError> {
        // Callers in a hurry leave earlier by themselves; they do not cut the others short.
        let latest = calls
            .iter()
            .map(|call| call.deadline)
            .max()
            .unwrap_or_else(Instant::now);
        let budget = latest.saturating_duration_since(Instant::now());
        let events = match calls {
            [only] => mem::take(&mut only.events),
            several => several
                .iter()
                .flat_map(|call| call.events.iter().cloned())
                .collect(),
        };
        self.publisher.publish(events, budget).await
    }
}

impl fmt::Debug for BatchingPublisher {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BatchingPublisher")
            .finish_non_exhaustive()
    }
}
