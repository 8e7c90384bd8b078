//! The routing information base: every path, the chosen one of each prefix, and who is told.

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
use crate::policy::LimitReached;
use crate::policy::{ClusterPolicy, PeerPolicy, shut_down, with_communities};
use crate::source::{Member, Sources};
use crate::table::{Mark, RibPath, Table};

/// The RIB. Inputs mark prefixes; [`Rib::run`] decides on the marked ones and tells what changed.
#[derive(Clone, Debug)]
pub struct Rib {
    pub(crate) config: RibConfig,
    pub(crate) cluster: Arc<ClusterPolicy>,
    /// What is configured for peers, whether they have a session or not.
    pub(crate) policies: HashMap<PeerId, Arc<PeerPolicy>, FixedState>,
    pub(crate) exports: ExportPolicies,
    /// Peers that have reached a limit, to be told to whoever runs their sessions.
    pub(crate) limits: VecDeque<LimitReached>,
    pub(crate) sources: Sources,
    pub(crate) table: Table,
    pub(crate) interner: AttrInterner,
    pub(crate) groups: HashMap<GroupKey, Group, FixedState>,
    /// Marked prefixes, the first to be decided on first.
    pub(crate) dirty: VecDeque<u32>,
    /// So many of the first of them are told anew even where the best path is the same: what depends
    /// on the configuration or on a peer's role may differ.
    pub(crate) reexport: usize,
    /// So many of the first of them are judged anew: what import policy depends on may differ.
    pub(crate) reimport_count: usize,
    /// Sessions that ended, and where the search for their paths is.
    pub(crate) leaving: VecDeque<(SourceIx, u32)>,
    /// End-of-RIB is not sent yet to peers that would drop what we have not sent again by then.
    pub(crate) holds_markers: bool,
    /// Prefixes whose best path changed and that forwarding was not told of.
    forward: VecDeque<u32>,
    /// Somebody asks for them.
    forwards: bool,
    /// Prefixes whose packets several exits share.
    pub(crate) multipath_exits: MultipathExits,
    /// What this node originates: own blocks, the static table.
    pub(crate) originated: [HashSet<IpNet, FixedState>; 2],
    /// Paths of the static table that count as soon as BGP has brought one to the same prefix, whatever comes of that.
    pub(crate) awaited: HashMap<IpNet, IpAddr, FixedState>,
    /// Prefixes of the static table that do not count because this owner has withdrawn them.
    pub(crate) suppressed: HashMap<IpNet, IpAddr, FixedState>,
    pub(crate) removed: u64,
    pub(crate) path_ids: PathIds,
    pub(crate) add_path_peers: AddPathPeers,
    /// Paths that were not taken because their session has as many to the prefix as it may.
    pub(crate) ignored_paths: u64,
    changes: Vec<PathChange>,
}

impl Rib {
    /// An empty one.
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

    /// Whether somebody asks for changes of best paths; at first that is so.
    pub fn set_forwards(&mut self, forwards: bool) {
        self.forwards = forwards;
    }

    /// Takes a new configuration; sessions stay.
    pub fn configure(&mut self, config: RibConfig) {
        let same = |other: &RibConfig| RibConfig { multipath: config.multipath, ..other.clone() } == config;
        let shared = self.config.multipath != config.multipath;
        let advertised = !same(&self.config);
        self.config = config;
        if advertised {
            self.mark_all();
        } else if shared {
            // Nobody but forwarding is concerned.
            self.mark_used();
        }
    }

    pub(crate) fn mark(&mut self, ix: u32) {
        if self.table.mark(ix, Mark::Dirty) {
            self.dirty.push_back(ix);
        }
    }

    /// Everything is to be decided on and told anew.
    pub(crate) fn mark_all(&mut self) {
        self.mark_for_import();
        self.add_path_peers.forget();
        self.reexport = self.dirty.len();
    }

    /// Every path is to be judged anew.
    pub(crate) fn mark_for_import(&mut self) {
        self.mark_used();
        self.reimport_count = self.dirty.len();
    }

