//! The HTTP side of `orderflow serve`: what the Functions host, Event Grid and people send, and what they get.

mod answer;
pub mod api;
mod body;
mod invocation;
mod problem;
mod received;

use std::{any::Any, convert::Infallible, future::Future, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::{Next, from_fn},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
    serve::ListenerExt,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, SetOnce},
};
use tower_http::catch_panic::CatchPanicLayer;

use crate::{
    engine::Engine,
    functions::{FUNCTIONS, Function, Trigger},
};

use problem::Problem;

/// When an invocation is given up: Event Grid waits 30 s, the engine's own budget is 20 s.
const HARD_STOP: Duration = Duration::from_secs(25);

/// The most invocations that are worked on at a time; more of them wait. Bounds memory, together with the size of
/// a body.
const MAX_CONCURRENT: usize = 256;

/// How long invocations may take to finish once the process is asked to stop.
const DRAIN: Duration = Duration::from_secs(25);

/// What every route can reach.
#[derive(Clone)]
struct App {
    engine: Arc<SetOnce<Engine>>,
    slots: Arc<Semaphore>,
}

impl App {
    /// The engine, once it is there.
    async fn engine(&self) -> &Engine {
        self.engine.wait().await
    }
}

/// The routes: one for each function of the registry, and the readiness probe. The probe answers at once;
/// everything else waits for the engine, so that a store which is slow to open keeps nobody from listening.
pub fn router(engine: Arc<SetOnce<Engine>>) -> Router {
    let app = App {
        engine,
        slots: Arc::new(Semaphore::new(MAX_CONCURRENT)),
    };
    let router = FUNCTIONS
        .iter()
        .fold(Router::new(), |router, function| match function.trigger {
            Trigger::EventGrid { .. } => {
                router.route(&format!("/{}", function.name), event_grid_route(function))
            }
            Trigger::Timer { .. } => {
                router.route(&format!("/{}", function.name), timer_route(function))
            }
            Trigger::Http { route, .. } => {
                let in_time = from_fn(|request, next: Next| in_time(next.run(request)));
                router.route(
                    &format!("/api/{route}"),
                    api::route(function).layer(in_time),
                )
            }
        });
    router
        .route("/", get(ready))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .with_state(app)
}

/// Serves until `shutdown`, then lets what is under way finish.
///
/// # Errors
/// The listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    // Answers are small: they must not wait for more to send.
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let shutdown = async move {
        shutdown.await;
        let _ = stopping.send(());
    };
    let drained = async move {
        let asked_to_stop = stopped.await.is_ok();
        if asked_to_stop {
            tokio::time::sleep(DRAIN).await;
        } else {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        result = async { axum::serve(listener, router).with_graceful_shutdown(shutdown).await } => result,
        () = drained => Ok(()),
        never = tick() => match never {},
    }
}

/// Keeps the runtime's next wake-up near. A time-out that comes before all others costs a call into the kernel, and
/// otherwise that would be one for each event.
async fn tick() -> Infallible {
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    loop {
        ticks.tick().await;
    }
}

/// The readiness probe: the host polls it before it sends anything, and later as a health check.
async fn ready() -> Response {
    let body = concat!(
        r#"{"name":"orderflow","version":""#,
        env!("CARGO_PKG_VERSION"),
        r#""}"#
    );
    answer::json(StatusCode::OK, body)
}

fn event_grid_route(function: &'static Function) -> MethodRouter<App> {
    let invoke = move |State(app): State<App>, request: Request| {
        in_time(async move {
            let Ok(_slot) = app.slots.acquire().await else {
                return answer::try_again("the handler is stopping");
            };
            invocation::invoke(app.engine().await, function, request).await
        })
    };
    post(invoke).options(handshake)
}

fn timer_route(function: &'static Function) -> MethodRouter<App> {
    post(move |State(app): State<App>, request: Request| {
        in_time(async move { invocation::sweep(app.engine().await, function, request).await })
    })
}

async fn in_time(invocation: impl Future<Output = Response>) -> Response {
    let in_time = tokio::time::timeout(HARD_STOP, invocation).await;
    in_time.unwrap_or_else(|_| answer::try_again("not done in time"))
}

/// Consents to deliveries (CloudEvents webhook specification, section 4).
async fn handshake(headers: HeaderMap) -> Response {
    let mut response = StatusCode::OK.into_response();
    let answers = response.headers_mut();
    answers.insert(header::ALLOW, HeaderValue::from_static("POST, OPTIONS"));
    if let Some(origin) = headers.get("webhook-request-origin") {
        answers.insert("webhook-allowed-origin", origin.clone());
        let rate = headers.get("webhook-request-rate").cloned();
        answers.insert(
            "webhook-allowed-rate",
            rate.unwrap_or(HeaderValue::from_static("*")),
        );
    }
    response
}

async fn unknown_path(request: Request) -> Response {
    let names: Vec<_> = FUNCTIONS.iter().map(|function| function.name).collect();
    let detail = format!(
        "no function at {}; the functions are {}",
        request.uri().path(),
        names.join(", ")
    );
    Problem::new(StatusCode::NOT_FOUND, "Not found", detail).into_response()
}

async fn wrong_method(method: Method, request: Request) -> Response {
    let detail = format!("{} does not take {method}", request.uri().path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed", detail).into_response()
}

/// A panic is a bug, but one invocation's alone: it is answered, so that the event comes again.
fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a panic was caught; this is a bug");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "Internal error",
        "the handler failed; this is a bug",
    )
    .into_response()
}
