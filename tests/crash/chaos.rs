//! What goes wrong, at random moments.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};

use crate::{
    customers::get,
    dev::{Dev, signal},
    disk::SmallDisk,
    postgres_server::PostgresServer,
    proxy::{Cut, Proxy},
    random::Random,
};

/// Longer than Event Grid waits for an answer, and shorter than the host does.
const BEYOND_THE_ACK_WINDOW: (u64, u64) = (31_000, 34_000);

/// In a run of this length the handler is stopped beyond the ack window, once in so long.
const LONG_PAUSE_EVERY: Duration = Duration::from_secs(150);

/// How long the next disturbance waits, at most, until orders are answered again.
const RECOVERY: Duration = Duration::from_secs(5);

/// Something that goes wrong.
#[derive(Debug, Clone, Copy)]
enum Disturbance {
    KillHandler,
    KillGroup,
    KillDev,
    KillPostgres,
    Pause,
    FullDisk,
    CutStore,
    CutPayments,
}

/// What can be disturbed.
pub struct Chaos {
    pub dev: Arc<Dev>,
    pub client: reqwest::Client,
    pub disk: Option<Arc<SmallDisk>>,
    pub postgres: Option<Arc<PostgresServer>>,
    pub store_proxy: Option<Proxy>,
    pub payments_proxy: Proxy,
    /// What was killed, and how often.
    pub kills: Mutex<BTreeMap<&'static str, u64>>,
    /// What else was done, and how often.
    pub others: Mutex<BTreeMap<&'static str, u64>>,
}

impl Chaos {
    /// Does one thing after the other, with waits of `every` on average, until the time is over. Then all is well again.
    pub async fn reign(&self, random: &mut Random, every: Duration, length: Duration) {
        let end = Instant::now() + length;
        let mut long_pause = Instant::now() + LONG_PAUSE_EVERY / 2;
        let twice = u64::try_from(every.as_millis()).unwrap().max(1) * 2;
        while Instant::now() < end {
            sleep(random.time(0, twice)).await;
            if Instant::now() > long_pause {
                long_pause += LONG_PAUSE_EVERY;
                let (from, to) = BEYOND_THE_ACK_WINDOW;
                self.pause(random.time(from, to), "pauses beyond the ack window")
                    .await;
                continue;
            }
            let disturbance = random.one_of(&self.disturbances());
            self.disturb(disturbance, random).await;
        }
        for proxy in self.proxies() {
            proxy.heal();
        }
    }

    fn disturbances(&self) -> Vec<(u64, Disturbance)> {
        let mut possible = vec![
            (50, Disturbance::KillHandler),
            (20, Disturbance::KillGroup),
            (5, Disturbance::KillDev),
            (4, Disturbance::Pause),
            (8, Disturbance::CutPayments),
        ];
        possible.extend(self.disk.as_ref().map(|_| (4, Disturbance::FullDisk)));
        possible.extend(
            self.postgres
                .as_ref()
                .map(|_| (12, Disturbance::KillPostgres)),
        );
        possible.extend(
            self.store_proxy
                .as_ref()
                .map(|_| (10, Disturbance::CutStore)),
        );
        possible
    }

    async fn disturb(&self, disturbance: Disturbance, random: &mut Random) {
        match disturbance {
            Disturbance::KillHandler => {
                let killed = self
                    .dev
                    .handler()
                    .is_some_and(|handler| signal("KILL", &handler.to_string()));
                self.killed(killed, "the handler");
                self.recover(random).await;
            }
            Disturbance::KillGroup => {
                self.kill_group().await;
                self.recover(random).await;
            }
            Disturbance::KillDev => {
                self.killed(self.dev.kill(), "dev alone");
                self.recover(random).await;
            }
            Disturbance::KillPostgres => self.kill_postgres(random).await,
            Disturbance::Pause => self.pause(random.time(500, 3_000), "short pauses").await,
            Disturbance::FullDisk => self.fill_the_disk(random).await,
            Disturbance::CutStore => {
                let proxy = self.store_proxy.as_ref().unwrap();
                cut(proxy, random);
            }
            Disturbance::CutPayments => cut(&self.payments_proxy, random),
        }
    }

    /// Kills everything at once, and waits until it runs again.
    pub async fn kill_group(&self) {
        self.killed(self.dev.kill_group(), "dev and its handler");
        self.dev.is_up(&self.client).await;
    }

    /// Mostly waits until orders are answered again: who is killed at every start gets nowhere.
    async fn recover(&self, random: &mut Random) {
        self.dev.is_up(&self.client).await;
        if random.percent(75) {
            let orders = self.dev.host("/api/orders?limit=1");
            let answered = async { while get(&self.client, &orders).await.is_none() {} };
            drop(timeout(RECOVERY, answered).await);
        }
    }

    async fn kill_postgres(&self, random: &mut Random) {
        let server = self.postgres.clone().unwrap();
        let (immediate, away) = (random.percent(30), random.time(0, 1_000));
        spawn_blocking(move || {
            if immediate {
                server.stop("immediate");
            } else {
                server.kill();
            }
            std::thread::sleep(away);
            server.run();
        })
        .await
        .unwrap();
        let which = if immediate {
            "PostgreSQL, by immediate shutdown"
        } else {
            "PostgreSQL"
        };
        self.killed(true, which);
        self.recover(random).await;
    }

    async fn pause(&self, time: Duration, which: &'static str) {
        let Some(handler) = self.dev.handler() else {
            return;
        };
        if signal("STOP", &handler.to_string()) {
            sleep(time).await;
            signal("CONT", &handler.to_string());
            self.did(which, 1);
        }
    }

    async fn fill_the_disk(&self, random: &mut Random) {
        let disk = self.disk.clone().unwrap();
        let filling = disk.clone();
        spawn_blocking(move || filling.fill()).await.unwrap();
        sleep(random.time(200, 2_000)).await;
        if random.percent(30) {
            // It must start on a full disk, or later.
            self.killed(self.dev.kill_group(), "dev and its handler");
        }
        sleep(random.time(200, 2_000)).await;
        disk.free();
        self.did("full disks", 1);
        self.recover(random).await;
    }

    fn killed(&self, done: bool, what: &'static str) {
        *self.kills.lock().unwrap().entry(what).or_default() += u64::from(done);
    }

    fn did(&self, what: &'static str, times: u64) {
        *self.others.lock().unwrap().entry(what).or_default() += times;
    }

    /// How many kills there were so far.
    pub fn kill_count(&self) -> u64 {
        self.kills.lock().unwrap().values().sum()
    }

    /// How many connections were cut.
    pub fn cut_count(&self) -> u64 {
        self.proxies().map(|proxy| u64::from(proxy.done())).sum()
    }

    fn proxies(&self) -> impl Iterator<Item = &Proxy> {
        self.store_proxy.iter().chain([&self.payments_proxy])
    }
}

fn cut(proxy: &Proxy, random: &mut Random) {
    let count = 1 + u32::try_from(random.below(4)).unwrap();
    proxy.cut(random.one_of(&[
        (1, Cut::Everything),
        (1, Cut::Requests(count)),
        (2, Cut::Answers(count)),
    ]));
}
