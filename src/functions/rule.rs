//! What stands behind a row of the registry: a typed function of a service, with its types erased.

use chrono::{DateTime, Utc};
use cloudevents::Event;

use crate::{
    events::{Invalid, OrderId, Payload, decode},
    sales::{
        Context, Decision, Effect, Outcome, State, Verdict, status::Summary, verdict::SharedRows,
    },
    store::Loaded,
};

/// A service's state as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The order's own row.
    pub own: Vec<u8>,
    /// The shared rows.
    pub shared: SharedRows,
    /// The order's row in lists.
    pub summary: Option<Summary>,
    /// When the service wants to look at the order again.
    pub due: Option<DateTime<Utc>>,
}

/// One event type that a function takes, and what decides on it.
pub trait Rule: Sync {
    /// The CloudEvents `type`.
    fn event_type(&self) -> &'static str;

    /// Whose rows the decision reads and writes.
    fn owner(&self) -> &'static str;

    /// Reads an event of this type.
    ///
    /// # Errors
    /// The first field that is missing or invalid.
    fn read(&'static self, event: &Event) -> Result<Box<dyn Case>, Invalid>;
}

/// Something to be decided: an event, a request or the outcome of an effect, with the function that decides it.
pub trait Case: Send + Sync {
    /// The order that it is about.
    fn order_id(&self) -> OrderId;

    /// The shared rows that deciding needs, in view of the order's own row.
    ///
    /// # Errors
    /// The own row cannot be read.
    fn shared_rows(&self, own: Option<&[u8]>) -> Result<Vec<String>, Invalid>;

    /// Decides.
    ///
    /// # Errors
    /// A row cannot be read.
    fn decide(&self, context: &Context<'_>, loaded: &Loaded) -> Result<Verdict<Rows>, Invalid>;
}

/// A service's function for one event type.
type Decide<S, E> = fn(&Context<'_>, Option<&S>, &E) -> Verdict<S>;

/// Which shared rows a function needs.
type Locks<S, E> = fn(Option<&S>, &E) -> Vec<String>;

/// The rule that an event type is decided by a function.
pub struct On<S, E> {
    decide: Decide<S, E>,
    locks: Option<Locks<S, E>>,
}

/// An event of type `E` is decided by `decide`.
pub const fn on<S, E>(decide: Decide<S, E>) -> On<S, E> {
    On {
        decide,
        locks: None,
    }
}

impl<S, E> On<S, E> {
    /// The decision needs these shared rows too.
    #[must_use]
    pub const fn locking(self, locks: Locks<S, E>) -> Self {
        Self {
            decide: self.decide,
            locks: Some(locks),
        }
    }
}

impl<S: State + 'static, E: Payload + Send + Sync + 'static> Rule for On<S, E> {
    fn event_type(&self) -> &'static str {
        E::TYPE
    }

    fn owner(&self) -> &'static str {
        S::OWNER
    }

    fn read(&'static self, event: &Event) -> Result<Box<dyn Case>, Invalid> {
        let payload: E = decode(event)?;
        let order_id = payload.order_id();
        Ok(Box::new(Given {
            order_id,
            subject: payload,
            decide: self.decide,
            locks: self.locks,
        }))
    }
}

/// Something given, and the function that decides it.
struct Given<S, T> {
    order_id: OrderId,
    subject: T,
    decide: Decide<S, T>,
    locks: Option<Locks<S, T>>,
}

/// A request to be decided by `decide`.
pub fn given<S: State + 'static, T: Send + Sync + 'static>(
    order_id: OrderId,
    subject: T,
    decide: Decide<S, T>,
) -> Box<dyn Case> {
    Box::new(Given {
        order_id,
        subject,
        decide,
        locks: None,
    })
}

impl<S: State, T: Send + Sync> Case for Given<S, T> {
    fn order_id(&self) -> OrderId {
        self.order_id
    }

    fn shared_rows(&self, own: Option<&[u8]>) -> Result<Vec<String>, Invalid> {
        match self.locks {
            Some(locks) => Ok(locks(read_own::<S>(own)?.as_ref(), &self.subject)),
            None => Ok(Vec::new()),
        }
    }

    fn decide(&self, context: &Context<'_>, loaded: &Loaded) -> Result<Verdict<Rows>, Invalid> {
        let state = S::attach(read_own(loaded.own.as_deref())?, &loaded.shared)?;
        Ok(erase((self.decide)(context, state.as_ref(), &self.subject)))
    }
}

fn read_own<S: State>(own: Option<&[u8]>) -> Result<Option<S>, Invalid> {
    let unreadable = |problem: String| Invalid::new(format!("stored row of {}", S::OWNER), problem);
    let read = |row| {
        let text = str::from_utf8(row).map_err(|error| unreadable(error.to_string()))?;
        serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))
    };
    own.map(read).transpose()
}

