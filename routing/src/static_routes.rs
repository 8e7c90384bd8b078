//! Suppression of static paths by their owner.
//!
//! The static peer table says which blocks a node has, but the node itself knows better: a block
//! that it withdraws over its own session is gone, and packets must not be sent to it. A static
//! path is therefore removed when its owner withdraws the block, and added again when the owner
//! announces it or starts a new session, in which it sends all its routes. The loss of a session
//! has no effect: static paths exist for that case.

use std::net::IpAddr;

use bgp::PeerId;
use ipnet::IpNet;

use crate::attrs::AttrSet;
use crate::path::Source;
use crate::path::SourceIx;
use crate::rib::Rib;
use crate::table::RibPath;

impl Rib {
    /// Returns the number of static paths that are suppressed because their owner withdrew the
    /// block.
    pub fn suppressed(&self) -> usize {
        self.suppressed.len()
    }

    /// Processes the withdrawal of prefixes by a peer.
    pub(crate) fn owner_withdrew(
        &mut self,
        id: PeerId,
        owner: IpAddr,
        prefixes: impl Iterator<Item = IpNet>,
    ) {
        if self.originated[1].is_empty() {
            return;
        }
        for prefix in prefixes {
            // The owner may withdraw a block because it became unannounced (disableBGPExport).
            if !self.originated[1].contains(&prefix) || !self.cluster.is_in_pool(&prefix) {
                continue;
            }
            let Some(ix) = self.table.find(&prefix) else { continue };
            let of_static = |path: &RibPath| path.source() == SourceIx::STATIC;
            let Some(path) = self.table.paths(ix).find(of_static) else { continue };
            let still = self.sources.session_sources(id).any(|source| self.table.has(ix, source));
            if self.interner.set(path.attrs()).next_hop == owner && !still {
                self.take(ix, SourceIx::STATIC);
                self.suppressed.insert(prefix, owner);
            }
        }
    }

    /// Sets the static table: `due` paths are used at once; `awaited` ones are used after a delay
    /// granted to BGP, which ends early when BGP has a path to the prefix, so that the static path
    /// exists when that is lost.
    pub fn originate_statics(&mut self, due: &[(IpNet, IpAddr)], awaited: &[(IpNet, IpAddr)]) {
        let mut paths = due.to_vec();
        self.awaited.clear();
        for (prefix, next_hop) in awaited {
            let known = self
                .table
                .find(prefix)
                .is_some_and(|ix| self.table.paths(ix).any(|path| !matches!(path.source(), SourceIx::LOCAL)));
            if known {
                paths.push((*prefix, *next_hop));
            } else {
                self.awaited.insert(*prefix, *next_hop);
            }
        }
        self.originate(Source::Static, &paths);
    }

    /// Processes the announcement of prefixes by a peer.
    pub(crate) fn owner_announced(&mut self, owner: IpAddr, prefixes: impl Iterator<Item = IpNet>) {
        if self.suppressed.is_empty() && self.awaited.is_empty() {
            return;
        }
        for prefix in prefixes {
            if let Some(next_hop) = self.awaited.remove(&prefix) {
                self.originated[1].insert(prefix);
                self.put_static(&prefix, next_hop);
            }
            if self.suppressed.get(&prefix) == Some(&owner) {
                self.suppressed.remove(&prefix);
                self.put_static(&prefix, owner);
            }
        }
    }

    /// Ends the suppression of the paths of an owner that starts a new session.
    pub(crate) fn owner_session_up(&mut self, owner: IpAddr) {
        let of_it = |(_, by): &(IpNet, IpAddr)| *by == owner;
        let prefixes: Vec<IpNet> =
            self.suppressed.iter().map(|(p, by)| (*p, *by)).filter(of_it).map(|(p, _)| p).collect();
        self.owner_announced(owner, prefixes.into_iter());
    }

    /// Restores paths to blocks that are no longer announced: their owner withdrew them for that
    /// reason.
    pub(crate) fn restore_unannounced(&mut self) {
        let cluster = &self.cluster;
        let unannounced = |(prefix, _): &(IpNet, IpAddr)| !cluster.is_in_pool(prefix);
        let restored: Vec<(IpNet, IpAddr)> =
            self.suppressed.iter().map(|(p, o)| (*p, *o)).filter(unannounced).collect();
        for (prefix, owner) in restored {
            self.owner_announced(owner, [prefix].into_iter());
        }
    }

    /// Returns whether a static path is suppressed.
    pub(crate) fn is_suppressed(&self, prefix: &IpNet, owner: IpAddr) -> bool {
        self.suppressed.get(prefix) == Some(&owner)
    }

    fn put_static(&mut self, prefix: &IpNet, next_hop: IpAddr) {
        let attrs = self.interner.intern(&std::sync::Arc::new(AttrSet::originated(next_hop)));
        self.put(prefix, RibPath::new(attrs, SourceIx::STATIC, None));
        self.interner.release(attrs);
    }
}
