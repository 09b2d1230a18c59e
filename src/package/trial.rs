//! Starts a staged app as the host would, in an environment that has nothing but what the host gives it and the settings
//! that are required, and sends every function one invocation.
//!
//! The handler keeps its state in memory and publishes to a topic that takes everything.

mod app;
mod handler;

use std::{
    future::IntoFuture as _,
    io,
    net::Ipv4Addr,
    path::Path,
    time::{Duration, Instant},
};

use axum::{Router, http::StatusCode, routing::post};
use reqwest::{Client, Method};
use serde_json::{json, value::RawValue};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};

use self::{
    app::{App, AppFunction, Trigger},
    handler::{RunningHandler, answers},
};
use crate::{
    cloud_event,
    dev::{
        DEVELOPMENT_KEY, InvocationBody, Judgement, describe, exchange, loopback, timer_body,
        with_host_headers,
    },
    events::samples,
    functions::{Function, catalogue, event_named},
};

/// How long the handler may take to answer for the first time, and then each function.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the trial of an app that works has shown.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// How many functions answered: all that the app has.
    pub functions: usize,
    /// How long it took, from the start of the handler to the last answer.
    pub took: Duration,
}

/// Why a staged app does not work.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The host would not understand what is in the folder.
    #[error("{0}")]
    App(String),
    /// What the trial needs on this machine is not to be had.
    #[error("cannot try the handler: {0}")]
    Surroundings(String),
    /// The operating system does not start the handler.
    #[error("the handler does not start: {0}")]
    NotStarted(io::Error),
    /// The handler ended, or did not answer as the host needs it.
    #[error("{problem}{last_words}")]
    Failed {
        /// What it did.
        problem: String,
        /// The last lines that it wrote, ready to be appended.
        last_words: String,
    },
}

/// Tries the app that is staged in a folder.
///
/// # Errors
/// What does not work, and what the handler wrote last.
pub async fn run(staged: &Path) -> Result<Trial, TrialError> {
    let app = App::read(staged).map_err(TrialError::App)?;
    let surroundings = |problem: String| TrialError::Surroundings(problem);
    let client = loopback().map_err(|error| surroundings(error.to_string()))?;
    let mut topic = JoinSet::new();
    let endpoint = start_topic(&mut topic)
        .await
        .map_err(|error| surroundings(error.to_string()))?;
    let settings = [
        ("STORE_URL", "memory:"),
        ("EVENTGRID_TOPIC_ENDPOINT", &endpoint),
        ("EVENTGRID_TOPIC_KEY", DEVELOPMENT_KEY),
    ];
    let started = Instant::now();
    let mut handler = RunningHandler::start(&app, &settings)
        .await
        .map_err(TrialError::NotStarted)?;
    let address = handler.address().to_owned();
    let tried = tokio::select! {
        biased;
        ended = handler.ended() => Err(ended),
        tried = invoke_all(&client, &address, &app.functions) => tried,
    };
    match tried {
        Ok(()) => Ok(Trial {
            functions: app.functions.len(),
            took: started.elapsed(),
        }),
        Err(problem) => Err(TrialError::Failed {
            problem,
            last_words: handler.last_words().await,
        }),
    }
}

/// Serves a topic that takes everything, until the set is dropped. Returns its endpoint.
async fn start_topic(tasks: &mut JoinSet<io::Result<()>>) -> io::Result<String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let endpoint = format!("http://{}/api/events", listener.local_addr()?);
    let topic = Router::new().route("/api/events", post(async || StatusCode::OK));
    tasks.spawn(axum::serve(listener, topic).into_future());
    Ok(endpoint)
}

async fn invoke_all(
    client: &Client,
    address: &str,
    functions: &[AppFunction],
) -> Result<(), String> {
    let waited = format!("did not answer within {} s", PATIENCE.as_secs());
    timeout(PATIENCE, answers(client, address))
        .await
        .map_err(|_| format!("the handler {waited}"))?;
    for function in functions {
        let name = &function.name;
        timeout(PATIENCE, invoke(client, address, function))
            .await
            .unwrap_or_else(|_| Err(waited.clone()))
            .map_err(|problem| format!("the function {name}: {problem}"))?;
    }
    Ok(())
}

/// Invokes a function once, as the host would.
async fn invoke(client: &Client, address: &str, function: &AppFunction) -> Result<(), String> {
    let name = function.name.as_str();
    let body = match &function.trigger {
        Trigger::Http { method, route } => return request(client, address, method, route).await,
        Trigger::Event { binding } => {
            let event = RawValue::from_string(sample_event(name)?);
            event.and_then(|event| InvocationBody::of_event(name, binding, &event)?.to_bytes())
        }
        Trigger::Timer { binding } => timer_body(name, binding, None, None),
    };
    let body = body.map_err(|error| error.to_string())?;
    match exchange(client, address, name, body).await {
        // The host takes a parked event for done. A sample that is parked is not.
        Ok(Judgement::Success { logs }) => logs
            .into_iter()
            .find(|entry| entry.starts_with("parked"))
            .map_or(Ok(()), |entry| Err(format!("the sample was {entry}"))),
        Ok(Judgement::Failure(answer)) => Err(format!("the handler answered {answer}")),
        Ok(Judgement::Hang(status)) => Err(format!(
            "the handler answered {status} without content, on which the host hangs"
        )),
        Err(error) => Err(error.to_string()),
    }
}

/// A sample of the first event type that the function subscribes to; one that this program does not know gets any.
fn sample_event(function: &str) -> Result<String, String> {
    let subscribed = Function::named(function).and_then(|known| known.event_types().next());
    let event_type = subscribed
        .and_then(event_named)
        .or_else(|| catalogue().next())
        .ok_or("there is no event type")?;
    let event = samples::event(event_type, samples::ORDER_ID);
    String::from_utf8(cloud_event::to_json(&event)).map_err(|error| error.to_string())
}

/// Sends a request of the sample order's customer, forwarded as the host does.
async fn request(client: &Client, address: &str, method: &str, route: &str) -> Result<(), String> {
    let order_id = samples::ORDER_ID.to_string();
    let segments = route.split('/').map(|segment| {
        if segment.starts_with('{') {
            order_id.as_str()
        } else {
            segment
        }
    });
    let path = segments.collect::<Vec<_>>().join("/");
    let verb = Method::from_bytes(method.as_bytes()).map_err(|error| error.to_string())?;
    let mut request = with_host_headers(client.request(verb, format!("{address}/api/{path}")));
    if method != "GET" {
        request = request
            .header("content-type", "application/json")
            .body(json!(samples::order(samples::ORDER_ID)).to_string());
    }
    let answer = request.send().await.map_err(|error| describe(&error))?;
    let status = answer.status();
    if status.is_success() {
        Ok(())
    } else {
        let body = answer.text().await.unwrap_or_default();
        Err(format!(
            "the handler answered {method} /api/{path} with {status} {body}"
        ))
    }
}
