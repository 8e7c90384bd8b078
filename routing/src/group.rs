//! Update groups: peers that receive the same routes share one encoding. The Adj-RIB-Out of a group
//! is not stored: it can be derived from the advertised path of each prefix.

use std::collections::BTreeMap;

use bgp::wire::encode;
use bgp::{Families, Family, PeerId};
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use ipnet::IpNet;

use crate::export::Scratch;
use crate::export_view::{ExportMatch, ExportView};
use crate::group_key::GroupKey;
use crate::outbox::{Chunk, Chunks, Delivery, Dump, Outbox, end_of_rib, markers};
use crate::table::{RibPath, Table};

/// Prefixes encoded at a time, so that a chunk stays near its size; small in tests, so that a few
/// prefixes take several runs.
const RUN: usize = if cfg!(test) { 3 } else { 4096 };

/// Change of the advertised path of a prefix; the table already has the new one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PathChange {
    pub(crate) ix: u32,
    /// Path advertised before.
    pub(crate) before: RibPath,
    /// Path advertised from now on.
    pub(crate) after: RibPath,
    pub(crate) family: Family,
}

impl PathChange {
    /// Returns a key that sorts changes which can share a message next to each other; withdrawals
    /// are last.
    pub(crate) fn order(&self) -> (u64, bool) {
        (self.after.order(), self.family == Family::Ipv6Unicast)
    }
}

/// Action of a group for a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GroupAction {
    Unchanged,
    Announce,
    Withdraw,
}

/// Peers that receive the same routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    members: BTreeMap<PeerId, Outbox>,
    /// Places of prefixes whose attributes do not fit a message.
    unsendable: HashSet<u32, FixedState>,
    actions: Vec<GroupAction>,
    scratch: Scratch,
}

impl Group {
    /// Adds a peer, which receives all routes and then End-of-RIB; with `hold_marker` End-of-RIB waits for
    /// [`Group::release_markers`].
    pub(crate) fn join(&mut self, peer: PeerId, end: u32, families: Families, hold_marker: bool) {
        let mut outbox = match hold_marker {
            true => Outbox { held_markers: families, ..Outbox::default() },
            false => Outbox { end_of_rib: families, ..Outbox::default() },
        };
        outbox.dump(end, families, false);
        self.members.insert(peer, outbox);
    }

    /// Releases End-of-RIB; returns the peers that it can be sent to.
    pub(crate) fn release_markers(&mut self) -> Vec<PeerId> {
        let mut released = Vec::new();
        for (peer, outbox) in &mut self.members {
            if !outbox.held_markers.is_empty() {
                outbox.end_of_rib = outbox.end_of_rib.union(std::mem::take(&mut outbox.held_markers));
                released.push(*peer);
            }
        }
        released
    }

    /// Adds a peer from another group, with its pending changes.
    pub(crate) fn take_over(&mut self, peer: PeerId, end: u32, families: Families, mut outbox: Outbox) {
        outbox.dump(end, families, true);
        self.members.insert(peer, outbox);
    }

    /// Removes a peer and returns its pending changes.
    pub(crate) fn leave(&mut self, peer: PeerId) -> Option<Outbox> {
        self.members.remove(&peer)
    }

