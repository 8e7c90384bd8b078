//! The decision process (RFC 4271 §9.1.2.2, RFC 4456 §9): filters over the set of paths, one after
//! the other, so that the order in which paths came can't matter.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use bgp::{Asn, RouterId};
use serde::Serialize;

use crate::attrs::AttrSet;

/// Why a path is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// Our AS is in AS_PATH.
    AsLoop,
    /// ORIGINATOR_ID is ours.
    OriginatorLoop,
    /// Our cluster is in CLUSTER_LIST.
    ClusterLoop,
    /// The next hop is this node.
    NextHopSelf,
    /// The next hop is no unicast host address.
    NextHopNotHost,
    /// A filter rejects it.
    Filtered,
    /// The peer is not of the cluster and no filter says what may come from it (RFC 8212).
    NoImportPolicy,
    /// It carries BLACKHOLE (RFC 7999), which no filter accepts by name.
    Blackhole,
    /// A route leak (RFC 9234).
    RouteLeak,
    /// It was kept for long, and its sender does not want that (NO_LLGR, RFC 9494).
    NotLong,
    /// A node announces what the node table gives to another.
    NotOwner,
    /// The block is this node's own.
    LocalBlock,
    /// Only from the static peer table, and BGP has a path.
    StaticBelowBgp,
    /// Kept of a peer that nothing is heard of.
    PeerSilent,
    /// Kept long after its peer was lost (RFC 9494).
    LlgrStale,
    /// Another has a higher LOCAL_PREF.
    LocalPref,
    /// Another has a shorter AS_PATH.
    AsPathLength,
    /// Another has a lower ORIGIN.
    Origin,
    /// Another from the same neighbour AS has a lower MULTI_EXIT_DISC.
    Med,
    /// Another is from an external peer.
    ExternalPreferred,
    /// Another's originator has a lower BGP identifier.
    RouterId,
    /// Another has a shorter CLUSTER_LIST.
    ClusterListLength,
    /// Another's peer has a lower address.
    PeerAddress,
    /// Another came first from the same peer (RFC 7911).
    FurtherPath,
}

impl Reason {
    /// Those for which a path takes no part at all.
    pub const REJECTIONS: [Reason; 11] = [
        Reason::AsLoop,
        Reason::OriginatorLoop,
        Reason::ClusterLoop,
        Reason::NextHopSelf,
        Reason::NextHopNotHost,
        Reason::Filtered,
        Reason::NoImportPolicy,
        Reason::Blackhole,
        Reason::RouteLeak,
        Reason::NotLong,
        Reason::NotOwner,
    ];
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::AsLoop => "our AS is in AS_PATH",
            Reason::OriginatorLoop => "ORIGINATOR_ID is ours",
            Reason::ClusterLoop => "our cluster is in CLUSTER_LIST",
            Reason::NextHopSelf => "the next hop is this node",
            Reason::NextHopNotHost => "the next hop is no host address",
            Reason::Filtered => "a filter rejects it",
            Reason::NoImportPolicy => "the peer is outside the cluster and has no import filter (RFC 8212)",
            Reason::RouteLeak => "a route leak: only for its AS's customers (RFC 9234)",
            Reason::NotLong => "not to be kept for long (NO_LLGR)",
            Reason::Blackhole => "BLACKHOLE, which no filter of the peer accepts by name (RFC 7999)",
            Reason::NotOwner => "the node table gives the block to another node",
            Reason::LocalBlock => "the block is this node's own",
            Reason::StaticBelowBgp => "static, and BGP has a path",
            Reason::PeerSilent => "its peer is silent, and there is another",
            Reason::LlgrStale => "kept long after its peer was lost, and there is another",
            Reason::LocalPref => "lower LOCAL_PREF",
            Reason::AsPathLength => "longer AS_PATH",
            Reason::Origin => "worse ORIGIN",
            Reason::Med => "higher MED from the same AS",
            Reason::ExternalPreferred => "an external path is preferred",
            Reason::RouterId => "higher BGP identifier",
            Reason::ClusterListLength => "longer CLUSTER_LIST",
            Reason::PeerAddress => "higher peer address",
            Reason::FurtherPath => "a further path from the same peer",
        })
    }
}

