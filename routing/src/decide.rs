//! The decision process (RFC 4271 §9.1.2.2, RFC 4456 §9). Its steps filter the set of paths one
//! after the other, so the result does not depend on the order of arrival.
//!
//! The interior cost to the next hop (RFC 4271 §9.1.2.2 e) is not compared, since no IGP is read.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use bgp::{Asn, RouterId};

use crate::attrs::AttrSet;

/// Reason why a path is not the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PathReason {
    /// AS_PATH contains our AS.
    AsLoop,
    /// ORIGINATOR_ID is ours.
    OriginatorLoop,
    /// CLUSTER_LIST contains our cluster.
    ClusterLoop,
    /// The next hop is this node.
    NextHopSelf,
    /// The next hop is not a unicast host address.
    NextHopNotHost,
    /// A filter rejects the path.
    Filtered,
    /// The peer is outside the cluster and has no import filter (RFC 8212).
    NoImportPolicy,
    /// The path has BLACKHOLE (RFC 7999), which no filter accepts explicitly.
    Blackhole,
    /// A route leak (RFC 9234).
    RouteLeak,
    /// The path is long-lived stale, and its sender forbids that (NO_LLGR, RFC 9494).
    NotLong,
    /// A node announces a block that the node table assigns to another node.
    NotOwner,
    /// The block belongs to this node.
    LocalBlock,
    /// The path is from the static peer table, and there is one from BGP.
    StaticBelowBgp,
    /// The path is stale, and its peer does not respond.
    PeerSilent,
    /// The path is long-lived stale (RFC 9494).
    LlgrStale,
    /// Another path has a higher LOCAL_PREF.
    LocalPref,
    /// Another path has a shorter AS_PATH.
    AsPathLength,
    /// Another path has a lower ORIGIN.
    Origin,
    /// Another path from the same neighbor AS has a lower MULTI_EXIT_DISC.
    Med,
    /// Another path is from an external peer.
    ExternalPreferred,
    /// Another path has an originator with a lower BGP identifier.
    RouterId,
    /// Another path has a shorter CLUSTER_LIST.
    ClusterListLength,
    /// Another path is from a peer with a lower address.
    PeerAddress,
    /// Another path arrived first from the same peer (RFC 7911).
    FurtherPath,
}

impl PathReason {
    /// Reasons that exclude a path from the decision process.
    pub const REJECTIONS: [PathReason; 11] = [
        PathReason::AsLoop,
        PathReason::OriginatorLoop,
        PathReason::ClusterLoop,
        PathReason::NextHopSelf,
        PathReason::NextHopNotHost,
        PathReason::Filtered,
        PathReason::NoImportPolicy,
        PathReason::Blackhole,
        PathReason::RouteLeak,
        PathReason::NotLong,
        PathReason::NotOwner,
    ];
}

impl fmt::Display for PathReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PathReason::AsLoop => "our AS is in AS_PATH",
            PathReason::OriginatorLoop => "ORIGINATOR_ID is ours",
            PathReason::ClusterLoop => "our cluster is in CLUSTER_LIST",
            PathReason::NextHopSelf => "the next hop is this node",
            PathReason::NextHopNotHost => "the next hop is no host address",
            PathReason::Filtered => "a filter rejects it",
            PathReason::NoImportPolicy => {
                "the peer is outside the cluster and has no import filter (RFC 8212)"
            }
            PathReason::RouteLeak => "a route leak: only for customers of its AS (RFC 9234)",
            PathReason::NotLong => "not to be kept as long-lived stale (NO_LLGR)",
            PathReason::Blackhole => "BLACKHOLE, which no filter of the peer accepts explicitly (RFC 7999)",
            PathReason::NotOwner => "the node table assigns the block to another node",
            PathReason::LocalBlock => "the block belongs to this node",
            PathReason::StaticBelowBgp => "static, and BGP has a path",
            PathReason::PeerSilent => "its peer does not respond, and there is another path",
            PathReason::LlgrStale => "long-lived stale, and there is another path",
            PathReason::LocalPref => "lower LOCAL_PREF",
            PathReason::AsPathLength => "longer AS_PATH",
            PathReason::Origin => "worse ORIGIN",
            PathReason::Med => "higher MED from the same AS",
            PathReason::ExternalPreferred => "an external path is preferred",
            PathReason::RouterId => "higher BGP identifier",
            PathReason::ClusterListLength => "longer CLUSTER_LIST",
            PathReason::PeerAddress => "higher peer address",
            PathReason::FurtherPath => "a further path from the same peer",
        })
    }
}

/// Rank of a source, which is compared before any attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Stale path of a peer that does not respond and would forward the packets itself.
    Silent,
    /// Static peer table.
    Static,
    /// Long-lived stale path (RFC 9494).
    LlgrStale,
    /// BGP path.
    Bgp,
    /// Local path.
    Local,
}

