//! A local Event Grid: custom topics with event subscriptions. Unless it is told otherwise there is one topic, which takes
//! CloudEvents, and one subscription for each function.
//!
//! It keeps the promises that matter to a handler: an accepted event is on disk before the publisher gets its 200, it is
//! delivered at least once to every function that takes its type, unchanged and one per request, after the
//! handshake of its schema, and retried by Event Grid's schedule until it ends as a dead letter. What is pending goes on after a restart.
//!
//! Subscriptions are data: one for each function, or those of a file or an ARM template, with filters, retry policies,
//! output batching and delivery properties. An endpoint that keeps failing is put on probation.
//!
//! Its time is that of a [`clock`](clock::Clock) that runs faster than the real one and can be turned.
//!
//! It does not imitate destinations other than webhooks and functions.

mod admission;
mod authentication;
mod batching;
mod clock;
mod dead_letters;
mod delivery;
mod delivery_properties;
mod event_grid_event;
mod faults;
mod filters;
mod progress;
mod publishing;
mod replay;
mod retry;
mod schema;
mod speed;
mod store;
mod subscriptions;
mod throttle;
mod topics;

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{
    net::TcpListener,
    sync::{
        Mutex, Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    task::JoinSet,
    time::sleep,
};
use tower_http::catch_panic::CatchPanicLayer;
use url::Url;

pub use self::authentication::DEVELOPMENT_KEY;
pub use self::store::StoreError;
use self::{
    admission::{AdmittedEvent, Refusal},
    authentication::{Gate, identity_routes},
    clock::Clock,
    dead_letters::DeadLetters,
    delivery::{Callback, Delivery, Due, HeldText, Means, Standing},
    faults::Faults,
    publishing::OpenTopic,
    retry::{DEAD_LETTER_HOLD, Jitter},
    schema::Schema,
    store::{EventQuery, GridStore},
    subscriptions::EventSubscription,
    topics::Origin,
};
pub(super) use self::{delivery::Patience, speed::Speed};
pub use self::{faults::Fault, speed::FASTEST};
use super::{
    DeliveryOptions, DevError, Samples, Subscription,
    ambient::now,
    client,
    data_folder::DataFolder,
    json::Json,
    listening,
    page::{self, Page},
    stop::{self, Stop},
    terminal::{EventLabel, EventReport, Happening, Terminal},
};

/// How many requests are under way at once. Each function has an equal share, so one that is stuck holds up no other.
const UNDER_WAY: usize = 64;

/// So many bytes of events wait in memory; other events are read from disk when their turn comes.
const HELD_BYTES: usize = 32 * 1024 * 1024;

/// How often it is kept where the clock is, in real time.
const KEEP_CLOCK: Duration = Duration::from_secs(10);

/// How many events or dead letters are shown unless asked otherwise, and at most.
const SHOWN: u32 = 100;
const SHOWN_AT_MOST: u32 = 1_000;

/// The local Event Grid, listening but not yet answering.
#[derive(Debug)]
pub(super) struct Grid {
    listener: TcpListener,
    /// Of the topics that have ports of their own, by their position.
    own_listeners: Vec<(usize, TcpListener)>,
    topic: Arc<Topic>,
    arrivals: Vec<Arrivals>,
    patience: Patience,
    jitter: Jitter,
    dead_letter_hold: Duration,
    samples: Samples,
}

/// What comes for one subscription.
#[derive(Debug)]
struct Arrivals {
    subscription: EventSubscription,
    callback: Arc<Callback>,
    standing: Arc<Standing>,
    receiver: UnboundedReceiver<Vec<Due>>,
}

/// What makes one grid differ from another.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) functions: Vec<Subscription>,
    pub(super) delivery: DeliveryOptions,
    pub(super) samples: Samples,
    pub(super) speed: Speed,
    /// Refuses what is more than a topic in Azure takes.
    pub(super) throttle: bool,
    pub(super) patience: Patience,
}

