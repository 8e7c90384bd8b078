//! Memory goes back to the system after a peak. The C library keeps what is free between pieces that
//! are still in use: after a full table came and went that is most of what the table took.

use std::time::Duration;

use routing::actor::RibHandle;
use tokio::time::MissedTickBehavior;

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(10);
/// Paths that are not worth the while: a megabyte or so.
const SMALL: u64 = 10_000;

/// Gives memory back whenever more paths went than are held; ends with the RIB.
pub(crate) async fn release_free_memory(rib: RibHandle) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = 0;
    loop {
        ticks.tick().await;
        let Ok(counts) = rib.query(|rib| rib.counts()).await else { return };
        let held = u64::try_from(counts.paths).unwrap_or(u64::MAX);
        if counts.removed - seen > held.max(SMALL) {
            seen = counts.removed;
            // It looks at every free piece, some milliseconds for a full table.
            match tokio::task::spawn_blocking(trim).await {
                Ok(given) => tracing::debug!(given, "memory given back"),
                Err(error) => tracing::warn!(%error, "memory can't be given back"),
            }
        }
    }
}

/// Whether something could be given back.
#[cfg(target_env = "gnu")]
#[allow(unsafe_code)]
fn trim() -> bool {
    // SAFETY: malloc_trim has no precondition: it locks the allocator's arenas itself and gives back
    // only pages that are free.
    unsafe { nix::libc::malloc_trim(0) == 1 }
}

/// Other C libraries give back what is free by themselves.
#[cfg(not(target_env = "gnu"))]
fn trim() -> bool {
    false
}
