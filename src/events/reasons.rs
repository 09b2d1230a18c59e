//! Why things fail: one closed list of codes for every event that reports a failure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why something was refused, undone or given up. Of several reasons for one order the first in this list stands.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ReasonCode {
    /// The order is a test of a deployment.
    TestOrder,
    /// The article is not on the price list.
    UnknownSku,
    /// A line's price differs from the price list.
    PriceDiffers,
    /// There is no price list in the order's currency.
    UnknownCurrency,
    /// There is no tax rate for the country of delivery.
    UnknownCountry,
    /// The amounts add up to more than an amount can hold.
    AmountTooLarge,
    /// The order's total is zero.
    NothingToCharge,
    /// The bank declined the payment.
    CardDeclined,
    /// The account does not cover the amount; may succeed later.
    InsufficientFunds,
    /// The card has expired.
    ExpiredCard,
    /// The provider does not know the means of payment.
    UnknownPaymentMethod,
    /// The provider does not take this amount, or this currency.
    AmountRefused,
    /// The provider could not process the payment; may succeed later.
    ProcessingError,
    /// The provider refused to pay the money back.
    RefundRefused,
    /// An article is not in stock in the wanted quantity.
    OutOfStock,
    /// The carrier cannot deliver to the address.
    AddressUndeliverable,
    /// The shipment failed.
    ShipmentFailed,
    /// The shipment was cancelled.
    ShipmentCancelled,
    /// The payment was declined for good.
    PaymentDeclined,
    /// The customer changed their mind.
    CustomerRequest,
    /// The order waited for its payment for too long.
    PaymentOverdue,
    /// The order waited for its stock or shipment for too long.
    FulfilmentOverdue,
    /// The order was cancelled, for a reason that another event tells.
    OrderCancelled,
    /// Facts that exclude each other were reported for one order.
    ConflictingFacts,
}
