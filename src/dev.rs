//! The whole application on one machine: a local Event Grid and a stand-in for the Functions host.
//!
//! Both are stand-ins. They follow what Event Grid and the Functions host do on the wire, as far as a handler can tell, and
//! leave out what only an operator of Azure would see. `orderflow dev` runs both and starts the handler as its child;
//! `orderflow grid` runs the local Event Grid alone, for use beside `func start`. Everything listens on 127.0.0.1 only and
//! keeps what must survive a restart in one data folder.
//!
//! - `grid`: accepts events, keeps them, delivers them, retries, dead-letters
//! - `page`: the live page at the grid's port
//! - `host`: starts the handler, turns deliveries and timers into invocations, judges the answers, forwards `/api`
//! - `terminal`: what the developer sees of it

mod ambient;
mod banner;
mod body;
mod browser;
mod client;
mod data_folder;
mod error;
mod grid;
mod host;
mod json;
mod listening;
mod page;
mod stop;
mod terminal;

use std::{future::Future, path::PathBuf, pin::pin, time::Duration};

use url::Url;

use self::{
    banner::banner,
    data_folder::DataFolder,
    grid::{Grid, Patience, Setup, Speed},
    host::{Host, HostOptions},
    listening::bind,
    terminal::Terminal,
};
// How the host speaks with a handler, for others who play its part.
pub(crate) use self::{
    client::{describe, loopback},
    host::{InvocationBody, Judgement, exchange, timer_body, with_host_headers},
};
pub use self::{
    error::{DevError, LastWords},
    grid::{DEVELOPMENT_KEY, FASTEST, Fault, StoreError},
};

/// A function that takes events, and with it an event subscription of the same name.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// The name of the function, as its folder has it.
    pub function: &'static str,
    /// The name of its trigger binding, such as `event`.
    pub binding: &'static str,
    /// The full types of the events it takes, such as `Sales.OrderPlaced`.
    pub event_types: Vec<&'static str>,
}

/// An HTTP-triggered function. Only printed: requests under `/api` are forwarded whatever their route.
#[derive(Debug, Clone)]
pub struct HttpFunction {
    /// The name of the function.
    pub name: &'static str,
    /// The methods it answers, such as `POST`.
    pub methods: Vec<&'static str>,
    /// Its route below `/api/`.
    pub route: &'static str,
}

/// A function that a timer fires.
#[derive(Debug, Clone)]
pub struct TimerFunction {
    /// The name of the function.
    pub function: &'static str,
    /// The name of its trigger binding, such as `timer`.
    pub binding: &'static str,
    /// How often it fires.
    pub every: Duration,
}

/// How the local Event Grid delivers.
#[derive(Debug, Clone, Default)]
pub struct DeliveryOptions {
    /// A file of event subscriptions: an object of ARM properties by name, topics with such objects, or a compiled ARM template.
    /// Without it there is one topic with one subscription for each function, to the types that it takes.
    pub subscriptions: Option<PathBuf>,
    /// Where dead letters are kept: a folder, or the address of a blob container of Azurite on this machine, which must exist.
    /// Without it a folder in the data folder.
    pub dead_letters: Option<String>,
    /// How long after the last attempt a dead letter is written, in Event Grid's time. Without it Azure's five minutes.
    pub dead_letter_hold: Option<Duration>,
    /// Makes the random part of every wait, and what is injected into which request, the same in every run.
    pub seed: Option<u64>,
    /// What is injected into deliveries from the start.
    pub faults: Vec<Fault>,
}

/// What the page offers to send.
#[derive(Debug, Clone, Default)]
pub struct Samples {
    /// Type and JSON of one event of each type, all about the same order.
    pub events: Vec<(String, String)>,
    /// The id of that order.
    pub order_id: String,
    /// The JSON body of an order to place.
    pub order: String,
}

/// How to run the whole application.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct DevOptions {
    /// Where the host listens; 0 picks a free port.
    pub host_port: u16,
    /// Where the local Event Grid listens; 0 picks a free port.
    pub grid_port: u16,
    /// The data folder; made if need be.
    pub data: PathBuf,
    /// How many times faster than in Azure Event Grid's time passes, from 0 to [`FASTEST`]. At 60 a wait of a minute takes a
    /// second, and the 24 hours of an event's life take 24 minutes. At 0 it passes only when its clock is turned.
    pub speed: f64,
    /// Refuses what is more than a topic in Azure takes: 5,000 events or 5 MB per second.
    pub throttle: bool,
    /// Shows only what went wrong.
    pub quiet: bool,
    /// How events are delivered.
    pub delivery: DeliveryOptions,
    /// Opens the grid's address in a browser.
    pub open: bool,
    /// The handler publishes with tokens of the grid's identity endpoint, as in Azure, and not with the access key.
    pub managed_identity: bool,
    /// The handler's program.
    pub handler: PathBuf,
    /// Its arguments, such as `serve`.
    pub handler_arguments: Vec<String>,
    /// After this time a function that has not ended counts as stuck and the handler is killed (`functionTimeout` of host.json).
    pub function_timeout: Duration,
    /// The functions that take events.
    pub subscriptions: Vec<Subscription>,
    /// What the page offers to send.
    pub samples: Samples,
    /// The HTTP-triggered functions.
    pub http_functions: Vec<HttpFunction>,
    /// The functions that timers fire.
    pub timers: Vec<TimerFunction>,
    /// Settings for the handler. `EVENTGRID_TOPIC_ENDPOINT` and `EVENTGRID_TOPIC_KEY` are those of the local grid unless
    /// they are among these. `STORE_URL` is shown at the start.
    pub environment: Vec<(String, String)>,
}

