//! Observation of routes: listings, and changes that other programs made.

use super::Fib;
use crate::{
    desired::RouteKey,
    intern::NONE,
    observed::Via,
    table::{IN_FLIGHT, MET},
};

impl Fib {
    /// Records the next hop of a route in the kernel, or its absence. Returns true if it differs
    /// from before.
    pub fn observe_route(&mut self, key: &RouteKey, via: Option<Via>) -> bool {
        let slot = match via {
            Some(_) => self.table.enter(key),
            None => match self.table.find(key) {
                Some(slot) => slot,
                None => return false,
            },
        };
        self.table.state_mut(slot).set(MET);
        let news = self.vias.value(self.table.state(slot).via).copied() != via;
        if news {
            self.set_via(slot, via);
        }
        news
    }

    /// Records a change that another program made, and queues the repair. A change that arrives
    /// while one of ours is in flight is always new: it may have been made before or after ours.
    pub fn event(&mut self, key: &RouteKey, via: Option<Via>) -> bool {
        let mut news = self.observe_route(key, via);
        if let Some(slot) = self.table.find(key) {
            if self.table.state(slot).has(IN_FLIGHT) {
                news = true;
            } else {
                self.table.state_mut(slot).clear(MET);
            }
            if news {
                self.mark(slot);
            }
            self.table.remove_if_empty(slot);
        }
        news
    }

    /// Aborts an observation of all routes.
    pub fn observed_some(&mut self) {
        let mut cursor = 0;
        while let Some(slot) = self.table.next(cursor) {
            cursor = slot + 1;
            self.table.state_mut(slot).clear(MET);
        }
    }

    /// Ends an observation of all routes: those not met since the last one are gone. Returns their
    /// number.
    pub fn observed_all(&mut self) -> usize {
        let mut gone = 0;
        let mut cursor = 0;
        while let Some(slot) = self.table.next(cursor) {
            cursor = slot + 1;
            let state = self.table.state_mut(slot);
            let met = state.has(MET);
            state.clear(MET);
            if !met && state.via != NONE {
                self.set_via(slot, None);
                gone += 1;
            }
            self.table.remove_if_empty(slot);
        }
        gone
    }
}
