//! Reference-counted values that many routes share.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// The id of no value.
pub const NONE: u32 = 0;

/// Values by small ids, each with the number of its holders. The id of a value without holders is
/// reused.
#[derive(Debug, Clone)]
pub struct ValueInterner<T> {
    /// The value with id `i + 1`, and the number of its holders.
    values: Vec<(T, u32)>,
    index: HashTable<u32>,
    free: Vec<u32>,
    hasher: RandomState,
    /// The last id returned: consecutive routes mostly share their values.
    last: u32,
}

impl<T> Default for ValueInterner<T> {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            index: HashTable::new(),
            free: Vec::new(),
            hasher: RandomState::default(),
            last: NONE,
        }
    }
}

fn at(id: u32) -> usize {
    usize::try_from(id).unwrap_or(usize::MAX).wrapping_sub(1)
}

impl<T: Eq + Hash> ValueInterner<T> {
    /// Adds a holder of a value. Returns its id, and whether it had no holder before.
    pub fn acquire(&mut self, value: T) -> (u32, bool) {
        if let Some((last, count)) = self.values.get_mut(at(self.last))
            && *count > 0
            && *last == value
        {
            *count += 1;
            return (self.last, false);
        }
        let hash = self.hasher.hash_one(&value);
        let values = &mut self.values;
        let same = |id: &u32| values.get(at(*id)).is_some_and(|(v, _)| *v == value);
        if let Some(id) = self.index.find(hash, same).copied() {
            self.retain(id);
            self.last = id;
            return (id, false);
        }
        let id = match self.free.pop() {
            Some(id) => {
                values[at(id)] = (value, 1);
                id
            }
            None => {
                values.push((value, 1));
                u32::try_from(values.len()).unwrap_or(u32::MAX)
            }
        };
        let (values, hasher) = (&self.values, &self.hasher);
        self.index.insert_unique(hash, id, |id| hasher.hash_one(&values[at(*id)].0));
        self.last = id;
        (id, true)
    }

    /// Adds a holder.
    pub fn retain(&mut self, id: u32) {
        if let Some((_, count)) = self.values.get_mut(at(id)) {
            *count += 1;
        }
    }

    /// Removes a holder. Returns true if it was the last; [`NONE`] has none.
    pub fn release(&mut self, id: u32) -> bool {
        let Some((value, count)) = self.values.get_mut(at(id)).filter(|(_, count)| *count > 0) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        let hash = self.hasher.hash_one(&*value);
        if let Ok(entry) = self.index.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        self.free.push(id);
        true
    }

    /// Returns the value with this id; `None` for [`NONE`].
    pub fn value(&self, id: u32) -> Option<&T> {
        self.values.get(at(id)).map(|(value, _)| value)
    }

    /// Returns the number of holders of a value.
    pub fn holders(&self, value: &T) -> u32 {
        let same = |id: &u32| self.values.get(at(*id)).is_some_and(|(v, _)| v == value);
        let found = self.index.find(self.hasher.hash_one(value), same);
        found.and_then(|id| self.values.get(at(*id))).map_or(0, |(_, count)| *count)
    }

    /// Returns whether the value with this id has a holder.
    pub fn is_held(&self, id: u32) -> bool {
        self.values.get(at(id)).is_some_and(|(_, count)| *count > 0)
    }

    /// Returns the values that have holders, with their ids.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (1..).zip(&self.values).filter(|(_, (_, count))| *count > 0).map(|(id, (value, _))| (id, value))
    }

    /// Returns the largest id so far.
    pub fn last_id(&self) -> u32 {
        u32::try_from(self.values.len()).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_an_id_until_the_last_holder_releases_it() {
        let mut interner = ValueInterner::default();
        let (a, new) = interner.acquire("a");
        assert!(new && a != NONE);
        let (b, _) = interner.acquire("b");
        assert_eq!((interner.acquire("a"), a != b), ((a, false), true));
        assert_eq!((interner.holders(&"a"), interner.holders(&"c")), (2, 0));
        assert!(!interner.release(a) && interner.release(a) && !interner.release(a));
        assert_eq!((interner.holders(&"a"), interner.is_held(a)), (0, false));
        // The id belongs to another value now, and the old value gets a new one.
        assert_eq!(interner.acquire("c"), (a, true));
        let (again, new) = interner.acquire("a");
        assert!(new && again != a && again != b);
        assert_eq!(interner.iter().map(|(_, v)| *v).collect::<Vec<_>>(), ["c", "b", "a"]);
        assert_eq!(interner.value(NONE), None);
    }
}
