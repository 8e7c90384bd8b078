//! The routing information base: every path, the chosen one of each prefix, and who is told.

use std::net::IpAddr;
use std::sync::Arc;

use bgp::{Families, Family, PeerId};
use foldhash::fast::FixedState;
use hashbrown::hash_map::Entry as MapEntry;
use hashbrown::{HashMap, HashSet};
use ipnet::IpNet;

use crate::attrs::{AttrSet, Interner};
use crate::batch::RouteBatch;
use crate::config::RibConfig;
use crate::decide::{Candidate, Rank, select};
use crate::export::{self, Audience};
use crate::group::{Advertised, Group, GroupKey};
use crate::import;
use crate::outbox::Delivery;
use crate::path::{Best, BestChange, Path, PeerSession, Source, SourceKind};

/// A peer whose session is Established.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) session: PeerSession,
    /// Paths it has sent, rejected ones too.
    pub(crate) received: usize,
    /// Paths that may be used.
    pub(crate) accepted: usize,
    /// Families whose End-of-RIB marker it has sent.
    pub(crate) end_of_rib: Families,
}

#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) paths: Vec<Path>,
    /// Index of the chosen path's source and attributes, as they were told to everybody.
    pub(crate) best: Option<(Best, Arc<AttrSet>)>,
    dirty: bool,
}

/// The RIB. Inputs mark prefixes; [`Rib::run`] decides on the marked ones and tells what changed.
#[derive(Debug)]
pub struct Rib {
    pub(crate) config: RibConfig,
    pub(crate) members: HashMap<PeerId, Member, FixedState>,
    pub(crate) table: HashMap<IpNet, Entry, FixedState>,
    groups: HashMap<GroupKey, Group, FixedState>,
    pub(crate) interner: Interner,
    dirty: Vec<IpNet>,
    /// Marked prefixes are told anew even where the best path is the same: what depends on the
    /// configuration or on a peer's role may differ.
    reexport: bool,
}

impl Rib {
    /// An empty one.
    pub fn new(config: RibConfig) -> Rib {
        Rib {
            config,
            members: HashMap::default(),
            table: HashMap::default(),
            groups: HashMap::default(),
            interner: Interner::default(),
            dirty: Vec::new(),
            reexport: false,
        }
    }

    /// Takes a new configuration; sessions stay.
    pub fn configure(&mut self, config: RibConfig) {
        if self.config == config {
            return;
        }
        self.config = config;
        for entry in self.table.values_mut() {
            for path in &mut entry.paths {
                let Source::Peer(id) = path.source else { continue };
                let Some(member) = self.members.get_mut(&id) else { continue };
                let rejected = import::reject(&self.config, &path.attrs, member.session.internal);
                member.accepted -= usize::from(path.rejected.is_none());
                member.accepted += usize::from(rejected.is_none());
                path.rejected = rejected;
            }
        }
        self.mark_all();
    }

    fn mark_all(&mut self) {
        self.reexport = true;
        for (prefix, entry) in &mut self.table {
            if !std::mem::replace(&mut entry.dirty, true) {
                self.dirty.push(*prefix);
            }
        }
    }

    /// A session is Established: the peer gets everything, then End-of-RIB. Call [`Rib::resume`] next.
    pub fn peer_up(&mut self, id: PeerId, session: PeerSession) {
        self.peer_down(id);
        self.members.insert(id, Member { session, received: 0, accepted: 0, end_of_rib: Families::NONE });
        self.join(id, session, []);
    }

    fn join(&mut self, id: PeerId, session: PeerSession, told: impl IntoIterator<Item = IpNet>) {
        let key = group_key(&session);
        if let MapEntry::Vacant(vacant) = self.groups.entry(key) {
            let mut group = Group::default();
            let mut exports = Exports::default();
            for (prefix, entry) in &self.table {
                let advertised = exports.of(&self.config, &self.members, key, *prefix, entry.best.as_ref());
                group.set(*prefix, advertised);
            }
            // Nobody is there yet to be told.
            group.send(key.form, &mut Nobody);
            vacant.insert(group);
        }
        if let Some(group) = self.groups.get_mut(&key) {
            group.join(id, session.families, told);
        }
    }

