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
mod open_grid;
mod progress;
mod publishing;
mod replay;
mod retry;
mod routes;
mod schema;
mod speed;
mod store;
mod subscriptions;
mod throttle;
mod topics;

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    sync::{
        Mutex, Semaphore,
        mpsc::{UnboundedReceiver, unbounded_channel},
    },
    task::JoinSet,
};
use url::Url;

pub use self::authentication::DEVELOPMENT_KEY;
pub use self::store::StoreError;
use self::{
    authentication::Gate,
    clock::Clock,
    dead_letters::DeadLetters,
    delivery::{Callback, Delivery, Due, Means, Standing},
    faults::Faults,
    open_grid::OpenGrid,
    publishing::OpenTopic,
    retry::{DEAD_LETTER_HOLD, Jitter},
    routes::{guarded, router},
    schema::Schema,
    store::GridStore,
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
    listening,
    page::Page,
    stop::{self, Stop},
    terminal::Terminal,
};

/// So many bytes of events wait in memory; other events are read from disk when their turn comes.
const HELD_BYTES: usize = 32 * 1024 * 1024;

/// How many requests are under way at once. Each function has an equal share, so one that is stuck holds up no other.
const UNDER_WAY: usize = 64;

/// The local Event Grid, listening but not yet answering.
#[derive(Debug)]
pub(super) struct Grid {
    listener: TcpListener,
    /// Of the topics that have ports of their own, by their position.
    own_listeners: Vec<(usize, TcpListener)>,
    shared: Arc<OpenGrid>,
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
    /// Whether the host may have other functions as well.
    pub(super) other_functions: bool,
    pub(super) delivery: DeliveryOptions,
    pub(super) samples: Samples,
    pub(super) speed: Speed,
    /// Refuses what is more than a topic in Azure takes.
    pub(super) throttle: bool,
    pub(super) patience: Patience,
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
            other_functions,
            delivery: options,
            samples,
            speed,
            throttle,
            patience,
        } = setup;
        let store = GridStore::open(&folder.grid_database())?;
        let clock = Arc::new(Clock::new(speed, store.kept_clock()));
        let custom_topics = match &options.subscriptions {
            Some(file) => topics::read(file, Some(&functions[..]).filter(|_| !other_functions))?,
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
        let shared = OpenGrid {
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
            shared: Arc::new(shared),
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

    /// One line for each topic, unless there is only the one that everybody has: its name, where it is, and its schema.
    pub(super) fn topics(&self) -> Vec<(String, String)> {
        let topics = &self.shared.topics;
        let usual = |topic: &OpenTopic| topics.len() == 1 && topic.origin == Origin::DEFAULT;
        let lines = topics.iter().filter(|topic| !usual(topic)).map(|topic| {
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
        let default = self.shared.topics.first()?;
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
        self.shared.dead_letters.place()
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
            store: self.shared.store.clone(),
            dead_letters: self.shared.dead_letters.clone(),
            dead_letter_hold: self.dead_letter_hold,
            clock: Arc::clone(&self.shared.clock),
            patience: self.patience,
            gate: Arc::clone(&self.shared.gate),
            jitter: self.jitter,
            faults: Arc::clone(&self.shared.faults),
            grid_address: self.address()?.into(),
            terminal: self.shared.terminal.clone(),
        };
        let dead_letters = self.shared.dead_letters.clone();
        tokio::spawn(async move { dead_letters.check().await });
        self.shared.take_up().await?;
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
            &self.shared.shown_topics(),
            deliver_to.clone(),
            &subscriptions,
            self.samples,
            self.shared.terminal.clone(),
            stop.clone(),
        )?;
        let topic = Arc::clone(&self.shared);
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
            let router = guarded(publishing::without_name(Arc::clone(&self.shared), position));
            listening::serve(listener, router, stop.clone())
        });
        let own_ports = futures_util::future::try_join_all(own_ports);
        let main = listening::serve(self.listener, router(self.shared, page), stop.clone());
        tokio::try_join!(main, own_ports, until_over)?;
        Ok(())
    }
}
