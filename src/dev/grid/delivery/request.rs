//! One request to the endpoint, as Event Grid makes it.

use std::sync::Arc;

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::{ANSWER, Delivery, Due};
use crate::dev::{
    client::describe,
    grid::{event_grid_event, retry::Outcome, schema::Schema, subscriptions::Destination},
};

/// How much of an answer's text is shown.
const SHOWN_TEXT: usize = 300;

/// An event and its text, byte for byte as it was accepted.
pub(super) type Loaded = (Due, Arc<str>);

impl Delivery {
    /// Makes the request, with what is injected into it; returns how it ended and, for people, in words.
    pub(super) async fn make(&self, events: &[Loaded]) -> (Outcome, String) {
        let name = self.subscription.name;
        let injected = self.means.faults.draw(name, |what| {
            let (event, attempt) = events
                .first()
                .map_or((0, 0), |(due, _)| (due.number, due.attempt));
            self.means
                .jitter
                .of(&format!("{name}/{what}"), event, attempt)
        });
        if let Some(delay) = injected.delay {
            tokio::time::sleep(delay).await;
        }
        if let Some(status) = injected.status {
            return (Outcome::Status(status), format!("{status} (injected)"));
        }
        let made = self.post(events).await;
        if injected.duplicate {
            // Only the first answer counts.
            drop(self.post(events).await);
        }
        if injected.lost_answer {
            return (
                Outcome::TimedOut,
                "the answer was dropped (injected)".to_owned(),
            );
        }
        made
    }

    /// Posts the events; returns how it ended and, for people, in words.
    async fn post(&self, events: &[Loaded]) -> (Outcome, String) {
        let first = events.first().map_or("", |(_, text)| &**text);
        let (headers, body) = self.written(events);
        let count = events.iter().map(|(due, _)| due.attempt).max();
        let request = self
            .means
            .client
            .post(self.endpoint.clone())
            .headers(self.subscription.properties.headers(first))
            .header("aeg-event-type", "Notification")
            .header(
                "aeg-subscription-name",
                self.subscription.name.to_uppercase(),
            )
            .header("aeg-delivery-count", count.unwrap_or(1))
            .headers(headers)
            .timeout(ANSWER)
            .body(body);
        match request.send().await {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let outcome = Outcome::Status(status);
                let said = if outcome.is_success() {
                    String::new()
                } else {
                    beginning(answer).await
                };
                // What the host says before the cause is shown already.
                let known = format!(
                    "Exception while executing function: Functions.{}: ",
                    self.function_name()
                );
                let said = said.strip_prefix(&known).unwrap_or(&said);
                (outcome, format!("{status} {said}").trim_end().to_owned())
            }
            Err(error) if error.is_timeout() => (
                Outcome::TimedOut,
                format!("no answer within {} s", ANSWER.as_secs()),
            ),
            Err(error) => (Outcome::Unreachable, describe(&error)),
        }
    }

    /// The events in the subscription's schema, and the headers that tell what they are.
    fn written(&self, events: &[Loaded]) -> (HeaderMap, String) {
        let subscription = &self.subscription;
        let texts =
            events.iter().map(
                |(_, text)| match (subscription.topic.schema, subscription.schema) {
                    (Schema::EventGrid, Schema::CloudEvents) => {
                        event_grid_event::to_cloud_event(text)
                    }
                    _ => Arc::clone(text),
                },
            );
        let texts: Vec<_> = texts.collect();
        let array = || format!("[{}]", texts.join(","));
        let mut headers = HeaderMap::new();
        let (content_type, metadata_version, body) = match subscription.schema {
            Schema::CloudEvents if subscription.batching.is_some() => (
                "application/cloudevents-batch+json; charset=utf-8",
                "1.0",
                array(),
            ),
            Schema::CloudEvents => (
                "application/cloudevents+json; charset=utf-8",
                "1.0",
                texts.concat(),
            ),
            Schema::EventGrid => {
                // That of the first event, where a request has several (inferred).
                let first = texts.first().map_or("", |text| text);
                let version = event_grid_event::data_version(first);
                if let Ok(version) = HeaderValue::from_bytes(version.as_bytes()) {
                    headers.insert("aeg-data-version", version);
                }
                (
                    "application/json; charset=utf-8",
                    event_grid_event::METADATA_VERSION,
                    array(),
                )
            }
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        let metadata_version = HeaderValue::from_static(metadata_version);
        headers.insert("aeg-metadata-version", metadata_version);
        (headers, body)
    }

    /// The function behind the endpoint, as far as it is known.
    fn function_name(&self) -> &str {
        match &self.subscription.destination {
            Destination::Function(name) => name,
            Destination::Webhook(_) => self.subscription.name,
        }
    }
}

/// The beginning of an answer's text, on one line.
async fn beginning(mut answer: reqwest::Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < SHOWN_TEXT
        && let Ok(Some(chunk)) = answer.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    bytes.truncate(SHOWN_TEXT);
    String::from_utf8_lossy(&bytes)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}