/// How to run the local Event Grid alone.
#[derive(Debug, Clone)]
pub struct GridOptions {
    /// Where it listens; 0 picks a free port.
    pub grid_port: u16,
    /// The base address of the host to deliver to, such as `http://127.0.0.1:7071`.
    pub deliver_to: String,
    /// The data folder; made if need be.
    pub data: PathBuf,
    /// As in [`DevOptions::speed`].
    pub speed: f64,
    /// Refuses what is more than a topic in Azure takes: 5,000 events or 5 MB per second.
    pub throttle: bool,
    /// Shows only what went wrong.
    pub quiet: bool,
    /// How events are delivered.
    pub delivery: DeliveryOptions,
    /// The functions that take events.
    pub subscriptions: Vec<Subscription>,
    /// What the page offers to send.
    pub samples: Samples,
}

/// Runs the whole application until `shutdown` is over: `orderflow dev`.
pub async fn run(options: DevOptions, shutdown: impl Future<Output = ()>) -> Result<(), DevError> {
    Dev::bind(options).await?.run(shutdown).await
}

/// Runs the local Event Grid until `shutdown` is over: `orderflow grid`.
pub async fn run_grid(
    options: GridOptions,
    shutdown: impl Future<Output = ()>,
) -> Result<(), DevError> {
    LocalGrid::bind(options).await?.run(shutdown).await
}

/// The whole application, its ports bound but not answering yet.
#[derive(Debug)]
pub struct Dev {
    // Before the folder, so that the folder is let go last.
    grid: Grid,
    host: Host,
    addresses: Addresses,
    banner: Vec<String>,
    open: bool,
    terminal: Terminal,
    folder: DataFolder,
}

/// Where the stand-ins listen.
#[derive(Debug, Clone)]
struct Addresses {
    grid: String,
    host: String,
}

impl Dev {
    /// Takes the data folder and the ports.
    pub async fn bind(options: DevOptions) -> Result<Self, DevError> {
        let speed = Speed::new(options.speed).ok_or(DevError::Speed(options.speed))?;
        let folder = DataFolder::open(&options.data)?;
        let host_listener = bind(options.host_port, "--host-port").await?;
        let grid_listener = bind(options.grid_port, "--grid-port").await?;
        let terminal = Terminal::start(options.quiet);
        let setup = Setup {
            functions: options.subscriptions.clone(),
            other_functions: false,
            delivery: options.delivery.clone(),
            samples: options.samples.clone(),
            speed,
            throttle: options.throttle,
            patience: Patience::default(),
        };
        let grid = Grid::open(grid_listener, &folder, setup, terminal.clone()).await?;
        let addresses = Addresses {
            grid: grid.address()?,
            host: listening::address(&host_listener)?,
        };
        if let Some(problem) = grid.refuses_handler(options.managed_identity) {
            return Err(DevError::DefaultTopic(problem));
        }
        let dead_letters = grid.dead_letters();
        let banner = banner(&options, &addresses, &grid.topics(), &folder, &dead_letters);
        let mut environment = publishing(&addresses.grid, options.managed_identity);
        environment.extend(options.environment);
        let host_options = HostOptions {
            program: options.handler,
            arguments: options.handler_arguments,
            environment,
            function_timeout: options.function_timeout,
            subscriptions: options.subscriptions,
            timers: options.timers,
        };
        let host = Host::open(host_listener, &folder, host_options, terminal.clone())?;
        Ok(Self {
            grid,
            host,
            addresses,
            banner,
            open: options.open,
            terminal,
            folder,
        })
    }

    /// The host's address, without a slash at the end.
    pub fn host_address(&self) -> &str {
        &self.addresses.host
    }

    /// The grid's address, without a slash at the end.
    pub fn grid_address(&self) -> &str {
        &self.addresses.grid
    }

