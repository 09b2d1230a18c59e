//! What can only be known by asking: tokens, the topic, the clock and the database.

use std::time::Duration;

use axum::http::header::DATE;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use uuid::Uuid;

use super::{
    report::{Report, note},
    settings::is_reference,
    source::Source,
};
use crate::{
    cli::serve,
    config::{Settings, StoreUrl},
    entra::{Identity, TokenCache, TokenError},
    http_client,
    publish::{self, PublishError, Publisher},
    store::{
        Schema, StoreError,
        postgres::{self, PostgresStore},
        sqlite::SqliteStore,
    },
};

/// How long the topic may take, tries and all.
const TOPIC_LIMIT: Duration = Duration::from_secs(10);

/// A type that nobody subscribes to: the topic takes the event, and it goes nowhere.
const NULL_TYPE: &str = "Orderflow.Doctor";

/// Clocks differ by less where they are set over the network; the `Date` header has whole seconds.
const SLIGHT_SKEW: TimeDelta = TimeDelta::seconds(5);
/// Entra ID and SAS tokens tolerate no more.
const GREAT_SKEW: TimeDelta = TimeDelta::minutes(5);

/// Asks everybody that the settings name.
pub(super) async fn check(settings: &Settings, source: &Source, report: &mut Report) {
    let mut settings = settings.clone();
    if source.deployed {
        // The app's own identity is at hand only inside of the app.
        settings.identity = Identity::DeveloperTools;
        let what = "asking as whoever is logged in here with `az` or `azd`, not as the app";
        note("network", what);
    }
    if identified(&settings, report).await {
        topic(&settings, source, report).await;
    }
    clock(&settings, report).await;
    store(&settings, source, report).await;
}

const LOG_IN: &str = "az login; in Azure give the app an identity";

/// Whether there is what the topic wants to see: its key, or a token.
async fn identified(settings: &Settings, report: &mut Report) -> bool {
    const SUBJECT: &str = "identity";
    if settings.topic_key.is_some() {
        note(
            SUBJECT,
            "none is needed for the topic: EVENTGRID_TOPIC_KEY is set",
        );
        return true;
    }
    match tokens_for(&settings.identity, publish::TOKEN_SCOPE).await {
        Ok(_) => {
            let who = match &settings.identity {
                Identity::Managed {
                    client_id: Some(id),
                } => format!("managed identity {id}"),
                Identity::Managed { client_id: None } => "system-assigned identity".to_owned(),
                Identity::DeveloperTools => "whoever is logged in with `az` or `azd`".to_owned(),
            };
            report.fine(SUBJECT, &format!("{who} gets tokens for the topic"));
            true
        }
        Err(error) => {
            report.fault(SUBJECT, &error.to_string(), LOG_IN);
            report.skipped("topic", "there is no token to show it");
            false
        }
    }
}

/// A cache that has a token.
async fn tokens_for(identity: &Identity, scope: &'static str) -> Result<TokenCache, TokenError> {
    let tokens = TokenCache::of(identity, scope)?;
    tokens.authorization().await?;
    Ok(tokens)
}

async fn topic(settings: &Settings, source: &Source, report: &mut Report) {
    const SUBJECT: &str = "topic";
    let url = &settings.topic_endpoint;
    let topic = match serve::topic(settings) {
        Ok(topic) => topic,
        Err(problem) => return report.fault(SUBJECT, &problem, LOG_IN),
    };
    let outcome = topic.publish(vec![null_event()], TOPIC_LIMIT).await;
    let role = "give the identity the role EventGrid Data Sender on the topic (az role assignment create \
                --role 'EventGrid Data Sender' --assignee PRINCIPAL --scope TOPIC_ID; it takes some minutes to work)";
    match outcome {
        Ok(()) => {
            let what = format!("{} took an event of the type {NULL_TYPE}", host(url));
            report.fine(SUBJECT, &what);
        }
        Err(PublishError::Denied(reason)) => {
            let what = format!("{}: {reason}", host(url));
            if settings.topic_key.is_some() {
                let fix = "az eventgrid topic key list -n TOPIC -g GROUP, or no key and the role EventGrid Data Sender";
                report.fault(SUBJECT, &what, fix);
            } else if source.deployed {
                report.doubt(SUBJECT, &what, &format!("this is about you and not about the app; {role}"));
            } else {
                report.fault(SUBJECT, &what, role);
            }
        }
        Err(PublishError::Refused(reason)) => report.fault(
            SUBJECT,
            &format!("{}: {reason}", host(url)),
            "the topic's input schema must be CloudEventSchemaV1_0, which is chosen when the topic is made",
        ),
        Err(PublishError::Unavailable(reason)) => {
            let local = url.scheme() == "http";
            let fix = if local {
                "start `orderflow dev` or `orderflow grid`"
            } else {
                "look whether the topic's name is right and its firewall lets this machine in"
            };
            report.fault(SUBJECT, &format!("{}: {reason}", host(url)), fix);
        }
    }
}

