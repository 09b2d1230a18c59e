//! Flaws that the simulation found, each with what it showed.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, pending, ready},
};
use orderflow::{
    engine::{Delivery, EffectError, Effects, Engine, SystemClock},
    events::{BillingCompleted, OrderId, OrderPlaced, Payload, samples},
    functions::{Function, event_named},
    publish::{PublishError, Publisher},
    sales::{Catalog, Effect, Outcome},
    simulate::{self, Fault, Faults, Rate, Scenario},
    store::memory::MemoryStore,
};
use serde_json::json;
use uuid::Uuid;

use crate::support::{Handler, sample};

/// A publisher of another version had put a text where an object belongs; the reason for parking the event quoted it,
/// and with it the customer's address, in the log and in `parked`.
#[tokio::test]
async fn a_reason_does_not_quote_what_the_customer_owns() {
    let handler = Handler::start_in_memory().await;
    for field in ["customer", "shipTo", "lines", "currency", "orderId"] {
        let mut event = sample("OrderPlaced");
        event["data"]["order"][field] = json!("ada@example.com\", expected");
        let answer = handler.invoke("billing", event.clone()).await;
        assert!(answer.text.contains(field), "{answer:?}");
        assert!(!answer.text.contains("ada@"), "{answer:?}");
        let answer = handler.send("billing", &event).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert!(!answer.text.contains("ada@"), "{answer:?}");
    }
}

/// The same, as the simulation found it: a damaged event was enough.
#[test]
fn damaged_events_tell_nothing() {
    let faults = Faults::at(Rate::percent(50)).only(&[Fault::Poisoned]);
    let scenario = Scenario {
        faults,
        ..Scenario::new(104, 20, Rate::percent(50))
    };
    let counts = simulate::run(scenario).unwrap_or_else(|failure| panic!("{failure}"));
    assert!(counts.parked > 100, "{counts}");
}

/// A topic that may be closed.
#[derive(Default)]
struct Topic {
    closed: AtomicBool,
    taken: Mutex<Vec<Bytes>>,
}

impl Publisher for Topic {
    fn publish(&self, events: Vec<Bytes>, _: Duration) -> BoxFuture<'_, Result<(), PublishError>> {
        if self.closed.load(Ordering::SeqCst) {
            return Box::pin(ready(Err(PublishError::Unavailable("closed".to_owned()))));
        }
        self.taken.lock().unwrap().extend(events);
        Box::pin(ready(Ok(())))
    }
}

/// A payment provider that does not answer.
struct Silent;

impl Effects for Silent {
    fn perform<'a>(
        &'a self,
        _: &'a Effect,
        _: Duration,
        _: Duration,
    ) -> BoxFuture<'a, Result<Outcome, EffectError>> {
        Box::pin(pending())
    }
}

/// A sweep finished one debt after the other: in an outage of the payment provider it waited for the provider's
/// time-out once for each order, and an order whose event had only to be published waited with it, for hours.
#[test]
fn a_provider_that_does_not_answer_keeps_no_other_debt_waiting() {
    let topic = Arc::new(Topic::default());
    let catalog = Catalog::from_json(Catalog::DEVELOPMENT).unwrap();
    let engine = Engine::new(
        Arc::new(MemoryStore::default()),
        topic.clone(),
        Arc::new(Silent),
        Arc::new(SystemClock),
        Arc::new(catalog),
    );
    let event = |name, number| {
        let order = OrderId(Uuid::from_u128(number));
        samples::event(event_named(name).unwrap(), order)
    };
    let function = |name| Function::named(name).unwrap();
    let billed = event(BillingCompleted::TYPE, 1);
    let unanswered = engine.deliver(function("payment"), &billed).now_or_never();
    assert_eq!(unanswered, None, "the provider does not answer");
    topic.closed.store(true, Ordering::SeqCst);
    let placed = event(OrderPlaced::TYPE, 2);
    let refused = engine.deliver(function("billing"), &placed).now_or_never();
    assert!(
        matches!(refused, Some(Delivery::TryAgain(_))),
        "{refused:?}"
    );
    topic.closed.store(false, Ordering::SeqCst);
    assert_eq!(topic.taken.lock().unwrap().len(), 0);
    let swept = engine.sweep(Duration::ZERO).now_or_never();
    assert_eq!(swept, None, "the provider still does not answer");
    assert_eq!(
        topic.taken.lock().unwrap().len(),
        1,
        "the other order goes on"
    );
}
