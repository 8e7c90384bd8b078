//! Returns free memory to the system after a peak. The C library keeps free memory between
//! allocations that are in use: after a full table is withdrawn that is most of the memory of the
//! table.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use routing::actor::RibHandle;

/// The interval of checks.
const INTERVAL: Duration = Duration::from_secs(10);
/// The number of removed paths below which memory is not returned; about a megabyte.
const MIN_REMOVED: u64 = 10_000;

/// Returns memory to the system whenever more paths were removed than are held. Ends with the RIB.
pub(crate) async fn release_free_memory(rib: RibHandle) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut handled = 0;
    loop {
        ticks.tick().await;
        let Ok(counts) = rib.query(|rib| rib.counts()).await else { return };
        let held = u64::try_from(counts.paths).unwrap_or(u64::MAX);
        if counts.removed - handled > held.max(MIN_REMOVED) {
            handled = counts.removed;
            // It visits every free block, which takes some milliseconds after a full table.
            match tokio::task::spawn_blocking(trim).await {
                Ok(given) => tracing::debug!(given, "memory given back"),
                Err(error) => tracing::warn!(%error, "memory can't be given back"),
            }
        }
    }
}

/// Returns whether memory was returned to the system.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn trim() -> bool {
    // SAFETY: malloc_trim has no precondition: it locks the allocator's arenas itself and returns
    // only free pages.
    unsafe { nix::libc::malloc_trim(0) == 1 }
}

/// Other C libraries return free memory by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim() -> bool {
    false
}
