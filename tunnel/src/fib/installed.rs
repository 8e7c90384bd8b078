//! Queries of the state of routes, for reports.

use super::Fib;
use crate::{desired::RouteTarget, intern::NONE, table::RouteState};

impl Fib {
    /// Returns whether the kernel has a route as desired.
    pub fn is_installed(&self, state: &RouteState) -> bool {
        let before = || usize::try_from(state.want).ok().and_then(|i| *self.before.get(i)?);
        let via = self.realised_by(state.want).or_else(before);
        state.via != NONE && via.as_ref() == self.vias.value(state.via)
    }

    /// Returns the number of routes that the kernel has as desired, except those to VTEPs.
    pub fn count_installed(&self) -> usize {
        let counts = |slot: &u32| {
            let state = self.table.state(*slot);
            self.is_installed(state)
                && !matches!(self.desired_route(state).target, Some(RouteTarget::Device(_)))
        };
        self.table.slots().filter(counts).count()
    }

    /// Returns whether routes wait to be compared.
    pub fn has_work(&self) -> bool {
        self.scan.is_some() || !self.queue.is_empty()
    }

    /// Returns the number of queued routes.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }
}
