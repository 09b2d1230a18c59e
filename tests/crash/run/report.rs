//! What is told at the end.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use super::{REST_LIMIT, World};
use crate::{
    Store,
    audit::{Evidence, Finding},
};

impl World {
    /// Prints what was done and what came of it; the last line counts.
    pub(super) fn report(
        &self,
        evidence: &Evidence,
        findings: &[Finding],
        rested: Option<Duration>,
    ) {
        let (placed, accepted, _) = self.customers.count();
        let (orders, kills) = (evidence.views.len(), self.chaos.kill_count());
        let row = |name: &str, what: String| println!("{name:<12} {what}");
        row(
            "orders",
            format!("{placed} placed, {accepted} accepted, {orders} in the store"),
        );
        row("statuses", statuses(evidence));
        row("kills", format!("{kills}: {}", list(&self.chaos.kills)));
        let cuts = self.chaos.cut_count();
        row(
            "others",
            format!("connections cut {cuts}, {}", list(&self.chaos.others)),
        );
        row(
            "dev",
            format!(
                "ended by itself {} times (the third error of its handler, or no room), and was started again",
                self.dev.given_up()
            ),
        );
        let printed = self.printed();
        let again = printed
            .lines()
            .filter(|line| line.contains("; tried again in "));
        let replayed = self.dead_letters.replayed();
        row(
            "deliveries",
            format!(
                "{} failed and were made again, {replayed} dead letters were delivered by hand",
                again.count()
            ),
        );
        let (bookings, balance) = (evidence.ledger.len(), self.stand_in.balance("eur"));
        row(
            "money",
            format!("{bookings} bookings, {balance} cents are left"),
        );
        row(
            "at rest",
            match rested {
                Some(time) => format!("{:.1} s after the last disturbance", time.as_secs_f64()),
                None => format!("not within {} s", REST_LIMIT.as_secs()),
            },
        );
        let mut failed = 0;
        for Finding { what, wrong } in findings {
            println!("{}: {what}", if wrong.is_empty() { "ok" } else { "FAILED" });
            for wrong in wrong {
                println!("    {wrong}");
            }
            failed += usize::from(!wrong.is_empty());
        }
        let store = match self.database {
            Some(_) => Store::Postgres,
            None => Store::Sqlite,
        };
        println!(
            "crash: {store:?}, seed {}, {:.0} s: {orders} orders, {kills} kills: {} passed, {failed} failed",
            self.seed,
            self.started.elapsed().as_secs_f64(),
            findings.len() - failed,
        );
    }
}

fn statuses(evidence: &Evidence) -> String {
    let mut counts = BTreeMap::<&str, u64>::new();
    for view in &evidence.views {
        let status = view["status"].as_str().unwrap_or("without a status");
        *counts.entry(status).or_default() += 1;
    }
    let counts = counts.into_iter();
    let counts = counts.map(|(status, count)| format!("{status} {count}"));
    counts.collect::<Vec<_>>().join(", ")
}

fn list(counts: &Mutex<BTreeMap<&'static str, u64>>) -> String {
    let counts = counts.lock().unwrap();
    let counts = counts.iter().map(|(what, count)| format!("{what} {count}"));
    counts.collect::<Vec<_>>().join(", ")
}
