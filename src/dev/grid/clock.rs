//! Event Grid's time: faster than the real one, and turned forward by hand.
//!
//! Every wait of Event Grid's and every age is kept and awaited on this clock: waits before another attempt, the life of an
//! event, the hold of a dead letter, probation. What is the function's own time (30 s to answer, the pace it asked for) is
//! real. The clock goes on from where it was when the grid starts again, and stands still in between.

mod turning;

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

pub(super) use self::turning::routes;
use super::{speed::Speed, store::KeptClock};
use crate::dev::ambient::now;

/// A moment of Event Grid's time, in whole milliseconds. It is no time of the real world: two of them can be compared, and
/// say how far they are apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(u64);

impl Moment {
    /// The moment with this number, as the database keeps it.
    pub(super) fn numbered(number: i64) -> Self {
        Self(number.try_into().unwrap_or_default())
    }

    /// Its number.
    pub(super) fn number(self) -> i64 {
        self.0.try_into().unwrap_or(i64::MAX)
    }

    /// The moment so much later.
    pub(super) fn after(self, wait: Duration) -> Self {
        let wait = wait.as_millis().try_into().unwrap_or(u64::MAX);
        Self(self.0.saturating_add(wait))
    }

    /// How much later it is than `earlier`.
    pub(super) fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// The clock of one grid.
#[derive(Debug)]
pub(super) struct Clock {
    /// Whoever waits is woken when this changes.
    hands: watch::Sender<Hands>,
}

/// How the clock runs since it was last set.
#[derive(Debug, Clone, Copy)]
struct Hands {
    speed: Speed,
    set_at: Instant,
    set_to: Moment,
    /// How far it was turned by hand, in all.
    turned: Duration,
}

impl Hands {
    fn moment(&self) -> Moment {
        self.set_to.after(self.speed.stretch(self.set_at.elapsed()))
    }

    /// When the clock will show this moment. None if it stands still before.
    fn real(&self, moment: Moment) -> Option<Instant> {
        let wait = self.speed.shorten(moment.since(self.set_to))?;
        self.set_at.checked_add(wait)
    }

    fn set(&mut self, moment: Moment) {
        self.set_at = Instant::now();
        self.set_to = moment;
    }
}

impl Clock {
    /// A clock that goes on from where it was. A new one shows the real time, which older databases are full of.
    pub(super) fn new(speed: Speed, kept: Option<KeptClock>) -> Self {
        let kept = kept.unwrap_or_else(|| KeptClock {
            reading: Moment::numbered(now().timestamp_millis()),
            turned: Duration::ZERO,
        });
        let hands = Hands {
            speed,
            set_at: Instant::now(),
            set_to: kept.reading,
            turned: kept.turned,
        };
        Self {
            hands: watch::Sender::new(hands),
        }
    }

    /// The present moment.
    pub(super) fn now(&self) -> Moment {
        self.hands.borrow().moment()
    }

    /// How fast it runs.
    pub(super) fn speed(&self) -> Speed {
        self.hands.borrow().speed
    }

    /// What must be kept for the next start.
    pub(super) fn reading(&self) -> KeptClock {
        let hands = self.hands.borrow();
        KeptClock {
            reading: hands.moment(),
            turned: hands.turned,
        }
    }

    /// Turns it forward.
    pub(super) fn turn(&self, by: Duration) {
        self.hands.send_modify(|hands| {
            hands.set(hands.moment().after(by));
            hands.turned = hands.turned.saturating_add(by);
        });
    }

    /// Turns it forward to a moment, unless that has passed.
    pub(super) fn turn_to(&self, moment: Moment) {
        self.hands.send_modify(|hands| {
            let present = hands.moment();
            hands.set(present.max(moment));
            hands.turned = hands.turned.saturating_add(moment.since(present));
        });
    }

    /// Lets it run at another speed from now on.
    pub(super) fn run_at(&self, speed: Speed) {
        self.hands.send_modify(|hands| {
            hands.set(hands.moment());
            hands.speed = speed;
        });
    }

    /// Returns once the clock shows this moment or a later one.
    pub(super) async fn reaches(&self, moment: Moment) {
        let mut turned = self.hands.subscribe();
        loop {
            let hands = *turned.borrow_and_update();
            if hands.moment() >= moment {
                return;
            }
            let real = hands.real(moment);
            tokio::select! {
                () = sleep_until(real.unwrap_or_else(Instant::now)), if real.is_some() => {}
                // The clock outlives those who hold it, so this is no error.
                _ = turned.changed() => {}
            }
        }
    }

    /// The real time when the clock shows this moment, unless it is turned. None if it stands still before.
    pub(super) fn real_time(&self, moment: Moment) -> Option<DateTime<Utc>> {
        let hands = *self.hands.borrow();
        let wait = hands.speed.shorten(moment.since(hands.moment()))?;
        now().checked_add_signed(chrono::TimeDelta::from_std(wait).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn clock(speed: f64) -> Clock {
        Clock::new(Speed::new(speed).unwrap(), None)
    }

    /// Long enough for a clock that runs to be seen to run.
    const WHILE: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn it_runs_at_its_speed_and_changes_it_on_the_way() {
        let clock = clock(60_000.0);
        let start = clock.now();
        tokio::time::sleep(WHILE).await;
        clock.run_at(Speed::new(0.0).unwrap());
        let stood_still = clock.now();
        assert!(stood_still.since(start) >= WHILE * 60_000);
        tokio::time::sleep(WHILE).await;
        assert_eq!(clock.now(), stood_still);
        clock.run_at(Speed::new(1_000.0).unwrap());
        tokio::time::sleep(WHILE).await;
        assert!(clock.now().since(stood_still) >= WHILE * 1_000);
        assert_eq!(clock.reading().turned, Duration::ZERO);
    }

    #[tokio::test]
    async fn a_turn_wakes_those_who_wait_for_what_it_passes() {
        let clock = clock(0.0);
        let start = clock.now();
        let (soon, late) = (start.after(HOUR), start.after(HOUR * 2));
        let mut both = std::pin::pin!(async {
            clock.reaches(soon).await;
            let then = clock.now();
            clock.reaches(late).await;
            then
        });
        let none = tokio::time::timeout(WHILE, both.as_mut()).await;
        assert!(none.is_err(), "it stands still");
        clock.turn(HOUR);
        let one = tokio::time::timeout(WHILE, both.as_mut()).await;
        assert!(one.is_err(), "the other waits on");
        clock.turn_to(late);
        assert_eq!(both.await, soon);
        clock.turn_to(soon);
        assert_eq!(clock.now(), late, "it is never turned back");
        assert_eq!(clock.reading().turned, HOUR * 2);
    }

    #[tokio::test]
    async fn it_goes_on_from_where_it_was() {
        let before = clock(0.0);
        before.turn(HOUR);
        tokio::time::sleep(WHILE).await;
        let after = Clock::new(Speed::new(1_000.0).unwrap(), Some(before.reading()));
        assert!(after.now() >= before.now());
        assert_eq!(after.reading().turned, HOUR);
        let later = before.now().after(Duration::from_secs(7));
        after.reaches(later).await;
        assert!(after.now() >= later);
    }

    #[test]
    fn a_moment_is_kept_as_a_number() {
        let moment = Moment::numbered(1_000);
        assert_eq!(moment.after(HOUR).number(), 3_601_000);
        assert_eq!(moment.since(moment.after(HOUR)), Duration::ZERO);
        assert_eq!(Moment::numbered(-1).number(), 0);
        assert_eq!(moment.after(Duration::MAX).number(), i64::MAX);
    }
}
