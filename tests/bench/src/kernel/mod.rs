//! Scenarios that end in the kernel's tables.
//!
//! The floor is the kernel itself: the same routes, encoded before the clock starts, by one netlink socket.

mod changes;
mod exits;
mod install;
mod limit;
mod mesh;
mod neighbours;
mod node;
mod watch;

use crate::scenario::Scenario;

/// They, in the order in which they are run.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    vec![install::scenario(), exits::scenario(), mesh::scenario()]
}