fn erase<S: State>(verdict: Verdict<S>) -> Verdict<Rows> {
    match verdict {
        Verdict::Accept(Decision {
            state,
            events,
            effect,
        }) => {
            // A state is a plain struct of strings, numbers and lists: it always has a JSON form.
            let own = serde_json::to_vec(&state).unwrap_or_default();
            let rows = Rows {
                own,
                shared: state.shared_rows(),
                summary: state.summary(),
                due: state.due(),
            };
            Verdict::Accept(Decision {
                state: rows,
                events,
                effect,
            })
        }
        Verdict::Ignore(reason) => Verdict::Ignore(reason),
        Verdict::Defer(reason) => Verdict::Defer(reason),
        Verdict::Reject(reason) => Verdict::Reject(reason),
    }
}

/// What takes the outcomes of a function's effects.
pub trait Settle: Sync {
    /// Whose rows the decision reads and writes.
    fn owner(&self) -> &'static str;

    /// The outcome of an effect, to be decided.
    fn read(&self, order_id: OrderId, effect: Effect, outcome: Outcome) -> Box<dyn Case>;
}

/// A service's function for outcomes.
type DecideOutcome<S> = fn(&Context<'_>, Option<&S>, &Effect, &Outcome) -> Verdict<S>;

/// The rule that outcomes are decided by a function.
pub struct SettledBy<S> {
    decide: DecideOutcome<S>,
}

/// The outcomes of a function's effects are decided by `decide`.
pub const fn settled_by<S>(decide: DecideOutcome<S>) -> SettledBy<S> {
    SettledBy { decide }
}

impl<S: State + 'static> Settle for SettledBy<S> {
    fn owner(&self) -> &'static str {
        S::OWNER
    }

    fn read(&self, order_id: OrderId, effect: Effect, outcome: Outcome) -> Box<dyn Case> {
        Box::new(Settled {
            order_id,
            effect,
            outcome,
            decide: self.decide,
        })
    }
}

struct Settled<S> {
    order_id: OrderId,
    effect: Effect,
    outcome: Outcome,
    decide: DecideOutcome<S>,
}

impl<S: State> Case for Settled<S> {
    fn order_id(&self) -> OrderId {
        self.order_id
    }

    fn shared_rows(&self, _: Option<&[u8]>) -> Result<Vec<String>, Invalid> {
        Ok(Vec::new())
    }

    fn decide(&self, context: &Context<'_>, loaded: &Loaded) -> Result<Verdict<Rows>, Invalid> {
        let state = read_own::<S>(loaded.own.as_deref())?;
        Ok(erase((self.decide)(
            context,
            state.as_ref(),
            &self.effect,
            &self.outcome,
        )))
    }
}

/// What looks at an order again when the time has come that its state had named.
pub trait Remind: Sync {
    /// Whose rows the decision reads and writes.
    fn owner(&self) -> &'static str;

    /// The order, to be looked at.
    fn read(&self, order_id: OrderId) -> Box<dyn Case>;
}

/// A service's function for orders whose time has come. It must move the state's due time, or the order would be
/// due for ever.
type LookAgain<S> = fn(&Context<'_>, &S) -> Verdict<S>;

/// The rule that orders whose time has come are decided by a function.
pub struct RemindedBy<S> {
    decide: LookAgain<S>,
}

/// Orders whose time has come are decided by `decide`.
pub const fn reminded_by<S>(decide: LookAgain<S>) -> RemindedBy<S> {
    RemindedBy { decide }
}

impl<S: State + 'static> Remind for RemindedBy<S> {
    fn owner(&self) -> &'static str {
        S::OWNER
    }

    fn read(&self, order_id: OrderId) -> Box<dyn Case> {
        Box::new(Reminded {
            order_id,
            decide: self.decide,
        })
    }
}

struct Reminded<S> {
    order_id: OrderId,
    decide: LookAgain<S>,
}

impl<S: State> Case for Reminded<S> {
    fn order_id(&self) -> OrderId {
        self.order_id
    }

    fn shared_rows(&self, _: Option<&[u8]>) -> Result<Vec<String>, Invalid> {
        Ok(Vec::new())
    }

    fn decide(&self, context: &Context<'_>, loaded: &Loaded) -> Result<Verdict<Rows>, Invalid> {
        let state = read_own::<S>(loaded.own.as_deref())?;
        // An event may have moved the state since the sweep found it due.
        let due = state.filter(|state| state.due().is_some_and(|due| due <= context.time));
        Ok(match due {
            Some(state) => erase((self.decide)(context, &state)),
            None => Verdict::Ignore("not due any more"),
        })
    }
}