    /// A session ended: its paths are gone.
    pub fn peer_down(&mut self, id: PeerId) {
        let Some(member) = self.members.remove(&id) else { return };
        let key = group_key(&member.session);
        if self.groups.get_mut(&key).is_some_and(|group| group.leave(id)) {
            self.groups.remove(&key);
        }
        if member.received == 0 {
            return;
        }
        for (prefix, entry) in &mut self.table {
            let Some(at) = entry.paths.iter().position(|path| path.source == Source::Peer(id)) else {
                continue;
            };
            self.interner.release(entry.paths.swap_remove(at).attrs);
            if !std::mem::replace(&mut entry.dirty, true) {
                self.dirty.push(*prefix);
            }
        }
    }

    /// Whether a peer is our client may change while its session lasts.
    pub fn set_client(&mut self, id: PeerId, client: bool) {
        let Some(member) = self.members.get_mut(&id) else { return };
        let old = member.session;
        let client = client && old.internal;
        if old.client == client {
            return;
        }
        member.session.client = client;
        let session = member.session;
        // Told to the peer in its old role, and to be withdrawn where its new one lacks them.
        let key = group_key(&old);
        let told: Vec<IpNet> =
            self.groups.get(&key).map(|group| group.advertised().collect()).unwrap_or_default();
        if self.groups.get_mut(&key).is_some_and(|group| group.leave(id)) {
            self.groups.remove(&key);
        }
        self.join(id, session, told);
        self.mark_all();
    }

    /// Routes that a peer announced and withdrew.
    pub fn routes(&mut self, id: PeerId, batch: &RouteBatch) {
        let Some(internal) = self.members.get(&id).map(|member| member.session.internal) else { return };
        for (attrs, prefixes) in batch.runs() {
            match attrs {
                Some(attrs) => {
                    let attrs = self.interner.intern(Arc::clone(attrs));
                    let rejected = import::reject(&self.config, &attrs, internal);
                    for prefix in prefixes {
                        let path = Path { source: Source::Peer(id), attrs: Arc::clone(&attrs), rejected };
                        self.put(*prefix, path);
                    }
                    self.interner.release(attrs);
                }
                None => prefixes.iter().for_each(|prefix| self.take(*prefix, Source::Peer(id))),
            }
        }
    }

    /// The paths of [`Source::Local`] or [`Source::Static`] are from now on these: prefix and next hop.
    pub fn originate(&mut self, source: Source, paths: &[(IpNet, IpAddr)]) {
        let wanted: HashSet<IpNet, FixedState> = paths.iter().map(|(prefix, _)| *prefix).collect();
        let gone: Vec<IpNet> = self
            .table
            .iter()
            .filter(|(_, entry)| entry.paths.iter().any(|path| path.source == source))
            .map(|(prefix, _)| *prefix)
            .filter(|prefix| !wanted.contains(prefix))
            .collect();
        gone.into_iter().for_each(|prefix| self.take(prefix, source));
        for (prefix, next_hop) in paths {
            let attrs = self.interner.intern(Arc::new(AttrSet::originated(*next_hop)));
            self.put(*prefix, Path { source, attrs, rejected: None });
        }
    }

