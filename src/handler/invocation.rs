//! One invocation of an Event Grid or timer function: deliver what arrived, judge, answer.

use std::time::Instant;

use axum::{
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use cloudevents::{AttributesReader, Event};
use futures_util::future::join_all;
use serde_json::json;

use crate::{
    engine::{Delivery, Engine, Reminded, SWEEP_AFTER},
    events::{Invalid, short_name},
    functions::Function,
    sales::{State as _, orders::OrderView},
    store::StoreError,
};

use super::{
    answer, body,
    problem::Problem,
    received::{self, Part, Received},
};

/// Delivers the events of a request to a function.
pub(super) async fn invoke(
    engine: &Engine,
    function: &'static Function,
    request: Request,
) -> Response {
    let (headers, body) = match body::split(request).await {
        Ok(read) => read,
        Err(problem) => return problem.into_response(),
    };
    let invocation = Invocation {
        engine,
        function,
        id: invocation_id(&headers),
    };
    match received::read(&headers, &body) {
        Received::Invocation(parts) => invocation.host(parts).await,
        Received::Direct(Ok(events)) => invocation.direct(&events).await,
        Received::Direct(Err(error)) => {
            tracing::warn!(function = function.name, %error, "not a CloudEvent");
            Problem::no_event(&error).into_response()
        }
    }
}

/// What the host calls the invocation, for the log.
fn invocation_id(headers: &HeaderMap) -> String {
    let id = headers
        .get("x-azure-functions-invocationid")
        .and_then(|id| id.to_str().ok());
    id.unwrap_or_default().to_owned()
}

struct Invocation<'a> {
    engine: &'a Engine,
    function: &'static Function,
    id: String,
}

impl Invocation<'_> {
    /// The host knows only "done" and "again", for all events of the invocation together.
    async fn host(&self, parts: Vec<Part<'_>>) -> Response {
        let mut parked = Vec::new();
        let mut again = None;
        for delivery in join_all(parts.iter().map(|part| self.host_part(part))).await {
            match delivery {
                Delivery::TryAgain(reason) => again = again.or(Some(reason)),
                Delivery::Rejected(invalid) => parked.push(format!("parked: {invalid}")),
                Delivery::Accepted | Delivery::Duplicate | Delivery::Ignored(_) => {}
            }
        }
        match again {
            Some(reason) => answer::try_again(&reason),
            None => answer::invocation_done(&parked),
        }
    }

    async fn host_part(&self, part: &Part<'_>) -> Delivery {
        let (event, delivery) = match &part.event {
            Ok(event) => (Some(event), self.deliver(event).await),
            Err(invalid) => (None, Delivery::Rejected(invalid.clone())),
        };
        let Delivery::Rejected(invalid) = delivery else {
            return delivery;
        };
        if let Err(error) = self
            .engine
            .park(self.function, event, part.json.text().as_bytes(), &invalid)
            .await
        {
            return Delivery::TryAgain(error.to_string());
        }
        tracing::warn!(
            function = self.function.name,
            invocation = self.id,
            event = event.map_or("", |event| event.id()),
            reason = %invalid,
            "parked: it can never succeed"
        );
        Delivery::Rejected(invalid)
    }

    /// A direct sender is told what became of each event.
    async fn direct(&self, events: &[Event]) -> Response {
        let deliveries = join_all(events.iter().map(|event| self.deliver(event))).await;
        let mut results = Vec::with_capacity(events.len());
        let mut invalid: Option<Invalid> = None;
        for (event, delivery) in events.iter().zip(deliveries) {
            match delivery {
                // Sending again is worth it: what was done is not done twice.
                Delivery::TryAgain(reason) => return answer::try_again(&reason),
                Delivery::Rejected(reason) => invalid = invalid.or(Some(reason)),
                done => results.push(json!({ "id": event.id(), "outcome": outcome(&done) })),
            }
        }
        match invalid {
            Some(invalid) => {
                Problem::invalid(StatusCode::BAD_REQUEST, "Invalid event", &invalid).into_response()
            }
            None => answer::json(
                StatusCode::OK,
                format!("{}\n", json!({ "results": results })),
            ),
        }
    }

    async fn deliver(&self, event: &Event) -> Delivery {
        let started = Instant::now();
        let delivery = self.engine.deliver(self.function, event).await;
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let order = event
            .subject()
            .and_then(|subject| subject.strip_prefix("orders/"))
            .unwrap_or_default();
        let (function, invocation, name, id) = (
            self.function.name,
            &self.id,
            short_name(event.ty()),
            event.id(),
        );
        match &delivery {
            Delivery::TryAgain(reason) => tracing::warn!(
                function,
                invocation,
                order,
                event = id,
                r#type = name,
                reason,
                duration_us = micros,
                "to be delivered again"
            ),
            done => tracing::info!(
                function,
                invocation,
                order,
                event = id,
                r#type = name,
                duration_us = micros,
                "{}",
                outcome(done)
            ),
        }
        delivery
    }
}

/// What became of a delivery, in a word.
fn outcome(delivery: &Delivery) -> &'static str {
    match delivery {
        Delivery::Accepted => "accepted",
        Delivery::Duplicate => "duplicate",
        Delivery::Ignored(_) => "ignored",
        Delivery::Rejected(_) => "rejected",
        Delivery::TryAgain(_) => "try again",
    }
}

/// Runs the sweep.
pub(super) async fn sweep(
    engine: &Engine,
    function: &'static Function,
    request: Request,
) -> Response {
    let headers = request.headers();
    let invocation = invocation_id(headers);
    let swept = async {
        let swept = engine.sweep(SWEEP_AFTER).await?;
        let reminded = engine.remind().await?;
        engine.forget().await?;
        Ok::<_, StoreError>((swept, reminded))
    };
    match swept.await {
        Ok((swept, reminded)) => {
            tracing::info!(
                function = function.name,
                invocation,
                finished = swept.finished,
                pending = swept.pending,
                reminded = reminded.len(),
                "swept"
            );
            name_overdue(engine, &reminded).await;
            answer::invocation_done(&[])
        }
        Err(error) => answer::try_again(&error.to_string()),
    }
}

/// Names the orders that waited for too long and what they wait for, so that a person can find who is late.
async fn name_overdue(engine: &Engine, reminded: &[Reminded]) {
    let orders = reminded
        .iter()
        .filter(|reminded| reminded.function == OrderView::OWNER);
    for Reminded { order_id, .. } in orders {
        // Only the log line is lost when the order cannot be read now.
        let Ok(Some(view)) = engine.order(*order_id).await else {
            continue;
        };
        let (status, awaiting) = (view.facts.status(), view.facts.awaiting());
        tracing::warn!(
            order = %order_id,
            status = status.as_str(),
            awaiting = awaiting.join(", "),
            "waited for too long"
        );
    }
}
