//! `orderflow simulate`: runs the real functions under seeded faults and checks the invariants.

use std::time::{Duration, Instant};

use crate::simulate::{self, Counts, Fault, Faults, Rate, Scenario};

/// What to simulate.
#[derive(Debug, clap::Args)]
pub(super) struct Simulate {
    /// Where all chance comes from: the same seed is the same run, byte for byte
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// How many seeds, counted from --seed on
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    seeds: u64,

    /// How many orders for each seed
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    orders: u64,

    /// How likely each fault is each time it could happen, from 0 to 1
    #[arg(long, value_name = "RATE", default_value = "0.05")]
    faults: Rate,

    /// Only these classes of faults, separated by commas [default: all]
    #[arg(long, value_name = "FAULTS", value_delimiter = ',', value_parser = fault, hide_possible_values = true)]
    only: Option<Vec<Fault>>,

    /// The number of the first order: orders have their customers, wishes and faults by their number, so a failing one
    /// can be repeated without those before it
    #[arg(long, value_name = "N", default_value_t = 0)]
    first: u64,
}

fn fault(name: &str) -> Result<Fault, String> {
    let known = Fault::ALL.iter().copied();
    known
        .clone()
        .find(|fault| fault.name() == name)
        .ok_or_else(|| {
            let names: Vec<_> = known.map(Fault::name).collect();
            format!("there are {}", names.join(", "))
        })
}

/// Simulates, and prints the report.
///
/// # Errors
/// One line: an invariant was broken. What it was and how to repeat it is printed before.
pub(super) fn run(simulate: &Simulate) -> Result<(), String> {
    let mut faults = Faults::at(simulate.faults);
    if let Some(only) = &simulate.only {
        faults = faults.only(only);
    }
    let scenario = Scenario {
        first: simulate.first,
        faults,
        ..Scenario::new(simulate.seed, simulate.orders, simulate.faults)
    };
    let started = Instant::now();
    let counts = simulate::run_seeds(scenario, simulate.seeds).map_err(|failure| {
        let sentence = failure.violation.invariant.sentence();
        println!("broken: {sentence}\nfound:  {}", failure.scenario);
        println!(
            "looking for the smallest case like it ...\n\n{}",
            simulate::shrink(&failure)
        );
        "an invariant was broken".to_owned()
    })?;
    report(simulate, &counts, started.elapsed());
    Ok(())
}

fn report(simulate: &Simulate, counts: &Counts, elapsed: Duration) {
    let last = simulate
        .seed
        .saturating_add(simulate.seeds.saturating_sub(1));
    println!(
        "seeds {} to {last}, faults at {}\n\n{counts}",
        simulate.seed, simulate.faults
    );
    let milliseconds = elapsed.as_millis().max(1);
    let rate = u128::from(counts.orders) * 1000 / milliseconds;
    println!("\nno invariant broken; {rate} orders/s");
}
