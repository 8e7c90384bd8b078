//! What a peer has not been told yet. Usually nothing: messages go to all peers of a group as they
//! are made. A peer whose channel is full, or that has just come, costs one entry for each prefix
//! that changed meanwhile, the latest state wins, and the others don't wait.

use bgp::{Families, PeerId};
use bytes::Bytes;
use foldhash::fast::FixedState;
use hashbrown::HashSet;
use ipnet::IpNet;

/// Takes encoded messages for a peer; the bytes are shared.
pub trait Delivery {
    /// Whether there was room. After `false` the RIB waits for [`Rib::resume`](crate::Rib::resume).
    fn deliver(&mut self, peer: PeerId, chunk: Bytes) -> bool;
}

/// One peer's arrears.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) pending: HashSet<IpNet, FixedState>,
    /// Families whose End-of-RIB marker follows what is pending.
    pub(crate) end_of_rib: Families,
}

impl Outbox {
    /// Whether messages must wait for what is pending.
    pub(crate) fn lags(&self) -> bool {
        !self.pending.is_empty() || !self.end_of_rib.is_empty()
    }
}

/// Messages for a whole group, with the octets that some peers are spared: each peer gets the chunk
/// but for the parts that it is the source of.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) octets: Bytes,
    /// Peer, start, end; in the order of starts.
    pub(crate) spared: Vec<(PeerId, usize, usize)>,
}

impl Chunk {
    /// The pieces for `peer`, in order.
    pub(crate) fn pieces(&self, peer: PeerId) -> impl Iterator<Item = Bytes> + '_ {
        let mut at = 0;
        let cuts =
            self.spared.iter().filter(move |(id, ..)| *id == peer).map(|(_, start, end)| (*start, *end));
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
            self.spared.push((source, start, end));
        }
        if end >= CHUNK_LEN {
            self.close();
        }
        result
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            let octets = Bytes::from(std::mem::take(&mut self.open));
            let spared = std::mem::take(&mut self.spared);
            self.closed.push(Chunk { octets, spared });
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
}
