//! Whether everything adds up once it is quiet again: the orders, the provider's ledger, the stock, and what is left over.

use std::collections::{BTreeMap, HashMap, HashSet};

use orderflow::sales::Catalog;
use serde_json::Value;

use crate::{
    books::Books,
    customers::{Plan, Standing},
    stripe_stand_in::{Booking, StripeStandIn},
};

/// All that is known at the end.
pub struct Evidence {
    pub customers: Vec<(Plan, Standing)>,
    /// The view of every order that there is.
    pub views: Vec<Value>,
    pub ledger: Vec<Booking>,
    /// The status of every `PaymentIntent`.
    pub payment_intents: Vec<String>,
    pub books: Books,
    /// How many deliveries are left in the grid.
    pub undelivered: Value,
    /// What is wrong with the dead letters.
    pub dead_letters: Vec<String>,
    /// The exit code of `dev` after Ctrl-C.
    pub exit: Option<i32>,
    /// What was printed about panics.
    pub panics: Vec<String>,
    /// How often `dev` ended by itself after the disturbances.
    pub gave_up_in_peace: u64,
}

impl Evidence {
    pub fn of_provider(stand_in: &StripeStandIn) -> (Vec<Booking>, Vec<String>) {
        let intents = stand_in.payment_intents();
        let status = |intent: &Value| text(&intent["status"]);
        (stand_in.ledger(), intents.iter().map(status).collect())
    }
}

/// What must hold, and where it does not.
pub struct Finding {
    pub what: &'static str,
    pub wrong: Vec<String>,
}

