//! One run: everything is started, disturbed, left alone until it is at rest, and audited.

mod report;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::join_all;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use crate::{
    Options, Store,
    audit::{Evidence, audit},
    books::{self, Books},
    chaos::Chaos,
    customers::{Customers, get},
    dead_letters::DeadLetters,
    dev::{Dev, DevCommand},
    disk::SmallDisk,
    postgres_server::PostgresServer,
    proxy::Proxy,
    random::Random,
    stripe_stand_in::{Fault, KEY, StripeStandIn},
};

/// How long everything may take to come to rest: a delivery that failed eight times waits for 36 s at the grid's speed.
const REST_LIMIT: Duration = Duration::from_secs(240);

/// How often the timer function is fired. Azure does it once a minute.
const SWEEP_EVERY: Duration = Duration::from_secs(3);

/// How often the bank decides on refunds that are pending.
const SETTLE_EVERY: Duration = Duration::from_secs(2);

/// How often the provider is slow to do what it is asked for, and with what.
const SLOW_EVERY: Duration = Duration::from_millis(250);
const SLOW_AT_TIMES: [(u64, &str); 2] = [(3, "POST /v1/payment_intents"), (1, "POST /v1/refunds")];

/// How often is told how far things are.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The most orders that are looked at in one go.
const LOOK_AT: usize = 40;

/// Everything that runs.
struct World {
    seed: u64,
    started: Instant,
    /// The data folder of `dev`.
    data: PathBuf,
    client: reqwest::Client,
    dev: Arc<Dev>,
    stand_in: StripeStandIn,
    /// The database, past the proxy.
    database: Option<String>,
    customers: Arc<Customers>,
    dead_letters: DeadLetters,
    chaos: Chaos,
    /// Removed last, when nothing is mounted in it any more.
    folder: TempDir,
}

/// Runs, and says how it ended.
pub async fn run(options: &Options) -> ExitCode {
    let Some(world) = World::make(options).await else {
        eprintln!("crash: PostgreSQL is not installed (apt-get install postgresql)");
        return ExitCode::FAILURE;
    };
    let running = tokio::spawn({
        let dev = world.dev.clone();
        async move { dev.keep_running().await }
    });
    world.dev.is_up(&world.client).await;
    world.disturb(options).await;
    // What was killed last pays at its next start; and that must do without any help.
    world.chaos.kill_group().await;
    let gave_up = world.dev.given_up();
    let rested = world.rest().await;
    let evidence = Evidence {
        gave_up_in_peace: world.dev.given_up() - gave_up,
        ..world.evidence(running).await
    };
    let findings = audit(&evidence);
    world.report(&evidence, &findings, rested);
    if findings.iter().all(|finding| finding.wrong.is_empty()) {
        return ExitCode::SUCCESS;
    }
    world.keep();
    ExitCode::FAILURE
}

