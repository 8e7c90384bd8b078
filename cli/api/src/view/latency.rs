//! Durations, counted by order of magnitude.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper bounds of the classes, in microseconds; a duration above the last bound is in one more
/// class.
pub const BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
];

/// A histogram of durations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyView {
    /// The count of each class of [`BOUNDS_US`], and of longer durations.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// The sum of all durations, in microseconds.
    pub sum_us: u64,
}

impl LatencyView {
    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns how many durations were longer than `bound`, which is one of the class bounds.
    pub fn longer_than(&self, bound: Duration) -> u64 {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        let first = BOUNDS_US.partition_point(|bound| *bound <= micros);
        self.counts.iter().skip(first).sum()
    }
}
