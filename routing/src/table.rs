//! Compact table of prefixes and paths: 32 octets for a prefix with one path and 12 for each
//! further path, without an allocation for either. A prefix is identified by its place in a list,
//! which the rest of the RIB refers to.

mod path;

use std::hash::BuildHasher;
use std::net::Ipv4Addr;

use bgp::Family;
use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as IndexEntry;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::path::SourceIx;

pub(crate) use path::{RibPath, Scope};

/// No entry, or no node.
const NONE: u32 = u32::MAX;
/// Key of an unused entry.
const VACANT: u64 = u64::MAX;
/// Flag in the key of an IPv6 prefix; the other bits are its index in a list of its own.
const V6: u64 = 1 << 63;

/// Mark of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// The prefix is to be decided on.
    Dirty = 1,
    /// The change of its best path is to be reported to forwarding.
    Forward = 2,
    /// The prefix has several tunnel exits.
    Multipath = 4,
}

#[derive(Clone, Debug)]
struct PrefixEntry {
    key: u64,
    first: RibPath,
    advertised: RibPath,
    /// First node of the further paths; of an unused entry, the next unused one.
    more: u32,
    well_known: u8,
}

#[derive(Clone, Copy, Debug)]
struct PathNode {
    path: RibPath,
    next: u32,
}

/// Result of inserting a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Insertion {
    /// The source had no path to the prefix.
    New,
    /// The source had the same path.
    Same,
    /// The source had this path, which was replaced.
    Replaced(RibPath),
}

/// Number of parts of the index. Each grows by itself, since growing one index of a million
/// prefixes blocks for a tenth of a second.
const SHARDS: usize = 256;

/// Table of prefixes and paths.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    index: Vec<HashTable<u32>>,
    len: usize,
    entries: Vec<PrefixEntry>,
    vacant: u32,
    nodes: Vec<PathNode>,
    vacant_node: u32,
    v6: Vec<Ipv6Net>,
    vacant_v6: Vec<u32>,
    paths: usize,
    /// Number of nodes in use.
    node_count: usize,
    hasher: RandomState,
}

impl Default for Table {
    fn default() -> Table {
        Table {
            index: std::iter::repeat_with(HashTable::new).take(SHARDS).collect(),
            len: 0,
            entries: Vec::new(),
            vacant: NONE,
            nodes: Vec::new(),
            vacant_node: NONE,
            v6: Vec::new(),
            vacant_v6: Vec::new(),
            paths: 0,
            node_count: 0,
            // Peers choose the prefixes, and must not be able to provoke collisions.
            hasher: RandomState::default(),
        }
    }
}

fn v4_key(net: &Ipv4Net) -> u64 {
    u64::from(net.addr().to_bits()) << 8 | u64::from(net.prefix_len())
}

fn hash_of(hasher: &RandomState, v6: &[Ipv6Net], key: u64) -> u64 {
    if key & V6 == 0 { hash_v4(hasher, key) } else { hash_v6(hasher, &v6[(key ^ V6) as usize]) }
}

/// Returns the hash of an IPv4 prefix. Adjacent networks of one length are adjacent in the index
/// too, 16 at a time: they mostly arrive together and then share a cache line.
fn hash_v4(hasher: &RandomState, key: u64) -> u64 {
    let length = key & 0xff;
    let network = key.checked_shr(40 - length as u32).unwrap_or(0);
    let near = network & 0xf;
    // The lowest bits select the place, the highest ones distinguish adjacent networks.
    (hasher.hash_one((network >> 4) << 8 | length) & !0xf | near) ^ near << 60
}

/// Returns the part of the index for a hash; it is the same for adjacent networks.
fn shard_of(hash: u64) -> usize {
    (hash >> 40) as usize % SHARDS
}

fn hash_v6(hasher: &RandomState, net: &Ipv6Net) -> u64 {
    hasher.hash_one((net.addr().to_bits(), net.prefix_len()))
}

impl Table {
    /// Returns the number of prefixes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of paths.
    pub(crate) fn paths_len(&self) -> usize {
        self.paths
    }

