//! The load of a kernel's table: one sender announces the blocks of many nodes, each behind its own next hop.

use std::{net::Ipv4Addr, rc::Rc};

use super::wire::{self, Attributes};

/// The length of a block.
pub const BLOCK_LENGTH: u8 = 26;

/// Consecutive /26 blocks, as many behind each next hop.
#[derive(Clone, Debug)]
pub struct NextHopLoad {
    /// The first block.
    pub first: Ipv4Addr,
    /// The next hops of the blocks.
    pub next_hops: Vec<Ipv4Addr>,
    /// Blocks per next hop.
    pub each: u32,
}

impl NextHopLoad {
    /// Returns the number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u32 {
        u32::try_from(self.next_hops.len()).unwrap_or(u32::MAX).saturating_mul(self.each)
    }

    /// The address of a block.
    #[must_use]
    pub fn block(&self, number: u32) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.first.to_bits() + (number << (32 - BLOCK_LENGTH)))
    }

    /// Each block, and its next hop.
    pub fn iter(&self) -> impl Iterator<Item = (Ipv4Addr, Ipv4Addr)> + '_ {
        let each = self.each;
        let runs = (0u32..).zip(&self.next_hops);
        runs.flat_map(move |(run, hop)| (run * each..(run + 1) * each).map(|n| (self.block(n), *hop)))
    }

    fn run(&self, number: usize) -> impl Iterator<Item = (u32, u8)> + '_ {
        let first = u32::try_from(number).unwrap_or(u32::MAX) * self.each;
        (first..first + self.each).map(|number| (self.block(number).to_bits(), BLOCK_LENGTH))
    }

    /// UPDATEs that announce the blocks of one next hop as those of `next_hop`.
    #[must_use]
    pub fn announce_one(&self, number: usize, next_hop: Ipv4Addr) -> Rc<[u8]> {
        let attributes = Attributes { local_pref: 100, ..Attributes::default() }.encode(next_hop);
        let mut script = Vec::new();
        wire::announce(&attributes, self.run(number), &mut script);
        script.into()
    }

    /// UPDATEs that announce all.
    #[must_use]
    pub fn announce(&self) -> Rc<[u8]> {
        let mut script = Vec::new();
        for (number, next_hop) in self.next_hops.iter().enumerate() {
            script.extend_from_slice(&self.announce_one(number, *next_hop));
        }
        script.into()
    }

    /// UPDATEs that announce all in the order in which a growing cluster allocates blocks: one of each node in turn.
    #[must_use]
    pub fn announce_in_turn(&self) -> Rc<[u8]> {
        let attributes: Vec<Vec<u8>> = self
            .next_hops
            .iter()
            .map(|hop| Attributes { local_pref: 100, ..Attributes::default() }.encode(*hop))
            .collect();
        let mut script = Vec::new();
        for turn in 0..self.each {
            for (number, attributes) in (0u32..).zip(&attributes) {
                let block = self.block(number * self.each + turn).to_bits();
                wire::announce(attributes, [(block, BLOCK_LENGTH)], &mut script);
            }
        }
        script.into()
    }

    /// UPDATEs that withdraw all.
    #[must_use]
    pub fn withdraw(&self) -> Rc<[u8]> {
        let mut script = Vec::new();
        let all = (0..self.next_hops.len()).flat_map(|number| self.run(number));
        wire::withdraw(all, &mut script);
        script.into()
    }
}
