//! Orderflow.

pub mod dev;
pub mod publish;
