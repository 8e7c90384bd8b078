//! What is known of one way to a prefix, and of the peer it came from.

use std::fmt;
use std::net::IpAddr;

use bgp::session::Negotiated;
use bgp::wire::encode::UpdateFormat;
use bgp::{Families, PeerId, RouterId};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Where a path comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A block of this node.
    Local,
    /// The static peer table; below every path from BGP.
    Static,
    /// A session.
    Peer(PeerId),
}

impl Source {
    /// The peer, if it is one.
    pub fn peer(self) -> Option<PeerId> {
        match self {
            Source::Peer(id) => Some(id),
            Source::Local | Source::Static => None,
        }
    }
}

/// The number of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SourceIx(pub(crate) u32);

impl SourceIx {
    /// This node.
    pub(crate) const LOCAL: SourceIx = SourceIx(0);
    /// The static peer table.
    pub(crate) const STATIC: SourceIx = SourceIx(1);
    /// Of the first session.
    pub(crate) const FIRST: u32 = 2;
}

/// The kind of a source, for people and scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A block of this node.
    Local,
    /// The static peer table.
    Static,
    /// A peer in our AS.
    Ibgp,
    /// A peer in another AS.
    Ebgp,
    /// A client that we reflect for.
    Client,
}

impl SourceKind {
    /// All of them, in the order of their numbers.
    pub const ALL: [SourceKind; 5] =
        [SourceKind::Local, SourceKind::Static, SourceKind::Ibgp, SourceKind::Ebgp, SourceKind::Client];
}

impl fmt::Display for SourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SourceKind::Local => "local",
            SourceKind::Static => "static",
            SourceKind::Ibgp => "ibgp",
            SourceKind::Ebgp => "ebgp",
            SourceKind::Client => "client",
        })
    }
}

/// What the RIB needs to know of an Established session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSession {
    /// The peer's BGP identifier.
    pub router_id: RouterId,
    /// Its address, the last tie-breaker (RFC 4271 §9.1.2.2 g).
    pub address: IpAddr,
    /// Whether it is in our AS.
    pub internal: bool,
    /// Whether we reflect for it (RFC 4456).
    pub client: bool,
    /// How messages for it are written.
    pub form: UpdateFormat,
    /// The families that were negotiated.
    pub families: Families,
    /// The families in which it gets all usable paths, not the best alone (RFC 7911).
    pub sends_add_path: Families,
    /// Whether it keeps what we sent when this node restarts, and drops what was not sent again when
    /// End-of-RIB comes (RFC 4724).
    pub restarts: bool,
    /// It has just restarted itself, so it sends its End-of-RIB late.
    pub restarting: bool,
    /// Whether it knows what a last resort is (RFC 9494).
    pub long_lived: bool,
    /// Whether what answers its ROUTE-REFRESH stands between markers (RFC 7313).
    pub marks_refresh: bool,
}

impl PeerSession {
    /// From what a session settled.
    pub fn new(negotiated: &Negotiated, address: IpAddr, client: bool) -> PeerSession {
        PeerSession {
            router_id: negotiated.peer_id,
            address,
            internal: negotiated.internal,
            client: client && negotiated.internal,
            form: negotiated.form(),
            families: negotiated.families,
            sends_add_path: negotiated.add_path.send,
            restarts: negotiated.graceful.is_some(),
            restarting: negotiated.graceful.is_some_and(|graceful| graceful.restarting),
            long_lived: negotiated.graceful.is_some_and(|graceful| !graceful.long_lived.families.is_empty()),
            marks_refresh: negotiated.enhanced_route_refresh,
        }
    }

    /// Whether paths of it are told to others as those of `other` are.
    pub(crate) fn is_advertised_like(&self, other: &PeerSession) -> bool {
        let of =
            |session: &PeerSession| (session.router_id, session.address, session.internal, session.client);
        of(self) == of(other)
    }

    /// The kind of the paths it sends.
    pub fn kind(&self) -> SourceKind {
        match (self.internal, self.client) {
            (false, _) => SourceKind::Ebgp,
            (true, false) => SourceKind::Ibgp,
            (true, true) => SourceKind::Client,
        }
    }
}

/// The path that was chosen, as far as forwarding cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Best {
    /// Where it comes from.
    pub source: Source,
    /// The kind of that source.
    pub kind: SourceKind,
    /// The BGP next hop.
    pub next_hop: IpAddr,
    /// Packets are to go nowhere (BLACKHOLE, RFC 7999).
    pub discards: bool,
    /// Where packets leave the tunnel: the egress endpoint that the path names, or the next hop.
    pub exit: IpAddr,
}

/// The chosen path of a prefix has changed, or who shares its packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BestChange {
    /// The prefix.
    pub prefix: IpNet,
    /// The new path; `None`: there is none any more.
    pub best: Option<Best>,
    /// The exits beside the path's own that its packets are shared with, in the order of their addresses; mostly none.
    pub others: Box<[IpAddr]>,
}
