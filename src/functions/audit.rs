//! Whether what the functions publish and what they take fits together: what no compiler sees, and what would otherwise
//! show as an order that never ends.

use std::fmt;

use crate::events::{EventType, Role, short_name};

use super::Function;

/// The function that takes note of everything and undoes nothing.
pub const OBSERVER: &str = "orders";

/// Something in which the registry's rows do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// Nobody takes the event, and it is no result.
    Unheard(&'static str),
    /// The event says that something failed, and nobody undoes what had been done before.
    Uncompensated(&'static str),
    /// The function's row lists an event as published that is another service's.
    Foreign(&'static str, &'static str),
    /// The event is listed as published more than once.
    Repeated(&'static str),
    /// The function subscribes to an event that nobody publishes.
    Unknown(&'static str, &'static str),
}

impl fmt::Display for Misfit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unheard(event) => write!(
                formatter,
                "{}: nobody takes it; add a rule to src/functions.rs or make it a result",
                short_name(event)
            ),
            Self::Uncompensated(event) => write!(
                formatter,
                "{}: a failure that nobody undoes; only {OBSERVER} takes it",
                short_name(event)
            ),
            Self::Foreign(function, event) => write!(
                formatter,
                "{function}: publishes {}, which is declared as another service's",
                short_name(event)
            ),
            Self::Repeated(event) => write!(
                formatter,
                "{}: is listed as published more than once",
                short_name(event)
            ),
            Self::Unknown(function, event) => {
                write!(
                    formatter,
                    "{function}: takes {event}, which nobody publishes"
                )
            }
        }
    }
}

/// Every misfit between the functions.
pub fn audit(functions: &'static [Function]) -> Vec<Misfit> {
    let published = || functions.iter().flat_map(Function::publishes);
    let mut misfits = Vec::new();
    for EventType { name, role, .. } in published() {
        let mut takers = functions
            .iter()
            .filter(|function| function.event_types().any(|taken| taken == *name))
            .peekable();
        if *role != Role::Result && takers.peek().is_none() {
            misfits.push(Misfit::Unheard(name));
        } else if *role == Role::Failure && takers.all(|function| function.name == OBSERVER) {
            misfits.push(Misfit::Uncompensated(name));
        }
        let repeated = published().filter(|other| other.name == *name).count() > 1;
        if repeated && !misfits.contains(&Misfit::Repeated(name)) {
            misfits.push(Misfit::Repeated(name));
        }
    }
    for function in functions {
        let foreign = function
            .publishes()
            .iter()
            .filter(|published| published.service != function.name);
        misfits.extend(foreign.map(|published| Misfit::Foreign(function.name, published.name)));
        let known = |name: &str| published().any(|published| published.name == name);
        let unknown = function.event_types().filter(|name| !known(name));
        misfits.extend(unknown.map(|name| Misfit::Unknown(function.name, name)));
    }
    misfits
}
