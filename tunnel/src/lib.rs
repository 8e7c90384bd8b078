//! Tunnel exit points and the kernel state that realises them. Knows no BGP.
//!
//! The core is pure: [`resolve`] answers by which [`Exit`] a learned prefix is reached,
//! [`desired`] is the kernel state that follows from it, [`observed`] what the kernel has, and
//! [`diff`] the operations that lead from one to the other. Routes, of which there may be a million, lie in
//! [`table`] with both sides beside each other, and [`fib`] compares those that changed. The driver (feature
//! `driver`) reads and writes the kernel through netlink and keeps both in step.

pub mod desired;
pub mod diff;
pub mod fib;
pub mod firewall;
pub mod intern;
#[cfg(feature = "driver")]
pub mod latency;
pub mod ledger;
pub mod members;
pub mod mtu;
pub mod node;
pub mod observed;
pub mod probe;
pub mod reachability;
pub mod resolve;
pub mod table;

#[cfg(feature = "driver")]
pub mod activity;
#[cfg(feature = "driver")]
pub mod dataplane;
#[cfg(feature = "driver")]
pub mod dry_run;
#[cfg(feature = "driver")]
pub mod kernel;
#[cfg(feature = "driver")]
pub mod netfilter;
#[cfg(feature = "driver")]
pub mod reconcile;
#[cfg(feature = "driver")]
pub mod report;
#[cfg(feature = "driver")]
pub mod sysctl;
#[cfg(feature = "driver")]
pub mod task;
#[cfg(feature = "driver")]
mod wait;

pub use desired::VXLAN_VNI;
pub use firewall::{Firewall, TunnelsFrom};
#[cfg(feature = "driver")]
pub use netfilter::{FirewallHandle, FirewallReport};
/// The crate that reads and writes kernel state.
#[cfg(feature = "driver")]
pub use netlink;
pub use node::{
    Config, Encapsulation, Fallback, LearnedPath, LocalNode, Mode, PathKind, Pool, ProbeConfig, RemoteNode,
    RouteChange,
};
#[cfg(feature = "driver")]
pub use report::DataplaneReport;
pub use resolve::{Exit, ExitReason};
#[cfg(feature = "driver")]
pub use task::{TunnelHandle, TunnelStopped};
