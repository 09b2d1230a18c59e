//! Orderflow.

pub mod events;
pub mod functions;
pub mod publish;
pub mod sales;
pub mod store;
