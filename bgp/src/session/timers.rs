//! Timer values, and their jitter (RFC 4271 §10).

use std::time::Duration;

/// Time to wait for the peer's OPEN.
///
/// Deviation: RFC 4271 §8.2.2 suggests four minutes; after one without an OPEN a new connection is
/// more likely to succeed.
pub const OPEN_HOLD_TIME: Duration = Duration::from_secs(60);
/// Time limit of one connection attempt.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// First delay between connection attempts; it doubles up to [`CONNECT_RETRY_MAX`].
///
/// Deviation: RFC 4271 §10 suggests a fixed 120 seconds, which is too long for pods that wait for
/// their routes.
pub const CONNECT_RETRY_MIN: Duration = Duration::from_millis(500);
/// Longest delay between connection attempts.
pub const CONNECT_RETRY_MAX: Duration = Duration::from_secs(15);

/// Pseudo-random generator for timer jitter; not for secrets.
#[derive(Clone, Debug)]
pub struct TimerJitter(u64);

impl TimerJitter {
    /// Creates a generator; equal seeds yield equal sequences.
    pub fn new(seed: u64) -> TimerJitter {
        TimerJitter(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    /// Returns `time` multiplied by a factor between 0.75 and 1.
    pub fn apply(&mut self, time: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let share = u32::try_from((mixed >> 40) & 0xffff).unwrap_or(0);
        time * 3 / 4 + time / 4 * share / 0x1_0000
    }
}

/// Returns the delay before the attempt that follows `failures` failed ones, without jitter.
pub fn connect_retry(failures: u32) -> Duration {
    CONNECT_RETRY_MIN
        .saturating_mul(1_u32.checked_shl(failures.min(16)).unwrap_or(u32::MAX))
        .min(CONNECT_RETRY_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_between_three_quarters_and_the_whole() {
        let mut jitter = TimerJitter::new(1);
        let times: Vec<_> = (0..1000).map(|_| jitter.apply(Duration::from_secs(100))).collect();
        assert!(times.iter().all(|t| (75..=100).contains(&t.as_secs())));
        assert!(times.iter().any(|t| t.as_secs() < 80) && times.iter().any(|t| t.as_secs() >= 95));
    }

    #[test]
    fn the_retry_time_doubles_up_to_its_bound() {
        let times: Vec<_> = (0..7).map(|n| connect_retry(n).as_millis()).collect();
        assert_eq!(times, [500, 1000, 2000, 4000, 8000, 15000, 15000]);
        assert_eq!(connect_retry(u32::MAX), CONNECT_RETRY_MAX);
    }
}
