//! The handshake before the first delivery.

use std::time::Duration;

use reqwest::{Method, header::ALLOW};
use tokio::time::sleep;

use super::{ANSWER, Delivery};
use crate::dev::{client::describe, grid::subscriptions::Destination};

/// Who Event Grid says it is in the handshake.
const ORIGIN: &str = "eventgrid.azure.net";

/// How long to wait before asking again for consent that was not given.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Asked so often in vain, the developer is told.
const ASKED_IN_VAIN: u32 = 20;

impl Delivery {
    /// Asks until the endpoint agrees to be delivered to.
    pub(super) async fn consent(&self) {
        let mut asked = 0;
        while let Err(refusal) = self.ask().await {
            asked += 1;
            if asked == ASKED_IN_VAIN {
                self.means.terminal.alarm(format!(
                    "{}: nothing is delivered yet, {} has not agreed to it ({refusal}); asking again",
                    self.subscription.name,
                    self.shown_endpoint()
                ));
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// The endpoint without what may be a key: functions are named by a parameter, keys stand there too.
    fn shown_endpoint(&self) -> String {
        let mut shown = self.endpoint.clone();
        if let Destination::Webhook(_) = self.subscription.destination {
            shown.set_query(None);
        }
        shown.to_string()
    }

    /// The handshake of the CloudEvents webhook specification. Headers give consent, the status does not matter.
    async fn ask(&self) -> Result<(), String> {
        let request = self
            .means
            .client
            .request(Method::OPTIONS, self.endpoint.clone());
        let request = request
            .header("WebHook-Request-Origin", ORIGIN)
            .timeout(ANSWER);
        let answer = request.send().await.map_err(|error| describe(&error))?;
        let allowed = answer
            .headers()
            .get("WebHook-Allowed-Origin")
            .and_then(|origin| origin.to_str().ok());
        match allowed {
            Some(origin) if origin == "*" || origin.eq_ignore_ascii_case(ORIGIN) => Ok(()),
            Some(origin) => Err(format!("it allows {origin}, not {ORIGIN}")),
            None => Err(format!(
                "status {} without the header WebHook-Allowed-Origin{}",
                answer.status().as_u16(),
                if answer.headers().contains_key(ALLOW) {
                    ", but with Allow"
                } else {
                    ""
                }
            )),
        }
    }
}
