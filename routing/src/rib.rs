//! The routing information base: every path, the chosen one of each prefix, and who is told.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use bgp::{Family, PeerId};
use foldhash::fast::FixedState;
use hashbrown::hash_map::Entry as MapEntry;
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use crate::attrs::AttrSet;
use crate::batch::RouteBatch;
use crate::config::RibConfig;
use crate::decide::{Candidate, Rank, select};
use crate::exports::Exports;
use crate::group::{Change, Group, GroupKey, View};
use crate::import::{self, Judge, Judgement};
use crate::interner::Interner;
use crate::limits::LimitReached;
use crate::outbox::{Delivery, Outbox};
use crate::path::{Best, BestChange, PeerSession, Source};
use crate::policy::{ClusterPolicy, PeerPolicy, with_communities};
use crate::source::{SourceIx, Sources};
use crate::table::{Mark, Path, Put, Table};

/// Places looked at for each prefix of a budget, when the paths of a session that ended are sought.
const SWEEP: usize = 8;

/// The RIB. Inputs mark prefixes; [`Rib::run`] decides on the marked ones and tells what changed.
#[derive(Debug)]
pub struct Rib {
    pub(crate) config: RibConfig,
    pub(crate) cluster: Arc<ClusterPolicy>,
    /// What is configured for peers, whether they have a session or not.
    pub(crate) policies: HashMap<PeerId, Arc<PeerPolicy>, FixedState>,
    pub(crate) exports: Exports,
    /// Peers that have reached a limit, to be told to whoever runs their sessions.
    pub(crate) limits: VecDeque<LimitReached>,
    pub(crate) sources: Sources,
    pub(crate) table: Table,
    pub(crate) interner: Interner,
    pub(crate) groups: HashMap<GroupKey, Group, FixedState>,
    /// Marked prefixes, the first to be decided on first.
    dirty: VecDeque<u32>,
    /// So many of the first of them are told anew even where the best path is the same: what depends
    /// on the configuration or on a peer's role may differ.
    pub(crate) reexport: usize,
    /// So many of the first of them are judged anew: what import policy depends on may differ.
    pub(crate) rejudge: usize,
    /// Sessions that ended, and where the search for their paths is.
    leaving: VecDeque<(SourceIx, u32)>,
    /// Prefixes whose best path changed and that forwarding was not told of.
    forward: VecDeque<u32>,
    /// Somebody asks for them.
    forwards: bool,
    /// What this node originates: own blocks, the static table.
    originated: [HashSet<IpNet, FixedState>; 2],
    pub(crate) removed: u64,
    changes: Vec<Change>,
}

impl Rib {
    /// An empty one.
    pub fn new(config: RibConfig) -> Rib {
        Rib {
            config,
            cluster: Arc::default(),
            policies: HashMap::default(),
            exports: Exports::default(),
            limits: VecDeque::new(),
            sources: Sources::default(),
            table: Table::default(),
            interner: Interner::default(),
            groups: HashMap::default(),
            dirty: VecDeque::new(),
            reexport: 0,
            rejudge: 0,
            leaving: VecDeque::new(),
            forward: VecDeque::new(),
            forwards: true,
            originated: [HashSet::default(), HashSet::default()],
            removed: 0,
            changes: Vec::new(),
        }
    }

    /// Whether somebody asks for changes of best paths; at first that is so.
    pub fn set_forwards(&mut self, forwards: bool) {
        self.forwards = forwards;
    }

    /// Takes a new configuration; sessions stay.
    pub fn configure(&mut self, config: RibConfig) {
        if self.config != config {
            self.config = config;
            self.mark_all();
        }
    }

    fn mark(&mut self, ix: u32) {
        if self.table.mark(ix, Mark::Dirty) {
            self.dirty.push_back(ix);
        }
    }

    pub(crate) fn mark_all(&mut self) {
        self.mark_for_judgement();
        self.reexport = self.dirty.len();
    }

