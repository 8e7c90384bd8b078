//! Scenarios that end in the kernel's tables.

use crate::scenario::Scenario;

/// They, in the order in which they are run.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    Vec::new()
}
