//! Orders: takes what customers ask for, and knows what became of every order.

use chrono::{DateTime, Duration, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::{
    BillingCompleted, BillingRejected, CancelRequester, CreditNoteIssued, InvoiceVoided, Order,
    OrderCancelRequested, OrderCancelled, OrderCompleted, OrderId, OrderNeedsAttention,
    OrderPlaced, Outgoing, Payload, PaymentDeclined, PaymentRefunded, PaymentSuccessful,
    ReasonCode, RefundFailed, ShipmentCancelled, ShipmentDispatched, ShipmentFailed,
    ShipmentPrepared, StockReleased, StockReserved, StockShortage, event_id, short_name,
};

use super::{
    Catalog, Context, State, Verdict,
    status::{Fact, Facts, Status, Summary},
};

/// All that is known of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderView {
    /// The order's id.
    pub order_id: OrderId,
    /// What was ordered; unknown while only later facts have arrived.
    pub order: Option<Order>,
    /// When it was placed, as far as is known.
    pub placed_at: DateTime<Utc>,
    /// What is known to have happened.
    pub facts: Facts,
    /// Why it fell through, if it did.
    pub reason: Option<ReasonCode>,
    /// Every event about it, oldest first.
    pub history: Vec<Entry>,
    /// When it is to be looked at again, unless something happens before that.
    due: Option<DateTime<Utc>>,
    /// When it was looked at last.
    looked_at: Option<DateTime<Utc>>,
}

/// One event in an order's history.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "HistoryEntry")]
pub struct Entry {
    /// When it happened.
    pub time: DateTime<Utc>,
    /// The event's name, such as `BillingCompleted`.
    pub event: String,
    /// The event's id.
    pub id: String,
    /// What to know about it at a glance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub detail: Option<String>,
}

/// The events by which this service tells the result.
const RESULTS: [&str; 3] = [
    OrderCompleted::TYPE,
    OrderCancelled::TYPE,
    OrderNeedsAttention::TYPE,
];

impl State for OrderView {
    const OWNER: &'static str = "orders";

    fn summary(&self) -> Option<Summary> {
        Some(Summary {
            order_id: self.order_id,
            status: self.facts.status(),
            placed_at: self.placed_at,
        })
    }

    fn due(&self) -> Option<DateTime<Utc>> {
        self.due
    }
}

impl OrderView {
    fn new(order_id: OrderId, time: DateTime<Utc>) -> Self {
        Self {
            order_id,
            order: None,
            placed_at: time,
            facts: Facts::default(),
            reason: None,
            history: Vec::new(),
            due: None,
            looked_at: None,
        }
    }

    fn add(&mut self, entry: Entry) {
        if self.history.iter().any(|known| known.id == entry.id) {
            return;
        }
        // A result stands after its cause, wherever its name would sort.
        let is_result = |name: &str| RESULTS.iter().any(|result| short_name(result) == name);
        let later = |known: &Entry| *known > entry && !is_result(&known.event);
        let place = self.history.iter().position(later);
        self.history
            .insert(place.unwrap_or(self.history.len()), entry);
    }

    fn take(&mut self, context: &Context<'_>, event: &'static str, noted: Noted) {
        self.facts.add(noted.fact);
        // Of several reasons the smallest code stands, whatever their order of arrival.
        self.reason = self.reason.into_iter().chain(noted.reason).min();
        let (time, id) = (context.time, context.event_id.to_owned());
        self.add(Entry {
            time,
            event: short_name(event).to_owned(),
            id,
            detail: noted.detail,
        });
    }

    /// By when it must have been paid, or dispatched once it is paid, lest it is cancelled, and for what reason.
    fn deadline(&self, catalog: &Catalog) -> Option<(DateTime<Utc>, ReasonCode)> {
        if self.facts.has(Fact::ShipmentDispatched) || self.facts.falling_through() {
            return None;
        }
        let paid = short_name(PaymentSuccessful::TYPE);
        let paid = self.history.iter().find(|entry| entry.event == paid);
        let (since, allowed, reason) = match paid {
            // The stock is reserved from then on: the deadline is the reservation's, too.
            Some(paid) => (
                paid.time,
                catalog.reservation_hours,
                ReasonCode::FulfilmentOverdue,
            ),
            None => (
                self.placed_at,
                catalog.payment_timeout_hours,
                ReasonCode::PaymentOverdue,
            ),
        };
        Some((since + hours(allowed), reason))
    }

    /// Sets when the order is to be looked at again: at its deadline, or when it counts as stuck if that is sooner.
    fn schedule(&mut self, catalog: &Catalog) {
        let over = self.facts.status().is_over();
        let moved = self.history.iter().map(|entry| entry.time).max();
        let stuck =
            moved.max(self.looked_at).unwrap_or(self.placed_at) + hours(catalog.stuck_hours);
        let deadline = self.deadline(catalog).map_or(stuck, |(at, _)| at);
        self.due = (!over).then_some(stuck.min(deadline));
    }