    /// Every path is to be judged anew.
    pub(crate) fn mark_for_judgement(&mut self) {
        for ix in 0..self.table.end() {
            if self.table.is_used(ix) {
                self.mark(ix);
            }
        }
        self.rejudge = self.dirty.len();
    }

    /// A session is Established: the peer gets everything, then End-of-RIB. Call [`Rib::resume`] next.
    pub fn peer_up(&mut self, id: PeerId, session: PeerSession) {
        self.peer_down(id);
        let policy = self.policies.get(&id).cloned().unwrap_or_default();
        let export = self.exports.take(&policy.export);
        self.sources.enter(id, session, policy, export);
        let group = self.groups.entry(GroupKey::of(&session, export)).or_default();
        group.join(id, self.table.end(), session.families);
    }

    /// A session ended: its paths count no more, [`Rib::run`] takes them out.
    pub fn peer_down(&mut self, id: PeerId) {
        let Some(ix) = self.sources.leave(id) else { return };
        if let Some(key) = self.sources.member(ix).map(|member| member.key()) {
            self.leave_group(id, key);
            self.exports.release(key.export);
        }
        self.leaving.push_back((ix, 0));
    }

    /// Takes a peer out of its group; its arrears.
    pub(crate) fn leave_group(&mut self, id: PeerId, key: GroupKey) -> Option<Outbox> {
        let MapEntry::Occupied(mut group) = self.groups.entry(key) else { return None };
        let outbox = group.get_mut().leave(id);
        if group.get().is_empty() {
            group.remove();
        }
        outbox
    }

    /// Looks for the paths of sessions that ended, as far as `budget` prefixes go.
    fn sweep(&mut self, budget: usize) {
        let mut places = budget.saturating_mul(SWEEP);
        let mut found = 0;
        for at in 0..self.leaving.len() {
            let (source, start) = self.leaving[at];
            let left = |rib: &Rib| rib.sources.member(source).map_or(0, |member| member.received);
            let mut ix = start;
            while left(self) > 0 && ix < self.table.end() && places > 0 && found < budget {
                if self.table.may_have(ix, source) {
                    found += usize::from(self.take(ix, source));
                }
                ix += 1;
                places -= 1;
            }
            self.leaving[at].1 = ix;
        }
    }

    fn is_swept(&self) -> bool {
        let left =
            |(source, _): &(SourceIx, u32)| self.sources.member(*source).map_or(0, |member| member.received);
        self.leaving.iter().all(|leaving| left(leaving) == 0)
    }

    /// Whether a peer is our client may change while its session lasts.
    pub fn set_client(&mut self, id: PeerId, client: bool) {
        let Some(ix) = self.sources.find(id) else { return };
        let Some(member) = self.sources.member(ix) else { return };
        let old = member.session;
        let client = client && old.internal;
        if old.client == client {
            return;
        }
        let export = member.export;
        let outbox = self.leave_group(id, GroupKey::of(&old, export));
        self.sources.set_client(ix, client);
        let session = PeerSession { client, ..old };
        let group = self.groups.entry(GroupKey::of(&session, export)).or_default();
        group.take_over(id, self.table.end(), session.families, outbox.unwrap_or_default());
        self.mark_all();
    }

    /// Routes that a peer announced and withdrew.
    pub fn routes(&mut self, id: PeerId, batch: &RouteBatch) {
        let Some(source) = self.sources.find(id) else { return };
        let Some(member) = self.sources.member(source).filter(|member| !member.over_limit) else { return };
        let (session, policy) = (member.session, Arc::clone(&member.policy));
        for (attrs, prefixes) in batch.runs() {
            match attrs {
                Some(attrs) => {
                    self.announced(source, session, &policy, attrs, prefixes);
                    if self.sources.member(source).is_none_or(|member| member.over_limit) {
                        return;
                    }
                }
                None => prefixes.iter().for_each(|prefix| {
                    if let Some(ix) = self.table.find(prefix) {
                        self.take(ix, source);
                    }
                }),
            }
        }
    }

