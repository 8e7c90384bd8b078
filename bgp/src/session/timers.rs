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
    fn the_retry_time_doubles_up_to_its_bound() {
        let times: Vec<_> = (0..7).map(|n| connect_retry(n).as_millis()).collect();
        assert_eq!(times, [500, 1000, 2000, 4000, 8000, 15000, 15000]);
        assert_eq!(connect_retry(u32::MAX), CONNECT_RETRY_MAX);
    }
}
