//! One Stripe account: its objects, its money, and what may be done with them.

mod cards;
mod refunds;

use serde_json::{Map, Value, json};

use super::{Answer, Parameters, error, invalid};
use cards::{Behaviour, behaviour};

/// The version of the API.
pub const VERSION: &str = "2026-10-28.endive";

/// "Supported currencies", as far as tests need them.
const CURRENCIES: &[&str] = &[
    "eur", "usd", "gbp", "jpy", "kwd", "isk", "ugx", "mga", "huf",
];

/// Money that came (positive) or went (negative).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Booking {
    pub payment_intent: String,
    /// `metadata[order_id]`.
    pub order_id: String,
    /// In the currency's Stripe unit.
    pub amount: i64,
    pub currency: String,
}

#[derive(Default)]
pub(super) struct Account {
    pub(super) payment_intents: Vec<Value>,
    pub(super) refunds: Vec<Value>,
    pub(super) ledger: Vec<Booking>,
    /// What a search sees instead of what there is.
    index: Option<Vec<Value>>,
    /// Tokens that work once and have been used.
    used: Vec<String>,
}

type Done = Result<Value, Answer>;

impl Account {
    pub(super) fn freeze_index(&mut self) {
        self.index = Some(self.payment_intents.clone());
    }

    pub(super) fn thaw_index(&mut self) {
        self.index = None;
    }

    pub(super) fn settle(&mut self, refunds: &str) {
        for position in 0..self.payment_intents.len() {
            if self.payment_intents[position]["status"] == "processing" {
                self.receive(position);
            }
        }
        for position in 0..self.refunds.len() {
            if self.refunds[position]["status"] == "pending" {
                self.refunds[position]["status"] = json!(refunds);
                if refunds == "failed" {
                    self.refunds[position]["failure_reason"] = json!("expired_or_canceled_card");
                }
                self.pay_out(position);
            }
        }
    }

    pub(super) fn create_payment_intent(
        &mut self,
        parameters: &Parameters,
        left_in: Option<&str>,
    ) -> Done {
        let amount = checked_amount(parameters)?;
        let confirm = parameters
            .get("confirm")
            .is_some_and(|confirm| confirm == "true");
        if parameters.contains_key("off_session") && !confirm {
            return Err(invalid(
                None,
                Some("off_session"),
                "off_session needs confirm=true",
            ));
        }
        let redirects = parameters
            .get("automatic_payment_methods[allow_redirects]")
            .is_none_or(|redirects| redirects != "never");
        if confirm && redirects && !parameters.contains_key("return_url") {
            let message = "This PaymentIntent is configured to accept payment methods that may redirect: provide a return_url.";
            return Err(invalid(None, None, message));
        }
        let means = self.means(parameters)?;
        let number = self.payment_intents.len() + 1;
        self.payment_intents.push(json!({
            "id": format!("pi_standIn{number:06}"),
            "object": "payment_intent",
            "amount": amount,
            "amount_received": 0,
            "cancellation_reason": null,
            "canceled_at": null,
            "capture_method": parameters.get("capture_method").map_or("automatic_async", String::as_str),
            "client_secret": format!("pi_standIn{number:06}_secret_x"),
            "created": created(number),
            "currency": parameters["currency"],
            "last_payment_error": null,
            "livemode": false,
            "metadata": metadata(parameters),
            "payment_method": null,
            "payment_method_types": ["card"],
            "status": "requires_payment_method",
        }));
        let position = number - 1;
        if let Some(status) = left_in {
            self.payment_intents[position]["status"] = json!(status);
            return Ok(self.payment_intents[position].clone());
        }
        if confirm {
            self.pay(
                position,
                means.as_deref(),
                parameters.contains_key("off_session"),
            )?;
        }
        Ok(self.payment_intents[position].clone())
    }

