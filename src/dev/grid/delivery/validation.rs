//! The handshake of the Event Grid schema: an event with a code, which the endpoint sends back, or confirms by visiting an address
//! (Azure documentation, "Endpoint validation with Event Grid event schema").

use std::time::Duration;

use reqwest::{StatusCode, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::json;

use super::{
    Delivery,
    handshake::{NoConsent, Pace},
};
use crate::dev::{
    ambient::{now, random_id, timestamp},
    client::describe,
    grid::event_grid_event::METADATA_VERSION,
};

/// How long to wait before the event is sent again to an endpoint that did not take it.
const SEND_AGAIN: Duration = Duration::from_secs(5);

/// How long the address may be visited after an answer without the code. Then the event is sent again: in Azure the
/// subscription would have to be made again.
const BY_HAND: Duration = Duration::from_secs(10 * 60);

/// The version of the event's data.
const DATA_VERSION: &str = "1";

/// More than any answer with a code.
const LONGEST_ANSWER: usize = 16 * 1024;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Validation {
    validation_response: String,
}

impl Delivery {
    /// Sends the event once. The code in an answer with status 200 gives consent; there is no rate to agree on.
    pub(super) async fn ask_for_validation(&self) -> Result<Pace, NoConsent> {
        // A clock that stands still must not keep an endpoint waiting that starts later than the grid.
        let speed = self.means.clock.speed();
        let later = |refusal, wait| NoConsent {
            refusal,
            ask_again: speed.shorten(wait).unwrap_or(wait),
        };
        // A link that has expired must not count, until it is sent again.
        self.callback.await_consent(false);
        let answered = self.send_validation().await;
        match answered.map_err(|refusal| later(refusal, SEND_AGAIN))? {
            Some(code) if code == self.callback.id() => Ok(Pace::new(None)),
            _ => {
                self.callback.await_consent(true);
                self.means.terminal.notice(format!(
                    "{}: {} has answered 200 without the validationCode; events wait until somebody opens {}",
                    self.subscription.name,
                    self.shown_endpoint(),
                    self.callback_address()
                ));
                Err(later(
                    "it has not sent the validationCode back".to_owned(),
                    BY_HAND,
                ))
            }
        }
    }

    /// The code in the answer, if there is one.
    async fn send_validation(&self) -> Result<Option<String>, String> {
        let event = json!([{
            "id": random_id(),
            "topic": self.subscription.topic.id(),
            "subject": "",
            "data": {"validationCode": self.callback.id(), "validationUrl": self.callback_address()},
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": timestamp(now()),
            "metadataVersion": METADATA_VERSION,
            "dataVersion": DATA_VERSION,
        }]);
        let request = self
            .means
            .client
            .post(self.endpoint.clone())
            // Endpoints that know their caller by a header want it here as well.
            .headers(self.subscription.properties.headers(""))
            .header("aeg-event-type", "SubscriptionValidation")
            .header(
                "aeg-subscription-name",
                self.subscription.name.to_uppercase(),
            )
            // Other emulators send 0 or 1; Azure does not say.
            .header("aeg-delivery-count", 1)
            .header("aeg-metadata-version", METADATA_VERSION)
            .header("aeg-data-version", DATA_VERSION)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .timeout(self.means.patience.answer)
            .body(event.to_string());
        let answer = self.with_token(request).send().await;
        let mut answer = answer.map_err(|error| describe(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(format!(
                "status {} to the validation event, which must be 200",
                answer.status().as_u16()
            ));
        }
        let mut body = Vec::new();
        while body.len() <= LONGEST_ANSWER
            && let Some(chunk) = answer.chunk().await.map_err(|error| describe(&error))?
        {
            body.extend_from_slice(&chunk);
        }
        let validation = serde_json::from_slice::<Validation>(&body).ok();
        Ok(validation.map(|validation| validation.validation_response))
    }
}
