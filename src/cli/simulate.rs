//! `orderflow simulate`: runs the real functions under seeded faults and checks the invariants.

use std::{
    fmt::Write,
    io::{IsTerminal, stderr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use crate::simulate::{self, Counts, Fault, Faults, Invariant, Rate, Scenario};

/// How often a person at a terminal is told how far it has come.
const GLANCE: Duration = Duration::from_secs(1);

/// How often a log is.
const NOTE: Duration = Duration::from_secs(30);

/// What to simulate.
#[derive(Debug, clap::Args)]
pub(super) struct Simulate {
    /// Where all chance comes from: the same seed is the same run, byte for byte
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,

    /// How many seeds, counted from --seed on; each core takes one at a time
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

/// What can go wrong and what must hold, for `--help`.
pub(super) fn lists() -> String {
    let mut text = "Faults:\n".to_owned();
    for fault in Fault::ALL {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {:<17} {}", fault.name(), fault.sentence());
    }
    text.push_str("\nWhat must hold:\n");
    for invariant in Invariant::ALL {
        let _ = writeln!(text, "  {}", invariant.sentence());
    }
    text
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
    let ended = Arc::new(AtomicU64::new(0));
    let all = simulate.orders.saturating_mul(simulate.seeds);
    let run = || simulate::run_seeds(scenario, simulate.seeds, &ended);
    let counts = telling(started, all, &ended, run).map_err(|failure| {
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

/// Does something long, and tells on standard error meanwhile how far it has come.
fn telling<T>(started: Instant, all: u64, ended: &AtomicU64, long: impl FnOnce() -> T) -> T {
    let (done, waits) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            let at_terminal = stderr().is_terminal();
            let pause = if at_terminal { GLANCE } else { NOTE };
            let (before, after) = if at_terminal { ("\r", "") } else { ("", "\n") };
            while waits.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
                let ended = ended.load(Ordering::Relaxed);
                let rate = rate(ended, started.elapsed());
                eprint!("{before}{ended} of {all} orders, {rate} orders/s{after}");
            }
            if at_terminal {
                // The line is taken back.
                eprint!("\r\x1b[2K");
            }
        });
        let result = long();
        drop(done);
        result
    })
}

fn rate(orders: u64, elapsed: Duration) -> u128 {
    u128::from(orders) * 1000 / elapsed.as_millis().max(1)
}

fn report(simulate: &Simulate, counts: &Counts, elapsed: Duration) {
    let last = simulate
        .seed
        .saturating_add(simulate.seeds.saturating_sub(1));
    println!(
        "seeds {} to {last}, faults at {}\n\n{counts}",
        simulate.seed, simulate.faults
    );
    let (rate, cores) = (
        rate(counts.orders, elapsed),
        simulate::cores(simulate.seeds),
    );
    let seconds = elapsed.as_secs();
    println!("\nno invariant broken; {rate} orders/s for {seconds} s on {cores} cores");
}
