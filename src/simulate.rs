//! The simulation: runs the real functions in one process, under a seeded and hostile world, and checks after every
//! step that nothing is charged twice, shipped unpaid, lost or forgotten.
//!
//! The engine and the services are those of `orderflow serve`; only their ports are simulated: clock, store, topic,
//! payment provider and carrier. Time is virtual, there is one thread, and all chance comes from one seed, so the same
//! seed gives the same run, byte for byte.
//!
//! Read in this order: `faults` (what can go wrong), `invariants` (what must hold all the same), `customers` (what is
//! asked for), `world` (what all parts share), `grid`, `store`, `outside`, `log` (what surrounds the application), `runner`
//! (the loop), `processes` (what runs and is killed), `rest` (orders that have ended), `shrink` (from a failure to the
//! smallest one like it), `bugs` (the checker checked).

mod account;
mod agenda;
mod bugs;
mod customers;
mod faults;
mod grid;
mod handler;
mod invariants;
mod log;
mod outside;
mod processes;
mod random;
mod report;
mod rest;
mod runner;
mod shrink;
mod store;
mod versions;
mod world;

use std::{
    fmt,
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

pub use bugs::Bug;
pub use faults::{Fault, Faults};
pub use invariants::{Invariant, Violation};
pub use random::Rate;
pub use report::Counts;
pub use shrink::shrink;

/// What to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scenario {
    /// Where all chance comes from.
    pub seed: u64,
    /// The number of the first order. An order's customer, wishes and faults depend on seed and number alone.
    pub first: u64,
    /// How many orders.
    pub orders: u64,
    /// What goes wrong.
    pub faults: Faults,
    /// A bug to give to the application, to check the checker.
    pub bug: Option<Bug>,
    /// The order to write a trace of.
    pub watch: Option<u64>,
}

impl Scenario {
    /// So many orders of a seed, with every fault at a rate.
    pub fn new(seed: u64, orders: u64, rate: Rate) -> Self {
        Self {
            seed,
            first: 0,
            orders,
            faults: Faults::at(rate),
            bug: None,
            watch: None,
        }
    }
}

/// A simulation in which an invariant was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What was simulated.
    pub scenario: Scenario,
    /// What does not hold.
    pub violation: Violation,
    /// What happened to the order that was watched: microseconds since the beginning, and what.
    pub trace: Vec<(u64, String)>,
}

/// Runs a simulation until every order has come to its end.
///
/// # Errors
/// An invariant was broken.
pub fn run(scenario: Scenario) -> Result<Counts, Box<Failure>> {
    runner::Runner::new(scenario, Arc::default()).run()
}

/// How many cores simulations of several seeds run on.
pub fn cores(seeds: u64) -> u64 {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    u64::try_from(cores).unwrap_or(1).clamp(1, seeds.max(1))
}

/// Runs a simulation for each of so many seeds, counted from the scenario's on, on all cores. Orders that have ended are
/// added to `progress`.
///
/// # Errors
/// An invariant was broken: that of the smallest such seed.
pub fn run_seeds(
    scenario: Scenario,
    seeds: u64,
    progress: &Arc<AtomicU64>,
) -> Result<Counts, Box<Failure>> {
    let (taken, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    // Seeds are taken in their order: when one fails, all smaller ones have been taken.
    let work = || {
        let mut runs = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let more = taken.fetch_add(1, Ordering::Relaxed);
            if more >= seeds {
                break;
            }
            let seed = scenario.seed.wrapping_add(more);
            let scenario = Scenario { seed, ..scenario };
            let result = runner::Runner::new(scenario, progress.clone()).run();
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            runs.push((more, result));
        }
        runs
    };
    let mut runs: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..cores(seeds)).map(|_| scope.spawn(work)).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(runs) => runs,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.flatten().collect()
    });
    runs.sort_by_key(|(more, _)| *more);
    let mut all = Counts::default();
    for (_, result) in runs {
        all.add(&result?);
    }
    Ok(all)
}

impl fmt::Display for Scenario {
    /// The command that repeats it.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            first,
            orders,
            faults,
            ..
        } = self;
        write!(
            formatter,
            "orderflow simulate --seed {seed} --first {first} --orders {orders}"
        )?;
        let classes: Vec<_> = faults.classes().map(Fault::name).collect();
        match classes.len() {
            0 => write!(formatter, " --faults 0"),
            some if some < Fault::ALL.len() => {
                let only = classes.join(",");
                write!(formatter, " --faults {} --only {only}", faults.rate)
            }
            _ => write!(formatter, " --faults {}", faults.rate),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Violation {
            order,
            invariant,
            detail,
            ..
        } = &self.violation;
        for (at, what) in &self.trace {
            writeln!(formatter, "{:>14}  {what}", Timestamp(*at))?;
        }
        writeln!(formatter, "broken: {}", invariant.sentence())?;
        writeln!(formatter, "order {order}: {detail}")?;
        write!(formatter, "again:  {}", self.scenario)
    }
}

/// Microseconds as hours, minutes and seconds.
struct Timestamp(u64);

impl fmt::Display for Timestamp {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0 / agenda::MILLISECOND;
        let seconds = milliseconds / 1000;
        let text = format!(
            "{}:{:02}:{:02}.{:03}",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            milliseconds % 1000
        );
        formatter.pad(&text)
    }
}
