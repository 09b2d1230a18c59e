//! How fast Event Grid's time passes.

use std::time::Duration;

/// The fastest that Event Grid's time may pass, in times the real one: a day takes 86 ms.
pub const FASTEST: f64 = 1_000_000.0;

/// How many times faster than Azure the local grid lives: at 60, a wait of a minute takes a second and the 24 hours of an
/// event's life take 24 minutes. At 0 its time stands still. The 30 seconds in which a function must answer are never shortened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in super::super) struct Speed(f64);

impl Speed {
    /// Takes a number from 0 to [`FASTEST`].
    pub(in super::super) fn new(times: f64) -> Option<Self> {
        (0.0..=FASTEST).contains(&times).then_some(Self(times))
    }

    /// How many times faster.
    pub(super) fn times(self) -> f64 {
        self.0
    }

    /// How long something that takes `duration` in Azure takes here. None if it never comes, since time stands still.
    pub(super) fn shorten(self, duration: Duration) -> Option<Duration> {
        if duration.is_zero() {
            return Some(duration);
        }
        Duration::try_from_secs_f64(duration.as_secs_f64() / self.0).ok()
    }

    /// How much time of Azure's passes here in `duration`.
    pub(super) fn stretch(self, duration: Duration) -> Duration {
        Duration::try_from_secs_f64(duration.as_secs_f64() * self.0).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_shortens_waits_and_stretches_ages() {
        let speed = Speed::new(60.0).unwrap();
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        assert_eq!(speed.shorten(minute), Some(second));
        assert_eq!(speed.stretch(second), minute);
        let none = Speed::new(0.0).unwrap();
        assert_eq!(none.shorten(minute), None);
        assert_eq!(none.shorten(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(none.stretch(minute), Duration::ZERO);
        for nonsense in [-1.0, 1_000_001.0, f64::NAN, f64::INFINITY] {
            assert!(Speed::new(nonsense).is_none());
        }
    }
}