    /// Prefixes that a peer announced with one attribute set.
    fn announced(
        &mut self,
        source: SourceIx,
        session: PeerSession,
        policy: &PeerPolicy,
        attrs: &Arc<AttrSet>,
        prefixes: &[IpNet],
    ) {
        let cluster = Arc::clone(&self.cluster);
        let judge = Judge::new(&self.config, &cluster, &policy.import, session, attrs);
        if let Some(common) = judge.common()
            && policy.max_prefixes.is_none()
        {
            // The family matters to rules alone, and there is none.
            let path = judged(&mut self.interner, &judge, common, Family::Ipv4Unicast, attrs, source);
            prefixes.iter().for_each(|prefix| self.put(prefix, path));
            self.interner.release(path.attrs());
            return;
        }
        let mut held = Vec::new();
        // Neighbours mostly have one verdict in common.
        let mut last: Option<(Judgement, Family, Path)> = None;
        for prefix in prefixes {
            let judgement = judge.judge(prefix);
            let family = Family::of(prefix);
            let path = match last {
                Some((same, of, path)) if same == judgement && of == family => path,
                _ => {
                    let path = judged(&mut self.interner, &judge, judgement, family, attrs, source);
                    held.push(path.attrs());
                    path
                }
            };
            last = Some((judgement, family, path));
            if policy.max_prefixes.is_none() {
                self.put(prefix, path);
            } else if !self.put_limited(prefix, path) {
                break;
            }
        }
        held.into_iter().for_each(|attrs| self.interner.release(attrs));
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
        for (prefix, next_hop) in paths {
            let mut set = AttrSet::originated(*next_hop);
            if source == SourceIx::LOCAL {
                let communities = self.cluster.communities_of(prefix);
                if !communities.is_empty() {
                    set =
                        AttrSet::from_canonical(&with_communities(set.canonical(), &communities), *next_hop);
                }
            }
            let attrs = self.interner.intern(&Arc::new(set));
            self.put(prefix, Path::new(attrs, source, None));
            self.interner.release(attrs);
        }
    }

    fn put(&mut self, prefix: &IpNet, path: Path) {
        let ix = self.table.find_or_insert(prefix);
        self.put_at(ix, path);
    }

    /// The same from a peer that may have so many prefixes; `false`: it may have no more.
    fn put_limited(&mut self, prefix: &IpNet, path: Path) -> bool {
        let known = self.table.find(prefix).filter(|ix| self.table.has(*ix, path.source()));
        match known {
            Some(ix) => self.put_at(ix, path),
            None if self.is_full(path.source()) => return false,
            None => {
                self.put(prefix, path);
                self.note_limit(path.source());
            }
        }
        true
    }

    fn put_at(&mut self, ix: u32, path: Path) {
        let before = match self.table.put(ix, path) {
            Put::Same => return,
            Put::New => None,
            Put::Replaced(before) => Some(before),
        };
        self.interner.retain(path.attrs());
        if let Some(member) = self.sources.member_mut(path.source()) {
            member.received += usize::from(before.is_none());
            member.accepted += usize::from(path.rejected().is_none());
            member.accepted -= usize::from(before.is_some_and(|before| before.rejected().is_none()));
            if path.is_disputed() || before.is_some_and(Path::is_disputed) {
                member.disputed += usize::from(path.is_disputed());
                member.disputed -= usize::from(before.is_some_and(Path::is_disputed));
            }
        }
        if let Some(before) = before {
            self.interner.release(before.attrs());
        }
        self.mark(ix);
    }

    /// Whether there was a path from this source.
    fn take(&mut self, ix: u32, source: SourceIx) -> bool {
        let Some(gone) = self.table.take(ix, source) else { return false };
        if let Some(member) = self.sources.member_mut(source) {
            member.received -= 1;
            member.accepted -= usize::from(gone.rejected().is_none());
            member.disputed -= usize::from(gone.is_disputed());
        }
        self.removed += 1;
        self.interner.release(gone.attrs());
        self.mark(ix);
        true
    }