/// Path as the input of the decision process.
#[derive(Clone, Copy, Debug)]
pub struct PathCandidate<'a> {
    /// Rank of the source.
    pub rank: Rank,
    /// Attributes.
    pub attrs: &'a AttrSet,
    /// The path is from an external peer.
    pub external: bool,
    /// BGP identifier of the peer; 0.0.0.0 without a peer.
    pub router_id: RouterId,
    /// Address of the peer; 0.0.0.0 without a peer.
    pub address: IpAddr,
    /// Number that differs between several paths from one peer (RFC 7911).
    pub source: u32,
}

impl PathCandidate<'_> {
    /// Returns the candidate of a path without a peer.
    pub fn unpeered(rank: Rank, attrs: &AttrSet) -> PathCandidate<'_> {
        let none = Ipv4Addr::UNSPECIFIED;
        PathCandidate {
            rank,
            attrs,
            external: false,
            router_id: RouterId(none),
            address: none.into(),
            source: 0,
        }
    }

    fn group(&self) -> Option<Asn> {
        self.attrs.neighbor_as
    }

    /// Returns the identifier to compare: the originator's in place of the peer's (RFC 4456 §9).
    fn identifier(&self) -> u32 {
        self.attrs.originator_id.unwrap_or(self.router_id).to_bits()
    }
}

/// Returns the index of the best path, and reports the index and the reason of every other one to
/// `lost`. `field` is a buffer for reuse, so that nothing is allocated per prefix.
pub fn select(
    candidates: &[PathCandidate<'_>],
    field: &mut Vec<usize>,
    mut lost: impl FnMut(usize, PathReason),
) -> Option<usize> {
    field.clear();
    field.extend(0..candidates.len());
    let top = candidates.iter().map(|candidate| candidate.rank).max()?;
    field.retain(|index| {
        let keep = candidates[*index].rank == top;
        if !keep {
            let reason = match candidates[*index].rank {
                _ if top == Rank::Local => PathReason::LocalBlock,
                Rank::Silent => PathReason::PeerSilent,
                Rank::LlgrStale => PathReason::LlgrStale,
                Rank::Static | Rank::Bgp | Rank::Local => PathReason::StaticBelowBgp,
            };
            lost(*index, reason);
        }
        keep
    });
    let mut lowest =
        |field: &mut Vec<usize>, reason, key| keep_lowest(candidates, field, &mut lost, reason, key);
    lowest(field, PathReason::LocalPref, |c| u128::from(u32::MAX - c.attrs.local_pref));
    lowest(field, PathReason::AsPathLength, |c| u128::from(c.attrs.hops));
    lowest(field, PathReason::Origin, |c| u128::from(c.attrs.origin.code()));
    keep_lowest_med(candidates, field, &mut lost);
    let mut lowest =
        |field: &mut Vec<usize>, reason, key| keep_lowest(candidates, field, &mut lost, reason, key);
    lowest(field, PathReason::ExternalPreferred, |c| u128::from(!c.external));
    lowest(field, PathReason::RouterId, |c| u128::from(c.identifier()));
    lowest(field, PathReason::ClusterListLength, |c| u128::from(c.attrs.cluster_list_len));
    lowest(field, PathReason::PeerAddress, |c| match c.address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    });
    let mut lowest =
        |field: &mut Vec<usize>, reason, key| keep_lowest(candidates, field, &mut lost, reason, key);
    lowest(field, PathReason::FurtherPath, |c| u128::from(c.source));
    let (winner, rest) = field.split_first()?;
    rest.iter().for_each(|index| lost(*index, PathReason::FurtherPath));
    Some(*winner)
}

/// Key that a step of the decision process compares; the lowest wins.
type ComparisonKey = fn(&PathCandidate<'_>) -> u128;

fn keep_lowest(
    candidates: &[PathCandidate<'_>],
    field: &mut Vec<usize>,
    lost: &mut impl FnMut(usize, PathReason),
    reason: PathReason,
    key: ComparisonKey,
) {
    if field.len() < 2 {
        return;
    }
    let Some(lowest) = field.iter().map(|index| key(&candidates[*index])).min() else { return };
    field.retain(|index| {
        let keep = key(&candidates[*index]) == lowest;
        if !keep {
            lost(*index, reason);
        }
        keep
    });
}

/// Keeps the paths with the lowest MED within each neighbor AS (RFC 4271 §9.1.2.2 c).
fn keep_lowest_med(
    candidates: &[PathCandidate<'_>],
    field: &mut Vec<usize>,
    lost: &mut impl FnMut(usize, PathReason),
) {
    if field.len() < 2 {
        return;
    }
    // Each path is compared with all others, including those that lost: they are still at the end.
    let all = field.len();
    field.extend_from_within(..);
    let mut kept = 0;
    for at in all..2 * all {
        let index = field[at];
        let one = &candidates[index];
        let beaten = field[all..].iter().any(|other| {
            let other = &candidates[*other];
            other.group() == one.group() && other.attrs.med < one.attrs.med
        });
        if beaten {
            lost(index, PathReason::Med);
        } else {
            field[kept] = index;
            kept += 1;
        }
    }
    field.truncate(kept);
}
