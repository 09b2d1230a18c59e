//! The rows of the registry fit together.

use orderflow::{
    events::{EventType, Role},
    functions::{
        FUNCTIONS, Function, Trigger,
        audit::{Misfit, audit},
    },
};

#[test]
fn what_is_published_and_what_is_taken_fit_together() {
    assert_eq!(audit(FUNCTIONS), []);
}

/// What the audit finds when `name` publishes what `change` makes of its event types.
fn misfits(name: &str, change: impl Fn(&mut Vec<EventType>)) -> Vec<Misfit> {
    let mut functions = FUNCTIONS.to_vec();
    for function in &mut functions {
        if let Function {
            trigger: Trigger::EventGrid { publishes, .. },
            ..
        } = function
            && function.name == name
        {
            let mut changed = publishes.to_vec();
            change(&mut changed);
            *publishes = changed.leak();
        }
    }
    audit(functions.leak())
}

#[test]
fn an_event_that_nobody_takes_is_found() {
    let found = misfits("billing", |publishes| {
        publishes[0].name = "Sales.PointsEarned";
    });
    assert_eq!(found[0], Misfit::Unheard("Sales.PointsEarned"));
}

#[test]
fn a_failure_that_nobody_undoes_is_found() {
    let found = misfits("shipping", |publishes| {
        for known in publishes {
            if known.name == "Sales.ShipmentPrepared" {
                known.role = Role::Failure;
            }
        }
    });
    assert_eq!(found, [Misfit::Uncompensated("Sales.ShipmentPrepared")]);
}

#[test]
fn a_subscription_to_what_nobody_publishes_is_found() {
    let found = misfits("inventory", |publishes| {
        publishes.retain(|known| known.name != "Sales.StockReserved");
    });
    let words: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "shipping: takes Sales.StockReserved, which nobody publishes",
            "orders: takes Sales.StockReserved, which nobody publishes",
        ]
    );
}

#[test]
fn an_event_in_the_wrong_row_or_in_two_is_found() {
    let billing = FUNCTIONS[0].publishes()[0];
    let found = misfits("payment", |publishes| publishes.push(billing));
    let words: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert_eq!(
        words,
        [
            "BillingCompleted: is listed as published more than once",
            "payment: publishes BillingCompleted, which is declared as another service's",
        ]
    );
}
