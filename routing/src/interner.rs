//! Attribute sets in use, stored once for all paths that share them, and numbered.

use std::hash::BuildHasher;
use std::sync::Arc;

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as IndexEntry;

use crate::attrs::AttrSet;

/// Number of an attribute set in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct AttrId(pub(crate) u32);

impl AttrId {
    /// Number for no attributes.
    pub(crate) const NONE: AttrId = AttrId(u32::MAX);
}

#[derive(Clone, Debug)]
struct AttrSlot {
    set: Option<Arc<AttrSet>>,
    /// Lower half of the hash, so that the table grows without reading the octets again.
    hash: u32,
    uses: u32,
}

/// Attribute sets with reference counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct AttrInterner {
    index: HashTable<u32>,
    slots: Vec<AttrSlot>,
    vacant: Vec<u32>,
    hasher: RandomState,
}

impl AttrInterner {
    /// Returns the number of the set that is equal to `set`, and adds a reference; see
    /// [`AttrInterner::release`].
    pub(crate) fn intern(&mut self, set: &Arc<AttrSet>) -> AttrId {
        let AttrInterner { index, slots, vacant, hasher } = self;
        // Half a hash is sufficient: sets are compared by their octets in the end.
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

    /// Adds a reference.
    pub(crate) fn retain(&mut self, id: AttrId) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.uses += 1;
        }
    }

    /// Adds `count` references.
    pub(crate) fn retain_for(&mut self, id: AttrId, count: usize) {
        if let Some(slot) = self.slots.get_mut(id.0 as usize) {
            slot.uses += count as u32;
        }
    }

    /// Removes a reference; a set without references is removed.
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

    /// Returns a set.
    ///
    /// # Panics
    /// If the set is not in use.
    pub(crate) fn set(&self, id: AttrId) -> &AttrSet {
        self.shared(id)
    }

    /// Returns a set for shared ownership.
    ///
    /// # Panics
    /// If the set is not in use.
    pub(crate) fn shared(&self, id: AttrId) -> &Arc<AttrSet> {
        match self.slots.get(id.0 as usize).and_then(|slot| slot.set.as_ref()) {
            Some(set) => set,
            None => unreachable!("attribute set {} is not in use", id.0),
        }
    }

    /// Returns the number of different sets in use.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }
}

/// Returns a hash with the given bits in its upper half too, from which the table takes its tags.
fn spread(hash: u32) -> u64 {
    u64::from(hash) << 32 | u64::from(hash)
}
