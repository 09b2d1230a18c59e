//! Behaviour, proven through the public face: over real HTTP and real stores. One test program, so that one link
//! serves all of them.

#![expect(unreachable_pub, reason = "the modules of one program")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod api;
mod architecture;
mod artifacts;
mod bad_input;
mod canary;
mod cloud_event;
mod compatibility;
mod conformance;
mod convergence;
mod delivery;
mod dev_clock;
mod dev_dead_letters;
mod dev_expiry;
mod dev_faults;
mod dev_grid;
mod dev_host;
mod dev_page;
mod dev_secure_webhook;
mod dev_subscriptions;
mod dev_survives;
mod dev_topics;
mod dev_validation;
mod doctor;
mod infra;
mod journeys;
// Its programs for Azure are made by this machine's own compiler.
#[cfg(target_arch = "x86_64")]
mod package;
mod postgres_server;
mod processes;
mod publish;
mod reachable;
mod registry;
mod regressions;
mod saga;
mod schemas;
mod search;
mod simulation;
mod store_conformance;
mod store_postgres;
mod store_sqlite;
mod store_sqlite_redo;
mod stripe;
mod stripe_orders;
mod stripe_stand_in;
mod support;
mod wire;