    /// Returns whether the group has no peers.
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Returns the places of prefixes whose attributes do not fit a message.
    pub(crate) fn unsendable(&self) -> impl Iterator<Item = u32> + '_ {
        self.unsendable.iter().copied()
    }

    /// Schedules all routes of a family for a peer (RFC 2918), between markers if `marked` (RFC
    /// 7313).
    pub(crate) fn refresh(&mut self, peer: PeerId, end: u32, family: Family, marked: bool) {
        if let Some(outbox) = self.members.get_mut(&peer) {
            // RFC 7313 §4: never before the first End-of-RIB.
            let first = outbox.end_of_rib.union(outbox.held_markers).contains(family);
            if marked && !first {
                outbox.begins.insert(family);
                outbox.ends.insert(family);
            }
            outbox.dump(end, family.into(), true);
        }
    }

    /// Encodes changes once and sends them to every peer without pending changes. They are sorted
    /// by [`PathChange::order`].
    pub(crate) fn send(
        &mut self,
        key: GroupKey,
        view: ExportView<'_>,
        changes: &[PathChange],
        delivery: &mut impl Delivery,
    ) {
        if self.members.is_empty() {
            return;
        }
        let chunks = self.encode(key, view, changes);
        let own = own_withdrawals(key, view, changes);
        for (peer, outbox) in &mut self.members {
            if !outbox.lags() {
                let mut pieces = chunks.iter().flat_map(|chunk| chunk.pieces(*peer));
                let first = own.partition_point(|(id, _)| id < peer);
                let places = own[first..].iter().take_while(|(id, _)| id == peer).map(|(_, ix)| *ix);
                let keeps_up = pieces.all(|piece| delivery.deliver(*peer, piece))
                    && withdraw_own(*peer, key, view, places, delivery);
                if keeps_up {
                    continue;
                }
            }
            note(*peer, outbox, view, changes, &self.actions);
        }
    }

    fn encode(&mut self, key: GroupKey, view: ExportView<'_>, changes: &[PathChange]) -> Vec<Chunk> {
        let mut chunks = Chunks::default();
        self.actions.clear();
        let same = |a: &PathChange, b: &PathChange| a.after == b.after && a.family == b.family;
        // Adjacent prefixes mostly had the same path before, too.
        let mut last = (RibPath::NONE, Family::Ipv4Unicast, false);
        let mut was_advertised = |path: RibPath, family: Family| {
            if (path, family) != (last.0, last.1) {
                last = (path, family, view.allows(path, key, family));
            }
            last.2
        };
        for run in changes.chunk_by(same) {
            let PathChange { after, family, .. } = run[0];
            if view.depends_on_prefix(key) {
                self.encode_one_by_one(key, view, run, &mut chunks);
                continue;
            }
            let mut announced = view.allows(after, key, family);
            if announced {
                let source = view.sources.source(after.source()).peer();
                for part in run.chunks(RUN) {
                    let prefixes = part.iter().map(|change| view.table.prefix(change.ix));
                    let scratch = &mut self.scratch;
                    let sent = chunks.append(source, |out| {
                        view.announce(after, ExportMatch::default(), key, family, prefixes, scratch, out)
                    });
                    if let Err(error) = sent {
                        unsendable(view.table.prefix(run[0].ix), error);
                        announced = false;
                        break;
                    }
                }
                for change in run {
                    match announced {
                        false => _ = self.unsendable.insert(change.ix),
                        true if !self.unsendable.is_empty() => _ = self.unsendable.remove(&change.ix),
                        true => {}
                    }
                }
            } else if !self.unsendable.is_empty() {
                run.iter().for_each(|change| _ = self.unsendable.remove(&change.ix));
            }
            self.actions.extend(run.iter().map(|change| {
                // An older route must not remain if the new one does not fit a message.
                if announced {
                    GroupAction::Announce
                } else if was_advertised(change.before, family)
                    || view.reexport && key.families.contains(family)
                {
                    GroupAction::Withdraw
                } else {
                    GroupAction::Unchanged
                }
            }));
        }
        for family in key.families.iter() {
            let mut prefixes = changes
                .iter()
                .zip(&self.actions)
                .filter(|(change, action)| **action == GroupAction::Withdraw && change.family == family)
                .map(|(change, _)| view.table.prefix(change.ix))
                .peekable();
            while prefixes.peek().is_some() {
                let part = prefixes.by_ref().take(RUN);
                chunks.append(None, |out| encode::withdraw(out, key.form, family, part));
            }
        }
        chunks.finish()
    }

    /// Encodes changes with the same path and family, if the export depends on the prefix.
    fn encode_one_by_one(
        &mut self,
        key: GroupKey,
        view: ExportView<'_>,
        run: &[PathChange],
        chunks: &mut Chunks,
    ) {
        let PathChange { after, family, .. } = run[0];
        let source = view.sources.source(after.source()).peer();
        let outcomes: Vec<Option<ExportMatch>> =
            run.iter().map(|change| view.export_match(after, key, family, change.ix)).collect();
        let mut encoded: Vec<(ExportMatch, bool)> = Vec::new();
        for matched in outcomes.iter().flatten() {
            if encoded.iter().any(|(known, _)| known == matched) {
                continue;
            }
            let mut fits = true;
            for (part, outcomes) in run.chunks(RUN).zip(outcomes.chunks(RUN)) {
                let matching = part.iter().zip(outcomes).filter(|(_, outcome)| **outcome == Some(*matched));
                let prefixes = matching.map(|(change, _)| view.table.prefix(change.ix));
                let scratch = &mut self.scratch;
                let sent = chunks.append(source, |out| {
                    view.announce(after, *matched, key, family, prefixes, scratch, out)
                });
                if let Err(error) = sent {
                    unsendable(view.table.prefix(run[0].ix), error);
                    fits = false;
                    break;
                }
            }
            encoded.push((*matched, fits));
        }
        for (change, outcome) in run.iter().zip(outcomes) {
            let fits = outcome.and_then(|matched| encoded.iter().find(|(known, _)| *known == matched));
            let fits = fits.map(|(_, fits)| *fits);
            match fits {
                Some(false) => _ = self.unsendable.insert(change.ix),
                Some(true) | None => _ = self.unsendable.remove(&change.ix),
            }
            self.actions.push(if fits == Some(true) {
                GroupAction::Announce
            } else if view.export_match(change.before, key, family, change.ix).is_some()
                || view.reexport && key.families.contains(family)
            {
                GroupAction::Withdraw
            } else {
                GroupAction::Unchanged
            });
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
        let Some(outbox) = self.members.get_mut(&peer) else { return true };
        if !markers(peer, &mut outbox.begins, 1, delivery) {
            return false;
        }
        loop {
            let withdrawals: Vec<IpNet> = outbox.withdrawn.iter().copied().take(RUN).collect();
            let mut batch = Vec::new();
            let mut dump = outbox.dump;
            if withdrawals.len() == outbox.withdrawn.len() {
                match &mut dump {
                    Some(dump) => next_of(dump, view.table, &mut batch),
                    None => batch.extend(outbox.pending.iter().take(RUN)),
                }
            }
            if withdrawals.is_empty() && batch.is_empty() {
                match outbox.dump.take() {
                    Some(_) => continue,
                    None => break,
                }
            }
            let again = dump.is_none_or(|dump| dump.again);
            let mut chunks = Chunks::default();
            chunks.append(None, |out| withdraw(&withdrawals, key, out));
            batch.sort_unstable_by_key(|ix| (view.table.advertised(*ix).order(), *ix));
            let (scratch, unsendable) = (&mut self.scratch, &mut self.unsendable);
            write_state(peer, key, view, &batch, again, scratch, unsendable, &mut chunks);
            let sent = chunks.finish().into_iter().all(|chunk| delivery.deliver(peer, chunk.octets));
            if !sent {
                return false;
            }
            withdrawals.iter().for_each(|prefix| _ = outbox.withdrawn.remove(prefix));
            if outbox.dump.is_none() {
                batch.iter().for_each(|ix| outbox.pending.remove(*ix));
            }
            outbox.dump = dump.filter(|dump| dump.next < dump.end);
        }
        if !markers(peer, &mut outbox.ends, 2, delivery) {
            return false;
        }
        // A set that was large once must not keep its memory.
        outbox.withdrawn.shrink_to_fit();
        end_of_rib(peer, &mut outbox.end_of_rib, delivery)
    }
}

