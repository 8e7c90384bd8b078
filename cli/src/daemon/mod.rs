//! The daemon: its own configuration and how its parts are put together.

mod compose;
pub mod config;
mod feed;
mod kernel_view;
mod memory;
mod password;
pub mod peering;
pub mod plan;
mod roster;
mod run;
mod statics;
mod tunnel_address;
mod view;

pub use run::{Ready, RunError, check, run};