/// A URL without its path and query, which may hold a key.
fn host(url: &url::Url) -> String {
    url.origin().ascii_serialization()
}

#[expect(
    clippy::disallowed_methods,
    reason = "an event of its own, outside of the engine"
)]
fn null_event() -> Bytes {
    let event = json!({
        "specversion": "1.0",
        "id": Uuid::now_v7(),
        "source": "/orderflow/doctor",
        "type": NULL_TYPE,
        "time": Utc::now(),
        "data": {},
    });
    Bytes::from(event.to_string())
}

/// Compares this machine's clock with the topic's.
async fn clock(settings: &Settings, report: &mut Report) {
    const SUBJECT: &str = "clock";
    let url = &settings.topic_endpoint;
    let Some((theirs, ours)) = clocks(url).await else {
        return report.skipped(SUBJECT, "nobody at the topic's address tells the time");
    };
    let skew = ours - theirs;
    let what = format!("{} s apart from {}", skew.num_seconds(), host(url));
    let fix = "synchronize it: timedatectl set-ntp true";
    if skew.abs() > GREAT_SKEW {
        report.fault(SUBJECT, &format!("{what}: tokens are refused"), fix);
    } else if skew.abs() > SLIGHT_SKEW {
        report.doubt(SUBJECT, &what, fix);
    } else {
        report.fine(SUBJECT, &what);
    }
}

/// The other side's time, and ours in the middle of the request.
async fn clocks(url: &url::Url) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    #[expect(
        clippy::disallowed_methods,
        reason = "this machine's clock is what is looked at"
    )]
    let now = Utc::now;
    let client = http_client::for_service(url).ok()?;
    let asked = now();
    let response = client
        .get(host(url))
        .timeout(TOPIC_LIMIT)
        .send()
        .await
        .ok()?;
    let answered = now();
    let date = response.headers().get(DATE)?.to_str().ok()?;
    let theirs = DateTime::parse_from_rfc2822(date).ok()?.to_utc();
    Some((theirs, asked + (answered - asked) / 2))
}

async fn store(settings: &Settings, source: &Source, report: &mut Report) {
    const SUBJECT: &str = "store";
    if source.get("STORE_URL").is_some_and(is_reference) {
        return report.skipped(SUBJECT, "STORE_URL is a Key Vault reference");
    }
    let probed = match settings.store.clone() {
        StoreUrl::Memory => return report.fine(SUBJECT, "memory"),
        StoreUrl::Sqlite(path) => {
            let probing = tokio::task::spawn_blocking(move || SqliteStore::probe(&path)).await;
            probing.unwrap_or_else(|error| Err(StoreError::Open(error.to_string())))
        }
        StoreUrl::Postgres(address) => {
            let mut tokens = None;
            if address.needs_token() {
                match tokens_for(&settings.identity, postgres::TOKEN_SCOPE).await {
                    Ok(cache) => tokens = Some(cache),
                    Err(error) => return report.fault(SUBJECT, &error.to_string(), LOG_IN),
                }
            }
            PostgresStore::probe(*address, tokens).await
        }
    };
    match probed {
        Ok(Schema { at, has, known }) => {
            let what = match has {
                0 => format!("{at}, empty; the first start makes its tables"),
                has if has < known => {
                    format!("{at}, schema version {has}; the next start brings it to {known}")
                }
                has => format!("{at}, schema version {has}"),
            };
            report.fine(SUBJECT, &what);
        }
        Err(error) => {
            let fix = match &settings.store {
                StoreUrl::Postgres(address) if address.needs_token() => {
                    "the user in STORE_URL must be a role of the database that belongs to the identity (README, Deploy), and the server's firewall must let this machine in"
                }
                StoreUrl::Postgres(_) => {
                    "look whether the server runs, the user exists, and the firewall lets this machine in"
                }
                _ => "choose a file in a folder that may be written to: STORE_URL=sqlite:PATH",
            };
            report.fault(SUBJECT, &error.to_string(), fix);
        }
    }
}