    /// Runs everything until `shutdown` is over, lets what is under way finish, and kills the handler.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), DevError> {
        let Self {
            grid,
            host,
            addresses,
            banner,
            open,
            terminal,
            folder,
        } = self;
        let deliver_to = parse_address(&addresses.host)?;
        let (stopper, stop) = stop::channel();
        // The grid answers until the functions are at rest: they publish.
        let (rest, at_rest) = stop::channel();
        let ready = || {
            for line in &banner {
                terminal.notice(line);
            }
            if let Err(error) = folder.announce(&addresses.host, &addresses.grid) {
                terminal.alarm(format!(
                    "cannot write {}: {error}",
                    folder.endpoints().display()
                ));
            }
            if open {
                browser::open(&addresses.grid, &terminal);
            }
        };
        let stand_ins = async {
            let host = async {
                host.run(ready, stop.clone()).await?;
                rest.stop();
                Ok(())
            };
            // Boxed, since together they are too large to be moved about.
            tokio::try_join!(
                Box::pin(host),
                Box::pin(grid.run(&deliver_to, stop.clone(), at_rest))
            )
            .map(drop)
        };
        let ended = until(shutdown, &stopper, stand_ins).await;
        folder.withdraw();
        terminal.flush().await;
        ended
    }
}

/// The settings with which a handler publishes to the grid.
fn publishing(grid: &str, managed_identity: bool) -> Vec<(String, String)> {
    let endpoint = ("EVENTGRID_TOPIC_ENDPOINT", format!("{grid}/api/events"));
    let key = |key: &str| ("EVENTGRID_TOPIC_KEY", key.to_owned());
    let settings = if managed_identity {
        vec![
            endpoint,
            // What the developer's own environment says must not count.
            key(""),
            ("AZURE_CLIENT_ID", String::new()),
            ("IDENTITY_ENDPOINT", format!("{grid}/msi/token")),
            ("IDENTITY_HEADER", DEVELOPMENT_KEY.to_owned()),
        ]
    } else {
        vec![endpoint, key(DEVELOPMENT_KEY)]
    };
    let owned = settings.into_iter();
    owned
        .map(|(name, value)| (name.to_owned(), value))
        .collect()
}

/// The local Event Grid alone, its port bound but not answering yet.
#[derive(Debug)]
pub struct LocalGrid {
    // Before the folder, so that the folder is let go last.
    grid: Grid,
    address: String,
    deliver_to: Url,
    terminal: Terminal,
    folder: DataFolder,
}

impl LocalGrid {
    /// Takes the data folder and the port.
    pub async fn bind(options: GridOptions) -> Result<Self, DevError> {
        let speed = Speed::new(options.speed).ok_or(DevError::Speed(options.speed))?;
        let deliver_to = parse_address(&options.deliver_to)?;
        let folder = DataFolder::open(&options.data)?;
        let listener = bind(options.grid_port, "--grid-port").await?;
        let terminal = Terminal::start(options.quiet);
        let setup = Setup {
            functions: options.subscriptions,
            other_functions: true,
            delivery: options.delivery,
            samples: options.samples,
            speed,
            throttle: options.throttle,
            patience: Patience::default(),
        };
        let grid = Grid::open(listener, &folder, setup, terminal.clone()).await?;
        let address = grid.address()?;
        Ok(Self {
            grid,
            address,
            deliver_to,
            terminal,
            folder,
        })
    }

    /// The grid's address, without a slash at the end.
    pub fn grid_address(&self) -> &str {
        &self.address
    }

    /// Runs the grid until `shutdown` is over and lets the deliveries under way finish.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), DevError> {
        let Self {
            grid,
            address,
            deliver_to,
            terminal,
            // Held until the grid has ended.
            folder: _folder,
        } = self;
        let (stopper, stop) = stop::channel();
        terminal.notice(format!(
            "Local Event Grid   {address}/api/events, delivering to {deliver_to}"
        ));
        for (name, what) in grid.topics() {
            terminal.notice(format!("  {name:<16} {what}"));
        }
        terminal.notice(format!("Live page          {address}"));
        terminal.notice(format!("Access key         {DEVELOPMENT_KEY}"));
        terminal.notice(format!("Dead letters       {}", grid.dead_letters()));
        let ended = until(
            shutdown,
            &stopper,
            Box::pin(grid.run(&deliver_to, stop.clone(), stop.clone())),
        )
        .await;
        terminal.flush().await;
        ended
    }
}

/// Runs `parts` until they fail or `shutdown` is over; then tells them to stop and waits for them.
async fn until(
    shutdown: impl Future<Output = ()>,
    stopper: &stop::Stopper,
    parts: impl Future<Output = Result<(), DevError>>,
) -> Result<(), DevError> {
    let mut parts = pin!(parts);
    tokio::select! {
        ended = &mut parts => return ended,
        () = shutdown => stopper.stop(),
    }
    parts.await
}

/// The address of a host, which must be plain HTTP: there is nothing to encrypt on the way to it.
fn parse_address(given: &str) -> Result<Url, DevError> {
    let unusable = |problem: &str| DevError::DeliverTo {
        given: given.to_owned(),
        problem: problem.to_owned(),
    };
    let address = Url::parse(given).map_err(|error| unusable(&error.to_string()))?;
    if address.scheme() == "http" {
        Ok(address)
    } else {
        Err(unusable("it does not begin with http://"))
    }
}
