//! `orderflow fire`: sends a sample event, or prints the curl command that does.

use std::{path::Path, time::Duration};

use clap::builder::PossibleValuesParser;
use cloudevents::{AttributesReader, Event};
use url::Url;
use uuid::Uuid;

use crate::{
    cloud_event,
    events::{OrderId, samples, short_name},
    functions::{FUNCTIONS, Function, catalogue},
};

/// How long an answer may take: as long as the host waits for a function.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What to fire, and where.
#[derive(Debug, clap::Args)]
pub(super) struct Fire {
    /// The event type, such as OrderPlaced
    #[arg(value_parser = event_types(), ignore_case = true)]
    event_type: String,

    /// The Functions host (or `orderflow dev`), which hands the event to every function that subscribes to its type.
    /// With a path, such as http://127.0.0.1:8080/billing, the event goes straight to that address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7071")]
    to: Url,

    /// Hand it to this function only
    #[arg(long, value_name = "NAME", value_parser = subscribers())]
    function: Option<String>,

    /// The order that it is about [default: that of the samples]
    #[arg(long, value_name = "ID")]
    order: Option<Uuid>,

    /// A file with the event's data, in place of the sample's
    #[arg(long, value_name = "FILE")]
    data: Option<std::path::PathBuf>,

    /// Print the curl command instead
    #[arg(long)]
    curl: bool,
}

fn event_types() -> PossibleValuesParser {
    PossibleValuesParser::new(catalogue().map(|known| short_name(known.name)))
}

fn subscribers() -> PossibleValuesParser {
    let subscribing = FUNCTIONS
        .iter()
        .filter(|function| !function.rules().is_empty());
    PossibleValuesParser::new(subscribing.map(|function| function.name))
}

/// Fires the event.
///
/// # Errors
/// One line: the type is unknown, the file is not readable, or nobody took the event.
pub(super) async fn run(fire: Fire) -> Result<(), String> {
    let event = event(&fire)?;
    let targets = targets(&fire, &event)?;
    let json = cloud_event::to_json(&event);
    if fire.curl {
        let body = String::from_utf8_lossy(&json).replace('\'', r"'\''");
        for (_, url) in targets {
            println!("curl -i '{url}' -H 'aeg-event-type: Notification' \\");
            println!("  -H 'content-type: application/cloudevents+json' --data-binary '{body}'");
        }
        return Ok(());
    }
    let client = crate::http_client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .build();
    let client = client.map_err(|error| error.to_string())?;
    let mut failures = Vec::new();
    for (name, url) in targets {
        match send(&client, url, json.clone()).await {
            Ok(answer) => println!(
                "{} {} -> {name}: {answer}",
                short_name(event.ty()),
                event.id()
            ),
            Err(problem) => failures.push(format!("{name}: {problem}")),
        }
    }
    if failures.is_empty() {
        Ok(())
    } else {
        Err(failures.join("; "))
    }
}

fn event(fire: &Fire) -> Result<Event, String> {
    let order_id = fire.order.map_or(samples::ORDER_ID, OrderId);
    let event_type = catalogue()
        .find(|known| short_name(known.name).eq_ignore_ascii_case(&fire.event_type))
        .ok_or_else(|| format!("there is no event type {:?}", fire.event_type))?;
    let mut event = samples::event(event_type, order_id);
    if let Some(file) = &fire.data {
        let data = read(file)?;
        if data.get("specversion").is_some() {
            return Err(format!(
                "{} is a whole event; --data takes what stands under its \"data\"",
                file.display()
            ));
        }
        event.set_data("application/json", data);
    }
    Ok(event)
}

fn read(file: &Path) -> Result<serde_json::Value, String> {
    let text = std::fs::read_to_string(file)
        .map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
}

/// The functions to hand the event to, by name, and their addresses.
fn targets(fire: &Fire, event: &Event) -> Result<Vec<(String, Url)>, String> {
    let event_type = event.ty();
    if fire.to.path() != "/" {
        return Ok(vec![(fire.to.to_string(), fire.to.clone())]);
    }
    let takes = |function: &&Function| match &fire.function {
        Some(name) => function.name == name,
        None => function.event_types().any(|taken| taken == event_type),
    };
    let functions: Vec<_> = FUNCTIONS.iter().filter(takes).collect();
    if functions.is_empty() {
        return Err(format!(
            "no function subscribes to {event_type}; it is a result, for those outside"
        ));
    }
    // The host could only acknowledge what a function then parks; here the sender can be told.
    for function in &functions {
        let rule = function
            .rule(event_type)
            .map_err(|invalid| invalid.to_string())?;
        rule.read(event)
            .map_err(|invalid| format!("{}: {invalid}", function.name))?;
    }
    let address = |function: &Function| {
        let mut url = fire.to.clone();
        url.set_path("/runtime/webhooks/eventgrid");
        url.set_query(Some(&format!("functionName={}", function.name)));
        (function.name.to_owned(), url)
    };
    Ok(functions.into_iter().map(address).collect())
}

async fn send(client: &reqwest::Client, url: Url, json: Vec<u8>) -> Result<String, String> {
    let request = client
        .post(url.clone())
        .header("aeg-event-type", "Notification")
        .header(
            "content-type",
            "application/cloudevents+json; charset=utf-8",
        )
        .body(json);
    let unreachable = |error: reqwest::Error| {
        if error.is_connect() {
            return format!(
                "nobody listens at {url}; start `orderflow dev` first, or name another place with --to"
            );
        }
        error.to_string()
    };
    let response = request.send().await.map_err(unreachable)?;
    let status = response.status();
    let body = response.text().await.unwrap_or_default();
    if status.is_success() {
        Ok(format!("{status} {body}").trim_end().to_owned())
    } else {
        Err(format!("{status} {body}"))
    }
}
