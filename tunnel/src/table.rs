//! The table of routes, a few octets each: learned path, desired route and the kernel's route of
//! each key.
//!
//! A route is an entry of a slab and holds ids of shared values ([`crate::intern`]). Entries are
//! identified by their slots, so that a list of work is a list of small numbers and is processed in
//! the order of memory.

use std::{
    hash::BuildHasher,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use ipnet::IpNet;

use crate::{desired::RouteKey, intern::NONE};

/// Bit of the slots of IPv6 routes.
const V6: u32 = 1 << 31;
/// Slabs below this number of entries are not shrunk.
const SMALL: usize = 4096;

/// The route waits to be compared.
pub const DIRTY: u8 = 1;
/// A change is in flight.
pub const IN_FLIGHT: u8 = 1 << 1;
/// The path was learned since the start, and withdrawn.
pub const WITHDRAWN: u8 = 1 << 2;
/// The ledger has a failure of the route.
pub const FAILED: u8 = 1 << 3;
/// The configuration desires the route, independently of learned paths.
pub const CONFIGURED: u8 = 1 << 4;
/// The present observation met the route; or, while a change is in flight, of which there is none
/// during an observation: another program changed the route meanwhile.
pub const MET: u8 = 1 << 5;
/// The route has to be compared after its change in flight.
pub const PARKED: u8 = 1 << 6;
/// The slot is free.
const FREE: u8 = 1 << 7;

/// One route.
#[derive(Debug, Clone, Copy, Default)]
pub struct RouteState {
    /// Id of the learned path, or [`NONE`].
    pub learned: u32,
    /// Id of the desired route, or [`NONE`].
    pub want: u32,
    /// Id of the kernel's next hop, or [`NONE`].
    pub via: u32,
    length: u8,
    flags: u8,
}

impl RouteState {
    /// Returns whether all of these flags are set.
    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Sets flags.
    pub fn set(&mut self, flags: u8) {
        self.flags |= flags;
    }

    /// Clears flags.
    pub fn clear(&mut self, flags: u8) {
        self.flags &= !flags;
    }
}

#[derive(Debug, Clone, Copy)]
struct RouteEntry<A> {
    address: A,
    metric: u32,
    state: RouteState,
}

/// An address as a number.
trait Bits: Copy + Eq {
    /// Number of bits.
    const BITS: u32;

    fn bits(self) -> u128;
}

impl Bits for u32 {
    const BITS: u32 = 32;

    fn bits(self) -> u128 {
        self.into()
    }
}

impl Bits for [u8; 16] {
    const BITS: u32 = 128;

    fn bits(self) -> u128 {
        u128::from_be_bytes(self)
    }
}

/// Returns the hash of a key. Sixteen adjacent prefixes get adjacent places of the index: they
/// mostly arrive together, and one cache line then serves them all. The places are unpredictable
/// from outside.
fn place<A: Bits>(hasher: &RandomState, address: A, length: u8, metric: u32) -> u64 {
    let number = address.bits().checked_shr(A::BITS - u32::from(length).min(A::BITS)).unwrap_or(0);
    let [low, ..] = number.to_le_bytes();
    let low = u64::from(low & 0xf);
    // The table distinguishes the places of one line by the highest bits.
    (hasher.hash_one((number >> 4, length, metric)) & !0xf) ^ low ^ (low << 60)
}

/// The routes of one family.
#[derive(Debug, Clone)]
struct FamilyTable<A> {
    entries: Vec<RouteEntry<A>>,
    index: HashTable<u32>,
    free: Vec<u32>,
    hasher: RandomState,
}

impl<A> Default for FamilyTable<A> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            index: HashTable::new(),
            free: Vec::new(),
            hasher: RandomState::default(),
        }
    }
}

fn at(slot: u32) -> usize {
    usize::try_from(slot & !V6).unwrap_or(usize::MAX)
}

impl<A: Bits> FamilyTable<A> {
    fn hash(&self, address: A, length: u8, metric: u32) -> u64 {
        place(&self.hasher, address, length, metric)
    }

    fn find(&self, address: A, length: u8, metric: u32) -> Option<u32> {
        let same = |slot: &u32| {
            let entry = &self.entries[at(*slot)];
            entry.address == address && entry.state.length == length && entry.metric == metric
        };
        self.index.find(self.hash(address, length, metric), same).copied()
    }

