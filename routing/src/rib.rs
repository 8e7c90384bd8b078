//! The routing information base: all paths, the best one of each prefix, and what peers are sent.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::{Family, PeerId};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use crate::add_path::PathIds;
use crate::add_path::send::AddPathPeers;
use crate::attrs::AttrSet;
use crate::config::RibConfig;
use crate::export_policies::ExportPolicies;
use crate::export_view::ExportView;
use crate::group::{Group, PathChange};
use crate::group_key::GroupKey;
use crate::interner::AttrInterner;
use crate::multipath::{MultipathExits, SelectScratch, exit_of, select_best, single_path};
use crate::outbox::Delivery;
use crate::path::SourceIx;
use crate::path::{Best, BestChange, Source};
use crate::policy::PrefixLimitReport;
use crate::policy::{ClusterPolicy, PeerPolicy, shut_down, with_communities};
use crate::source::{Member, Sources};
use crate::table::{Mark, RibPath, Table};

/// Routing information base: Adj-RIB-In, Loc-RIB and export state of all peers.
///
/// A `Rib` opens no socket and reads no clock. Inputs only mark prefixes; [`Rib::run`] selects the
/// best paths of marked prefixes and advertises the changes.
///
/// # Contract
///
/// * Call [`Rib::peer_up`] before the other methods for a session, and [`Rib::peer_down`] at its
///   end. Calls for a peer without a session have no effect.
/// * Call [`Rib::run`] after inputs until it returns `true`. Several inputs may be processed by one
///   `run`: only the latest state of a prefix is advertised.
/// * Call [`Rib::resume`] for a peer after [`Rib::peer_up`], and where a method says so. After
///   [`Delivery::deliver`] has returned `false` for a peer, nothing is delivered to it until
///   `resume` is called again; its pending changes take one bit per prefix.
/// * Chunks of a peer must be written in the order of delivery. They may be dropped only if the
///   peer's session ends.
/// * Call [`Rib::best_changes`] until [`Rib::has_best_changes`] returns `false`, at any time; the
///   backlog is at most one change per prefix. Call [`Rib::set_forwards`] with `false` if the
///   changes are not needed.
/// * Time enters by calls only: [`Rib::stale`] when the session layer reports the end of a waiting
///   time, and [`Rib::hold_markers`] after a restart of this node.
#[derive(Clone, Debug)]
pub struct Rib {
    pub(crate) config: RibConfig,
    pub(crate) cluster: Arc<ClusterPolicy>,
    /// Policies of peers, with or without a session.
    pub(crate) policies: HashMap<PeerId, Arc<PeerPolicy>, FixedState>,
    pub(crate) exports: ExportPolicies,
    /// Reports about prefix limits, until they are taken with [`Rib::next_limit`].
    pub(crate) limits: VecDeque<PrefixLimitReport>,
    pub(crate) sources: Sources,
    pub(crate) table: Table,
    pub(crate) interner: AttrInterner,
    pub(crate) groups: HashMap<GroupKey, Group, FixedState>,
    /// Marked prefixes in order of processing.
    pub(crate) dirty: VecDeque<u32>,
    /// Number of prefixes at the front of `dirty` that are advertised again even if the best path
    /// is the same, since the configuration or a peer's role has changed.
    pub(crate) reexport: usize,
    /// Number of prefixes at the front of `dirty` to which import policy is applied again.
    pub(crate) reimport_count: usize,
    /// Sessions that ended, and the position of the search for their paths.
    pub(crate) leaving: VecDeque<(SourceIx, u32)>,
    /// End-of-RIB is held back for peers that would then remove our old routes.
    pub(crate) holds_markers: bool,
    /// Prefixes whose best path has changed since the last [`Rib::best_changes`].
    forward: VecDeque<u32>,
    /// Changes of best paths are recorded.
    forwards: bool,
    /// Tunnel exits of multipath routes.
    pub(crate) multipath_exits: MultipathExits,
    /// Prefixes originated by this node: local blocks, and the static table.
    pub(crate) originated: [HashSet<IpNet, FixedState>; 2],
    /// Static paths that are used as soon as BGP has sent a path to the same prefix, even if that
    /// is lost again.
    pub(crate) awaited: HashMap<IpNet, IpAddr, FixedState>,
    /// Static prefixes that are suppressed because this owner has withdrawn them.
    pub(crate) suppressed: HashMap<IpNet, IpAddr, FixedState>,
    pub(crate) removed: u64,
    pub(crate) path_ids: PathIds,
    pub(crate) add_path_peers: AddPathPeers,
    /// Number of ignored paths, because their session had too many paths to the prefix.
    pub(crate) ignored_paths: u64,
    changes: Vec<PathChange>,
}

