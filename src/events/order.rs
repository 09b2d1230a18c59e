//! The order and what grows out of it: invoice and payment.

use std::fmt;

use chrono::{DateTime, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use uuid::Uuid;

use super::{Amount, CountryCode, CurrencyCode, Invalid, Quantity, Sku};

/// The most lines in one order: keeps an event far below Event Grid's 1 MB.
pub const MAX_LINES: usize = 200;

/// The most characters in a free text field such as a street.
const MAX_TEXT: usize = 200;

/// What [`text`] checks besides the length, for the JSON Schema: no control character, and not white space alone. Spelled
/// out, since regular expressions differ in what `\s` means.
const TEXT: &str = concat!(
    r"^[^\u0000-\u001F\u007F-\u009F]*",
    r"[^\u0000-\u0020\u007F-\u00A0\u1680\u2000-\u200A\u2028\u2029\u202F\u205F\u3000]",
    r"[^\u0000-\u001F\u007F-\u009F]*$"
);

/// What [`email`] checks besides the length, for the JSON Schema: something on both sides of the first `@`.
const EMAIL: &str = concat!(
    r"^[^@\u0000-\u001F\u007F-\u009F]+",
    r"@[^\u0000-\u001F\u007F-\u009F]+$"
);

/// An order's id.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(transparent)]
pub struct OrderId(pub Uuid);

impl fmt::Display for OrderId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// What a customer asks for: an [`Order`] that has no id yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NewOrder {
    /// Who buys.
    pub customer: Customer,
    /// What is bought.
    #[serde(deserialize_with = "lines")]
    #[schemars(length(min = 1, max = MAX_LINES))]
    pub lines: Vec<Line>,
    /// The currency of every amount.
    pub currency: CurrencyCode,
    /// Where to.
    pub ship_to: Address,
    /// The payment provider's token for the means of payment, such as `tok_visa`.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = MAX_TEXT), regex(pattern = TEXT))]
    pub payment_method: String,
    /// A test of a deployment: every service takes part and declines, so nothing is charged, reserved or shipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
}

impl NewOrder {
    /// The order under its id.
    pub fn with_id(self, order_id: OrderId) -> Order {
        let Self {
            customer,
            lines,
            currency,
            ship_to,
            payment_method,
            test,
        } = self;
        Order {
            order_id,
            customer,
            lines,
            currency,
            ship_to,
            payment_method,
            test,
        }
    }
}

/// A placed order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// The order's id.
    pub order_id: OrderId,
    /// Who buys.
    pub customer: Customer,
    /// What is bought.
    #[serde(deserialize_with = "lines")]
    #[schemars(length(min = 1, max = MAX_LINES))]
    pub lines: Vec<Line>,
    /// The currency of every amount.
    pub currency: CurrencyCode,
    /// Where to.
    pub ship_to: Address,
    /// The payment provider's token for the means of payment, such as `tok_visa`.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = MAX_TEXT), regex(pattern = TEXT))]
    pub payment_method: String,
    /// A test of a deployment: every service takes part and declines, so nothing is charged, reserved or shipped.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub test: bool,
}

/// Who buys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Customer {
    /// The customer's id in the seller's books.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = MAX_TEXT), regex(pattern = TEXT))]
    pub customer_id: String,
    /// Where to write to.
    #[serde(deserialize_with = "email")]
    #[schemars(length(min = 3, max = MAX_TEXT), regex(pattern = EMAIL))]
    pub email: String,
}

/// One line of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The article.
    pub sku: Sku,
    /// How many.
    pub quantity: Quantity,
    /// The price of one that the caller saw, net, in minor units.
    pub unit_amount: Amount,
}

/// A postal address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Address {
    /// The recipient.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = MAX_TEXT), regex(pattern = TEXT))]
    pub name: String,
    /// Street and number.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = MAX_TEXT), regex(pattern = TEXT))]
    pub street: String,
    /// Town.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = MAX_TEXT), regex(pattern = TEXT))]
    pub city: String,
    /// Postal code.
    #[serde(deserialize_with = "text")]
    #[schemars(length(min = 1, max = MAX_TEXT), regex(pattern = TEXT))]
    pub postal_code: String,
    /// Country.
    pub country: CountryCode,
}

/// What billing asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Invoice {
    /// The invoice's id.
    pub invoice_id: Uuid,
    /// The sum of the lines, in minor units.
    pub net_amount: Amount,
    /// The sum of each line's tax, in minor units.
    pub tax_amount: Amount,
    /// Net and tax, in minor units.
    pub total_amount: Amount,
    /// When the invoice falls due.
    pub due_by: DateTime<Utc>,
}

impl Invoice {
    pub(super) fn check(&self) -> Result<(), Invalid> {
        if self.net_amount.plus(self.tax_amount) == Some(self.total_amount) {
            return Ok(());
        }
        let (net, tax) = (self.net_amount.minor_units(), self.tax_amount.minor_units());
        Err(Invalid::new(
            "data.invoice.totalAmount",
            format!(
                "must be netAmount + taxAmount ({net} + {tax}), got {}",
                self.total_amount.minor_units()
            ),
        ))
    }
}

/// A captured payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    /// The payment's id.
    pub payment_id: Uuid,
    /// What the provider calls it.
    pub provider_reference: String,
    /// What was captured, in minor units.
    pub amount: Amount,
    /// Which try it was, counted from 1.
    pub attempt: u32,
}

fn lines<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Line>, D::Error> {
    let lines = Vec::<Line>::deserialize(deserializer)?;
    match lines.len() {
        1..=MAX_LINES => Ok(lines),
        0 => Err(D::Error::custom("must have at least 1 line")),
        count => Err(D::Error::custom(format!(
            "must have at most {MAX_LINES} lines, got {count}"
        ))),
    }
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    let length = text.chars().count();
    if text.trim().is_empty() || length > MAX_TEXT || text.chars().any(char::is_control) {
        return Err(D::Error::custom(format!(
            "must be 1 to {MAX_TEXT} characters without control characters"
        )));
    }
    Ok(text)
}

fn email<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let address = text(deserializer)?;
    match address.split_once('@') {
        Some((mailbox, domain)) if !mailbox.is_empty() && !domain.is_empty() => Ok(address),
        _ => Err(D::Error::custom(
            "must be an e-mail address, such as ada@example.com",
        )),
    }
}
