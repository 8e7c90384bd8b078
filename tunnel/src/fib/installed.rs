//! What is said of the routes to whoever asks.

use super::Fib;
use crate::{desired::RouteTarget, intern::NONE, table::RouteState};

impl Fib {
    /// Whether the kernel has a route as it is wanted.
    pub fn is_installed(&self, state: &RouteState) -> bool {
        let before = || usize::try_from(state.want).ok().and_then(|i| *self.before.get(i)?);
        let via = self.realised_by(state.want).or_else(before);
        state.via != NONE && via.as_ref() == self.vias.value(state.via)
    }

    /// How many routes the kernel has as they are wanted, but for those to VTEPs.
    pub fn count_installed(&self) -> usize {
        let counts = |slot: &u32| {
            let state = self.table.state(*slot);
            self.is_installed(state) && !matches!(self.want(state).target, Some(RouteTarget::Device(_)))
        };
        self.table.slots().filter(counts).count()
    }

    /// Whether routes wait to be compared.
    pub fn has_work(&self) -> bool {
        self.scan.is_some() || !self.queue.is_empty()
    }

    /// How many routes are marked.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }
}
