//! `orderflow canary`: sends an order that is marked as a test through a running application, and waits until every
//! service has answered.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use axum::http::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use url::Url;

use crate::{
    artifacts,
    config::{self, Secret},
    events::{
        BillingRejected, OrderCancelled, Payload, PaymentDeclined, ShipmentCancelled,
        StockReleased, short_name,
    },
    http_client,
};

/// How long one answer may take: an app that was asleep has to start first.
const ATTEMPT_LIMIT: Duration = Duration::from_secs(30);

/// How often the order is looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// Where the order goes.
#[derive(Debug, clap::Args)]
pub(super) struct Canary {
    /// The application: `https://APP.azurewebsites.net`, `func start` or `orderflow dev`
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7071")]
    to: Url,

    /// How long it may take, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120,
          value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
}

/// What each service says to a test, and nothing else would make it say.
const ANSWERS: [(&str, &str); 5] = [
    (BillingRejected::SERVICE, BillingRejected::TYPE),
    (PaymentDeclined::SERVICE, PaymentDeclined::TYPE),
    (StockReleased::SERVICE, StockReleased::TYPE),
    (ShipmentCancelled::SERVICE, ShipmentCancelled::TYPE),
    (OrderCancelled::SERVICE, OrderCancelled::TYPE),
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Placed {
    order_id: String,
}

#[derive(Deserialize)]
struct Order {
    status: String,
    history: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    time: String,
    event: String,
    id: String,
}

/// An application that is asked until the time is up.
struct Application {
    client: Client,
    base: Url,
    key: Option<HeaderValue>,
    deadline: Instant,
}

/// Places the order and waits.
///
/// # Errors
/// One line: the order could not be placed, or who has not answered.
pub(super) async fn run(canary: Canary) -> Result<(), String> {
    let started = Instant::now();
    let application = Application {
        client: http_client::for_service(&canary.to).map_err(|error| error.to_string())?,
        base: canary.to,
        key: config::function_key(&config::environment)
            .as_ref()
            .map(header)
            .transpose()?,
        deadline: started + Duration::from_secs(canary.timeout),
    };
    let Placed { order_id } = application.place().await?;
    println!("placed the test order {order_id}");
    let mut missing = BTreeSet::from(ANSWERS);
    let mut printed = BTreeSet::new();
    loop {
        let order: Order = application.order(&order_id).await?;
        for Entry { time, event, id } in order.history {
            missing.retain(|(_, expected)| short_name(expected) != event);
            if printed.insert(id) {
                println!("{time} {event}");
            }
        }
        if missing.is_empty() {
            let took = started.elapsed().as_secs_f64();
            println!(
                "every service has answered, the order is {} ({took:.1} s)",
                order.status
            );
            return Ok(());
        }
        if Instant::now() >= application.deadline {
            return Err(silent(&missing, canary.timeout));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// A function key as a header that is not shown.
fn header(key: &Secret) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::try_from(key.reveal().trim())
        .map_err(|_| "ORDERFLOW_FUNCTION_KEY: expected printable ASCII".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

/// Who has not answered.
fn silent(missing: &BTreeSet<(&str, &str)>, seconds: u64) -> String {
    let services: Vec<_> = missing
        .iter()
        .map(|(service, event)| format!("{service} (no {})", short_name(event)))
        .collect();
    format!(
        "no answer within {seconds} s from {}; look whether their event subscriptions are there and what their functions log",
        services.join(", ")
    )
}

impl Application {
    async fn place(&self) -> Result<Placed, String> {
        let mut order = artifacts::new_order();
        if let Some(order) = order.as_object_mut() {
            order.insert("test".to_owned(), json!(true));
        }
        let url = self.url("api/orders")?;
        self.ask(|| {
            self.client
                .post(url.clone())
                .header(CONTENT_TYPE, "application/json")
                .body(order.to_string())
        })
        .await
    }

    async fn order(&self, order_id: &str) -> Result<Order, String> {
        let url = self.url(&format!("api/orders/{order_id}"))?;
        self.ask(|| self.client.get(url.clone())).await
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, String> {
        let unexpected = |problem: String| {
            format!(
                "{}: not the answer of an Orderflow application: {problem}",
                self.base
            )
        };
        let body = response.bytes().await;
        let body = body.map_err(|error| unexpected(error.without_url().to_string()))?;
        serde_json::from_slice(&body).map_err(|error| unexpected(error.to_string()))
    }

    fn url(&self, path: &str) -> Result<Url, String> {
        let joined = self.base.join(path);
        joined.map_err(|error| format!("--to {}: {error}", self.base))
    }

    /// Asks until there is an answer: an app that is just being deployed refuses connections and answers with 5xx.
    async fn ask<T: DeserializeOwned>(
        &self,
        request: impl Fn() -> RequestBuilder,
    ) -> Result<T, String> {
        loop {
            let mut request = request().timeout(ATTEMPT_LIMIT);
            if let Some(key) = &self.key {
                request = request.header("x-functions-key", key.clone());
            }
            let problem = match request.send().await {
                Ok(response) if response.status().is_success() => {
                    return self.read(response).await;
                }
                Ok(response) => {
                    let status = response.status();
                    let problem = format!("{}: {status}", self.base);
                    match status {
                        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                            return Err(format!(
                                "{problem}; ORDERFLOW_FUNCTION_KEY must be the app's host key \
                                 (az functionapp keys list -n APP -g GROUP --query functionKeys.default -o tsv)"
                            ));
                        }
                        status if status.is_client_error() => return Err(problem),
                        _ => problem,
                    }
                }
                Err(error) => format!(
                    "{}: {}",
                    self.base,
                    http_client::chain(&error.without_url())
                ),
            };
            if Instant::now() + INTERVAL >= self.deadline {
                return Err(problem);
            }
            tokio::time::sleep(INTERVAL).await;
        }
    }
}