/// What the HTTP side works with.
#[derive(Debug)]
struct Topic {
    gate: Arc<Gate>,
    /// The default one first.
    topics: Vec<OpenTopic>,
    store: GridStore,
    dead_letters: DeadLetters,
    terminal: Terminal,
    subscriptions: HashMap<&'static str, UnboundedSender<Vec<Due>>>,
    held_bytes: Arc<Semaphore>,
    /// One replay at a time: a letter clicked twice is replayed once.
    replaying: Mutex<()>,
    callbacks: Vec<Arc<Callback>>,
    clock: Arc<Clock>,
    standings: HashMap<&'static str, Arc<Standing>>,
    faults: Arc<Faults>,
}

impl Grid {
    /// Opens the grid of this data folder.
    pub(super) async fn open(
        listener: TcpListener,
        folder: &DataFolder,
        setup: Setup,
        terminal: Terminal,
    ) -> Result<Self, DevError> {
        let Setup {
            functions,
            delivery: options,
            samples,
            speed,
            throttle,
            patience,
        } = setup;
        let store = GridStore::open(&folder.grid_database())?;
        let clock = Arc::new(Clock::new(speed, store.kept_clock()));
        let custom_topics = match &options.subscriptions {
            Some(file) => topics::read(file, &functions)?,
            None => topics::of_functions(&functions),
        };
        let address = listening::address(&listener)?;
        let mut topics = Vec::new();
        let mut own_listeners = Vec::new();
        let mut subscriptions = Vec::new();
        for (position, topic) in custom_topics.into_iter().enumerate() {
            let mut opened = OpenTopic::new(position, &topic, &address, throttle);
            if let Some(port) = topic.port {
                let own = listening::bind(port, "the topic's `port`").await?;
                let address = format!("{}/api/events", listening::address(&own)?);
                opened.addresses.insert(0, address);
                own_listeners.push((position, own));
            }
            topics.push(opened);
            subscriptions.extend(topic.subscriptions);
        }
        let mut senders = HashMap::new();
        let mut arrivals = Vec::new();
        let mut callbacks = Vec::new();
        let mut standings = HashMap::new();
        for subscription in subscriptions {
            let (sender, receiver) = unbounded_channel();
            senders.insert(subscription.name, sender);
            let callback = Arc::new(Callback::new());
            callbacks.push(Arc::clone(&callback));
            // What is a day ahead now is a day ahead on the clock, however far that is turned already.
            let expires = subscription.expires_at.map(|time| {
                let ahead = (time - now()).to_std().unwrap_or_default();
                clock.now().after(ahead)
            });
            let standing = Arc::new(Standing::new(expires));
            standings.insert(subscription.name, Arc::clone(&standing));
            arrivals.push(Arrivals {
                subscription,
                callback,
                standing,
                receiver,
            });
        }
        let names: Vec<_> = senders.keys().copied().collect();
        if let Some(fault) = faults::of_nobody(&options.faults, &names) {
            return Err(DevError::Fault(fault.to_string()));
        }
        let topic = Topic {
            gate: Arc::new(Gate::new()),
            topics,
            store,
            dead_letters: DeadLetters::new(
                options.dead_letters.as_deref(),
                folder.dead_letters(),
                Arc::clone(&clock),
                terminal.clone(),
            )?,
            terminal,
            subscriptions: senders,
            held_bytes: Arc::new(Semaphore::new(HELD_BYTES)),
            replaying: Mutex::new(()),
            callbacks,
            clock,
            standings,
            faults: Arc::new(Faults::new(options.faults)),
        };
        Ok(Self {
            listener,
            own_listeners,
            topic: Arc::new(topic),
            arrivals,
            patience,
            jitter: Jitter { seed: options.seed },
            dead_letter_hold: options.dead_letter_hold.unwrap_or(DEAD_LETTER_HOLD),
            samples,
        })
    }

    /// Where the grid listens.
    pub(super) fn address(&self) -> Result<String, DevError> {
        listening::address(&self.listener)
    }

    /// One line for each topic, if there are several: its name, where it is, and its schema.
    pub(super) fn topics(&self) -> Vec<(String, String)> {
        let topics = &self.topic.topics;
        let lines = topics.iter().filter(|_| topics.len() > 1).map(|topic| {
            let Origin {
                topic: name,
                schema,
            } = topic.origin;
            let where_it_is = topic.addresses.join(" or ");
            (
                name.to_owned(),
                format!("{where_it_is} ({})", schema.name()),
            )
        });
        lines.collect()
    }

