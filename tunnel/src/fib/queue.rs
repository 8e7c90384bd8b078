//! The queue of routes to compare, and its order.
//!
//! Prefixes arrive in sequence, and the kernel rebuilds its trie repeatedly when it grows or
//! shrinks from one end. Spread evenly over all queued routes, a route costs half as much or less;
//! picked at random, a quarter more than that.

use std::mem;

/// The golden ratio minus one, times 2^32: its multiples leave no gap much larger than the others.
const STEP: u64 = 0x9e37_79b9;
/// Share of the remaining slots; when the slots that came later reach it, all are spread again:
/// where one part of the trie is dense before another has entries, the kernel rebuilds the dense
/// one with each doubling of the other.
const PART: usize = 8;
/// Placeholder of a slot that was taken.
const TAKEN: u32 = u32::MAX;

/// Slots, each at most once. Slots that are added while others are taken come after them, or among
/// the remaining ones.
#[derive(Debug, Clone, Default)]
pub(super) struct SlotQueue {
    /// Slots in the present order, with [`TAKEN`] for those that were taken.
    now: Vec<u32>,
    /// Number of slots taken, position of the next one, and the step between positions.
    taken: usize,
    at: usize,
    step: usize,
    later: Vec<u32>,
}

impl SlotQueue {
    pub(super) fn push(&mut self, slot: u32) {
        self.later.push(slot);
    }

    pub(super) fn len(&self) -> usize {
        self.now.len() - self.taken + self.later.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns all queued slots, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.now.iter().chain(&self.later).copied().filter(|slot| *slot != TAKEN)
    }

    /// Takes a slot. When the slots added since the last start become current, `in_sequence`
    /// decides with the first of them whether they are taken in the order of addition.
    pub(super) fn take(&mut self, in_sequence: impl FnOnce(u32) -> bool) -> Option<u32> {
        let left = self.now.len() - self.taken;
        let spreads = self.step > 1 && !self.later.is_empty() && self.later.len() >= left / PART;
        if left == 0 || spreads {
            self.now.retain(|slot| *slot != TAKEN);
            self.now.append(&mut self.later);
            (self.taken, self.at) = (0, 0);
            let first = *self.now.first()?;
            self.step = if in_sequence(first) { 1 } else { spread(self.now.len()) };
        }
        let slot = mem::replace(self.now.get_mut(self.at)?, TAKEN);
        self.at = (self.at + self.step) % self.now.len();
        self.taken += 1;
        Some(slot)
    }

    /// Releases memory except for this number of slots, if the queue is empty.
    pub(super) fn shrink_to(&mut self, kept: usize) {
        if self.is_empty() {
            self.now.clear();
            (self.taken, self.at) = (0, 0);
            self.now.shrink_to(kept);
            self.later.shrink_to(kept);
        }
    }
}

/// Returns a step that visits all of `length` positions, a golden section apart.
fn spread(length: usize) -> usize {
    let wide = u64::try_from(length).unwrap_or(u64::MAX).saturating_mul(STEP) >> 32;
    let mut step = usize::try_from(wide).unwrap_or(1).max(1);
    while divisor(step, length) != 1 {
        step += 1;
    }
    step
}

/// Returns the greatest common divisor.
fn divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(queue: &mut SlotQueue, in_sequence: bool) -> Vec<u32> {
        std::iter::from_fn(|| queue.take(|_| in_sequence)).collect()
    }

    fn all_of(queue: &mut SlotQueue, count: usize) -> Vec<u32> {
        (0..count).filter_map(|_| queue.take(|_| false)).collect()
    }

    #[test]
    fn each_slot_is_taken_once_for_any_length() {
        for length in (0..70).chain([1000, 4096, 65_537]) {
            let mut queue = SlotQueue::default();
            (0..length).for_each(|slot| queue.push(slot));
            let half: Vec<u32> = (0..length / 2).filter_map(|_| queue.take(|_| false)).collect();
            queue.push(length);
            assert_eq!(queue.len(), queue.iter().count());
            let mut waiting: Vec<u32> = queue.iter().collect();
            let rest = all(&mut queue, false);
            let mut taken = [half, rest.clone()].concat();
            let mut rest = rest;
            for list in [&mut taken, &mut rest, &mut waiting] {
                list.sort_unstable();
            }
            assert_eq!(rest, waiting);
            assert_eq!(taken, (0..=length).collect::<Vec<_>>());
        }
    }

    #[test]
    fn taken_slots_are_spread_evenly_over_the_queue() {
        let mut queue = SlotQueue::default();
        (0..100_000).for_each(|slot| queue.push(slot));
        let order = all(&mut queue, false);
        for count in [100, 1000, 30_000] {
            let mut taken = order[..count].to_vec();
            taken.sort_unstable();
            let gap = taken.windows(2).map(|pair| pair[1] - pair[0]).max().expect("some");
            assert!(gap as usize <= 3 * 100_000 / count, "{count} taken, a gap of {gap}");
        }
    }

    #[test]
    fn added_slots_are_soon_spread_among_the_remaining_ones() {
        let mut queue = SlotQueue::default();
        (0..80_000).for_each(|slot| queue.push(slot));
        let mut taken = all_of(&mut queue, 1000);
        (80_000..89_000).for_each(|slot| queue.push(slot));
        taken.extend(all_of(&mut queue, 1000));
        assert!(taken.iter().all(|slot| *slot < 80_000), "a few added slots come later");
        (89_000..100_000).for_each(|slot| queue.push(slot));
        let next = all_of(&mut queue, 1000);
        let new = next.iter().filter(|slot| **slot >= 80_000).count();
        assert!((150..250).contains(&new), "{new} of a thousand, where a fifth of the queue is new");
        taken.extend(next);
        taken.extend(all(&mut queue, false));
        taken.sort_unstable();
        assert_eq!(taken, (0..100_000).collect::<Vec<_>>());
    }

    #[test]
    fn added_slots_come_last_when_taken_in_sequence() {
        let mut queue = SlotQueue::default();
        (0..10).for_each(|slot| queue.push(slot));
        let first: Vec<u32> = (0..5).filter_map(|_| queue.take(|_| true)).collect();
        (10..20).for_each(|slot| queue.push(slot));
        assert_eq!([first, all(&mut queue, true)].concat(), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn memory_is_released_when_the_queue_is_empty() {
        let mut queue = SlotQueue::default();
        (0..100_000).for_each(|slot| queue.push(slot));
        queue.shrink_to(10);
        assert_eq!(queue.len(), 100_000);
        assert_eq!(all(&mut queue, false).len(), 100_000);
        queue.shrink_to(10);
        assert!(queue.now.capacity() + queue.later.capacity() <= 20);
        queue.push(7);
        assert_eq!(all(&mut queue, false), [7]);
    }
}
