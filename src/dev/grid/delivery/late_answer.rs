//! Answers that come after the time-out: a success within three minutes takes the events off the queue of those that are
//! delivered again, unless that has happened (Azure documentation, "Event Grid message delivery and retry", retry schedule).

use std::{pin::Pin, sync::Arc};

use reqwest::Response;

use super::{Delivery, Due, Rest, request::Loaded, standing::UnderWay};
use crate::dev::{
    ambient::now,
    grid::{retry::Outcome, store::Leaves},
    terminal::Happening,
};

/// An answer that has not come in time, and may still come.
pub(super) type PendingAnswer = Pin<Box<dyn Future<Output = reqwest::Result<Response>> + Send>>;

/// A request that has not been answered in time. Its connection is kept for as long as this is.
pub(super) struct Unanswered {
    answer: PendingAnswer,
    /// Number and attempt of each of its events.
    events: Vec<(i64, u32)>,
}

impl Unanswered {
    pub(super) fn new(answer: PendingAnswer, events: &[Loaded]) -> Self {
        let events = events.iter().map(|(due, _)| (due.number, due.attempt));
        Self {
            answer,
            events: events.collect(),
        }
    }

    /// The events, by number and attempt, once the answer is a success after all. None, if it is none.
    pub(super) async fn answered(self) -> Vec<(i64, u32)> {
        let outcome = self
            .answer
            .await
            .map(|answer| Outcome::Status(answer.status().as_u16()));
        if outcome.is_ok_and(Outcome::is_success) {
            self.events
        } else {
            Vec::new()
        }
    }
}

impl Delivery {
    pub(super) async fn note_late_answer(self: Arc<Self>, due: Due, _under_way: UnderWay) -> Rest {
        Rest {
            again: self.delivered_late(due).await,
            made: None,
        }
    }

