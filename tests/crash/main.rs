//! Crash tests: `cargo test --test crash -- --store sqlite|postgres [--minutes N] [--seed N] …`.
//!
//! Runs `orderflow dev` as real processes while customers place orders over HTTP, and kills the handler, everything at
//! once and the database with SIGKILL at random moments; stops the handler for longer than Event Grid waits, fills the
//! disk, and cuts connections. Then it lets everything come to rest and checks that no accepted order is lost or
//! doubled, and that money and stock add up to the unit against the payment provider's own ledger, which is kept in
//! this process and so survives.
//!
//! The plan comes from the seed; what meets what does not, since processes are real.

#![expect(unreachable_pub, reason = "the modules of one program")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod audit;
mod books;
mod chaos;
mod customers;
mod dead_letters;
mod dev;
mod disk;
mod proxy;
mod random;
mod run;

#[path = "../suite"]
#[allow(dead_code, reason = "the suite uses more of it")]
mod suite {
    pub mod postgres_server;
    pub mod stripe_stand_in;
}

use std::process::ExitCode;

use clap::Parser as _;
use suite::{postgres_server, stripe_stand_in};

/// What is asked for.
#[derive(Debug, Clone, clap::Parser)]
#[command(
    name = "crash",
    about = "Kills `orderflow dev` again and again, and checks the books"
)]
struct Options {
    /// Where orders are kept
    #[arg(long, value_enum)]
    store: Store,

    /// How long the disturbances go on
    #[arg(long, value_name = "N", default_value_t = 0.25)]
    minutes: f64,

    /// What is random is made from this [default: a new one]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,

    /// Orders per second, as long as not too many are under way
    #[arg(long, value_name = "N", default_value_t = 10.0)]
    rate: f64,

    /// At most so many orders
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    orders: u64,

    /// Seconds between two disturbances, on average
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    every: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Store {
    Sqlite,
    Postgres,
}

fn main() -> ExitCode {
    let asked_for = |argument: String| argument.starts_with("--store") || argument == "--help";
    if !std::env::args().any(asked_for) {
        // `cargo test` starts every test program, with arguments that are meant for others.
        println!(
            "not asked for; cargo test --test crash -- --store sqlite|postgres [--minutes N] runs it"
        );
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let interrupted = async {
        tokio::signal::ctrl_c().await.unwrap();
        eprintln!("crash: interrupted");
        ExitCode::from(130)
    };
    runtime.block_on(async {
        tokio::select! {
            ended = Box::pin(run::run(&options)) => ended,
            ended = interrupted => ended,
        }
    })
}