    fn enter(&mut self, address: A, length: u8, metric: u32) -> u32 {
        if let Some(slot) = self.find(address, length, metric) {
            return slot;
        }
        let entry = RouteEntry { address, metric, state: RouteState { length, ..RouteState::default() } };
        let slot = match self.free.pop() {
            Some(slot) => {
                self.entries[at(slot)] = entry;
                slot
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX)
            }
        };
        let hash = self.hash(address, length, metric);
        let (entries, hasher) = (&self.entries, &self.hasher);
        self.index.insert_unique(hash, slot, |slot| {
            let entry = &entries[at(*slot)];
            place(hasher, entry.address, entry.state.length, entry.metric)
        });
        slot
    }

    fn remove(&mut self, slot: u32) {
        let Some(entry) = self.entries.get(at(slot)).copied() else { return };
        let hash = self.hash(entry.address, entry.state.length, entry.metric);
        if let Ok(found) = self.index.find_entry(hash, |other| *other == slot) {
            found.remove();
            self.entries[at(slot)].state = RouteState { flags: FREE, ..RouteState::default() };
            self.free.push(slot);
        }
    }

    /// Returns whether most slots are free.
    fn is_sparse(&self) -> bool {
        self.entries.capacity() > SMALL && self.index.len() <= self.entries.capacity() / 4
    }

    /// Compacts the entries if most slots are free.
    fn shrink(&mut self) {
        if !self.is_sparse() {
            return;
        }
        self.entries.retain(|entry| !entry.state.has(FREE));
        self.entries.shrink_to(SMALL);
        self.free = Vec::new();
        let mut index = HashTable::with_capacity(self.entries.len());
        for (slot, entry) in (0..).zip(&self.entries) {
            let hash = self.hash(entry.address, entry.state.length, entry.metric);
            index.insert_unique(hash, slot, |slot: &u32| {
                let entry = &self.entries[at(*slot)];
                self.hash(entry.address, entry.state.length, entry.metric)
            });
        }
        self.index = index;
    }
}

/// All routes that were learned, are desired, or are ours in the kernel.
#[derive(Debug, Clone, Default)]
pub struct RouteTable {
    v4: FamilyTable<u32>,
    v6: FamilyTable<[u8; 16]>,
}

impl RouteTable {
    /// Returns the slot of a route, if it exists.
    pub fn find(&self, key: &RouteKey) -> Option<u32> {
        let (length, metric) = (key.prefix.prefix_len(), key.metric);
        match key.prefix {
            IpNet::V4(net) => self.v4.find(net.network().to_bits(), length, metric),
            IpNet::V6(net) => self.v6.find(net.network().octets(), length, metric).map(|slot| slot | V6),
        }
    }

    /// Returns the slot of a route, which is created if it does not exist.
    pub fn enter(&mut self, key: &RouteKey) -> u32 {
        let (length, metric) = (key.prefix.prefix_len(), key.metric);
        match key.prefix {
            IpNet::V4(net) => self.v4.enter(net.network().to_bits(), length, metric),
            IpNet::V6(net) => self.v6.enter(net.network().octets(), length, metric) | V6,
        }
    }

    /// Returns destination and metric of the route at a slot.
    pub fn key(&self, slot: u32) -> RouteKey {
        let (address, length, metric) = if slot & V6 == 0 {
            let entry = &self.v4.entries[at(slot)];
            (IpAddr::V4(Ipv4Addr::from_bits(entry.address)), entry.state.length, entry.metric)
        } else {
            let entry = &self.v6.entries[at(slot)];
            (IpAddr::V6(Ipv6Addr::from(entry.address)), entry.state.length, entry.metric)
        };
        // The length came from a prefix of this family.
        let prefix = IpNet::new(address, length).unwrap_or_else(|_| IpNet::from(address));
        RouteKey { prefix, metric }
    }

    /// Returns whether the slot is that of an IPv4 route.
    pub fn is_ipv4(slot: u32) -> bool {
        slot & V6 == 0
    }

    /// Returns the route at a slot.
    pub fn state(&self, slot: u32) -> &RouteState {
        if slot & V6 == 0 { &self.v4.entries[at(slot)].state } else { &self.v6.entries[at(slot)].state }
    }

    /// Returns the route at a slot.
    pub fn state_mut(&mut self, slot: u32) -> &mut RouteState {
        if slot & V6 == 0 {
            &mut self.v4.entries[at(slot)].state
        } else {
            &mut self.v6.entries[at(slot)].state
        }
    }