    /// Why the application's handler cannot publish to the default topic, if it cannot.
    pub(super) fn refuses_handler(&self, managed_identity: bool) -> Option<&'static str> {
        let default = self.topic.topics.first()?;
        if default.origin.schema != Schema::CloudEvents {
            return Some(
                "it takes the Event Grid schema, and the handler publishes CloudEvents; name a topic for it `default`",
            );
        }
        let no_key = default.tokens_only && !managed_identity;
        no_key.then_some(
            "it takes bearer tokens only (disableLocalAuth); start with --managed-identity",
        )
    }

    /// Where dead letters are kept.
    pub(super) fn dead_letters(&self) -> String {
        self.topic.dead_letters.place()
    }

    /// Accepts events and delivers them to the host. Deliveries end with `deliver_until`; publishers are answered until
    /// those under way are over and `answer_until` says so, because the functions behind them publish as well.
    pub(super) async fn run(
        self,
        deliver_to: &Url,
        deliver_until: Stop,
        answer_until: Stop,
    ) -> Result<(), DevError> {
        let means = Means {
            client: client::loopback()?,
            store: self.topic.store.clone(),
            dead_letters: self.topic.dead_letters.clone(),
            dead_letter_hold: self.dead_letter_hold,
            clock: Arc::clone(&self.topic.clock),
            patience: self.patience,
            gate: Arc::clone(&self.topic.gate),
            jitter: self.jitter,
            faults: Arc::clone(&self.topic.faults),
            grid_address: self.address()?.into(),
            terminal: self.topic.terminal.clone(),
        };
        let dead_letters = self.topic.dead_letters.clone();
        tokio::spawn(async move { dead_letters.check().await });
        self.topic.take_up().await?;
        let share = (UNDER_WAY / self.arrivals.len().max(1)).max(1);
        let subscriptions = self.arrivals.iter();
        let subscriptions = subscriptions
            .map(|arrivals| arrivals.subscription.shown())
            .collect();
        let mut deliveries = JoinSet::new();
        for arrivals in self.arrivals {
            let Arrivals {
                subscription,
                callback,
                standing,
                receiver,
            } = arrivals;
            let means = means.clone();
            let delivery = Delivery::new(subscription, deliver_to, callback, standing, means);
            deliveries.spawn(delivery.run(receiver, share, deliver_until.clone()));
        }
        let (stopper, stop) = stop::channel();
        let page = Page::new(
            &self.topic.shown_topics(),
            deliver_to.clone(),
            &subscriptions,
            self.samples,
            self.topic.terminal.clone(),
            stop.clone(),
        )?;
        let topic = Arc::clone(&self.topic);
        let until_over = async {
            topic.keep_clock_until(&deliver_until).await;
            let over = async { while deliveries.join_next().await.is_some() {} };
            // What is not over by then is delivered again at the next start.
            drop(tokio::time::timeout(listening::DRAIN, over).await);
            topic.keep_clock().await?;
            answer_until.requested().await;
            stopper.stop();
            Ok(())
        };
        let own_ports = self.own_listeners.into_iter().map(|(position, listener)| {
            let router = guarded(publishing::without_name(Arc::clone(&self.topic), position));
            listening::serve(listener, router, stop.clone())
        });
        let own_ports = futures_util::future::try_join_all(own_ports);
        let main = listening::serve(self.listener, router(self.topic, page), stop.clone());
        tokio::try_join!(main, own_ports, until_over)?;
        Ok(())
    }
}

