//! What the RIB says of itself.

use std::net::IpAddr;

use bgp::{Asn, Families, PeerId};
use ipnet::IpNet;

use crate::decide::{Reason, select};
use crate::export;
use crate::group::Group;
use crate::path::{Source, SourceKind};
use crate::rib::{Rib, candidate};
use crate::table::Path;

/// How many prefixes a session carries now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Received, rejected ones too.
    pub received: usize,
    /// Received and usable.
    pub accepted: usize,
    /// Of the received ones those that are kept though the peer has not sent them again.
    pub stale: usize,
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
    /// It is kept though the peer has not sent it again since its session ended.
    pub stale: bool,
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
    /// Paths taken out since the start.
    pub removed: u64,
}

impl Rib {
    /// The counts of a session.
    pub fn peer_counts(&self, id: PeerId) -> PeerCounts {
        let mut counts = PeerCounts::default();
        for source in self.sources.of(id) {
            let Some(member) = self.sources.member(source) else { continue };
            let live = Families::BOTH.without(member.leaving);
            let held =
                |families: Families| families.iter().map(|family| member.received[family.index()]).sum();
            let received: usize = held(live);
            counts.received += received;
            counts.accepted += member.accepted.min(received);
            counts.stale += member.stale.map_or(0, |stale| held(stale.families.intersection(live)));
        }
        let Some(member) = self.sources.by_id(id) else { return counts };
        let key = member.key();
        let told = |family| {
            let allowed = |kind| export::allows(&self.config, kind, key.audience, family);
            let all = SourceKind::ALL.into_iter().filter(|kind| allowed(*kind));
            let all: usize = all.map(|kind| self.sources.told_of(kind, family)).sum();
            let own = |source| self.sources.member(source).map_or(0, |own| self.sources.told_by(own, family));
            let own: usize = match allowed(member.session.kind()) {
                true => self.sources.of(id).map(own).sum(),
                false => 0,
            };
            all.saturating_sub(own)
        };
        let unsendable = self.groups.get(&key).into_iter().flat_map(Group::unsendable);
        let unsendable = unsendable.filter(|ix| {
            let told = self.table.told(*ix);
            self.sources.source(told.source()) != Source::Peer(id)
        });
        counts.advertised = key.families.iter().map(told).sum::<usize>().saturating_sub(unsendable.count());
        counts
    }

    /// The counts of the whole.
    pub fn counts(&self) -> RibCounts {
        RibCounts {
            prefixes: self.table.len(),
            paths: self.table.paths_len(),
            attribute_sets: self.interner.len(),
            removed: self.removed,
        }
    }

    /// Looks at no more than `places` places of the table, from `start` on, for prefixes that `wanted`
    /// accepts; and where to go on. Prefixes that come or go meanwhile may be missed.
    pub fn routes_from(
        &self,
        start: u32,
        places: usize,
        wanted: impl Fn(&IpNet) -> bool,
    ) -> (Vec<RouteInfo>, Option<u32>) {
        let end = self.table.end();
        let stop = u32::try_from(places).map_or(end, |places| start.saturating_add(places).min(end));
        let routes = (start..stop)
            .filter(|ix| self.table.is_used(*ix))
            .map(|ix| (ix, self.table.prefix(ix)))
            .filter(|(_, prefix)| wanted(prefix))
            .map(|(ix, prefix)| RouteInfo { prefix, paths: self.paths(ix) })
            .collect();
        (routes, (stop < end).then_some(stop))
    }

    fn paths(&self, ix: u32) -> Vec<PathInfo> {
        let family = self.table.family(ix);
        let all: Vec<Path> = self.table.paths(ix).collect();
        let eligible: Vec<_> = all
            .iter()
            .enumerate()
            .filter_map(|(at, path)| Some((at, candidate(&self.sources, &self.interner, *path, family)?)))
            .collect();
        let mut reasons: Vec<Option<Reason>> = all.iter().map(|path| path.rejected()).collect();
        let candidates: Vec<_> = eligible.iter().map(|(_, candidate)| *candidate).collect();
        select(&candidates, &mut Vec::new(), |lost, reason| reasons[eligible[lost].0] = Some(reason));
        let mut paths: Vec<_> = all
            .iter()
            .zip(reasons)
            // Those of a session that ended are as good as gone.
            .filter(|(path, _)| self.sources.is_usable(path.source(), family))
            .map(|(path, reason)| {
                let attrs = self.interner.set(path.attrs());
                let stale = self.sources.member(path.source()).and_then(|member| member.stale);
                PathInfo {
                    source: self.sources.source(path.source()),
                    kind: self.sources.kind(path.source()),
                    next_hop: attrs.next_hop,
                    as_path: attrs.as_path().asns().collect(),
                    local_pref: attrs.local_pref,
                    med: attrs.med,
                    stale: stale.is_some_and(|stale| stale.families.contains(family)),
                    reason,
                }
            })
            .collect();
        paths.sort_by_key(|path| (path.reason.is_some(), path.source));
        paths
    }
}
