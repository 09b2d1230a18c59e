//! Runs the application in the simulated world: one thread, one thing at a time, every await point a chance for
//! something else to happen.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use cloudevents::{AttributesReader, Event};
use futures_util::FutureExt;

use crate::{
    engine::{Delivery, Engine, Reply, SWEEP_AFTER},
    events::OrderId,
    functions::Function,
    sales::{
        State, billing::Billing, inventory::Inventory, orders::OrderView, payment::Payment,
        shipping::Shipping,
    },
    store::{Key, Store, memory::MemoryStore},
};

use super::{
    Failure, Scenario,
    agenda::{DAY, HOUR, MINUTE, Micros, SECOND},
    customers::{self, Wish},
    faults::Fault,
    grid::Topic,
    invariants::Invariant,
    outside::Outside,
    report::Counts,
    store::WatchedStore,
    world::{Next, Running, SharedWorld, VirtualClock},
};

/// How old an order may become.
const OLDEST: Micros = 40 * DAY;

/// How likely the archive of an order that has come to its end is replayed, in percent.
const REPLAYED: u8 = 12;

/// How likely a process that was killed starts again at once and finishes what was left, in percent.
const RESTARTED: u8 = 5;

/// How many processes share what is to be done.
const PROCESSES: u64 = 3;

/// Whose rows an order has.
const OWNERS: [&str; 5] = [
    Billing::OWNER,
    Payment::OWNER,
    Inventory::OWNER,
    Shipping::OWNER,
    OrderView::OWNER,
];

/// Something that runs.
struct Task {
    future: Pin<Box<dyn Future<Output = Done>>>,
    purpose: Purpose,
    running: Running,
    started: Micros,
}

/// What it runs for.
#[derive(Clone, Copy)]
enum Purpose {
    Deliver { letter: u64, attempt: u32 },
    Ask(Wish),
    Sweep,
}

/// What came of it.
enum Done {
    Delivered(Delivery),
    Replied(Reply),
    Swept { clean: bool },
}

/// The application in the simulated world.
pub(super) struct Runner {
    world: SharedWorld,
    engine: Arc<Engine>,
    rows: Arc<MemoryStore>,
    tasks: BTreeMap<u64, Task>,
    started: u64,
    /// The sweeps that run, and since when.
    sweeps: BTreeMap<u64, Micros>,
    /// Whether a sweep has ended since this was last looked at.
    swept: bool,
    /// Orders that have nothing under way, for which the store still owes something.
    owing: Vec<u64>,
    /// Orders that have come to their end and may still be seen by a sweep that runs.
    ended: BTreeSet<u64>,
}

impl Runner {
    /// The application in a new world.
    pub(super) fn new(scenario: Scenario) -> Self {
        let catalog = Arc::new(customers::catalog());
        let world = SharedWorld::new(scenario, catalog.clone());
        let rows = Arc::new(MemoryStore::default());
        let store = WatchedStore {
            world: world.clone(),
            rows: rows.clone(),
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
            tasks: BTreeMap::new(),
            started: 0,
            sweeps: BTreeMap::new(),
            swept: false,
            owing: Vec::new(),
            ended: BTreeSet::new(),
        }
    }

