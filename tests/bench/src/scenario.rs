//! The list of scenarios, and how one is run.

use std::time::Duration;

use anyhow::Result;

use crate::{
    bed::Bed,
    contender::{Contender, Speaker},
    record::Measurement,
};

/// One contender, about to be measured once.
pub struct Trial<'a> {
    /// The contender to start.
    pub contender: &'a Contender,
    /// The bed; the calling thread is in its namespace.
    pub bed: &'a Bed,
    /// After so long a phase is to be cut off.
    pub limit: Duration,
}

/// A load and what is measured of it.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// Its name on the command line and in results.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// The speakers that it is for.
    pub speakers: &'static [Speaker],
    /// Starts the contender, puts the load on it, measures, and stops it.
    pub run: fn(&Trial<'_>) -> Result<Vec<Measurement>>,
}

/// All of them, in the order in which they are run.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let mut scenarios = crate::run::scenarios();
    scenarios.extend(crate::kernel::scenarios());
    scenarios
}
