//! Several paths to a prefix from one session (RFC 7911): the first is a path of the session's source, each
//! further one of a further source, a lane, so that a path identifier costs those sessions alone that
//! send them.

use std::sync::Arc;

use bgp::PeerId;
use ipnet::IpNet;

use super::LANES;
use crate::attrs::AttrSet;
use crate::path::SourceIx;
use crate::policy::PeerPolicy;
use crate::rib::Rib;

impl Rib {
    /// Prefixes of one run whose path identifiers these are.
    pub(crate) fn several(
        &mut self,
        id: PeerId,
        source: SourceIx,
        policy: &PeerPolicy,
        attrs: Option<&Arc<AttrSet>>,
        paths: impl Iterator<Item = (u32, IpNet)>,
    ) {
        for (path_id, prefix) in paths {
            let lane = self.lane_of(id, &prefix, path_id);
            let Some(attrs) = attrs else {
                if let Some((ix, lane)) = lane {
                    self.take(ix, lane);
                }
                self.supersede(id, std::slice::from_ref(&prefix));
                continue;
            };
            let Some(lane) = lane.map(|(_, lane)| lane).or_else(|| self.free_lane(id, &prefix)) else {
                self.ignored_paths += 1;
                continue;
            };
            let Some(session) = self.sources.member(source).map(|member| member.session) else { return };
            self.announced(id, lane, session, policy, attrs, std::slice::from_ref(&prefix));
            if let Some(ix) = self.table.find(&prefix).filter(|ix| self.table.has(*ix, lane)) {
                self.path_ids.insert((ix, lane), path_id);
            }
            self.supersede(id, std::slice::from_ref(&prefix));
            if self.sources.member(lane).is_none_or(|lane| lane.over_limit) {
                if let Some(member) = self.sources.member_mut(source) {
                    member.over_limit = true;
                }
                return;
            }
        }
    }

    /// The place and the source of the path that a session sent with this identifier.
    fn lane_of(&self, id: PeerId, prefix: &IpNet, path_id: u32) -> Option<(u32, SourceIx)> {
        let ix = self.table.find(prefix)?;
        let has = |lane: &SourceIx| {
            self.table.has(ix, *lane) && self.path_ids.get(&(ix, *lane)).copied().unwrap_or(0) == path_id
        };
        self.sources.lanes(id).find(has).map(|lane| (ix, lane))
    }

    /// A source of a session that has no path to a prefix; `None`: it has as many as it may.
    fn free_lane(&mut self, id: PeerId, prefix: &IpNet) -> Option<SourceIx> {
        let ix = self.table.find(prefix);
        let is_free = |lane: &SourceIx| ix.is_none_or(|ix| !self.table.has(ix, *lane));
        let free = self.sources.lanes(id).find(is_free);
        if free.is_some() {
            return free;
        }
        if self.sources.lanes(id).count() >= LANES {
            return None;
        }
        self.sources.add_lane(id)
    }
}
