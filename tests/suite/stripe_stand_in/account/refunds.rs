//! Refunds of an account.

use serde_json::{Value, json};

use super::{
    Account, Booking, Done, Parameters, booking, created, invalid, metadata, missing, page,
};

impl Account {
    pub(in super::super) fn create_refund(&mut self, parameters: &Parameters) -> Done {
        let Some(id) = parameters.get("payment_intent") else {
            let message =
                "One of the following params should be provided: payment_intent or charge.";
            return Err(invalid(Some("parameter_missing"), None, message));
        };
        let position = self.position(id)?;
        let intent = self.payment_intents[position].clone();
        if intent["status"] != "succeeded" {
            let message = "This PaymentIntent does not have a successful charge to refund.";
            return Err(invalid(None, None, message));
        }
        let taken = self
            .refunds
            .iter()
            .filter(|refund| refund["payment_intent"] == **id);
        let taken = taken.filter(|refund| refund["status"] != "failed");
        let taken: i64 = taken.filter_map(|refund| refund["amount"].as_i64()).sum();
        let left = intent["amount_received"].as_i64().unwrap_or_default() - taken;
        if left == 0 {
            let message = "Charge has already been refunded.";
            return Err(invalid(Some("charge_already_refunded"), None, message));
        }
        let amount = parameters
            .get("amount")
            .map_or(left, |amount| amount.parse().unwrap());
        if amount > left {
            let message =
                format!("Refund amount ({amount}) is greater than unrefunded amount ({left})");
            return Err(invalid(Some("amount_too_large"), Some("amount"), &message));
        }
        let number = self.refunds.len() + 1;
        let pending = intent["pending_refund"] == true;
        self.refunds.push(json!({
            "id": format!("re_standIn{number:06}"),
            "object": "refund",
            "amount": amount,
            "created": created(number),
            "currency": intent["currency"],
            "metadata": metadata(parameters),
            "payment_intent": id,
            "status": if pending { "pending" } else { "succeeded" },
        }));
        self.pay_out(number - 1);
        Ok(self.refunds[number - 1].clone())
    }

    /// Books a refund that has succeeded.
    pub(super) fn pay_out(&mut self, position: usize) {
        let refund = &self.refunds[position];
        if refund["status"] == "succeeded" {
            let paid = |intent: &&Value| intent["id"] == refund["payment_intent"];
            let intent = self.payment_intents.iter().find(paid).unwrap();
            let amount = -refund["amount"].as_i64().unwrap();
            let booking = Booking {
                amount,
                ..booking(intent)
            };
            self.ledger.push(booking);
        }
    }

    pub(in super::super) fn list_refunds(&self, parameters: &Parameters) -> Value {
        let wanted = parameters.get("payment_intent");
        let of = |refund: &&Value| wanted.is_none_or(|id| refund["payment_intent"] == **id);
        let found = self.refunds.iter().rev().filter(of).cloned();
        page("list", "/v1/refunds", found.collect(), parameters)
    }

    pub(in super::super) fn retrieve_refund(&self, id: &str) -> Done {
        let found = self.refunds.iter().find(|refund| refund["id"] == id);
        found.cloned().ok_or_else(|| missing("refund", "id", id))
    }
}
