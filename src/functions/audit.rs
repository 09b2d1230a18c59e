//! Whether catalogue and registry fit together: what no compiler sees, and what would otherwise show as an order that
//! never ends.

use std::fmt;

use crate::events::{EventType, Role, short_name};

use super::Function;

/// The function that takes note of everything and undoes nothing.
const OBSERVER: &str = "orders";

/// Something in which catalogue and registry do not fit together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// Nobody takes the event, and it is no result.
    Unheard(&'static str),
    /// The event says that something failed, and nobody undoes what had been done before.
    Uncompensated(&'static str),
    /// The event is published by a service that has no function.
    Homeless(&'static str, &'static str),
    /// A function subscribes to an event that the catalogue does not have.
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
            Self::Homeless(event, service) => write!(
                formatter,
                "{}: its service {service} has no function",
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

/// Every misfit between a catalogue and the functions.
pub fn audit(catalogue: &[EventType], functions: &'static [Function]) -> Vec<Misfit> {
    let takers = |name: &'static str| {
        let takes = move |function: &&Function| function.event_types().any(|taken| taken == name);
        functions.iter().filter(takes)
    };
    let mut misfits = Vec::new();
    for EventType {
        name,
        service,
        role,
    } in catalogue.iter().copied()
    {
        if role != Role::Result && takers(name).next().is_none() {
            misfits.push(Misfit::Unheard(name));
        }
        if role == Role::Failure && takers(name).all(|function| function.name == OBSERVER) {
            misfits.push(Misfit::Uncompensated(name));
        }
        let publishes =
            |function: &Function| function.name == service && !function.rules().is_empty();
        if !functions.iter().any(publishes) {
            misfits.push(Misfit::Homeless(name, service));
        }
    }
    for function in functions {
        let known = |name: &str| catalogue.iter().any(|known| known.name == name);
        let unknown = function.event_types().filter(|name| !known(name));
        misfits.extend(unknown.map(|name| Misfit::Unknown(function.name, name)));
    }
    misfits
}
