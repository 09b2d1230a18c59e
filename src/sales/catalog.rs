//! The seller's tables and terms: prices, tax rates, opening stock, and how long things may take.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::events::{Amount, CountryCode, CurrencyCode, Invalid, Line, ReasonCode, Sku};

/// A tax rate of 100 %, in basis points (hundredths of a percent).
const WHOLE: i128 = 10_000;

/// Prices, tax rates, opening stock and terms, read from a JSON file once at start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Catalog {
    /// The price list: net unit price in minor units, by currency and article.
    pub prices: BTreeMap<CurrencyCode, BTreeMap<Sku, Amount>>,
    /// How many of each article are on hand before the first order.
    pub stock: BTreeMap<Sku, u64>,
    /// The tax rate by country of delivery, in basis points (1900 is 19 %).
    pub tax_rates: BTreeMap<CountryCode, u16>,
    /// In how many days an invoice falls due.
    pub payment_due_days: u16,
    /// How often, at most, a payment is tried that may succeed later.
    pub payment_attempts: u16,
    /// How many minutes after a declined payment the next try follows.
    pub payment_retry_minutes: u16,
    /// For how many hours an order may wait for its payment before it is cancelled.
    pub payment_timeout_hours: u16,
    /// For how many hours stock stays set aside. A paid order that has not been dispatched by then is cancelled.
    pub reservation_hours: u16,
    /// After how many hours without any event an order that is under way counts as stuck.
    pub stuck_hours: u16,
}

impl Catalog {
    /// The catalog that a development store starts with.
    pub const DEVELOPMENT: &'static str = include_str!("catalog.json");

    /// Reads a catalog from JSON.
    ///
    /// # Errors
    /// The path and the problem of the first field that does not fit.
    pub fn from_json(json: &str) -> Result<Self, Invalid> {
        let json: &RawValue = serde_json::from_str(json)
            .map_err(|error| Invalid::new("catalog", error.to_string()))?;
        Invalid::read("", json.get())
    }

    /// Compares a line's price, in that currency, with the price list.
    ///
    /// # Errors
    /// Which member of the line differs, the code for it, and what it should be.
    pub fn check_price(&self, currency: &CurrencyCode, line: &Line) -> Result<(), PriceError> {
        let Some(prices) = self.prices.get(currency) else {
            let known = join(self.prices.keys().map(CurrencyCode::as_str));
            let problem = format!("no price list in {currency}; there is one in {known}");
            return Err(PriceError {
                code: ReasonCode::UnknownCurrency,
                field: PriceField::Currency,
                problem,
            });
        };
        let Some(listed) = prices.get(&line.sku) else {
            let problem = format!("{} is not on the price list", line.sku);
            return Err(PriceError {
                code: ReasonCode::UnknownSku,
                field: PriceField::Sku,
                problem,
            });
        };
        if *listed != line.unit_amount {
            let (listed, seen) = (listed.minor_units(), line.unit_amount.minor_units());
            let problem = format!("the price of {} is {listed}, got {seen}", line.sku);
            return Err(PriceError {
                code: ReasonCode::PriceDiffers,
                field: PriceField::UnitAmount,
                problem,
            });
        }
        Ok(())
    }

    /// The tax on a net amount delivered to a country, rounded half up to a minor unit; `None` when the country
    /// has no rate.
    pub fn tax(&self, country: &CountryCode, net: Amount) -> Option<Amount> {
        let rate = i128::from(*self.tax_rates.get(country)?);
        let rounded = (i128::from(net.minor_units()) * rate + WHOLE / 2) / WHOLE;
        i64::try_from(rounded)
            .ok()
            .and_then(Amount::from_minor_units)
    }
}

/// A line whose price cannot stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PriceError {
    /// The code for it.
    pub code: ReasonCode,
    /// What to change.
    pub field: PriceField,
    /// What is wrong, in words.
    pub problem: String,
}

/// The part of an order that a price problem lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PriceField {
    /// The order's currency.
    Currency,
    /// The line's article.
    Sku,
    /// The line's price.
    UnitAmount,
}

impl PriceField {
    /// Where the field stands in an order, for the line at `index`.
    pub fn path(self, index: usize) -> String {
        match self {
            Self::Currency => "currency".to_owned(),
            Self::Sku => format!("lines[{index}].sku"),
            Self::UnitAmount => format!("lines[{index}].unitAmount"),
        }
    }
}

fn join<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
