//! Inventory: sets stock aside for a paid order, all lines or none, and puts it back when the sale falls through.
//!
//! Stock lives per article, in rows that all orders share. They change only together with the order's own row, in
//! one transaction, so that a piece is on hand, reserved or shipped, and never two of these.

use std::collections::BTreeMap;

use chrono::Duration;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::{
    Invalid, Line, MAX_QUANTITY, OrderCancelRequested, OrderId, PaymentSuccessful, Quantity,
    ReasonCode, ShipmentCancelled, ShipmentDispatched, ShipmentFailed, ShortLine, Sku,
    StockReleased, StockReserved, StockShortage, event_id,
};

use super::{Context, State, Verdict, verdict::SharedRows};

/// Inventory's own state of an order, and the stock levels of the articles that a decision touches.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    reservation: Reservation,
    #[serde(skip)]
    levels: BTreeMap<Sku, Level>,
}

/// What the order holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Reservation {
    /// Nothing yet.
    #[default]
    None,
    /// These pieces are set aside.
    Reserved(Vec<Line>),
    /// There was too little; it holds nothing.
    Short,
    /// It holds nothing and never will.
    Released,
    /// The pieces have left with the parcel.
    Committed,
}

/// Where the pieces of an article are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Level {
    /// Free to be reserved.
    pub on_hand: u64,
    /// Set aside for orders.
    pub reserved: u64,
    /// Gone with parcels.
    pub shipped: u64,
}

impl State for Inventory {
    const OWNER: &'static str = "inventory";

    fn attach(own: Option<Self>, shared: &SharedRows) -> Result<Option<Self>, Invalid> {
        let mut state = own.unwrap_or_default();
        for (key, row) in shared {
            let unreadable = |problem: String| Invalid::new(format!("stored row {key}"), problem);
            let sku = Sku::try_from(key.clone()).map_err(unreadable)?;
            let level =
                serde_json::from_slice(row).map_err(|error| unreadable(error.to_string()))?;
            state.levels.insert(sku, level);
        }
        Ok(Some(state))
    }

    fn shared_rows(&self) -> SharedRows {
        let row = |level| serde_json::to_vec(level).unwrap_or_default();
        self.levels
            .iter()
            .map(|(sku, level)| (sku.to_string(), row(level)))
            .collect()
    }
}

/// The stock rows that reserving needs: the order's articles.
pub fn ordered(_: Option<&Inventory>, paid: &PaymentSuccessful) -> Vec<String> {
    keys(&paid.order.lines)
}

/// The stock rows that ending a reservation needs: the reserved articles.
pub fn held<E>(state: Option<&Inventory>, _: &E) -> Vec<String> {
    match state.map(|state| &state.reservation) {
        Some(Reservation::Reserved(lines)) => keys(lines),
        _ => Vec::new(),
    }
}

fn keys(lines: &[Line]) -> Vec<String> {
    pieces(lines)
        .into_keys()
        .map(|sku| sku.to_string())
        .collect()
}

/// How many pieces of each article, in the order of the articles.
fn pieces(lines: &[Line]) -> BTreeMap<Sku, u64> {
    let mut pieces = BTreeMap::new();
    for line in lines {
        *pieces.entry(line.sku.clone()).or_default() += u64::from(line.quantity.get());
    }
    pieces
}