    /// Takes note that the last attempt was answered after all. It stays recorded as timed out.
    pub(super) async fn delivered_late(&self, due: Due) -> Vec<Due> {
        let due = match self.leave(due, Leaves::Delivered).await {
            Ok(due) => due,
            Err(again) => return again,
        };
        let began = due.last.as_ref().map_or_else(now, |last| last.at);
        let what = Happening::Taken {
            by: self.subscription.name,
            attempt: due.attempt.saturating_sub(1),
            within: (now() - began).to_std().unwrap_or_default(),
        };
        self.means.terminal.events(vec![due.report(what)]);
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use axum::{
        Router,
        extract::State,
        http::{Method, StatusCode},
        response::{IntoResponse as _, Response},
    };
    use serde_json::{Value, json};
    use tempfile::TempDir;
    use tokio::{
        net::TcpListener,
        sync::{Semaphore, watch},
    };
    use url::Url;

    use crate::dev::{
        DEVELOPMENT_KEY, DeliveryOptions, Samples, Subscription, client,
        data_folder::DataFolder,
        grid::{Grid, Patience, Setup, Speed},
        stop::{self, Stopper},
        terminal::Terminal,
    };

    /// A function that answers the first delivery late, and every later one at once.
    struct Function {
        /// Has a permit once the late answer may go.
        released: Semaphore,
        late: StatusCode,
        then: Mutex<Vec<StatusCode>>,
        requests: watch::Sender<usize>,
    }

    impl Function {
        async fn start(late: StatusCode, then: &[StatusCode]) -> (Arc<Self>, Url) {
            let function = Arc::new(Self {
                released: Semaphore::new(0),
                late,
                then: Mutex::new(then.to_vec()),
                requests: watch::Sender::new(0),
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            let router = Router::new()
                .fallback(Self::answer)
                .with_state(Arc::clone(&function));
            tokio::spawn(async { axum::serve(listener, router).await.unwrap() });
            (function, address.parse().unwrap())
        }

        async fn answer(State(function): State<Arc<Self>>, method: Method) -> Response {
            if method == Method::OPTIONS {
                return [("webhook-allowed-origin", "*")].into_response();
            }
            let mut first = false;
            function.requests.send_modify(|requests| {
                first = *requests == 0;
                *requests += 1;
            });
            if first {
                function.released.acquire().await.unwrap().forget();
                return function.late.into_response();
            }
            function.then.lock().unwrap().remove(0).into_response()
        }

        fn requests(&self) -> usize {
            *self.requests.borrow()
        }
    }

    /// A grid whose time stands still, and that waits for answers for as long as this.
    struct Running {
        address: String,
        client: reqwest::Client,
        _stopper: Stopper,
        _folder: TempDir,
    }

    impl Running {
        async fn start(deliver_to: Url, patience: Patience) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let data = DataFolder::open(folder.path()).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let setup = Setup {
                functions: vec![Subscription {
                    function: "orders",
                    binding: "event",
                    event_types: vec!["T"],
                }],
                other_functions: false,
                delivery: DeliveryOptions::default(),
                samples: Samples::default(),
                speed: Speed::new(0.0).unwrap(),
                throttle: false,
                patience,
            };
            let grid = Grid::open(listener, &data, setup, Terminal::start(true))
                .await
                .unwrap();
            let address = grid.address().unwrap();
            let (stopper, stop) = stop::channel();
            tokio::spawn(async move { grid.run(&deliver_to, stop.clone(), stop).await });
            let running = Self {
                address,
                client: client::loopback().unwrap(),
                _stopper: stopper,
                _folder: folder,
            };
            let event = json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "T"});
            let request = running
                .client
                .post(format!("{}/api/events", running.address));
            let request = request
                .header("content-type", "application/cloudevents+json")
                .header("aeg-sas-key", DEVELOPMENT_KEY);
            let accepted = request.body(event.to_string()).send().await.unwrap();
            assert_eq!(accepted.status(), 200);
            running
        }

        /// Waits until the delivery has this state and its attempts had these outcomes.
        async fn until(&self, state: &str, outcomes: &[&str]) {
            let reached = async {
                loop {
                    let events = self.client.get(format!("{}/events", self.address)).send();
                    let shown = events.await.unwrap().bytes().await.unwrap();
                    let shown: Value = serde_json::from_slice(&shown).unwrap();
                    let delivery = &shown["events"][0]["deliveries"][0];
                    let attempts = delivery["attempts"].as_array().unwrap().iter();
                    let seen: Vec<_> = attempts
                        .map(|one| one["outcome"].as_str().unwrap())
                        .collect();
                    if delivery["state"] == state && seen == outcomes {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let reached = tokio::time::timeout(Duration::from_secs(20), reached).await;
            assert!(reached.is_ok(), "in vain: {state} after {outcomes:?}");
        }

        async fn step_to_next(&self) {
            let step = self.client.post(format!("{}/clock/step", self.address));
            let stepped = step.body(r#"{"to": "next"}"#).send().await.unwrap();
            assert_eq!(stepped.status(), 200);
        }
    }

    fn patience() -> Patience {
        Patience {
            // Enough for an answer that is given at once, even on a busy machine.
            answer: Duration::from_secs(1),
            ..Patience::default()
        }
    }

    #[tokio::test]
    async fn a_late_success_takes_the_event_off_the_queue() {
        let (function, address) = Function::start(StatusCode::ACCEPTED, &[]).await;
        let grid = Running::start(address, patience()).await;
        grid.until("pending", &["TimedOut"]).await;
        function.released.add_permits(1);
        grid.until("delivered", &["TimedOut"]).await;
        assert_eq!(function.requests(), 1);
    }

    #[tokio::test]
    async fn it_does_not_count_once_the_event_is_delivered_again() {
        let then = [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::ACCEPTED];
        let (function, address) = Function::start(StatusCode::ACCEPTED, &then).await;
        let grid = Running::start(address, patience()).await;
        grid.until("pending", &["TimedOut"]).await;
        grid.step_to_next().await;
        grid.until("pending", &["TimedOut", "Busy"]).await;
        function.released.add_permits(1);
        grid.step_to_next().await;
        grid.until("delivered", &["TimedOut", "Busy", "Delivered"])
            .await;
        assert_eq!(function.requests(), 3);
    }

    #[tokio::test]
    async fn a_late_failure_or_one_that_is_too_late_changes_nothing() {
        let then = [StatusCode::ACCEPTED];
        let (function, address) = Function::start(StatusCode::BAD_REQUEST, &then).await;
        let grid = Running::start(address, patience()).await;
        grid.until("pending", &["TimedOut"]).await;
        function.released.add_permits(1);
        grid.step_to_next().await;
        grid.until("delivered", &["TimedOut", "Delivered"]).await;

        let (function, address) = Function::start(StatusCode::ACCEPTED, &then).await;
        let brief = Patience {
            late_answer: patience().answer + Duration::from_millis(100),
            ..patience()
        };
        let grid = Running::start(address, brief).await;
        grid.until("pending", &["TimedOut"]).await;
        tokio::time::sleep(brief.late_answer).await;
        function.released.add_permits(1);
        grid.step_to_next().await;
        grid.until("delivered", &["TimedOut", "Delivered"]).await;
        assert_eq!(function.requests(), 2);
    }
}