    /// The means of payment that a request names: a token, which a payment method is made of, or a payment method.
    fn means(&mut self, parameters: &Parameters) -> Result<Option<String>, Answer> {
        let token = parameters.get("payment_method_data[card][token]");
        let method = parameters.get("payment_method");
        if let Some(method) = method {
            if token.is_some() {
                return Err(invalid(Some("parameters_exclusive"), None, "one of them"));
            }
            let Some(name) = method.strip_prefix("pm_card_") else {
                let message = format!("No such PaymentMethod: '{method}'");
                let (code, param) = (Some("resource_missing"), Some("payment_method"));
                return Err(invalid(code, param, &message));
            };
            return Ok(Some(name.to_owned()));
        }
        let Some(token) = token else {
            return Ok(None);
        };
        if parameters
            .get("payment_method_data[type]")
            .map(String::as_str)
            != Some("card")
        {
            let param = Some("payment_method_data[type]");
            return Err(invalid(
                Some("parameter_missing"),
                param,
                "a type is needed",
            ));
        }
        // Those that Stripe.js makes have such names, and work once.
        if token.starts_with("tok_1") {
            if self.used.contains(token) {
                let message = "You cannot use a Stripe token more than once";
                return Err(invalid(Some("token_already_used"), None, message));
            }
            self.used.push(token.clone());
            return Ok(Some("visa".to_owned()));
        }
        let name = token.strip_prefix("tok_").unwrap_or_default();
        if behaviour(name).is_none() {
            let param = Some("payment_method_data[card][token]");
            let message = format!("No such token: '{token}'");
            return Err(invalid(Some("resource_missing"), param, &message));
        }
        Ok(Some(name.to_owned()))
    }

    /// Asks the bank.
    fn pay(
        &mut self,
        position: usize,
        means: Option<&str>,
        off_session: bool,
    ) -> Result<(), Answer> {
        let Some(behaviour) = means.and_then(behaviour) else {
            let message =
                "You cannot confirm this PaymentIntent because it's missing a payment method.";
            return Err(self.unexpected_state(position, message));
        };
        let (code, decline_code, message) = match behaviour {
            Behaviour::Pays { pending_refund } => {
                self.payment_intents[position]["pending_refund"] = json!(pending_refund);
                if self.payment_intents[position]["capture_method"] == "manual" {
                    self.payment_intents[position]["status"] = json!("requires_capture");
                } else {
                    self.receive(position);
                }
                return Ok(());
            }
            Behaviour::IsNotActivated => {
                let message = "Your account is not set up for this kind of card.";
                let (status, mut body) = invalid(Some("payment_method_unactivated"), None, message);
                body["error"]["payment_intent"] = self.payment_intents[position].clone();
                return Err((status, body));
            }
            Behaviour::Authenticates if !off_session => {
                self.payment_intents[position]["status"] = json!("requires_action");
                return Ok(());
            }
            Behaviour::Authenticates => (
                "authentication_required",
                "authentication_required",
                "Your card was declined. This transaction requires authentication.",
            ),
            Behaviour::Declines(code, decline_code, message) => (code, decline_code, message),
        };
        let intent = &mut self.payment_intents[position];
        intent["status"] = json!("requires_payment_method");
        intent["last_payment_error"] = json!({
            "type": "card_error",
            "code": code,
            "decline_code": decline_code,
            "message": message,
        });
        let (_, mut body) = error(402, "card_error", Some(code), None, message);
        body["error"]["decline_code"] = json!(decline_code);
        body["error"]["payment_intent"] = intent.clone();
        Err((402, body))
    }

    fn receive(&mut self, position: usize) {
        let intent = &mut self.payment_intents[position];
        intent["status"] = json!("succeeded");
        intent["amount_received"] = intent["amount"].clone();
        let booking = booking(intent);
        self.ledger.push(booking);
    }

    fn unexpected_state(&self, position: usize, message: &str) -> Answer {
        let code = Some("payment_intent_unexpected_state");
        let (status, mut body) = invalid(code, None, message);
        body["error"]["payment_intent"] = self.payment_intents[position].clone();
        (status, body)
    }

    fn position(&self, id: &str) -> Result<usize, Answer> {
        let found = self
            .payment_intents
            .iter()
            .position(|intent| intent["id"] == id);
        found.ok_or_else(|| missing("payment_intent", "intent", id))
    }

    pub(super) fn retrieve_payment_intent(&self, id: &str) -> Done {
        Ok(self.payment_intents[self.position(id)?].clone())
    }

    pub(super) fn confirm(&mut self, id: &str, parameters: &Parameters) -> Done {
        let position = self.position(id)?;
        let status = &self.payment_intents[position]["status"];
        if status != "requires_payment_method" && status != "requires_confirmation" {
            let message = format!("You cannot confirm this PaymentIntent because it is {status}.");
            return Err(self.unexpected_state(position, &message));
        }
        let means = self.means(parameters)?;
        self.pay(
            position,
            means.as_deref(),
            parameters.contains_key("off_session"),
        )?;
        Ok(self.payment_intents[position].clone())
    }

