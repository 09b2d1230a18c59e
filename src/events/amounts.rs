//! Amounts, quantities and codes: values that exist only when they are valid.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The largest amount in minor units, 2⁵³ − 1: the Functions host reads JSON numbers as doubles, and a larger
/// integer would change on the way.
pub const MAX_AMOUNT: i64 = (1 << 53) - 1;

/// The largest quantity on one line.
pub const MAX_QUANTITY: i64 = 1_000_000;

/// Currencies whose minor unit is not a hundredth, by the number of its decimals (ISO 4217, "minor unit").
const OTHER_DECIMALS: &[(usize, &[&str])] = &[
    (
        0,
        &[
            "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI",
            "VND", "VUV", "XAF", "XOF", "XPF",
        ],
    ),
    (3, &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"]),
    (4, &["CLF", "UYW"]),
];

/// Money in minor units (cents).
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "i64")]
#[schemars(extend("minimum" = 0, "maximum" = MAX_AMOUNT))]
pub struct Amount(i64);

impl Amount {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// The amount of that many minor units; `None` outside 0 to [`MAX_AMOUNT`].
    pub fn from_minor_units(minor_units: i64) -> Option<Self> {
        (0..=MAX_AMOUNT)
            .contains(&minor_units)
            .then_some(Self(minor_units))
    }

    /// Minor units.
    pub fn minor_units(self) -> i64 {
        self.0
    }

    /// The amount for people: `153.39 EUR`, `500 JPY`, `5.120 KWD`.
    pub fn display(self, currency: &CurrencyCode) -> String {
        let other = OTHER_DECIMALS
            .iter()
            .find(|(_, currencies)| currencies.contains(&currency.as_str()));
        let decimals = other.map_or(2, |(decimals, _)| *decimals);
        // One digit at least stands before the point.
        let mut text = format!("{:0width$}", self.0, width = decimals + 1);
        if decimals > 0 {
            text.insert(text.len() - decimals, '.');
        }
        format!("{text} {currency}")
    }

    /// The sum; `None` beyond [`MAX_AMOUNT`].
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).and_then(Self::from_minor_units)
    }

    /// That many times the amount; `None` beyond [`MAX_AMOUNT`].
    pub fn times(self, quantity: Quantity) -> Option<Self> {
        self.0
            .checked_mul(i64::from(quantity.get()))
            .and_then(Self::from_minor_units)
    }
}

impl TryFrom<i64> for Amount {
    type Error = String;

    fn try_from(minor_units: i64) -> Result<Self, String> {
        Self::from_minor_units(minor_units).ok_or_else(|| {
            format!("must be between 0 and {MAX_AMOUNT} minor units, got {minor_units}")
        })
    }
}

/// How many pieces of an article.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(try_from = "i64")]
#[schemars(with = "u32", extend("minimum" = 1, "maximum" = MAX_QUANTITY))]
pub struct Quantity(u32);

impl Quantity {
    /// One piece.
    pub const ONE: Self = Self(1);

    /// The number of pieces.
    pub fn get(self) -> u32 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = String;

    fn try_from(pieces: i64) -> Result<Self, String> {
        match u32::try_from(pieces) {
            Ok(valid @ 1..) if pieces <= MAX_QUANTITY => Ok(Self(valid)),
            Ok(1..) => Err(format!("must be at most {MAX_QUANTITY}, got {pieces}")),
            _ if pieces > 0 => Err(format!("must be at most {MAX_QUANTITY}, got {pieces}")),
            _ => Err("must be at least 1".to_owned()),
        }
    }
}

/// Declares a short code as a checked string. `pattern` says to the readers of its JSON Schema what `valid` checks.
macro_rules! code {
    ($(#[$doc:meta])* $name:ident, $valid:expr, $pattern:literal, $expected:literal) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
        )]
        #[serde(try_from = "String")]
        #[schemars(extend("pattern" = $pattern))]
        pub struct $name(String);

        impl $name {
            /// The code as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err($expected.to_owned()) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

code!(
    /// An article's stock-keeping unit: 1 to 64 visible ASCII characters.
    Sku,
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()),
    "^[!-~]{1,64}$",
    "must be 1 to 64 visible ASCII characters"
);
code!(
    /// An ISO 4217 currency code, such as `EUR`.
    CurrencyCode,
    |text| text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase()),
    "^[A-Z]{3}$",
    "must be an ISO 4217 code of three capital letters, such as EUR"
);
code!(
    /// An ISO 3166-1 alpha-2 country code, such as `DE`.
    CountryCode,
    |text| text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase()),
    "^[A-Z]{2}$",
    "must be an ISO 3166-1 code of two capital letters, such as DE"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_shown_with_the_decimals_of_their_currency() {
        for (amount, currency, shown) in [
            (15_339, "EUR", "153.39 EUR"),
            (7, "EUR", "0.07 EUR"),
            (0, "EUR", "0.00 EUR"),
            (500, "JPY", "500 JPY"),
            (5_120, "KWD", "5.120 KWD"),
            (MAX_AMOUNT, "USD", "90071992547409.91 USD"),
        ] {
            let currency = CurrencyCode::try_from(currency.to_owned()).unwrap();
            let amount = Amount::from_minor_units(amount).unwrap();
            assert_eq!(amount.display(&currency), shown);
        }
    }
}
