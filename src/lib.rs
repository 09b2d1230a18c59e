//! Orderflow.

pub mod cloud_event;
pub mod events;
pub mod functions;
pub mod publish;
pub mod sales;
pub mod store;
