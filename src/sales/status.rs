//! An order's status: a pure function of the set of facts that are known about it.
//!
//! Merging a fact is adding it to a set, so neither duplicates nor the order of arrival can change the result.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::events::{
    BillingCompleted, BillingRejected, CreditNoteIssued, InvoiceVoided, OrderId, OrderPlaced,
    Payload, PaymentDeclined, PaymentRefunded, PaymentSuccessful, ShipmentCancelled,
    ShipmentDispatched, ShipmentPrepared, StockReleased, StockReserved, short_name,
};

/// Something that is known to have happened to an order. Facts are never taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Fact {
    /// The customer placed it.
    Placed,
    /// It is invoiced.
    Billed,
    /// It could not be billed.
    BillingRejected,
    /// The invoice was taken back unpaid.
    InvoiceVoided,
    /// The paid invoice was credited.
    CreditNoteIssued,
    /// A payment was declined and will be tried again.
    PaymentDeclined,
    /// The payment was declined for good.
    PaymentGivenUp,
    /// The money was captured.
    Paid,
    /// The money went back.
    Refunded,
    /// The money could not be paid back.
    RefundFailed,
    /// Its stock was set aside.
    StockReserved,
    /// There was too little stock.
    StockShort,
    /// It holds no stock any more.
    StockReleased,
    /// The parcel was packed.
    ShipmentPrepared,
    /// The carrier has the parcel.
    ShipmentDispatched,
    /// The carrier refused the parcel.
    ShipmentFailed,
    /// The parcel will never leave.
    ShipmentCancelled,
    /// Somebody asked to cancel it.
    CancelRequested,
}

/// Where an order stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum Status {
    /// Placed, not billed yet.
    Placed,
    /// Invoiced, not paid yet.
    Billed,
    /// A payment was declined; another try follows.
    AwaitingPayment,
    /// Paid.
    Paid,
    /// Paid, and stock is reserved or the parcel is packed.
    Fulfilling,
    /// Dispatched; not every other fact has been reported yet.
    Shipped,
    /// Billed, paid, reserved and dispatched.
    Completed,
    /// Being undone.
    Compensating,
    /// Undone after it was paid: the money went back.
    Refunded,
    /// Undone before it was paid.
    Cancelled,
    /// A person must look at it.
    NeedsAttention,
}

impl Status {
    /// Every status.
    pub const ALL: [Self; 11] = [
        Self::Placed,
        Self::Billed,
        Self::AwaitingPayment,
        Self::Paid,
        Self::Fulfilling,
        Self::Shipped,
        Self::Completed,
        Self::Compensating,
        Self::Refunded,
        Self::Cancelled,
        Self::NeedsAttention,
    ];

    /// The status as it stands in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Placed => "placed",
            Self::Billed => "billed",
            Self::AwaitingPayment => "awaitingPayment",
            Self::Paid => "paid",
            Self::Fulfilling => "fulfilling",
            Self::Shipped => "shipped",
            Self::Completed => "completed",
            Self::Compensating => "compensating",
            Self::Refunded => "refunded",
            Self::Cancelled => "cancelled",
            Self::NeedsAttention => "needsAttention",
        }
    }

    /// Whether nothing more is to come by itself: it has a result, or a person must look at it.
    pub fn is_over(self) -> bool {
        match self {
            Self::Completed | Self::Refunded | Self::Cancelled | Self::NeedsAttention => true,
            Self::Placed
            | Self::Billed
            | Self::AwaitingPayment
            | Self::Paid
            | Self::Fulfilling
            | Self::Shipped
            | Self::Compensating => false,
        }
    }

    /// The status of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// The four legs of an order, in the words of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Legs {
    /// `none`, `completed`, `rejected`, `voided` or `credited`.
    pub billing: BillingLeg,
    /// `none`, `declined`, `successful`, `refundFailed` or `refunded`.
    pub payment: PaymentLeg,
    /// `none`, `reserved`, `short`, `released` or `committed`.
    pub stock: StockLeg,
    /// `none`, `prepared`, `dispatched`, `failed` or `cancelled`.
    pub shipping: ShippingLeg,
}

/// How far the invoice has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "named after their facts")]
pub enum BillingLeg {
    None,
    Completed,
    Rejected,
    Voided,
    Credited,
}

/// How far the money has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "named after their facts")]
pub enum PaymentLeg {
    None,
    Declined,
    Successful,
    RefundFailed,
    Refunded,
}

/// How far the stock has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "named after their facts")]
pub enum StockLeg {
    None,
    Reserved,
    Short,
    Released,
    Committed,
}

