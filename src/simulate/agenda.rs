//! What happens when, in virtual time.

use std::{cmp::Ordering, collections::BinaryHeap};

/// Microseconds since the simulation's beginning.
pub(super) type Micros = u64;

/// One millisecond.
pub(super) const MILLISECOND: Micros = 1_000;
/// One second.
pub(super) const SECOND: Micros = 1_000 * MILLISECOND;
/// One minute.
pub(super) const MINUTE: Micros = 60 * SECOND;
/// One hour.
pub(super) const HOUR: Micros = 60 * MINUTE;
/// One day.
pub(super) const DAY: Micros = 24 * HOUR;

/// What is to happen, earliest first; of two things at the same time, the one that was put down first.
#[derive(Debug)]
pub(super) struct Agenda<T> {
    now: Micros,
    entered: u64,
    entries: BinaryHeap<Entry<T>>,
}

#[derive(Debug)]
struct Entry<T> {
    at: Micros,
    number: u64,
    what: T,
}

impl<T> Agenda<T> {
    /// Nothing is to happen.
    pub(super) fn new() -> Self {
        Self {
            now: 0,
            entered: 0,
            entries: BinaryHeap::new(),
        }
    }

    /// The virtual time.
    pub(super) fn now(&self) -> Micros {
        self.now
    }

    /// Something is to happen at that time.
    pub(super) fn at(&mut self, at: Micros, what: T) {
        self.entered += 1;
        self.entries.push(Entry {
            at: at.max(self.now),
            number: self.entered,
            what,
        });
    }

    /// Something is to happen after that time.
    pub(super) fn after(&mut self, delay: Micros, what: T) {
        self.at(self.now + delay, what);
    }

    /// Moves the time on to the next thing to happen.
    pub(super) fn next(&mut self) -> Option<T> {
        let Entry { at, what, .. } = self.entries.pop()?;
        self.now = at;
        Some(what)
    }
}

impl<T> Ord for Entry<T> {
    /// Greatest is what comes first: the heap gives the greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.number).cmp(&(self.at, self.number))
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl<T> Eq for Entry<T> {}

#[cfg(test)]
mod tests {
    use super::Agenda;

    #[test]
    fn what_is_earlier_comes_first_and_ties_keep_their_order() {
        let mut agenda = Agenda::new();
        for (delay, what) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            agenda.after(delay, what);
        }
        let order: String = std::iter::from_fn(|| agenda.next()).collect();
        assert_eq!((order.as_str(), agenda.now()), ("abcd", 5));
    }
}
