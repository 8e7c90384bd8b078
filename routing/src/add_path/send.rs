//! Sending every usable path to a prefix to a peer, instead of the best one (RFC 7911). The
//! Adj-RIB-Out of such a peer is stored, since it cannot be derived from a single path; only these
//! peers pay for it.

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

/// Prefixes encoded at a time, so that a chunk stays near 64 KiB; small in tests, so that a few
/// prefixes take several runs.
const RUN: usize = if cfg!(test) { 3 } else { 1024 };

/// Peers that receive several paths.
#[derive(Clone, Debug, Default)]
pub(crate) struct AddPathPeers {
    peers: BTreeMap<PeerId, AddPathPeer>,
    scratch: Scratch,
    hasher: RandomState,
}

/// Adj-RIB-Out of a peer, and pending changes.
#[derive(Clone, Debug, Default)]
struct AddPathPeer {
    families: Families,
    /// Path identifiers, with a hash of the attributes that were sent for each.
    paths: HashMap<IpNet, Vec<(u32, u64)>, RandomState>,
    pending: BTreeSet<IpNet>,
    /// Range of places in the table that is still to be sent.
    dump: Option<(u32, u32)>,
    begins: Families,
    ends: Families,
    end_of_rib: Families,
    held_markers: Families,
    /// The last chunk did not fit the peer's channel.
    lags: bool,
}

impl AddPathPeers {
    pub(crate) fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Adds a peer, which receives all routes of some families and then End-of-RIB; with
    /// `hold_marker` End-of-RIB waits for [`AddPathPeers::release_markers`].
    pub(crate) fn join(&mut self, peer: PeerId, families: Families, end: u32, hold_marker: bool) {
        if families.is_empty() {
            return;
        }
        let (end_of_rib, held_markers) =
            if hold_marker { (Families::NONE, families) } else { (families, Families::NONE) };
        let state = AddPathPeer {
            families,
            dump: Some((0, end)),
            end_of_rib,
            held_markers,
            lags: true,
            ..AddPathPeer::default()
        };
        self.peers.insert(peer, state);
    }

    pub(crate) fn leave(&mut self, peer: PeerId) {
        self.peers.remove(&peer);
    }

    /// Returns the number of paths advertised to a peer, by family.
    pub(crate) fn advertised(&self, peer: PeerId) -> [usize; 2] {
        let mut advertised = [0; 2];
        for (prefix, paths) in self.peers.get(&peer).into_iter().flat_map(|state| &state.paths) {
            advertised[Family::of(prefix).index()] += paths.len();
        }
        advertised
    }

    /// Releases End-of-RIB; returns the peers that it can be sent to.
    pub(crate) fn release_markers(&mut self) -> Vec<PeerId> {
        let waiting = self.peers.iter_mut().filter(|(_, state)| !state.held_markers.is_empty());
        waiting
            .map(|(peer, state)| {
                state.end_of_rib = state.end_of_rib.union(std::mem::take(&mut state.held_markers));
                *peer
            })
            .collect()
    }

    /// Schedules all routes of a family for a peer, between markers if `marked` (RFC 7313). Returns
    /// whether the peer receives several paths of the family.
    pub(crate) fn refresh(&mut self, peer: PeerId, family: Family, end: u32, marked: bool) -> bool {
        let Some(state) = self.peers.get_mut(&peer).filter(|state| state.families.contains(family)) else {
            return false;
        };
        if marked && !state.end_of_rib.union(state.held_markers).contains(family) {
            state.begins.insert(family);
            state.ends.insert(family);
        }
        // No stored hash matches, so everything is sent again.
        let of = state.paths.iter_mut().filter(|(prefix, _)| Family::of(prefix) == family);
        of.for_each(|(_, paths)| paths.iter_mut().for_each(|(_, stamp)| *stamp = 0));
        state.dump = Some((0, end));
        true
    }

    /// Discards the hashes of all sent attributes after a change of policy, so that the following
    /// changes are sent again.
    pub(crate) fn forget(&mut self) {
        let all = self.peers.values_mut().flat_map(|state| state.paths.values_mut()).flatten();
        all.for_each(|(_, stamp)| *stamp = 0);
    }

    /// Schedules a changed prefix.
    pub(crate) fn note(&mut self, prefix: IpNet) {
        for state in self.peers.values_mut().filter(|state| state.families.contains(Family::of(&prefix))) {
            state.pending.insert(prefix);
        }
    }