impl Topic {
    /// Goes on with what an earlier process left behind.
    async fn take_up(&self) -> Result<(), DevError> {
        let subscriptions = self.topics.iter().flat_map(|topic| {
            let names = topic.filters.iter();
            names.map(|(name, _)| (*name, topic.origin))
        });
        let pending = self.store.take_up(subscriptions.collect()).await?;
        if !pending.is_empty() {
            self.terminal.notice(format!(
                "{} deliveries are left from the last time and go on",
                pending.len()
            ));
        }
        let mut takers: HashMap<i64, usize> = HashMap::new();
        for delivery in &pending {
            *takers.entry(delivery.event).or_default() += 1;
        }
        for delivery in &pending {
            let takers = takers.get(&delivery.event).copied().unwrap_or(1);
            let due = Due::left_behind(delivery, takers);
            self.hand_over(&delivery.subscription, vec![due]);
        }
        Ok(())
    }

    async fn accept(&self, topic: &OpenTopic, events: Vec<AdmittedEvent>) -> Result<(), Refusal> {
        let routed = events.into_iter().map(|event| {
            let mut takers = topic.takers(&event);
            takers.retain(|name| !self.has_expired(name));
            (event, takers)
        });
        self.keep_and_deliver(topic.origin, routed.collect()).await
    }

    fn has_expired(&self, subscription: &str) -> bool {
        let standing = self.standings.get(subscription);
        standing.is_some_and(|standing| standing.has_expired(self.clock.now()))
    }

    /// The topic of a subscription.
    fn topic_of(&self, subscription: &str) -> Origin {
        let has_it =
            |topic: &&OpenTopic| topic.filters.iter().any(|(name, _)| *name == subscription);
        let found = self.topics.iter().find(has_it);
        found.map_or(Origin::DEFAULT, |topic| topic.origin)
    }

    /// The topics for people and the page, the default one first.
    fn shown_topics(&self) -> Value {
        let topics = self.topics.iter();
        topics
            .map(|topic| {
                json!({
                    "name": topic.origin.topic,
                    "inputSchema": topic.origin.schema,
                    "addresses": topic.addresses,
                })
            })
            .collect()
    }

