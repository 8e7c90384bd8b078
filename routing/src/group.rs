//! Update groups: peers that get the same routes share one Adj-RIB-Out and one encoding.

use std::collections::BTreeMap;
use std::sync::Arc;

use bgp::wire::encode::{self, Form};
use bgp::{Families, Family, PeerId};
use foldhash::fast::FixedState;
use hashbrown::HashMap;
use ipnet::IpNet;

use crate::attrs::AttrSet;
use crate::export::Audience;
use crate::outbox::{Chunks, Delivery, Outbox};
use crate::path::Source;

/// Prefixes encoded at a time, so that a chunk stays near its size.
const RUN: usize = 4096;

/// What the peers of a group have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GroupKey {
    /// Which paths they get.
    pub audience: Audience,
    /// How messages are written for them.
    pub form: Form,
    /// The families they exchange.
    pub families: Families,
}

/// What a group was told of a prefix.
#[derive(Clone, Debug)]
pub(crate) struct Advertised {
    pub(crate) source: Source,
    pub(crate) attrs: Arc<AttrSet>,
}

impl Advertised {
    fn same(&self, other: &Advertised) -> bool {
        self.source == other.source && (Arc::ptr_eq(&self.attrs, &other.attrs) || self.attrs == other.attrs)
    }
}

/// A prefix whose advertisement changes.
#[derive(Debug)]
struct Change {
    prefix: IpNet,
    before: Option<Source>,
    after: Option<Advertised>,
}

/// Peers that get the same routes.
#[derive(Debug, Default)]
pub(crate) struct Group {
    adj_rib_out: HashMap<IpNet, Advertised, FixedState>,
    /// How many of the advertised prefixes each peer is the source of.
    by_source: HashMap<PeerId, usize, FixedState>,
    members: BTreeMap<PeerId, Outbox>,
    changes: Vec<Change>,
}

impl Group {
    /// Adds a peer that has been told nothing, but for `told`; what it must be told is pending.
    pub(crate) fn join(&mut self, peer: PeerId, families: Families, told: impl IntoIterator<Item = IpNet>) {
        let mut outbox = Outbox { end_of_rib: families, ..Outbox::default() };
        outbox.pending.extend(self.adj_rib_out.keys().copied());
        outbox.pending.extend(told);
        self.members.insert(peer, outbox);
    }

    /// Takes a peer out; whether the group is empty now.
    pub(crate) fn leave(&mut self, peer: PeerId) -> bool {
        self.members.remove(&peer);
        self.members.is_empty()
    }

    /// The prefixes that the group was told of.
    pub(crate) fn advertised(&self) -> impl Iterator<Item = IpNet> + '_ {
        self.adj_rib_out.keys().copied()
    }

    /// How many prefixes `peer` was told of.
    pub(crate) fn advertised_to(&self, peer: PeerId) -> usize {
        self.adj_rib_out.len() - self.by_source.get(&peer).copied().unwrap_or(0)
    }

    /// Makes everything of a family pending for a peer (RFC 2918).
    pub(crate) fn refresh(&mut self, peer: PeerId, family: Family) {
        if let Some(outbox) = self.members.get_mut(&peer) {
            outbox.pending.extend(self.adj_rib_out.keys().filter(|prefix| Family::of(prefix) == family));
        }
    }

    /// Notes what is advertised of a prefix from now on.
    pub(crate) fn set(&mut self, prefix: IpNet, after: Option<Advertised>) {
        let before = self.adj_rib_out.get(&prefix);
        match (before, &after) {
            (None, None) => return,
            (Some(before), Some(after)) if before.same(after) => return,
            _ => {}
        }
        let before = before.map(|before| before.source);
        self.count(before, after.as_ref().map(|after| after.source));
        match &after {
            Some(after) => _ = self.adj_rib_out.insert(prefix, after.clone()),
            None => _ = self.adj_rib_out.remove(&prefix),
        }
        self.changes.push(Change { prefix, before, after });
    }

    fn count(&mut self, before: Option<Source>, after: Option<Source>) {
        if let Some(peer) = after.and_then(Source::peer) {
            *self.by_source.entry(peer).or_default() += 1;
        }
        if let Some(peer) = before.and_then(Source::peer)
            && let Some(count) = self.by_source.get_mut(&peer)
        {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&peer);
            }
        }
    }

    /// Encodes what was noted, once, and sends it to every peer that keeps up.
    pub(crate) fn send(&mut self, form: Form, delivery: &mut impl Delivery) {
        if self.members.is_empty() {
            self.changes = Vec::new();
        }
        if self.changes.is_empty() {
            return;
        }
        let mut changes = std::mem::take(&mut self.changes);
        // Prefixes with the same attributes from the same source lie side by side.
        changes.sort_unstable_by_key(|change| {
            let (attrs, source) = match &change.after {
                Some(after) => (Arc::as_ptr(&after.attrs) as usize, Some(after.source)),
                None => (0, change.before),
            };
            (attrs, source, Family::of(&change.prefix))
        });
        let mut chunks = Chunks::default();
        let mut unsendable = Vec::new();
        let same = |a: &Change, b: &Change| match (&a.after, &b.after) {
            (Some(x), Some(y)) => Arc::ptr_eq(&x.attrs, &y.attrs) && x.source == y.source,
            (None, None) => a.before == b.before && Family::of(&a.prefix) == Family::of(&b.prefix),
            _ => false,
        };
        for run in changes.chunk_by(same).flat_map(|run| run.chunks(RUN)) {
            let prefixes = run.iter().map(|change| change.prefix);
            match &run[0].after {
                Some(after) => {
                    let (attrs, source) = (&after.attrs, after.source.peer());
                    let sent = chunks.append(source, |out| {
                        encode::announce(out, form, attrs.canonical(), attrs.next_hop, prefixes)
                    });
                    if let Err(error) = sent {
                        too_long(run[0].prefix, error);
                        unsendable.extend(run.iter().map(|change| change.prefix));
                    }
                }
                None => {
                    let source = run[0].before.and_then(Source::peer);
                    let family = Family::of(&run[0].prefix);
                    chunks.append(source, |out| encode::withdraw(out, form, family, prefixes));
                }
            }
        }
        self.withdraw_unsendable(form, &unsendable, &mut chunks);
        let chunks = chunks.finish();
        for (peer, outbox) in &mut self.members {
            let keeps_up = !outbox.lags()
                && chunks
                    .iter()
                    .flat_map(|chunk| chunk.pieces(*peer))
                    .all(|piece| delivery.deliver(*peer, piece))
                && withdraw_own(*peer, &changes, form, delivery);
            if !keeps_up {
                outbox.pending.extend(changes.iter().map(|change| change.prefix));
            }
        }
        changes.clear();
        self.changes = changes;
    }

    /// What doesn't fit a message must not leave the older route standing at the peers.
    fn withdraw_unsendable(&mut self, form: Form, prefixes: &[IpNet], chunks: &mut Chunks) {
        for family in Family::ALL {
            let of_family = prefixes.iter().copied().filter(|prefix| Family::of(prefix) == family);
            chunks.append(None, |out| encode::withdraw(out, form, family, of_family));
        }
        for prefix in prefixes {
            if let Some(gone) = self.adj_rib_out.remove(prefix) {
                self.count(Some(gone.source), None);
            }
        }
    }

    /// Tells a peer what is pending, as far as there is room; whether all of it went.
    pub(crate) fn resume(&mut self, peer: PeerId, form: Form, delivery: &mut impl Delivery) -> bool {
        let Some(outbox) = self.members.get_mut(&peer) else { return true };
        while !outbox.pending.is_empty() {
            let batch: Vec<IpNet> = outbox.pending.iter().copied().take(RUN).collect();
            let mut chunks = Chunks::default();
            write_state(&self.adj_rib_out, peer, form, &batch, &mut chunks);
            let sent = chunks.finish().into_iter().all(|chunk| delivery.deliver(peer, chunk.octets));
            if !sent {
                return false;
            }
            batch.iter().for_each(|prefix| _ = outbox.pending.remove(prefix));
        }
        for family in outbox.end_of_rib.iter() {
            let mut message = Vec::new();
            encode::end_of_rib(&mut message, family);
            if !delivery.deliver(peer, message.into()) {
                return false;
            }
            outbox.end_of_rib.remove(family);
        }
        // A set that once held a full table must not keep its room.
        outbox.pending.shrink_to_fit();
        true
    }
}

