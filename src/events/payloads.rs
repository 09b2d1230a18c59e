//! The payloads, one struct per event type.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Amount, CurrencyCode, Invalid, Invoice, Line, Order, OrderId, Payload, Payment, Quantity,
    ReasonCode, Sku,
};

/// Declares a payload: its fields, its type name and the service that publishes it.
macro_rules! payload {
    (
        $(#[$doc:meta])*
        $service:literal $name:ident { $( $(#[$field_doc:meta])* $field:ident: $kind:ty, )* }
        $( order = $order:expr; )?
        $( check = $check:expr; )?
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase")]
        pub struct $name { $( $(#[$field_doc])* pub $field: $kind, )* }

        impl Payload for $name {
            const TYPE: &'static str = concat!("Sales.", stringify!($name));
            const SERVICE: &'static str = $service;

            payload!(@order $( $order )?);

            $(
                fn check(&self) -> Result<(), Invalid> {
                    let check: fn(&Self) -> Result<(), Invalid> = $check;
                    check(self)
                }
            )?
        }
    };
    (@order) => {
        fn order_id(&self) -> OrderId {
            self.order_id
        }
    };
    (@order $order:expr) => {
        fn order_id(&self) -> OrderId {
            let order: fn(&Self) -> &Order = $order;
            order(self).order_id
        }
    };
}

payload!(
    /// A customer placed an order.
    "orders" OrderPlaced {
        /// The order.
        order: Order,
    }
    order = |placed| &placed.order;
);

payload!(
    /// The order is priced, taxed and invoiced: what is to be paid.
    "billing" BillingCompleted {
        /// The order.
        order: Order,
        /// What is to be paid.
        invoice: Invoice,
    }
    order = |billed| &billed.order;
    check = |billed| billed.invoice.check();
);

payload!(
    /// The order cannot be billed; nothing is to be undone.
    "billing" BillingRejected {
        /// The order's id.
        order_id: OrderId,
        /// Why.
        reason_code: ReasonCode,
        /// Why, in words.
        detail: String,
    }
);

payload!(
    /// The money is captured.
    "payment" PaymentSuccessful {
        /// The order.
        order: Order,
        /// What was to be paid.
        invoice: Invoice,
        /// What was paid.
        payment: Payment,
    }
    order = |paid| &paid.order;
    check = |paid| {
        paid.invoice.check()?;
        if paid.payment.amount == paid.invoice.total_amount {
            return Ok(());
        }
        Err(Invalid::new(
            "data.payment.amount",
            format!(
                "must be the invoice's totalAmount ({}), got {}",
                paid.invoice.total_amount.minor_units(),
                paid.payment.amount.minor_units()
            ),
        ))
    };
);

payload!(
    /// A try to capture the money failed.
    "payment" PaymentDeclined {
        /// The order's id.
        order_id: OrderId,
        /// Why.
        reason_code: ReasonCode,
        /// Why, in words.
        detail: String,
        /// Whether payment tries again; when not, the order is given up.
        retryable: bool,
        /// Which try it was, counted from 1.
        attempt: u32,
    }
);

payload!(
    /// Every line of the order is set aside.
    "inventory" StockReserved {
        /// The order's id.
        order_id: OrderId,
        /// The reservation's id.
        reservation_id: Uuid,
        /// What is set aside.
        lines: Vec<Line>,
        /// Until when.
        expires_at: DateTime<Utc>,
    }
);

/// An article that there is too little of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ShortLine {
    /// The article.
    pub sku: Sku,
    /// How many the order wants.
    pub wanted: Quantity,
    /// How many are free.
    pub available: u64,
}

payload!(
    /// At least one article is short; nothing is set aside.
    "inventory" StockShortage {
        /// The order's id.
        order_id: OrderId,
        /// Why.
        reason_code: ReasonCode,
        /// What is short.
        short_lines: Vec<ShortLine>,
    }
);

payload!(
    /// The parcel is packed and waits for its stock.
    "shipping" ShipmentPrepared {
        /// The order's id.
        order_id: OrderId,
        /// The shipment's id.
        shipment_id: Uuid,
    }
);

payload!(
    /// The carrier has the parcel.
    "shipping" ShipmentDispatched {
        /// The order's id.
        order_id: OrderId,
        /// The shipment's id.
        shipment_id: Uuid,
        /// What the carrier calls it.
        tracking_id: String,
    }
);

payload!(
    /// The carrier refused the parcel; it never left.
    "shipping" ShipmentFailed {
        /// The order's id.
        order_id: OrderId,
        /// The shipment's id.
        shipment_id: Uuid,
        /// Why.
        reason_code: ReasonCode,
        /// Why, in words.
        detail: String,
    }
);

payload!(
    /// The parcel will never leave. From here on it is safe to pay back and to put the stock back.
    "shipping" ShipmentCancelled {
        /// The order's id.
        order_id: OrderId,
        /// The shipment's id; absent when it had not been prepared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shipment_id: Option<Uuid>,
        /// Why.
        reason_code: ReasonCode,
    }
);

payload!(
    /// The order holds no stock and never will.
    "inventory" StockReleased {
        /// The order's id.
        order_id: OrderId,
        /// The reservation's id; absent when there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reservation_id: Option<Uuid>,
        /// Why.
        reason_code: ReasonCode,
    }
);

payload!(
    /// The captured money is paid back in full.
    "payment" PaymentRefunded {
        /// The order's id.
        order_id: OrderId,
        /// The payment that was paid back.
        payment_id: Uuid,
        /// The refund's id.
        refund_id: Uuid,
        /// What was paid back, in minor units.
        amount: Amount,
        /// Its currency.
        currency: CurrencyCode,
        /// Why.
        reason_code: ReasonCode,
    }
);

payload!(
    /// The money could not be paid back; a person must.
    "payment" RefundFailed {
        /// The order's id.
        order_id: OrderId,
        /// The payment that was to be paid back.
        payment_id: Uuid,
        /// What was to be paid back, in minor units.
        amount: Amount,
        /// Its currency.
        currency: CurrencyCode,
        /// Why not.
        reason_code: ReasonCode,
        /// Why not, in words.
        detail: String,
    }
);

payload!(
    /// The unpaid invoice is void.
    "billing" InvoiceVoided {
        /// The order's id.
        order_id: OrderId,
        /// The invoice.
        invoice_id: Uuid,
        /// Why.
        reason_code: ReasonCode,
    }
);

payload!(
    /// The paid invoice is credited in full.
    "billing" CreditNoteIssued {
        /// The order's id.
        order_id: OrderId,
        /// The invoice.
        invoice_id: Uuid,
        /// The credit note's id.
        credit_note_id: Uuid,
        /// What is credited, in minor units.
        amount: Amount,
        /// Its currency.
        currency: CurrencyCode,
        /// Why.
        reason_code: ReasonCode,
    }
);

/// Who asked for a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CancelRequester {
    /// The customer, over the API.
    Customer,
    /// The timer function `sweep`, since the order waited for too long.
    Sweep,
}

payload!(
    /// The order is to be cancelled unless it has been dispatched. May arrive before what it cancels.
    "orders" OrderCancelRequested {
        /// The order's id.
        order_id: OrderId,
        /// Who asked.
        requested_by: CancelRequester,
        /// Why.
        reason_code: ReasonCode,
    }
);

payload!(
    /// Result: the order is billed, paid, reserved and dispatched.
    "orders" OrderCompleted {
        /// The order's id.
        order_id: OrderId,
    }
);

payload!(
    /// Result: the order is cancelled, and what had been done is undone.
    "orders" OrderCancelled {
        /// The order's id.
        order_id: OrderId,
        /// Why.
        reason_code: ReasonCode,
        /// Whether money was captured and paid back.
        refunded: bool,
    }
);

payload!(
    /// Result: a person must look at the order.
    "orders" OrderNeedsAttention {
        /// The order's id.
        order_id: OrderId,
        /// Why.
        reason_code: ReasonCode,
    }
);