/// How far the parcel has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "named after their facts")]
pub enum ShippingLeg {
    None,
    Prepared,
    Dispatched,
    Failed,
    Cancelled,
}

/// All that is known to have happened to an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Facts(BTreeSet<Fact>);

impl Facts {
    /// Adds a fact.
    pub fn add(&mut self, fact: Fact) {
        self.0.insert(fact);
    }

    /// Whether a fact is known.
    pub fn has(&self, fact: Fact) -> bool {
        self.0.contains(&fact)
    }

    fn any(&self, facts: &[Fact]) -> bool {
        facts.iter().any(|fact| self.has(*fact))
    }

    fn all(&self, facts: &[Fact]) -> bool {
        facts.iter().all(|fact| self.has(*fact))
    }

    /// The furthest that each leg has come.
    pub fn legs(&self) -> Legs {
        Legs {
            billing: self.furthest(
                &[
                    (Fact::CreditNoteIssued, BillingLeg::Credited),
                    (Fact::InvoiceVoided, BillingLeg::Voided),
                    (Fact::BillingRejected, BillingLeg::Rejected),
                    (Fact::Billed, BillingLeg::Completed),
                ],
                BillingLeg::None,
            ),
            payment: self.furthest(
                &[
                    (Fact::Refunded, PaymentLeg::Refunded),
                    (Fact::RefundFailed, PaymentLeg::RefundFailed),
                    (Fact::Paid, PaymentLeg::Successful),
                    (Fact::PaymentGivenUp, PaymentLeg::Declined),
                    (Fact::PaymentDeclined, PaymentLeg::Declined),
                ],
                PaymentLeg::None,
            ),
            stock: self.furthest(
                &[
                    // A parcel leaves only with its reserved pieces in it.
                    (Fact::ShipmentDispatched, StockLeg::Committed),
                    (Fact::StockReleased, StockLeg::Released),
                    (Fact::StockShort, StockLeg::Short),
                    (Fact::StockReserved, StockLeg::Reserved),
                ],
                StockLeg::None,
            ),
            shipping: self.furthest(
                &[
                    (Fact::ShipmentDispatched, ShippingLeg::Dispatched),
                    (Fact::ShipmentFailed, ShippingLeg::Failed),
                    (Fact::ShipmentCancelled, ShippingLeg::Cancelled),
                    (Fact::ShipmentPrepared, ShippingLeg::Prepared),
                ],
                ShippingLeg::None,
            ),
        }
    }

    fn furthest<L: Copy>(&self, chain: &[(Fact, L)], none: L) -> L {
        chain
            .iter()
            .find(|(fact, _)| self.has(*fact))
            .map_or(none, |(_, leg)| *leg)
    }

    /// Whether facts are known that exclude each other: a fault in some service, never merged silently.
    pub fn conflict(&self) -> bool {
        const EXCLUSIVE: &[[Fact; 2]] = &[
            [Fact::Billed, Fact::BillingRejected],
            [Fact::InvoiceVoided, Fact::CreditNoteIssued],
            [Fact::PaymentGivenUp, Fact::Paid],
            [Fact::StockReserved, Fact::StockShort],
            [Fact::ShipmentDispatched, Fact::StockReleased],
            [Fact::ShipmentDispatched, Fact::StockShort],
            [Fact::ShipmentDispatched, Fact::ShipmentFailed],
            [Fact::ShipmentDispatched, Fact::ShipmentCancelled],
            [Fact::ShipmentDispatched, Fact::Refunded],
            [Fact::ShipmentFailed, Fact::ShipmentCancelled],
        ];
        EXCLUSIVE.iter().any(|pair| self.all(pair))
    }

    /// Where the order stands.
    pub fn status(&self) -> Status {
        let unpaid_back = self.has(Fact::RefundFailed) && !self.has(Fact::Refunded);
        if unpaid_back || self.conflict() {
            Status::NeedsAttention
        } else if self.has(Fact::ShipmentDispatched) {
            let complete = self.all(&[Fact::Billed, Fact::Paid, Fact::StockReserved]);
            if complete {
                Status::Completed
            } else {
                Status::Shipped
            }
        } else if self.any(&[Fact::BillingRejected, Fact::InvoiceVoided]) {
            Status::Cancelled
        } else if self.falling_through() {
            let undone = self.all(&[Fact::Refunded, Fact::CreditNoteIssued])
                && self.any(&[Fact::StockReleased, Fact::StockShort])
                && self.any(&[Fact::ShipmentCancelled, Fact::ShipmentFailed]);
            if undone {
                Status::Refunded
            } else {
                Status::Compensating
            }
        } else {
            self.progress()
        }
    }

