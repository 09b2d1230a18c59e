//! What stands for the handler: delivers an event as `orderflow serve` does when the host invokes it.

use cloudevents::Event;

use crate::{
    cloud_event,
    engine::{Delivery, Engine},
    functions::Function,
};

use super::bugs::{self, Bug};

/// Delivers an event as the handler does: what can never succeed is kept as it came, and acknowledged.
pub(super) async fn deliver(
    engine: &Engine,
    function: &'static Function,
    event: &Event,
    bug: Option<Bug>,
) -> Delivery {
    let delivery = match bug.and_then(|bug| bugs::refused(bug, event)) {
        Some(invalid) => Delivery::Rejected(invalid),
        None => engine.deliver(function, event).await,
    };
    let Delivery::Rejected(mut reason) = delivery else {
        return delivery;
    };
    let body = cloud_event::to_json(event);
    if bug == Some(Bug::Indiscreet) {
        reason.problem = format!("{}: {}", reason.problem, String::from_utf8_lossy(&body));
    }
    match engine.park(function, Some(event), &body, &reason).await {
        Ok(()) => Delivery::Rejected(reason),
        Err(error) => Delivery::TryAgain(error.to_string()),
    }
}
