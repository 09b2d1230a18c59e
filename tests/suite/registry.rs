//! The event catalogue and the registry of functions fit together.

use orderflow::{
    events::{CATALOGUE, EventType, Role},
    functions::{
        FUNCTIONS,
        audit::{Misfit, audit},
    },
};

#[test]
fn catalogue_and_registry_fit_together() {
    assert_eq!(audit(CATALOGUE, FUNCTIONS), []);
}

#[test]
fn an_event_that_nobody_takes_is_found() {
    let mut catalogue = CATALOGUE.to_vec();
    let invented = EventType {
        name: "Sales.PointsEarned",
        service: "loyalty",
        role: Role::Step,
    };
    catalogue.push(invented);
    let misfits = [
        Misfit::Unheard("Sales.PointsEarned"),
        Misfit::Homeless("Sales.PointsEarned", "loyalty"),
    ];
    assert_eq!(audit(&catalogue, FUNCTIONS), misfits);
}

#[test]
fn a_failure_that_nobody_undoes_is_found() {
    let mut catalogue = CATALOGUE.to_vec();
    for known in &mut catalogue {
        if known.name == "Sales.ShipmentPrepared" {
            known.role = Role::Failure;
        }
    }
    let misfits = audit(&catalogue, FUNCTIONS);
    assert_eq!(misfits, [Misfit::Uncompensated("Sales.ShipmentPrepared")]);
}

#[test]
fn a_subscription_to_what_nobody_publishes_is_found() {
    let mut catalogue = CATALOGUE.to_vec();
    catalogue.retain(|known| known.name != "Sales.StockReserved");
    let words: Vec<_> = audit(&catalogue, FUNCTIONS)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        words,
        [
            "shipping: takes Sales.StockReserved, which nobody publishes",
            "orders: takes Sales.StockReserved, which nobody publishes",
        ]
    );
}
