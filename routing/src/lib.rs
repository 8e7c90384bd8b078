//! RIB, decision process and export of a BGP speaker (RFC 4271 §9, RFC 4456).
//!
//! [`Rib`] is pure state: inputs go in, encoded messages and changes of best paths come out.
//! `actor` (feature `driver`) is the task that owns it. The crate opens no socket and does not
//! access the kernel.
//!
//! Not implemented: aggregation (RFC 4271 §9.2.2.2), confederations (RFC 5065), route flap damping,
//! and families other than IPv4 and IPv6 unicast. `docs/rfcs.md` lists the RFCs.
//!
//! # Examples
//!
//! A RIB with one peer: it imports a route, advertises a local block, and reports the best paths.
//!
//! ```
//! use std::sync::Arc;
//!
//! use bgp::wire::encode::UpdateFormat;
//! use bgp::{Asn, Families, PeerId, RouterId};
//! use ipnet::IpNet;
//! use routing::outbox::Delivery;
//! use routing::{AttrSet, PeerSession, Rib, RibConfig, RouteBatch, Source};
//!
//! /// Counts octets in place of writing them to a socket.
//! struct Counter(usize);
//!
//! impl Delivery for Counter {
//!     fn deliver(&mut self, _: PeerId, chunk: bytes::Bytes) -> bool {
//!         self.0 += chunk.len();
//!         true
//!     }
//! }
//!
//! let (ours, theirs) = ([192, 168, 0, 1].into(), [192, 168, 0, 2].into());
//! let mut rib = Rib::new(RibConfig {
//!     local_as: Asn(64512),
//!     router_id: RouterId([192, 168, 0, 1].into()),
//!     cluster_id: None,
//!     local_addresses: vec![ours],
//!     multipath: 1,
//! });
//! let peer = PeerId(1);
//! let session = PeerSession {
//!     router_id: RouterId([192, 168, 0, 2].into()),
//!     address: theirs,
//!     internal: true,
//!     client: false,
//!     form: UpdateFormat::default(),
//!     families: Families::IPV4,
//!     sends_add_path: Families::NONE,
//!     restarts: false,
//!     restarting: false,
//!     long_lived: false,
//!     marks_refresh: false,
//! };
//! let mut octets = Counter(0);
//! rib.peer_up(peer, session);
//! rib.resume(peer, &mut octets);
//!
//! let (local, remote): (IpNet, IpNet) = ("10.1.1.0/26".parse()?, "10.1.2.0/26".parse()?);
//! rib.originate(Source::Local, &[(local, ours)]);
//! let mut batch = RouteBatch::default();
//! batch.push(Some(&Arc::new(AttrSet::originated(theirs))), [remote]);
//! rib.routes(peer, &batch);
//! while !rib.run(1024, &mut octets) {}
//!
//! assert!(octets.0 > 0, "the local block and End-of-RIB were sent");
//! assert_eq!(rib.peer_counts(peer).all().advertised, 1);
//! let mut changes = Vec::new();
//! rib.best_changes(16, &mut changes);
//! let best = |prefix| changes.iter().find(|change| change.prefix == prefix)?.best;
//! assert_eq!(best(remote).map(|best| best.next_hop), Some(theirs));
//! assert_eq!(best(local).map(|best| best.source), Some(Source::Local));
//! # Ok::<(), ipnet::AddrParseError>(())
//! ```

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
pub use decide::PathReason;
pub use encapsulation::TunnelEncapsulation;
pub use path::{Best, BestChange, PeerSession, Source, SourceKind};
pub use policy::{ClusterPolicy, PeerPolicy};
pub use rib::Rib;