/// Encodes what `peer` is to hold of `prefixes`.
fn write_state(
    adj_rib_out: &HashMap<IpNet, Advertised, FixedState>,
    peer: PeerId,
    form: Form,
    prefixes: &[IpNet],
    chunks: &mut Chunks,
) {
    let mut announced: Vec<(&Arc<AttrSet>, IpNet)> = Vec::new();
    let mut withdrawn = Vec::new();
    for prefix in prefixes {
        match adj_rib_out.get(prefix).filter(|advertised| advertised.source != Source::Peer(peer)) {
            Some(advertised) => announced.push((&advertised.attrs, *prefix)),
            None => withdrawn.push(*prefix),
        }
    }
    announced.sort_unstable_by_key(|(attrs, _)| Arc::as_ptr(attrs) as usize);
    for run in announced.chunk_by(|(a, _), (b, _)| Arc::ptr_eq(a, b)) {
        let (attrs, first) = run[0];
        let prefixes = run.iter().map(|(_, prefix)| *prefix);
        let sent = chunks
            .append(None, |out| encode::announce(out, form, attrs.canonical(), attrs.next_hop, prefixes));
        if let Err(error) = sent {
            too_long(first, error);
            withdrawn.extend(run.iter().map(|(_, prefix)| *prefix));
        }
    }
    for family in Family::ALL {
        let of_family = withdrawn.iter().copied().filter(|prefix| Family::of(prefix) == family);
        chunks.append(None, |out| encode::withdraw(out, form, family, of_family));
    }
}

/// A peer that becomes the source of a prefix must forget what another source gave it; whether
/// there was room.
fn withdraw_own(peer: PeerId, changes: &[Change], form: Form, delivery: &mut impl Delivery) -> bool {
    let own = Source::Peer(peer);
    let mut prefixes = changes
        .iter()
        .filter(|change| change.before.is_some_and(|before| before != own))
        .filter(|change| change.after.as_ref().is_some_and(|after| after.source == own))
        .map(|change| change.prefix)
        .peekable();
    if prefixes.peek().is_none() {
        return true;
    }
    let (v4, v6): (Vec<_>, Vec<_>) = prefixes.partition(|prefix| Family::of(prefix) == Family::Ipv4Unicast);
    let mut out = Vec::new();
    encode::withdraw(&mut out, form, Family::Ipv4Unicast, v4);
    encode::withdraw(&mut out, form, Family::Ipv6Unicast, v6);
    delivery.deliver(peer, out.into())
}

fn too_long(prefix: IpNet, error: encode::TooLong) {
    #[cfg(feature = "driver")]
    tracing::warn!(%prefix, %error, "withdrawn from peers: its attributes don't fit a message");
    #[cfg(not(feature = "driver"))]
    let _ = (prefix, error);
}
