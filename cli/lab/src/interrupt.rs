//! Polling of the daemons, which Ctrl-C interrupts.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::error::LabError;

/// The interval between two polls of a daemon.
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(150);

/// Checks for an interruption by Ctrl-C or SIGTERM.
///
/// # Errors
/// [`LabError::Interrupted`].
pub(super) fn check_interrupted(interrupted: &AtomicBool) -> Result<(), LabError> {
    if interrupted.load(Ordering::Relaxed) { Err(LabError::Interrupted) } else { Ok(()) }
}
