//! Bounds for time and memory per input.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Length of inputs, in octets, that must be processed in [`SHORT_TIME`]; longer ones up to 64 KiB
/// have [`LONG_TIME`].
const SHORT: usize = 4096;
const SHORT_TIME: Duration = Duration::from_millis(10);
const LONG_TIME: Duration = Duration::from_millis(100);
/// Octets that may be allocated at a time per octet of input.
const FACTOR: u64 = 16;

/// Runs `work` on an input of `len` octets; `room` is the memory in octets that is allowed in
/// addition.
pub(crate) fn within<T>(len: usize, room: u64, work: impl FnOnce() -> T) -> T {
    let mut result = None;
    let before = cpu_time();
    let allocated = allocation_counter::measure(|| result = Some(work()));
    let took = cpu_time() - before;
    let limit = FACTOR * len as u64 + room;
    assert!(allocated.bytes_max <= limit, "{} octets allocated for {len}", allocated.bytes_max);
    let limit = if len <= SHORT { SHORT_TIME } else { LONG_TIME };
    assert!(took <= limit, "{took:?} for {len} octets");
    result.expect("a result")
}

/// Returns the CPU time of this thread, so that the load of the machine does not count.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("a clock of Linux").into()
}