    /// Runs until every order has come to its end, or an invariant is broken.
    pub(super) fn run(mut self) -> Result<Counts, Box<Failure>> {
        let scenario = self.world.lock().scenario;
        if scenario.orders > 0 {
            let first = Next::Enter(scenario.first);
            self.world.lock().agenda.at(0, first);
        }
        loop {
            let next = self.world.lock().agenda.next();
            let Some(next) = next else { break };
            self.step(next);
            self.settle();
            let mut world = self.world.lock();
            if let Some(violation) = world.violation.take() {
                return Err(Box::new(Failure {
                    scenario,
                    violation,
                    trace: std::mem::take(&mut world.trace),
                }));
            }
        }
        let mut world = self.world.lock();
        world.counts.virtual_time = world.agenda.now();
        Ok(world.counts.clone())
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
                world.execute(&effect);
                world.end(number);
            }
        }
    }

    fn ask(&mut self, number: u64, wish: Wish) {
        let order = {
            let mut world = self.world.lock();
            world.note(number, || format!("customer: {:?}", wish.kind));
            world
                .accounts
                .get(&number)
                .map(|account| account.order.clone())
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
        let delivery = async move { Done::Delivered(deliver(&engine, function, &event).await) };
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
        let oldest = world.accounts.first_key_value();
        if let Some((number, account)) = oldest {
            let (number, entered) = (*number, account.entered);
            let status = account.status;
            world.check(
                number,
                Invariant::ComesToAnEnd,
                now < entered + OLDEST,
                || format!("still {status:?} after {} days", OLDEST / DAY),
            );
        }
        if world.accounts.is_empty() {
            return;
        }
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

    fn start(
        &mut self,
        future: Pin<Box<dyn Future<Output = Done>>>,
        purpose: Purpose,
        order: Option<u64>,
    ) {
        self.started += 1;
        let mut world = self.world.lock();
        let running = Running {
            task: self.started,
            order,
            clock_error: world.clock_error(order),
        };
        if let (Some(order), Purpose::Deliver { .. }) = (order, purpose) {
            world.begin(order);
        }
        let started = world.agenda.now();
        if order.is_none() {
            self.sweeps.insert(self.started, started);
        }
        drop(world);
        let task = Task {
            future,
            purpose,
            running,
            started,
        };
        self.poll(task);
    }

    /// Something that waited goes on, unless its process is killed.
    fn resume(&mut self, number: u64) {
        let Some(task) = self.tasks.remove(&number) else {
            return;
        };
        let order = task.running.order;
        if self.world.lock().strikes_order(Fault::Crash, order) {
            self.crash(task);
        } else {
            self.poll(task);
        }
    }

    fn poll(&mut self, mut task: Task) {
        self.world.lock().running = task.running;
        let mut context = Context::from_waker(Waker::noop());
        match task.future.as_mut().poll(&mut context) {
            Poll::Pending => {
                self.tasks.insert(task.running.task, task);
            }
            Poll::Ready(done) => self.finish(&task, done),
        }
    }

    /// A process is killed, with everything that runs in it. The host notices at once, and another process takes over.
    fn crash(&mut self, task: Task) {
        let process = |number: u64| number % PROCESSES;
        let killed = process(task.running.task);
        let tasks = std::mem::take(&mut self.tasks).into_iter();
        let (others, spared): (BTreeMap<_, _>, _) =
            tasks.partition(|(number, _)| process(*number) == killed);
        self.tasks = spared;
        let mut world = self.world.lock();
        if world.random(task.running.order).percent(RESTARTED) {
            let delay = world.random(task.running.order).between(SECOND, 3 * SECOND);
            world.agenda.after(delay, Next::Restart);
        }
        drop(world);
        self.abandon(task);
        for other in others.into_values() {
            self.abandon(other);
        }
    }

    /// What runs stops where it is.
    fn abandon(&mut self, task: Task) {
        let Task {
            future,
            purpose,
            running,
            ..
        } = task;
        drop(future);
        let mut world = self.world.lock();
        world.stalls.remove(&running.task);
        let Some(order) = running.order else {
            world.sweep_next_minute();
            self.sweeps.remove(&running.task);
            self.swept = true;
            return;
        };
        world.note(order, || "  the process is killed".to_owned());
        match purpose {
            Purpose::Deliver { letter, attempt } => {
                if world.stop_waiting(letter, attempt) {
                    world.failed(letter);
                }
            }
            Purpose::Ask(wish) => world.unanswered(order, wish),
            Purpose::Sweep => {}
        }
        world.end(order);
    }

    fn finish(&mut self, task: &Task, done: Done) {
        let mut world = self.world.lock();
        let stalled = world.stalls.remove(&task.running.task).unwrap_or_default();
        let elapsed = world.agenda.now() - task.started;
        let Some(order) = task.running.order else {
            if let Done::Swept { clean: false } = done {
                world.sweep_next_minute();
            }
            self.sweeps.remove(&task.running.task);
            self.swept = true;
            return;
        };
        match (task.purpose, done) {
            (Purpose::Deliver { letter, attempt }, Done::Delivered(delivery)) => {
                world.check_budget(order, elapsed.saturating_sub(stalled));
                drop(world);
                self.answered(order, letter, attempt, &delivery);
                world = self.world.lock();
            }
            (Purpose::Ask(wish), Done::Replied(reply)) => {
                world.note(order, || format!("  replied {reply:?}"));
                if matches!(reply, Reply::Unavailable(_)) {
                    world.unanswered(order, wish);
                }
            }
            _ => {}
        }
        world.end(order);
    }

    fn answered(&self, order: u64, letter: u64, attempt: u32, delivery: &Delivery) {
        let mut world = self.world.lock();
        world.note(order, || format!("  answer {delivery:?}"));
        let again = matches!(delivery, Delivery::TryAgain(_));
        let refused = matches!(delivery, Delivery::Rejected(_));
        let sent = world
            .letters
            .get(&letter)
            .map(|letter| (letter.damaged, key(letter.function, &letter.event)));
        if let Some((damaged, key)) = sent
            && !again
        {
            world.check(order, Invariant::PoisonRefused, damaged == refused, || {
                format!("{} answers {delivery:?}", key.function)
            });
            if !damaged {
                world.check_acknowledged(order, &key);
            }
        }
        if world.strikes_order(Fault::AnswerLost, Some(order))
            || !world.stop_waiting(letter, attempt)
        {
            return;
        }
        if again {
            world.failed(letter);
        } else {
            world.arrived(letter);
        }
    }

    /// Looks after orders that have come to rest.
    fn settle(&mut self) {
        let mut resting = std::mem::take(&mut self.world.lock().resting);
        if std::mem::take(&mut self.swept) {
            resting.append(&mut self.owing);
        }
        for number in resting {
            self.rest(number);
        }
        if !self.ended.is_empty() {
            self.forget();
        }
    }

    /// An order has nothing under way. Unless the store owes something for it, it must have come to its end.
    fn rest(&mut self, number: u64) {
        let mut world = self.world.lock();
        let now = world.agenda.now();
        let Some(account) = world.accounts.get_mut(&number) else {
            return;
        };
        if account.under_way > 0 {
            return;
        }
        if !self.rows.is_done_with(account.order.order_id) {
            self.owing.push(number);
            return;
        }
        let snapshot = account.snapshot(self.rows_of(account.order.order_id));
        account.rested = now;
        let before = account.at_rest.take();
        let replays = before.is_none() && !account.replayed && account.random.percent(REPLAYED);
        account.replayed = true;
        account.at_rest = replays.then(|| snapshot.clone());
        world.check_rest(number);
        if let Some(before) = before {
            world.check_replay(number, &before, &snapshot);
        }
        if replays {
            world.replay(number);
        } else {
            self.ended.insert(number);
        }
    }

    fn rows_of(&self, order_id: OrderId) -> Vec<Option<Vec<u8>>> {
        let row = |owner: &&'static str| self.rows.row(owner, order_id).now_or_never()?.ok()?;
        OWNERS.iter().map(row).collect()
    }

    /// Lets go of orders that have come to their end, unless a sweep may still be at them.
    fn forget(&mut self) {
        let mut world = self.world.lock();
        let oldest_sweep = self.sweeps.values().min().copied();
        self.ended.retain(|number| {
            let Some(account) = world.accounts.get(number) else {
                return false;
            };
            if account.under_way > 0 {
                // A sweep had something for it after all; it comes to rest again.
                return false;
            }
            if oldest_sweep.is_some_and(|sweep| sweep <= account.rested) {
                return true;
            }
            self.rows.forget(account.order.order_id);
            world.leave(*number);
            false
        });
    }
}

fn key(function: &Function, event: &Event) -> Key {
    Key {
        function: function.name.to_owned(),
        source: event.source().clone(),
        id: event.id().to_owned(),
    }
}

/// Delivers an event as the handler does: what can never succeed is kept, and acknowledged.
async fn deliver(engine: &Engine, function: &'static Function, event: &Event) -> Delivery {
    let delivery = engine.deliver(function, event).await;
    let Delivery::Rejected(reason) = &delivery else {
        return delivery;
    };
    match engine.park(function, Some(event), &[], reason).await {
        Ok(()) => delivery,
        Err(error) => Delivery::TryAgain(error.to_string()),
    }
}
