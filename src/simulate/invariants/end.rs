//! How everything stands in the end.

use std::collections::BTreeMap;

use crate::{
    events::{CreditNoteIssued, InvoiceVoided},
    sales::status::Status,
    simulate::{
        account::{Account, Snapshot},
        world::World,
    },
};

use super::Invariant;

/// The most attempts at deliveries that an order may need, its replay included.
const MOST_DELIVERIES: u64 = 1000;

impl World {
    /// An order has nothing under way and owes nothing.
    pub(in crate::simulate) fn check_rest(&mut self, number: u64) {
        let Some(account) = self.accounts.get(number) else {
            return;
        };
        let status = account.status;
        let ended = matches!(
            status,
            None | Some(
                Status::Completed | Status::Cancelled | Status::Refunded | Status::NeedsAttention
            )
        );
        let fits = account.adds_up();
        let detail = || {
            format!(
                "{status:?}: captured {:?}, paid back {:?}, {} parcels, set aside {:?}, shipped {:?}",
                account.captures, account.refunds, account.parcels, account.held, account.shipped
            )
        };
        let detail = if ended && fits {
            String::new()
        } else {
            detail()
        };
        let deliveries = account.deliveries;
        self.check(number, Invariant::ComesToAnEnd, ended, || detail.clone());
        self.counts.most_deliveries = self.counts.most_deliveries.max(deliveries);
        let few = deliveries <= MOST_DELIVERIES;
        self.check(number, Invariant::ComesToAnEnd, few, || {
            format!("it took {deliveries} deliveries, more than {MOST_DELIVERIES}")
        });
        self.check(number, Invariant::AddsUp, fits || !ended, || detail.clone());
    }

    /// An order whose archive was replayed has nothing under way again.
    pub(in crate::simulate) fn check_replay(
        &mut self,
        number: u64,
        before: &Snapshot,
        after: &Snapshot,
    ) {
        self.check(
            number,
            Invariant::ReplayChangesNothing,
            before == after,
            || format!("before {before:?}, after {after:?}"),
        );
    }
}

impl Account {
    /// Whether money, stock, invoice and parcel fit the final status.
    fn adds_up(&self) -> bool {
        let (captures, refunds) = (self.captures.len(), self.refunds.len());
        let none = |pieces: &BTreeMap<String, u64>| pieces.values().all(|count| *count == 0);
        let stock_is_free = none(&self.held) && none(&self.shipped);
        let kept = self.parcels == 0 && stock_is_free;
        let (voided, credited) = (
            self.has_event::<InvoiceVoided>(),
            self.has_event::<CreditNoteIssued>(),
        );
        match self.status {
            None => self.events.is_empty() && captures == 0 && kept,
            Some(Status::Completed) => {
                let left = none(&self.held) && self.shipped == self.pieces();
                (captures, refunds, self.parcels) == (1, 0, 1) && left && !voided && !credited
            }
            Some(Status::Cancelled) => {
                let open = self.invoiced().is_some() && !voided;
                captures == 0 && kept && !open
            }
            Some(Status::Refunded) => (captures, refunds) == (1, 1) && kept && credited,
            Some(Status::NeedsAttention) => {
                self.refund_refused && (captures, refunds) == (1, 0) && kept && credited
            }
            Some(_) => false,
        }
    }
}
