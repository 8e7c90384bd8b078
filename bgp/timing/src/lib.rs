//! Timers that all crates share: jitter, and with the feature `driver` waits that may have nothing to wait for, and
//! the pauses between attempts.

mod jitter;
#[cfg(feature = "driver")]
mod retry;
#[cfg(feature = "driver")]
mod wait;

pub use jitter::Jitter;
#[cfg(feature = "driver")]
pub use retry::Retry;
#[cfg(feature = "driver")]
pub use wait::{optional, sleep_until};
