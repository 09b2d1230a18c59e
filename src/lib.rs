//! Orderflow.

pub mod publish;