    /// Removes a route without contents. Returns whether it was removed.
    pub fn remove_if_empty(&mut self, slot: u32) -> bool {
        let state = *self.state(slot);
        let empty = (state.learned, state.want, state.via) == (NONE, NONE, NONE);
        let empty = empty && state.flags & (DIRTY | IN_FLIGHT | MET | FREE) == 0;
        if empty {
            if slot & V6 == 0 { self.v4.remove(slot) } else { self.v6.remove(slot & !V6) }
        }
        empty
    }

    /// Returns the first slot in use from `cursor` on, in the order of memory. The first cursor is
    /// 0, the next one the slot plus one.
    pub fn next(&self, cursor: u32) -> Option<u32> {
        let mut cursor = cursor;
        if cursor & V6 == 0 {
            for entry in self.v4.entries.get(at(cursor)..).unwrap_or_default() {
                if !entry.state.has(FREE) {
                    return Some(cursor);
                }
                cursor += 1;
            }
            cursor = V6;
        }
        for entry in self.v6.entries.get(at(cursor)..).unwrap_or_default() {
            if !entry.state.has(FREE) {
                return Some(cursor);
            }
            cursor += 1;
        }
        None
    }

    /// Returns all slots in use, in the order of memory.
    pub fn slots(&self) -> impl Iterator<Item = u32> {
        let mut cursor = 0;
        std::iter::from_fn(move || {
            let slot = self.next(cursor)?;
            cursor = slot + 1;
            Some(slot)
        })
    }

    /// Returns the number of routes.
    pub fn len(&self) -> usize {
        self.v4.index.len() + self.v6.index.len()
    }

    /// Returns whether there are no routes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether memory can be released after a peak.
    pub fn is_sparse(&self) -> bool {
        self.v4.is_sparse() || self.v6.is_sparse()
    }

    /// Releases memory after a peak. Slots change, so none may be held.
    pub fn shrink(&mut self) {
        self.v4.shrink();
        self.v6.shrink();
    }

    /// Returns the size of the table in octets.
    pub fn octets(&self) -> usize {
        fn part<A>(part: &FamilyTable<A>) -> usize {
            part.entries.capacity() * size_of::<RouteEntry<A>>()
                + part.index.allocation_size()
                + part.free.capacity() * size_of::<u32>()
        }
        part(&self.v4) + part(&self.v6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(i: u32) -> RouteKey {
        let net = ipnet::Ipv4Net::new_assert(Ipv4Addr::from_bits(0x0a00_0000 + (i << 6)), 26);
        RouteKey { prefix: net.into(), metric: 512 }
    }

    #[test]
    fn both_families_and_all_metrics_are_kept_apart() {
        let mut table = RouteTable::default();
        let v6 = RouteKey { prefix: "fd10::40/122".parse().expect("prefix"), metric: 512 };
        let keys = [key(0), key(1), RouteKey { metric: 1, ..key(0) }, v6];
        let slots = keys.map(|key| table.enter(&key));
        assert_eq!(keys.map(|key| table.find(&key)), slots.map(Some));
        assert_eq!(slots.map(|slot| table.key(slot)), keys);
        assert_eq!(table.slots().collect::<Vec<_>>(), slots);
        table.state_mut(slots[1]).via = 1;
        assert!(!table.remove_if_empty(slots[1]));
        assert!(table.remove_if_empty(slots[3]) && table.remove_if_empty(slots[0]));
        assert_eq!((table.find(&v6), table.find(&key(0)), table.len()), (None, None, 2));
        assert_eq!(table.enter(&key(7)), slots[0], "the free slot is used first");
    }

    #[test]
    fn a_million_routes_take_at_most_48_octets_each_and_release_them() {
        let mut table = RouteTable::default();
        for i in 0..1_000_000 {
            let slot = table.enter(&key(i));
            table.state_mut(slot).want = 1;
        }
        assert!(table.octets() <= 48_000_000, "{}", table.octets());
        for i in 10..1_000_000 {
            let slot = table.find(&key(i)).expect("entered");
            table.state_mut(slot).want = NONE;
            assert!(table.remove_if_empty(slot));
        }
        table.shrink();
        assert!(table.octets() < 200_000, "{}", table.octets());
        assert!((0..10).all(|i| table.find(&key(i)).is_some()) && table.len() == 10);
    }
}
