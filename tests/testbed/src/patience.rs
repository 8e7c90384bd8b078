//! Waiting of a test for the actions of another program.

use std::time::{Duration, Instant};

/// The interval between two polls.
const LOOK: Duration = Duration::from_millis(50);

/// A time budget. The excess of a pause over its planned duration does not count: in that time the
/// machine ran neither this test nor the program that it waits for.
#[derive(Debug)]
pub struct Patience {
    of: Duration,
    begun: Instant,
    lost: Duration,
}

impl Patience {
    /// Creates a budget that starts now.
    pub fn of(of: Duration) -> Patience {
        Patience { of, begun: Instant::now(), lost: Duration::ZERO }
    }

    /// Returns the time used so far.
    pub fn needed(&self) -> Duration {
        self.begun.elapsed().saturating_sub(self.lost)
    }

    /// Returns whether the budget is used up.
    pub fn is_over(&self) -> bool {
        self.needed() >= self.of
    }

    /// Pauses before the next poll.
    pub fn pause(&mut self, pause: Duration) {
        let begun = Instant::now();
        // why: the other program has no event to wait for, only answers to polls.
        std::thread::sleep(pause);
        self.lost += begun.elapsed().saturating_sub(pause);
    }
}

/// Polls until `look` returns a value.
///
/// # Panics
/// The timeout expires; `what` names the expected event.
pub fn eventually<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    eventually_or(what, patience, || look().ok_or_else(String::new))
}

/// Polls until `look` returns the expected value. The panic shows the last other value.
///
/// # Panics
/// The timeout expires; `what` names the expected event.
pub fn eventually_or<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<T, String>) -> T {
    let mut patience = Patience::of(patience);
    loop {
        match look() {
            Ok(found) => return found,
            Err(instead) => assert!(!patience.is_over(), "{what}: not within {:?}: {instead}", patience.of),
        }
        patience.pause(LOOK);
    }
}
