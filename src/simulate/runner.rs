//! The loop: what is to happen next, until every order has come to its end.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use crate::{
    engine::{Engine, SWEEP_AFTER},
    functions::Function,
    sales::{State, orders::OrderView},
    store::memory::MemoryStore,
};

use super::{
    Failure, Scenario,
    agenda::{DAY, HOUR, MINUTE, Micros},
    bugs::Bug,
    customers::{self, Wish},
    grid::Topic,
    handler,
    invariants::Invariant,
    log::Listener,
    outside::Outside,
    processes::{Done, Processes, Purpose},
    report::Counts,
    store::WatchedStore,
    world::{Next, SharedWorld, VirtualClock},
};

/// How old an order may become.
const OLDEST: Micros = 40 * DAY;

/// The application in the simulated world.
pub(super) struct Runner {
    pub(super) world: SharedWorld,
    engine: Arc<Engine>,
    pub(super) rows: Arc<MemoryStore>,
    pub(super) processes: Processes,
    bug: Option<Bug>,
    /// Whether nothing is to happen any more.
    over: bool,
    /// The sweeps that run, and since when.
    pub(super) sweeps: BTreeMap<u64, Micros>,
    /// Whether a sweep has ended since this was last looked at.
    pub(super) swept: bool,
    /// Orders that have nothing under way, for which the store still owes something.
    pub(super) owing: Vec<u64>,
    /// Orders that have come to their end and may still be seen by a sweep that runs, and when they came to rest.
    pub(super) ended: VecDeque<(Micros, u64)>,
}

impl Runner {
    /// The application in a new world. Orders that have ended are added to `progress`.
    pub(super) fn new(scenario: Scenario, progress: Arc<AtomicU64>) -> Self {
        let catalog = Arc::new(customers::catalog());
        let world = SharedWorld::new(scenario, catalog.clone(), progress);
        let rows = Arc::new(MemoryStore::default());
        let store = WatchedStore {
            world: world.clone(),
            rows: rows.clone(),
            bug: scenario.bug,
        };
        let engine = Engine::new(
            Arc::new(store),
            Arc::new(Topic(world.clone())),
            Arc::new(Outside(world.clone())),
            Arc::new(VirtualClock(world.clone())),
            catalog,
        );
        Self {
            world,
            engine: Arc::new(engine),
            rows,
            processes: Processes::default(),
            bug: scenario.bug,
            over: false,
            sweeps: BTreeMap::new(),
            swept: false,
            owing: Vec::new(),
            ended: VecDeque::new(),
        }
    }

    /// Runs until every order has come to its end, or an invariant is broken.
    pub(super) fn run(mut self) -> Result<Counts, Box<Failure>> {
        let _listening = tracing::subscriber::set_default(Listener(self.world.clone()));
        let scenario = self.world.lock().scenario;
        if scenario.orders > 0 {
            let first = Next::Enter(scenario.first);
            self.world.lock().agenda.at(0, first);
        }
        loop {
            let next = {
                let mut world = self.world.lock();
                if let Some(violation) = world.violation.take() {
                    let trace = std::mem::take(&mut world.trace);
                    return Err(Box::new(Failure {
                        scenario,
                        violation,
                        trace,
                    }));
                }
                world.agenda.next()
            };
            match next {
                Some(next) => self.step(next),
                None if self.over => {
                    let mut world = self.world.lock();
                    world.counts.virtual_time = world.agenda.now();
                    return Ok(world.counts.clone());
                }
                None => {
                    self.over = true;
                    self.check_nothing_left();
                }
            }
            self.settle();
        }
    }

    fn step(&mut self, next: Next) {
        match next {
            Next::Enter(number) => self.world.lock().enter(number),
            Next::Ask(number, wish) => self.ask(number, wish),
            Next::Attempt(letter) => self.attempt(letter),
            Next::AckDeadline(letter, attempt) => {
                let mut world = self.world.lock();
                if world.stop_waiting(letter, attempt) {
                    world.failed(letter);
                }
            }
            Next::Resume(waker, task) => {
                waker.wake();
                self.resume(task);
            }
            Next::Sweep => self.timer(),
            Next::Restart => self.sweep(Duration::ZERO),
            Next::Late(number, effect) => {
                let mut world = self.world.lock();
                // It has been known since it was asked for: nothing is done again.
                world.execute(&effect, true);
                world.end(number);
            }
        }
    }

    fn ask(&mut self, number: u64, wish: Wish) {
        let order = {
            let mut world = self.world.lock();
            world.note(number, || format!("customer: {:?}", wish.kind));
            let account = world.accounts.get(number);
            account.map(|account| account.order.clone())
        };
        let function = Function::named(wish.kind.function());
        let (Some(order), Some(function)) = (order, function) else {
            return;
        };
        let engine = self.engine.clone();
        let case = wish.kind.case(&order);
        let id = order.order_id.to_string();
        let request = async move {
            let reply = engine.request(function, OrderView::OWNER, id, None, case);
            Done::Replied(reply.await)
        };
        self.start(Box::pin(request), Purpose::Ask(wish), Some(number));
    }

    fn attempt(&mut self, letter: u64) {
        let attempt = self.world.lock().attempt(letter);
        let Some((order, event, function, attempt)) = attempt else {
            return;
        };
        let engine = self.engine.clone();
        let bug = self.bug;
        let delivery =
            async move { Done::Delivered(handler::deliver(&engine, function, &event, bug).await) };
        let purpose = Purpose::Deliver { letter, attempt };
        self.start(Box::pin(delivery), purpose, Some(order));
    }

    /// The timer fires, and is set anew as long as there are orders.
    fn timer(&mut self) {
        let mut world = self.world.lock();
        let now = world.agenda.now();
        if world.next_sweep != Some(now) {
            return;
        }
        world.next_sweep = None;
        let oldest = world.accounts.oldest();
        let oldest = oldest.map(|(number, account)| (number, account.entered, account.status));
        let Some((number, entered, status)) = oldest else {
            return;
        };
        let in_time = now < entered + OLDEST;
        world.check(number, Invariant::ComesToAnEnd, in_time, || {
            format!("still {status:?} after {} days", OLDEST / DAY)
        });
        let wait = if now < world.busy_until { MINUTE } else { HOUR };
        world.sweep_at(now + wait);
        drop(world);
        self.sweep(SWEEP_AFTER);
    }

    fn sweep(&mut self, age: Duration) {
        self.world.lock().counts.sweeps += 1;
        let engine = self.engine.clone();
        let sweep = async move {
            let Ok(swept) = engine.sweep(age).await else {
                return Done::Swept { clean: false };
            };
            let reminded = engine.remind().await;
            Done::Swept {
                clean: swept.pending == 0 && reminded.is_ok(),
            }
        };
        self.start(Box::pin(sweep), Purpose::Sweep, None);
    }
}
