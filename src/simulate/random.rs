//! The only source of chance: `SplitMix64` (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).

use std::str::FromStr;

/// How likely something is each time it could happen, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(u32);

/// What is certain, in millionths.
const CERTAIN: u32 = 1_000_000;

impl Rate {
    /// So many percent.
    pub const fn percent(percent: u8) -> Self {
        Self(percent as u32 * (CERTAIN / 100))
    }
}

impl FromStr for Rate {
    type Err = String;

    /// Reads a decimal fraction from 0 to 1 without going through floating point, which would round it.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be a number from 0 to 1, such as 0.05, got {text:?}");
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = fraction.len() <= 6 && fraction.bytes().all(|byte| byte.is_ascii_digit());
        let millionths: u32 = format!("{fraction:0<6}").parse().map_err(|_| wrong())?;
        match whole {
            "0" if digits => Ok(Self(millionths)),
            "1" if digits && millionths == 0 => Ok(Self(CERTAIN)),
            _ => Err(wrong()),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = format!("{}.{:06}", self.0 / CERTAIN, self.0 % CERTAIN);
        formatter.write_str(digits.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A stream of random numbers, the same for the same seed on every machine.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The stream of that number of a seed. Each order has one of its own, so that leaving other orders out changes
    /// as little as possible for it.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut mixed = Self(seed);
        let seed = mixed.next();
        mixed.0 = seed ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self(mixed.next())
    }

    /// The next 64 bits.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `bound` - 1.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        let high = (u128::from(self.next()) * u128::from(bound)) >> 64;
        u64::try_from(high).unwrap_or_default()
    }

    /// A number from `low` to `high` - 1.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).max(1))
    }

    /// A number from `low` to about `high` whose order of magnitude is equally likely: short waits and long ones.
    pub(super) fn spread(&mut self, low: u64, high: u64) -> u64 {
        let octaves = u64::from(high.max(1).ilog2() - low.max(1).ilog2()) + 1;
        let scaled = low.max(1) << self.below(octaves);
        self.between(scaled, 2 * scaled)
    }

    /// Whether something of that rate happens.
    pub(super) fn strikes(&mut self, rate: Rate) -> bool {
        self.below(u64::from(CERTAIN)) < u64::from(rate.0)
    }

    /// Whether something that is so many percent likely happens.
    pub(super) fn percent(&mut self, percent: u8) -> bool {
        self.strikes(Rate::percent(percent))
    }
}

#[cfg(test)]
mod tests {
    use super::{Random, Rate};

    #[test]
    fn a_rate_reads_as_it_is_written() {
        for text in ["0", "0.05", "0.000001", "0.5", "1"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
        for text in ["", "-1", "1.5", "2", "0.0000001", "a", "0.x", "1.+1"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_numbers_are_those_of_the_published_generator() {
        let mut random = Random(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_spread_reaches_both_ends() {
        let mut random = Random::new(1, 2);
        let numbers: Vec<_> = (0..1000).map(|_| random.spread(10, 100_000)).collect();
        assert!(numbers.iter().any(|number| *number < 20));
        assert!(numbers.iter().any(|number| *number > 50_000));
    }
}
