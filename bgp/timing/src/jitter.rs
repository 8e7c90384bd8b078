//! Random factors on times (RFC 4271 §10), so that nodes that start together do not act together.

use std::time::Duration;

/// A small pseudo-random generator (SplitMix64); not for secrets.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// Creates a generator; equal seeds give equal times.
    pub fn new(seed: u64) -> Jitter {
        Jitter(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Returns the next number of the sequence.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed
    }

    /// Returns `time` times a factor between 0.75 and 1.
    pub fn apply(&mut self, time: Duration) -> Duration {
        let share = u32::try_from((self.number() >> 40) & 0xffff).unwrap_or(0);
        time * 3 / 4 + time / 4 * share / 0x1_0000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_three_quarters_and_the_whole() {
        let mut jitter = Jitter::new(1);
        let times: Vec<_> = (0..1000).map(|_| jitter.apply(Duration::from_secs(100))).collect();
        assert!(times.iter().all(|time| (75..=100).contains(&time.as_secs())));
        assert!(
            times.iter().any(|time| time.as_secs() < 80) && times.iter().any(|time| time.as_secs() >= 95)
        );
    }
}
