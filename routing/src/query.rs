//! What the RIB says of itself.

use std::net::IpAddr;

use bgp::{Asn, PeerId};
use ipnet::IpNet;

use crate::decide::{Reason, select};
use crate::path::{Source, SourceKind};
use crate::rib::{Entry, Rib, candidate, kind_of};

/// How many prefixes a session carries now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Received, rejected ones too.
    pub received: usize,
    /// Received and usable.
    pub accepted: usize,
    /// Sent, or about to be.
    pub advertised: usize,
}

/// A prefix and every path to it.
#[derive(Clone, Debug)]
pub struct RouteInfo {
    /// The prefix.
    pub prefix: IpNet,
    /// Its paths, the chosen one first.
    pub paths: Vec<PathInfo>,
}

/// One path.
#[derive(Clone, Debug)]
pub struct PathInfo {
    /// Where it comes from.
    pub source: Source,
    /// The kind of that source.
    pub kind: SourceKind,
    /// The BGP next hop.
    pub next_hop: IpAddr,
    /// AS_PATH, flattened.
    pub as_path: Vec<Asn>,
    /// LOCAL_PREF.
    pub local_pref: u32,
    /// MULTI_EXIT_DISC.
    pub med: u32,
    /// Why it is not used; `None`: it is the chosen one.
    pub reason: Option<Reason>,
}

/// What the whole RIB holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RibCounts {
    /// Prefixes.
    pub prefixes: usize,
    /// Paths.
    pub paths: usize,
    /// Different attribute sets.
    pub attribute_sets: usize,
}

impl Rib {
    /// The counts of a session.
    pub fn peer_counts(&self, id: PeerId) -> PeerCounts {
        let member = self.members.get(&id);
        PeerCounts {
            received: member.map_or(0, |member| member.received),
            accepted: member.map_or(0, |member| member.accepted),
            advertised: self.group_of(id).map_or(0, |group| group.advertised_to(id)),
        }
    }

    /// The counts of the whole.
    pub fn counts(&self) -> RibCounts {
        RibCounts {
            prefixes: self.table.len(),
            paths: self.table.values().map(|entry| entry.paths.len()).sum(),
            attribute_sets: self.interner.len(),
        }
    }

    /// Every prefix that `wanted` accepts, in order.
    pub fn routes_where(&self, wanted: impl Fn(&IpNet) -> bool) -> Vec<RouteInfo> {
        let mut routes: Vec<_> = self
            .table
            .iter()
            .filter(|(prefix, _)| wanted(prefix))
            .map(|(prefix, entry)| RouteInfo { prefix: *prefix, paths: self.paths(entry) })
            .collect();
        routes.sort_unstable_by_key(|route| route.prefix);
        routes
    }

    fn paths(&self, entry: &Entry) -> Vec<PathInfo> {
        let eligible: Vec<_> = entry
            .paths
            .iter()
            .enumerate()
            .filter_map(|(index, path)| Some((index, candidate(&self.members, path)?)))
            .collect();
        let mut reasons: Vec<Option<Reason>> = entry.paths.iter().map(|path| path.rejected).collect();
        let candidates: Vec<_> = eligible.iter().map(|(_, candidate)| *candidate).collect();
        select(&candidates, |lost, reason| reasons[eligible[lost].0] = Some(reason));
        let mut paths: Vec<_> = entry
            .paths
            .iter()
            .zip(reasons)
            .map(|(path, reason)| PathInfo {
                source: path.source,
                kind: kind_of(&self.members, path.source),
                next_hop: path.attrs.next_hop,
                as_path: path.attrs.as_path().asns().collect(),
                local_pref: path.attrs.local_pref,
                med: path.attrs.med,
                reason,
            })
            .collect();
        paths.sort_by_key(|path| (path.reason.is_some(), path.source));
        paths
    }
}