impl Rib {
    /// Creates an empty RIB.
    pub fn new(config: RibConfig) -> Rib {
        Rib {
            config,
            cluster: Arc::default(),
            policies: HashMap::default(),
            exports: ExportPolicies::default(),
            limits: VecDeque::new(),
            sources: Sources::default(),
            table: Table::default(),
            interner: AttrInterner::default(),
            groups: HashMap::default(),
            dirty: VecDeque::new(),
            reexport: 0,
            reimport_count: 0,
            leaving: VecDeque::new(),
            holds_markers: false,
            forward: VecDeque::new(),
            forwards: true,
            multipath_exits: MultipathExits::default(),
            originated: [HashSet::default(), HashSet::default()],
            awaited: HashMap::default(),
            suppressed: HashMap::default(),
            removed: 0,
            path_ids: PathIds::default(),
            add_path_peers: AddPathPeers::default(),
            ignored_paths: 0,
            changes: Vec::new(),
        }
    }

    /// Sets whether changes of best paths are recorded; initially they are.
    pub fn set_forwards(&mut self, forwards: bool) {
        self.forwards = forwards;
    }

    /// Replaces the configuration; sessions are kept.
    pub fn configure(&mut self, config: RibConfig) {
        let same = |other: &RibConfig| RibConfig { multipath: config.multipath, ..other.clone() } == config;
        let shared = self.config.multipath != config.multipath;
        let advertised = !same(&self.config);
        self.config = config;
        if advertised {
            self.mark_all();
        } else if shared {
            // The change affects forwarding only.
            self.mark_used();
        }
    }

    pub(crate) fn mark(&mut self, ix: u32) {
        if self.table.mark(ix, Mark::Dirty) {
            self.dirty.push_back(ix);
        }
    }

    /// Marks all prefixes for import policy, decision and export.
    pub(crate) fn mark_all(&mut self) {
        self.mark_for_import();
        self.add_path_peers.forget();
        self.reexport = self.dirty.len();
    }

    /// Marks all prefixes for import policy and decision.
    pub(crate) fn mark_for_import(&mut self) {
        self.mark_used();
        self.reimport_count = self.dirty.len();
    }

    /// Marks all prefixes for decision.
    pub(crate) fn mark_used(&mut self) {
        for ix in 0..self.table.end() {
            if self.table.is_used(ix) {
                self.mark(ix);
            }
        }
    }