    /// The names of the events that are still missing for the order's next step, in the words of the way that it is
    /// on: `BillingCompleted` stands for billing's word, even if that may be `BillingRejected`. Empty when nothing is
    /// to come any more, and when facts contradict each other: then a person must look.
    pub fn awaiting(&self) -> Vec<&'static str> {
        let over = matches!(
            self.status(),
            Status::Completed | Status::Cancelled | Status::Refunded
        );
        if over || self.conflict() {
            return Vec::new();
        }
        let next = if self.has(Fact::ShipmentDispatched) {
            self.missing(&[
                (&[Fact::Billed], BillingCompleted::TYPE),
                (&[Fact::Paid], PaymentSuccessful::TYPE),
                (&[Fact::StockReserved], StockReserved::TYPE),
            ])
        } else if self.falling_through() {
            self.left_to_undo()
        } else {
            self.left_to_do()
        };
        next.into_iter().map(short_name).collect()
    }

    /// The types of the events none of whose facts is known.
    fn missing(&self, wanted: &[(&[Fact], &'static str)]) -> Vec<&'static str> {
        let missing = wanted.iter().filter(|(facts, _)| !self.any(facts));
        missing.map(|(_, event_type)| *event_type).collect()
    }

    fn left_to_undo(&self) -> Vec<&'static str> {
        // What only a paid order can have come to.
        let paid = self.any(&[
            Fact::Paid,
            Fact::StockReserved,
            Fact::StockShort,
            Fact::ShipmentPrepared,
            Fact::ShipmentFailed,
            Fact::Refunded,
            Fact::RefundFailed,
            Fact::CreditNoteIssued,
        ]);
        if paid {
            return self.missing(&[
                (&[Fact::Refunded], PaymentRefunded::TYPE),
                (&[Fact::CreditNoteIssued], CreditNoteIssued::TYPE),
                (
                    &[Fact::StockReleased, Fact::StockShort],
                    StockReleased::TYPE,
                ),
                (
                    &[Fact::ShipmentCancelled, Fact::ShipmentFailed],
                    ShipmentCancelled::TYPE,
                ),
            ]);
        }
        let billed = self.any(&[Fact::Billed, Fact::PaymentDeclined]);
        let next = match (billed, self.has(Fact::PaymentGivenUp)) {
            (true, true) => InvoiceVoided::TYPE,
            (true, false) => PaymentDeclined::TYPE,
            (false, _) => BillingRejected::TYPE,
        };
        vec![next]
    }

    fn left_to_do(&self) -> Vec<&'static str> {
        match self.progress() {
            Status::Fulfilling | Status::Paid => {
                let missing = self.missing(&[
                    (&[Fact::Billed], BillingCompleted::TYPE),
                    (&[Fact::Paid], PaymentSuccessful::TYPE),
                    (&[Fact::StockReserved], StockReserved::TYPE),
                    (&[Fact::ShipmentPrepared], ShipmentPrepared::TYPE),
                ]);
                if missing.is_empty() {
                    vec![ShipmentDispatched::TYPE]
                } else {
                    missing
                }
            }
            Status::Billed | Status::AwaitingPayment => vec![PaymentSuccessful::TYPE],
            _ if self.has(Fact::Placed) => vec![BillingCompleted::TYPE],
            _ => vec![OrderPlaced::TYPE],
        }
    }

    /// Whether the sale is off, or on its way to be.
    pub(super) fn falling_through(&self) -> bool {
        self.any(&[
            Fact::CancelRequested,
            Fact::PaymentGivenUp,
            Fact::StockShort,
            Fact::StockReleased,
            Fact::ShipmentFailed,
            Fact::ShipmentCancelled,
            Fact::Refunded,
            Fact::CreditNoteIssued,
            Fact::RefundFailed,
        ])
    }

    fn progress(&self) -> Status {
        let fulfilling = self.any(&[Fact::StockReserved, Fact::ShipmentPrepared]);
        if fulfilling {
            Status::Fulfilling
        } else if self.has(Fact::Paid) {
            Status::Paid
        } else if self.has(Fact::PaymentDeclined) {
            Status::AwaitingPayment
        } else if self.has(Fact::Billed) {
            Status::Billed
        } else {
            Status::Placed
        }
    }
}

/// What lists of orders show of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "OrderSummary")]
pub struct Summary {
    /// The order's id.
    pub order_id: OrderId,
    /// Where it stands.
    pub status: Status,
    /// When it was placed, as far as is known.
    pub placed_at: DateTime<Utc>,
}
