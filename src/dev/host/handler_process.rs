//! The life of the handler process: started, probed, watched, started again, killed.
//!
//! As in the real host it is given no notice before it is killed. It never outlives the host: it is killed when this future
//! is dropped. Should the host itself be killed, the handler's stdin closes.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use reqwest::Client;
use tokio::{
    process::{Child, Command},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    handler_output::HandlerOutput,
    restart_policy::{Decision, End, RestartPolicy},
};
use crate::dev::{DevError, ambient::random_id, listening, stop::Stop, terminal::Terminal};

/// How long a handler may take to answer for the first time (`initializationTimeout` of host.json).
const START: Duration = Duration::from_secs(30);

/// How long to wait between two probes.
const PROBE: Duration = Duration::from_millis(25);

/// An interrupt from the keyboard reaches host and handler alike. So long the host waits for its own before it takes the
/// handler's end for a failure.
const OWN_INTERRUPT: Duration = Duration::from_millis(200);

/// How long to wait for the last lines of a handler that has ended.
const LAST_LINES: Duration = Duration::from_millis(200);

/// How long an invocation waits for a handler that is being started: as the real host, four times its limit for a start.
const READINESS: Duration = Duration::from_secs(4 * 30);

/// How long the host may take to notice that the handler has ended.
const NOTICING: Duration = Duration::from_millis(500);

/// What to start.
#[derive(Debug, Clone)]
pub(super) struct HandlerCommand {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
}

/// Where the handler is, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Starting,
    Running(Running),
    Ended,
}

/// A handler that answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Running {
    /// Its address, without a slash at the end.
    pub(super) address: String,
    /// Which one it is, counted from 1.
    start: u64,
}

/// There is no handler to send an invocation to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoHandler {
    /// It has ended for good.
    #[error("the handler has ended and is not started again")]
    Ended,
    /// It did not start in time.
    #[error("the handler did not become ready in time")]
    NotReady,
}

/// A handle to the handler process.
#[derive(Debug, Clone)]
pub(super) struct Handler {
    state: watch::Receiver<State>,
    kill: mpsc::Sender<u64>,
}

impl Handler {
    /// Where the handler is, once it is ready.
    pub(super) async fn ready(&self) -> Result<Running, NoHandler> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| *state != State::Starting);
        match timeout(READINESS, settled)
            .await
            .map_err(|_| NoHandler::NotReady)?
            .as_deref()
        {
            Ok(State::Running(running)) => Ok(running.clone()),
            Ok(State::Starting | State::Ended) | Err(_) => Err(NoHandler::Ended),
        }
    }

    /// Whether this handler, whose connections fail, has ended. It may be gone a moment before the host notices.
    pub(super) async fn has_gone(&self, running: &Running) -> bool {
        let mut state = self.state.clone();
        let gone = state.wait_for(|state| !matches!(state, State::Running(now) if now == running));
        timeout(NOTICING, gone).await.is_ok()
    }

    /// Has this handler killed and another one started. Does nothing when it is gone already.
    pub(super) fn kill(&self, running: &Running) {
        // A full queue holds the same order from another invocation.
        let _ = self.kill.try_send(running.start);
    }
}

#[cfg(test)]
impl Handler {
    /// A handle to a handler that a test plays: the function says where it is now, as its start with this number.
    pub(super) fn played() -> (impl Fn(String, u64), Self) {
        let (state, seen) = watch::channel(State::Starting);
        let (kill, _) = mpsc::channel(1);
        let play = move |address, start| {
            drop(state.send_replace(State::Running(Running { address, start })));
        };
        (play, Self { state: seen, kill })
    }
}

/// Keeps a handler running.
#[derive(Debug)]
pub(super) struct HandlerProcess {
    command: HandlerCommand,
    output: HandlerOutput,
    client: Client,
    terminal: Terminal,
    state: watch::Sender<State>,
    kills: mpsc::Receiver<u64>,
}

impl HandlerProcess {
    /// Prepares to run the handler; [`run`](Self::run) starts it.
    pub(super) fn new(
        command: HandlerCommand,
        output: HandlerOutput,
        client: Client,
        terminal: Terminal,
    ) -> (Self, Handler) {
        let (state, seen) = watch::channel(State::Starting);
        let (kill, kills) = mpsc::channel(8);
        (
            Self {
                command,
                output,
                client,
                terminal,
                state,
                kills,
            },
            Handler { state: seen, kill },
        )
    }