    /// Returns the place after the last one in use.
    pub(crate) fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    pub(crate) fn is_used(&self, ix: u32) -> bool {
        self.entries[ix as usize].key != VACANT
    }

    pub(crate) fn prefix(&self, ix: u32) -> IpNet {
        let key = self.entries[ix as usize].key;
        if key & V6 == 0 {
            let address = Ipv4Addr::from_bits((key >> 8) as u32);
            IpNet::V4(Ipv4Net::new(address, key as u8).unwrap_or_default())
        } else {
            IpNet::V6(self.v6[(key ^ V6) as usize])
        }
    }

    pub(crate) fn family(&self, ix: u32) -> Family {
        match self.entries[ix as usize].key & V6 {
            0 => Family::Ipv4Unicast,
            _ => Family::Ipv6Unicast,
        }
    }

    /// Returns the place of a prefix.
    pub(crate) fn find(&self, prefix: &IpNet) -> Option<u32> {
        let (entries, v6) = (&self.entries, &self.v6);
        match prefix {
            IpNet::V4(net) => {
                let key = v4_key(net);
                let hash = hash_v4(&self.hasher, key);
                self.index[shard_of(hash)].find(hash, |ix| entries[*ix as usize].key == key)
            }
            IpNet::V6(net) => {
                let hash = hash_v6(&self.hasher, net);
                self.index[shard_of(hash)].find(hash, |ix| {
                    let key = entries[*ix as usize].key;
                    key & V6 != 0 && v6[(key ^ V6) as usize] == *net
                })
            }
        }
        .copied()
    }

    /// Returns the place of a prefix, which is added if necessary.
    pub(crate) fn find_or_insert(&mut self, prefix: &IpNet) -> u32 {
        let Table { index, len, entries, v6, vacant_v6, vacant, hasher, .. } = self;
        let key = match prefix {
            IpNet::V4(net) => v4_key(net),
            IpNet::V6(_) => V6,
        };
        let hash = match prefix {
            IpNet::V4(_) => hash_v4(hasher, key),
            IpNet::V6(net) => hash_v6(hasher, net),
        };
        let same = |ix: &u32| {
            let other = entries[*ix as usize].key;
            match prefix {
                IpNet::V4(_) => other == key,
                IpNet::V6(net) => other & V6 != 0 && v6[(other ^ V6) as usize] == *net,
            }
        };
        let rehash = |ix: &u32| hash_of(hasher, v6, entries[*ix as usize].key);
        let place = match index[shard_of(hash)].entry(hash, same, rehash) {
            IndexEntry::Occupied(found) => return *found.get(),
            IndexEntry::Vacant(place) => place,
        };
        let ix = if *vacant == NONE { entries.len() as u32 } else { *vacant };
        place.insert(ix);
        *len += 1;
        let key = match prefix {
            IpNet::V4(_) => key,
            IpNet::V6(net) => {
                V6 | match vacant_v6.pop() {
                    Some(at) => {
                        v6[at as usize] = *net;
                        u64::from(at)
                    }
                    None => {
                        v6.push(*net);
                        v6.len() as u64 - 1
                    }
                }
            }
        };
        let entry =
            PrefixEntry { key, first: RibPath::NONE, advertised: RibPath::NONE, more: NONE, well_known: 0 };
        match entries.get_mut(ix as usize) {
            Some(old) => {
                *vacant = old.more;
                *old = entry;
            }
            None => entries.push(entry),
        }
        ix
    }

    /// Removes a prefix that has no path, is not advertised and has no mark; returns whether it was
    /// removed.
    pub(crate) fn remove_if_unused(&mut self, ix: u32) -> bool {
        let entry = &self.entries[ix as usize];
        if entry.key == VACANT
            || !entry.first.is_none()
            || !entry.advertised.is_none()
            || entry.well_known != 0
        {
            return false;
        }
        let key = entry.key;
        let hash = hash_of(&self.hasher, &self.v6, key);
        if let Ok(found) = self.index[shard_of(hash)].find_entry(hash, |other| *other == ix) {
            found.remove();
            self.len -= 1;
        }
        if key & V6 != 0 {
            self.vacant_v6.push((key ^ V6) as u32);
        }
        let vacant = std::mem::replace(&mut self.vacant, ix);
        self.entries[ix as usize] = PrefixEntry {
            key: VACANT,
            first: RibPath::NONE,
            advertised: RibPath::NONE,
            more: vacant,
            well_known: 0,
        };
        if self.len == 0 {
            self.release();
        }
        true
    }