    /// Replaces the paths of [`Source::Local`] or [`Source::Static`]: prefixes and next hops.
    pub fn originate(&mut self, source: Source, paths: &[(IpNet, IpAddr)]) {
        let (source, at) = match source {
            Source::Local => (SourceIx::LOCAL, 0),
            Source::Static => (SourceIx::STATIC, 1),
            Source::Peer(_) => return,
        };
        let wanted: HashSet<IpNet, FixedState> = paths.iter().map(|(prefix, _)| *prefix).collect();
        for prefix in std::mem::take(&mut self.originated[at]).difference(&wanted) {
            if let Some(ix) = self.table.find(prefix) {
                self.take(ix, source);
            }
        }
        self.originated[at] = wanted;
        if source == SourceIx::STATIC {
            let wanted = &self.originated[1];
            self.suppressed.retain(|prefix, _| wanted.contains(prefix));
        }
        for (prefix, next_hop) in paths {
            if source == SourceIx::STATIC && self.is_suppressed(prefix, *next_hop) {
                continue;
            }
            let mut set = AttrSet::originated(*next_hop);
            if source == SourceIx::LOCAL {
                if let Some(encapsulation) = self.cluster.encapsulation {
                    let octets = encapsulation.added_to(set.canonical(), *next_hop);
                    set = AttrSet::from_canonical(&octets, *next_hop);
                }
                let communities = self.cluster.communities_of(prefix);
                if !communities.is_empty() {
                    set =
                        AttrSet::from_canonical(&with_communities(set.canonical(), &communities), *next_hop);
                }
                if self.cluster.draining {
                    set = AttrSet::from_canonical(&shut_down(set.canonical()), *next_hop);
                }
            }
            let attrs = self.interner.intern(&Arc::new(set));
            self.put(prefix, RibPath::new(attrs, source, None));
            self.interner.release(attrs);
        }
    }

    /// Processes End-of-RIB of a peer: stale paths of the family are removed.
    pub fn end_of_rib(&mut self, id: PeerId, family: Family) {
        if let Some(member) = self.sources.by_id_mut(id) {
            member.end_of_rib.insert(family);
            self.drop_stale(id, family.into());
        }
    }

    /// Returns whether a peer has sent End-of-RIB for every family of its session.
    pub fn is_synced(&self, id: PeerId) -> bool {
        self.sources.by_id(id).is_some_and(|member| member.end_of_rib == member.session.families)
    }

    /// Returns whether this node, after a restart, need not wait any longer for a peer before it
    /// sends End-of-RIB itself (RFC 4724 §4.1): the peer has sent End-of-RIB, or never will, or has
    /// restarted too and may be waiting for ours.
    pub fn is_caught_up(&self, id: PeerId) -> bool {
        let Some(member) = self.sources.by_id(id) else { return false };
        !member.session.restarts || member.session.restarting || self.is_synced(id)
    }

    /// Processes a ROUTE-REFRESH of a peer. Call [`Rib::resume`] afterwards.
    pub fn refresh(&mut self, id: PeerId, family: Family) {
        let Some((key, session)) = self.sources.by_id(id).map(|member| (member.key(), member.session)) else {
            return;
        };
        if self.add_path_peers.refresh(id, family, self.table.end(), session.marks_refresh) {
            return;
        }
        if let Some(group) = self.groups.get_mut(&key) {
            group.refresh(id, self.table.end(), family, session.marks_refresh);
        }
    }

    /// Sends pending changes to a peer. Returns whether all were sent; otherwise call again when
    /// the peer's channel has capacity.
    pub fn resume(&mut self, id: PeerId, delivery: &mut impl Delivery) -> bool {
        let Some(key) = self.sources.by_id(id).map(|member| member.key()) else { return true };
        let Rib { config, cluster, exports, table, interner, sources, groups, add_path_peers, .. } = self;
        let view = ExportView { config, cluster, exports, table, interner, sources, reexport: false };
        groups.get_mut(&key).is_none_or(|group| group.resume(id, key, view, delivery))
            && add_path_peers.resume(id, key, view, delivery)
    }

