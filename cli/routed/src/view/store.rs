//! The store part of `show status`.

use jiff::Timestamp;
use tokio::sync::watch;

use api::view::StoreView;
use datastore::StoreHealth;

use crate::daemon::state::DaemonState;

/// Returns the view of a shared store.
pub(crate) fn store_view(
    health: Option<&watch::Receiver<StoreHealth>>,
    state: &DaemonState,
) -> Option<StoreView> {
    let health = health?.borrow().clone();
    Some(StoreView {
        connected: health.connected,
        lag_s: health.lag_s(Timestamp::now()),
        endpoint: health.endpoint,
        since: health.since,
        problem: health.problem,
        from_snapshot: health.from_snapshot,
        relists: health.relists,
        refused: state.refused.len() as u64,
    })
}

/// Returns the warning about a store that is out of reach.
pub(crate) fn store_warning(store: &StoreView) -> Option<String> {
    let problem = store.problem.as_deref().unwrap_or("no answer");
    let what = if store.from_snapshot { "the last valid snapshot runs" } else { "what was known runs on" };
    (!store.connected)
        .then(|| format!("the datastore is out of reach for {} s, {what}: {problem}", store.lag_s))
}
