//! The payloads, one struct per event type.

use chrono::{DateTime, Duration, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    Amount, CurrencyCode, Invalid, Invoice, Line, Order, OrderId, Payment, Quantity, ReasonCode,
    Sku, payload, samples,
};

payload!(
    /// A customer placed an order.
    "orders" Step OrderPlaced {
        /// The order.
        order: Order,
    }
    sample = |story| Self { order: story.order.clone() };
    order = |placed| &placed.order;
);

payload!(
    /// The order is priced, taxed and invoiced: what is to be paid.
    "billing" Step BillingCompleted {
        /// The order.
        order: Order,
        /// What is to be paid.
        invoice: Invoice,
    }
    sample = |story| Self {
        order: story.order.clone(),
        invoice: story.invoice.clone(),
    };
    order = |billed| &billed.order;
    check = |billed| billed.invoice.check();
);

payload!(
    /// The order cannot be billed; nothing is to be undone.
    "billing" Refusal BillingRejected {
        /// The order's id.
        order_id: OrderId,
        /// Why.
        reason_code: ReasonCode,
        /// Why, in words.
        detail: String,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        reason_code: ReasonCode::UnknownCountry,
        detail: "there is no tax rate for AQ".to_owned(),
    };
);

payload!(
    /// The money is captured.
    "payment" Step PaymentSuccessful {
        /// The order.
        order: Order,
        /// What was to be paid.
        invoice: Invoice,
        /// What was paid.
        payment: Payment,
    }
    sample = |story| Self {
        order: story.order.clone(),
        invoice: story.invoice.clone(),
        payment: story.payment.clone(),
    };
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
    "payment" Failure PaymentDeclined {
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
    sample = |story| Self {
        order_id: story.order.order_id,
        reason_code: ReasonCode::CardDeclined,
        detail: "the card was declined".to_owned(),
        retryable: false,
        attempt: 1,
    };
);

payload!(
    /// Every line of the order is set aside.
    "inventory" Step StockReserved {
        /// The order's id.
        order_id: OrderId,
        /// The reservation's id.
        reservation_id: Uuid,
        /// What is set aside.
        lines: Vec<Line>,
        /// Until when.
        expires_at: DateTime<Utc>,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        reservation_id: story.id("reservation"),
        lines: story.order.lines.clone(),
        expires_at: samples::time() + Duration::hours(24),
    };
);

/// An article that there is too little of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    "inventory" Failure StockShortage {
        /// The order's id.
        order_id: OrderId,
        /// Why.
        reason_code: ReasonCode,
        /// What is short.
        short_lines: Vec<ShortLine>,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        reason_code: ReasonCode::OutOfStock,
        short_lines: vec![ShortLine {
            sku: samples::code("LAST-1"),
            wanted: Quantity::ONE,
            available: 0,
        }],
    };
);

payload!(
    /// The parcel is packed and waits for its stock.
    "shipping" Step ShipmentPrepared {
        /// The order's id.
        order_id: OrderId,
        /// The shipment's id.
        shipment_id: Uuid,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        shipment_id: story.id("shipment"),
    };
);

payload!(
    /// The carrier has the parcel.
    "shipping" Step ShipmentDispatched {
        /// The order's id.
        order_id: OrderId,
        /// The shipment's id.
        shipment_id: Uuid,
        /// What the carrier calls it.
        tracking_id: String,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        shipment_id: story.id("shipment"),
        tracking_id: "SIM00000000000000000001".to_owned(),
    };
);

payload!(
    /// The carrier refused the parcel; it never left.
    "shipping" Failure ShipmentFailed {
        /// The order's id.
        order_id: OrderId,
        /// The shipment's id.
        shipment_id: Uuid,
        /// Why.
        reason_code: ReasonCode,
        /// Why, in words.
        detail: String,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        shipment_id: story.id("shipment"),
        reason_code: ReasonCode::AddressUndeliverable,
        detail: "the postal code cannot be reached".to_owned(),
    };
);