/// Sets the stock of a paid order aside, or reports what is short.
pub fn reserve(
    context: &Context<'_>,
    state: Option<&Inventory>,
    paid: &PaymentSuccessful,
) -> Verdict<Inventory> {
    let mut state = state.cloned().unwrap_or_default();
    let order = &paid.order;
    match state.reservation {
        Reservation::None => {}
        Reservation::Released => {
            return Verdict::Ignore("the order was cancelled before it was paid");
        }
        _ => return Verdict::Ignore("already decided"),
    }
    let mut short_lines = Vec::new();
    for (sku, wanted) in pieces(&order.lines) {
        let opening = context.catalog.stock.get(&sku).copied().unwrap_or(0);
        let level = state.levels.entry(sku.clone()).or_insert(Level {
            on_hand: opening,
            reserved: 0,
            shipped: 0,
        });
        if level.on_hand < wanted {
            short_lines.push(short_line(sku, wanted, level.on_hand));
        } else {
            level.on_hand -= wanted;
            level.reserved += wanted;
        }
    }
    let order_id = order.order_id;
    if !short_lines.is_empty() {
        let state = Inventory {
            reservation: Reservation::Short,
            levels: BTreeMap::new(),
        };
        let shortage = StockShortage {
            order_id,
            reason_code: ReasonCode::OutOfStock,
            short_lines,
        };
        return Verdict::accept(state).publish(&shortage);
    }
    state.reservation = Reservation::Reserved(order.lines.clone());
    Verdict::accept(state).publish(&StockReserved {
        order_id,
        reservation_id: reservation_id(order_id),
        lines: order.lines.clone(),
        expires_at: context.time + Duration::hours(i64::from(context.catalog.reservation_hours)),
    })
}

fn short_line(sku: Sku, wanted: u64, available: u64) -> ShortLine {
    // Several lines of one article may add up to more than one line can hold.
    let most = i64::try_from(wanted)
        .unwrap_or(MAX_QUANTITY)
        .min(MAX_QUANTITY);
    let wanted = Quantity::try_from(most).unwrap_or(Quantity::ONE);
    ShortLine {
        sku,
        wanted,
        available,
    }
}

/// The parcel has left: the reserved pieces are gone.
pub fn commit(
    _: &Context<'_>,
    state: Option<&Inventory>,
    _: &ShipmentDispatched,
) -> Verdict<Inventory> {
    let mut state = state.cloned().unwrap_or_default();
    let Reservation::Reserved(lines) = std::mem::take(&mut state.reservation) else {
        return Verdict::Ignore("nothing is reserved");
    };
    for (sku, count) in pieces(&lines) {
        if let Some(level) = state.levels.get_mut(&sku) {
            level.reserved = level.reserved.saturating_sub(count);
            level.shipped += count;
        }
    }
    state.reservation = Reservation::Committed;
    Verdict::accept(state)
}

/// A failed shipment: the pieces go back.
pub fn release_failed(
    _: &Context<'_>,
    state: Option<&Inventory>,
    failed: &ShipmentFailed,
) -> Verdict<Inventory> {
    release(state, failed.order_id, ReasonCode::ShipmentFailed)
}

/// A cancelled shipment: the pieces go back.
pub fn release_cancelled(
    _: &Context<'_>,
    state: Option<&Inventory>,
    cancelled: &ShipmentCancelled,
) -> Verdict<Inventory> {
    release(state, cancelled.order_id, cancelled.reason_code)
}

/// A cancellation: an order that holds nothing never will. What it holds waits for shipping's word.
pub fn cancel(
    _: &Context<'_>,
    state: Option<&Inventory>,
    request: &OrderCancelRequested,
) -> Verdict<Inventory> {
    match state.map(|state| &state.reservation) {
        Some(Reservation::Reserved(_)) => {
            Verdict::Ignore("the reservation waits for what becomes of the shipment")
        }
        _ => release(state, request.order_id, request.reason_code),
    }
}

fn release(
    state: Option<&Inventory>,
    order_id: OrderId,
    reason_code: ReasonCode,
) -> Verdict<Inventory> {
    let mut state = state.cloned().unwrap_or_default();
    let reservation_id = match std::mem::take(&mut state.reservation) {
        Reservation::None => None,
        Reservation::Reserved(lines) => {
            for (sku, count) in pieces(&lines) {
                if let Some(level) = state.levels.get_mut(&sku) {
                    level.reserved = level.reserved.saturating_sub(count);
                    level.on_hand += count;
                }
            }
            Some(reservation_id(order_id))
        }
        Reservation::Short | Reservation::Released | Reservation::Committed => {
            return Verdict::Ignore("nothing is reserved");
        }
    };
    state.reservation = Reservation::Released;
    Verdict::accept(state).publish(&StockReleased {
        order_id,
        reservation_id,
        reason_code,
    })
}

fn reservation_id(order_id: OrderId) -> Uuid {
    event_id(order_id, "reservation", 1)
}