    fn put(&mut self, prefix: IpNet, path: Path) {
        let entry = self.table.entry(prefix).or_default();
        let member = path.source.peer().and_then(|id| self.members.get_mut(&id));
        let known = entry.paths.iter_mut().find(|known| known.source == path.source);
        if let Some(known) = &known
            && Arc::ptr_eq(&known.attrs, &path.attrs)
            && known.rejected == path.rejected
        {
            return;
        }
        if let Some(member) = member {
            member.received += usize::from(known.is_none());
            member.accepted += usize::from(path.rejected.is_none());
            member.accepted -= usize::from(known.as_ref().is_some_and(|known| known.rejected.is_none()));
        }
        match known {
            Some(known) => {
                let old = std::mem::replace(known, path);
                self.interner.release(old.attrs);
            }
            None => entry.paths.push(path),
        }
        if !std::mem::replace(&mut entry.dirty, true) {
            self.dirty.push(prefix);
        }
    }

    fn take(&mut self, prefix: IpNet, source: Source) {
        let Some(entry) = self.table.get_mut(&prefix) else { return };
        let Some(at) = entry.paths.iter().position(|path| path.source == source) else { return };
        let gone = entry.paths.swap_remove(at);
        if let Some(member) = source.peer().and_then(|id| self.members.get_mut(&id)) {
            member.received -= 1;
            member.accepted -= usize::from(gone.rejected.is_none());
        }
        self.interner.release(gone.attrs);
        if !std::mem::replace(&mut entry.dirty, true) {
            self.dirty.push(prefix);
        }
    }

    /// A peer has sent all its routes of a family.
    pub fn end_of_rib(&mut self, id: PeerId, family: Family) {
        if let Some(member) = self.members.get_mut(&id) {
            member.end_of_rib.insert(family);
        }
    }

    /// Whether a peer has sent End-of-RIB for every family of its session.
    pub fn is_synced(&self, id: PeerId) -> bool {
        self.members.get(&id).is_some_and(|member| member.end_of_rib == member.session.families)
    }

    /// A peer asks for all routes of a family. Call [`Rib::resume`] next.
    pub fn refresh(&mut self, id: PeerId, family: Family) {
        let Some(member) = self.members.get(&id) else { return };
        if let Some(group) = self.groups.get_mut(&group_key(&member.session)) {
            group.refresh(id, family);
        }
    }

    /// Tells a peer what it has not been told yet; whether it is told all, else call again when
    /// there is room.
    pub fn resume(&mut self, id: PeerId, delivery: &mut impl Delivery) -> bool {
        let Some(member) = self.members.get(&id) else { return true };
        let key = group_key(&member.session);
        self.groups.get_mut(&key).is_none_or(|group| group.resume(id, key.form, delivery))
    }

    /// Decides on at most `budget` marked prefixes: `changes` gets what forwarding must know, the
    /// peers are told. Whether none is left.
    pub fn run(
        &mut self,
        budget: usize,
        delivery: &mut impl Delivery,
        changes: &mut Vec<BestChange>,
    ) -> bool {
        let start = self.dirty.len().saturating_sub(budget);
        let batch = self.dirty.split_off(start);
        let mut exports = Exports::default();
        for prefix in batch {
            let Some(entry) = self.table.get_mut(&prefix) else { continue };
            entry.dirty = false;
            let best = choose(&self.members, &entry.paths);
            let same = match (&best, &entry.best) {
                (Some((best, attrs)), Some((old, old_attrs))) => best == old && Arc::ptr_eq(attrs, old_attrs),
                (None, None) => true,
                _ => false,
            };
            if !same || self.reexport {
                let told = best.as_ref().map(|(best, _)| *best);
                if told != entry.best.as_ref().map(|(best, _)| *best) {
                    changes.push(BestChange { prefix, best: told });
                }
                for (key, group) in &mut self.groups {
                    let advertised = exports.of(&self.config, &self.members, *key, prefix, best.as_ref());
                    group.set(prefix, advertised);
                }
                if let Some((_, old)) = std::mem::replace(&mut entry.best, best) {
                    self.interner.release(old);
                }
            }
            if entry.paths.is_empty() {
                self.table.remove(&prefix);
            }
        }
        for (key, group) in &mut self.groups {
            group.send(key.form, delivery);
        }
        let done = self.dirty.is_empty();
        if done {
            self.reexport = false;
            self.dirty.shrink_to(budget);
            self.interner.sweep();
        }
        done
    }

