//! Queries about the contents of the RIB, for status output.

use std::collections::HashMap;
use std::net::IpAddr;

use bgp::{Asn, Families, Family, PeerId};
use ipnet::IpNet;

use crate::decide::{PathReason, select};
use crate::export;
use crate::export_view::ExportView;
use crate::group::Group;
use crate::group_key::GroupKey;
use crate::multipath::{candidate, exit_of};
use crate::path::SourceIx;
use crate::path::{Source, SourceKind};
use crate::rib::Rib;
use crate::source::Member;
use crate::table::{RibPath, Scope};

/// Current numbers of prefixes of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Numbers for each family, in the order of [`Family::ALL`].
    pub families: [FamilyCounts; 2],
}

/// Current numbers of prefixes of one family in a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyCounts {
    /// Received prefixes, including rejected ones.
    pub received: usize,
    /// Received and accepted prefixes.
    pub accepted: usize,
    /// Received prefixes that are stale.
    pub stale: usize,
    /// Advertised prefixes, including pending ones.
    pub advertised: usize,
}

impl PeerCounts {
    /// Returns the sum over both families.
    pub fn all(&self) -> FamilyCounts {
        let [a, b] = self.families;
        FamilyCounts {
            received: a.received + b.received,
            accepted: a.accepted + b.accepted,
            stale: a.stale + b.stale,
            advertised: a.advertised + b.advertised,
        }
    }
}

/// Numbers of prefixes that are advertised to a group, by family.
#[derive(Debug, Default)]
struct GroupCounts {
    all: [usize; 2],
    by_source: HashMap<SourceIx, [usize; 2]>,
}

impl GroupCounts {
    /// Returns the numbers for a peer, which does not receive its own paths.
    fn excluding(&self, sources: impl Iterator<Item = SourceIx>) -> [usize; 2] {
        let mut advertised = self.all;
        for own in sources.filter_map(|ix| self.by_source.get(&ix)) {
            advertised
                .iter_mut()
                .zip(own)
                .for_each(|(advertised, own)| *advertised = advertised.saturating_sub(*own));
        }
        advertised
    }
}

/// Prefix with all its paths.
#[derive(Clone, Debug)]
pub struct RouteInfo {
    /// Prefix.
    pub prefix: IpNet,
    /// Paths, the best one first.
    pub paths: Vec<PathInfo>,
}

/// Path of a route.
#[derive(Clone, Debug)]
pub struct PathInfo {
    /// Source of the path.
    pub source: Source,
    /// Kind of the source.
    pub kind: SourceKind,
    /// BGP next hop.
    pub next_hop: IpAddr,
    /// AS_PATH, flattened.
    pub as_path: Vec<Asn>,
    /// LOCAL_PREF.
    pub local_pref: u32,
    /// MULTI_EXIT_DISC.
    pub med: u32,
    /// The path is stale.
    pub stale: bool,
    /// Reason why the path is not the best; `None` for the best path.
    pub reason: Option<PathReason>,
    /// The path is not the best, but its exit takes part in multipath.
    pub shares: bool,
}

/// Sizes of the RIB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RibCounts {
    /// Number of prefixes.
    pub prefixes: usize,
    /// Number of paths.
    pub paths: usize,
    /// Number of different attribute sets.
    pub attribute_sets: usize,
    /// Number of paths removed since the start.
    pub removed: u64,
}

impl Rib {
    /// Returns the numbers of prefixes of a session.
    pub fn peer_counts(&self, id: PeerId) -> PeerCounts {
        self.counts_of([id]).next().map(|(_, counts)| counts).unwrap_or_default()
    }

    /// Returns the numbers of prefixes of sessions. If the export to a group depends on the prefix,
    /// the whole table is visited once for that group.
    pub fn counts_of(
        &self,
        ids: impl IntoIterator<Item = PeerId>,
    ) -> impl Iterator<Item = (PeerId, PeerCounts)> {
        let mut group_counts_of = HashMap::new();
        ids.into_iter().map(move |id| {
            let mut counts = self.received_from(id);
            let Some(member) = self.sources.by_id(id) else { return (id, counts) };
            let key = member.key();
            let mut advertised = if self.exports.export(key.export).depends_on_prefix() {
                group_counts_of
                    .entry(key)
                    .or_insert_with(|| self.group_counts(key))
                    .excluding(self.sources.of(id))
            } else {
                let mut advertised = [0; 2];
                key.families
                    .iter()
                    .for_each(|family| advertised[family.index()] = self.advertised_to(member, key, family));
                advertised
            };
            for ix in self.groups.get(&key).into_iter().flat_map(Group::unsendable) {
                if self.sources.source(self.table.advertised(ix).source()) != Source::Peer(id) {
                    let of_family = &mut advertised[self.table.family(ix).index()];
                    *of_family = of_family.saturating_sub(1);
                }
            }
            let add_path = self.add_path_peers.advertised(id);
            for (counts, (advertised, add_path)) in
                counts.families.iter_mut().zip(advertised.into_iter().zip(add_path))
            {
                counts.advertised = advertised + add_path;
            }
            (id, counts)
        })
    }

