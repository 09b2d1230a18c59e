//! The processes: what runs in them, one piece of work at a time, every await point a chance for something else to
//! happen, or for the process to be killed.

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
};

use cloudevents::AttributesReader;

use crate::engine::{Delivery, Reply};

use super::{
    agenda::{Micros, SECOND},
    customers::Wish,
    faults::Fault,
    invariants::Invariant,
    runner::Runner,
    world::{Next, Running},
};

/// How likely a process that was killed starts again at once and finishes what was left, in percent.
const RESTARTED: u8 = 5;

/// What runs, by number.
type Tasks = BTreeMap<u64, Task>;

/// Several processes share what is to be done: whatever runs is in one of them, and dies with it.
#[derive(Default)]
pub(super) struct Processes {
    started: u64,
    first: Tasks,
    second: Tasks,
    third: Tasks,
}

impl Processes {
    /// What runs in the process that has a piece of work.
    fn of(&mut self, task: u64) -> &mut Tasks {
        match task % 3 {
            0 => &mut self.first,
            1 => &mut self.second,
            _ => &mut self.third,
        }
    }
}

/// Something that runs.
struct Task {
    future: Pin<Box<dyn Future<Output = Done>>>,
    purpose: Purpose,
    running: Running,
    started: Micros,
}

/// What it runs for.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Deliver { letter: u64, attempt: u32 },
    Ask(Wish),
    Sweep,
}

/// What came of it.
pub(super) enum Done {
    Delivered(Delivery),
    Replied(Reply),
    Swept { clean: bool },
}

impl Runner {
    /// Something begins to run.
    pub(super) fn start(
        &mut self,
        future: Pin<Box<dyn Future<Output = Done>>>,
        purpose: Purpose,
        order: Option<u64>,
    ) {
        self.processes.started += 1;
        let number = self.processes.started;
        let mut world = self.world.lock();
        let running = Running {
            task: number,
            order,
            clock_error: world.clock_error(order),
        };
        if let (Some(order), Purpose::Deliver { .. }) = (order, purpose) {
            world.begin(order);
        }
        let started = world.agenda.now();
        if order.is_none() {
            self.sweeps.insert(number, started);
        }
        drop(world);
        self.poll(Task {
            future,
            purpose,
            running,
            started,
        });
    }

    /// Something that waited goes on, unless its process is killed.
    pub(super) fn resume(&mut self, number: u64) {
        let Some(task) = self.processes.of(number).remove(&number) else {
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
                let number = task.running.task;
                self.processes.of(number).insert(number, task);
            }
            Poll::Ready(done) => self.finish(&task, done),
        }
    }

    /// A process is killed, with everything that runs in it. The host notices at once, and another process takes over.
    fn crash(&mut self, task: Task) {
        let others = std::mem::take(self.processes.of(task.running.task));
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
                if let Reply::Unavailable(reason) = &reply {
                    world.check_discreet(order, "a reply", reason);
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
        let again = match delivery {
            Delivery::TryAgain(reason) => {
                world.check_discreet(order, "an answer", reason);
                true
            }
            Delivery::Rejected(invalid) => {
                world.check_discreet(order, "an answer", &invalid.to_string());
                false
            }
            Delivery::Accepted | Delivery::Duplicate | Delivery::Ignored(_) => false,
        };
        let sent = world.letters.get(&letter);
        let sent = sent.map(|letter| (letter.damaged, letter.function.name, letter.event.clone()));
        if let Some((damaged, function, event)) = sent
            && !again
        {
            let refused = matches!(delivery, Delivery::Rejected(_));
            let kept = !refused || world.is_parked(order, function, event.id());
            let right = damaged == refused && kept;
            world.check(order, Invariant::PoisonRefused, right, || {
                format!("{function} answers {delivery:?}, kept {kept}")
            });
            if !damaged {
                world.check_acknowledged(order, function, &event);
            }
        }
        // The host answers for all events of a delivery together, with the worst of their answers.
        let again = again || world.strikes_order(Fault::BatchFailed, Some(order));
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
}
