//! The simulated world: virtual time, chance, what truly happened to each order, and what is under way.

use std::{
    collections::{BTreeMap, HashMap},
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use chrono::{DateTime, Utc};

use crate::{
    engine::Clock,
    sales::{Catalog, Effect},
};

use super::{
    Scenario,
    account::Accounts,
    agenda::{Agenda, DAY, MINUTE, Micros, SECOND},
    bugs::Bug,
    customers::Wish,
    faults::{Fault, Faults},
    grid::Letter,
    invariants::{Invariant, Violation},
    random::Random,
    report::Counts,
};

/// 2026-01-01T00:00:00Z, when every simulation begins, in microseconds since 1970.
const BEGINNING: i64 = 1_767_225_600_000_000;

/// How old an order must be for the faults to leave it alone: from then on it must come to an end.
const CALM_AFTER: Micros = 20 * DAY;

/// The largest error of a machine's clock.
const CLOCK_ERROR: Micros = 5 * SECOND;

/// What is to happen at some time.
#[derive(Debug)]
pub(super) enum Next {
    /// An order enters the world.
    Enter(u64),
    /// A customer asks for something.
    Ask(u64, Wish),
    /// Event Grid tries to deliver a letter.
    Attempt(u64),
    /// Event Grid stops waiting for the answer to an attempt.
    AckDeadline(u64, u32),
    /// Something that runs goes on: whom to wake, and what to poll.
    Resume(Waker, u64),
    /// The timer fires.
    Sweep,
    /// A process that was killed has started again.
    Restart,
    /// A call whose caller gave up takes effect.
    Late(u64, Box<Effect>),
}

/// What belongs to the piece of work that runs.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Running {
    /// Its number.
    pub(super) task: u64,
    /// The order that it is about; a sweep has none.
    pub(super) order: Option<u64>,
    /// By how much its machine's clock is wrong, in microseconds.
    pub(super) clock_error: i64,
}

/// The simulated world.
pub(super) struct World {
    pub(super) agenda: Agenda<Next>,
    pub(super) scenario: Scenario,
    pub(super) catalog: Arc<Catalog>,
    /// What truly happened to each order that is still under way.
    pub(super) accounts: Accounts,
    /// What Event Grid has to deliver.
    pub(super) letters: HashMap<u64, Letter>,
    pub(super) letters_sent: u64,
    pub(super) running: Running,
    /// For how long each running piece of work was held up by a stalled store.
    pub(super) stalls: BTreeMap<u64, Micros>,
    /// Orders with nothing under way.
    pub(super) resting: Vec<u64>,
    /// When the timer fires next.
    pub(super) next_sweep: Option<Micros>,
    /// Until when there is something for the timer to do every minute.
    pub(super) busy_until: Micros,
    pub(super) counts: Counts,
    pub(super) violation: Option<Violation>,
    /// What happened to the order that is watched.
    pub(super) trace: Vec<(Micros, String)>,
    /// How many orders have ended, for whoever watches.
    progress: Arc<AtomicU64>,
    /// The chance of what belongs to no order.
    random: Random,
}

impl World {
    fn new(scenario: Scenario, catalog: Arc<Catalog>, progress: Arc<AtomicU64>) -> Self {
        Self {
            agenda: Agenda::new(),
            scenario,
            catalog,
            accounts: Accounts::default(),
            letters: HashMap::new(),
            letters_sent: 0,
            running: Running::default(),
            stalls: BTreeMap::new(),
            resting: Vec::new(),
            next_sweep: None,
            busy_until: 0,
            counts: Counts::default(),
            violation: None,
            trace: Vec::new(),
            progress,
            random: Random::new(scenario.seed, u64::MAX),
        }
    }

    /// The chance of an order, or that of the world while a sweep runs.
    pub(super) fn random(&mut self, order: Option<u64>) -> &mut Random {
        match order.and_then(|number| self.accounts.get_mut(number)) {
            Some(account) => &mut account.random,
            None => &mut self.random,
        }
    }

