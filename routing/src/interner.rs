//! The attribute sets in use, each kept once however many paths share it, and known by a number.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as IndexEntry;

use crate::attrs::AttrSet;

/// An attribute set in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttrId(pub(crate) u32);

impl AttrId {
    /// No attributes.
    pub(crate) const NONE: AttrId = AttrId(u32::MAX);
}

#[derive(Clone, Debug)]
struct AttrSlot {
    set: Option<Arc<AttrSet>>,
    /// The hash's lower half: tables grow without looking at the octets again.
    hash: u32,
    uses: u32,
}

/// The sets.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttrInterner {
    index: HashTable<u32>,
    slots: Vec<AttrSlot>,
    vacant: Vec<u32>,
    hasher: RandomState,
}

impl AttrInterner {
    /// The number of the set equal to `set`, which is used once more: see [`AttrInterner::release`].
    pub(crate) fn intern(&mut self, set: &Arc<AttrSet>) -> AttrId {
        let AttrInterner { index, slots, vacant, hasher } = self;
        // One half does for both: a set is found by its octets in the end.
        let hash = hasher.hash_one(set.as_ref()) as u32;
        let same = |at: &u32| {
            let slot = &slots[*at as usize];
            slot.hash == hash
                && slot.set.as_ref().is_some_and(|known| Arc::ptr_eq(known, set) || known == set)
        };
        let rehash = |at: &u32| spread(slots[*at as usize].hash);
        match index.entry(spread(hash), same, rehash) {
            IndexEntry::Occupied(found) => {
                let at = *found.get();
                slots[at as usize].uses += 1;
                AttrId(at)
            }
            IndexEntry::Vacant(place) => {
                let slot = AttrSlot { set: Some(Arc::clone(set)), hash, uses: 1 };
                let at = match vacant.pop() {
                    Some(at) => {
                        slots[at as usize] = slot;
                        at
                    }
                    None => {
                        slots.push(slot);
                        slots.len() as u32 - 1
                    }
                };
                place.insert(at);
                AttrId(at)
            }
        }
    }

    /// One use more.
    pub(crate) fn retain(&mut self, id: AttrId) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.uses += 1;
        }
    }

    /// So many uses more.
    pub(crate) fn retain_for(&mut self, id: AttrId, count: usize) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.uses += count as u32;
        }
    }

    /// One use less; a set that nobody uses is forgotten.
    pub(crate) fn release(&mut self, id: AttrId) {
        let Some(slot) = self.slots.get_mut(id.0 as usize) else { return };
        slot.uses -= 1;
        if slot.uses > 0 {
            return;
        }
        slot.set = None;
        let hash = spread(slot.hash);
        if let Ok(found) = self.index.find_entry(hash, |at| *at == id.0) {
            found.remove();
        }
        self.vacant.push(id.0);
        if self.index.is_empty() {
            let hasher = self.hasher.clone();
            *self = AttrInterner { hasher, ..AttrInterner::default() };
        }
    }

    /// The set.
    ///
    /// # Panics
    /// When it is not in use.
    pub(crate) fn set(&self, id: AttrId) -> &AttrSet {
        self.shared(id)
    }

    /// The set, to be held by others too.
    ///
    /// # Panics
    /// When it is not in use.
    pub(crate) fn shared(&self, id: AttrId) -> &Arc<AttrSet> {
        match self.slots.get(id.0 as usize).and_then(|slot| slot.set.as_ref()) {
            Some(set) => set,
            None => unreachable!("attributes {} are in use", id.0),
        }
    }

    /// How many different sets are in use.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}

/// A hash with something in its upper bits, where the table takes its tags from.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}