/// Adds the next places of a dump to `batch`.
fn next_of(dump: &mut Dump, table: &Table, batch: &mut Vec<u32>) {
    let end = dump.end.min(table.end());
    while dump.next < end && batch.len() < RUN {
        let ix = dump.next;
        dump.next += 1;
        if table.is_used(ix) && dump.families.contains(table.family(ix)) && !table.advertised(ix).is_none() {
            batch.push(ix);
        }
    }
    if dump.next >= end {
        dump.next = dump.end;
    }
}

/// Adds changes to those pending for a peer.
fn note(
    peer: PeerId,
    outbox: &mut Outbox,
    view: ExportView<'_>,
    changes: &[PathChange],
    actions: &[GroupAction],
) {
    for (change, action) in changes.iter().zip(actions) {
        let own = view.sources.source(change.after.source()).peer() == Some(peer);
        match action {
            GroupAction::Announce if !own => outbox.announce(change.ix, change.family),
            GroupAction::Announce | GroupAction::Withdraw => {
                outbox.withdraw(change.ix, view.table.prefix(change.ix));
            }
            // The peer may hold the route from before a change of its policy. Neither a dump nor a
            // pending place would find it after the prefix is removed from the table.
            GroupAction::Unchanged if outbox.must_withdraw(change.ix, change.family) => {
                outbox.withdraw(change.ix, view.table.prefix(change.ix));
            }
            GroupAction::Unchanged => {}
        }
    }
}