    /// Whether a fault of that class happens now to what runs.
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        self.strikes_order(fault, self.running.order)
    }

    /// Whether a fault of that class happens now to an order.
    pub(super) fn strikes_order(&mut self, fault: Fault, order: Option<u64>) -> bool {
        let faults: Faults = self.scenario.faults;
        let random = self.random(order);
        if !faults.strike(fault, random) || order.is_some_and(|order| self.is_calm(order)) {
            return false;
        }
        self.counts.inject(fault);
        if let Some(order) = order {
            self.note(order, || format!("  fault {}", fault.name()));
        }
        true
    }

    /// Whether the faults have stopped for an order.
    fn is_calm(&self, order: u64) -> bool {
        let entered = self.accounts.get(order).map(|account| account.entered);
        entered.is_some_and(|entered| self.agenda.now() > entered + CALM_AFTER)
    }

    /// A wait of what runs.
    pub(super) fn latency(&mut self, low: Micros, high: Micros) -> Micros {
        let order = self.running.order;
        self.random(order).between(low, high)
    }

    /// Writes down what happened to an order, if that order is watched.
    pub(super) fn note(&mut self, order: u64, text: impl FnOnce() -> String) {
        if self.scenario.watch == Some(order) {
            self.trace.push((self.agenda.now(), text()));
        }
    }

    /// Checks an invariant; the first one that is broken stands.
    pub(super) fn check(
        &mut self,
        order: u64,
        invariant: Invariant,
        holds: bool,
        detail: impl FnOnce() -> String,
    ) {
        self.counts.checks += 1;
        if !holds && self.violation.is_none() {
            let violation = Violation {
                seed: self.scenario.seed,
                order,
                invariant,
                detail: detail(),
            };
            self.note(order, || format!("  BROKEN {}", violation.detail));
            self.violation = Some(violation);
        }
    }

    /// Something about an order is under way.
    pub(super) fn begin(&mut self, order: u64) {
        if let Some(account) = self.accounts.get_mut(order) {
            account.under_way += 1;
        }
    }

    /// It is not any more. An order without anything under way may have come to its end.
    pub(super) fn end(&mut self, order: u64) {
        if let Some(account) = self.accounts.get_mut(order) {
            account.under_way -= 1;
            if account.under_way == 0 {
                self.resting.push(order);
            }
        }
    }

    /// An order has come to its end.
    pub(super) fn leave(&mut self, order: u64) {
        self.progress.fetch_add(1, Ordering::Relaxed);
        self.counts.most_under_way = self.counts.most_under_way.max(self.accounts.len());
        match self.accounts.remove(order).map(|account| account.status) {
            Some(Some(status)) => *self.counts.outcomes.entry(status).or_default() += 1,
            Some(None) => self.counts.never_placed += 1,
            None => {}
        }
    }

    /// There is something for the timer to do in the next minutes.
    pub(super) fn wake_sweep(&mut self) {
        self.busy_until = self.agenda.now() + 3 * MINUTE;
        self.sweep_next_minute();
    }

    /// The timer fires on the next full minute.
    pub(super) fn sweep_next_minute(&mut self) {
        let next_minute = (self.agenda.now() / MINUTE + 1) * MINUTE;
        self.sweep_at(next_minute);
    }

    /// The timer fires at that time, or earlier if it was to.
    pub(super) fn sweep_at(&mut self, at: Micros) {
        if self.next_sweep.is_none_or(|next| next > at) {
            self.next_sweep = Some(at);
            self.agenda.at(at, Next::Sweep);
        }
    }

    /// The bug that the application has been given, if this is it.
    pub(super) fn has(&self, bug: Bug) -> bool {
        self.scenario.bug == Some(bug)
    }

    /// By how much the clock of a machine is wrong.
    pub(super) fn clock_error(&mut self, order: Option<u64>) -> i64 {
        if !self.strikes_order(Fault::ClockSkew, order) {
            return 0;
        }
        let error = self.random(order).below(2 * CLOCK_ERROR);
        i64::try_from(error).unwrap_or_default() - i64::try_from(CLOCK_ERROR).unwrap_or_default()
    }
}

/// The world, as the ports and the runner share it.
#[derive(Clone)]
pub(super) struct SharedWorld(Arc<Mutex<World>>);

impl SharedWorld {
    /// A world in which nothing has happened yet.
    pub(super) fn new(scenario: Scenario, catalog: Arc<Catalog>, progress: Arc<AtomicU64>) -> Self {
        let world = World::new(scenario, catalog, progress);
        Self(Arc::new(Mutex::new(world)))
    }

    /// The world. There is one thread; nothing keeps the guard across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits in virtual time.
    pub(super) fn pause(&self, delay: Micros) -> Pause<'_> {
        Pause {
            world: self,
            delay,
            until: None,
        }
    }

    /// Waits for a random time between two bounds.
    pub(super) fn pause_between(&self, low: Micros, high: Micros) -> Pause<'_> {
        let delay = self.lock().latency(low, high);
        self.pause(delay)
    }
}

/// A wait in virtual time.
pub(super) struct Pause<'a> {
    world: &'a SharedWorld,
    delay: Micros,
    until: Option<Micros>,
}

impl Future for Pause<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut world = self.world.lock();
        if let Some(until) = self.until {
            // What runs may wait for several things at once, and be polled for another one.
            return if world.agenda.now() < until {
                Poll::Pending
            } else {
                Poll::Ready(())
            };
        }
        let until = world.agenda.now() + self.delay;
        let next = Next::Resume(context.waker().clone(), world.running.task);
        world.agenda.at(until, next);
        drop(world);
        self.until = Some(until);
        Poll::Pending
    }
}

/// The clock of the machine that runs.
pub(super) struct VirtualClock(pub(super) SharedWorld);

impl Clock for VirtualClock {
    fn now(&self) -> DateTime<Utc> {
        let world = self.0.lock();
        let elapsed = i64::try_from(world.agenda.now()).unwrap_or(i64::MAX - BEGINNING);
        DateTime::from_timestamp_micros(BEGINNING + elapsed + world.running.clock_error)
            .unwrap_or_default()
    }
}
