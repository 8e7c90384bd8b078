//! What a peer has not been told yet. Usually nothing: messages go to all peers of a group as they
//! are made. A peer whose channel is full costs one bit for each prefix that changed meanwhile, the
//! latest state wins, and the others don't wait; a peer that has just come costs a place in the table.

use std::collections::BTreeMap;

use bgp::wire::encode;
use bgp::wire::refresh::RouteRefresh;
use bgp::{Families, Family, PeerId};
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use ipnet::IpNet;

/// Takes encoded messages for a peer; the bytes are shared.
pub trait Delivery {
    /// Whether there was room. After `false` the RIB waits for [`Rib::resume`](crate::Rib::resume).
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool;
}

/// All prefixes from one place in the table to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dump {
    pub(crate) next: u32,
    pub(crate) end: u32,
    pub(crate) families: Families,
    /// The peer may hold prefixes that it is not to hold any more.
    pub(crate) again: bool,
}

impl Dump {
    fn comes_to(&self, ix: u32, family: Family) -> bool {
        (self.next..self.end).contains(&ix) && self.families.contains(family)
    }
}

/// Takes every message and sends none: for a copy of the RIB that shows what the RIB would do.
#[derive(Clone, Copy, Debug, Default)]
pub struct DiscardDelivery;

impl Delivery for DiscardDelivery {
    fn deliver(&mut self, _: PeerId, _: Bytes) -> bool {
        true
    }
}

/// One peer's arrears.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) dump: Option<Dump>,
    /// Places of prefixes that it must be told of.
    pub(crate) pending: PlaceSet,
    /// Prefixes that it must be told are gone, before all else: they may have no place any more.
    pub(crate) withdrawn: HashSet<IpNet, FixedState>,
    /// Families whose End-of-RIB marker follows the dump.
    pub(crate) end_of_rib: Families,
    /// Families whose End-of-RIB marker waits until this node knows all routes.
    pub(crate) held: Families,
    /// Families whose dump answers a ROUTE-REFRESH and is yet to begin (RFC 7313).
    pub(crate) begins: Families,
    /// Families whose dump answers one and is yet to end.
    pub(crate) ends: Families,
}

impl Outbox {
    /// Whether messages must wait for what is pending.
    pub(crate) fn lags(&self) -> bool {
        self.dump.is_some()
            || !self.pending.is_empty()
            || !self.withdrawn.is_empty()
            || !self.end_of_rib.is_empty()
            || !self.ends.is_empty()
    }

    /// Whether what is at a place is yet to be told to a peer that may hold something of before.
    pub(crate) fn readvertises(&self, ix: u32, family: Family) -> bool {
        self.dump.is_some_and(|dump| dump.again && dump.comes_to(ix, family))
    }

    /// What is at a place is to be told.
    pub(crate) fn announce(&mut self, ix: u32, family: Family) {
        if self.dump.is_none_or(|dump| !dump.comes_to(ix, family)) {
            self.pending.insert(ix);
        }
    }

    /// A prefix is to be told to be gone.
    pub(crate) fn withdraw(&mut self, ix: u32, prefix: IpNet) {
        self.pending.remove(ix);
        let family = Family::of(&prefix);
        let untold = self.dump.is_some_and(|dump| !dump.again && dump.comes_to(ix, family));
        if !untold {
            self.withdrawn.insert(prefix);
        }
    }

    /// Everything of some families is to be told, from the table's first place to `end`; `again`: to
    /// a peer that was told some of it before.
    pub(crate) fn dump(&mut self, end: u32, families: Families, again: bool) {
        let before = self.dump.map_or(Families::NONE, |dump| dump.families);
        self.dump = Some(Dump { next: 0, end, families: families.union(before), again });
    }
}

/// Sends the markers around what answers a ROUTE-REFRESH (RFC 7313 §3.2); whether there was room.
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

/// Sends the End-of-RIB markers of `families` (RFC 4724 §2); whether there was room.
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

/// Places in a page of the set.
const PAGE: u32 = 512;

/// A set of places: a bit each, in pages where there are any.
#[derive(Clone, Debug, Default)]
pub(crate) struct PlaceSet {
    pages: BTreeMap<u32, [u64; PAGE as usize / 64]>,
}

impl PlaceSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.pages.is_empty()
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

    /// The places, in order.
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

/// Messages for a whole group, with the octets that some peers are spared: each peer gets the chunk
/// but for the parts that it is the source of.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) octets: Bytes,
    /// Peer, start, end; in this order.
    spared: Vec<(PeerId, usize, usize)>,
}

impl Chunk {
    /// The pieces for `peer`, in order.
    pub(crate) fn pieces(&self, peer: PeerId) -> impl Iterator<Item = Bytes> + '_ {
        let mut at = 0;
        let first = self.spared.partition_point(|(id, ..)| *id < peer);
        let cuts = self.spared[first..]
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

/// Octets at which a chunk is closed; with the messages of one more run it stays near 64 KiB.
const CHUNK_LEN: usize = 32 * 1024;

/// Gathers messages into chunks.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    open: Vec<u8>,
    spared: Vec<(PeerId, usize, usize)>,
    closed: Vec<Chunk>,
}

impl Chunks {
    /// Appends what `write` writes; `source` is spared it.
    pub(crate) fn append<T>(&mut self, source: Option<PeerId>, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let start = self.open.len();
        let result = write(&mut self.open);
        let end = self.open.len();
        if let Some(source) = source.filter(|_| end > start) {
            match self.spared.last_mut() {
                Some((last, _, last_end)) if *last == source && *last_end == start => *last_end = end,
                _ => self.spared.push((source, start, end)),
            }
        }
        if end >= CHUNK_LEN {
            self.close();
        }
        result
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            // What it grew beyond its messages would be held until the slowest peer has them.
            let mut open = std::mem::take(&mut self.open);
            open.shrink_to_fit();
            let mut spared = std::mem::take(&mut self.spared);
            spared.sort_unstable();
            self.closed.push(Chunk { octets: open.into(), spared });
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
    fn a_peer_is_spared_what_it_is_the_source_of() {
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
    fn places_are_a_set_in_order() {
        let mut places = PlaceSet::default();
        for ix in [513, 0, 63, 64, 511, 100_000, 64] {
            places.insert(ix);
        }
        places.remove(63);
        places.remove(7);
        assert_eq!(places.iter().collect::<Vec<_>>(), [0, 64, 511, 513, 100_000]);
        [0, 64, 511, 513, 100_000].into_iter().for_each(|ix| places.remove(ix));
        assert!(places.is_empty(), "an empty page is given back");
    }
}
