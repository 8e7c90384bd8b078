//! Receiving several paths to a prefix in one session (RFC 7911). The first path belongs to the
//! source of the session, and each further path to an additional source, so only sessions that use
//! path identifiers pay for them.

use std::sync::Arc;

use bgp::PeerId;
use ipnet::IpNet;

use super::MAX_PATHS;
use crate::attrs::AttrSet;
use crate::path::SourceIx;
use crate::policy::PeerPolicy;
use crate::rib::Rib;

impl Rib {
    /// Processes routes with path identifiers; `attrs` is `None` for withdrawals.
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

    /// Returns the place of a prefix, and the source of the session's path with this identifier.
    fn source_of_path_id(&self, id: PeerId, prefix: &IpNet, path_id: u32) -> Option<(u32, SourceIx)> {
        let ix = self.table.find(prefix)?;
        let has = |path_source: &SourceIx| {
            self.table.has(ix, *path_source)
                && self.path_ids.get(&(ix, *path_source)).copied().unwrap_or(0) == path_id
        };
        self.sources.session_sources(id).find(has).map(|path_source| (ix, path_source))
    }

    /// Returns a source of the session that has no path to the prefix; `None` if the session
    /// already has [`MAX_PATHS`] paths.
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
