//! The simulated customers: what they order, and when they repeat or cancel it.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::{
    events::{
        Address, Amount, CancelRequester, Customer, Line, Order, OrderId, OrderPlaced, Quantity,
        ReasonCode,
    },
    functions::rule::{Case, given},
    sales::{
        Catalog,
        orders::{self, CancelRequest},
    },
};

use super::{
    account::Account,
    agenda::{DAY, MILLISECOND, MINUTE, Micros, SECOND},
    random::Random,
    world::{Next, World},
};

/// How many orders come at about the same time, so that they compete.
const BURST: u64 = 8;

/// The time from one burst to the next: long enough for the orders under way, some of them for days, to stay few, since
/// what is under way should fit into a processor's cache.
const BETWEEN_BURSTS: Micros = 16 * MINUTE;

/// How many orders share an article of which there is too little.
const SHARERS: u64 = 32;

/// How many such articles there are.
const SCARCE_ARTICLES: u64 = 512;

/// How many pieces there are of each: about half of what its sharers want.
const SCARCE_PIECES: u64 = 8;

/// How many pieces there are of an article that never runs out.
const PLENTY: u64 = 1 << 40;

/// The postal code that the simulated carrier knows no way to.
pub(super) const UNDELIVERABLE: &str = "00000";

const EMAIL: &str = "ada@example.com";
const NAME: &str = "Ada Lovelace";
const STREET: &str = "Unter den Linden 1";

/// What every means of payment begins with.
const PAYMENT_METHOD: &str = "tok_";

/// What no log and no answer may tell: it belongs to the customer.
pub(super) const CONFIDENTIAL: [&str; 4] = [EMAIL, NAME, STREET, PAYMENT_METHOD];

/// How often a customer asks again who got no answer.
const MOST_TRIES: u32 = 20;

/// What a customer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    /// To place the order, or to cancel it.
    pub(super) kind: WishKind,
    /// How often it was asked for before.
    pub(super) tries: u32,
}

/// To place the order, or to cancel it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WishKind {
    Place,
    Cancel,
}

impl WishKind {
    /// The function that takes it.
    pub(super) fn function(self) -> &'static str {
        match self {
            Self::Place => "place-order",
            Self::Cancel => "cancel-order",
        }
    }

    /// The request.
    pub(super) fn case(self, order: &Order) -> Box<dyn Case> {
        let order_id = order.order_id;
        match self {
            Self::Place => {
                let placed = OrderPlaced {
                    order: order.clone(),
                };
                given(order_id, placed, orders::place)
            }
            Self::Cancel => {
                let request = CancelRequest {
                    order_id,
                    requested_by: CancelRequester::Customer,
                    reason_code: ReasonCode::CustomerRequest,
                };
                given(order_id, request, orders::cancel)
            }
        }
    }
}

/// The number of an order: the lower half of its id.
pub(super) fn number(order: OrderId) -> u64 {
    let (_, number) = order.0.as_u64_pair();
    number
}

/// Prices, and stock that runs out on purpose.
pub(super) fn catalog() -> Catalog {
    let scarce = (0..SCARCE_ARTICLES).map(|article| (scarce_article(article), SCARCE_PIECES));
    let articles = [
        ("PLENTY-1".to_owned(), PLENTY),
        ("PLENTY-2".to_owned(), PLENTY),
    ];
    let articles: Vec<_> = articles.into_iter().chain(scarce).collect();
    let skus = articles
        .iter()
        .filter_map(|(sku, _)| sku.clone().try_into().ok());
    let stock = articles
        .iter()
        .filter_map(|(sku, pieces)| Some((sku.clone().try_into().ok()?, *pieces)));
    let price = price();
    let prices: BTreeMap<_, _> = skus.map(|sku| (sku, price)).collect();
    Catalog {
        prices: "EUR"
            .to_owned()
            .try_into()
            .into_iter()
            .map(|euro| (euro, prices.clone()))
            .collect(),
        stock: stock.collect(),
        tax_rates: "DE"
            .to_owned()
            .try_into()
            .into_iter()
            .map(|country| (country, 1900))
            .collect(),
        payment_due_days: 14,
        payment_attempts: 3,
        payment_retry_minutes: 1,
        payment_timeout_hours: 48,
        reservation_hours: 24,
        stuck_hours: 4,
    }
}