    /// Releases the memory of an empty table.
    fn release(&mut self) {
        let hasher = self.hasher.clone();
        *self = Table { hasher, ..Table::default() };
    }

    /// Returns the advertised path of a prefix.
    pub(crate) fn advertised(&self, ix: u32) -> RibPath {
        self.entries[ix as usize].advertised
    }

    pub(crate) fn set_advertised(&mut self, ix: u32, path: RibPath) {
        self.entries[ix as usize].advertised = path;
    }

    /// Sets a mark; returns whether it was not set before.
    pub(crate) fn mark(&mut self, ix: u32, mark: Mark) -> bool {
        let well_known = &mut self.entries[ix as usize].well_known;
        let new = *well_known & mark as u8 == 0;
        *well_known |= mark as u8;
        new
    }

    /// Returns whether a mark is set.
    pub(crate) fn is_marked(&self, ix: u32, mark: Mark) -> bool {
        self.entries[ix as usize].well_known & mark as u8 != 0
    }

    pub(crate) fn unmark(&mut self, ix: u32, mark: Mark) {
        self.entries[ix as usize].well_known &= !(mark as u8);
    }

    /// Returns the path of a prefix with at most one path; `None` if it has several.
    pub(crate) fn single_path(&self, ix: u32) -> Option<RibPath> {
        let entry = &self.entries[ix as usize];
        (entry.more == NONE).then_some(entry.first)
    }

