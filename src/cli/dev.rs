//! `orderflow dev` and `orderflow grid`: everything on one machine.

use std::{convert::Infallible, path::PathBuf, time::Duration};

use crate::{
    artifacts, cloud_event,
    config::Secret,
    dev::{
        self, DeliveryOptions, DevOptions, FASTEST, Fault, GridOptions, HttpFunction, Samples,
        Subscription, TimerFunction,
    },
    events::{EventType, samples},
    functions::{EVENT_BINDING, FUNCTIONS, TIMER_BINDING, Trigger, catalogue},
};

/// How often the stand-in for the host fires timer functions: their schedules all say once a minute.
const TIMER_INTERVAL: Duration = Duration::from_secs(60);

/// `functionTimeout` of host.json.
const FUNCTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Options of both commands.
#[derive(Debug, clap::Args)]
struct Common {
    /// Where the local Event Grid listens, on 127.0.0.1; 0 picks a free port
    #[arg(long, value_name = "PORT", default_value_t = 6500)]
    grid_port: u16,

    /// The folder for everything that is kept: orders, events, dead letters, the handler's log
    #[arg(long, value_name = "DIR", default_value = ".orderflow")]
    data: PathBuf,

    /// How many times faster than in Azure Event Grid's time passes: the waits between attempts, the life of an event, the
    /// hold of a dead letter. At 0 it stands still, and passes when the page or POST /clock/step turns its clock
    #[arg(long, value_name = "N", default_value_t = 60.0, value_parser = speed)]
    speed: f64,

    /// Refuse what is more than a topic in Azure takes: 5,000 events or 5 MB per second
    #[arg(long)]
    throttle: bool,

    #[command(flatten)]
    delivery: Delivery,

    /// Show only what went wrong
    #[arg(long)]
    quiet: bool,
}

/// How the local Event Grid delivers.
#[derive(Debug, clap::Args)]
struct Delivery {
    /// Event subscriptions: a JSON file of `{"NAME": {properties as in ARM}}`, of `{"topics": {"NAME": {"inputSchema": …,
    /// "port": …, "subscriptions": {…}}}}`, or an ARM template as `az bicep build` writes it [default: one for each function,
    /// to the types that it takes]
    #[arg(long, value_name = "FILE")]
    subscriptions: Option<PathBuf>,

    /// Where dead letters are kept: a folder, or a blob container of Azurite on this machine, as
    /// http://127.0.0.1:10000/devstoreaccount1/CONTAINER [default: DIR/deadletters, with DIR that of --data]
    #[arg(long, value_name = "FOLDER|URL")]
    dead_letters: Option<String>,

    /// How long after the last attempt a dead letter is written, in Event Grid's time [default: Azure's 300]
    #[arg(long, value_name = "SECONDS")]
    dead_letter_hold: Option<u64>,

    /// Injects a fault into deliveries, as KIND[:RATE[:SUBSCRIPTION]]: duplicate, delay (up to 2 s, so that others
    /// overtake), drop-ack (done, but the answer is lost), late-answer (done, but answered after the time-out) or a status such as 503. May be given more than once; the page and
    /// PUT /faults change it while it runs. For example --fault drop-ack:0.1:payment
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,

