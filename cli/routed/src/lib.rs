//! The routing daemon of a node: its configuration, its parts and how they are put together.

mod cni;
pub mod config;
mod daemon;
mod doctor;
pub mod explain;
mod host;
mod journal;
pub mod node_config;
mod plan;
mod run;
pub mod shared_store;
mod view;

pub use run::{RunError, Startup, check, run};