    /// Keeps events of a topic and hands them over to the functions named beside them.
    async fn keep_and_deliver(
        &self,
        origin: Origin,
        routed: Vec<(AdmittedEvent, Vec<&'static str>)>,
    ) -> Result<(), Refusal> {
        let routed = Arc::new(routed);
        let accepted = (now(), self.clock.now());
        let kept = self
            .store
            .accept(origin, Arc::clone(&routed), accepted.0, accepted.1)
            .await;
        let numbers = kept.map_err(|error| Refusal::NotKept(error.to_string()))?;
        let mut reports = Vec::new();
        let mut arrivals: HashMap<&'static str, Vec<Due>> = HashMap::new();
        for (number, (event, takers)) in numbers.into_iter().zip(routed.iter()) {
            let label = Arc::new(EventLabel::new(&event.event_type, event.subject.as_deref()));
            let mut report = |what| {
                reports.push(EventReport {
                    number,
                    label: Arc::clone(&label),
                    takers: takers.len(),
                    what,
                });
            };
            report(Happening::Accepted {
                topic: origin.topic,
                takers: takers.clone(),
            });
            if takers.is_empty() {
                report(Happening::NotTaken);
            }
            let text = HeldText::hold(&event.text, &self.held_bytes);
            for function in takers {
                let due = Due::new(
                    number,
                    accepted,
                    Arc::clone(&label),
                    takers.len(),
                    event.text.len(),
                    text.clone(),
                );
                arrivals.entry(function).or_default().push(due);
            }
        }
        self.terminal.events(reports);
        for (function, events) in arrivals {
            self.hand_over(function, events);
        }
        Ok(())
    }

    /// Keeps now and then where the clock is: a killed grid goes on from there. Returns when told to stop.
    async fn keep_clock_until(&self, stop: &Stop) {
        loop {
            tokio::select! {
                () = sleep(KEEP_CLOCK) => {}
                () = stop.requested() => return,
            }
            if let Err(error) = self.keep_clock().await {
                self.terminal
                    .alarm(format!("it is not kept where the clock is: {error}"));
            }
        }
    }

    /// Keeps where the clock is, if something waits for it.
    async fn keep_clock(&self) -> Result<(), StoreError> {
        let reading = self.clock.reading();
        if self.store.pending(reading.reading).await?.is_empty() {
            return Ok(());
        }
        self.store.keep_clock(reading).await
    }

    fn hand_over(&self, function: &str, events: Vec<Due>) {
        // The error says that deliveries have ended; the event is on disk and goes on at the next start.
        drop(
            self.subscriptions
                .get(function)
                .map(|subscription| subscription.send(events)),
        );
    }
}

fn router(topic: Arc<Topic>, page: Page) -> Router {
    let identity = identity_routes(topic.gate.clone());
    let own = Router::new()
        .route("/", get(index))
        .route("/events", get(events))
        .route("/deadletters", get(dead_letters))
        .route("/deadletters/replay", post(replay::replay))
        .route("/faults", get(faults::list).put(faults::replace))
        .merge(clock::routes())
        .route("/idle", get(progress::idle))
        .route("/consent/{id}", get(consent).post(consent))
        .with_state(Arc::clone(&topic))
        .merge(page::routes(page))
        .route_layer(middleware::from_fn(page::asked_by_its_address));
    let publishing = publishing::by_name(Arc::clone(&topic));
    let publishing = publishing.merge(publishing::without_name(topic, 0));
    guarded(own.merge(publishing).merge(identity))
}

/// What every port has in common.
fn guarded(router: Router) -> Router {
    router
        .fallback(async || Refusal::NotFound)
        .layer(middleware::from_fn(page::of_no_foreign_page))
        .layer(CatchPanicLayer::new())
}

/// The page for browsers, and for everybody else what there is.
async fn index(State(topic): State<Arc<Topic>>, headers: HeaderMap) -> Response {
    if page::is_wanted(&headers) {
        return page::index();
    }
    Json(json!({
        "name": "orderflow local Event Grid",
        "publish": "POST /api/events",
        "topics": topic.shown_topics(),
        "events": "/events?after=&limit=&subject=",
        "deadLetters": "/deadletters?limit=",
        "replay": "POST /deadletters/replay",
        "faults": "GET and PUT /faults",
        "clock": "GET and PUT /clock, POST /clock/step",
        "stream": "/stream",
        "idle": "/idle",
    }))
    .into_response()
}

#[derive(Debug, Deserialize)]
struct EventsAsked {
    after: Option<i64>,
    limit: Option<u32>,
    subject: Option<String>,
}

/// Without `after` the newest events, with it those that follow: ask again with `next` to go on.
async fn events(State(topic): State<Arc<Topic>>, Query(asked): Query<EventsAsked>) -> Response {
    let limit = asked.limit.unwrap_or(SHOWN).min(SHOWN_AT_MOST);
    let query = EventQuery {
        after: asked.after,
        subject: asked.subject,
        limit,
    };
    match topic.store.events(query, Arc::clone(&topic.clock)).await {
        Ok(events) => {
            let next = events.last().map(|event| event.number).or(asked.after);
            Json(json!({"events": events, "next": next})).into_response()
        }
        Err(error) => unreadable(&error),
    }
}

#[derive(Debug, Deserialize)]
struct LettersAsked {
    limit: Option<u32>,
}

async fn dead_letters(
    State(topic): State<Arc<Topic>>,
    Query(asked): Query<LettersAsked>,
) -> Response {
    let limit = asked.limit.unwrap_or(SHOWN).min(SHOWN_AT_MOST);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    match topic.dead_letters.list(limit).await {
        Ok(letters) => Json(json!({"deadLetters": letters})).into_response(),
        Err(error) => unreadable(&error),
    }
}

/// An endpoint's consent to be delivered to, given later than in the handshake itself.
async fn consent(
    State(topic): State<Arc<Topic>>,
    Path(id): Path<String>,
) -> Result<&'static str, Refusal> {
    let callback = topic.callbacks.iter().find(|callback| callback.id() == id);
    let given = callback.is_some_and(|callback| callback.consent());
    given
        .then_some("events are delivered from now on")
        .ok_or(Refusal::NotFound)
}

fn unreadable(error: &dyn std::error::Error) -> Response {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        Json(json!({"error": {"message": error.to_string()}})),
    )
        .into_response()
}