    /// A peer has sent all its routes of a family.
    pub fn end_of_rib(&mut self, id: PeerId, family: Family) {
        if let Some(member) = self.sources.by_id_mut(id) {
            member.end_of_rib.insert(family);
        }
    }

    /// Whether a peer has sent End-of-RIB for every family of its session.
    pub fn is_synced(&self, id: PeerId) -> bool {
        self.sources.by_id(id).is_some_and(|member| member.end_of_rib == member.session.families)
    }

    /// A peer asks for all routes of a family. Call [`Rib::resume`] next.
    pub fn refresh(&mut self, id: PeerId, family: Family) {
        let Some(key) = self.sources.by_id(id).map(|member| member.key()) else { return };
        if let Some(group) = self.groups.get_mut(&key) {
            group.refresh(id, self.table.end(), family);
        }
    }

    /// Tells a peer what it has not been told yet; whether it is told all, else call again when
    /// there is room.
    pub fn resume(&mut self, id: PeerId, delivery: &mut impl Delivery) -> bool {
        let Some(key) = self.sources.by_id(id).map(|member| member.key()) else { return true };
        let Rib { config, cluster, exports, table, interner, sources, .. } = self;
        let view = View { config, cluster, exports, table, interner, sources, reexport: false };
        self.groups.get_mut(&key).is_none_or(|group| group.resume(id, key, view, delivery))
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
        if self.rejudge > 0 {
            let judged = count.min(self.rejudge);
            self.rejudge -= judged;
            self.judge_anew(judged);
        }
        self.decide(count, reexport);
        self.tell(reexport, delivery);
        let done = self.dirty.is_empty() && self.is_swept();
        if done {
            while let Some((source, _)) = self.leaving.pop_front() {
                // Nothing is dirty, so what was told is from sessions that last.
                self.sources.forget(source);
            }
            self.dirty.shrink_to(budget);
            self.changes.shrink_to(budget);
        }
        done
    }

    /// Whether the paths of the first `count` marked prefixes may be used may have changed.
    fn judge_anew(&mut self, count: usize) {
        let mut paths: Vec<Path> = Vec::new();
        for ix in self.dirty.iter().take(count) {
            paths.clear();
            paths.extend(self.table.paths(*ix));
            for path in &paths {
                let Some(member) = self.sources.member_mut(path.source()) else { continue };
                let used = self.interner.shared(path.attrs());
                let received = Arc::clone(used.received().unwrap_or(used));
                let (session, policy) = (member.session, Arc::clone(&member.policy));
                let judge = Judge::new(&self.config, &self.cluster, &policy.import, session, &received);
                let prefix = self.table.prefix(*ix);
                let judgement = judge.judge(&prefix);
                let family = Family::of(&prefix);
                let judged = judged(&mut self.interner, &judge, judgement, family, &received, path.source());
                member.accepted -= usize::from(path.rejected().is_none());
                member.accepted += usize::from(judged.rejected().is_none());
                member.disputed -= usize::from(path.is_disputed());
                member.disputed += usize::from(judged.is_disputed());
                self.table.put(*ix, judged);
                // The use that the table had is now that of the new one.
                self.interner.release(path.attrs());
            }
        }
    }

    /// Decides on the first `count` marked prefixes; what is to be told anew goes to `changes`.
    fn decide(&mut self, count: usize, reexport: bool) {
        self.changes.clear();
        let mut room = Room::default();
        for ix in self.dirty.drain(..count) {
            self.table.unmark(ix, Mark::Dirty);
            let after = choose(&self.table, &self.interner, &self.sources, ix, &mut room);
            let before = self.table.told(ix);
            if after != before || reexport && !after.is_none() {
                self.changes.push(Change { ix, before, after, family: self.table.family(ix) });
            } else {
                self.table.remove_if_unused(ix);
            }
        }
    }