    /// Processes at most `budget` marked prefixes: selects their best paths and advertises changes
    /// to peers. Returns whether no marked prefix is left. See [`Rib::best_changes`] for the
    /// changes in forwarding.
    pub fn run(&mut self, budget: usize, delivery: &mut impl Delivery) -> bool {
        if !self.leaving.is_empty() {
            self.sweep(budget);
        }
        let mut count = budget.min(self.dirty.len());
        let reexport = self.reexport > 0;
        if reexport {
            count = count.min(self.reexport);
            self.reexport -= count;
        }
        if self.reimport_count > 0 {
            let reimported = count.min(self.reimport_count);
            self.reimport_count -= reimported;
            self.reimport(reimported);
        }
        if !self.add_path_peers.is_empty() {
            self.dirty.iter().take(count).for_each(|ix| self.add_path_peers.note(self.table.prefix(*ix)));
        }
        self.decide(count, reexport);
        self.advertise(reexport, delivery);
        if count > 0 && !self.add_path_peers.is_empty() {
            let Rib { config, cluster, exports, table, interner, sources, add_path_peers, .. } = self;
            let view = ExportView { config, cluster, exports, table, interner, sources, reexport };
            add_path_peers.send(view, |id| sources.by_id(id).map(Member::key), delivery);
        }
        let done = self.dirty.is_empty() && self.is_swept();
        if done {
            while let Some((source, _)) = self.leaving.pop_front() {
                // No prefix is marked, so no path of this source is advertised any more.
                self.sources.forget(source);
            }
            self.dirty.shrink_to(budget);
            self.changes.shrink_to(budget);
        }
        done
    }

    /// Selects the best paths of the first `count` marked prefixes; changes to advertise are added
    /// to `changes`.
    fn decide(&mut self, count: usize, reexport: bool) {
        self.changes.clear();
        let mut scratch = SelectScratch::default();
        let limit = if self.forwards { self.config.multipath } else { 1 };
        for ix in self.dirty.drain(..count) {
            self.table.unmark(ix, Mark::Dirty);
            // Most prefixes have one path, so there is nothing to compare.
            let after = match single_path(&self.table, &self.sources, ix) {
                Some(single_path) if !self.table.is_marked(ix, Mark::Multipath) => single_path,
                _ => {
                    let (table, sources) = (&self.table, &self.sources);
                    let after = select_best(table, &self.interner, sources, ix, limit, &mut scratch);
                    let shared = scratch.exits.len() > 1;
                    if (shared || table.is_marked(ix, Mark::Multipath))
                        && self.multipath_exits.set(ix, &scratch.exits)
                    {
                        match shared {
                            true => _ = self.table.mark(ix, Mark::Multipath),
                            false => self.table.unmark(ix, Mark::Multipath),
                        }
                        if self.forwards && self.table.mark(ix, Mark::Forward) {
                            self.forward.push_back(ix);
                        }
                    }
                    after
                }
            };
            let before = self.table.advertised(ix);
            let again = !before.is_none() && after != before && !reexport;
            if again && self.sources.are_advertised_alike(before, after) {
                // The route was received again in a new session of the same peer: no change for
                // other peers.
                let family = self.table.family(ix);
                self.sources.count_advertised(after.source(), family, after.scope(), 1);
                self.sources.uncount_advertised(before.source(), family, before.scope(), 1);
                self.table.set_advertised(ix, after);
            } else if after != before || reexport && !after.is_none() {
                self.changes.push(PathChange { ix, before, after, family: self.table.family(ix) });
            } else {
                self.table.remove_if_unused(ix);
            }
        }
    }