    /// Starts the handler, again and again, until the host's rules forbid it. Never returns `Ok`; drop it to kill the handler.
    pub(super) async fn run(mut self, stop: Stop) -> Result<(), DevError> {
        let mut policy = RestartPolicy::default();
        for start in 1.. {
            let (end, was_ready) = self.live(start).await?;
            if timeout(OWN_INTERRUPT, stop.requested()).await.is_ok() {
                break;
            }
            let last_words = self.output.last_words();
            match policy.decide(&end, Instant::now()) {
                Decision::Restart => self.terminal.alarm(format!("the handler ended {end}; it is started again")),
                Decision::RestartAfterError(errors) => self.terminal.alarm(format!(
                    "the handler ended {end}{last_words}; it is started again, but the third error within 30 minutes \
                     ends the host, and this is number {errors}"
                )),
                Decision::LeaveEnded if was_ready => {
                    self.terminal.alarm(
                        "the handler ended with exit code 0: the host does not start it again and every invocation fails",
                    );
                    break;
                }
                Decision::LeaveEnded => return Err(DevError::HandlerEnded { last_words }),
                Decision::Stop(errors) => {
                    return Err(DevError::HandlerFailed { errors, how: format!("ended {end}"), last_words });
                }
            }
        }
        self.state.send_replace(State::Ended);
        std::future::pending().await
    }

    /// One life of a handler: how it ended, and whether it ever was ready.
    async fn live(&mut self, start: u64) -> Result<(End, bool), DevError> {
        let port = free_port().await?;
        let address = format!("http://127.0.0.1:{port}");
        self.output.begin();
        let mut child = self.spawn(port)?;
        // Held, or else waiting for the handler would close it.
        let _stdin = child.stdin.take();
        let mut readers = JoinSet::new();
        if let Some(stdout) = child.stdout.take() {
            readers.spawn(self.output.clone().read_stdout(stdout));
        }
        if let Some(stderr) = child.stderr.take() {
            readers.spawn(self.output.clone().read_stderr(stderr));
        }
        let mut was_ready = false;
        let end = tokio::select! {
            exit = child.wait() => ended(exit),
            ready = timeout(START, probe(&self.client, &address)) => match ready {
                Ok(()) => {
                    was_ready = true;
                    self.state.send_replace(State::Running(Running { address, start }));
                    self.watch(&mut child, start).await
                }
                Err(_) => End::NotReady(START),
            }
        };
        self.state.send_replace(State::Starting);
        // It may be gone already, and then there is nothing to kill.
        drop(child.kill().await);
        let last_lines = async { while readers.join_next().await.is_some() {} };
        // A grandchild may keep the pipes open.
        drop(timeout(LAST_LINES, last_lines).await);
        Ok((end, was_ready))
    }

    async fn watch(&mut self, child: &mut Child, start: u64) -> End {
        loop {
            tokio::select! {
                exit = child.wait() => return ended(exit),
                Some(meant) = self.kills.recv() => if meant == start {
                    return End::FunctionTimeout;
                }
            }
        }
    }

    fn spawn(&self, port: u16) -> Result<Child, DevError> {
        let worker = random_id().to_string();
        let not_started = |cause| DevError::HandlerNotStarted {
            program: self.command.program.clone(),
            cause,
        };
        let root = std::env::current_dir().map_err(not_started)?;
        Command::new(&self.command.program)
            .args(&self.command.arguments)
            .envs(
                self.command
                    .environment
                    .iter()
                    .map(|(name, value)| (name, value)),
            )
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("FUNCTIONS_CUSTOMHANDLER_WORKER_ID", &worker)
            .env("FUNCTIONS_HTTPWORKER_PORT", port.to_string())
            .env("FUNCTIONS_HTTPWORKER_ID", &worker)
            .env("FUNCTIONS_APP_ROOT_PATH", root)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(not_started)
    }
}

/// A port that was free a moment ago, chosen as the real host chooses it.
async fn free_port() -> Result<u16, DevError> {
    let listener = listening::bind(0, "--host-port").await?;
    Ok(listener.local_addr().map_err(DevError::Listener)?.port())
}

/// Returns once the handler answers, whatever it answers; only a refused connection means that it is not there yet.
async fn probe(client: &Client, address: &str) {
    while let Err(error) = client.get(format!("{address}/")).send().await {
        if !error.is_connect() {
            return;
        }
        sleep(PROBE).await;
    }
}

fn ended(exit: std::io::Result<ExitStatus>) -> End {
    match exit {
        Ok(status) => status
            .code()
            .map_or_else(|| End::Killed(format!("by {status}")), End::Code),
        Err(error) => End::Killed(format!("in a way that cannot be told: {error}")),
    }
}
