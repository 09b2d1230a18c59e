//! A local Event Grid: one custom topic with CloudEvents input schema and one event subscription per function.
//!
//! It keeps the promises that matter to a handler: an accepted event is on disk before the publisher gets its 200, it is
//! delivered at least once to every function that takes its type, unchanged and one per request, after the
//! CloudEvents handshake, and retried by Event Grid's schedule until it ends as a dead letter. What is pending goes on after a restart.
//!
//! Subscriptions are data: one for each function, or those of a file or an ARM template, with filters, retry policies,
//! output batching and delivery properties. An endpoint that keeps failing is put on probation.
//!
//! It does not imitate subscriptions that expire, destinations other than webhooks and functions, bearer tokens on
//! deliveries, events that are given up on probation before any attempt, or answers that come after 30 s.

mod admission;
mod authentication;
mod batching;
mod dead_letters;
mod delivery;
mod delivery_properties;
mod faults;
mod filters;
mod replay;
mod retry;
mod store;
mod subscriptions;
mod throttle;

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header::CONTENT_TYPE},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;
use tokio::{
    net::TcpListener,
    sync::{
        Mutex, Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    task::JoinSet,
    time::Instant,
};
use tower_http::catch_panic::CatchPanicLayer;
use url::Url;

pub use self::authentication::DEVELOPMENT_KEY;
pub use self::faults::Fault;
pub(super) use self::retry::Speed;
pub use self::store::StoreError;
use self::{
    admission::{AdmittedEvent, MAXIMUM_BYTES, Refusal, admit, check_api_version},
    authentication::{Gate, identity_routes},
    dead_letters::{DeadLetters, PATIENCE},
    delivery::{Callback, Delivery, Due, HeldText, Means},
    faults::Faults,
    filters::{Filter, FilteredEvent},
    retry::{DEAD_LETTER_HOLD, Jitter},
    store::{EventQuery, GridStore},
    subscriptions::EventSubscription,
    throttle::Throttle,
};
use super::{
    DeliveryOptions, DevError, Samples, Subscription,
    ambient::now,
    body::{self, BodyError},
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

/// How many events or dead letters are shown unless asked otherwise, and at most.
const SHOWN: u32 = 100;
const SHOWN_AT_MOST: u32 = 1_000;

/// The local Event Grid, listening but not yet answering.
#[derive(Debug)]
pub(super) struct Grid {
    listener: TcpListener,
    topic: Arc<Topic>,
    arrivals: Vec<(
        EventSubscription,
        Arc<Callback>,
        UnboundedReceiver<Vec<Due>>,
    )>,
    speed: Speed,
    jitter: Jitter,
    dead_letter_hold: Duration,
    functions: Vec<Subscription>,
    samples: Samples,
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
}

/// What the HTTP side works with.
#[derive(Debug)]
struct Topic {
    gate: Arc<Gate>,
    /// None: it takes whatever comes.
    throttle: Option<Throttle>,
    store: GridStore,
    dead_letters: DeadLetters,
    terminal: Terminal,
    /// What each subscription takes.
    filters: Vec<(&'static str, Filter)>,
    subscriptions: HashMap<&'static str, UnboundedSender<Vec<Due>>>,
    held_bytes: Arc<Semaphore>,
    /// One replay at a time: a letter clicked twice is replayed once.
    replaying: Mutex<()>,
    callbacks: Vec<Arc<Callback>>,
    faults: Arc<Faults>,
}

impl Grid {
    /// Opens the grid of this data folder.
    pub(super) fn open(
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
        } = setup;
        let subscriptions = match &options.subscriptions {
            Some(file) => subscriptions::read(file, &functions)?,
            None => subscriptions::of_functions(&functions),
        };
        let mut filters = Vec::new();
        let mut senders = HashMap::new();
        let mut arrivals = Vec::new();
        let mut callbacks = Vec::new();
        for subscription in subscriptions {
            let (sender, receiver) = unbounded_channel();
            filters.push((subscription.name, subscription.filter.clone()));
            senders.insert(subscription.name, sender);
            let callback = Arc::new(Callback::new());
            callbacks.push(Arc::clone(&callback));
            arrivals.push((subscription, callback, receiver));
        }
        let names: Vec<_> = senders.keys().copied().collect();
        if let Some(fault) = faults::of_nobody(&options.faults, &names) {
            return Err(DevError::Fault(fault.to_string()));
        }
        let topic = Topic {
            gate: Arc::new(Gate::new()),
            throttle: throttle.then(Throttle::default),
            store: GridStore::open(&folder.grid_database())?,
            dead_letters: DeadLetters::new(
                options.dead_letters.as_deref(),
                folder.dead_letters(),
                speed.shorten(PATIENCE),
                terminal.clone(),
            )?,
            terminal,
            filters,
            subscriptions: senders,
            held_bytes: Arc::new(Semaphore::new(HELD_BYTES)),
            replaying: Mutex::new(()),
            callbacks,
            faults: Arc::new(Faults::new(options.faults)),
        };
        Ok(Self {
            listener,
            topic: Arc::new(topic),
            arrivals,
            speed,
            jitter: Jitter { seed: options.seed },
            dead_letter_hold: options
                .dead_letter_hold
                .unwrap_or_else(|| speed.shorten(DEAD_LETTER_HOLD)),
            functions,
            samples,
        })
    }

    /// Where the grid listens.
    pub(super) fn address(&self) -> Result<String, DevError> {
        listening::address(&self.listener)
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
            speed: self.speed,
            jitter: self.jitter,
            faults: Arc::clone(&self.topic.faults),
            grid_address: self.address()?.into(),
            terminal: self.topic.terminal.clone(),
        };
        let dead_letters = self.topic.dead_letters.clone();
        tokio::spawn(async move { dead_letters.check().await });
        self.topic.take_up().await?;
        let share = (UNDER_WAY / self.arrivals.len().max(1)).max(1);
        let mut deliveries = JoinSet::new();
        for (subscription, callback, arrivals) in self.arrivals {
            let delivery = Delivery::new(subscription, deliver_to, callback, means.clone());
            deliveries.spawn(delivery.run(arrivals, share, deliver_until.clone()));
        }
        let (stopper, stop) = stop::channel();
        let page = Page::new(
            &listening::address(&self.listener)?,
            deliver_to.clone(),
            &self.functions,
            self.samples,
            self.topic.terminal.clone(),
            stop.clone(),
        )?;
        let until_over = async {
            deliver_until.requested().await;
            let over = async { while deliveries.join_next().await.is_some() {} };
            // What is not over by then is delivered again at the next start.
            drop(tokio::time::timeout(listening::DRAIN, over).await);
            answer_until.requested().await;
            stopper.stop();
            Ok(())
        };
        tokio::try_join!(
            listening::serve(self.listener, router(self.topic, page), stop),
            until_over
        )?;
        Ok(())
    }
}

impl Topic {
    /// Goes on with what an earlier process left behind.
    async fn take_up(&self) -> Result<(), DevError> {
        let functions = self.subscriptions.keys().copied().collect();
        let pending = self.store.take_up(functions).await?;
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

    async fn accept(&self, events: Vec<AdmittedEvent>) -> Result<(), Refusal> {
        let routed = events.into_iter().map(|event| {
            let takers = self.takers(&event);
            (event, takers)
        });
        self.keep_and_deliver(routed.collect()).await
    }

    /// Keeps events and hands them over to the functions named beside them.
    async fn keep_and_deliver(
        &self,
        routed: Vec<(AdmittedEvent, Vec<&'static str>)>,
    ) -> Result<(), Refusal> {
        let routed = Arc::new(routed);
        let accepted_at = now();
        let kept = self.store.accept(Arc::clone(&routed), accepted_at).await;
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
                takers: takers.clone(),
            });
            if takers.is_empty() {
                report(Happening::NotTaken);
            }
            let text = HeldText::hold(&event.text, &self.held_bytes);
            for function in takers {
                let due = Due::new(
                    number,
                    accepted_at,
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

    /// The subscriptions that take the event.
    fn takers(&self, event: &AdmittedEvent) -> Vec<&'static str> {
        let event = FilteredEvent::new(&event.event_type, event.subject.as_deref(), &event.text);
        self.filters
            .iter()
            .filter_map(|(name, filter)| filter.takes(&event).then_some(*name))
            .collect()
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
    Router::new()
        .route("/", get(index))
        .route("/events", get(events))
        .route("/deadletters", get(dead_letters))
        .route("/deadletters/replay", post(replay::replay))
        .route("/faults", get(faults::list).put(faults::replace))
        .route("/idle", get(idle))
        .route("/consent/{id}", get(consent).post(consent))
        .with_state(Arc::clone(&topic))
        .merge(page::routes(page))
        .route_layer(middleware::from_fn(page::asked_by_its_address))
        .merge(publishing(topic))
        .merge(identity)
        .fallback(async || Refusal::NotFound)
        .layer(middleware::from_fn(page::of_no_foreign_page))
        .layer(CatchPanicLayer::new())
}

fn publishing(topic: Arc<Topic>) -> Router {
    Router::new()
        .route("/", post(publish))
        .route("/api/events", post(publish))
        .with_state(topic)
}

/// The page for browsers, and for everybody else what there is.
async fn index(headers: HeaderMap) -> Response {
    if page::is_wanted(&headers) {
        return page::index();
    }
    Json(json!({
        "name": "orderflow local Event Grid",
        "publish": "POST /api/events",
        "events": "/events?after=&limit=&subject=",
        "deadLetters": "/deadletters?limit=",
        "replay": "POST /deadletters/replay",
        "faults": "GET and PUT /faults",
        "stream": "/stream",
        "idle": "/idle",
    }))
    .into_response()
}

async fn publish(State(topic): State<Arc<Topic>>, request: Request) -> Result<StatusCode, Refusal> {
    let (parts, body) = request.into_parts();
    topic.gate.check(&parts.headers, &parts.uri, now())?;
    check_api_version(parts.uri.query())?;
    let body = body::read(body, MAXIMUM_BYTES)
        .await
        .map_err(|error| match error {
            BodyError::TooLarge(_) => Refusal::TooLarge,
            BodyError::Incomplete => Refusal::Incomplete(error.to_string()),
        })?;
    let events = admit(content_type(&parts.headers), &body)?;
    if let Some(throttle) = &topic.throttle {
        throttle
            .pass(&events, Instant::now())
            .map_err(Refusal::Throttled)?;
    }
    topic.accept(events).await?;
    Ok(StatusCode::OK)
}

fn content_type(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()
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
    match topic.store.events(query).await {
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

/// How many deliveries are not over: 0 once the grid has nothing more to do.
async fn idle(State(topic): State<Arc<Topic>>) -> Response {
    match topic.store.pending().await {
        Ok(pending) => Json(json!({"pending": pending})).into_response(),
        Err(error) => unreadable(&error),
    }
}

fn unreadable(error: &dyn std::error::Error) -> Response {
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        Json(json!({"error": {"message": error.to_string()}})),
    )
        .into_response()
}
