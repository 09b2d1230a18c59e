//! Effects on the outside world: what is asked for, and what may come back.
//!
//! An effect is committed as an intent before anybody is called, carries a key that stays the same however often
//! it is tried, and has no outcome for a time-out: unknown is not failed, it is asked again under the same key.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::{
    Address, Amount, BillingCompleted, Carried, CurrencyCode, Line, OrderId, ReasonCode, event_id,
};

/// Something to be done in the outside world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Effect {
    /// Capture money.
    Charge(Charge),
    /// Pay captured money back.
    Refund(Refund),
    /// Hand a parcel to the carrier.
    Dispatch(Dispatch),
}

impl Effect {
    /// The idempotency key: a UUIDv5 of order, kind of effect and attempt.
    pub fn idempotency_key(&self) -> Uuid {
        match self {
            Self::Charge(charge) => event_id(charge.order_id, "charge", charge.attempt),
            Self::Refund(refund) => event_id(refund.order_id, "refund", refund.attempt),
            Self::Dispatch(dispatch) => event_id(dispatch.order_id, "dispatch", 1),
        }
    }
}

/// Capture money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Charge {
    /// For which order.
    pub order_id: OrderId,
    /// Which try, counted from 1.
    pub attempt: u32,
    /// How much, in minor units.
    pub amount: Amount,
    /// In which currency.
    pub currency: CurrencyCode,
    /// From which means of payment.
    pub payment_method: String,
    /// What it is for. No provider reads it: it is here for the outcome, so that the order's own row stays small.
    pub bill: Carried<BillingCompleted>,
}

/// Pay captured money back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Refund {
    /// For which order.
    pub order_id: OrderId,
    /// Which try, counted from 1.
    pub attempt: u32,
    /// What the provider calls the payment.
    pub provider_reference: String,
    /// How much, in minor units.
    pub amount: Amount,
    /// In which currency.
    pub currency: CurrencyCode,
}

/// Hand a parcel to the carrier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dispatch {
    /// For which order.
    pub order_id: OrderId,
    /// Which shipment.
    pub shipment_id: Uuid,
    /// Where to.
    pub ship_to: Address,
    /// What is in it.
    pub lines: Vec<Line>,
}

/// What became of an effect: the definite answers only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The money is captured.
    Charged {
        /// What the provider calls the payment.
        provider_reference: String,
    },
    /// The provider declined; no money moved.
    Declined {
        /// Why.
        reason_code: ReasonCode,
        /// Why, in words.
        detail: String,
    },
    /// The money is paid back.
    Refunded,
    /// The provider will not pay back.
    RefundRefused {
        /// Why, in words.
        detail: String,
    },
    /// The carrier has the parcel.
    Dispatched {
        /// What the carrier calls it.
        tracking_id: String,
    },
    /// The carrier will not take the parcel.
    DispatchRefused {
        /// Why.
        reason_code: ReasonCode,
        /// Why, in words.
        detail: String,
    },
}