    /// Sends the scheduled changes to the peers whose channels have capacity.
    pub(crate) fn send(
        &mut self,
        view: ExportView<'_>,
        keys: impl Fn(PeerId) -> Option<GroupKey>,
        delivery: &mut impl Delivery,
    ) {
        let ready: Vec<PeerId> =
            self.peers.iter().filter(|(_, state)| !state.lags).map(|(peer, _)| *peer).collect();
        for peer in ready {
            if let Some(key) = keys(peer) {
                self.resume(peer, key, view, delivery);
            }
        }
    }

    /// Sends pending changes to a peer, as far as its channel has capacity; returns whether all
    /// were sent.
    pub(crate) fn resume(
        &mut self,
        peer: PeerId,
        key: GroupKey,
        view: ExportView<'_>,
        delivery: &mut impl Delivery,
    ) -> bool {
        let AddPathPeers { peers, scratch, hasher } = self;
        let Some(state) = peers.get_mut(&peer) else { return true };
        let key = GroupKey { families: state.families, ..key };
        state.lags = true;
        if !markers(peer, &mut state.begins, 1, delivery) {
            return false;
        }
        loop {
            let mut batch: Vec<IpNet> = state.pending.iter().take(RUN).copied().collect();
            let mut dump = state.dump;
            if let Some((next, end)) = &mut dump {
                let end = (*end).min(view.table.end());
                while *next < end && batch.len() < RUN {
                    if view.table.is_used(*next) && state.families.contains(view.table.family(*next)) {
                        batch.push(view.table.prefix(*next));
                    }
                    *next += 1;
                }
                dump = dump.filter(|(next, _)| *next < end);
            }
            if batch.is_empty() {
                state.dump = None;
                break;
            }
            let mut octets = Vec::new();
            let targets = state.write(peer, key, view, &batch, hasher, scratch, &mut octets);
            if !octets.is_empty() && !delivery.deliver(peer, octets.into()) {
                return false;
            }
            for (prefix, paths) in targets {
                match paths.is_empty() {
                    true => _ = state.paths.remove(&prefix),
                    false => _ = state.paths.insert(prefix, paths),
                }
            }
            batch.iter().for_each(|prefix| _ = state.pending.remove(prefix));
            state.dump = dump;
        }
        if !markers(peer, &mut state.ends, 2, delivery) {
            return false;
        }
        state.lags = !end_of_rib(peer, &mut state.end_of_rib, delivery);
        !state.lags
    }
}

/// Prefixes with the path identifiers and hashes that a peer is to hold.
type AdvertisedPaths = Vec<(IpNet, Vec<(u32, u64)>)>;

impl AddPathPeer {
    /// Writes the difference between what the peer holds for these prefixes and what it is to hold;
    /// returns the latter.
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
        let mut targets = AdvertisedPaths::new();
        let mut withdrawn: Vec<(u32, IpNet)> = Vec::new();
        let mut announced: Vec<(RibPath, ExportMatch, u32, IpNet)> = Vec::new();
        for prefix in batch {
            let state = self.paths.get(prefix).map_or(&[][..], Vec::as_slice);
            let mut wanted: Vec<(u32, u64)> = Vec::new();
            for (path, matched) in usable(peer, key, view, prefix).take(MAX_PATHS) {
                let id = path.source().0;
                let attrs = view.interner.set(path.attrs());
                let stamp = hasher.hash_one((attrs.canonical(), attrs.next_hop, matched)) | 1;
                wanted.push((id, stamp));
                // The hash omits what is the same for all paths; a change of that schedules all
                // prefixes.
                if !state.contains(&(id, stamp)) {
                    announced.push((path, matched, id, *prefix));
                }
            }
            let kept = |id: u32| wanted.iter().any(|(wanted, _)| *wanted == id);
            withdrawn.extend(state.iter().filter(|(id, _)| !kept(*id)).map(|(id, _)| (*id, *prefix)));
            targets.push((*prefix, wanted));
        }
        for family in key.families.iter() {
            let of = withdrawn.iter().filter(|(_, prefix)| Family::of(prefix) == family);
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
                // An older path must not remain if the new one does not fit a message.
                encode::withdraw(out, key.form, family, prefixes.clone());
                for (id, prefix) in prefixes {
                    let of = targets.iter_mut().filter(|(other, _)| *other == prefix);
                    of.for_each(|(_, paths)| paths.retain(|(other, _)| *other != id));
                }
            }
        }
        targets
    }
}

/// Returns the paths to a prefix that are advertised to a peer.
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