    /// Tells `changes` to the peers, and notes which of them forwarding must know.
    fn tell(&mut self, reexport: bool, delivery: &mut impl Delivery) {
        if self.changes.is_empty() {
            return;
        }
        for change in &self.changes {
            let Change { ix, before, after, family } = *change;
            if after == before {
                continue;
            }
            if !after.is_none() {
                self.interner.retain(after.attrs());
                self.sources.tell(after.source(), family, after.scope());
            }
            if !before.is_none() {
                self.sources.untell(before.source(), family, before.scope());
            }
            self.table.set_told(ix, after);
            let next_hop = |path: Path| (!path.is_none()).then(|| self.interner.set(path.attrs()).next_hop);
            let same = after.source() == before.source() && next_hop(after) == next_hop(before);
            if self.forwards && !same && self.table.mark(ix, Mark::Forward) {
                self.forward.push_back(ix);
            }
        }
        self.changes.sort_unstable_by_key(Change::order);
        let Rib { config, cluster, exports, table, interner, sources, groups, changes, .. } = self;
        let view = View { config, cluster, exports, table, interner, sources, reexport };
        for (key, group) in groups {
            group.send(*key, view, changes, delivery);
        }
        for Change { ix, before, after, .. } in &self.changes {
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
        let mut last = (Path::NONE, None);
        for ix in self.forward.drain(..count) {
            self.table.unmark(ix, Mark::Forward);
            let told = self.table.told(ix);
            if told != last.0 {
                let best = (!told.is_none()).then(|| Best {
                    source: self.sources.source(told.source()),
                    kind: self.sources.kind(told.source()),
                    next_hop: self.interner.set(told.attrs()).next_hop,
                });
                last = (told, best);
            }
            changes.push(BestChange { prefix: self.table.prefix(ix), best: last.1 });
            if told.is_none() {
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

/// A peer's path as it is used; its attributes are used once more.
fn judged(
    interner: &mut Interner,
    judge: &Judge<'_>,
    judgement: Judgement,
    family: Family,
    received: &Arc<AttrSet>,
    source: SourceIx,
) -> Path {
    let derived = judge.changes(judgement).then(|| Arc::new(judge.derive(judgement, family, received)));
    let set = derived.as_ref().unwrap_or(received);
    let scope = import::scope_of(set);
    let path = Path::new(interner.intern(set), source, judgement.rejected).scoped(scope);
    if judgement.disputed { path.disputed() } else { path }
}

/// A path as the decision sees it; `None` for one that takes no part.
pub(crate) fn candidate<'a>(sources: &Sources, interner: &'a Interner, path: Path) -> Option<Candidate<'a>> {
    if path.rejected().is_some() {
        return None;
    }
    let attrs = interner.set(path.attrs());
    match path.source() {
        SourceIx::LOCAL => Some(Candidate::unpeered(Rank::Local, attrs)),
        SourceIx::STATIC => Some(Candidate::unpeered(Rank::Static, attrs)),
        source => sources.member(source).filter(|member| !member.leaving).map(|member| Candidate {
            rank: Rank::Bgp,
            attrs,
            external: !member.session.internal,
            router_id: member.session.router_id,
            address: member.session.address,
        }),
    }
}

/// Room for the paths of a prefix, used again.
#[derive(Default)]
struct Room<'a> {
    paths: Vec<Path>,
    candidates: Vec<Candidate<'a>>,
    field: Vec<usize>,
}

/// The path to use, or [`Path::NONE`].
fn choose<'a>(
    table: &Table,
    interner: &'a Interner,
    sources: &Sources,
    ix: u32,
    room: &mut Room<'a>,
) -> Path {
    // Most prefixes have one path; it needs no comparing.
    if let Some(only) = table.only(ix) {
        let usable = !only.is_none() && only.rejected().is_none() && sources.is_usable(only.source());
        return if usable { only } else { Path::NONE };
    }
    room.paths.clear();
    room.candidates.clear();
    for path in table.paths(ix) {
        if let Some(candidate) = candidate(sources, interner, path) {
            room.paths.push(path);
            room.candidates.push(candidate);
        }
    }
    select(&room.candidates, &mut room.field, |_, _| {}).map_or(Path::NONE, |at| room.paths[at])
}
