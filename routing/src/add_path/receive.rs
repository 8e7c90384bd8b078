//! Several paths to a prefix from one session (RFC 7911): the first is a path of the session's source, each
//! further one of a further source, a lane, so that a path identifier costs those sessions alone that
//! send them.

use std::sync::Arc;

use bgp::PeerId;
use ipnet::IpNet;

use super::MAX_PATHS;
use crate::attrs::AttrSet;
use crate::path::SourceIx;
use crate::policy::PeerPolicy;
use crate::rib::Rib;

impl Rib {
    /// Prefixes of one run whose path identifiers these are.
    pub(crate) fn add_path_routes(
        &mut self,
        id: PeerId,
        source: SourceIx,
        policy: &PeerPolicy,
        attrs: Option<&Arc<AttrSet>>,
        paths: impl Iterator<Item = (u32, IpNet)>,
    ) {
        for (path_id, prefix) in paths {
            let path_source = self.source_of_path_id(id, &prefix, path_id);
            let Some(attrs) = attrs else {
                if let Some((ix, path_source)) = path_source {
                    self.take(ix, path_source);
                }
                self.supersede(id, std::slice::from_ref(&prefix));
                continue;
            };
            let Some(path_source) =
                path_source.map(|(_, path_source)| path_source).or_else(|| self.vacant_source(id, &prefix))
            else {
                self.ignored_paths += 1;
                continue;
            };
            let Some(session) = self.sources.member(source).map(|member| member.session) else { return };
            self.announced(id, path_source, session, policy, attrs, std::slice::from_ref(&prefix));
            if let Some(ix) = self.table.find(&prefix).filter(|ix| self.table.has(*ix, path_source)) {
                self.path_ids.insert((ix, path_source), path_id);
            }
            self.supersede(id, std::slice::from_ref(&prefix));
            if self.sources.member(path_source).is_none_or(|path_source| path_source.over_limit) {
                if let Some(member) = self.sources.member_mut(source) {
                    member.over_limit = true;
                }
                return;
            }
        }
    }

    /// The place and the source of the path that a session sent with this identifier.
    fn source_of_path_id(&self, id: PeerId, prefix: &IpNet, path_id: u32) -> Option<(u32, SourceIx)> {
        let ix = self.table.find(prefix)?;
        let has = |path_source: &SourceIx| {
            self.table.has(ix, *path_source)
                && self.path_ids.get(&(ix, *path_source)).copied().unwrap_or(0) == path_id
        };
        self.sources.session_sources(id).find(has).map(|path_source| (ix, path_source))
    }

    /// A source of a session that has no path to a prefix; `None`: it has as many as it may.
    fn vacant_source(&mut self, id: PeerId, prefix: &IpNet) -> Option<SourceIx> {
        let ix = self.table.find(prefix);
        let is_free = |path_source: &SourceIx| ix.is_none_or(|ix| !self.table.has(ix, *path_source));
        let free = self.sources.session_sources(id).find(is_free);
        if free.is_some() {
            return free;
        }
        if self.sources.session_sources(id).count() >= MAX_PATHS {
            return None;
        }
        self.sources.add_session_source(id)
    }
}
