//! The prefixes of a receiver: one bit per prefix, a second for the second sender's path.

use std::ops::Range;

/// The set of prefixes that one receiver was sent and that were not withdrawn.
#[derive(Clone, Debug)]
pub struct ReceivedPrefixes {
    bits: Box<[u64]>,
    second: Box<[u64]>,
    /// Its own prefixes, which a reflector may send back to it (RFC 4456 §8: it ignores them).
    own: Range<u32>,
    main: u32,
    count: u32,
    seconds: u32,
    probes: Vec<u32>,
}

impl ReceivedPrefixes {
    /// Creates an empty set of `total` prefixes, of which those from `main` on are probes.
    #[must_use]
    pub fn new(main: u32, total: u32, own: Range<u32>) -> Self {
        let words = (total as usize).div_ceil(64);
        let zeros = vec![0; words].into_boxed_slice();
        Self { bits: zeros.clone(), second: zeros, own, main, count: 0, seconds: 0, probes: Vec::new() }
    }

    /// Takes a path to a prefix, in place of an earlier one.
    #[inline]
    pub fn add(&mut self, number: u32, second: bool) {
        let (word, bit) = (number as usize / 64, 1u64 << (number % 64));
        if self.own.contains(&number) {
            return;
        }
        let new = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        if number >= self.main {
            if new {
                self.probes.push(number);
            }
            return;
        }
        self.count += u32::from(new);
        // Most loads have no second paths: the second bits needn't come into the cache.
        if (second || self.seconds > 0) && (self.second[word] & bit != 0) != second {
            self.second[word] ^= bit;
            self.seconds = if second { self.seconds + 1 } else { self.seconds - 1 };
        }
    }

    /// Forgets a prefix.
    #[inline]
    pub fn withdraw(&mut self, number: u32) {
        let (word, bit) = (number as usize / 64, 1u64 << (number % 64));
        if number >= self.main || self.own.contains(&number) || self.bits[word] & bit == 0 {
            return;
        }
        self.bits[word] &= !bit;
        self.count -= 1;
        if self.seconds > 0 && self.second[word] & bit != 0 {
            self.second[word] ^= bit;
            self.seconds -= 1;
        }
    }

    /// Returns the number of held prefixes, without its own and without probes.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Returns the number of prefixes with the second sender's path.
    #[must_use]
    pub fn seconds(&self) -> u32 {
        self.seconds
    }

    /// Returns the number of prefixes of a complete set.
    #[must_use]
    pub fn wanted(&self) -> u32 {
        let own = self.own.end.min(self.main).saturating_sub(self.own.start);
        self.main - own
    }

    /// The probes that came since it was last asked.
    pub fn take_probes(&mut self) -> std::vec::Drain<'_, u32> {
        self.probes.drain(..)
    }

    /// Forgets everything, as a session that ended has to.
    pub fn clear(&mut self) {
        self.bits.fill(0);
        self.second.fill(0);
        (self.count, self.seconds) = (0, 0);
        self.probes.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_and_own_prefixes_do_not_count() {
        let mut held = ReceivedPrefixes::new(100, 100, 10..12);
        assert_eq!(held.wanted(), 98);
        for number in [0, 63, 64, 99, 64, 10, 11] {
            held.add(number, false);
        }
        assert_eq!(held.count(), 4);
        held.withdraw(64);
        held.withdraw(64);
        held.withdraw(10);
        assert_eq!(held.count(), 3);
        held.clear();
        assert_eq!(held.count(), 0);
    }

    #[test]
    fn the_path_of_each_prefix_is_known() {
        let mut held = ReceivedPrefixes::new(10, 10, 0..0);
        held.add(3, false);
        held.add(4, true);
        held.add(3, true);
        assert_eq!((held.count(), held.seconds()), (2, 2));
        held.add(4, false);
        assert_eq!((held.count(), held.seconds()), (2, 1));
        held.withdraw(3);
        assert_eq!((held.count(), held.seconds()), (1, 0));
    }

    #[test]
    fn probes_are_told_apart_from_the_table() {
        let mut held = ReceivedPrefixes::new(4, 8, 0..0);
        held.add(5, false);
        held.add(1, false);
        held.add(5, false);
        assert_eq!(held.count(), 1);
        assert_eq!(held.take_probes().collect::<Vec<_>>(), [5]);
        assert_eq!(held.take_probes().count(), 0);
    }
}
