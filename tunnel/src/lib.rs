//! Tunnel exit points and the kernel state that realizes them. Independent of BGP.
//!
//! The core is pure: [`resolve`] chooses the [`Exit`] of a learned prefix, [`desired`] derives
//! desired kernel state, [`observed`] is the state that the kernel has, and [`diff`] yields the
//! operations that turn one into the other. Routes, of which there may be a million, are in
//! [`table`], learned, desired and observed in one entry, and [`fib`] compares those that changed.
//! The driver (feature `driver`) reads and writes the kernel through netlink and keeps both in
//! step.
//!
//! # Example
//!
//! The exit of a prefix that BGP learned from another node, in a cluster of two nodes:
//!
//! ```
//! use std::time::Duration;
//!
//! use tunnel::{ Config, Encapsulation, Exit, ExitReason, FallbackMode, LearnedPath, LocalNode,
//! PathKind, ProbeConfig, RemoteNode, node::DEFAULT_ROUTE_METRIC, reachability::Reachability,
//! resolve::{Reach, resolve}, };
//!
//! let config = Config {
//!     local: LocalNode {
//!         name: "node-a".to_owned(),
//!         ipv4: Some("192.168.0.1/24".parse()?),
//!         ipv6: None,
//!         blocks: vec!["10.1.1.0/26".parse()?],
//!         tunnel_address: Some("10.1.1.0".parse()?),
//!         tunnel_ipv6: None,
//!         vtep_mac: None,
//!     },
//!     nodes: vec![RemoteNode {
//!         name: "node-b".to_owned(),
//!         ipv4: Some("192.168.0.2/24".parse()?),
//!         ipv6: None,
//!         blocks: vec!["10.1.2.0/26".parse()?],
//!         vtep: Some("10.1.2.0".parse()?),
//!         vtep_ipv6: None,
//!         mac: None,
//!     }],
//!     pools: Vec::new(),
//!     encapsulation: Encapsulation::Ipip,
//!     fallback: FallbackMode::Vxlan,
//!     route_protocol: 179,
//!     route_metric: DEFAULT_ROUTE_METRIC,
//!     nexthop_compat_keep: false,
//!     probing: ProbeConfig::default(),
//!     device_linger: Duration::ZERO,
//! };
//! let prefix = "10.1.2.0/26".parse()?;
//! let learned = LearnedPath { next_hop: "192.168.0.2".parse()?, kind: PathKind::Bgp };
//! let reachability = Reachability::default();
//!
//! let resolution =
//!     resolve(&config, &reachability, &prefix, &learned, &mut |_| Reach::OnLink { index: 2 });
//! assert_eq!(resolution.exit, Some(Exit::Ipip { remote: "192.168.0.2".parse()? }));
//! assert_eq!(resolution.reason, ExitReason::Always);
//!
//! // The static peer table alone leads to the fallback.
//! let fixed = LearnedPath { kind: PathKind::Static, ..learned };
//! let resolution = resolve(&config, &reachability, &prefix, &fixed, &mut |_| Reach::Unreachable);
//! assert_eq!(resolution.exit, Some(Exit::Vxlan { vtep: "10.1.2.0".parse()? }));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

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

pub use desired::VXLAN_VNI;
pub use firewall::{Firewall, TunnelsFrom};
#[cfg(feature = "driver")]
pub use netfilter::{FirewallHandle, FirewallReport};
/// The crate that reads and writes kernel state.
#[cfg(feature = "driver")]
pub use netlink;
pub use node::{
    Config, Encapsulation, FallbackMode, LearnedPath, LocalNode, PathKind, Pool, PoolMode, ProbeConfig,
    RemoteNode, RouteChange,
};
#[cfg(feature = "driver")]
pub use report::DataplaneReport;
pub use resolve::{Exit, ExitReason};
#[cfg(feature = "driver")]
pub use task::{TunnelHandle, TunnelStopped};
