//! Prefixes with several exits (ECMP): their learned paths and their exits.

use std::net::IpAddr;

use super::{DesiredRoute, Fib};
use crate::{
    desired::RouteTarget,
    intern::NONE,
    node::LearnedPath,
    resolve::{Exit, ExitReason},
    table::RouteState,
};

/// The learned paths of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct LearnedPaths {
    /// Best path.
    pub(super) learned: LearnedPath,
    /// Id of the list of other exit points, or [`NONE`]; each value here holds it once.
    others: u32,
}

impl Fib {
    pub(super) fn acquire_paths(&mut self, learned: LearnedPath, others: &[IpAddr]) -> u32 {
        let others = if others.is_empty() { NONE } else { self.others.acquire(others.into()).0 };
        let (id, new) = self.paths.acquire(LearnedPaths { learned, others });
        if !new {
            self.others.release(others);
        }
        id
    }

    pub(super) fn release_paths(&mut self, id: u32) {
        if self.paths.release(id)
            && let Some(paths) = self.paths.value(id)
        {
            self.others.release(paths.others);
        }
    }

    /// Returns the exit points in addition to the best path's own; mostly none.
    pub fn others(&self, state: &RouteState) -> &[IpAddr] {
        let list = self.paths.value(state.learned).and_then(|paths| self.others.value(paths.others));
        list.map_or(&[], |list| list)
    }

    /// Returns whether some route has this path, alone or among others.
    pub fn is_learned(&self, learned: &LearnedPath) -> bool {
        if self.paths.holders(&LearnedPaths { learned: *learned, others: NONE }) > 0 {
            return true;
        }
        let lists = self.paths.iter().filter(|(_, paths)| paths.others != NONE);
        self.others.iter().next().is_some()
            && lists.filter(|(_, paths)| paths.learned.kind == learned.kind).any(|(_, paths)| {
                let others = self.others.value(paths.others).is_some_and(|o| o.contains(&learned.next_hop));
                others || paths.learned.next_hop == learned.next_hop
            })
    }

    /// Records the exits of a learned route that share its packets.
    pub fn set_desired_exits(&mut self, slot: u32, exits: &[Exit], reason: ExitReason) {
        let (id, _) = self.exits.acquire(exits.into());
        self.set_desired(slot, DesiredRoute { target: Some(RouteTarget::Exits(id)), reason: Some(reason) });
        // The desired route holds the list now, if there is one.
        self.exits.release(id);
    }

    /// Returns the exits of a target: several for [`RouteTarget::Exits`], else one or none.
    pub fn exits_of<'a>(&'a self, target: &'a RouteTarget) -> &'a [Exit] {
        match target {
            RouteTarget::Exit(exit) => std::slice::from_ref(exit),
            RouteTarget::Exits(id) => self.exits.value(*id).map_or(&[], |exits| exits),
            RouteTarget::Blackhole | RouteTarget::Device(_) => &[],
        }
    }
}
