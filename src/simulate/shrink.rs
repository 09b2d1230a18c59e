//! From a failure to the smallest one like it: fewer classes of faults, then fewer orders, then fewer events.

use super::{Failure, Fault, Scenario, run};

/// How many other seeds a smaller scenario is tried with.
const TRIES: u64 = 40;

/// The smallest failure found that breaks the same invariant, with the trace of its order.
pub fn shrink(failure: &Failure) -> Failure {
    let mut smallest = alone(failure);
    for class in Fault::ALL {
        let faults = smallest.scenario.faults.without(*class);
        if faults != smallest.scenario.faults {
            let scenario = Scenario {
                faults,
                ..smallest.scenario
            };
            smallest = first_like(&smallest, scenario).unwrap_or(smallest);
        }
    }
    let mut fewer = smallest.scenario.orders;
    while fewer > 1 {
        fewer /= 2;
        let scenario = Scenario {
            orders: fewer,
            ..smallest.scenario
        };
        match first_like(&smallest, scenario) {
            Some(found) => smallest = found,
            None => break,
        }
    }
    traced(shortest(smallest))
}

/// The failed order without the others, if it fails without them.
fn alone(failure: &Failure) -> Failure {
    let scenario = Scenario {
        first: failure.violation.order,
        orders: 1,
        ..failure.scenario
    };
    first_like(failure, scenario).unwrap_or_else(|| failure.clone())
}

/// The first failure of the same kind among this scenario and others that differ from it in the seed alone.
fn first_like(failure: &Failure, scenario: Scenario) -> Option<Failure> {
    seeds(scenario).find_map(|scenario| like(failure, scenario))
}

fn seeds(scenario: Scenario) -> impl Iterator<Item = Scenario> {
    (0..TRIES).map(move |more| Scenario {
        seed: scenario.seed.wrapping_add(more),
        ..scenario
    })
}

fn like(failure: &Failure, scenario: Scenario) -> Option<Failure> {
    let found = *run(scenario).err()?;
    (found.violation.invariant == failure.violation.invariant).then_some(found)
}

/// Of the failures of the same kind under other seeds, the one with the shortest trace.
fn shortest(smallest: Failure) -> Failure {
    let found = seeds(smallest.scenario)
        .filter_map(|scenario| like(&smallest, scenario))
        .map(traced)
        .min_by_key(|found| found.trace.len());
    found.unwrap_or(smallest)
}

/// The same failure, with the trace of its order.
fn traced(failure: Failure) -> Failure {
    let scenario = Scenario {
        watch: Some(failure.violation.order),
        ..failure.scenario
    };
    run(scenario).err().map_or(failure, |found| *found)
}
