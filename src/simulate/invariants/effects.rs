//! What is done outside.

use crate::simulate::world::World;

use super::Invariant;

impl World {
    /// What the provider holds of an order.
    pub(in crate::simulate) fn check_money(&mut self, number: u64) {
        let Some(account) = self.accounts.get(number) else {
            return;
        };
        let (captures, refunds) = (account.captures.clone(), account.refunds.clone());
        let invoiced = account.invoiced();
        let one = captures.len() <= 1 && captures.iter().all(|amount| Some(*amount) == invoiced);
        self.check(number, Invariant::OneCapture, one, || {
            format!("captured {captures:?}, invoiced {invoiced:?}")
        });
        let covered = refunds.is_empty() || refunds == captures;
        self.check(number, Invariant::RefundOfCapture, covered, || {
            format!("captured {captures:?}, paid back {refunds:?}")
        });
    }

    /// What the carrier has of an order.
    pub(in crate::simulate) fn check_parcel(&mut self, number: u64) {
        let Some(account) = self.accounts.get(number) else {
            return;
        };
        let (parcels, refunded) = (account.parcels, !account.refunds.is_empty());
        let holds = parcels <= 1 && !(parcels == 1 && refunded);
        self.check(number, Invariant::ShippedOrRefunded, holds, || {
            format!("{parcels} parcels, refunded {refunded}")
        });
    }
}
