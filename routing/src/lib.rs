//! RIB, decision process and export (RFC 4271 §9, RFC 4456). Opens no socket, speaks no netlink.
//!
//! [`Rib`] is a pure state: inputs in, encoded messages and changes of best routes out. `actor`
//! (feature `driver`) is the one task that owns it.

#[cfg(feature = "driver")]
pub mod actor;
pub mod attrs;
pub mod batch;
mod choose;
pub mod config;
pub mod decide;
pub mod encapsulation;
pub mod export;
mod exports;
pub mod group;
#[cfg(test)]
mod history;
pub mod import;
#[cfg(feature = "driver")]
mod inbox;
mod interner;
mod lanes;
pub mod limits;
#[cfg(feature = "driver")]
mod lines;
pub mod outbox;
pub mod ownership;
pub mod path;
mod peers;
pub mod policy;
pub mod query;
mod received;
pub mod rib;
mod roles;
#[cfg(feature = "driver")]
pub mod session;
mod several;
mod source;
mod suppressed;
mod table;
mod told;
mod view;

pub use attrs::AttrSet;
pub use batch::RouteBatch;
pub use config::RibConfig;
pub use decide::Reason;
pub use encapsulation::Encapsulation;
pub use path::{Best, BestChange, PeerSession, Source, SourceKind};
pub use policy::{ClusterPolicy, PeerPolicy};
pub use rib::Rib;
