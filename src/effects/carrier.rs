//! The simulated carrier.

use uuid::Uuid;

use crate::{
    events::ReasonCode,
    sales::{Outcome, effect::Dispatch},
};

/// The postal code that the simulated carrier knows no way to.
const UNDELIVERABLE: &str = "00000";

/// Takes a parcel.
pub(super) fn dispatch(key: Uuid, dispatch: &Dispatch) -> Outcome {
    if dispatch.ship_to.postal_code == UNDELIVERABLE {
        return Outcome::DispatchRefused {
            reason_code: ReasonCode::AddressUndeliverable,
            detail: format!("postal code {UNDELIVERABLE} cannot be reached (simulated)"),
        };
    }
    let (number, _) = key.as_u64_pair();
    Outcome::Dispatched {
        tracking_id: format!("SIM{number:020}"),
    }
}
