//! The routing daemon of a node. The library holds everything but the command line, so that tests
//! can call its parts.
//!
//! - `config`: `routed.yaml`, the configuration of the daemon itself, and the store it names.
//! - `host`: the host: file descriptors, memory, cloud detection, the tunnel address.
//! - `cni`: the network configuration for container runtimes.
//! - `node_config`: derives the configuration of this node's parts from the resources, as data.
//! - `daemon`: starts the RIB, the peers and the tunnels, and applies changed configurations.
//! - `journal`: the bounded log of events, and the tasks that record them.
//! - `shared_store`: with a shared store, registers the node, claims and releases blocks.
//! - `view`: converts the state of all parts to the views of the control API.
//! - `explain`, `doctor`, `plan`: gather facts through `view` and judge them without I/O.
//! - `run`: connects all of these: start, serve, reload, stop.
//!
//! Dependencies point one way: `config` <- `node_config` <- `daemon` <- `view` <- {`explain`,
//! `doctor`, `plan`} <- `run`. The exceptions: `view::Views` implements `api::Control` and so calls
//! the methods that the last three add to it; `daemon` records events in `journal`, whose tasks
//! observe `daemon::state`; and `config` has a field of a type of `shared_store::autodetect`.

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