    /// Advertises `changes` to peers, and records those that affect forwarding.
    fn advertise(&mut self, reexport: bool, delivery: &mut impl Delivery) {
        if self.changes.is_empty() {
            return;
        }
        // Adjacent prefixes mostly have the same path, and are counted together.
        let (mut advertised, mut withdrawn) = (PathRun::default(), PathRun::default());
        for change in &self.changes {
            let PathChange { ix, before, after, family } = *change;
            if after == before {
                continue;
            }
            if !after.is_none()
                && let Some(PathRun { path, family, count }) = advertised.add(after, family)
            {
                self.interner.retain_for(path.attrs(), count);
                self.sources.count_advertised(path.source(), family, path.scope(), count);
            }
            if !before.is_none()
                && let Some(PathRun { path, family, count }) = withdrawn.add(before, family)
            {
                self.sources.uncount_advertised(path.source(), family, path.scope(), count);
            }
            self.table.set_advertised(ix, after);
            let exit = |path: RibPath| {
                let discards = || self.interner.set(path.attrs()).well_known.blackhole;
                (!path.is_none()).then(|| (exit_of(&self.sources, &self.interner, path), discards()))
            };
            let same = after.source() == before.source() && exit(after) == exit(before);
            if self.forwards && !same && self.table.mark(ix, Mark::Forward) {
                self.forward.push_back(ix);
            }
        }
        if !advertised.path.is_none() {
            self.interner.retain_for(advertised.path.attrs(), advertised.count);
            self.sources.count_advertised(
                advertised.path.source(),
                advertised.family,
                advertised.path.scope(),
                advertised.count,
            );
        }
        if !withdrawn.path.is_none() {
            self.sources.uncount_advertised(
                withdrawn.path.source(),
                withdrawn.family,
                withdrawn.path.scope(),
                withdrawn.count,
            );
        }
        self.changes.sort_unstable_by_key(PathChange::order);
        let Rib { config, cluster, exports, table, interner, sources, groups, changes, .. } = self;
        let view = ExportView { config, cluster, exports, table, interner, sources, reexport };
        for (key, group) in groups {
            group.send(*key, view, changes, delivery);
        }
        for PathChange { ix, before, after, .. } in &self.changes {
            if after != before && !before.is_none() {
                self.interner.release(before.attrs());
            }
            if after.is_none() {
                self.table.remove_if_unused(*ix);
            }
        }
    }

    /// Takes at most `limit` changes of best paths; a prefix that has changed several times is in
    /// the result once.
    pub fn best_changes(&mut self, limit: usize, changes: &mut Vec<BestChange>) {
        let count = limit.min(self.forward.len());
        changes.reserve(count);
        // Adjacent prefixes mostly have the same path.
        let mut last = (RibPath::NONE, None);
        for ix in self.forward.drain(..count) {
            self.table.unmark(ix, Mark::Forward);
            let advertised = self.table.advertised(ix);
            if advertised != last.0 {
                let best = (!advertised.is_none()).then(|| Best {
                    source: self.sources.source(advertised.source()),
                    kind: self.sources.kind(advertised.source()),
                    exit: exit_of(&self.sources, &self.interner, advertised),
                    discards: self.interner.set(advertised.attrs()).well_known.blackhole,
                    next_hop: self.interner.set(advertised.attrs()).next_hop,
                });
                last = (advertised, best);
            }
            let mut others = Box::default();
            if self.table.is_marked(ix, Mark::Multipath)
                && let Some(best) = last.1
            {
                let exits = self.multipath_exits.of(ix).iter().copied();
                others = exits.filter(|exit| *exit != best.exit).collect();
            }
            changes.push(BestChange { prefix: self.table.prefix(ix), best: last.1, others });
            if advertised.is_none() {
                self.table.remove_if_unused(ix);
            }
        }
        if self.forward.is_empty() {
            self.forward.shrink_to(limit);
        }
    }

    /// Returns whether [`Rib::best_changes`] will return a change.
    pub fn has_best_changes(&self) -> bool {
        !self.forward.is_empty()
    }
}

/// Run of prefixes of a family with the same path.
#[derive(Clone, Copy)]
struct PathRun {
    path: RibPath,
    family: Family,
    count: usize,
}

impl Default for PathRun {
    fn default() -> PathRun {
        PathRun { path: RibPath::NONE, family: Family::Ipv4Unicast, count: 0 }
    }
}

impl PathRun {
    /// Adds a prefix; returns the previous run if that had another path or family.
    #[inline]
    fn add(&mut self, path: RibPath, family: Family) -> Option<PathRun> {
        if (self.path, self.family) == (path, family) {
            self.count += 1;
            return None;
        }
        let before = std::mem::replace(self, PathRun { path, family, count: 1 });
        (!before.path.is_none()).then_some(before)
    }
}
