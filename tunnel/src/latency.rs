//! Histogram of durations.

use std::time::Duration;

/// Upper bounds of the classes in microseconds; longer durations are in a class of their own.
pub const BOUNDS_US: [u64; 14] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000,
];

/// Durations by class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Latency {
    /// Number of durations in each class of [`BOUNDS_US`], and of longer ones.
    pub counts: [u64; BOUNDS_US.len() + 1],
    /// Sum of all durations in microseconds.
    pub sum_us: u64,
}

impl Latency {
    /// Adds a duration.
    pub fn note(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS_US.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get_mut(class) {
            *count += 1;
        }
        self.sum_us = self.sum_us.saturating_add(micros);
    }

    /// Returns the number of durations.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the number of durations longer than `bound`, which has to be one of the bounds.
    pub fn longer_than(&self, bound: Duration) -> u64 {
        let micros = u64::try_from(bound.as_micros()).unwrap_or(u64::MAX);
        let first = BOUNDS_US.partition_point(|bound| *bound <= micros);
        self.counts.iter().skip(first).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_the_first_class_with_a_bound_not_below_it() {
        let mut latency = Latency::default();
        for micros in [0, 100, 101, 5_000_000, 5_000_001, 90_000_000] {
            latency.note(Duration::from_micros(micros));
        }
        assert_eq!(
            (latency.counts[0], latency.counts[1], latency.counts[13], latency.counts[14]),
            (2, 1, 1, 2)
        );
        assert_eq!((latency.count(), latency.sum_us), (6, 100_000_202));
        assert_eq!(latency.longer_than(Duration::from_micros(100)), 4);
        assert_eq!(latency.longer_than(Duration::from_secs(5)), 2);
    }
}
