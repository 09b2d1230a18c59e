//! One decision as a transaction: from the loaded rows and a case to what is written.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    cloud_event,
    events::{Cause, OrderId, Outgoing, compose},
    functions::rule::{Case, Rows},
    sales::{Catalog, Context, Decision, Effect, Verdict},
    store::{Answer, Change, Guard, Key, Loaded, Reminder, Work, Writes},
};

/// An effect that is to be performed, as it is committed before anybody is called.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Intent {
    pub(super) order_id: OrderId,
    pub(super) effect: Effect,
    pub(super) cause: Cause,
    /// When it was committed. One that does not say so is as old as can be.
    #[serde(default)]
    pub(super) at: DateTime<Utc>,
}

impl Intent {
    /// An intent as it was committed.
    ///
    /// # Errors
    /// It was committed by a version that wrote it otherwise.
    pub(super) fn read(json: &[u8]) -> Result<Self, String> {
        // Checked once for the whole text: serde_json would do it string by string.
        let text = str::from_utf8(json).map_err(|error| error.to_string())?;
        serde_json::from_str(text).map_err(|error| error.to_string())
    }
}

/// A case that is to be decided and committed.
pub(super) struct Transaction {
    pub(super) key: Key,
    pub(super) guard: Guard,
    pub(super) owner: &'static str,
    pub(super) case: Box<dyn Case>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) cause: Cause,
    pub(super) now: DateTime<Utc>,
}

impl Transaction {
    fn accept(&self, decision: Decision<Rows>) -> Writes {
        let Decision {
            state,
            events,
            effect,
        } = decision;
        let intent = effect.map(|effect| Intent {
            order_id: self.case.order_id(),
            effect,
            cause: self.cause.clone(),
            at: self.now,
        });
        // Ids, numbers and strings always have a JSON form.
        let reminder = state.due.map(|at| Reminder {
            at,
            cause: serde_json::to_vec(&self.cause).unwrap_or_default(),
        });
        Writes {
            own: Some(state.own),
            reminder,
            shared: state.shared,
            summary: state.summary,
            outbox: self.envelopes(events),
            intent: intent.map(|intent| serde_json::to_vec(&intent).unwrap_or_default()),
            ..self.record(Answer::Accepted)
        }
    }

    /// The outgoing events as they are stored: in the JSON format, which has no line breaks, one per line.
    fn envelopes(&self, events: Vec<Outgoing>) -> Option<Vec<u8>> {
        let lines = events
            .into_iter()
            .map(|event| cloud_event::to_json(&compose(event, &self.cause, self.now)));
        lines.reduce(|mut all, line| {
            all.push(b'\n');
            all.extend(line);
            all
        })
    }

    /// The inbox record alone.
    fn record(&self, answer: Answer) -> Writes {
        Writes {
            answer,
            own: None,
            reminder: None,
            shared: std::collections::BTreeMap::new(),
            summary: None,
            at: self.now,
            outbox: None,
            intent: None,
        }
    }
}

impl Work for Transaction {
    fn key(&self) -> &Key {
        &self.key
    }

    fn guard(&self) -> Guard {
        self.guard
    }

    fn own_row(&self) -> (&'static str, OrderId) {
        (self.owner, self.case.order_id())
    }

    fn shared_rows(&self, own: Option<&[u8]>) -> Vec<String> {
        // A row that cannot be read is reported by `apply`.
        self.case.shared_rows(own).unwrap_or_default()
    }

    fn apply(&self, loaded: &Loaded) -> Change {
        let context = Context {
            catalog: &self.catalog,
            time: self.cause.time,
            event_id: &self.key.id,
        };
        match self.case.decide(&context, loaded) {
            Ok(Verdict::Accept(decision)) => Change::Write(Box::new(self.accept(decision))),
            Ok(Verdict::Ignore(reason)) => {
                Change::Write(Box::new(self.record(Answer::Ignored(reason))))
            }
            Ok(Verdict::Defer(reason)) => Change::Nothing(Answer::Deferred(reason)),
            Ok(Verdict::Reject(reason)) => Change::Nothing(Answer::Rejected(reason)),
            Err(invalid) => Change::Nothing(Answer::Unreadable(invalid.to_string())),
        }
    }
}
