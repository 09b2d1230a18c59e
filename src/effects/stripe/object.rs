//! What Stripe answers with: of each object the fields that are decided on, by their names in the API reference.

use std::collections::HashMap;

use serde::Deserialize;

/// Under this name an object's metadata holds the idempotency key of the effect that it was made for.
pub(super) const KEY: &str = "idempotency_key";

/// "The `PaymentIntent` object".
#[derive(Debug, Deserialize)]
pub(super) struct PaymentIntent {
    pub(super) id: Id,
    pub(super) status: String,
    /// In Stripe's unit.
    #[serde(default)]
    pub(super) amount_received: i64,
    /// In lower case.
    pub(super) currency: String,
    #[serde(default)]
    pub(super) metadata: HashMap<String, String>,
    pub(super) last_payment_error: Option<ApiError>,
}

/// "The Refund object".
#[derive(Debug, Deserialize)]
pub(super) struct Refund {
    pub(super) id: Id,
    pub(super) status: Option<String>,
    /// In Stripe's unit.
    pub(super) amount: i64,
    /// In lower case.
    pub(super) currency: String,
    #[serde(default)]
    pub(super) metadata: HashMap<String, String>,
    pub(super) failure_reason: Option<String>,
}

/// "Pagination": the first page of a list, or of a search.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub(super) data: Vec<T>,
    pub(super) has_more: bool,
}

/// "Errors": the body of an answer that is not 2xx.
#[derive(Debug, Deserialize)]
pub(super) struct ErrorBody {
    pub(super) error: ApiError,
}

/// "Errors".
#[derive(Debug, Default, Deserialize)]
pub(super) struct ApiError {
    #[serde(rename = "type", default)]
    pub(super) kind: String,
    pub(super) code: Option<String>,
    pub(super) decline_code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) param: Option<String>,
    pub(super) payment_intent: Option<Box<PaymentIntent>>,
}

/// An object's id, which becomes part of a path: letters, digits and underscores.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Id(String);

impl Id {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Id {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if (1..=255).contains(&text.len()) && text.bytes().all(valid) {
            Ok(Self(text))
        } else {
            Err("expected an id of letters, digits and underscores".to_owned())
        }
    }
}

impl ApiError {
    /// The code, the decline code and the message in one line.
    pub(super) fn text(&self) -> String {
        let parts = [&self.code, &self.decline_code, &self.message];
        let parts: Vec<&str> = parts.iter().filter_map(|part| part.as_deref()).collect();
        parts.join(": ")
    }

    pub(super) fn code(&self) -> &str {
        self.code.as_deref().unwrap_or_default()
    }

    pub(super) fn decline_code(&self) -> &str {
        self.decline_code.as_deref().unwrap_or_default()
    }

    pub(super) fn param(&self) -> &str {
        self.param.as_deref().unwrap_or_default()
    }
}
