//! Everything that can happen to one order: a bounded, exhaustive search over the services' own functions. Events are
//! delivered in any order and again, effects come to any outcome, a cancellation may come at any moment.
//!
//! The functions are called through the registry as the engine calls them, on rows as the store keeps them. No store,
//! no clock and no network are involved, so that every state can be visited.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::LazyLock,
};

use chrono::{DateTime, Duration, Utc};
use orderflow::{
    events::{
        CancelRequester, Cause, Order, OrderCancelRequested, OrderPlaced, Outgoing, Payload,
        ReasonCode, StockReserved, compose, samples, short_name,
    },
    functions::{FUNCTIONS, Function, Trigger, audit::OBSERVER, catalogue, rule::Case},
    sales::{
        Catalog, Context, Decision, Effect, Outcome, Verdict, orders::OrderView,
        verdict::SharedRows,
    },
    store::Loaded,
};
use uuid::Uuid;

/// The services whose states make up a state of the search: all but one. What the orders service knows is a function of
/// the set of events (the tests of convergence prove it), so that it needs no state here.
static SERVICES: LazyLock<[&'static str; COUNT]> = LazyLock::new(|| {
    let others = FUNCTIONS
        .iter()
        .filter(|function| !function.rules().is_empty() && function.name != OBSERVER);
    let names: Vec<_> = others.map(|function| function.name).collect();
    names.try_into().unwrap()
});

/// How many services there are besides orders.
const COUNT: usize = {
    let (mut services, mut next) = (0, 0);
    while next < FUNCTIONS.len() {
        if matches!(FUNCTIONS[next].trigger, Trigger::EventGrid { .. }) {
            services += 1;
        }
        next += 1;
    }
    services - 1
};

pub static CATALOG: LazyLock<Catalog> =
    LazyLock::new(|| Catalog::from_json(Catalog::DEVELOPMENT).unwrap());

/// A set of small numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
struct Set(u64);

impl Set {
    fn with(self, number: usize) -> Self {
        assert!(
            number < 64,
            "more kinds of things than the search can count"
        );
        Self(self.0 | 1 << number)
    }

    fn without(self, number: usize) -> Self {
        Self(self.0 & !(1 << number))
    }

    fn has(self, number: usize) -> bool {
        self.0 & 1 << number != 0
    }

    fn iter(self) -> impl Iterator<Item = usize> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let number = rest.trailing_zeros();
            rest &= rest.checked_sub(1)?;
            usize::try_from(number).ok()
        })
    }
}

/// Things by number, each of them once.
struct Numbered<T>(Vec<T>);

impl<T: PartialEq> Numbered<T> {
    fn number(&mut self, thing: T) -> usize {
        let known = self.0.iter().position(|known| *known == thing);
        known.unwrap_or_else(|| {
            self.0.push(thing);
            self.0.len() - 1
        })
    }
}

/// Where one order and everything around it stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    /// Each service's rows.
    rows: [usize; COUNT],
    /// Each service's inbox.
    inbox: [Set; COUNT],
    /// The events that were published.
    published: Set,
    /// The effects that are intended and have no outcome yet.
    pending: Set,
    /// The outcomes that there were.
    outcomes: Set,
}

/// What can happen next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Input {
    Event(usize),
    Outcome(usize),
    Reminder,
}

/// What a service makes of an input.
#[derive(Debug, Clone)]
struct Step {
    rows: usize,
    published: Vec<usize>,
    effect: Option<usize>,
}

/// The search over what can happen to one order.
pub struct Search {
    events: Numbered<Outgoing>,
    /// Effects, with the service that performs them.
    effects: Numbered<(usize, Effect)>,
    /// Outcomes, with the number of their effect.
    outcomes: Numbered<(usize, Outcome)>,
    rows: Numbered<(Option<Vec<u8>>, SharedRows)>,
    steps: HashMap<(usize, usize, Input), Step>,
    /// The id of each event, and who takes it.
    ids: Vec<Uuid>,
    subscribed: Vec<[bool; COUNT]>,
    /// An event type and a service that it never reaches.
    pub lost: Option<(&'static str, &'static str)>,
}

/// A final state of the search.
pub struct Final {
    /// The events that were published.
    pub events: Vec<Outgoing>,
    /// The outcomes that the effects had.
    pub outcomes: Vec<Outcome>,
    /// Each service's rows.
    pub rows: Vec<(Option<Vec<u8>>, SharedRows)>,
}

impl Final {
    /// The names of the events that were published.
    pub fn names(&self) -> Vec<&'static str> {
        let names = self.events.iter().map(|event| short_name(event.event_type));
        names.collect()
    }

    /// What the orders service knows then.
    pub fn view(&self) -> OrderView {
        view_of(&self.events.iter().collect::<Vec<_>>()).0
    }
}