fn scarce_article(article: u64) -> String {
    format!("SCARCE-{article}")
}

fn price() -> Amount {
    Amount::from_minor_units(1050).unwrap_or(Amount::ZERO)
}

impl World {
    /// An order enters the world: what its customer wants, and when. The next order follows.
    pub(super) fn enter(&mut self, number: u64) {
        let last = self.scenario.first + self.scenario.orders.saturating_sub(1);
        if number < last {
            self.agenda.at(
                (number + 1) / BURST * BETWEEN_BURSTS,
                Next::Enter(number + 1),
            );
        }
        let mut random = Random::new(self.scenario.seed, number);
        let Some(order) = order(number, &mut random) else {
            return;
        };
        let now = self.agenda.now();
        let account = Account::new(order, now, random.clone());
        self.accounts.insert(number, account);
        self.counts.orders += 1;
        let placed = random.below(2 * SECOND);
        self.wish(number, WishKind::Place, placed);
        if random.percent(20) {
            self.wish(
                number,
                WishKind::Place,
                placed + random.spread(MILLISECOND, DAY),
            );
        }
        for likelihood in [30, 5] {
            if random.percent(likelihood) {
                self.wish(
                    number,
                    WishKind::Cancel,
                    placed + random.spread(MILLISECOND, 2 * DAY),
                );
            }
        }
        if let Some(account) = self.accounts.get_mut(number) {
            account.random = random;
        }
    }

    fn wish(&mut self, number: u64, kind: WishKind, delay: Micros) {
        self.begin(number);
        self.agenda
            .after(delay, Next::Ask(number, Wish { kind, tries: 0 }));
    }

    /// A customer got no answer: most ask again.
    pub(super) fn unanswered(&mut self, number: u64, wish: Wish) {
        if wish.tries >= MOST_TRIES {
            return;
        }
        let delay = self.random(Some(number)).spread(SECOND, MINUTE);
        self.begin(number);
        let again = Wish {
            tries: wish.tries + 1,
            ..wish
        };
        self.agenda.after(delay, Next::Ask(number, again));
    }
}

/// What a customer orders: now and then what cannot be billed, paid, delivered or refunded.
fn order(number: u64, random: &mut Random) -> Option<Order> {
    let id = Uuid::from_u64_pair(random.next(), number);
    let payment_method = match random.below(100) {
        0..76 => "tok_visa",
        76..86 => "tok_refundFail",
        86..92 => "tok_chargeDeclined",
        _ => "tok_chargeDeclinedInsufficientFunds",
    };
    let postal_code = if random.percent(10) {
        UNDELIVERABLE
    } else {
        "10117"
    };
    let country = if random.percent(5) { "XX" } else { "DE" };
    let mut skus = vec!["PLENTY-1".to_owned()];
    if random.percent(30) {
        skus.push(scarce_article(number / SHARERS % SCARCE_ARTICLES));
    }
    if random.percent(30) {
        skus.push("PLENTY-2".to_owned());
    }
    let lines = skus.into_iter().map(|sku| {
        Some(Line {
            sku: sku.try_into().ok()?,
            quantity: quantity(random)?,
            unit_amount: price(),
        })
    });
    Some(Order {
        order_id: OrderId(id),
        customer: Customer {
            customer_id: format!("c-{number}"),
            email: EMAIL.to_owned(),
        },
        lines: lines.collect::<Option<_>>()?,
        currency: "EUR".to_owned().try_into().ok()?,
        ship_to: Address {
            name: NAME.to_owned(),
            street: STREET.to_owned(),
            city: "Berlin".to_owned(),
            postal_code: postal_code.to_owned(),
            country: country.to_owned().try_into().ok()?,
        },
        payment_method: payment_method.to_owned(),
        test: false,
    })
}

fn quantity(random: &mut Random) -> Option<Quantity> {
    i64::try_from(random.between(1, 4)).ok()?.try_into().ok()
}