    pub(super) fn capture(&mut self, id: &str, _: &Parameters) -> Done {
        let position = self.position(id)?;
        if self.payment_intents[position]["status"] != "requires_capture" {
            let message = "This PaymentIntent could not be captured because of its status.";
            return Err(self.unexpected_state(position, message));
        }
        self.receive(position);
        Ok(self.payment_intents[position].clone())
    }

    pub(super) fn cancel(&mut self, id: &str, parameters: &Parameters) -> Done {
        let position = self.position(id)?;
        let status = self.payment_intents[position]["status"].as_str();
        if !status.is_some_and(|status| status.starts_with("requires_")) {
            let message = "You cannot cancel this PaymentIntent because of its status.";
            return Err(self.unexpected_state(position, message));
        }
        let intent = &mut self.payment_intents[position];
        intent["status"] = json!("canceled");
        intent["cancellation_reason"] = json!(parameters.get("cancellation_reason"));
        Ok(intent.clone())
    }

    pub(super) fn list_payment_intents(&self, parameters: &Parameters) -> Value {
        let all = self.payment_intents.iter().rev().cloned();
        page("list", "/v1/payment_intents", all.collect(), parameters)
    }

    /// The part of the search query language that asks for one value of metadata: `metadata['NAME']:'VALUE'`.
    pub(super) fn search_payment_intents(&self, parameters: &Parameters) -> Done {
        let query = parameters["query"].as_str();
        let parts = query
            .strip_prefix("metadata['")
            .and_then(|rest| rest.strip_suffix('\''))
            .and_then(|rest| rest.split_once("']:'"));
        let Some((name, value)) =
            parts.filter(|(name, value)| !format!("{name}{value}").contains('\''))
        else {
            return Err(invalid(
                None,
                Some("query"),
                "We were unable to parse your search query.",
            ));
        };
        let visible = self.index.as_ref().unwrap_or(&self.payment_intents);
        let found = visible.iter().rev();
        let found = found
            .filter(|intent| intent["metadata"][name] == value)
            .cloned();
        let url = "/v1/payment_intents/search";
        Ok(page("search_result", url, found.collect(), parameters))
    }
}

/// The amount of a charge, if this currency can have it.
fn checked_amount(parameters: &Parameters) -> Result<i64, Answer> {
    let currency = parameters["currency"].as_str();
    if !CURRENCIES.contains(&currency) {
        let message = format!("Invalid currency: {currency}.");
        return Err(invalid(None, Some("currency"), &message));
    }
    let amount: i64 = parameters["amount"].parse().unwrap_or(i64::MAX);
    // About half a dollar.
    let least = if currency == "isk" || currency == "mga" || currency == "ugx" {
        100
    } else {
        50
    };
    if amount < least {
        let message = "Amount must convert to at least 50 cents.";
        return Err(invalid(Some("amount_too_small"), Some("amount"), message));
    }
    if amount > 99_999_999 {
        let message = "Amount must be no more than 999,999.99";
        return Err(invalid(Some("amount_too_large"), Some("amount"), message));
    }
    let step = match currency {
        "kwd" => 10,
        "isk" | "ugx" => 100,
        _ => 1,
    };
    if amount % step != 0 {
        let message = format!("Amounts in {currency} must be multiples of {step}.");
        return Err(invalid(None, Some("amount"), &message));
    }
    Ok(amount)
}

fn booking(intent: &Value) -> Booking {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Booking {
        payment_intent: text(&intent["id"]),
        order_id: text(&intent["metadata"]["order_id"]),
        amount: intent["amount_received"].as_i64().unwrap_or_default(),
        currency: text(&intent["currency"]),
    }
}

fn metadata(parameters: &Parameters) -> Map<String, Value> {
    let entries = parameters.iter().filter_map(|(name, value)| {
        let key = name.strip_prefix("metadata[")?.strip_suffix(']')?;
        Some((key.to_owned(), json!(value)))
    });
    entries.collect()
}

/// Seconds since 1970, one later for each object.
fn created(number: usize) -> usize {
    1_790_000_000 + number
}

fn missing(kind: &str, param: &str, id: &str) -> Answer {
    let message = format!("No such {kind}: '{id}'");
    let (code, param) = (Some("resource_missing"), Some(param));
    error(404, "invalid_request_error", code, param, &message)
}

fn page(object: &str, url: &str, mut data: Vec<Value>, parameters: &Parameters) -> Value {
    let limit = parameters
        .get("limit")
        .and_then(|limit| limit.parse().ok())
        .unwrap_or(10);
    let has_more = data.len() > limit;
    data.truncate(limit);
    json!({ "object": object, "url": url, "has_more": has_more, "data": data })
}
