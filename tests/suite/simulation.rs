//! The real functions under seeded faults: no invariant is broken, the same seed is the same run, and the checker
//! finds what is broken on purpose.

use std::sync::Arc;

use orderflow::simulate::{self, Bug, Counts, Fault, Faults, Rate, Scenario};

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
    let counts = simulate::run_seeds(Scenario::new(0, 16, RATE), 300, &Arc::default());
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

/// Publishers of other versions of the application are understood: whatever is new or missing, the orders come to the
/// same results, and nothing is refused.
#[test]
fn an_event_of_another_version_is_taken_the_same() {
    let plain = must_hold(Scenario::new(3, 60, Rate::percent(0)));
    let versions = [Fault::NewerVersion, Fault::OlderVersion];
    for some in [&versions[..1], &versions[1..], &versions] {
        let counts = must_hold(Scenario {
            faults: Faults::at(Rate::percent(100)).only(some),
            ..Scenario::new(3, 60, Rate::percent(0))
        });
        assert_eq!(counts.outcomes, plain.outcomes);
        assert_eq!(counts.parked, 0);
        assert!(some.iter().all(|fault| counts.injected(*fault) > 0));
    }
}

/// How many times each bug is to be found.
const FINDS: u64 = 5;

/// The most seeds of 8 orders that a bug may stay hidden for, on average.
const MOST_SEEDS: u64 = 40;

#[test]
fn bugs_made_on_purpose_are_found() {
    for bug in Bug::ALL {
        let scenario = |seed| Scenario {
            bug: Some(bug),
            ..Scenario::new(seed, 8, RATE)
        };
        let seeds = 0..FINDS * MOST_SEEDS;
        let failures = seeds.filter_map(|seed| Some((seed, simulate::run(scenario(seed)).err()?)));
        let wanted = usize::try_from(FINDS).unwrap();
        let found: Vec<_> = failures.take(wanted).collect();
        assert!(
            found.len() == wanted,
            "{bug:?} is not found often enough: {found:?}"
        );
        let (last, failure) = found.last().unwrap();
        let (whole, tenth) = ((last + 1) / FINDS, (last + 1) * 10 / FINDS % 10);
        let sentence = failure.violation.invariant.sentence();
        println!("{bug:?}: found within {whole}.{tenth} seeds on average, such as: {sentence}");
    }
}
