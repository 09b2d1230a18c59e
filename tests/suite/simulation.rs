//! The real functions under seeded faults: no invariant is broken, the same seed is the same run, and the checker
//! finds what is broken on purpose.

use orderflow::simulate::{self, Bug, Counts, Fault, Rate, Scenario};

/// The rate of every fault.
const RATE: Rate = Rate::percent(5);

fn must_hold(scenario: Scenario) -> Counts {
    simulate::run(scenario).unwrap_or_else(|failure| panic!("{}", simulate::shrink(&failure)))
}

#[test]
fn without_faults_every_order_ends() {
    let counts = must_hold(Scenario::new(1, 100, Rate::percent(0)));
    assert_eq!(counts.orders, counts.outcomes.values().sum::<u64>());
    println!("{counts}");
}

#[test]
fn under_every_fault_no_invariant_is_broken() {
    let counts = simulate::run_seeds(Scenario::new(0, 16, RATE), 300);
    let counts = counts.unwrap_or_else(|failure| panic!("{}", simulate::shrink(&failure)));
    println!("{counts}");
    for fault in Fault::ALL {
        assert!(
            counts.injected(*fault) > 0,
            "{} never happened",
            fault.name()
        );
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let counts = must_hold(Scenario::new(7, 50, RATE));
    assert_eq!(counts, must_hold(Scenario::new(7, 50, RATE)));
    let other = must_hold(Scenario::new(8, 50, RATE));
    assert_ne!(counts.fingerprint, other.fingerprint);
}

/// The most seeds of a few orders that a bug may stay hidden for.
const MOST_SEEDS: u64 = 200;

/// How many times each bug is to be found.
const FINDS: u64 = 5;

#[test]
fn bugs_made_on_purpose_are_found() {
    for bug in Bug::ALL {
        let mut seed = 0;
        for _ in 0..FINDS {
            seed = next_find(bug, seed) + 1;
        }
        let (whole, tenth) = (seed / FINDS, seed % FINDS * 10 / FINDS);
        println!("{bug:?} is found within {whole}.{tenth} seeds of 8 orders on average");
    }
}

fn next_find(bug: Bug, from: u64) -> u64 {
    let finds = |seed: &u64| {
        let scenario = Scenario {
            bug: Some(bug),
            ..Scenario::new(*seed, 8, RATE)
        };
        simulate::run(scenario).is_err()
    };
    let mut seeds = from..from + MOST_SEEDS;
    seeds
        .find(finds)
        .unwrap_or_else(|| panic!("{bug:?} is not found"))
}
