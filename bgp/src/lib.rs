//! The BGP-4 protocol (RFC 4271): wire format, session state machine, BFD and the TCP driver.
//!
//! * [`wire`] decodes without copying, and encodes into buffers that are reused.
//! * [`session`] is the state machine, without sockets and without a clock: [`session::Peer`] takes
//!   events and messages, and returns actions and its next deadline.
//! * [`bfd`] is Bidirectional Forwarding Detection (RFC 5880), in the same style.
//! * `net` (feature `driver`) connects these to TCP and UDP.
//!
//! The crate has no RIB and does not access the kernel's routing tables. Confederations (RFC 5065)
//! and families other than IPv4 and IPv6 unicast are not implemented; see `docs/rfcs.md`.
//!
//! # Examples
//!
//! Two peers reach Established on a virtual clock. The "network" delivers a message at once:
//!
//! ```
//! use std::time::{Duration, Instant};
//!
//! use bgp::session::{Peer, PeerConfig, PeerInput, PeerOutput, SessionState, Side};
//! use bgp::wire::frame::{self, MAX_LEN};
//! use bgp::{Asn, RouterId};
//!
//! let config = |id| PeerConfig::new(Asn(64512), RouterId([10, 0, 0, id].into()), Asn(64512));
//! let passive = PeerConfig { passive: true, ..config(2) };
//! let mut peers = [Peer::new(config(1), 1), Peer::new(passive, 2)];
//! let sides = [Side::Outgoing, Side::Incoming];
//! let mut now = Instant::now();
//!
//! peers.iter_mut().for_each(|peer| peer.handle(PeerInput::Start, now));
//! loop {
//!     let outputs: Vec<_> = peers
//!         .iter_mut()
//!         .zip([0, 1])
//!         .flat_map(|(peer, at)| std::iter::from_fn(move || Some((at, peer.poll_output()?))))
//!         .collect();
//!     if outputs.is_empty() {
//!         break;
//!     }
//!     for (at, output) in outputs {
//!         match output {
//!             PeerOutput::Connect => {
//!                 now += Duration::from_millis(1);
//!                 peers[0].handle(PeerInput::Connected(Side::Outgoing), now);
//!                 peers[1].handle(PeerInput::Connected(Side::Incoming), now);
//!             }
//!             PeerOutput::Send(_, octets) => {
//!                 let message = frame::next(&octets, MAX_LEN)?.expect("a whole message");
//!                 let update = peers[1 - at].receive(sides[1 - at], message, now);
//!                 assert!(update.is_none(), "no UPDATE is sent here");
//!             }
//!             PeerOutput::Established(_, session) => assert_eq!(session.hold_time, 90),
//!             other => panic!("unexpected: {other:?}"),
//!         }
//!     }
//! }
//! assert!(peers.iter().all(|peer| peer.state() == SessionState::Established));
//! assert!(peers[0].deadline() > Some(now), "the next event is a KEEPALIVE");
//! # Ok::<(), bgp::wire::WireError>(())
//! ```
//!
//! An UPDATE is encoded and decoded:
//!
//! ```
//! use std::net::IpAddr;
//!
//! use bgp::wire::attribute::{Context, Origin, code, flag, push};
//! use bgp::wire::encode::{UpdateFormat, announce};
//! use bgp::wire::frame::{self, MAX_LEN};
//! use bgp::wire::update::UpdateView;
//! use ipnet::IpNet;
//!
//! let mut attributes = Vec::new();
//! push(&mut attributes, flag::WELL_KNOWN, code::ORIGIN, |out| out.push(Origin::Igp.code()));
//! push(&mut attributes, flag::WELL_KNOWN, code::AS_PATH, |_| {});
//! push(&mut attributes, flag::WELL_KNOWN, code::LOCAL_PREF, |out| out.extend([0, 0, 0, 100]));
//! let format = UpdateFormat::default();
//! let next_hop: IpAddr = [192, 168, 0, 1].into();
//! let prefix: IpNet = "10.1.2.0/26".parse().expect("a prefix");
//!
//! let mut octets = Vec::new();
//! announce(&mut octets, format, &attributes, next_hop, [prefix])?;
//!
//! let message = frame::next(&octets, MAX_LEN)?.expect("a whole message");
//! let update = UpdateView::parse(message.body)?.read(&Context::INTERNAL)?;
//! assert_eq!(update.fault, None);
//! assert_eq!(update.attributes.local_pref, Some(100));
//! for (hop, prefixes) in update.announcements() {
//!     assert_eq!(hop, next_hop);
//!     assert_eq!(prefixes.into_iter().collect::<Vec<_>>(), [prefix]);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod bfd;
#[cfg(feature = "driver")]
pub mod net;
pub mod session;
pub mod types;
pub mod wire;

pub use types::{AfiSafi, Asn, Families, Family, PeerId, RouterId};
