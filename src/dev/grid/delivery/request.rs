//! One request to the endpoint, as Event Grid makes it.

use std::{sync::Arc, time::Duration};

use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use tokio::time::timeout;

use super::{Delivery, Due, late_answer::PendingAnswer};
use crate::dev::{
    client::describe,
    grid::{event_grid_event, retry::Outcome, schema::Schema, subscriptions::Destination},
};

/// How much of an answer's text is shown.
const SHOWN_TEXT: usize = 300;

/// An event and its text, byte for byte as it was accepted.
pub(super) type Loaded = (Due, Arc<str>);

/// How a request ended.
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    /// The same for people, in words.
    pub(super) problem: String,
    /// The answer is said to come so long after the time-out, on the clock.
    pub(super) late_by: Option<Duration>,
    /// The answer that may still come.
    pub(super) unanswered: Option<PendingAnswer>,
}

impl Answer {
    fn new(outcome: Outcome, problem: String) -> Self {
        Self {
            outcome,
            problem,
            late_by: None,
            unanswered: None,
        }
    }
}

impl Delivery {
    /// Makes the request, with what is injected into it.
    pub(super) async fn make(&self, events: &[Loaded]) -> Answer {
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
            return Answer::new(Outcome::Status(status), format!("{status} (injected)"));
        }
        let made = self.post(events).await;
        if injected.duplicate {
            // Only the first answer counts.
            drop(self.post(events).await);
        }
        if injected.lost_answer {
            return Answer::new(
                Outcome::TimedOut,
                "the answer was dropped (injected)".to_owned(),
            );
        }
        // A failure that comes late is not looked at.
        if injected.late_answer.is_some() {
            return Answer {
                late_by: injected.late_answer.filter(|_| made.outcome.is_success()),
                ..Answer::new(
                    Outcome::TimedOut,
                    "the answer is late (injected)".to_owned(),
                )
            };
        }
        made
    }

    /// Posts the events.
    async fn post(&self, events: &[Loaded]) -> Answer {
        let patience = self.means.patience;
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
            .timeout(patience.late_answer)
            .body(body);
        let mut sent: PendingAnswer = Box::pin(self.with_token(request).send());
        let Ok(answered) = timeout(patience.answer, &mut sent).await else {
            return Answer {
                unanswered: Some(sent),
                ..Answer::new(
                    Outcome::TimedOut,
                    format!("no answer within {} s", patience.answer.as_secs()),
                )
            };
        };
        match answered {
            Ok(answer) => {
                let status = answer.status().as_u16();
                let outcome = Outcome::Status(status);
                let said = if outcome.is_success() {
                    String::new()
                } else {
                    let read = timeout(patience.answer, beginning(answer)).await;
                    read.unwrap_or_default()
                };
                // What the host says before the cause is shown already.
                let known = format!(
                    "Exception while executing function: Functions.{}: ",
                    self.function_name()
                );
                let said = said.strip_prefix(&known).unwrap_or(&said);
                Answer::new(outcome, format!("{status} {said}").trim_end().to_owned())
            }
            Err(error) => Answer::new(Outcome::Unreachable, describe(&error)),
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
