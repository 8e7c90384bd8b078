//! Static paths that their owner has spoken against.
//!
//! The static peer table says what a node has, and the node itself knows better: a block that it has withdrawn over
//! its own session is not there, whatever the table says, and packets must not be sent after it. So a static path is
//! taken out when its owner withdraws the block, and put back when the owner announces it again, or begins a new session
//! and has to say everything anew. The loss of a session says nothing: that is what static paths are for.

use std::net::IpAddr;

use bgp::PeerId;
use ipnet::IpNet;

use crate::attrs::AttrSet;
use crate::path::Source;
use crate::path::SourceIx;
use crate::rib::Rib;
use crate::table::RibPath;

impl Rib {
    /// How many static paths count no more because their owner has withdrawn the block.
    pub fn suppressed(&self) -> usize {
        self.suppressed.len()
    }

    /// A peer has withdrawn these prefixes.
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
            // What is not to be announced at all (disableBGPExport) may be withdrawn for that.
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

    /// The static table: what counts, and what BGP is still given the time to bring first. The latter counts too as soon
    /// as BGP has: from then on a loss of BGP must find it there.
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

    /// A peer has announced these prefixes.
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

    /// A peer begins anew: what it has withdrawn before counts no more.
    pub(crate) fn owner_session_up(&mut self, owner: IpAddr) {
        let of_it = |(_, by): &(IpNet, IpAddr)| *by == owner;
        let prefixes: Vec<IpNet> =
            self.suppressed.iter().map(|(p, by)| (*p, *by)).filter(of_it).map(|(p, _)| p).collect();
        self.owner_announced(owner, prefixes.into_iter());
    }

    /// Puts back what is not to be announced any more: its owner will have withdrawn it for that.
    pub(crate) fn restore_unannounced(&mut self) {
        let cluster = &self.cluster;
        let gone = |(prefix, _): &(IpNet, IpAddr)| !cluster.is_in_pool(prefix);
        let restored: Vec<(IpNet, IpAddr)> =
            self.suppressed.iter().map(|(p, o)| (*p, *o)).filter(gone).collect();
        for (prefix, owner) in restored {
            self.owner_announced(owner, [prefix].into_iter());
        }
    }

    /// Whether the static table's path to a prefix is to be left out.
    pub(crate) fn is_suppressed(&self, prefix: &IpNet, owner: IpAddr) -> bool {
        self.suppressed.get(prefix) == Some(&owner)
    }

    fn put_static(&mut self, prefix: &IpNet, next_hop: IpAddr) {
        let attrs = self.interner.intern(&std::sync::Arc::new(AttrSet::originated(next_hop)));
        self.put(prefix, RibPath::new(attrs, SourceIx::STATIC, None));
        self.interner.release(attrs);
    }
}
