//! Scenarios that end in the kernel's tables.
//!
//! The floor is the kernel itself: the same routes, encoded before the clock starts, by one netlink socket.

mod change_count;
mod exit_points;
mod install;
mod kernel_limit;
mod mesh;
mod neighbours;
mod node;
mod route_count;

use crate::scenario::Scenario;

/// They, in the order in which they are run.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    let mut all = vec![install::scenario()];
    all.extend(exit_points::scenarios());
    all.push(mesh::scenario());
    all
}
