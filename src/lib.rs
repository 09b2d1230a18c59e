//! Orderflow.

pub mod cloud_event;
pub mod publish;
