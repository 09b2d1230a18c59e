//! What a simulation came to.

use std::{collections::BTreeMap, fmt};

use crate::sales::status::Status;

use super::{
    agenda::{HOUR, Micros},
    faults::Fault,
};

/// The factor of the Fowler-Noll-Vo hash of 64 bits.
const FNV_PRIME: u64 = 0x0100_0000_01b3;

/// What happened in a simulation. Equal seeds give equal counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Orders that customers wanted.
    pub orders: u64,
    /// Orders by the status that they ended in.
    pub outcomes: BTreeMap<Status, u64>,
    /// Orders that were never placed: no request came through.
    pub never_placed: u64,
    /// Different events that were published.
    pub events: u64,
    /// Events that the topic took, repetitions included.
    pub published: u64,
    /// Attempts to deliver an event.
    pub deliveries: u64,
    /// The most attempts to deliver something that one order took.
    pub most_deliveries: u64,
    /// Decisions that were committed.
    pub decisions: u64,
    /// Runs of the timer function, restarts included.
    pub sweeps: u64,
    /// Letters that became dead letters.
    pub dead_letters: u64,
    /// Events that were kept because they can never succeed.
    pub parked: u64,
    /// Orders whose archive was replayed.
    pub replayed: u64,
    /// Lines that the engine wrote to its log.
    pub log_lines: u64,
    /// Invariants that were checked.
    pub checks: u64,
    /// The most orders that were under way at once.
    pub most_under_way: usize,
    /// How much virtual time passed, in microseconds.
    pub virtual_time: Micros,
    /// Made from every byte that was published, and when: equal for equal runs only.
    pub fingerprint: u64,
    faults: BTreeMap<Fault, u64>,
}

impl Counts {
    pub(super) fn inject(&mut self, fault: Fault) {
        *self.faults.entry(fault).or_default() += 1;
    }

    /// Something happened at some time.
    pub(super) fn mark(&mut self, at: Micros, what: &[u8]) {
        self.mix(at);
        let (words, rest) = what.as_chunks();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.mix(u64::from(*byte));
        }
    }

    /// FNV-1a, by words instead of bytes. The upper half is folded in, since a product's lower bits know only lower ones.
    fn mix(&mut self, word: u64) {
        let product = (self.fingerprint ^ word).wrapping_mul(FNV_PRIME);
        self.fingerprint = product ^ (product >> 32);
    }

    /// How many faults of a class happened.
    pub fn injected(&self, fault: Fault) -> u64 {
        self.faults.get(&fault).copied().unwrap_or_default()
    }

    /// Adds another simulation's counts.
    pub fn add(&mut self, other: &Self) {
        self.orders += other.orders;
        self.never_placed += other.never_placed;
        self.events += other.events;
        self.published += other.published;
        self.deliveries += other.deliveries;
        self.most_deliveries = self.most_deliveries.max(other.most_deliveries);
        self.decisions += other.decisions;
        self.sweeps += other.sweeps;
        self.dead_letters += other.dead_letters;
        self.parked += other.parked;
        self.replayed += other.replayed;
        self.log_lines += other.log_lines;
        self.checks += other.checks;
        self.virtual_time += other.virtual_time;
        self.mark(other.fingerprint, &[]);
        self.most_under_way = self.most_under_way.max(other.most_under_way);
        for (status, count) in &other.outcomes {
            *self.outcomes.entry(*status).or_default() += count;
        }
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, count: u64| writeln!(formatter, "  {name:<20}{count:>14}");
        row("orders", self.orders)?;
        for (status, count) in &self.outcomes {
            row(&format!("  {}", status.as_str()), *count)?;
        }
        row("  neverPlaced", self.never_placed)?;
        row("events", self.events)?;
        row("  published", self.published)?;
        row("deliveries", self.deliveries)?;
        row("  most of an order", self.most_deliveries)?;
        row("  dead letters", self.dead_letters)?;
        row("  parked", self.parked)?;
        row("decisions", self.decisions)?;
        row("sweeps", self.sweeps)?;
        row(
            "most under way",
            u64::try_from(self.most_under_way).unwrap_or(u64::MAX),
        )?;
        row("orders replayed", self.replayed)?;
        row("log lines", self.log_lines)?;
        row("faults", self.faults.values().sum())?;
        for (fault, count) in &self.faults {
            row(&format!("  {}", fault.name()), *count)?;
        }
        row("virtual hours", self.virtual_time / HOUR)?;
        row("invariants checked", self.checks)?;
        let (name, fingerprint) = ("fingerprint", self.fingerprint);
        write!(formatter, "  {name:<18}{fingerprint:>16x}")
    }
}