    /// Returns the numbers of received prefixes of a peer; `advertised` is 0.
    fn received_from(&self, id: PeerId) -> PeerCounts {
        let mut counts = PeerCounts::default();
        for member in self.sources.of(id).filter_map(|source| self.sources.member(source)) {
            for family in Families::BOTH.without(member.leaving).iter() {
                let (at, counts) = (family.index(), &mut counts.families[family.index()]);
                counts.received += member.received[at];
                counts.accepted += member.received[at] - member.rejected[at];
                let is_stale = member.stale.is_some_and(|stale| stale.families.contains(family));
                counts.stale += if is_stale { member.received[at] } else { 0 };
            }
        }
        counts
    }

    /// Returns the number of prefixes of a family that are advertised to a session, if that depends
    /// only on the kind of the source and the scope.
    fn advertised_to(&self, member: &Member, key: GroupKey, family: Family) -> usize {
        let export = self.exports.export(key.export);
        let of_scope = |scope| {
            let allowed = |kind| {
                export::allows(&self.config, export, kind, scope, key.audience, key.long_lived, family)
            };
            let all = SourceKind::ALL.into_iter().filter(|kind| allowed(*kind));
            let all: usize = all.map(|kind| self.sources.advertised_of_kind(kind, family, scope)).sum();
            if !allowed(member.session.kind()) {
                return all;
            }
            let own = self.sources.of(member.id).filter_map(|source| self.sources.member(source));
            let own: usize = own.map(|own| self.sources.advertised_by(own, family, scope)).sum();
            all.saturating_sub(own)
        };
        Scope::ALL.into_iter().map(of_scope).sum()
    }

    /// Counts the prefixes that are advertised to a group, one by one.
    fn group_counts(&self, key: GroupKey) -> GroupCounts {
        let Rib { config, cluster, exports, table, interner, sources, .. } = self;
        let view = ExportView { config, cluster, exports, table, interner, sources, reexport: false };
        let mut group_counts = GroupCounts::default();
        for ix in (0..table.end()).filter(|ix| table.is_used(*ix)) {
            let advertised = table.advertised(ix);
            if view.export_match(advertised, key, table.family(ix), ix).is_some() {
                let family = table.family(ix).index();
                group_counts.all[family] += 1;
                group_counts.by_source.entry(advertised.source()).or_default()[family] += 1;
            }
        }
        group_counts
    }

    /// Returns the number of used paths to blocks of other nodes, and the first `limit` of them
    /// with their peers.
    pub fn disputed(&self, limit: usize) -> (usize, Vec<(IpNet, PeerId)>) {
        let all = self.sources.members().filter(|member| !member.is_gone()).map(|member| member.disputed);
        let count = all.sum();
        let mut first = Vec::new();
        if count > 0 {
            let used = (0..self.table.end()).filter(|ix| self.table.is_used(*ix));
            let paths = used.flat_map(|ix| self.table.paths(ix).map(move |path| (ix, path)));
            let disputed = paths.filter(|(_, path)| path.is_disputed()).filter_map(|(ix, path)| {
                let member = self.sources.member(path.source()).filter(|member| !member.is_gone())?;
                Some((self.table.prefix(ix), member.id))
            });
            first.extend(disputed.take(limit));
        }
        (count, first)
    }

    /// Returns the sizes of the RIB.
    pub fn counts(&self) -> RibCounts {
        RibCounts {
            prefixes: self.table.len(),
            paths: self.table.paths_len(),
            attribute_sets: self.interner.len(),
            removed: self.removed,
        }
    }

    /// Returns the routes to prefixes that `wanted` accepts, and the place at which to continue. At
    /// most `places` places of the table are visited, from `start`. Prefixes that are added or
    /// removed between two calls may be missed.
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
        let all: Vec<RibPath> = self.table.paths(ix).collect();
        let eligible: Vec<_> = all
            .iter()
            .enumerate()
            .filter_map(|(at, path)| Some((at, candidate(&self.sources, &self.interner, *path, family)?)))
            .collect();
        let mut reasons: Vec<Option<PathReason>> = all.iter().map(|path| path.rejected()).collect();
        let candidates: Vec<_> = eligible.iter().map(|(_, candidate)| *candidate).collect();
        select(&candidates, &mut Vec::new(), |lost, reason| reasons[eligible[lost].0] = Some(reason));
        let exits = self.multipath_exits.of(ix);
        let mut paths: Vec<_> = all
            .iter()
            .zip(reasons)
            // Paths of ended sessions are about to be removed.
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
                    shares: reason.is_some_and(PathReason::breaks_ties)
                        && exits.contains(&exit_of(&self.sources, &self.interner, *path)),
                }
            })
            .collect();
        paths.sort_by_key(|path| (path.reason.is_some(), !path.shares, path.source));
        paths
    }
}
