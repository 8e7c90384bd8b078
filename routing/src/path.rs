//! Sources of paths, sessions as the RIB sees them, and best paths for forwarding.

use std::fmt;
use std::net::IpAddr;

use bgp::session::SessionParameters;
use bgp::wire::encode::UpdateFormat;
use bgp::{Families, PeerId, RouterId};
use ipnet::IpNet;

/// Source of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Source {
    /// A block of this node.
    Local,
    /// The static peer table; ranks below every path from BGP.
    Static,
    /// A BGP session.
    Peer(PeerId),
}

impl Source {
    /// Returns the peer, if the source is a session.
    pub fn peer(self) -> Option<PeerId> {
        match self {
            Source::Peer(id) => Some(id),
            Source::Local | Source::Static => None,
        }
    }
}

/// Number of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SourceIx(pub(crate) u32);

impl SourceIx {
    /// Source of local blocks.
    pub(crate) const LOCAL: SourceIx = SourceIx(0);
    /// Source of the static peer table.
    pub(crate) const STATIC: SourceIx = SourceIx(1);
    /// Number of the first session.
    pub(crate) const FIRST: u32 = 2;
}

/// Kind of a source, for display and JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SourceKind {
    /// A block of this node.
    Local,
    /// The static peer table.
    Static,
    /// A peer in our AS.
    Ibgp,
    /// A peer in another AS.
    Ebgp,
    /// A route reflector client of ours.
    Client,
}

impl SourceKind {
    /// All kinds, in the order of their numbers.
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

/// Parameters of an Established session that the RIB needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerSession {
    /// BGP identifier of the peer.
    pub router_id: RouterId,
    /// Address of the peer, the last tie-breaker (RFC 4271 §9.1.2.2 g).
    pub address: IpAddr,
    /// The peer is in our AS.
    pub internal: bool,
    /// The peer is a client of this route reflector (RFC 4456).
    pub client: bool,
    /// Format of messages to the peer.
    pub form: UpdateFormat,
    /// Negotiated families.
    pub families: Families,
    /// Families in which the peer receives all usable paths instead of the best one (RFC 7911).
    pub sends_add_path: Families,
    /// The peer keeps our routes when this node restarts, and removes those that were not sent
    /// again at End-of-RIB (RFC 4724).
    pub restarts: bool,
    /// The peer has just restarted itself, so its End-of-RIB will be late.
    pub restarting: bool,
    /// The peer supports long-lived graceful restart (RFC 9494).
    pub long_lived: bool,
    /// The peer's ROUTE-REFRESH is answered between markers (RFC 7313).
    pub marks_refresh: bool,
}

impl PeerSession {
    /// Creates the session from its negotiated parameters.
    pub fn new(negotiated: &SessionParameters, address: IpAddr, client: bool) -> PeerSession {
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

    /// Returns whether paths of this session are advertised to others in the same way as those of
    /// `other`.
    pub(crate) fn is_advertised_like(&self, other: &PeerSession) -> bool {
        let of =
            |session: &PeerSession| (session.router_id, session.address, session.internal, session.client);
        of(self) == of(other)
    }

    /// Returns the kind of the paths from this session.
    pub fn kind(&self) -> SourceKind {
        match (self.internal, self.client) {
            (false, _) => SourceKind::Ebgp,
            (true, false) => SourceKind::Ibgp,
            (true, true) => SourceKind::Client,
        }
    }
}

/// Best path of a prefix, for forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Best {
    /// Source of the path.
    pub source: Source,
    /// Kind of the source.
    pub kind: SourceKind,
    /// BGP next hop.
    pub next_hop: IpAddr,
    /// Packets are to be discarded (BLACKHOLE, RFC 7999).
    pub discards: bool,
    /// Tunnel exit: the egress endpoint in the path's attributes, or the next hop.
    pub exit: IpAddr,
}

/// Change of the best path of a prefix, or of its multipath exits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BestChange {
    /// Prefix.
    pub prefix: IpNet,
    /// New best path; `None`: the prefix has no path any more.
    pub best: Option<Best>,
    /// Multipath exits in addition to that of the best path, sorted by address; usually none.
    pub others: Box<[IpAddr]>,
}