    /// Everything is to be decided on.
    pub(crate) fn mark_used(&mut self) {
        for ix in 0..self.table.end() {
            if self.table.is_used(ix) {
                self.mark(ix);
            }
        }
    }

    /// The paths of [`Source::Local`] or [`Source::Static`] are from now on these: prefix and next hop.
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
                    let octets = encapsulation.announced(set.canonical(), *next_hop);
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

    /// A peer has sent all its routes of a family: what it has not sent again goes.
    pub fn end_of_rib(&mut self, id: PeerId, family: Family) {
        if let Some(member) = self.sources.by_id_mut(id) {
            member.end_of_rib.insert(family);
            self.drop_stale(id, family.into());
        }
    }

    /// Whether a peer has sent End-of-RIB for every family of its session.
    pub fn is_synced(&self, id: PeerId) -> bool {
        self.sources.by_id(id).is_some_and(|member| member.end_of_rib == member.session.families)
    }

    /// Whether nothing more of a peer has to be waited for before this node, after a restart, can tell
    /// others that it has told all it knows (RFC 4724 §4.1): it has sent End-of-RIB, or it never will, or
    /// it has restarted too and may be waiting for ours.
    pub fn is_caught_up(&self, id: PeerId) -> bool {
        let Some(member) = self.sources.by_id(id) else { return false };
        !member.session.restarts || member.session.restarting || self.is_synced(id)
    }

    /// A peer asks for all routes of a family. Call [`Rib::resume`] next.
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

    /// Tells a peer what it has not been told yet; whether it is told all, else call again when
    /// there is room.
    pub fn resume(&mut self, id: PeerId, delivery: &mut impl Delivery) -> bool {
        let Some(key) = self.sources.by_id(id).map(|member| member.key()) else { return true };
        let Rib { config, cluster, exports, table, interner, sources, groups, add_path_peers, .. } = self;
        let view = ExportView { config, cluster, exports, table, interner, sources, reexport: false };
        groups.get_mut(&key).is_none_or(|group| group.resume(id, key, view, delivery))
            && add_path_peers.resume(id, key, view, delivery)
    }

    /// Decides on at most `budget` marked prefixes and tells the peers; whether none is left. See
    /// [`Rib::best_changes`] for what forwarding must know.
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
            let imported_path = count.min(self.reimport_count);
            self.reimport_count -= imported_path;
            self.reimport(imported_path);
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
                // Nothing is dirty, so what was told is from sources that count.
                self.sources.forget(source);
            }
            self.dirty.shrink_to(budget);
            self.changes.shrink_to(budget);
        }
        done
    }

    /// Decides on the first `count` marked prefixes; what is to be told anew goes to `changes`.
    fn decide(&mut self, count: usize, reexport: bool) {
        self.changes.clear();
        let mut scratch = SelectScratch::default();
        let limit = if self.forwards { self.config.multipath } else { 1 };
        for ix in self.dirty.drain(..count) {
            self.table.unmark(ix, Mark::Dirty);
            // Most prefixes have one path; it needs no comparing.
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
                // What a peer has sent again after its session began anew is news to nobody.
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

    /// Tells `changes` to the peers, and notes which of them forwarding must know.
    fn advertise(&mut self, reexport: bool, delivery: &mut impl Delivery) {
        if self.changes.is_empty() {
            return;
        }
        // Neighbours mostly have one path in common, and are counted together.
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

    /// Takes at most `limit` changes of best paths that forwarding was not told of; a prefix that
    /// changed more than once is in it once.
    pub fn best_changes(&mut self, limit: usize, changes: &mut Vec<BestChange>) {
        let count = limit.min(self.forward.len());
        changes.reserve(count);
        // Neighbours mostly have one path in common.
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

    /// Whether [`Rib::best_changes`] has something.
    pub fn has_best_changes(&self) -> bool {
        !self.forward.is_empty()
    }
}

/// Prefixes of a family in a row that have a path in common.
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
    /// One more; those before it, if they are of another path or family.
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