    /// Returns the paths of a prefix.
    pub(crate) fn paths(&self, ix: u32) -> impl Iterator<Item = RibPath> + '_ {
        let entry = &self.entries[ix as usize];
        let mut at = entry.more;
        let more = std::iter::from_fn(move || {
            let node = self.nodes.get(at as usize)?;
            at = node.next;
            Some(node.path)
        });
        std::iter::once(entry.first).filter(|path| !path.is_none()).chain(more)
    }

    /// Inserts a path, replacing that of the same source.
    pub(crate) fn put(&mut self, ix: u32, path: RibPath) -> Insertion {
        let entry = &mut self.entries[ix as usize];
        if entry.first.is_none() {
            entry.first = path;
            self.paths += 1;
            return Insertion::New;
        }
        let mut known = (entry.first.source() == path.source()).then_some(&mut entry.first);
        if known.is_none() {
            let mut at = entry.more;
            while at != NONE {
                let node = self.nodes[at as usize];
                if node.path.source() == path.source() {
                    known = Some(&mut self.nodes[at as usize].path);
                    break;
                }
                at = node.next;
            }
        }
        match known {
            Some(known) if *known == path => Insertion::Same,
            Some(known) => Insertion::Replaced(std::mem::replace(known, path)),
            None => {
                let node = PathNode { path, next: entry.more };
                entry.more = match self.nodes.get_mut(self.vacant_node as usize) {
                    Some(vacant) => {
                        let at = std::mem::replace(&mut self.vacant_node, vacant.next);
                        *vacant = node;
                        at
                    }
                    None => {
                        self.nodes.push(node);
                        self.nodes.len() as u32 - 1
                    }
                };
                self.paths += 1;
                self.node_count += 1;
                Insertion::New
            }
        }
    }

    /// Removes the path of a source.
    pub(crate) fn take(&mut self, ix: u32, source: SourceIx) -> Option<RibPath> {
        let entry = &mut self.entries[ix as usize];
        if entry.first.is_none() {
            return None;
        }
        let mut freed = entry.more;
        let removed = if entry.first.source() == source {
            let second = self.nodes.get(entry.more as usize).copied();
            let second = second.unwrap_or(PathNode { path: RibPath::NONE, next: NONE });
            entry.more = second.next;
            std::mem::replace(&mut entry.first, second.path)
        } else {
            let mut before = NONE;
            loop {
                let node = *self.nodes.get(freed as usize)?;
                if node.path.source() == source {
                    match self.nodes.get_mut(before as usize) {
                        Some(before) => before.next = node.next,
                        None => entry.more = node.next,
                    }
                    break node.path;
                }
                before = std::mem::replace(&mut freed, node.next);
            }
        };
        if let Some(node) = self.nodes.get_mut(freed as usize) {
            *node = PathNode { path: RibPath::NONE, next: self.vacant_node };
            self.vacant_node = freed;
            self.node_count -= 1;
            if self.node_count == 0 {
                (self.nodes, self.vacant_node) = (Vec::new(), NONE);
            }
        }
        self.paths -= 1;
        Some(removed)
    }

    /// Returns whether a source has a path to the prefix.
    pub(crate) fn has(&self, ix: u32, source: SourceIx) -> bool {
        self.paths(ix).any(|path| path.source() == source)
    }

    /// Returns whether a source may have a path to the prefix: a cheap test without false
    /// negatives.
    pub(crate) fn may_have(&self, ix: u32, source: SourceIx) -> bool {
        let entry = &self.entries[ix as usize];
        entry.more != NONE && entry.key != VACANT || entry.first.source() == source && !entry.first.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interner::AttrId;
    use std::collections::BTreeMap;
    use std::net::Ipv6Addr;

    use proptest::prelude::*;

    fn net(number: u8) -> IpNet {
        match number % 2 {
            0 => IpNet::V4(Ipv4Net::new(Ipv4Addr::new(10, 0, number, 0), 26).unwrap()),
            _ => IpNet::V6(Ipv6Net::new(Ipv6Addr::from_bits(u128::from(number) << 64), 122).unwrap()),
        }
    }

    #[test]
    fn a_prefix_takes_32_octets_and_a_further_path_12() {
        assert_eq!(size_of::<PrefixEntry>(), 32);
        assert_eq!(size_of::<PathNode>(), 12);
    }

    proptest! {
        #[test]
        fn the_table_holds_inserted_paths_until_they_are_removed(
            steps in prop::collection::vec((0..12u8, 0..5u32, prop::option::of(0..4u32)), 0..200),
        ) {
            let mut table = Table::default();
            let mut model: BTreeMap<IpNet, BTreeMap<u32, u32>> = BTreeMap::new();
            for (number, source, attrs) in steps {
                let prefix = net(number);
                let known = model.entry(prefix).or_default();
                match attrs {
                    Some(attrs) => {
                        let ix = table.find_or_insert(&prefix);
                        let path = RibPath::new(AttrId(attrs), SourceIx(source), None);
                        let expected = match known.insert(source, attrs) {
                            None => Insertion::New,
                            Some(old) if old == attrs => Insertion::Same,
                            Some(old) => Insertion::Replaced(RibPath::new(AttrId(old), SourceIx(source), None)),
                        };
                        prop_assert_eq!(table.put(ix, path), expected);
                    }
                    None => if let Some(ix) = table.find(&prefix) {
                        let removed = table.take(ix, SourceIx(source)).map(|path| path.attrs().0);
                        prop_assert_eq!(removed, known.remove(&source));
                        prop_assert_eq!(table.remove_if_unused(ix), known.is_empty());
                    }
                }
                model.retain(|_, paths| !paths.is_empty());
                let held: BTreeMap<IpNet, BTreeMap<u32, u32>> = (0..table.end())
                    .filter(|ix| table.is_used(*ix))
                    .map(|ix| {
                        let paths = table.paths(ix).map(|path| (path.source().0, path.attrs().0)).collect();
                        (table.prefix(ix), paths)
                    })
                    .collect();
                prop_assert_eq!(&held, &model);
                prop_assert_eq!(table.len(), model.len());
                prop_assert_eq!(table.paths_len(), model.values().map(BTreeMap::len).sum::<usize>());
                for prefix in model.keys() {
                    prop_assert_eq!(table.find(prefix).map(|ix| table.prefix(ix)), Some(*prefix));
                }
            }
        }
    }
}