/// Checks everything.
pub fn audit(evidence: &Evidence) -> Vec<Finding> {
    let books = &evidence.books;
    let finding = |what, wrong| Finding { what, wrong };
    let told = evidence.customers.iter().flat_map(|(plan, standing)| {
        let wrong = standing.wrong.iter();
        wrong.map(|wrong| format!("{}: {wrong}", plan.customer()))
    });
    vec![
        finding("customers are answered as they must be", told.collect()),
        finding("no accepted order is lost, none is doubled", lost(evidence)),
        finding(
            "every order has come to the end that it may have",
            ended_otherwise(evidence),
        ),
        finding(
            "every order is charged and paid back as its status says, once each",
            charged_otherwise(evidence),
        ),
        finding(
            "the provider has charged for no other order",
            strangers(evidence),
        ),
        finding(
            "no payment can still be captured",
            unlike(&evidence.payment_intents, &["succeeded", "canceled"]),
        ),
        finding("the stock adds up to the unit", missing_pieces(evidence)),
        finding(
            "the store owes nothing, and nothing is parked",
            [
                (books.pending != 0).then(|| format!("{} deliveries are pending", books.pending)),
                (!books.parked.is_empty()).then(|| books.parked.join("; ")),
            ]
            .into_iter()
            .flatten()
            .collect(),
        ),
        finding(
            "the grid has delivered everything, or kept it as a dead letter that was replayed",
            undelivered(evidence),
        ),
        finding(
            "nothing panics, and dev runs on by itself in peace and ends with Ctrl-C",
            restless(evidence),
        ),
    ]
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn customer(view: &Value) -> String {
    text(&view["order"]["customer"]["customerId"])
}

fn unlike(found: &[String], expected: &[&str]) -> Vec<String> {
    let other = |status: &&String| !expected.contains(&status.as_str());
    found.iter().filter(other).cloned().collect()
}

/// The orders with what their customer meant to do.
fn orders(evidence: &Evidence) -> impl Iterator<Item = (&Value, &Plan, &Standing)> {
    let known: HashMap<_, _> = evidence
        .customers
        .iter()
        .map(|(plan, standing)| (plan.customer(), (plan, standing)))
        .collect();
    evidence.views.iter().filter_map(move |view| {
        let (plan, standing) = known.get(&customer(view))?;
        Some((view, *plan, *standing))
    })
}

fn lost(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    let ids: HashSet<_> = evidence
        .views
        .iter()
        .map(|view| text(&view["orderId"]))
        .collect();
    for (plan, standing) in &evidence.customers {
        match &standing.accepted {
            Some(id) if !ids.contains(id) => {
                wrong.push(format!("{id} of {} is lost", plan.customer()));
            }
            None if !standing.gave_up && standing.wrong.is_empty() => {
                wrong.push(format!("{} was never answered", plan.customer()));
            }
            _ => {}
        }
    }
    let mut of_customer: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for view in &evidence.views {
        let ids = of_customer.entry(customer(view)).or_default();
        ids.push(text(&view["orderId"]));
    }
    let known: HashSet<_> = evidence
        .customers
        .iter()
        .map(|(plan, _)| plan.customer())
        .collect();
    for (customer, ids) in of_customer {
        if ids.len() > 1 {
            wrong.push(format!("{customer} has {}", ids.join(" and ")));
        }
        if !known.contains(&customer) {
            wrong.push(format!("nobody placed {ids:?} of {customer:?}"));
        }
    }
    let listed = i64::try_from(evidence.views.len()).unwrap();
    if listed != evidence.books.orders {
        wrong.push(format!(
            "{listed} orders are listed, {} are stored",
            evidence.books.orders
        ));
    }
    wrong
}

fn ended_otherwise(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for (view, plan, standing) in orders(evidence) {
        let may_end = plan.may_end(standing.asked_to_cancel);
        if !may_end.contains(&text(&view["status"]).as_str()) {
            let problem = format!("is not {}", may_end.join(" or "));
            wrong.push(shown(evidence, view, plan, &problem));
        }
        for once in ["PaymentSuccessful", "PaymentRefunded", "ShipmentDispatched"] {
            let history = view["history"].as_array().unwrap();
            let times = history.iter().filter(|entry| entry["event"] == once);
            if times.count() > 1 {
                wrong.push(shown(
                    evidence,
                    view,
                    plan,
                    &format!("has {once} more than once"),
                ));
            }
        }
    }
    wrong
}

/// What the provider booked for an order, in order.
fn booked(evidence: &Evidence, order_id: &Value) -> Vec<i64> {
    let bookings = evidence.ledger.iter();
    let bookings = bookings.filter(|booking| *order_id == booking.order_id.as_str());
    bookings.map(|booking| booking.amount).collect()
}

fn charged_otherwise(evidence: &Evidence) -> Vec<String> {
    let mut wrong = Vec::new();
    for (view, plan, _) in orders(evidence) {
        let amount = plan.amount();
        let expected = match view["status"].as_str() {
            Some("completed" | "needsAttention") => vec![amount],
            Some("refunded") => vec![amount, -amount],
            // Undone before it was paid; any other status is told elsewhere.
            _ => vec![],
        };
        if booked(evidence, &view["orderId"]) != expected {
            let problem = format!("must have {expected:?}");
            wrong.push(shown(evidence, view, plan, &problem));
        }
    }
    wrong
}

fn strangers(evidence: &Evidence) -> Vec<String> {
    let ids: HashSet<_> = evidence
        .views
        .iter()
        .map(|view| text(&view["orderId"]))
        .collect();
    let strange =
        |booking: &&Booking| !ids.contains(&booking.order_id) || booking.currency != "eur";
    let strange = evidence.ledger.iter().filter(strange);
    strange.map(|booking| format!("{booking:?}")).collect()
}

fn missing_pieces(evidence: &Evidence) -> Vec<String> {
    let mut sold: HashMap<&str, u64> = HashMap::new();
    for (view, plan, _) in orders(evidence) {
        if view["status"] == "completed" {
            *sold.entry(plan.sku).or_default() += plan.quantity;
        }
    }
    let catalog: Value = serde_json::from_str(Catalog::DEVELOPMENT).unwrap();
    let levels = evidence.books.stock.iter();
    let mut wrong = Vec::new();
    for (sku, level) in levels.clone() {
        let opening = catalog["stock"][sku].as_u64().unwrap();
        let sold = sold.get(sku.as_str()).copied().unwrap_or_default();
        let pieces = ["onHand", "reserved", "shipped"].map(|at| level[at].as_u64().unwrap());
        let [on_hand, reserved, shipped] = pieces;
        if on_hand + shipped != opening || reserved != 0 || shipped != sold {
            wrong.push(format!("{sku}: {sold} of {opening} are sold, got {level}"));
        }
    }
    let known: HashSet<_> = levels.map(|(sku, _)| sku.as_str()).collect();
    let unknown = sold.keys().filter(|sku| !known.contains(*sku));
    wrong.extend(unknown.map(|sku| format!("{sku} is sold and has no stock")));
    wrong
}

fn undelivered(evidence: &Evidence) -> Vec<String> {
    let mut wrong = evidence.dead_letters.clone();
    if evidence.undelivered != 0 {
        wrong.push(format!("{} deliveries are not over", evidence.undelivered));
    }
    wrong
}

fn restless(evidence: &Evidence) -> Vec<String> {
    let mut wrong = evidence.panics.clone();
    if evidence.exit != Some(0) {
        wrong.push(format!("it ended with {:?}", evidence.exit));
    }
    if evidence.gave_up_in_peace != 0 {
        wrong.push(format!(
            "it ended {} times by itself",
            evidence.gave_up_in_peace
        ));
    }
    wrong
}

/// An order with all that is known of it.
fn shown(evidence: &Evidence, view: &Value, plan: &Plan, problem: &str) -> String {
    let entries = view["history"].as_array().into_iter().flatten();
    let history: Vec<_> = entries.map(|entry| text(&entry["event"])).collect();
    format!(
        "{} of {} ({:?}) {problem}: it is {}, the ledger has {:?}, awaiting {}, history {}",
        text(&view["orderId"]),
        plan.customer(),
        plan.fate,
        view["status"],
        booked(evidence, &view["orderId"]),
        view["awaiting"],
        history.join(" ")
    )
}
