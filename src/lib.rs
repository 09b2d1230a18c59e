//! Orderflow runs a sales application as Event Grid-driven functions: one binary, an Azure Functions custom handler
//! with one HTTP route per Event Grid subscription.
//!
//! Read in this order:
//! - [`events`]: what the services tell each other
//! - [`sales`]: the business, pure functions from state and event to a verdict
//! - [`functions`]: the registry, the only place where a function is declared
//! - [`engine`]: runs those functions: decode, decide, commit, publish
//! - [`store`], [`publish`], [`effects`]: the engine's ports to the outside and what stands behind them
//! - [`entra`]: tokens for them
//! - [`cloud_event`], [`handler`]: the HTTP side of `orderflow serve`
//! - [`dev`]: a local Event Grid and a stand-in for the Functions host
//! - [`simulate`]: the engine in a simulated, hostile world, and what must hold there
//! - [`package`]: stages the app for the Functions tools, and tries what was staged
//! - [`artifacts`], [`config`], [`telemetry`], [`cli`]: files, settings, logs and the command line
//!
//! Dependencies point inwards: `sales` knows only `events`; the engine knows both; the rim knows the engine.

pub mod artifacts;
mod back_off;
pub mod cli;
pub mod cloud_event;
pub mod config;
pub mod dev;
pub mod effects;
pub mod engine;
pub mod entra;
pub mod events;
pub mod functions;
pub mod handler;
mod http_client;
pub mod package;
pub mod publish;
pub mod sales;
pub mod simulate;
pub mod store;
pub mod telemetry;
