//! `orderflow dev`: started, killed, and started again on the same folder and the same ports.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
    process::Stdio,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::process::Command;

use crate::random::Random;

/// How long `dev` may take until it listens, and until it has ended.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How many times faster than Azure's the grid's waits are. The ack window is never shortened.
const SPEED: &str = "300";

/// How `dev` is run.
pub struct DevCommand {
    pub folder: PathBuf,
    pub data: PathBuf,
    /// `--store`.
    pub store: Option<String>,
    pub environment: Vec<(&'static str, String)>,
}

/// Keeps `dev` running, as the platform does with the host in Azure.
pub struct Dev {
    command: DevCommand,
    host_port: u16,
    grid_port: u16,
    /// Every process group so far; the last one is that of the process that runs, if one does.
    groups: Mutex<Vec<u32>>,
    running: Mutex<Option<u32>>,
    stopping: AtomicBool,
    /// How often it ended and had not been killed.
    given_up: AtomicU64,
}

impl Dev {
    pub fn new(command: DevCommand) -> Self {
        Self {
            command,
            host_port: free_port(),
            grid_port: free_port(),
            groups: Mutex::default(),
            running: Mutex::default(),
            stopping: AtomicBool::new(false),
            given_up: AtomicU64::new(0),
        }
    }

    pub fn host(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.host_port)
    }

    pub fn grid(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.grid_port)
    }

    /// What `dev` prints.
    pub fn output(&self) -> PathBuf {
        self.command.folder.join("dev.log")
    }

    /// How often it ended by itself: the host gives up after the third error of its handler, or has no room on its disk.
    pub fn given_up(&self) -> u64 {
        self.given_up.load(SeqCst)
    }

    /// Starts it, whenever it does not run, until [`stop`](Self::stop). The exit code of the last one.
    pub async fn keep_running(&self) -> Option<i32> {
        loop {
            let mut process = self.command().spawn().unwrap();
            let id = process.id().unwrap();
            self.groups.lock().unwrap().push(id);
            *self.running.lock().unwrap() = Some(id);
            let status = process.wait().await.unwrap();
            *self.running.lock().unwrap() = None;
            if self.stopping.load(SeqCst) {
                return status.code();
            }
            if status.code().is_some() {
                self.given_up.fetch_add(1, SeqCst);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderflow"));
        let output = File::options()
            .create(true)
            .append(true)
            .open(self.output())
            .unwrap();
        command
            .args(["dev", "--speed", SPEED])
            .args(["--host-port", &self.host_port.to_string()])
            .args(["--grid-port", &self.grid_port.to_string()])
            .arg("--data")
            .arg(&self.command.data);
        if let Some(store) = &self.command.store {
            command.args(["--store", store]);
        }
        command
            .envs(self.command.environment.iter().map(|(n, v)| (n, v)))
            .current_dir(&self.command.folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .process_group(0)
            .kill_on_drop(true);
        command
    }

    /// Waits until the host answers.
    pub async fn is_up(&self, client: &reqwest::Client) {
        let started = Instant::now();
        while client.get(self.host("/")).send().await.is_err() {
            assert!(started.elapsed() < START_LIMIT, "dev does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The handler, if one runs.
    pub fn handler(&self) -> Option<u32> {
        let running = (*self.running.lock().unwrap())?;
        children(running).first().copied()
    }

    /// Kills `dev` alone; whether it ran. Its handler goes when it notices.
    pub fn kill(&self) -> bool {
        let running = *self.running.lock().unwrap();
        running.is_some_and(|process| signal("KILL", &process.to_string()))
    }

    /// Kills `dev` and its handler at the same moment; whether they ran.
    pub fn kill_group(&self) -> bool {
        let running = *self.running.lock().unwrap();
        running.is_some_and(|process| signal("KILL", &format!("-{process}")))
    }

    /// Interrupts `dev`, as Ctrl-C does.
    pub fn stop(&self) {
        self.stopping.store(true, SeqCst);
        if let Some(process) = *self.running.lock().unwrap() {
            signal("INT", &process.to_string());
        }
    }
}

impl Drop for Dev {
    /// Leaves nothing behind.
    fn drop(&mut self) {
        for group in self.groups.lock().unwrap().iter() {
            signal("KILL", &format!("-{group}"));
        }
    }
}

/// Sends a signal to a process or a group (`-ID`); whether there was one.
pub fn signal(name: &str, to: &str) -> bool {
    let mut kill = std::process::Command::new("kill");
    kill.args([&format!("-{name}"), "--", to]);
    kill.stderr(Stdio::null()).status().unwrap().success()
}

fn children(process: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task"));
    let tasks = tasks.into_iter().flatten().flatten();
    let lists = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let ids = |list: String| -> Vec<u32> {
        let ids = list.split_whitespace().filter_map(|id| id.parse().ok());
        ids.collect()
    };
    lists.flat_map(ids).collect()
}

/// A free port that no outgoing connection is given while `dev` is away (`ip_local_port_range` begins at 32768).
fn free_port() -> u16 {
    let mut random = Random::new(Random::seed(), 0);
    loop {
        let port = 20_000 + u16::try_from(random.below(10_000)).unwrap();
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}
