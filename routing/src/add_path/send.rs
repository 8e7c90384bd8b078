//! Peers that are sent every usable path to a prefix, not the best alone (RFC 7911). What each holds is kept,
//! since it follows from no single path; that costs those peers alone.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;

use bgp::wire::encode;
use bgp::{Families, Family, PeerId};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use ipnet::IpNet;

use crate::add_path::MAX_PATHS;
use crate::export::Scratch;
use crate::export_view::{ExportMatch, ExportView};
use crate::group_key::GroupKey;
use crate::outbox::{Delivery, end_of_rib, markers};
use crate::table::RibPath;

#[cfg(test)]
mod tests;

/// Prefixes written at a time, so that a chunk stays near 64 KiB; few in tests, so that a handful takes
/// several.
const RUN: usize = if cfg!(test) { 3 } else { 1024 };

/// The peers.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddPathPeers {
    peers: BTreeMap<PeerId, AddPathPeer>,
    scratch: Scratch,
    hasher: RandomState,
}

/// What a peer was told and what it is to be told.
#[derive(Clone, Debug, Default)]
struct AddPathPeer {
    families: Families,
    /// Path identifiers, and what stands for the attributes that were sent with them.
    paths: HashMap<IpNet, Vec<(u32, u64)>, RandomState>,
    pending: BTreeSet<IpNet>,
    /// Places of the table from where to where all is to be told.
    dump: Option<(u32, u32)>,
    begins: Families,
    ends: Families,
    end_of_rib: Families,
    waiting: Families,
    /// There was no room.
    lags: bool,
}

impl AddPathPeers {
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// A peer that must be told everything of some families, then End-of-RIB; `held`: that waits.
    pub(crate) fn join(&mut self, peer: PeerId, families: Families, end: u32, held: bool) {
        if families.is_empty() {
            return;
        }
        let (end_of_rib, waiting) =
            if held { (Families::NONE, families) } else { (families, Families::NONE) };
        let held = AddPathPeer {
            families,
            dump: Some((0, end)),
            end_of_rib,
            waiting,
            lags: true,
            ..AddPathPeer::default()
        };
        self.peers.insert(peer, held);
    }

