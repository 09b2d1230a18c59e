//! Orderflow.

pub mod cloud_event;
pub mod engine;
pub mod events;
pub mod effects;
pub mod functions;
pub mod handler;
pub mod publish;
pub mod sales;
pub mod store;
