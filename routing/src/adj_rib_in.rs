//! Adj-RIB-In: import of the routes that peers announce and withdraw.

use std::sync::Arc;

use bgp::{Family, PeerId};
use ipnet::IpNet;

use crate::attrs::AttrSet;
use crate::batch::RouteBatch;
use crate::import::{self, ImportCheck, ImportOutcome};
use crate::interner::AttrInterner;
use crate::path::PeerSession;
use crate::path::SourceIx;
use crate::policy::PeerPolicy;
use crate::rib::Rib;
use crate::table::{Insertion, RibPath};

impl Rib {
    /// Processes the announced and withdrawn routes of a peer.
    pub fn routes(&mut self, id: PeerId, batch: &RouteBatch) {
        let Some(source) = self.sources.find(id) else { return };
        let Some(member) = self.sources.member(source).filter(|member| !member.over_limit) else { return };
        let (session, policy) = (member.session, Arc::clone(&member.policy));
        for (attrs, prefixes, ids) in batch.runs() {
            if !ids.is_empty() {
                let paths = ids.iter().copied().zip(prefixes.iter().copied());
                self.add_path_routes(id, source, &policy, attrs, paths);
                match attrs {
                    Some(_) => self.owner_announced(session.address, prefixes.iter().copied()),
                    None => self.owner_withdrew(id, session.address, prefixes.iter().copied()),
                }
                if self.sources.member(source).is_none_or(|member| member.over_limit) {
                    return;
                }
                continue;
            }
            match attrs {
                Some(attrs) => {
                    self.announced(id, source, session, &policy, attrs, prefixes);
                    self.owner_announced(session.address, prefixes.iter().copied());
                    if self.sources.member(source).is_none_or(|member| member.over_limit) {
                        return;
                    }
                }
                None => {
                    for prefix in prefixes {
                        if let Some(ix) = self.table.find(prefix) {
                            self.take(ix, source);
                        }
                    }
                    self.owner_withdrew(id, session.address, prefixes.iter().copied());
                }
            }
            self.supersede(id, prefixes);
        }
    }

    /// Processes prefixes that a peer announced with one attribute set.
    pub(crate) fn announced(
        &mut self,
        id: PeerId,
        source: SourceIx,
        session: PeerSession,
        policy: &PeerPolicy,
        attrs: &Arc<AttrSet>,
        prefixes: &[IpNet],
    ) {
        let cluster = Arc::clone(&self.cluster);
        let check = ImportCheck::new(&self.config, &cluster, &policy.import, session, attrs, false);
        if let Some(common) = check.common()
            && policy.max_prefixes.is_none()
        {
            // The family matters to filter rules only, and there are none.
            let path = imported_path(&mut self.interner, &check, common, Family::Ipv4Unicast, attrs, source);
            prefixes.iter().for_each(|prefix| self.put(prefix, path));
            self.interner.release(path.attrs());
            return;
        }
        let mut references = Vec::new();
        // Adjacent prefixes mostly have the same outcome.
        let mut last: Option<(ImportOutcome, Family, RibPath)> = None;
        for prefix in prefixes {
            let outcome = check.evaluate(prefix);
            let family = Family::of(prefix);
            let path = match last {
                Some((same, of, path)) if same == outcome && of == family => path,
                _ => {
                    let path = imported_path(&mut self.interner, &check, outcome, family, attrs, source);
                    references.push(path.attrs());
                    path
                }
            };
            last = Some((outcome, family, path));
            if policy.max_prefixes.is_none() {
                self.put(prefix, path);
            } else {
                // A stale path to the prefix is replaced, and must not count against the limit.
                self.supersede(id, std::slice::from_ref(prefix));
                if !self.put_limited(prefix, path) {
                    break;
                }
            }
        }
        references.into_iter().for_each(|attrs| self.interner.release(attrs));
    }

    // Called for every prefix: without inlining the import takes a tenth longer.
    #[inline]
    pub(crate) fn put(&mut self, prefix: &IpNet, path: RibPath) {
        let ix = self.table.find_or_insert(prefix);
        self.put_at(ix, path);
    }

