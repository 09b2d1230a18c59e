//! The picture of who tells whom what, as a Mermaid flowchart in the README.

use std::fmt::Write;

use crate::{
    events::{Role, short_name},
    functions::{FUNCTIONS, Function, audit::OBSERVER, catalogue},
};

use super::{Artifact, Extent};

const BEGIN: &str = "<!-- choreography:begin -->";
const END: &str = "<!-- choreography:end -->";

/// The node for everybody who is not part of this application.
const OUTSIDE: &str = "outside";

pub(super) fn artifact() -> Artifact {
    Artifact {
        path: "README.md".into(),
        content: format!("```mermaid\n{}```\n", flowchart()),
        extent: Extent::Between(BEGIN, END),
    }
}

/// One arrow between two services holds all events that go the same way. The observer takes every event, so its
/// arrows are left out: what only it takes stands in the publisher's node.
fn flowchart() -> String {
    let mut chart = String::from("flowchart LR\n");
    let services = || {
        FUNCTIONS
            .iter()
            .filter(|function| !function.rules().is_empty())
    };
    for service in services() {
        let kept: Vec<_> = service
            .publishes()
            .iter()
            .filter(|event| event.role != Role::Result && takers(event.name).next().is_none())
            .map(|event| short_name(event.name))
            .collect();
        let mut label = format!("<b>{}</b>", service.name);
        for name in kept {
            let _ = write!(label, "<br/>{name}");
        }
        let _ = writeln!(chart, "    {}[\"{label}\"]", service.name);
    }
    let _ = writeln!(chart, "    {OUTSIDE}([anyone])");
    for from in services() {
        for to in services() {
            for (is_failure, arrow) in [(false, "-->"), (true, "-.->")] {
                let events = catalogue().filter(|event| {
                    event.service == from.name
                        && (event.role == Role::Failure) == is_failure
                        && takers(event.name).any(|taker| taker.name == to.name)
                });
                arrow_of(
                    &mut chart,
                    from.name,
                    arrow,
                    to.name,
                    events.map(|event| event.name),
                );
            }
        }
        let results = from
            .publishes()
            .iter()
            .filter(|event| event.role == Role::Result);
        arrow_of(
            &mut chart,
            from.name,
            "-->",
            OUTSIDE,
            results.map(|event| event.name),
        );
    }
    chart
}

fn arrow_of(
    chart: &mut String,
    from: &str,
    arrow: &str,
    to: &str,
    events: impl Iterator<Item = &'static str>,
) {
    let names: Vec<_> = events.map(short_name).collect();
    if !names.is_empty() {
        let _ = writeln!(chart, "    {from} {arrow}|{}| {to}", names.join("<br/>"));
    }
}

/// Who takes an event, the observer aside.
fn takers(event_type: &str) -> impl Iterator<Item = &'static Function> {
    FUNCTIONS
        .iter()
        .filter(|function| function.name != OBSERVER)
        .filter(move |function| function.event_types().any(|taken| taken == event_type))
}