impl World {
    async fn make(options: &Options) -> Option<Self> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let seed = options.seed.unwrap_or_else(Random::seed);
        let mut folder = tempfile::Builder::new();
        let folder = folder
            .prefix("crash-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.unwrap();
        let data = folder.path().join("data");
        std::fs::create_dir(&data).unwrap();
        let disk = SmallDisk::mount(&data).map(Arc::new);
        if disk.is_none() {
            eprintln!(
                "crash: skipped: a full disk, since no tmpfs can be mounted (that takes root)"
            );
        }
        let postgres = match options.store {
            Store::Sqlite => None,
            Store::Postgres => Some(Arc::new(PostgresServer::start("-c fsync=off")?)),
        };
        let (mut database, mut store, mut store_proxy) = (None, None, None);
        if let Some(server) = &postgres {
            let url = server.database().await;
            let proxy = Proxy::start(address(&url)).await;
            store = Some(url.replace(&address(&url).to_string(), &proxy.address.to_string()));
            (database, store_proxy) = (Some(url), Some(proxy));
        }
        let stand_in = StripeStandIn::start().await;
        let payments_proxy = Proxy::start(address(stand_in.url())).await;
        let dev = Dev::new(DevCommand {
            folder: folder.path().to_owned(),
            data: data.clone(),
            store,
            environment: vec![
                ("PAYMENT_PROVIDER", "stripe".to_owned()),
                ("STRIPE_API_KEY", KEY.to_owned()),
                (
                    "STRIPE_API_BASE",
                    format!("http://{}", payments_proxy.address),
                ),
                ("CATALOG_FILE", catalog(folder.path())),
                ("RUST_LOG", "warn".to_owned()),
            ],
        });
        let dev = Arc::new(dev);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        eprintln!(
            "crash: {:?}, seed {seed}, {} minutes, in {}",
            options.store,
            options.minutes,
            folder.path().display()
        );
        Some(Self {
            seed,
            started: Instant::now(),
            data,
            customers: Arc::new(Customers::new(seed, client.clone(), dev.clone())),
            dead_letters: DeadLetters::new(client.clone(), dev.clone()),
            chaos: Chaos {
                dev: dev.clone(),
                client: client.clone(),
                disk,
                postgres,
                store_proxy,
                payments_proxy,
                kills: Mutex::default(),
                others: Mutex::default(),
            },
            folder,
            client,
            dev,
            stand_in,
            database,
        })
    }

    /// Customers come, and everything is disturbed.
    async fn disturb(&self, options: &Options) {
        let shopping = Mutex::new(JoinSet::new());
        let mut random = Random::new(self.seed, u64::MAX);
        let length = Duration::from_secs_f64(options.minutes * 60.0);
        let every = Duration::from_secs_f64(options.every);
        let orders = Duration::from_secs_f64(1.0 / options.rate);
        tokio::select! {
            () = self.chaos.reign(&mut random, every, length) => {}
            () = self.customers.come(orders, options.orders, &shopping) => {}
            () = self.time_passes() => {}
            () = self.tell(length) => {}
        }
        // Those who have placed an order go on asking until they are answered.
        let shopping = shopping.into_inner().unwrap();
        let answered = timeout(REST_LIMIT, shopping.join_all());
        tokio::select! {
            // Who is not answered by then is found by the audit.
            _ = answered => {}
            () = self.time_passes() => {}
        }
    }

