//! A stand-in for the Functions host: it does to a custom handler what the real host does, as far as the handler can tell.
//!
//! It starts the handler on a free port and keeps it running by the host's rules, takes Event Grid's deliveries at the host's
//! webhook and turns each event into an invocation, fires timers, judges the handler's answers as the host
//! does, traps included, and forwards `/api`.
//!
//! It does not imitate keys and authorization, scaling, bindings other than these triggers, retry policies, or the
//! host's own logs.

mod admin;
mod forwarding;
mod handler_output;
mod handler_process;
mod invocation;
mod restart_policy;
mod timers;
mod webhook;

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    http::StatusCode,
    routing::{any, get, post},
};
use tokio::{net::TcpListener, task::JoinSet};
use tower_http::catch_panic::CatchPanicLayer;

use self::{
    handler_output::HandlerOutput,
    handler_process::{Handler, HandlerCommand, HandlerProcess},
    invocation::Invoker,
};
pub(crate) use self::{
    invocation::{InvocationBody, Judgement, exchange, with_host_headers},
    timers::body as timer_body,
};
use super::{
    DevError, Subscription, TimerFunction, client, data_folder::DataFolder, listening, stop::Stop,
    terminal::Terminal,
};

/// What invokes a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trigger {
    Event,
    Timer,
}

/// The functions that the host invokes, and the means to do so.
#[derive(Debug)]
struct Functions {
    by_name: BTreeMap<&'static str, (&'static str, Trigger)>,
    invoker: Invoker,
}

impl Functions {
    /// The name, the binding and the trigger of a function.
    fn find(&self, name: &str) -> Option<(&'static str, &'static str, Trigger)> {
        let (name, (binding, trigger)) = self.by_name.get_key_value(name)?;
        Some((name, binding, *trigger))
    }

    /// The name and the binding of a function that takes events.
    fn event_function(&self, name: &str) -> Option<(&'static str, &'static str)> {
        self.find(name)
            .filter(|(_, _, trigger)| *trigger == Trigger::Event)
            .map(|(name, binding, _)| (name, binding))
    }

    /// The names of functions, for people.
    fn names(&self, which: impl Fn(Trigger) -> bool) -> String {
        let names: Vec<_> = self
            .by_name
            .iter()
            .filter(|(_, (_, trigger))| which(*trigger))
            .map(|(name, _)| *name)
            .collect();
        names.join(", ")
    }
}

/// How to run the host.
#[derive(Debug)]
pub(super) struct HostOptions {
    pub(super) program: PathBuf,
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    pub(super) function_timeout: Duration,
    pub(super) subscriptions: Vec<Subscription>,
    pub(super) timers: Vec<TimerFunction>,
}

/// The stand-in, listening but not yet answering; the handler is not started yet.
#[derive(Debug)]
pub(super) struct Host {
    listener: TcpListener,
    functions: Arc<Functions>,
    timers: Vec<TimerFunction>,
    process: HandlerProcess,
    handler: Handler,
}

impl Host {
    /// Prepares the host.
    pub(super) fn open(
        listener: TcpListener,
        folder: &DataFolder,
        options: HostOptions,
        terminal: Terminal,
    ) -> Result<Self, DevError> {
        let client = client::loopback()?;
        let output = HandlerOutput::create(&folder.handler_log(), terminal.clone())?;
        let command = HandlerCommand {
            program: options.program,
            arguments: options.arguments,
            environment: options.environment,
        };
        let (process, handler) =
            HandlerProcess::new(command, output, client.clone(), terminal.clone());
        let events = options
            .subscriptions
            .iter()
            .map(|taker| (taker.function, (taker.binding, Trigger::Event)));
        let timers = options
            .timers
            .iter()
            .map(|timer| (timer.function, (timer.binding, Trigger::Timer)));
        let by_name = events.chain(timers).collect();
        let invoker = Invoker {
            client,
            handler: handler.clone(),
            function_timeout: options.function_timeout,
            terminal,
        };
        let functions = Arc::new(Functions { by_name, invoker });
        Ok(Self {
            listener,
            functions,
            timers: options.timers,
            process,
            handler,
        })
    }

    /// Runs the host until told to stop; calls `ready` when the handler answers for the first time.
    /// The handler is killed once the requests under way are over.
    pub(super) async fn run(self, ready: impl FnOnce(), stop: Stop) -> Result<(), DevError> {
        let mut timers = JoinSet::new();
        for timer in self.timers {
            let functions = Arc::clone(&self.functions);
            let stop = stop.clone();
            timers.spawn(async move {
                tokio::select! {
                    () = timers::run(functions, timer) => {}
                    () = stop.requested() => {}
                }
            });
        }
        let serve = listening::serve(self.listener, router(self.functions), stop.clone());
        let announce = async {
            if self.handler.ready().await.is_ok() {
                ready();
            }
            std::future::pending().await
        };
        tokio::select! {
            // Dropping the other one kills the handler.
            served = serve => served,
            ended = self.process.run(stop) => ended,
            never = announce => never,
        }
    }
}

fn router(functions: Arc<Functions>) -> Router {
    Router::new()
        .route(
            "/",
            get(async || "orderflow stand-in for the Functions host\n"),
        )
        .route("/runtime/webhooks/{extension}", any(webhook::answer))
        .route("/admin/functions/{name}", post(admin::invoke))
        .route("/api/{*path}", any(forwarding::forward))
        .fallback(async || {
            (
                StatusCode::NOT_FOUND,
                "there is nothing here: functions are under /api\n",
            )
        })
        .layer(CatchPanicLayer::new())
        .with_state(functions)
}
