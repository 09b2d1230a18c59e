//! The registry: every function of the application, in one place.
//!
//! Routes, the local Event Grid's subscriptions, the event catalogue, every file that `orderflow check` compares and
//! the tests are all made from [`FUNCTIONS`]. A new service is one new module under `sales` and one new row here.

pub mod audit;
pub mod rule;

use crate::{
    events::{
        BillingCompleted, BillingRejected, CreditNoteIssued, EventType, Invalid, InvoiceVoided,
        OrderCancelRequested, OrderCancelled, OrderCompleted, OrderNeedsAttention, OrderPlaced,
        PaymentDeclined, PaymentRefunded, PaymentSuccessful, RefundFailed, ShipmentCancelled,
        ShipmentDispatched, ShipmentFailed, ShipmentPrepared, StockReleased, StockReserved,
        StockShortage, event_type, short_name,
    },
    sales::{billing, inventory, orders, payment, shipping},
};

use rule::{Remind, Rule, Settle, on, reminded_by, settled_by};

/// One function of the application.
#[derive(Clone, Copy)]
pub struct Function {
    /// Its name: that of its folder under `functions/` and of its route.
    pub name: &'static str,
    /// What starts it.
    pub trigger: Trigger,
}

/// What starts a function.
#[derive(Clone, Copy)]
pub enum Trigger {
    /// An Event Grid subscription.
    EventGrid {
        /// What decides on each event type that it subscribes to.
        rules: &'static [&'static dyn Rule],
        /// Every event type that its service publishes.
        publishes: &'static [EventType],
        /// What takes the outcomes of its effects.
        settle: Option<&'static dyn Settle>,
        /// What looks at an order again when the time has come that its state had named.
        remind: Option<&'static dyn Remind>,
    },
    /// An HTTP request, forwarded by the host as it came.
    Http {
        /// The method, in capitals.
        method: &'static str,
        /// The route below `/api/`, in the host's syntax.
        route: &'static str,
    },
    /// The clock.
    Timer {
        /// An NCRONTAB expression (six fields, seconds first).
        schedule: &'static str,
    },
}

/// Every function of the application.
pub static FUNCTIONS: &[Function] = &[
    Function {
        name: "billing",
        trigger: Trigger::EventGrid {
            rules: &[
                &on::<_, OrderPlaced>(billing::bill),
                &on::<_, PaymentDeclined>(billing::void),
                &on::<_, StockShortage>(billing::credit_shortage),
                &on::<_, ShipmentFailed>(billing::credit_failure),
                &on::<_, PaymentRefunded>(billing::credit_refund),
                &on::<_, RefundFailed>(billing::credit_owed),
                &on::<_, OrderCancelRequested>(billing::cancel),
            ],
            publishes: &[
                event_type::<BillingCompleted>(),
                event_type::<BillingRejected>(),
                event_type::<InvoiceVoided>(),
                event_type::<CreditNoteIssued>(),
            ],
            settle: None,
            remind: None,
        },
    },
    Function {
        name: "payment",
        trigger: Trigger::EventGrid {
            rules: &[
                &on::<_, BillingCompleted>(payment::charge),
                &on::<_, StockShortage>(payment::refund_shortage),
                &on::<_, ShipmentFailed>(payment::refund_failure),
                &on::<_, ShipmentCancelled>(payment::refund_cancelled),
                &on::<_, OrderCancelRequested>(payment::cancel),
            ],
            publishes: &[
                event_type::<PaymentSuccessful>(),
                event_type::<PaymentDeclined>(),
                event_type::<PaymentRefunded>(),
                event_type::<RefundFailed>(),
            ],
            settle: Some(&settled_by(payment::settle)),
            remind: Some(&reminded_by(payment::retry)),
        },
    },
    Function {
        name: "inventory",
        trigger: Trigger::EventGrid {
            rules: &[
                &on::<_, PaymentSuccessful>(inventory::reserve).locking(inventory::ordered),
                &on::<_, ShipmentDispatched>(inventory::commit).locking(inventory::held),
                &on::<_, ShipmentFailed>(inventory::release_failed).locking(inventory::held),
                &on::<_, ShipmentCancelled>(inventory::release_cancelled).locking(inventory::held),
                &on::<_, OrderCancelRequested>(inventory::cancel).locking(inventory::held),
            ],
            publishes: &[
                event_type::<StockReserved>(),
                event_type::<StockShortage>(),
                event_type::<StockReleased>(),
            ],
            settle: None,
            remind: None,
        },
    },
    Function {
        name: "shipping",
        trigger: Trigger::EventGrid {
            rules: &[
                &on::<_, PaymentSuccessful>(shipping::prepare),
                &on::<_, StockReserved>(shipping::stock_reserved),
                &on::<_, StockShortage>(shipping::cancel_shortage),
                &on::<_, OrderCancelRequested>(shipping::cancel),
            ],
            publishes: &[
                event_type::<ShipmentPrepared>(),
                event_type::<ShipmentDispatched>(),
                event_type::<ShipmentFailed>(),
                event_type::<ShipmentCancelled>(),
            ],
            settle: Some(&settled_by(shipping::settle)),
            remind: None,
        },
    },
    Function {
        name: "orders",
        trigger: Trigger::EventGrid {
            rules: &[
                &on::<_, OrderPlaced>(orders::note),
                &on::<_, BillingCompleted>(orders::note),
                &on::<_, BillingRejected>(orders::note),
                &on::<_, PaymentSuccessful>(orders::note),
                &on::<_, PaymentDeclined>(orders::note),
                &on::<_, StockReserved>(orders::note),
                &on::<_, StockShortage>(orders::note),
                &on::<_, ShipmentPrepared>(orders::note),
                &on::<_, ShipmentDispatched>(orders::note),
                &on::<_, ShipmentFailed>(orders::note),
                &on::<_, ShipmentCancelled>(orders::note),
                &on::<_, StockReleased>(orders::note),
                &on::<_, PaymentRefunded>(orders::note),
                &on::<_, RefundFailed>(orders::note),
                &on::<_, InvoiceVoided>(orders::note),
                &on::<_, CreditNoteIssued>(orders::note),
                &on::<_, OrderCancelRequested>(orders::note),
            ],
            publishes: &[
                event_type::<OrderPlaced>(),
                event_type::<OrderCancelRequested>(),
                event_type::<OrderCompleted>(),
                event_type::<OrderCancelled>(),
                event_type::<OrderNeedsAttention>(),
            ],
            settle: None,
            remind: Some(&reminded_by(orders::overdue)),
        },
    },
    Function {
        name: "place-order",
        trigger: Trigger::Http {
            method: "POST",
            route: "orders",
        },
    },
    Function {
        name: "list-orders",
        trigger: Trigger::Http {
            method: "GET",
            route: "orders",
        },
    },
    Function {
        name: "get-order",
        trigger: Trigger::Http {
            method: "GET",
            route: "orders/{orderId}",
        },
    },
    Function {
        name: "cancel-order",
        trigger: Trigger::Http {
            method: "POST",
            route: "orders/{orderId}/cancel",
        },
    },
    Function {
        name: "sweep",
        trigger: Trigger::Timer {
            schedule: "0 * * * * *",
        },
    },
];