payload!(
    /// The parcel will never leave. From here on it is safe to pay back and to put the stock back.
    "shipping" Step ShipmentCancelled {
        /// The order's id.
        order_id: OrderId,
        /// The shipment's id; absent when it had not been prepared.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        shipment_id: Option<Uuid>,
        /// Why.
        reason_code: ReasonCode,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        shipment_id: Some(story.id("shipment")),
        reason_code: ReasonCode::CustomerRequest,
    };
);

payload!(
    /// The order holds no stock and never will.
    "inventory" Step StockReleased {
        /// The order's id.
        order_id: OrderId,
        /// The reservation's id; absent when there was none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reservation_id: Option<Uuid>,
        /// Why.
        reason_code: ReasonCode,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        reservation_id: Some(story.id("reservation")),
        reason_code: ReasonCode::CustomerRequest,
    };
);

payload!(
    /// The captured money is paid back in full.
    "payment" Step PaymentRefunded {
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
    sample = |story| Self {
        order_id: story.order.order_id,
        payment_id: story.payment.payment_id,
        refund_id: story.id("refund"),
        amount: story.payment.amount,
        currency: story.order.currency.clone(),
        reason_code: ReasonCode::CustomerRequest,
    };
);

payload!(
    /// The money could not be paid back; a person must.
    "payment" Failure RefundFailed {
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
    sample = |story| Self {
        order_id: story.order.order_id,
        payment_id: story.payment.payment_id,
        amount: story.payment.amount,
        currency: story.order.currency.clone(),
        reason_code: ReasonCode::RefundRefused,
        detail: "the card's bank refused the refund".to_owned(),
    };
);

payload!(
    /// The unpaid invoice is void.
    "billing" Step InvoiceVoided {
        /// The order's id.
        order_id: OrderId,
        /// The invoice.
        invoice_id: Uuid,
        /// Why.
        reason_code: ReasonCode,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        invoice_id: story.invoice.invoice_id,
        reason_code: ReasonCode::CardDeclined,
    };
);

payload!(
    /// The paid invoice is credited in full.
    "billing" Step CreditNoteIssued {
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
    sample = |story| Self {
        order_id: story.order.order_id,
        invoice_id: story.invoice.invoice_id,
        credit_note_id: story.id("creditNote"),
        amount: story.payment.amount,
        currency: story.order.currency.clone(),
        reason_code: ReasonCode::CustomerRequest,
    };
);

/// Who asked for a cancellation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum CancelRequester {
    /// The customer, over the API.
    Customer,
    /// The timer function `sweep`, since the order waited for too long.
    Sweep,
}

payload!(
    /// The order is to be cancelled unless it has been dispatched. May arrive before what it cancels.
    "orders" Step OrderCancelRequested {
        /// The order's id.
        order_id: OrderId,
        /// Who asked.
        requested_by: CancelRequester,
        /// Why.
        reason_code: ReasonCode,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        requested_by: CancelRequester::Customer,
        reason_code: ReasonCode::CustomerRequest,
    };
);

payload!(
    /// Result: the order is billed, paid, reserved and dispatched.
    "orders" Result OrderCompleted {
        /// The order's id.
        order_id: OrderId,
    }
    sample = |story| Self { order_id: story.order.order_id };
);

payload!(
    /// Result: the order is cancelled, and what had been done is undone.
    "orders" Result OrderCancelled {
        /// The order's id.
        order_id: OrderId,
        /// Why.
        reason_code: ReasonCode,
        /// Whether money was captured and paid back.
        refunded: bool,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        reason_code: ReasonCode::CustomerRequest,
        refunded: true,
    };
);

payload!(
    /// Result: a person must look at the order.
    "orders" Result OrderNeedsAttention {
        /// The order's id.
        order_id: OrderId,
        /// Why.
        reason_code: ReasonCode,
    }
    sample = |story| Self {
        order_id: story.order.order_id,
        reason_code: ReasonCode::RefundRefused,
    };
);