    pub(crate) fn group_of(&self, id: PeerId) -> Option<&Group> {
        self.members.get(&id).and_then(|member| self.groups.get(&group_key(&member.session)))
    }
}

fn group_key(session: &PeerSession) -> GroupKey {
    let audience = match session.kind() {
        SourceKind::Client => Audience::Client,
        SourceKind::Ibgp => Audience::Internal,
        SourceKind::Ebgp | SourceKind::Local | SourceKind::Static => Audience::External,
    };
    GroupKey { audience, form: session.form, families: session.families }
}

type Members = HashMap<PeerId, Member, FixedState>;

/// A path as the decision sees it; `None` for one that takes no part.
pub(crate) fn candidate<'a>(members: &Members, path: &'a Path) -> Option<Candidate<'a>> {
    if path.rejected.is_some() {
        return None;
    }
    match path.source {
        Source::Local => Some(Candidate::unpeered(Rank::Local, &path.attrs)),
        Source::Static => Some(Candidate::unpeered(Rank::Static, &path.attrs)),
        Source::Peer(id) => members.get(&id).map(|member| Candidate {
            rank: Rank::Bgp,
            attrs: &path.attrs,
            external: !member.session.internal,
            router_id: member.session.router_id,
            address: member.session.address,
        }),
    }
}

pub(crate) fn kind_of(members: &Members, source: Source) -> SourceKind {
    match source {
        Source::Local => SourceKind::Local,
        Source::Static => SourceKind::Static,
        Source::Peer(id) => members.get(&id).map_or(SourceKind::Ibgp, |member| member.session.kind()),
    }
}

fn choose(members: &Members, paths: &[Path]) -> Option<(Best, Arc<AttrSet>)> {
    let path = match paths {
        [] => return None,
        // Most prefixes have one path; it needs no comparing.
        [only] => only.rejected.is_none().then_some(only)?,
        several => {
            let eligible: Vec<_> =
                several.iter().filter_map(|path| candidate(members, path).map(|c| (path, c))).collect();
            let candidates: Vec<_> = eligible.iter().map(|(_, candidate)| *candidate).collect();
            eligible[select(&candidates, |_, _| {})?].0
        }
    };
    let best =
        Best { source: path.source, kind: kind_of(members, path.source), next_hop: path.attrs.next_hop };
    Some((best, Arc::clone(&path.attrs)))
}

/// What a transformation depends on beside the configuration; attributes by their address.
type ExportId = (Audience, SourceKind, usize, Source, Family);

/// Transformed attributes of one run, each made once. The table holds what the addresses point at.
#[derive(Default)]
struct Exports {
    made: HashMap<ExportId, Option<Arc<AttrSet>>, FixedState>,
}

impl Exports {
    fn of(
        &mut self,
        config: &RibConfig,
        members: &Members,
        key: GroupKey,
        prefix: IpNet,
        best: Option<&(Best, Arc<AttrSet>)>,
    ) -> Option<Advertised> {
        let (best, attrs) = best?;
        let family = Family::of(&prefix);
        if !key.families.contains(family) || !export::allows(best.kind, key.audience) {
            return None;
        }
        let id = (key.audience, best.kind, Arc::as_ptr(attrs) as usize, best.source, family);
        let from = best.source.peer().and_then(|id| members.get(&id)).map(|member| member.session.router_id);
        let made = self
            .made
            .entry(id)
            .or_insert_with(|| export::transform(config, attrs, best.kind, from, key.audience, family));
        made.clone().map(|attrs| Advertised { source: best.source, attrs })
    }
}

struct Nobody;

impl Delivery for Nobody {
    fn deliver(&mut self, _: PeerId, _: bytes::Bytes) -> bool {
        false
    }
}
