//! Pending changes of a peer. Usually there are none: messages are sent to all peers of a group at
//! once. A peer whose channel is full costs one bit per prefix that changes meanwhile: only the
//! latest state is sent later, and other peers do not wait. A new peer costs a position in the
//! table.

use std::collections::BTreeMap;

use bgp::wire::encode;
use bgp::wire::refresh::RouteRefresh;
use bgp::{Families, Family, PeerId};
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use ipnet::IpNet;

/// Receiver of encoded messages for peers; the bytes are shared.
pub trait Delivery {
    /// Delivers a chunk of whole messages; returns whether there was capacity. After `false` the
    /// RIB waits for [`Rib::resume`](crate::Rib::resume).
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool;
}

/// Range of places in the table whose prefixes are to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dump {
    pub(crate) next: u32,
    pub(crate) end: u32,
    pub(crate) families: Families,
    /// The peer may hold routes that it is not to hold any more.
    pub(crate) again: bool,
}

impl Dump {
    fn comes_to(&self, ix: u32, family: Family) -> bool {
        (self.next..self.end).contains(&ix) && self.families.contains(family)
    }
}

/// Delivery that discards all messages: for a copy of the RIB that only computes results.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardDelivery;

impl Delivery for DiscardDelivery {
    fn deliver(&mut self, _: PeerId, _: Bytes) -> bool {
        true
    }
}

/// Pending changes of one peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) dump: Option<Dump>,
    /// Places of changed prefixes.
    pub(crate) pending: PlaceSet,
    /// Prefixes to withdraw before anything else; they may have no place any more.
    pub(crate) withdrawn: HashSet<IpNet, FixedState>,
    /// Families whose End-of-RIB marker follows the dump.
    pub(crate) end_of_rib: Families,
    /// Families whose End-of-RIB marker is held back until this node knows all routes.
    pub(crate) held_markers: Families,
    /// Families whose dump answers a ROUTE-REFRESH, with the beginning marker not sent yet (RFC
    /// 7313).
    pub(crate) begins: Families,
    /// Families whose dump answers a ROUTE-REFRESH, with the ending marker not sent yet.
    pub(crate) ends: Families,
}

impl Outbox {
    /// Returns whether new messages must wait for pending changes.
    pub(crate) fn lags(&self) -> bool {
        self.dump.is_some()
            || !self.pending.is_empty()
            || !self.withdrawn.is_empty()
            || !self.end_of_rib.is_empty()
            || !self.ends.is_empty()
    }

    /// Returns whether the peer may hold an older route of a prefix that is not advertised any more.
    pub(crate) fn must_withdraw(&self, ix: u32, family: Family) -> bool {
        self.pending.contains(ix) || self.dump.is_some_and(|dump| dump.again && dump.comes_to(ix, family))
    }

    /// Schedules the announcement of a prefix.
    pub(crate) fn announce(&mut self, ix: u32, family: Family) {
        if self.dump.is_none_or(|dump| !dump.comes_to(ix, family)) {
            self.pending.insert(ix);
        }
    }

    /// Schedules the withdrawal of a prefix.
    pub(crate) fn withdraw(&mut self, ix: u32, prefix: IpNet) {
        self.pending.remove(ix);
        let family = Family::of(&prefix);
        let is_pending = self.dump.is_some_and(|dump| !dump.again && dump.comes_to(ix, family));
        if !is_pending {
            self.withdrawn.insert(prefix);
        }
    }

    /// Schedules all prefixes of some families, up to the place `end`; with `again` the peer may
    /// hold some of them.
    pub(crate) fn dump(&mut self, end: u32, families: Families, again: bool) {
        let before = self.dump.map_or(Families::NONE, |dump| dump.families);
        self.dump = Some(Dump { next: 0, end, families: families.union(before), again });
    }
}

/// Sends the markers of an answer to a ROUTE-REFRESH (RFC 7313 §3.2); returns whether there was
/// capacity.
pub(crate) fn markers(
    peer: PeerId,
    families: &mut Families,
    subtype: u8,
    delivery: &mut impl Delivery,
) -> bool {
    for family in families.iter() {
        let mut message = Vec::new();
        RouteRefresh { family: family.afi_safi(), subtype }.encode(&mut message);
        if !delivery.deliver(peer, message.into()) {
            return false;
        }
        families.remove(family);
    }
    true
}

/// Sends the End-of-RIB markers of `families` (RFC 4724 §2); returns whether there was capacity.
pub(crate) fn end_of_rib(peer: PeerId, families: &mut Families, delivery: &mut impl Delivery) -> bool {
    for family in families.iter() {
        let mut message = Vec::new();
        encode::end_of_rib(&mut message, family);
        if !delivery.deliver(peer, message.into()) {
            return false;
        }
        families.remove(family);
    }
    true
}

/// Number of places per page of the set.
const PAGE: u32 = 512;