    /// Makes the random part of the waits, and of the faults, the same in every run
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

impl From<Delivery> for DeliveryOptions {
    fn from(delivery: Delivery) -> Self {
        Self {
            subscriptions: delivery.subscriptions,
            dead_letters: delivery.dead_letters,
            dead_letter_hold: delivery.dead_letter_hold.map(Duration::from_secs),
            seed: delivery.seed,
            faults: delivery.faults,
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Dev {
    /// Where the stand-in for the Functions host listens, on 127.0.0.1; 0 picks a free port
    #[arg(long, value_name = "PORT", default_value_t = 7071)]
    host_port: u16,

    #[command(flatten)]
    common: Common,

    /// Where the orders are kept, as in `STORE_URL`: sqlite:PATH, postgres://… or memory: [default: sqlite:DIR/orders.db,
    /// with DIR that of --data]
    #[arg(long, value_name = "URL", value_parser = secret)]
    store: Option<Secret>,

    /// Have the handler publish as in Azure: with Entra ID tokens of a managed identity, which the local Event Grid issues,
    /// and not with its access key
    #[arg(long)]
    managed_identity: bool,

    /// Open the local Event Grid's address in a browser
    #[arg(long)]
    open: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Grid {
    /// The Functions host to deliver to
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7071")]
    deliver_to: String,

    #[command(flatten)]
    common: Common,
}

/// A URL may hold a password.
#[expect(clippy::unnecessary_wraps, reason = "a parser of values")]
fn secret(text: &str) -> Result<Secret, Infallible> {
    Ok(Secret::new(text))
}

fn speed(text: &str) -> Result<f64, String> {
    let valid = text
        .parse()
        .ok()
        .filter(|speed: &f64| (0.0..=FASTEST).contains(speed));
    valid.ok_or_else(|| format!("must be a number from 0 to {FASTEST}"))
}

/// Runs everything until SIGINT or SIGTERM.
///
/// # Errors
/// One line: a port, the folder or the handler is at fault.
pub(super) async fn run(command: Dev) -> Result<(), String> {
    let Dev {
        host_port,
        common,
        store,
        managed_identity,
        open,
    } = command;
    let handler =
        std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    // The handler's working folder is its own business: it gets an absolute path.
    let data = std::path::absolute(&common.data).map_err(|error| format!("--data: {error}"))?;
    let store = match &store {
        Some(store) => store.reveal().to_owned(),
        None => format!("sqlite:{}", data.join("orders.db").display()),
    };
    let options = DevOptions {
        host_port,
        grid_port: common.grid_port,
        data,
        speed: common.speed,
        throttle: common.throttle,
        quiet: common.quiet,
        delivery: common.delivery.into(),
        open,
        managed_identity,
        handler,
        handler_arguments: ["serve", "--stop-with-stdin"].map(str::to_owned).to_vec(),
        function_timeout: FUNCTION_TIMEOUT,
        subscriptions: subscriptions(),
        samples: sendable(),
        http_functions: http_functions(),
        timers: timers(),
        environment: vec![("STORE_URL".to_owned(), store)],
    };
    dev::run(options, super::stop_signal()?)
        .await
        .map_err(|error| error.to_string())
}

/// Runs the local Event Grid until SIGINT or SIGTERM.
///
/// # Errors
/// One line: the port or the folder is at fault.
pub(super) async fn run_grid(command: Grid) -> Result<(), String> {
    let Grid { deliver_to, common } = command;
    let options = GridOptions {
        grid_port: common.grid_port,
        deliver_to,
        data: common.data,
        speed: common.speed,
        throttle: common.throttle,
        quiet: common.quiet,
        delivery: common.delivery.into(),
        subscriptions: subscriptions(),
        samples: sendable(),
    };
    dev::run_grid(options, super::stop_signal()?)
        .await
        .map_err(|error| error.to_string())
}

fn subscriptions() -> Vec<Subscription> {
    let subscribing = FUNCTIONS
        .iter()
        .filter(|function| !function.rules().is_empty());
    let subscription = |function: &'static crate::functions::Function| Subscription {
        function: function.name,
        binding: EVENT_BINDING,
        event_types: function.event_types().collect(),
    };
    subscribing.map(subscription).collect()
}

/// What the page offers to send.
fn sendable() -> Samples {
    let event = |event_type: &'static EventType| {
        let event = samples::event(event_type, samples::ORDER_ID);
        let json = String::from_utf8(cloud_event::to_json(&event)).unwrap_or_default();
        (event_type.name.to_owned(), json)
    };
    Samples {
        events: catalogue().map(event).collect(),
        order_id: samples::ORDER_ID.to_string(),
        order: format!("{:#}", artifacts::new_order()),
    }
}

fn http_functions() -> Vec<HttpFunction> {
    let http = |function: &'static crate::functions::Function| match function.trigger {
        Trigger::Http { method, route } => Some(HttpFunction {
            name: function.name,
            methods: vec![method],
            route,
        }),
        Trigger::EventGrid { .. } | Trigger::Timer { .. } => None,
    };
    FUNCTIONS.iter().filter_map(http).collect()
}

fn timers() -> Vec<TimerFunction> {
    let timers = FUNCTIONS
        .iter()
        .filter(|function| matches!(function.trigger, Trigger::Timer { .. }));
    let timer = |function: &'static crate::functions::Function| TimerFunction {
        function: function.name,
        binding: TIMER_BINDING,
        every: TIMER_INTERVAL,
    };
    timers.map(timer).collect()
}
