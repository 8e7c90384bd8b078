//! RIB, decision process and export (RFC 4271 §9, RFC 4456). Opens no socket, speaks no netlink.
//!
//! [`Rib`] is a pure state: inputs in, encoded messages and changes of best routes out. `actor`
//! (feature `driver`) is the one task that owns it.

#[cfg(feature = "driver")]
pub mod actor;
mod add_path;
mod adj_rib_in;
mod adj_rib_out;
pub mod attrs;
pub mod batch;
#[cfg(feature = "driver")]
mod channels;
#[cfg(feature = "driver")]
mod command;
#[cfg(feature = "driver")]
mod command_queue;
mod community;
pub mod config;
pub mod decide;
pub mod encapsulation;
pub mod export;
mod export_policies;
mod export_view;
pub mod group;
mod group_key;
pub mod import;
mod interner;
pub mod limits;
mod multipath;
pub mod outbox;
pub mod ownership;
pub mod path;
mod peers;
pub mod policy;
pub mod query;
#[cfg(test)]
mod random_histories;
mod rewrite;
pub mod rib;
mod roles;
#[cfg(feature = "driver")]
pub mod session;
mod source;
mod static_routes;
mod table;

pub use attrs::AttrSet;
pub use batch::RouteBatch;
pub use config::RibConfig;
pub use decide::Reason;
pub use encapsulation::TunnelEncapsulation;
pub use path::{Best, BestChange, PeerSession, Source, SourceKind};
pub use policy::{ClusterPolicy, PeerPolicy};
pub use rib::Rib;
