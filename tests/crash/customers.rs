//! Customers: what each of them orders, and how they insist on an answer.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use crate::{dev::Dev, random::Random};

/// How long a customer waits for an answer. The host waits longer than that for a handler that is stopped.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// So many orders are under way at most; the next one waits until one of them is over.
const MOST_UNDER_WAY: usize = 150;

/// What is to come of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Paid,
    Declined,
    ShortOfFunds,
    /// More than there ever was.
    Shortage,
    /// One of the last pieces, or too late.
    LastPieces,
    Undeliverable,
    /// Undeliverable, and the bank decides days later whether it takes the money back.
    SlowRefund,
    /// To a country without a tax rate.
    Unbilled,
}

/// What a customer is about to do.
#[derive(Debug, Clone)]
pub struct Plan {
    pub number: u64,
    pub fate: Fate,
    pub sku: &'static str,
    pub quantity: u64,
    /// So long after the order was accepted it is cancelled.
    cancels_after: Option<Duration>,
    /// Sends the order once more although it was accepted.
    repeats: bool,
    /// Does not ask again when no answer came.
    gives_up: bool,
}

/// Where a customer stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// The order's id, once it was accepted.
    pub accepted: Option<String>,
    /// No answer came, and none is waited for.
    pub gave_up: bool,
    pub asked_to_cancel: bool,
    /// A final status that was seen.
    pub over: Option<String>,
    /// What must not be.
    pub wrong: Vec<String>,
}

impl Plan {
    fn new(seed: u64, number: u64) -> Self {
        let mut random = Random::new(seed, number);
        let fate = random.one_of(&[
            (55, Fate::Paid),
            (8, Fate::Declined),
            (7, Fate::ShortOfFunds),
            (7, Fate::Shortage),
            (3, Fate::LastPieces),
            (8, Fate::Undeliverable),
            (8, Fate::SlowRefund),
            (4, Fate::Unbilled),
        ]);
        let (sku, quantity) = match fate {
            Fate::Shortage => ("LAST-1", 6),
            Fate::LastPieces => ("LAST-1", 1),
            _ => ("KB-87", 1 + random.below(3)),
        };
        let cancels = random.percent(15);
        Self {
            number,
            fate,
            sku,
            quantity,
            cancels_after: cancels.then(|| random.time(0, 1_500)),
            repeats: random.percent(5),
            gives_up: random.percent(10),
        }
    }

    /// The customer's name in the order, by which it is found again.
    pub fn customer(&self) -> String {
        format!("crash-{}", self.number)
    }

    fn unit_amount(&self) -> u64 {
        if self.sku == "LAST-1" { 500 } else { 8_990 }
    }

    /// What is charged: with German tax, rounded half up.
    pub fn amount(&self) -> i64 {
        let net = self.unit_amount() * self.quantity;
        i64::try_from(net + (net * 19 + 50) / 100).unwrap()
    }

    fn order(&self) -> Value {
        let token = match self.fate {
            Fate::Declined => "tok_chargeDeclined",
            Fate::ShortOfFunds => "tok_chargeDeclinedInsufficientFunds",
            Fate::SlowRefund => "tok_pendingRefund",
            _ => "tok_visa",
        };
        let undeliverable = matches!(self.fate, Fate::Undeliverable | Fate::SlowRefund);
        json!({
            "customer": { "customerId": self.customer(), "email": "ada@example.com" },
            "lines": [{ "sku": self.sku, "quantity": self.quantity, "unitAmount": self.unit_amount() }],
            "currency": "EUR",
            "shipTo": {
                "name": "Ada Lovelace",
                "street": "Unter den Linden 1",
                "city": "Berlin",
                "postalCode": if undeliverable { "00000" } else { "10117" },
                "country": if self.fate == Fate::Unbilled { "AQ" } else { "DE" },
            },
            "paymentMethod": token,
        })
    }

    /// The statuses that the order may end with.
    pub fn may_end(&self, cancelled: bool) -> Vec<&'static str> {
        let mut may = match self.fate {
            Fate::Paid => vec!["completed"],
            Fate::Declined | Fate::ShortOfFunds | Fate::Unbilled => return vec!["cancelled"],
            Fate::Shortage | Fate::Undeliverable => vec!["refunded"],
            Fate::LastPieces => vec!["completed", "refunded"],
            Fate::SlowRefund => vec!["refunded", "needsAttention"],
        };
        if cancelled {
            may.extend(["cancelled", "refunded"]);
        }
        may
    }
}

/// All customers so far.
pub struct Customers {
    seed: u64,
    client: reqwest::Client,
    dev: Arc<Dev>,
    all: Mutex<Vec<(Plan, Standing)>>,
}

impl Customers {
    pub fn new(seed: u64, client: reqwest::Client, dev: Arc<Dev>) -> Self {
        let all = Mutex::default();
        Self {
            seed,
            client,
            dev,
            all,
        }
    }

    pub fn all(&self) -> Vec<(Plan, Standing)> {
        self.all.lock().unwrap().clone()
    }