/// How a source ranks before any attribute is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// BGP, kept of a peer that is no more heard of and that would forward itself.
    Silent,
    /// The static peer table.
    Static,
    /// BGP, kept for long without a word from the peer (RFC 9494).
    LlgrStale,
    /// BGP.
    Bgp,
    /// This node.
    Local,
}

/// One path as the decision sees it.
#[derive(Clone, Copy, Debug)]
pub struct PathCandidate<'a> {
    /// Its rank.
    pub rank: Rank,
    /// Its attributes.
    pub attrs: &'a AttrSet,
    /// Whether it is from an external peer.
    pub external: bool,
    /// The peer's BGP identifier; 0.0.0.0 where there is no peer.
    pub router_id: RouterId,
    /// The peer's address; 0.0.0.0 where there is no peer.
    pub address: IpAddr,
    /// A number that differs between several paths from one peer (RFC 7911).
    pub source: u32,
}

impl PathCandidate<'_> {
    /// Without a peer.
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

    /// RFC 4456 §9: the originator's identifier stands for the peer's.
    fn identifier(&self) -> u32 {
        self.attrs.originator_id.unwrap_or(self.router_id).to_bits()
    }
}

/// The index of the path to use; `lost` is told of every other one's index and reason. `field` is
/// room to work in, used again so that nothing is allocated for a prefix.
pub fn select(
    candidates: &[PathCandidate<'_>],
    field: &mut Vec<usize>,
    mut lost: impl FnMut(usize, Reason),
) -> Option<usize> {
    field.clear();
    field.extend(0..candidates.len());
    let top = candidates.iter().map(|candidate| candidate.rank).max()?;
    field.retain(|index| {
        let keep = candidates[*index].rank == top;
        if !keep {
            let reason = match candidates[*index].rank {
                _ if top == Rank::Local => Reason::LocalBlock,
                Rank::Silent => Reason::PeerSilent,
                Rank::LlgrStale => Reason::LlgrStale,
                Rank::Static | Rank::Bgp | Rank::Local => Reason::StaticBelowBgp,
            };
            lost(*index, reason);
        }
        keep
    });
    let mut lowest =
        |field: &mut Vec<usize>, reason, key| keep_lowest(candidates, field, &mut lost, reason, key);
    lowest(field, Reason::LocalPref, |c| u128::from(u32::MAX - c.attrs.local_pref));
    lowest(field, Reason::AsPathLength, |c| u128::from(c.attrs.hops));
    lowest(field, Reason::Origin, |c| u128::from(c.attrs.origin.code()));
    keep_lowest_med(candidates, field, &mut lost);
    let mut lowest =
        |field: &mut Vec<usize>, reason, key| keep_lowest(candidates, field, &mut lost, reason, key);
    lowest(field, Reason::ExternalPreferred, |c| u128::from(!c.external));
    lowest(field, Reason::RouterId, |c| u128::from(c.identifier()));
    lowest(field, Reason::ClusterListLength, |c| u128::from(c.attrs.cluster_list_len));
    lowest(field, Reason::PeerAddress, |c| match c.address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    });
    let mut lowest =
        |field: &mut Vec<usize>, reason, key| keep_lowest(candidates, field, &mut lost, reason, key);
    lowest(field, Reason::FurtherPath, |c| u128::from(c.source));
    let (winner, rest) = field.split_first()?;
    rest.iter().for_each(|index| lost(*index, Reason::FurtherPath));
    Some(*winner)
}

/// What a step of the decision compares: the lowest stays.
type ComparisonKey = fn(&PathCandidate<'_>) -> u128;

fn keep_lowest(
    candidates: &[PathCandidate<'_>],
    field: &mut Vec<usize>,
    lost: &mut impl FnMut(usize, Reason),
    reason: Reason,
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

/// MED is compared only inside one neighbour AS (RFC 4271 §9.1.2.2 c).
fn keep_lowest_med(
    candidates: &[PathCandidate<'_>],
    field: &mut Vec<usize>,
    lost: &mut impl FnMut(usize, Reason),
) {
    if field.len() < 2 {
        return;
    }
    // Each is compared with all of them, those that were beaten too: they stand behind, unchanged.
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
            lost(index, Reason::Med);
        } else {
            field[kept] = index;
            kept += 1;
        }
    }
    field.truncate(kept);
}