/// Set of places: a bitmap with pages on demand.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlaceSet {
    pages: BTreeMap<u32, [u64; PAGE as usize / 64]>,
}

impl PlaceSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    pub(crate) fn contains(&self, ix: u32) -> bool {
        let page = self.pages.get(&(ix / PAGE));
        page.is_some_and(|page| page[(ix % PAGE / 64) as usize] & 1 << (ix % 64) != 0)
    }

    pub(crate) fn insert(&mut self, ix: u32) {
        let page = self.pages.entry(ix / PAGE).or_default();
        page[(ix % PAGE / 64) as usize] |= 1 << (ix % 64);
    }

    pub(crate) fn remove(&mut self, ix: u32) {
        let Some(page) = self.pages.get_mut(&(ix / PAGE)) else { return };
        page[(ix % PAGE / 64) as usize] &= !(1 << (ix % 64));
        if *page == [0; PAGE as usize / 64] {
            self.pages.remove(&(ix / PAGE));
        }
    }

    /// Returns the places in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.pages.iter().flat_map(|(page, words)| {
            words.iter().zip(0..).flat_map(move |(word, at)| {
                let mut rest = *word;
                std::iter::from_fn(move || {
                    let bit = (rest != 0).then(|| rest.trailing_zeros())?;
                    rest &= rest - 1;
                    Some(page * PAGE + at * 64 + bit)
                })
            })
        })
    }
}

/// Messages for a whole group. Each peer receives the chunk without the parts whose routes it is
/// the source of.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) octets: Bytes,
    /// Omitted parts: peer, start, end; sorted.
    omitted: Vec<(PeerId, usize, usize)>,
}

impl Chunk {
    /// Returns the pieces for `peer`, in order.
    pub(crate) fn pieces(&self, peer: PeerId) -> impl Iterator<Item = Bytes> + '_ {
        let mut at = 0;
        let first = self.omitted.partition_point(|(id, ..)| *id < peer);
        let cuts = self.omitted[first..]
            .iter()
            .take_while(move |(id, ..)| *id == peer)
            .map(|(_, start, end)| (*start, *end));
        cuts.chain([(self.octets.len(), self.octets.len())]).filter_map(move |(start, end)| {
            let piece = (at < start).then(|| self.octets.slice(at..start));
            at = end;
            piece
        })
    }
}

/// Size in octets at which a chunk is closed; with the messages of one more run it stays near 64
/// KiB.
const CHUNK_LEN: usize = 32 * 1024;

/// Collector of messages into chunks.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    open: Vec<u8>,
    omitted: Vec<(PeerId, usize, usize)>,
    closed: Vec<Chunk>,
}

impl Chunks {
    /// Appends what `write` writes; it is omitted for `source`.
    pub(crate) fn append<T>(&mut self, source: Option<PeerId>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.open.len();
        let result = write(&mut self.open);
        let end = self.open.len();
        if let Some(source) = source.filter(|_| end > start) {
            match self.omitted.last_mut() {
                Some((last, _, last_end)) if *last == source && *last_end == start => *last_end = end,
                _ => self.omitted.push((source, start, end)),
            }
        }
        if end >= CHUNK_LEN {
            self.close();
        }
        result
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            // Excess capacity would be kept until the slowest peer has received the chunk.
            let mut open = std::mem::take(&mut self.open);
            open.shrink_to_fit();
            let mut omitted = std::mem::take(&mut self.omitted);
            omitted.sort_unstable();
            self.closed.push(Chunk { octets: open.into(), omitted });
        }
    }

    pub(crate) fn finish(mut self) -> Vec<Chunk> {
        self.close();
        self.closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_does_not_receive_its_own_routes() {
        let mut chunks = Chunks::default();
        for (source, octets) in [(Some(1), "aa"), (Some(2), "b"), (None, "c"), (Some(1), "d")] {
            chunks.append(source.map(PeerId), |out| out.extend(octets.bytes()));
        }
        let chunks = chunks.finish();
        let of = |peer| chunks[0].pieces(PeerId(peer)).collect::<Vec<_>>().concat();
        assert_eq!(chunks.len(), 1);
        assert_eq!(of(1), b"bc");
        assert_eq!(of(2), b"aacd");
        assert_eq!(of(3), b"aabcd");
        assert_eq!(chunks[0].pieces(PeerId(3)).count(), 1, "the whole chunk is one piece");
    }

    #[test]
    fn a_place_set_iterates_in_order() {
        let mut places = PlaceSet::default();
        for ix in [513, 0, 63, 64, 511, 100_000, 64] {
            places.insert(ix);
        }
        places.remove(63);
        places.remove(7);
        assert!(places.contains(64) && !places.contains(63) && !places.contains(200_000));
        assert_eq!(places.iter().collect::<Vec<_>>(), [0, 64, 511, 513, 100_000]);
        [0, 64, 511, 513, 100_000].into_iter().for_each(|ix| places.remove(ix));
        assert!(places.is_empty(), "an empty page is released");
    }
}
