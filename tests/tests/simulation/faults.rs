//! Random faults of a world.

use crate::world::{Event, NODES, World};

impl World {
    /// Plans the trouble of a world.
    pub(crate) fn trouble(&mut self, graceful: bool) {
        for _ in 0..self.random.below(12) {
            let at = self.random.millis(0, 40_000);
            let silent = self.random.below(3) == 0;
            let pick = self.random.below(1000);
            self.after(at, Event::Drop { pick, silent });
        }
        for _ in 0..self.random.below(4) {
            let at = self.random.millis(2000, 38_000);
            let node = usize::try_from(self.random.below(NODES as u64)).unwrap();
            self.after(at, Event::Restart { node });
        }
        for _ in 0..self.random.below(if graceful { 2 } else { 1 }) {
            let at = self.random.millis(2000, 25_000);
            // Mostly of the reflector, which is the worst.
            let node = [0, 0, 1][usize::try_from(self.random.below(3)).unwrap()];
            // Longer than the hold time, mostly.
            let lasts = self.random.millis(3000, 20_000);
            self.after(at, Event::Partition { node, ends: false });
            self.after(at + lasts, Event::Partition { node, ends: true });
        }
        for _ in 0..self.random.below(3) {
            let at = self.random.millis(2000, 38_000);
            let node = usize::try_from(self.random.below(NODES as u64)).unwrap();
            self.after(at, Event::Reconfigure { node });
        }
        let changes = if graceful { 0 } else { self.random.below(10) };
        for _ in 0..changes {
            let at = self.random.millis(0, 40_000);
            let node = usize::try_from(self.random.below(NODES as u64)).unwrap();
            let count = self.random.below(5);
            self.after(at, Event::Blocks { node, count });
        }
    }
}