/// What the search found.
pub struct Found {
    /// How many states it visited.
    pub states: usize,
    /// The sets of events that can be published, whether or not everything has been delivered.
    pub sets: Vec<Vec<Outgoing>>,
    /// The states in which nothing is left to happen.
    pub finals: Vec<Final>,
}

fn function(name: &str) -> &'static Function {
    Function::named(name).unwrap()
}

/// An event, for a function to decide, and when it happened: that is told by its type, so that a search has finitely
/// many events.
fn delivery(function: &'static Function, outgoing: &Outgoing) -> (Box<dyn Case>, DateTime<Utc>) {
    let place = catalogue().position(|known| known.name == outgoing.event_type);
    let seconds = i64::try_from(place.unwrap()).unwrap();
    let cause = Cause {
        id: None,
        traceparent: None,
        tracestate: None,
        time: samples::time() + Duration::seconds(seconds),
    };
    let event = compose(outgoing.clone(), &cause, cause.time);
    let rule = function.rule(outgoing.event_type).unwrap();
    (rule.read(&event).unwrap(), cause.time)
}

impl Search {
    pub fn new() -> Self {
        Self {
            events: Numbered(Vec::new()),
            effects: Numbered(Vec::new()),
            outcomes: Numbered(Vec::new()),
            rows: Numbered(vec![(None, SharedRows::new())]),
            steps: HashMap::new(),
            ids: Vec::new(),
            subscribed: Vec::new(),
            lost: None,
        }
    }

    fn event(&mut self, outgoing: Outgoing) -> usize {
        let takes = SERVICES.map(|name| {
            let mut types = function(name).event_types();
            let lost = Some((short_name(outgoing.event_type), name)) == self.lost;
            types.any(|taken| taken == outgoing.event_type) && !lost
        });
        let id = outgoing.id();
        let number = self.events.number(outgoing);
        if number == self.subscribed.len() {
            self.subscribed.push(takes);
            self.ids.push(id);
        }
        number
    }

    /// Everything that can follow from these events.
    pub fn run(&mut self, first: &[Outgoing]) -> Found {
        let mut published = Set::default();
        for outgoing in first {
            published = published.with(self.event(outgoing.clone()));
        }
        let start = State {
            rows: [0; COUNT],
            inbox: [Set::default(); COUNT],
            published,
            pending: Set::default(),
            outcomes: Set::default(),
        };
        let (mut seen, mut open) = (HashSet::from([start]), vec![start]);
        let (mut sets, mut finals) = (BTreeSet::new(), Vec::new());
        while let Some(state) = open.pop() {
            self.check(&state);
            sets.insert(state.published);
            let next = self.next(&state);
            if next.is_empty() {
                finals.push(self.final_state(&state));
            }
            open.extend(next.into_iter().filter(|next| seen.insert(*next)));
        }
        let events = |set: &Set| {
            set.iter()
                .map(|event| self.events.0[event].clone())
                .collect()
        };
        Found {
            states: seen.len(),
            sets: sets.iter().map(events).collect(),
            finals,
        }
    }

    /// Every state that may follow.
    fn next(&mut self, state: &State) -> Vec<State> {
        let mut next = Vec::new();
        for service in 0..COUNT {
            for event in state.published.iter() {
                if !self.subscribed[event][service] {
                    continue;
                }
                let step = self.step(service, state.rows[service], Input::Event(event));
                if state.inbox[service].has(event) {
                    self.check_again(state, &step);
                } else {
                    let mut after = self.after(state, service, &step);
                    after.inbox[service] = after.inbox[service].with(event);
                    next.push(after);
                }
            }
        }
        for effect in state.pending.iter() {
            let service = self.effects.0[effect].0;
            for outcome in possible(&self.effects.0[effect].1) {
                let outcome = self.outcomes.number((effect, outcome));
                let step = self.step(service, state.rows[service], Input::Outcome(outcome));
                let settled = State {
                    pending: state.pending.without(effect),
                    outcomes: state.outcomes.with(outcome),
                    ..*state
                };
                next.push(self.after(&settled, service, &step));
            }
        }
        for (service, name) in SERVICES.iter().enumerate() {
            if function(name).remind().is_some() {
                let step = self.step(service, state.rows[service], Input::Reminder);
                let reminded = self.after(state, service, &step);
                next.extend((reminded != *state).then_some(reminded));
            }
        }
        next
    }

