//! The handshake before the first delivery, as the webhook specification of CloudEvents has it. That of the Event Grid schema is
//! in [`validation`](super::validation).

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use reqwest::{
    Method, RequestBuilder, Response,
    header::{ALLOW, HeaderMap},
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::Delivery;
use crate::dev::{
    ambient::{now, random_id},
    client::describe,
    grid::{schema::Schema, subscriptions::Destination},
};

/// Who Event Grid says it is in the handshake.
const ORIGIN: &str = "eventgrid.azure.net";

/// How many requests a minute are asked for.
const RATE: u32 = 60_000;

/// How long to wait before asking again for consent that was not given: an endpoint that starts a little later than the grid is
/// not to wait, one that is not there is not to be flooded.
const ASK_AGAIN: Duration = Duration::from_millis(250);
const ASK_AGAIN_LATER: Duration = Duration::from_secs(2);

/// Asked so often in vain, the developer is told.
const ASKED_IN_VAIN: u32 = 8;

/// Consent that comes later, by a request to an address that only the endpoint knows.
#[derive(Debug)]
pub(in super::super) struct Callback {
    id: String,
    awaited: AtomicBool,
    given: Notify,
}

impl Callback {
    /// One at an address that nobody can guess.
    pub(in super::super) fn new() -> Self {
        Self {
            id: random_id().simple().to_string(),
            awaited: AtomicBool::new(false),
            given: Notify::new(),
        }
    }

    /// The end of its address.
    pub(in super::super) fn id(&self) -> &str {
        &self.id
    }

    /// From now on consent may come by this way: the endpoint has answered. Or, no more.
    pub(super) fn await_consent(&self, awaited: bool) {
        self.awaited.store(awaited, Ordering::Relaxed);
    }

    /// Takes the consent. False if the endpoint has not answered the first request yet: it must do that before.
    pub(in super::super) fn consent(&self) -> bool {
        let awaited = self.awaited.load(Ordering::Relaxed);
        if awaited {
            self.given.notify_one();
        }
        awaited
    }
}

/// How fast an endpoint may be delivered to.
#[derive(Debug)]
pub(super) struct Pace {
    every: Option<Duration>,
    next: Option<Instant>,
}

impl Pace {
    /// So many requests a minute, or as many as there are.
    pub(super) fn new(per_minute: Option<u32>) -> Self {
        let minute = Duration::from_secs(60);
        Self {
            every: per_minute.and_then(|rate| minute.checked_div(rate)),
            next: None,
        }
    }

    /// When the next request may be made, if one may have to wait.
    pub(super) fn until(&self) -> Option<Instant> {
        self.next
    }

    /// Takes note of a request.
    pub(super) fn made(&mut self, now: Instant) {
        self.next = self.every.map(|every| now + every);
    }
}

fn ask_again_after(asked: u32) -> Duration {
    if asked < ASKED_IN_VAIN {
        ASK_AGAIN
    } else {
        ASK_AGAIN_LATER
    }
}

impl Delivery {
    /// Asks until the endpoint agrees to be delivered to; returns how fast it may be.
    pub(super) async fn consent(&self) -> Pace {
        let mut asked = 0;
        loop {
            let asked_for = match self.subscription.schema {
                Schema::CloudEvents => self.ask().await,
                Schema::EventGrid => self.ask_for_validation().await,
            };
            let (refusal, ask_again) = match asked_for {
                Ok(pace) => return self.agreed(asked, pace),
                Err(NoConsent { refusal, ask_again }) => (refusal, ask_again),
            };
            self.standing.refuse();
            asked += 1;
            if asked == ASKED_IN_VAIN {
                self.means.terminal.alarm(format!(
                    "{}: nothing is delivered yet, {} has not agreed to it ({refusal}); asking again",
                    self.subscription.name,
                    self.shown_endpoint()
                ));
            }
            tokio::select! {
                () = sleep(ask_again.max(ask_again_after(asked))) => {}
                () = self.callback.given.notified() => return self.agreed(asked, Pace::new(None)),
            }
        }
    }

    fn agreed(&self, asked_in_vain: u32, pace: Pace) -> Pace {
        self.standing.agree(self.means.clock.now());
        if asked_in_vain >= ASKED_IN_VAIN {
            self.means.terminal.notice(format!(
                "{}: {} has agreed, events are delivered",
                self.subscription.name,
                self.shown_endpoint()
            ));
        }
        pace
    }

    /// The endpoint without what may be a key: functions are named by a parameter, keys stand there too.
    pub(super) fn shown_endpoint(&self) -> String {
        let mut shown = self.endpoint.clone();
        if let Destination::Webhook(_) = self.subscription.destination {
            shown.set_query(None);
        }
        shown.to_string()
    }

    /// Shows the endpoint a token where it wants one.
    pub(super) fn with_token(&self, request: RequestBuilder) -> RequestBuilder {
        let secure = self.subscription.secure.as_ref();
        match secure.and_then(|webhook| self.means.gate.token_for(webhook, now())) {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Where the endpoint may consent later.
    pub(super) fn callback_address(&self) -> String {
        format!("{}/consent/{}", self.means.grid_address, self.callback.id)
    }

    async fn ask(&self) -> Result<Pace, NoConsent> {
        self.ask_by_options().await.map_err(|refusal| NoConsent {
            refusal,
            ask_again: ASK_AGAIN,
        })
    }

    /// Headers give consent, the status does not matter.
    async fn ask_by_options(&self) -> Result<Pace, String> {
        let request = self
            .means
            .client
            .request(Method::OPTIONS, self.endpoint.clone());
        let request = request
            .header("WebHook-Request-Origin", ORIGIN)
            .header("WebHook-Request-Callback", self.callback_address())
            .header("WebHook-Request-Rate", RATE)
            .timeout(self.means.patience.answer);
        let answer = self
            .with_token(request)
            .send()
            .await
            .map_err(|error| describe(&error))?;
        self.callback.await_consent(true);
        consented(&answer)?;
        match header(answer.headers(), "WebHook-Allowed-Rate") {
            // The specification wants the header; many endpoints leave it out, and Event Grid delivers to them.
            None | Some("*") => Ok(Pace::new(None)),
            Some(rate) => match rate.parse() {
                Ok(rate) if rate > 0 => Ok(Pace::new(Some(rate))),
                _ => Err(format!(
                    "WebHook-Allowed-Rate is {rate}, it must be a number of requests per minute or *"
                )),
            },
        }
    }
}

/// What came instead of consent, and when to ask again.
#[derive(Debug)]
pub(super) struct NoConsent {
    pub(super) refusal: String,
    pub(super) ask_again: Duration,
}

fn consented(answer: &Response) -> Result<(), String> {
    match header(answer.headers(), "WebHook-Allowed-Origin") {
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

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
