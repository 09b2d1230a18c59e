//! The handler under trial: a child process with a clean environment, whose last lines are kept.

use std::{
    collections::VecDeque,
    io,
    net::Ipv4Addr,
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::Client;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    net::TcpListener,
    process::{Child, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::app::App;

/// How long to wait between two probes.
const PROBE: Duration = Duration::from_millis(5);

/// How many of the last lines are kept.
const LINES: usize = 10;

/// How long to wait for them when the handler has ended: a child of its own may keep its pipes open.
const LAST_LINES: Duration = Duration::from_millis(500);

/// A handler that was started. It is killed when it is dropped, without notice, as the host does.
#[derive(Debug)]
pub(super) struct RunningHandler {
    child: Child,
    address: String,
    lines: Arc<Mutex<VecDeque<String>>>,
    readers: JoinSet<()>,
}

impl RunningHandler {
    /// Starts the handler of an app on a free port, with the settings given and nothing else of this process's
    /// environment.
    pub(super) async fn start(app: &App, settings: &[(&str, &str)]) -> io::Result<Self> {
        // The real host, too, takes a port that was free a moment ago.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await?
            .local_addr()?
            .port();
        let mut child = Command::new(&app.program)
            .args(&app.arguments)
            .current_dir(&app.folder)
            .env_clear()
            .envs(settings.iter().copied())
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", "package")
            .env("FUNCTIONS_HTTPWORKER_PORT", port.to_string())
            .env("FUNCTIONS_HTTPWORKER_ID", "package")
            .env("FUNCTIONS_APP_ROOT_PATH", &app.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let lines = Arc::<Mutex<VecDeque<String>>>::default();
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(keep(stdout, lines.clone()));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(keep(stderr, lines.clone()));
        }
        Ok(Self {
            child,
            address: format!("http://127.0.0.1:{port}"),
            lines,
            readers,
        })
    }

    /// Its address, without a slash at the end.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// Once it has ended: how.
    pub(super) async fn ended(&mut self) -> String {
        match self.child.wait().await {
            Ok(status) => format!("the handler ended ({status})"),
            Err(error) => format!("the handler is lost: {error}"),
        }
    }

    /// Kills it. The last lines that it wrote, ready to be appended.
    pub(super) async fn last_words(mut self) -> String {
        // It may be gone already, and then there is nothing to kill.
        drop(self.child.kill().await);
        let last_lines = async { while self.readers.join_next().await.is_some() {} };
        drop(timeout(LAST_LINES, last_lines).await);
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.is_empty() {
            return "; it wrote nothing".to_owned();
        }
        let lines = lines.iter().map(|line| format!("\n    {line}"));
        format!("; its last lines:{}", lines.collect::<String>())
    }
}

/// Returns once the handler answers, whatever it answers: that is all the host waits for.
pub(super) async fn answers(client: &Client, address: &str) {
    while let Err(error) = client.get(format!("{address}/")).send().await {
        if !error.is_connect() {
            return;
        }
        sleep(PROBE).await;
    }
}

async fn keep(from: impl AsyncRead + Unpin, lines: Arc<Mutex<VecDeque<String>>>) {
    let mut from = BufReader::new(from).lines();
    while let Ok(Some(line)) = from.next_line().await {
        if line.trim().is_empty() {
            continue;
        }
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() == LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }
}
