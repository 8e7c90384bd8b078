//! How long work on an input may take, and how much memory.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Inputs of up to so many octets have [`SHORT_TIME`], longer ones up to 64 KiB [`LONG_TIME`].
const SHORT: usize = 4096;
const SHORT_TIME: Duration = Duration::from_millis(10);
const LONG_TIME: Duration = Duration::from_millis(100);
/// Octets that may be allocated at a time for each octet of input.
const FACTOR: u64 = 16;

/// Does `work` on an input of `len` octets; `room`: octets that it needs however short that is.
pub(crate) fn within<T>(len: usize, room: u64, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let before = cpu_time();
    let allocated = allocation_counter::measure(|| result = Some(work()));
    let took = cpu_time() - before;
    let limit = FACTOR * len as u64 + room;
    assert!(allocated.bytes_max <= limit, "{} octets allocated for {len}", allocated.bytes_max);
    let limit = if len <= SHORT { SHORT_TIME } else { LONG_TIME };
    assert!(took <= limit, "{took:?} for {len} octets");
    result.expect("it was done")
}

/// Of this thread, so that what else runs on the machine doesn't count.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock that Linux has").into()
}
