//! How long a test waits for what another program is to do.

use std::time::{Duration, Instant};

/// Between two looks at a thing that is to change.
const LOOK: Duration = Duration::from_millis(50);

/// Time that may go by. What a pause takes longer than it was to take is time that the machine gave to nobody, the
/// program that is waited for included, and does not count.
#[derive(Debug)]
pub struct Patience {
    of: Duration,
    begun: Instant,
    lost: Duration,
}

impl Patience {
    /// So much of it, from now on.
    pub fn of(of: Duration) -> Patience {
        Patience { of, begun: Instant::now(), lost: Duration::ZERO }
    }

    /// How much has been needed so far.
    pub fn needed(&self) -> Duration {
        self.begun.elapsed().saturating_sub(self.lost)
    }

    /// Returns whether none is left.
    pub fn is_over(&self) -> bool {
        self.needed() >= self.of
    }

    /// Waits for so long before the next look.
    pub fn pause(&mut self, pause: Duration) {
        let begun = Instant::now();
        // why: what is waited for is another program, whose only event is what it answers when asked.
        std::thread::sleep(pause);
        self.lost += begun.elapsed().saturating_sub(pause);
    }
}

/// Looks again and again until `look` gives something.
///
/// # Panics
/// It has given nothing for `patience`; `what` says what was waited for.
pub fn eventually<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    eventually_or(what, patience, || look().ok_or_else(String::new))
}

/// Looks again and again until `look` gives what is wanted; what it gives instead is shown if that was the last.
///
/// # Panics
/// It has not given it for `patience`; `what` says what was waited for.
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