    /// Inserts a path of a peer that has a prefix limit; returns `false` if the limit is reached.
    fn put_limited(&mut self, prefix: &IpNet, path: RibPath) -> bool {
        let known = self.table.find(prefix).filter(|ix| self.table.has(*ix, path.source()));
        match known {
            Some(ix) => self.put_at(ix, path),
            None if self.is_full(path.source()) => return false,
            None => {
                self.put(prefix, path);
                self.check_limit(path.source());
            }
        }
        true
    }

    #[inline]
    fn put_at(&mut self, ix: u32, path: RibPath) {
        let before = match self.table.put(ix, path) {
            Insertion::Same => return,
            Insertion::New => None,
            Insertion::Replaced(before) => Some(before),
        };
        self.interner.retain(path.attrs());
        if let Some(member) = self.sources.member_mut(path.source()) {
            if before.is_none() {
                member.received[self.table.family(ix).index()] += 1;
            }
            if path.is_rejected() || before.is_some_and(RibPath::is_rejected) {
                let rejected = &mut member.rejected[self.table.family(ix).index()];
                *rejected += usize::from(path.is_rejected());
                *rejected -= usize::from(before.is_some_and(RibPath::is_rejected));
            }
            if path.is_disputed() || before.is_some_and(RibPath::is_disputed) {
                member.disputed += usize::from(path.is_disputed());
                member.disputed -= usize::from(before.is_some_and(RibPath::is_disputed));
            }
        }
        if let Some(before) = before {
            self.interner.release(before.attrs());
        }
        self.mark(ix);
    }

    /// Removes the path of a source; returns whether there was one.
    pub(crate) fn take(&mut self, ix: u32, source: SourceIx) -> bool {
        let Some(removed) = self.table.take(ix, source) else { return false };
        if !self.path_ids.is_empty() {
            self.path_ids.remove(&(ix, source));
        }
        let family = self.table.family(ix);
        if let Some(member) = self.sources.member_mut(source) {
            member.received[family.index()] -= 1;
            member.rejected[family.index()] -= usize::from(removed.is_rejected());
            member.disputed -= usize::from(removed.is_disputed());
        }
        self.removed += 1;
        self.interner.release(removed.attrs());
        self.mark(ix);
        true
    }

    /// Applies import policy again to the paths of the first `count` marked prefixes.
    pub(crate) fn reimport(&mut self, count: usize) {
        let mut paths: Vec<RibPath> = Vec::new();
        for ix in self.dirty.iter().take(count) {
            paths.clear();
            paths.extend(self.table.paths(*ix));
            for path in &paths {
                let Some(member) = self.sources.member_mut(path.source()) else { continue };
                let used = self.interner.shared(path.attrs());
                let received = Arc::clone(used.received().unwrap_or(used));
                let (session, policy) = (member.session, Arc::clone(&member.policy));
                let prefix = self.table.prefix(*ix);
                let llgr_stale = member.llgr_stale().contains(Family::of(&prefix));
                let check = ImportCheck::new(
                    &self.config,
                    &self.cluster,
                    &policy.import,
                    session,
                    &received,
                    llgr_stale,
                );
                let outcome = check.evaluate(&prefix);
                let family = Family::of(&prefix);
                let imported_path =
                    imported_path(&mut self.interner, &check, outcome, family, &received, path.source());
                member.rejected[family.index()] -= usize::from(path.is_rejected());
                member.rejected[family.index()] += usize::from(imported_path.is_rejected());
                member.disputed -= usize::from(path.is_disputed());
                member.disputed += usize::from(imported_path.is_disputed());
                self.table.put(*ix, imported_path);
                // The reference of the table is passed on to the new attributes.
                self.interner.release(path.attrs());
            }
        }
    }
}

/// Returns the path after import policy; its attributes have one more reference.
fn imported_path(
    interner: &mut AttrInterner,
    check: &ImportCheck<'_>,
    outcome: ImportOutcome,
    family: Family,
    received: &Arc<AttrSet>,
    source: SourceIx,
) -> RibPath {
    let derived = check.changes(outcome).then(|| Arc::new(check.derive(outcome, family, received)));
    let set = derived.as_ref().unwrap_or(received);
    let scope = import::scope_of(set);
    let path = RibPath::new(interner.intern(set), source, outcome.rejected).scoped(scope);
    if outcome.disputed { path.disputed() } else { path }
}
