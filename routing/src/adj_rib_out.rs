//! Queries for Adj-RIB-Out. The routes are computed from the current state, as they are for
//! sending.

use bgp::{Family, PeerId};
use ipnet::IpNet;

use crate::add_path::MAX_PATHS;
use crate::add_path::send::usable;
use crate::export::Scratch;
use crate::export_view::{ExportMatch, ExportView};
use crate::group::Group;
use crate::group_key::GroupKey;
use crate::query::{PathInfo, RouteInfo};
use crate::rib::Rib;
use crate::source::Member;
use crate::table::RibPath;

impl Rib {
    /// Returns the routes that are advertised to a peer, each path with its advertised next hop,
    /// and the place at which to continue. At most `places` places of the table are visited, from
    /// `start`. There are none for a peer without a session.
    pub fn advertised_from(
        &self,
        id: PeerId,
        start: u32,
        places: usize,
        wanted: impl Fn(&IpNet) -> bool,
    ) -> (Vec<RouteInfo>, Option<u32>) {
        let Rib { config, cluster, exports, table, interner, sources, .. } = self;
        let Some(member) = sources.by_id(id).filter(|member| !member.is_gone()) else {
            return (Vec::new(), None);
        };
        let view = ExportView { config, cluster, exports, table, interner, sources, reexport: false };
        let end = table.end();
        let stop = u32::try_from(places).map_or(end, |places| start.saturating_add(places).min(end));
        let used = (start..stop).filter(|ix| table.is_used(*ix));
        let some = used.filter(|ix| wanted(&table.prefix(*ix)));
        let mut scratch = Scratch::default();
        let routes = some.filter_map(|ix| {
            let paths: Vec<PathInfo> = self
                .advertised_paths(view, member, ix)
                .into_iter()
                .map(|(path, matched)| {
                    self.advertised_path(view, member.key(), path, matched, ix, &mut scratch)
                })
                .collect();
            (!paths.is_empty()).then(|| RouteInfo { prefix: table.prefix(ix), paths })
        });
        (routes.collect(), (stop < end).then_some(stop))
    }

    fn advertised_paths(
        &self,
        view: ExportView<'_>,
        member: &Member,
        ix: u32,
    ) -> Vec<(RibPath, ExportMatch)> {
        let family = self.table.family(ix);
        let key = member.key();
        if member.session.sends_add_path.contains(family) {
            let key = GroupKey { families: member.session.sends_add_path, ..key };
            return usable(member.id, key, view, &self.table.prefix(ix)).take(MAX_PATHS).collect();
        }
        let advertised = self.table.advertised(ix);
        let is_its_own = || self.sources.source(advertised.source()).peer() == Some(member.id);
        let is_too_long = || {
            let group: Option<&Group> = self.groups.get(&key);
            group.is_some_and(|group| group.unsendable().any(|other| other == ix))
        };
        if advertised.is_none() || is_its_own() || is_too_long() {
            return Vec::new();
        }
        view.export_match(advertised, key, family, ix)
            .map(|matched| (advertised, matched))
            .into_iter()
            .collect()
    }

    fn advertised_path(
        &self,
        view: ExportView<'_>,
        key: GroupKey,
        path: RibPath,
        matched: ExportMatch,
        ix: u32,
        scratch: &mut Scratch,
    ) -> PathInfo {
        let attrs = self.interner.set(path.attrs());
        let family: Family = self.table.family(ix);
        PathInfo {
            source: self.sources.source(path.source()),
            kind: self.sources.kind(path.source()),
            next_hop: view.exported(path, matched, key, family, scratch).1,
            as_path: attrs.as_path().asns().collect(),
            local_pref: attrs.local_pref,
            med: attrs.med,
            stale: false,
            reason: None,
            shares: false,
        }
    }
}
