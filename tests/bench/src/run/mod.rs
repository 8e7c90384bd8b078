//! The scenarios of the protocol: loads on a reflector that installs nothing.

mod failover;
mod full_table;
mod growth;
mod idle;
mod latency;
mod phase;
mod reflector;

use crate::{contender::Speaker, scenario::Scenario};

const EVERYBODY: &[Speaker] =
    &[Speaker::Routed, Speaker::Bird, Speaker::Frr, Speaker::Openbgpd, Speaker::Gobgp, Speaker::Floor];

/// They, in the order in which they are run.
#[must_use]
pub fn scenarios() -> Vec<Scenario> {
    let mut all = Vec::from(reflector::scenarios());
    all.push(full_table::scenario());
    all.extend(failover::scenarios());
    all.extend(latency::scenarios());
    all.push(idle::scenario());
    all.extend(growth::scenarios());
    all
}
