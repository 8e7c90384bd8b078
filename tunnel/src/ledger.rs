//! Failures of the kernel to accept changes, and the time of their retries.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::diff::Object;

/// Pause after the first failure; it doubles with each further one.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// Maximum pause.
pub const LAST_RETRY: Duration = Duration::from_secs(60);

/// Returns the pause after so many failures in a row, at least one.
pub fn retry_pause(attempts: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << attempts.saturating_sub(1).min(6)).min(LAST_RETRY)
}

/// The failures of one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectFailure {
    /// `errno` of the last one.
    pub errno: i32,
    /// The kernel's message (extended acknowledgement), or that of the errno.
    pub text: String,
    /// Number of consecutive failures.
    pub attempts: u32,
    /// Time of the next attempt.
    pub retry_at: Instant,
}

/// The objects that failed last.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    failures: BTreeMap<Object, ObjectFailure>,
    /// Lower bound of the next attempt's time.
    earliest: Option<Instant>,
}

impl Ledger {
    /// Records a failure. Returns true if it is the object's first, or differs from the one before.
    pub fn fail(&mut self, object: Object, errno: i32, text: String, now: Instant) -> bool {
        let before = self.failures.get(&object);
        let news = before.is_none_or(|f| f.errno != errno);
        let attempts = before.map_or(0, |f| f.attempts).saturating_add(1);
        let retry_at = now + retry_pause(attempts);
        self.failures.insert(object, ObjectFailure { errno, text, attempts, retry_at });
        self.earliest = Some(self.earliest.map_or(retry_at, |earliest| earliest.min(retry_at)));
        news
    }

    /// Records a success.
    pub fn succeed(&mut self, object: &Object) {
        self.failures.remove(object);
    }

    /// Returns whether the object failed and its next attempt is not due.
    pub fn blocks(&self, object: &Object, now: Instant) -> bool {
        self.failures.get(object).is_some_and(|f| f.retry_at > now)
    }

    /// Returns a lower bound of the next attempt's time.
    pub fn next_retry(&self) -> Option<Instant> {
        self.earliest.filter(|_| !self.failures.is_empty())
    }

    /// Returns the objects whose attempt is due.
    pub fn due(&self, now: Instant) -> impl Iterator<Item = &Object> {
        self.failures.iter().filter(move |(_, f)| f.retry_at <= now).map(|(object, _)| object)
    }

    /// Removes the failures whose attempt was due at `now`: it was made, and did not fail again.
    pub fn settle(&mut self, now: Instant) {
        self.failures.retain(|_, f| f.retry_at > now);
        self.earliest = self.failures.values().map(|f| f.retry_at).min();
    }

    /// Removes the failures for which `keep` returns false: their objects are not desired any more.
    pub fn retain(&mut self, mut keep: impl FnMut(&Object) -> bool) {
        self.failures.retain(|object, _| keep(object));
        self.earliest = self.failures.values().map(|f| f.retry_at).min();
    }

    /// Makes all attempts due, for example when a device came back.
    pub fn retry_all(&mut self, now: Instant) {
        for failure in self.failures.values_mut() {
            failure.retry_at = now;
        }
        self.earliest = Some(now);
    }

    /// Returns all failures.
    pub fn failures(&self) -> &BTreeMap<Object, ObjectFailure> {
        &self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Device;

    #[test]
    fn a_failure_blocks_its_object_for_a_doubling_pause_up_to_a_minute() {
        let mut ledger = Ledger::default();
        let object = Object::Link(Device::Ipip);
        let mut now = Instant::now();
        let mut pauses = Vec::new();
        for _ in 0..9 {
            ledger.fail(object, 22, "Invalid argument".into(), now);
            assert!(ledger.blocks(&object, now));
            let due = ledger.failures()[&object].retry_at;
            assert!(ledger.next_retry().is_some_and(|at| at <= due));
            pauses.push((due - now).as_secs());
            now = due;
            assert!(!ledger.blocks(&object, now));
            assert_eq!(ledger.due(now).count(), 1);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        ledger.settle(now - Duration::from_secs(1));
        assert_eq!(ledger.failures().len(), 1);
        ledger.settle(now);
        assert_eq!((ledger.next_retry(), ledger.failures().len()), (None, 0));
    }

    #[test]
    fn a_success_ends_the_failure() {
        let mut ledger = Ledger::default();
        let object = Object::Link(Device::Ipip);
        ledger.fail(object, 22, String::new(), Instant::now());
        ledger.succeed(&object);
        assert!(ledger.failures().is_empty());
    }

    #[test]
    fn only_a_failure_with_another_errno_is_reported_again() {
        let mut ledger = Ledger::default();
        let object = Object::Link(Device::Vxlan);
        let now = Instant::now();
        assert!(ledger.fail(object, 1, String::new(), now));
        assert!(!ledger.fail(object, 1, String::new(), now));
        assert!(ledger.fail(object, 17, String::new(), now));
    }
}