    fn after(&self, state: &State, service: usize, step: &Step) -> State {
        let mut after = *state;
        after.rows[service] = step.rows;
        for event in &step.published {
            let id = self.ids[*event];
            assert!(
                !state.published.iter().any(|known| self.ids[known] == id),
                "published twice: {:?} after {:?}",
                self.events.0[*event],
                self.names(state.published)
            );
            after.published = after.published.with(*event);
        }
        if let Some(effect) = step.effect {
            after.pending = after.pending.with(effect);
        }
        after
    }

    /// What a service makes of an input: the same every time, so it is computed once.
    fn step(&mut self, service: usize, rows: usize, input: Input) -> Step {
        if let Some(step) = self.steps.get(&(service, rows, input)) {
            return step.clone();
        }
        let function = function(SERVICES[service]);
        let (own, shared) = self.rows.0[rows].clone();
        let (subject, time) = match input {
            Input::Event(event) => delivery(function, &self.events.0[event]),
            Input::Outcome(number) => {
                let (effect, outcome) = self.outcomes.0[number].clone();
                let (_, effect) = self.effects.0[effect].clone();
                let settle = function.settle().unwrap();
                (
                    settle.read(samples::ORDER_ID, effect, outcome),
                    samples::time(),
                )
            }
            Input::Reminder => {
                let remind = function.remind().unwrap();
                let late = samples::time() + Duration::days(365);
                (remind.read(samples::ORDER_ID), late)
            }
        };
        let context = Context {
            catalog: &CATALOG,
            time,
            event_id: "",
        };
        let needed = subject.shared_rows(own.as_deref()).unwrap();
        let mut loaded = Loaded {
            own,
            shared: shared.clone(),
        };
        loaded.shared.retain(|key, _| needed.contains(key));
        if input == Input::Reminder {
            let early = samples::time() - Duration::days(1);
            let context = Context {
                time: early,
                ..context
            };
            let looked_at = subject.decide(&context, &loaded).unwrap();
            assert!(matches!(looked_at, Verdict::Ignore(_)), "before it is due");
        }
        let step = match subject.decide(&context, &loaded).unwrap() {
            Verdict::Accept(decision) => {
                // Or the sweep would find the order due for ever.
                let moved = decision.state.due.is_none_or(|due| due > time);
                assert!(
                    moved || input != Input::Reminder,
                    "{} stays due",
                    function.name
                );
                self.accepted(service, shared, decision)
            }
            Verdict::Ignore(_) => Step {
                rows,
                published: Vec::new(),
                effect: None,
            },
            Verdict::Defer(reason) | Verdict::Reject(reason) => {
                panic!("{} cannot decide {input:?}: {reason}", function.name)
            }
        };
        self.steps.insert((service, rows, input), step.clone());
        step
    }

    fn accepted(
        &mut self,
        service: usize,
        mut shared: SharedRows,
        decision: Decision<orderflow::functions::rule::Rows>,
    ) -> Step {
        shared.extend(decision.state.shared);
        for outgoing in &decision.events {
            let published = function(SERVICES[service]).publishes();
            let known = |name| published.iter().any(|known| known.name == name);
            assert!(known(outgoing.event_type), "{outgoing:?}");
        }
        Step {
            rows: self.rows.number((Some(decision.state.own), shared)),
            published: decision
                .events
                .into_iter()
                .map(|event| self.event(event))
                .collect(),
            effect: decision
                .effect
                .map(|effect| self.effects.number((service, effect))),
        }
    }

    fn names(&self, events: Set) -> Vec<&'static str> {
        events
            .iter()
            .map(|event| short_name(self.events.0[event].event_type))
            .collect()
    }

    /// An event that comes again, even past the inbox, leads to nothing that has not been led to before.
    fn check_again(&self, state: &State, step: &Step) {
        let known = |event: &usize| state.published.has(*event);
        let known_effect = |effect: usize| {
            let mut settled = state
                .outcomes
                .iter()
                .map(|outcome| self.outcomes.0[outcome].0);
            state.pending.has(effect) || settled.any(|known| known == effect)
        };
        assert!(
            step.published.iter().all(known) && step.effect.is_none_or(known_effect),
            "a duplicate led to {:?} after {:?}",
            self.names(
                step.published
                    .iter()
                    .fold(Set::default(), |set, event| set.with(*event))
            ),
            self.names(state.published)
        );
    }

    /// What must hold whenever, whatever has been delivered.
    fn check(&self, state: &State) {
        let outcomes = || state.outcomes.iter().map(|number| &self.outcomes.0[number]);
        let settled = outcomes().map(|(effect, _)| *effect);
        let (mut refunds, mut dispatches) = (0, 0);
        for effect in state.pending.iter().chain(settled) {
            match self.effects.0[effect].1 {
                Effect::Charge(_) => {}
                Effect::Refund(_) => refunds += 1,
                Effect::Dispatch(_) => dispatches += 1,
            }
        }
        let (mut captured, mut refused) = (0, false);
        for (_, outcome) in outcomes() {
            captured += usize::from(matches!(outcome, Outcome::Charged { .. }));
            refused |= matches!(outcome, Outcome::DispatchRefused { .. });
        }
        let mut published = state
            .published
            .iter()
            .map(|event| self.events.0[event].event_type);
        let reserved = dispatches == 0 || published.any(|name| name == StockReserved::TYPE);
        let problem = if captured > 1 {
            "charged twice"
        } else if refunds > captured {
            "paid back what was not captured, or twice"
        } else if dispatches > captured {
            "called the carrier unpaid, or twice"
        } else if !reserved {
            "called the carrier without stock"
        } else if refunds > 0 && dispatches > 0 && !refused {
            "paid back what may have left"
        } else {
            return;
        };
        panic!("{problem}: {:?}", self.names(state.published));
    }

    fn final_state(&self, state: &State) -> Final {
        assert_eq!(state.pending, Set::default());
        Final {
            events: state
                .published
                .iter()
                .map(|event| self.events.0[event].clone())
                .collect(),
            outcomes: state
                .outcomes
                .iter()
                .map(|outcome| self.outcomes.0[outcome].1.clone())
                .collect(),
            rows: state
                .rows
                .iter()
                .map(|rows| self.rows.0[*rows].clone())
                .collect(),
        }
    }
}