    /// Tells the world when the order has come to a result that it had not had before.
    fn announce(mut self, context: &Context<'_>, before: Option<Status>) -> Verdict<Self> {
        let status = self.facts.status();
        if before == Some(status) {
            return Verdict::accept(self);
        }
        let order_id = self.order_id;
        let reason_code = self.reason.unwrap_or(ReasonCode::ConflictingFacts);
        let result = match status {
            Status::Completed => Outgoing::once(&OrderCompleted { order_id }),
            Status::Cancelled | Status::Refunded => Outgoing::once(&OrderCancelled {
                order_id,
                reason_code,
                refunded: status == Status::Refunded,
            }),
            Status::NeedsAttention => Outgoing::once(&OrderNeedsAttention {
                order_id,
                reason_code,
            }),
            _ => return Verdict::accept(self),
        };
        let (event, id) = (
            short_name(result.event_type).to_owned(),
            result.id().to_string(),
        );
        if self.history.iter().any(|known| known.id == id) {
            return Verdict::accept(self);
        }
        // A result follows its cause, and its name may sort before the cause's.
        let time = self
            .history
            .last()
            .map_or(context.time, |last| last.time.max(context.time));
        self.history.push(Entry {
            time,
            event,
            id,
            detail: None,
        });
        Verdict::accept(self).publish_outgoing(result)
    }
}

/// What the view keeps of an event.
#[derive(Debug)]
pub struct Noted {
    fact: Fact,
    reason: Option<ReasonCode>,
    detail: Option<String>,
}

impl Noted {
    fn fact(fact: Fact) -> Self {
        Self {
            fact,
            reason: None,
            detail: None,
        }
    }

    fn because(fact: Fact, reason: ReasonCode) -> Self {
        Self {
            fact,
            reason: Some(reason),
            detail: None,
        }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }
}

/// An event that the view takes note of.
pub trait Notable: Payload {
    /// What to keep of it.
    fn noted(&self) -> Noted;

    /// The order as placed, where the event carries it.
    fn order(&self) -> Option<&Order> {
        None
    }
}

/// Takes note of an event, and announces the order's result when this makes it final.
pub fn note<E: Notable>(
    context: &Context<'_>,
    state: Option<&OrderView>,
    event: &E,
) -> Verdict<OrderView> {
    let before = state.map(|view| view.facts.status());
    let mut view = state
        .cloned()
        .unwrap_or_else(|| OrderView::new(event.order_id(), context.time));
    if view.order.is_none() {
        view.order = event.order().cloned();
    }
    view.placed_at = view.placed_at.min(context.time);
    view.take(context, E::TYPE, event.noted());
    view.schedule(context.catalog);
    view.announce(context, before)
}

/// A customer's order, under the id that it got. A test is cancelled at once.
pub fn place(
    context: &Context<'_>,
    state: Option<&OrderView>,
    placed: &OrderPlaced,
) -> Verdict<OrderView> {
    let order = &placed.order;
    if let Some(known) = state.and_then(|view| view.order.as_ref()) {
        return if known == order {
            Verdict::Ignore("already placed")
        } else {
            Verdict::Reject(PLACED_DIFFERENTLY)
        };
    }
    let id = event_id(order.order_id, OrderPlaced::TYPE, 1).to_string();
    let context = Context {
        event_id: &id,
        ..*context
    };
    let Verdict::Accept(mut decision) = note(&context, state, placed) else {
        return Verdict::Ignore("already placed");
    };
    decision.events.push(Outgoing::once(placed));
    if order.test {
        // The cancellation reaches the services that hear nothing of an order that is not billed.
        let request = CancelRequest {
            order_id: order.order_id,
            requested_by: CancelRequester::Customer,
            reason_code: ReasonCode::TestOrder,
        };
        // It follows what it cancels, in the history too.
        let context = Context {
            time: context.time + Duration::microseconds(1),
            ..context
        };
        if let Verdict::Accept(cancelled) = cancel(&context, Some(&decision.state), &request) {
            decision.state = cancelled.state;
            decision.events.extend(cancelled.events);
        }
    }
    Verdict::Accept(decision)
}

/// Why an order is refused whose idempotency key was used for another one.
pub const PLACED_DIFFERENTLY: &str = "another order was placed under the same Idempotency-Key";

/// A wish to cancel an order.
#[derive(Debug, Clone, Copy)]
pub struct CancelRequest {
    /// Which order.
    pub order_id: OrderId,
    /// Who asks.
    pub requested_by: CancelRequester,
    /// Why.
    pub reason_code: ReasonCode,
}

/// Why a cancellation is refused when nobody knows the order.
pub const UNKNOWN_ORDER: &str = "there is no such order";

/// Why a cancellation is refused once the parcel has left.
pub const DISPATCHED: &str = "the order has been dispatched";

