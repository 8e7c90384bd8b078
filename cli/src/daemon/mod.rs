//! The daemon: its own configuration and how its parts are put together.

mod arguments;
pub mod autodetect;
mod cni;
mod compose;
pub mod config;
mod datastore;
mod descriptors;
mod detection;
mod drain;
mod fabric;
mod feed;
mod join;
mod kernel_view;
mod limits;
mod memory;
mod neighbours;
mod password;
pub mod peering;
pub mod plan;
mod policy;
mod restart;
mod roster;
mod run;
mod statics;
mod tunnel_address;
mod upkeep;
mod view;
mod wait;

pub use arguments::Arguments;
pub(crate) use arguments::command;
pub use run::{Ready, RunError, check, run};