/// The event catalogue: every event type that a service publishes.
pub fn catalogue() -> impl Iterator<Item = &'static EventType> {
    FUNCTIONS.iter().flat_map(Function::publishes)
}

/// The event type of that name, with or without its prefix.
pub fn event_named(name: &str) -> Option<&'static EventType> {
    catalogue().find(|known| short_name(known.name) == short_name(name))
}

/// The name of the trigger's parameter in the function.json of Event Grid functions.
pub const EVENT_BINDING: &str = "event";

/// The name of the trigger's parameter in the function.json of timer functions.
pub const TIMER_BINDING: &str = "timer";

impl Function {
    /// The function of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FUNCTIONS.iter().find(|function| function.name == name)
    }

    /// What decides on each event type that the function subscribes to; empty for other triggers.
    pub fn rules(&self) -> &'static [&'static dyn Rule] {
        match self.trigger {
            Trigger::EventGrid { rules, .. } => rules,
            Trigger::Http { .. } | Trigger::Timer { .. } => &[],
        }
    }

    /// Every event type that the function's service publishes; empty for other triggers.
    pub fn publishes(&self) -> &'static [EventType] {
        match self.trigger {
            Trigger::EventGrid { publishes, .. } => publishes,
            Trigger::Http { .. } | Trigger::Timer { .. } => &[],
        }
    }

    /// What decides on an event type.
    ///
    /// # Errors
    /// The function does not subscribe to it.
    pub fn rule(&self, event_type: &str) -> Result<&'static dyn Rule, Invalid> {
        self.rules()
            .iter()
            .find(|rule| rule.event_type() == event_type)
            .copied()
            .ok_or_else(|| {
                let takes: Vec<_> = self.event_types().collect();
                Invalid::new(
                    "type",
                    format!(
                        "{} takes {}, got {event_type:?}",
                        self.name,
                        takes.join(", ")
                    ),
                )
            })
    }

    /// What takes the outcomes of the function's effects.
    pub fn settle(&self) -> Option<&'static dyn Settle> {
        match self.trigger {
            Trigger::EventGrid { settle, .. } => settle,
            Trigger::Http { .. } | Trigger::Timer { .. } => None,
        }
    }

    /// What looks at the function's orders again when their time has come.
    pub fn remind(&self) -> Option<&'static dyn Remind> {
        match self.trigger {
            Trigger::EventGrid { remind, .. } => remind,
            Trigger::Http { .. } | Trigger::Timer { .. } => None,
        }
    }

    /// The event types that the function subscribes to.
    pub fn event_types(&self) -> impl Iterator<Item = &'static str> {
        self.rules().iter().map(|rule| rule.event_type())
    }
}