/// Every definite answer to an effect.
fn possible(effect: &Effect) -> Vec<Outcome> {
    let detail = String::new;
    let declined = |reason_code| Outcome::Declined {
        reason_code,
        detail: detail(),
    };
    match effect {
        Effect::Charge(charge) => vec![
            Outcome::Charged {
                provider_reference: format!("ch_{}", charge.attempt),
            },
            declined(ReasonCode::CardDeclined),
            declined(ReasonCode::InsufficientFunds),
        ],
        Effect::Refund(_) => vec![
            Outcome::Refunded,
            Outcome::RefundRefused { detail: detail() },
        ],
        Effect::Dispatch(_) => vec![
            Outcome::Dispatched {
                tracking_id: "1Z".to_owned(),
            },
            Outcome::DispatchRefused {
                reason_code: ReasonCode::AddressUndeliverable,
                detail: detail(),
            },
        ],
    }
}

/// Orders that can be served, that are too large for the stock, and that cannot be billed.
pub fn orders() -> [Order; 3] {
    let ordinary = samples::order(samples::ORDER_ID);
    let mut large = ordinary.clone();
    for line in &mut large.lines {
        line.sku = "LAST-1".to_owned().try_into().unwrap();
        line.quantity = 6.try_into().unwrap();
        line.unit_amount = orderflow::events::Amount::from_minor_units(500).unwrap();
    }
    let mut unbillable = ordinary.clone();
    unbillable.ship_to.country = "AQ".to_owned().try_into().unwrap();
    [ordinary, large, unbillable]
}

/// Everything that can happen to each kind of order, without a cancellation and with one at any moment.
pub static FOUND: LazyLock<Vec<Found>> = LazyLock::new(|| {
    let mut found = Vec::new();
    for order in orders() {
        let [placed, cancel] = with_cancellation(order);
        found.push(Search::new().run(std::slice::from_ref(&placed)));
        found.push(Search::new().run(&[placed, cancel]));
    }
    found
});

/// An order and a wish to cancel it.
pub fn with_cancellation(order: Order) -> [Outgoing; 2] {
    let cancel = OrderCancelRequested {
        order_id: samples::ORDER_ID,
        requested_by: CancelRequester::Customer,
        reason_code: ReasonCode::CustomerRequest,
    };
    [
        Outgoing::once(&OrderPlaced { order }),
        Outgoing::once(&cancel),
    ]
}

/// What the orders service knows after these events, in this order, and what it published.
pub fn view_of(events: &[&Outgoing]) -> (OrderView, Vec<Outgoing>) {
    let mut loaded = Loaded::default();
    let mut published = Vec::new();
    let taken = |event: &&&Outgoing| function("orders").rule(event.event_type).is_ok();
    for outgoing in events.iter().filter(taken) {
        let (note, time) = delivery(function("orders"), outgoing);
        let id = outgoing.id().to_string();
        let context = Context {
            catalog: &CATALOG,
            time,
            event_id: &id,
        };
        let Verdict::Accept(decision) = note.decide(&context, &loaded).unwrap() else {
            panic!("orders does not take note of {outgoing:?}");
        };
        loaded.own = Some(decision.state.own);
        published.extend(decision.events);
    }
    let view = serde_json::from_slice(&loaded.own.unwrap()).unwrap();
    (view, published)
}
