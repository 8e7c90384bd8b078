//! Attempts of a compare-and-swap, and the pauses between them.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::Jitter;

/// Counts the attempts of a change that others may come before.
///
/// After each attempt that lost, [`Retry::pause`] waits, with jitter, so that writers that met once do not meet again.
#[derive(Clone, Debug)]
pub struct Retry {
    failed: u32,
    attempts: u32,
    first: Duration,
    longest: Duration,
    jitter: Jitter,
}

impl Retry {
    /// Creates a counter of at most `attempts` attempts. The pause after the nth is n times `first`, at most `longest`.
    pub fn new(attempts: u32, first: Duration, longest: Duration) -> Retry {
        let seed = RandomState::new().hash_one(0);
        Retry { failed: 0, attempts, first, longest, jitter: Jitter::new(seed) }
    }

    /// Waits before the next attempt; `false`, at once: the attempts are used up.
    pub async fn pause(&mut self) -> bool {
        self.failed += 1;
        if self.failed >= self.attempts {
            return false;
        }
        let pause = self.first.saturating_mul(self.failed).min(self.longest);
        tokio::time::sleep(self.jitter.apply(pause)).await; // why: writers that met must not meet again
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_up_to_the_longest_and_end_with_the_attempts() {
        let begin = tokio::time::Instant::now();
        let mut retry = Retry::new(4, Duration::from_secs(1), Duration::from_secs(2));
        let mut attempts = 1;
        while retry.pause().await {
            attempts += 1;
        }
        assert_eq!(attempts, 4);
        // 1 s, 2 s and 2 s, each times at least 0.75.
        assert!((3750..=5000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    }
}
