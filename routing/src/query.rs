//! What the RIB says of itself.

use std::collections::HashMap;
use std::net::IpAddr;

use bgp::{Asn, Families, Family, PeerId};
use ipnet::IpNet;

use crate::decide::{Reason, select};
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

/// How many prefixes a session carries now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerCounts {
    /// Of each family, in the order of [`Family::ALL`].
    pub families: [FamilyCounts; 2],
}

/// How many prefixes of one family a session carries now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FamilyCounts {
    /// Received, rejected ones too.
    pub received: usize,
    /// Received and usable.
    pub accepted: usize,
    /// Of the received ones those that are kept though the peer has not sent them again.
    pub stale: usize,
    /// Sent, or about to be.
    pub advertised: usize,
}

impl PeerCounts {
    /// Of both families.
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

/// What passes to a group, by family.
#[derive(Debug, Default)]
struct GroupCounts {
    all: [usize; 2],
    by_source: HashMap<SourceIx, [usize; 2]>,
}

impl GroupCounts {
    /// For a peer, which is spared its own.
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
    /// Why it is not the chosen one; `None`: it is.
    pub reason: Option<Reason>,
    /// It is not the chosen one, and its exit shares the prefix's packets all the same.
    pub shares: bool,
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
        self.counts_of([id]).next().map(|(_, counts)| counts).unwrap_or_default()
    }

    /// The counts of these sessions. Where what a group gets depends on the prefixes the whole table is
    /// looked at, once for each such group.
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

    /// What is held of a peer; nothing is said of what it is told.
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

    /// What a session is told of a family, where that follows from the kind of each path's source and from
    /// how far the path may go.
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

    /// Counts what passes to a group, prefix by prefix.
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

    /// How many paths are used although the node table gives their blocks to other nodes, and the
    /// first `limit` of them with the peers that sent them.
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
        let all: Vec<RibPath> = self.table.paths(ix).collect();
        let eligible: Vec<_> = all
            .iter()
            .enumerate()
            .filter_map(|(at, path)| Some((at, candidate(&self.sources, &self.interner, *path, family)?)))
            .collect();
        let mut reasons: Vec<Option<Reason>> = all.iter().map(|path| path.rejected()).collect();
        let candidates: Vec<_> = eligible.iter().map(|(_, candidate)| *candidate).collect();
        select(&candidates, &mut Vec::new(), |lost, reason| reasons[eligible[lost].0] = Some(reason));
        let exits = self.multipath_exits.of(ix);
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
                    shares: reason.is_some_and(Reason::breaks_ties)
                        && exits.contains(&exit_of(&self.sources, &self.interner, *path)),
                }
            })
            .collect();
        paths.sort_by_key(|path| (path.reason.is_some(), !path.shares, path.source));
        paths
    }
}
