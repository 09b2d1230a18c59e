//! The only source of chance: `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).

use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// A stream of random numbers, the same for the same seed.
pub struct Random(u64);

impl Random {
    /// The stream of that number of a seed.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(seed);
        let seed = mixed.next();
        mixed.0 = seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self(mixed.next())
    }

    /// A seed that nobody has seen, short enough to be typed.
    pub fn seed() -> u64 {
        RandomState::new().hash_one(0) % 1_000_000
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below this one.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// Whether something comes about that so many percent are in favour of.
    pub fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// A time between these, in milliseconds.
    pub fn time(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from))
    }

    /// One of these, by its weight.
    pub fn one_of<T: Copy>(&mut self, weighted: &[(u64, T)]) -> T {
        let total = weighted.iter().map(|(weight, _)| weight).sum();
        let mut left = self.below(total);
        for (weight, choice) in weighted {
            if left < *weight {
                return *choice;
            }
            left -= weight;
        }
        unreachable!("the weights add up to their total")
    }
}