    /// The timer fires, the bank decides on refunds, the provider is slow at times, and somebody looks at the orders.
    async fn time_passes(&self) {
        let sweeps = async {
            loop {
                let sweep = self.client.post(self.dev.host("/admin/functions/sweep"));
                // Nobody may be there to do it.
                drop(sweep.body(r#"{"input":""}"#).send().await);
                sleep(SWEEP_EVERY).await;
            }
        };
        let settles = async {
            let mut random = Random::new(self.seed, u64::MAX - 1);
            loop {
                let failed = random.percent(50);
                self.stand_in
                    .settle(if failed { "failed" } else { "succeeded" });
                sleep(SETTLE_EVERY).await;
            }
        };
        // A charge takes its time, and is made even if the one who asked for it has been killed meanwhile.
        let slow_answers = async {
            let mut random = Random::new(self.seed, u64::MAX - 2);
            loop {
                let operation = random.one_of(&SLOW_AT_TIMES);
                let delay = Fault::Delay(random.time(50, 1_500));
                self.stand_in.fail_next(operation, delay);
                sleep(SLOW_EVERY).await;
            }
        };
        let looks = async {
            loop {
                self.customers.look(LOOK_AT).await;
                sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::join!(sweeps, settles, slow_answers, looks);
    }

    async fn tell(&self, length: Duration) {
        loop {
            sleep(TELL_EVERY).await;
            let (placed, accepted, over) = self.customers.count();
            eprintln!(
                "crash: {} s of {}: {placed} orders placed, {accepted} accepted, {over} over; {} kills",
                self.started.elapsed().as_secs(),
                length.as_secs(),
                self.chaos.kill_count()
            );
        }
    }

    /// Waits until nothing is under way; how long that took, if it came to that.
    async fn rest(&self) -> Option<Duration> {
        let began = Instant::now();
        let rest = async {
            loop {
                sleep(Duration::from_millis(200)).await;
                let (_, accepted, over) = self.customers.count();
                let idle = get(&self.client, &self.dev.grid("/idle")).await;
                let idle = idle.is_some_and(|idle| idle["pending"] == 0);
                let owed = || async { self.books().await.is_some_and(|books| books.pending == 0) };
                let replayed = self.dead_letters.replay().await;
                if accepted == over && idle && replayed && owed().await {
                    return;
                }
            }
        };
        tokio::select! {
            rested = timeout(REST_LIMIT, rest) => rested.ok().map(|()| began.elapsed()),
            () = self.time_passes() => None,
            () = self.tell(Duration::ZERO) => None,
        }
    }

    async fn books(&self) -> Option<Books> {
        match &self.database {
            Some(url) => books::of_postgres(url).await.ok(),
            None => books::of_sqlite(&self.data.join("orders.db")).ok(),
        }
    }

    async fn evidence(&self, running: tokio::task::JoinHandle<Option<i32>>) -> Evidence {
        let views = self.views().await;
        let idle = get(&self.client, &self.dev.grid("/idle")).await;
        let undelivered = idle.unwrap_or_default()["pending"].take();
        let dead_letters = self.dead_letters.unexpected().await;
        self.dev.stop();
        let (ledger, payment_intents) = Evidence::of_provider(&self.stand_in);
        Evidence {
            customers: self.customers.all(),
            views,
            ledger,
            payment_intents,
            undelivered,
            dead_letters,
            exit: running.await.unwrap(),
            panics: self
                .printed()
                .lines()
                .filter(|line| line.contains("panicked at"))
                .map(str::to_owned)
                .collect(),
            gave_up_in_peace: 0,
            books: self.books().await.unwrap_or_default(),
        }
    }

    /// Every order that there is, through the API.
    async fn views(&self) -> Vec<Value> {
        let (mut views, mut after) = (Vec::new(), String::new());
        loop {
            let path = format!("/api/orders?limit=200&after={after}");
            let Some(page) = self.customers.get(&path).await else {
                return views;
            };
            let listed = page["orders"].as_array().unwrap();
            for some in listed.chunks(20) {
                let paths = some.iter().map(|order| {
                    let id = order["orderId"].as_str().unwrap();
                    async move { self.customers.get(&format!("/api/orders/{id}")).await }
                });
                views.extend(join_all(paths).await.into_iter().flatten());
            }
            match page["next"].as_str() {
                Some(next) => next.clone_into(&mut after),
                None => return views,
            }
        }
    }

    /// What every `dev` has printed.
    fn printed(&self) -> String {
        let printed = std::fs::read(self.dev.output()).unwrap();
        String::from_utf8_lossy(&printed).into_owned()
    }

    /// Keeps what is about to go: the data folder, which is on a disk of its own, and the database.
    fn keep(mut self) {
        self.folder.disable_cleanup(true);
        let kept = self.folder.path().join("kept");
        let mut copy = std::process::Command::new("cp");
        copy.arg("-a").arg(&self.data);
        if let Some(server) = &self.chaos.postgres {
            server.stop("fast");
            copy.arg(server.folder());
        }
        std::fs::create_dir(&kept).unwrap();
        copy.arg(&kept).status().unwrap();
        println!("the data folder is kept: {}", kept.display());
    }
}

/// Host and port of a URL.
fn address(url: &str) -> SocketAddr {
    let url = url::Url::parse(url).unwrap();
    let host = url.host_str().unwrap();
    format!("{host}:{}", url.port().unwrap()).parse().unwrap()
}

/// The development catalog, but a declined payment is tried again at once.
fn catalog(folder: &Path) -> String {
    let mut catalog: Value = serde_json::from_str(orderflow::sales::Catalog::DEVELOPMENT).unwrap();
    catalog["paymentRetryMinutes"] = 0.into();
    let file = folder.join("catalog.json");
    std::fs::write(&file, catalog.to_string()).unwrap();
    file.to_str().unwrap().to_owned()
}