    pub(crate) fn leave(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// How many paths a peer was told, by family.
    pub(crate) fn advertised(&self, peer: PeerId) -> [usize; 2] {
        let mut advertised = [0; 2];
        for (prefix, paths) in self.peers.get(&peer).into_iter().flat_map(|held| &held.paths) {
            advertised[Family::of(prefix).index()] += paths.len();
        }
        advertised
    }

    /// End-of-RIB no longer waits; returns the peers it can go to.
    pub(crate) fn release_markers(&mut self) -> Vec<PeerId> {
        let waiting = self.peers.iter_mut().filter(|(_, held)| !held.waiting.is_empty());
        waiting
            .map(|(peer, held)| {
                held.end_of_rib = held.end_of_rib.union(std::mem::take(&mut held.waiting));
                *peer
            })
            .collect()
    }

    /// A peer asks for all of a family again; `marked`: between markers. Whether it gets several of it.
    pub(crate) fn refresh(&mut self, peer: PeerId, family: Family, end: u32, marked: bool) -> bool {
        let Some(held) = self.peers.get_mut(&peer).filter(|held| held.families.contains(family)) else {
            return false;
        };
        if marked && !held.end_of_rib.union(held.waiting).contains(family) {
            held.begins.insert(family);
            held.ends.insert(family);
        }
        // Nothing that it holds is what it is to be told then.
        let of = held.paths.iter_mut().filter(|(prefix, _)| Family::of(prefix) == family);
        of.for_each(|(_, paths)| paths.iter_mut().for_each(|(_, stamp)| *stamp = 0));
        held.dump = Some((0, end));
        true
    }

    /// What was told was told under other rules: everything that is noted from now on is told anew.
    pub(crate) fn forget(&mut self) {
        let all = self.peers.values_mut().flat_map(|held| held.paths.values_mut()).flatten();
        all.for_each(|(_, stamp)| *stamp = 0);
    }

    /// Something about a prefix has changed.
    pub(crate) fn note(&mut self, prefix: IpNet) {
        for held in self.peers.values_mut().filter(|held| held.families.contains(Family::of(&prefix))) {
            held.pending.insert(prefix);
        }
    }

    /// Tells those that keep up what was noted.
    pub(crate) fn send(
        &mut self,
        view: ExportView<'_>,
        keys: impl Fn(PeerId) -> Option<GroupKey>,
        delivery: &mut impl Delivery,
    ) {
        let ready: Vec<PeerId> =
            self.peers.iter().filter(|(_, held)| !held.lags).map(|(peer, _)| *peer).collect();
        for peer in ready {
            if let Some(key) = keys(peer) {
                self.resume(peer, key, view, delivery);
            }
        }
    }

    /// Tells a peer what is pending, as far as there is room; whether all of it went.
    pub(crate) fn resume(
        &mut self,
        peer: PeerId,
        key: GroupKey,
        view: ExportView<'_>,
        delivery: &mut impl Delivery,
    ) -> bool {
        let AddPathPeers { peers, scratch, hasher } = self;
        let Some(held) = peers.get_mut(&peer) else { return true };
        let key = GroupKey { families: held.families, ..key };
        held.lags = true;
        if !markers(peer, &mut held.begins, 1, delivery) {
            return false;
        }
        loop {
            let mut batch: Vec<IpNet> = held.pending.iter().take(RUN).copied().collect();
            let mut dump = held.dump;
            if let Some((next, end)) = &mut dump {
                let end = (*end).min(view.table.end());
                while *next < end && batch.len() < RUN {
                    if view.table.is_used(*next) && held.families.contains(view.table.family(*next)) {
                        batch.push(view.table.prefix(*next));
                    }
                    *next += 1;
                }
                dump = dump.filter(|(next, _)| *next < end);
            }
            if batch.is_empty() {
                held.dump = None;
                break;
            }
            let mut octets = Vec::new();
            let news = held.write(peer, key, view, &batch, hasher, scratch, &mut octets);
            if !octets.is_empty() && !delivery.deliver(peer, octets.into()) {
                return false;
            }
            for (prefix, paths) in news {
                match paths.is_empty() {
                    true => _ = held.paths.remove(&prefix),
                    false => _ = held.paths.insert(prefix, paths),
                }
            }
            batch.iter().for_each(|prefix| _ = held.pending.remove(prefix));
            held.dump = dump;
        }
        if !markers(peer, &mut held.ends, 2, delivery) {
            return false;
        }
        held.lags = !end_of_rib(peer, &mut held.end_of_rib, delivery);
        !held.lags
    }
}

/// Prefixes with the paths that a peer is to hold.
type AdvertisedPaths = Vec<(IpNet, Vec<(u32, u64)>)>;

impl AddPathPeer {
    /// Writes how what the peer holds of these prefixes becomes what it is to hold; returns the latter.
    #[allow(clippy::too_many_arguments)]
    fn write(
        &self,
        peer: PeerId,
        key: GroupKey,
        view: ExportView<'_>,
        batch: &[IpNet],
        hasher: &RandomState,
        scratch: &mut Scratch,
        out: &mut Vec<u8>,
    ) -> AdvertisedPaths {
        let mut news = AdvertisedPaths::new();
        let mut gone: Vec<(u32, IpNet)> = Vec::new();
        let mut announced: Vec<(RibPath, ExportMatch, u32, IpNet)> = Vec::new();
        for prefix in batch {
            let held = self.paths.get(prefix).map_or(&[][..], Vec::as_slice);
            let mut wanted: Vec<(u32, u64)> = Vec::new();
            for (path, matched) in usable(peer, key, view, prefix).take(MAX_PATHS) {
                let id = path.source().0;
                let attrs = view.interner.set(path.attrs());
                let stamp = hasher.hash_one((attrs.canonical(), attrs.next_hop, matched)) | 1;
                wanted.push((id, stamp));
                // What all depends on beside these is the same for all, and a change of it marks all.
                if !held.contains(&(id, stamp)) {
                    announced.push((path, matched, id, *prefix));
                }
            }
            let kept = |id: u32| wanted.iter().any(|(wanted, _)| *wanted == id);
            gone.extend(held.iter().filter(|(id, _)| !kept(*id)).map(|(id, _)| (*id, *prefix)));
            news.push((*prefix, wanted));
        }
        for family in key.families.iter() {
            let of = gone.iter().filter(|(_, prefix)| Family::of(prefix) == family);
            encode::withdraw(out, key.form, family, of.copied());
        }
        announced.sort_unstable_by_key(|(path, matched, id, prefix)| (path.order(), *matched, *id, *prefix));
        let same = |a: &(RibPath, ExportMatch, u32, IpNet), b: &(RibPath, ExportMatch, u32, IpNet)| {
            (a.0, a.1, Family::of(&a.3)) == (b.0, b.1, Family::of(&b.3))
        };
        for run in announced.chunk_by(same) {
            let (path, matched, _, prefix) = run[0];
            let family = Family::of(&prefix);
            let prefixes = run.iter().map(|(_, _, id, prefix)| (*id, *prefix));
            if view.announce(path, matched, key, family, prefixes.clone(), scratch, out).is_err() {
                // What does not fit a message must not leave an older path standing either.
                encode::withdraw(out, key.form, family, prefixes.clone());
                for (id, prefix) in prefixes {
                    let of = news.iter_mut().filter(|(other, _)| *other == prefix);
                    of.for_each(|(_, paths)| paths.retain(|(other, _)| *other != id));
                }
            }
        }
        news
    }
}

/// The paths to a prefix that go to a peer.
pub(crate) fn usable<'a>(
    peer: PeerId,
    key: GroupKey,
    view: ExportView<'a>,
    prefix: &IpNet,
) -> impl Iterator<Item = (RibPath, ExportMatch)> + 'a {
    let ix = view.table.find(prefix);
    let family = Family::of(prefix);
    ix.into_iter()
        .flat_map(move |ix| view.table.paths(ix).map(move |path| (ix, path)))
        .filter(move |(_, path)| {
            !path.is_rejected()
                && view.sources.is_usable(path.source(), family)
                && view.sources.source(path.source()).peer() != Some(peer)
        })
        .filter_map(move |(ix, path)| Some((path, view.export_match(path, key, family, ix)?)))
}