/// Encodes the state of the prefixes at these places for `peer`; they are sorted by their
/// advertised path. With `again` the peer may hold routes that it is not to hold any more.
#[allow(clippy::too_many_arguments)]
fn write_state(
    peer: PeerId,
    key: GroupKey,
    view: ExportView<'_>,
    batch: &[u32],
    again: bool,
    scratch: &mut Scratch,
    unsendable: &mut HashSet<u32, FixedState>,
    chunks: &mut Chunks,
) {
    let mut withdrawn = Vec::new();
    let same = |a: &u32, b: &u32| {
        view.table.advertised(*a) == view.table.advertised(*b)
            && view.table.family(*a) == view.table.family(*b)
    };
    for run in batch.chunk_by(same) {
        let path = view.table.advertised(run[0]);
        let own = !path.is_none() && view.sources.source(path.source()).peer() == Some(peer);
        let family = view.table.family(run[0]);
        let mut advertised = Vec::new();
        if !own && view.allows(path, key, family) {
            advertised.extend(run.iter().map(|ix| view.export_match(path, key, family, *ix)));
        }
        advertised.resize(run.len(), None);
        let mut encoded: Vec<(ExportMatch, bool)> = Vec::new();
        for matched in advertised.iter().flatten() {
            if encoded.iter().any(|(known, _)| known == matched) {
                continue;
            }
            let matching = run.iter().zip(&advertised).filter(|(_, outcome)| **outcome == Some(*matched));
            let prefixes = matching.clone().map(|(ix, _)| view.table.prefix(*ix));
            let write = |out: &mut Vec<u8>| {
                view.announce(path, *matched, key, family, prefixes, scratch, out).is_ok()
            };
            let fits = chunks.append(None, write);
            if !fits {
                unsendable.extend(matching.map(|(ix, _)| *ix));
            }
            encoded.push((*matched, fits));
        }
        if again {
            let sent = |outcome: &Option<ExportMatch>| {
                outcome.is_some_and(|matched| encoded.contains(&(matched, true)))
            };
            let withdrawals = run.iter().zip(&advertised).filter(|(_, outcome)| !sent(outcome));
            withdrawn.extend(withdrawals.map(|(ix, _)| view.table.prefix(*ix)));
        }
    }
    chunks.append(None, |out| withdraw(&withdrawn, key, out));
}

/// Appends withdrawals of prefixes of all families of the group.
fn withdraw(prefixes: &[IpNet], key: GroupKey, out: &mut Vec<u8>) {
    for family in key.families.iter() {
        let of_family = prefixes.iter().copied().filter(|prefix| Family::of(prefix) == family);
        encode::withdraw(out, key.form, family, of_family);
    }
}

/// Returns the peers that become the source of a prefix, sorted: they must remove the route that
/// they received from another source.
fn own_withdrawals(key: GroupKey, view: ExportView<'_>, changes: &[PathChange]) -> Vec<(PeerId, u32)> {
    let mut own: Vec<_> = changes
        .iter()
        .filter(|change| !change.after.is_none() && !change.before.is_none())
        .filter(|change| {
            view.sources.source(change.before.source()) != view.sources.source(change.after.source())
        })
        .filter(|change| view.export_match(change.before, key, change.family, change.ix).is_some())
        .filter_map(|change| Some((view.sources.source(change.after.source()).peer()?, change.ix)))
        .collect();
    own.sort_unstable();
    own
}

/// Sends withdrawals to a peer that became the source of prefixes; returns whether its channel had
/// capacity.
fn withdraw_own(
    peer: PeerId,
    key: GroupKey,
    view: ExportView<'_>,
    places: impl Iterator<Item = u32>,
    delivery: &mut impl Delivery,
) -> bool {
    let prefixes: Vec<IpNet> = places.map(|ix| view.table.prefix(ix)).collect();
    if prefixes.is_empty() {
        return true;
    }
    let mut out = Vec::new();
    withdraw(&prefixes, key, &mut out);
    delivery.deliver(peer, out.into())
}

fn unsendable(prefix: IpNet, error: encode::EncodeError) {
    #[cfg(feature = "driver")]
    tracing::warn!(%prefix, %error, "prefix withdrawn from peers: it can't be encoded");
    #[cfg(not(feature = "driver"))]
    let _ = (prefix, error);
}