/// Cancels an order, unless it has been dispatched.
pub fn cancel(
    context: &Context<'_>,
    state: Option<&OrderView>,
    request: &CancelRequest,
) -> Verdict<OrderView> {
    let Some(view) = state else {
        return Verdict::Reject(UNKNOWN_ORDER);
    };
    match view.facts.status() {
        _ if view.facts.has(Fact::ShipmentDispatched) => return Verdict::Reject(DISPATCHED),
        Status::Cancelled | Status::Refunded => return Verdict::Ignore("already cancelled"),
        _ if view.facts.has(Fact::CancelRequested) => {
            return Verdict::Ignore("already being cancelled");
        }
        _ => {}
    }
    let CancelRequest {
        order_id,
        requested_by,
        reason_code,
    } = *request;
    let requested = OrderCancelRequested {
        order_id,
        requested_by,
        reason_code,
    };
    let id = event_id(order_id, OrderCancelRequested::TYPE, 1).to_string();
    let context = Context {
        event_id: &id,
        ..*context
    };
    note(&context, state, &requested).publish(&requested)
}

/// The time has come to look at an order again: one that is past its deadline is cancelled, as far as shipping, the
/// arbiter, lets it be. One that is stuck stays as it is, and is looked at again when it has been stuck as long again.
pub fn overdue(context: &Context<'_>, view: &OrderView) -> Verdict<OrderView> {
    let mut view = view.clone();
    view.looked_at = Some(context.time);
    match view.deadline(context.catalog) {
        Some((deadline, reason_code)) if deadline <= context.time => {
            let request = CancelRequest {
                order_id: view.order_id,
                requested_by: CancelRequester::Sweep,
                reason_code,
            };
            cancel(context, Some(&view), &request)
        }
        _ => {
            view.schedule(context.catalog);
            Verdict::accept(view)
        }
    }
}

fn hours(count: u16) -> Duration {
    Duration::hours(i64::from(count))
}

/// Declares what the view keeps of each event type.
macro_rules! notable {
    ($( $event:ident => $noted:expr $(, order $order:expr )?; )*) => {
        $(
            impl Notable for $event {
                fn noted(&self) -> Noted {
                    let noted: fn(&Self) -> Noted = $noted;
                    noted(self)
                }

                $(
                    fn order(&self) -> Option<&Order> {
                        let order: fn(&Self) -> &Order = $order;
                        Some(order(self))
                    }
                )?
            }
        )*
    };
}

notable! {
    OrderPlaced => |_| Noted::fact(Fact::Placed), order |placed| &placed.order;
    BillingCompleted => |billed| Noted::fact(Fact::Billed).detail(format!(
        "{} due",
        billed.invoice.total_amount.display(&billed.order.currency),
    )), order |billed| &billed.order;
    BillingRejected => |rejected| {
        Noted::because(Fact::BillingRejected, rejected.reason_code).detail(rejected.detail.as_str())
    };
    PaymentSuccessful => |paid| {
        Noted::fact(Fact::Paid).detail(paid.payment.provider_reference.as_str())
    }, order |paid| &paid.order;
    PaymentDeclined => |declined| {
        let noted = if declined.retryable {
            Noted::fact(Fact::PaymentDeclined)
        } else {
            Noted::because(Fact::PaymentGivenUp, declined.reason_code)
        };
        noted.detail(declined.detail.as_str())
    };
    StockReserved => |_| Noted::fact(Fact::StockReserved);
    StockShortage => |short| {
        let list = |line: &crate::events::ShortLine| {
            format!("{}: {} wanted, {} available", line.sku, line.wanted.get(), line.available)
        };
        let lines: Vec<_> = short.short_lines.iter().map(list).collect();
        Noted::because(Fact::StockShort, short.reason_code).detail(lines.join("; "))
    };
    StockReleased => |_| Noted::fact(Fact::StockReleased);
    ShipmentPrepared => |_| Noted::fact(Fact::ShipmentPrepared);
    ShipmentDispatched => |dispatched| {
        Noted::fact(Fact::ShipmentDispatched).detail(format!("tracking id {}", dispatched.tracking_id))
    };
    ShipmentFailed => |failed| Noted::because(Fact::ShipmentFailed, failed.reason_code).detail(failed.detail.as_str());
    ShipmentCancelled => |_| Noted::fact(Fact::ShipmentCancelled);
    PaymentRefunded => |refunded| Noted::fact(Fact::Refunded).detail(format!(
        "{} paid back",
        refunded.amount.display(&refunded.currency),
    ));
    RefundFailed => |failed| Noted::because(Fact::RefundFailed, failed.reason_code).detail(failed.detail.as_str());
    InvoiceVoided => |_| Noted::fact(Fact::InvoiceVoided);
    CreditNoteIssued => |_| Noted::fact(Fact::CreditNoteIssued);
    OrderCancelRequested => |request| Noted::because(Fact::CancelRequested, request.reason_code);
}