    /// How many orders were placed, how many of them were accepted, and how many of these are over.
    pub fn count(&self) -> (usize, usize, usize) {
        let all = self.all.lock().unwrap();
        let accepted = all.iter().filter(|(_, s)| s.accepted.is_some()).count();
        let over = all.iter().filter(|(_, s)| s.over.is_some()).count();
        (all.len(), accepted, over)
    }

    /// Places orders at this rate until it is dropped or so many are placed.
    pub async fn come(
        self: &Arc<Self>,
        every: Duration,
        most: u64,
        under_way: &Mutex<JoinSet<()>>,
    ) {
        for number in 0..most {
            sleep(every).await;
            while self.under_way() >= MOST_UNDER_WAY {
                sleep(Duration::from_millis(100)).await;
            }
            let plan = Plan::new(self.seed, number);
            let standing = Standing::default();
            let mut all = self.all.lock().unwrap();
            all.push((plan.clone(), standing));
            let customer = Arc::clone(self).shop(all.len() - 1, plan);
            under_way.lock().unwrap().spawn(customer);
        }
        std::future::pending::<()>().await;
    }

    fn under_way(&self) -> usize {
        let all = self.all.lock().unwrap();
        let over = |standing: &Standing| standing.over.is_some() || standing.gave_up;
        all.iter().filter(|(_, standing)| !over(standing)).count()
    }

    fn note(&self, index: usize, note: impl FnOnce(&mut Standing)) {
        note(&mut self.all.lock().unwrap()[index].1);
    }

    async fn shop(self: Arc<Self>, index: usize, plan: Plan) {
        let wrong = |text| self.note(index, |standing| standing.wrong.push(text));
        let id = loop {
            match self.place(&plan).await {
                Ok(Some(id)) => break id,
                Ok(None) if plan.gives_up => {
                    return self.note(index, |standing| standing.gave_up = true);
                }
                Ok(None) => sleep(Duration::from_millis(300)).await,
                Err(refused) => return wrong(refused),
            }
        };
        self.note(index, |standing| standing.accepted = Some(id.clone()));
        if let Some(wait) = plan.cancels_after {
            sleep(wait).await;
            self.note(index, |standing| standing.asked_to_cancel = true);
            loop {
                match self.post(&format!("/api/orders/{id}/cancel"), None).await {
                    Some((202 | 409, _)) => break,
                    Some((status, text)) if status < 500 => {
                        return wrong(format!("cancelling it was answered with {status}: {text}"));
                    }
                    _ => sleep(Duration::from_millis(300)).await,
                }
            }
        }
        if plan.repeats {
            loop {
                match self.place(&plan).await {
                    Ok(Some(same)) if same == id => return,
                    Ok(Some(other)) => return wrong(format!("the same key made {other}")),
                    Ok(None) => sleep(Duration::from_millis(300)).await,
                    Err(refused) => return wrong(refused),
                }
            }
        }
    }

    /// The order's id, or nothing when it is unknown whether there is one.
    async fn place(&self, plan: &Plan) -> Result<Option<String>, String> {
        match self.post("/api/orders", Some(plan)).await {
            Some((202, text)) => {
                let answer: Value = serde_json::from_str(&text).unwrap_or_default();
                let id = answer["orderId"].as_str().map(str::to_owned);
                id.map(Some).ok_or_else(|| format!("202 with {text}"))
            }
            Some((status, text)) if status < 500 => Err(format!("it was refused: {status} {text}")),
            Some(_) | None => Ok(None),
        }
    }

    async fn post(&self, path: &str, plan: Option<&Plan>) -> Option<(u16, String)> {
        let mut request = self.client.post(self.dev.host(path)).timeout(ANSWER_LIMIT);
        if let Some(plan) = plan {
            let key = format!("{}-{}", self.seed, plan.number);
            request = request
                .header("idempotency-key", key)
                .header("content-type", "application/json")
                .body(plan.order().to_string());
        }
        let answer = request.send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    }

    /// Looks at the orders that are under way, some at a time, and notes which are over.
    pub async fn look(&self, most: usize) {
        let under_way: Vec<(usize, String)> = {
            let all = self.all.lock().unwrap();
            let waiting = |(index, (_, standing)): (usize, &(Plan, Standing))| {
                let id = standing.accepted.clone()?;
                standing.over.is_none().then_some((index, id))
            };
            all.iter().enumerate().filter_map(waiting).collect()
        };
        for (index, id) in under_way.into_iter().take(most) {
            let Some(view) = self.get(&format!("/api/orders/{id}")).await else {
                continue;
            };
            let status = view["status"].as_str().unwrap_or_default();
            if ["completed", "cancelled", "refunded", "needsAttention"].contains(&status) {
                self.note(index, |standing| standing.over = Some(status.to_owned()));
            }
        }
    }

    /// The JSON at a path of the host.
    pub async fn get(&self, path: &str) -> Option<Value> {
        get(&self.client, &self.dev.host(path)).await
    }
}

/// The JSON at a URL, if that is what is answered.
pub async fn get(client: &reqwest::Client, url: &str) -> Option<Value> {
    let answer = client.get(url).timeout(ANSWER_LIMIT).send().await.ok()?;
    if answer.status() != 200 {
        return None;
    }
    serde_json::from_str(&answer.text().await.ok()?).ok()
}
