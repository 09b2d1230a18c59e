//! Shipping: prepares a paid order's parcel and dispatches it when its stock is reserved too.
//!
//! Payment and stock are reported independently and in any order, and a cancellation may come before either. One
//! row per order joins the three, so that a parcel is either dispatched or cancelled.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::events::{
    Address, Line, OrderCancelRequested, OrderId, PaymentSuccessful, ReasonCode, ShipmentCancelled,
    ShipmentDispatched, ShipmentFailed, ShipmentPrepared, StockReserved, StockShortage, event_id,
};

use super::{Context, Effect, Outcome, State, Verdict, effect::Dispatch};

/// Shipping's own state of an order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Shipping {
    /// What to send, once it is paid.
    parcel: Option<Parcel>,
    /// Whether its stock is reserved.
    reserved: bool,
    progress: Progress,
}

/// What to send, and where to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parcel {
    ship_to: Address,
    lines: Vec<Line>,
}

/// How far the parcel has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Progress {
    /// Waits for the payment.
    #[default]
    None,
    /// Packed; waits for the stock.
    Prepared,
    /// The carrier is being called: too late to cancel.
    Dispatching,
    /// The carrier has it.
    Dispatched,
    /// The carrier refused it.
    Failed,
    /// It will never leave.
    Cancelled,
}

impl State for Shipping {
    const OWNER: &'static str = "shipping";
}

/// A paid order: prepares the parcel.
pub fn prepare(
    _: &Context<'_>,
    state: Option<&Shipping>,
    paid: &PaymentSuccessful,
) -> Verdict<Shipping> {
    let mut state = state.cloned().unwrap_or_default();
    match state.progress {
        Progress::None => {}
        Progress::Cancelled => {
            return Verdict::Ignore("the order was cancelled before it was paid");
        }
        _ => return Verdict::Ignore("already prepared"),
    }
    let order = &paid.order;
    state.parcel = Some(Parcel {
        ship_to: order.ship_to.clone(),
        lines: order.lines.clone(),
    });
    state.progress = Progress::Prepared;
    let prepared = ShipmentPrepared {
        order_id: order.order_id,
        shipment_id: shipment_id(order.order_id),
    };
    dispatch_if_ready(state, order.order_id).publish(&prepared)
}

/// Reserved stock: opens the gate.
pub fn stock_reserved(
    _: &Context<'_>,
    state: Option<&Shipping>,
    reserved: &StockReserved,
) -> Verdict<Shipping> {
    let mut state = state.cloned().unwrap_or_default();
    if state.reserved {
        return Verdict::Ignore("already known to be reserved");
    }
    state.reserved = true;
    dispatch_if_ready(state, reserved.order_id)
}

/// Calls the carrier once the parcel is prepared and its stock is reserved.
fn dispatch_if_ready(mut state: Shipping, order_id: OrderId) -> Verdict<Shipping> {
    let (Progress::Prepared, true, Some(parcel)) = (state.progress, state.reserved, &state.parcel)
    else {
        return Verdict::accept(state);
    };
    let effect = Effect::Dispatch(Dispatch {
        order_id,
        shipment_id: shipment_id(order_id),
        ship_to: parcel.ship_to.clone(),
        lines: parcel.lines.clone(),
    });
    state.progress = Progress::Dispatching;
    Verdict::accept(state).perform(effect)
}

/// Takes the carrier's answer.
pub fn settle(
    _: &Context<'_>,
    state: Option<&Shipping>,
    effect: &Effect,
    outcome: &Outcome,
) -> Verdict<Shipping> {
    let (Some(mut state), Effect::Dispatch(dispatch)) = (state.cloned(), effect) else {
        return Verdict::Reject("an outcome without a shipment");
    };
    if state.progress != Progress::Dispatching {
        return Verdict::Ignore("the dispatch is settled already");
    }
    let (order_id, shipment_id) = (dispatch.order_id, dispatch.shipment_id);
    match outcome {
        Outcome::Dispatched { tracking_id } => {
            state.progress = Progress::Dispatched;
            let tracking_id = tracking_id.clone();
            Verdict::accept(state).publish(&ShipmentDispatched {
                order_id,
                shipment_id,
                tracking_id,
            })
        }
        Outcome::DispatchRefused {
            reason_code,
            detail,
        } => {
            state.progress = Progress::Failed;
            let (reason_code, detail) = (*reason_code, detail.clone());
            Verdict::accept(state).publish(&ShipmentFailed {
                order_id,
                shipment_id,
                reason_code,
                detail,
            })
        }
        _ => Verdict::Reject("an outcome that does not answer the effect"),
    }
}

/// A shortage: the parcel will never leave.
pub fn cancel_shortage(
    _: &Context<'_>,
    state: Option<&Shipping>,
    short: &StockShortage,
) -> Verdict<Shipping> {
    cancel_parcel(state, short.order_id, ReasonCode::OutOfStock)
}

/// A cancellation: the parcel stays, unless the carrier has been called.
pub fn cancel(
    _: &Context<'_>,
    state: Option<&Shipping>,
    request: &OrderCancelRequested,
) -> Verdict<Shipping> {
    cancel_parcel(state, request.order_id, request.reason_code)
}

fn cancel_parcel(
    state: Option<&Shipping>,
    order_id: OrderId,
    reason_code: ReasonCode,
) -> Verdict<Shipping> {
    let mut state = state.cloned().unwrap_or_default();
    let prepared = match state.progress {
        Progress::None => None,
        Progress::Prepared => Some(shipment_id(order_id)),
        Progress::Dispatching | Progress::Dispatched => {
            return Verdict::Ignore("too late: the carrier has been called");
        }
        Progress::Failed | Progress::Cancelled => {
            return Verdict::Ignore("the parcel will not leave anyway");
        }
    };
    state.progress = Progress::Cancelled;
    Verdict::accept(state).publish(&ShipmentCancelled {
        order_id,
        shipment_id: prepared,
        reason_code,
    })
}

fn shipment_id(order_id: OrderId) -> Uuid {
    event_id(order_id, "shipment", 1)
}
