//! Tasks that observe the daemon and record events: sessions, store, resources, tunnels and kernel.

mod resources;
mod tunnels;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use api::view::EventKind;
use bgp::PeerId;
use bgp::net::PeerStatus;
use bgp::session::SessionState;
use datastore::StoreHealth;
use tunnel::activity::TunnelActivity;

use crate::daemon::state::{DaemonState, PeerEntry};
use crate::journal::JournalHandle;

/// Starts the tasks.
pub(crate) fn start(
    journal: &JournalHandle,
    state: watch::Receiver<Arc<DaemonState>>,
    health: Option<watch::Receiver<StoreHealth>>,
    activity: Option<broadcast::Receiver<TunnelActivity>>,
) {
    let version = format!("routed {} has started", env!("CARGO_PKG_VERSION"));
    journal.record(EventKind::Daemon, "started", None, version);
    tokio::spawn(record_state(journal.clone(), state));
    if let Some(health) = health {
        tokio::spawn(record_store(journal.clone(), health));
    }
    if let Some(activity) = activity {
        tokio::spawn(tunnels::record_tunnels(journal.clone(), activity));
    }
}

async fn record_state(journal: JournalHandle, mut state: watch::Receiver<Arc<DaemonState>>) {
    let mut before = Arc::<DaemonState>::default();
    let mut watched = HashSet::new();
    loop {
        let now = state.borrow_and_update().clone();
        watch_peers(&journal, &now, &mut watched);
        resources::record(&journal, &before, &now);
        if now.in_sync && !before.in_sync {
            journal.record(EventKind::Daemon, "in_sync", None, "the routes are whole");
        }
        before = now;
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Starts a task for each new peer.
fn watch_peers(journal: &JournalHandle, now: &DaemonState, watched: &mut HashSet<PeerId>) {
    let there: HashSet<PeerId> = now.peers.iter().map(|peer| peer.id).collect();
    watched.retain(|id| there.contains(id));
    for peer in now.peers.iter().filter(|peer| watched.insert(peer.id)) {
        let PeerEntry { peering, status, .. } = peer;
        tokio::spawn(record_peer(journal.clone(), peering.name.clone(), peering.address, status.clone()));
    }
}

/// Records the events of a peer until the peer is removed.
async fn record_peer(
    journal: JournalHandle,
    name: String,
    address: IpAddr,
    mut status: watch::Receiver<PeerStatus>,
) {
    let record = |what: &'static str, text: String| {
        journal.record(EventKind::Session, what, Some(&name), format!("{address}: {text}"));
    };
    let (mut up, mut times, mut errors) = (false, 0, 0);
    let mut failure = None;
    loop {
        let (is_up, times_now, errors_now, error) = {
            let status = status.borrow_and_update();
            let error = status.last_error.as_ref().map(|line| line.text.clone());
            (status.state == SessionState::Established, status.established, status.update_errors.count, error)
        };
        let came_up = times_now.saturating_sub(times);
        let reason = || error.clone().unwrap_or_else(|| "ended".to_owned());
        // A watch channel has only the latest state: the session may have gone down and up in
        // between.
        if up && (!is_up || came_up > 0) {
            record("down", reason());
        }
        match (is_up, came_up) {
            (_, 0) => {}
            (true, 1) => record("up", "Established".into()),
            (true, _) => record("up", format!("Established, {came_up} times by now")),
            (false, _) if !up => record("down", format!("was Established for a moment: {}", reason())),
            (false, _) => {}
        }
        if !is_up && !up && came_up == 0 && error.is_some() && error != failure {
            record("failed", reason());
        }
        if errors_now > errors {
            record("update_error", format!("{} UPDATE(s) with an error (RFC 7606)", errors_now - errors));
        }
        (up, times, errors) = (is_up, times_now, errors_now);
        failure = error;
        if status.changed().await.is_err() {
            if up {
                record("down", "is not configured any more, or the daemon ends".into());
            }
            return;
        }
    }
}

async fn record_store(journal: JournalHandle, mut health: watch::Receiver<StoreHealth>) {
    let mut connected = None;
    let mut snapshot = false;
    loop {
        let now = health.borrow_and_update().clone();
        let subject = Some(now.endpoint.as_str());
        if now.from_snapshot && !snapshot {
            journal.record(EventKind::Store, "snapshot", subject, "the last valid snapshot runs");
        }
        snapshot = now.from_snapshot;
        match (connected, now.connected) {
            (Some(true), true) | (Some(false), false) | (None, false) => {}
            (None, true) => journal.record(EventKind::Store, "connected", subject, "in step"),
            (Some(false), true) => journal.record(EventKind::Store, "back", subject, "in step again"),
            (Some(true), false) => {
                let problem = now.problem.as_deref().unwrap_or("no answer");
                journal.record(
                    EventKind::Store,
                    "away",
                    subject,
                    format!("what was known runs on: {problem}"),
                );
            }
        }
        // A store that was never connected has not been lost.
        if now.connected || connected.is_some() {
            connected = Some(now.connected);
        }
        if health.changed().await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use api::EventSource;
    use bgp::net::SessionError;

    use super::*;

    fn status(state: SessionState, established: u64, error: Option<&str>) -> PeerStatus {
        let at = SystemTime::UNIX_EPOCH;
        PeerStatus {
            state,
            since: at,
            negotiated: None,
            last_error: error.map(|text| SessionError { at, text: text.to_owned() }),
            established,
            update_errors: bgp::net::UpdateErrors::default(),
            retained_until: None,
            opens: None,
            traffic: Arc::default(),
        }
    }

    /// Lets all tasks run, then returns the recorded events.
    async fn recorded(journal: &JournalHandle) -> Vec<String> {
        tokio::time::sleep(Duration::from_millis(1)).await; // why: virtual time, which passes when all is at rest
        let history = journal.events(None, false).await.unwrap();
        history.events.iter().map(|event| format!("{} {}", event.what, event.text)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn session_changes_and_missed_flaps_are_recorded_with_reasons() {
        let journal = JournalHandle::start();
        let (sender, receiver) = watch::channel(status(SessionState::Idle, 0, None));
        tokio::spawn(record_peer(journal.clone(), "node-2".into(), "10.0.0.2".parse().unwrap(), receiver));
        assert_eq!(recorded(&journal).await, [""; 0]);
        sender.send_replace(status(SessionState::Active, 0, Some("connection refused")));
        recorded(&journal).await;
        sender.send_replace(status(SessionState::Connect, 0, Some("connection refused")));
        recorded(&journal).await;
        sender.send_replace(status(SessionState::Established, 1, Some("connection refused")));
        recorded(&journal).await;
        // The session goes down and up between two observations.
        sender.send_replace(status(SessionState::Established, 2, Some("hold timer expired")));
        recorded(&journal).await;
        sender.send_replace(status(SessionState::Idle, 2, Some("Cease")));
        recorded(&journal).await;
        sender.send_replace(status(SessionState::Idle, 3, Some("Cease again")));
        let all = recorded(&journal).await;
        assert_eq!(
            all,
            [
                "failed 10.0.0.2: connection refused",
                "up 10.0.0.2: Established",
                "down 10.0.0.2: hold timer expired",
                "up 10.0.0.2: Established",
                "down 10.0.0.2: Cease",
                "down 10.0.0.2: was Established for a moment: Cease again",
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn loss_and_return_of_the_store_are_recorded_once_each() {
        let journal = JournalHandle::start();
        let health = |connected, problem: Option<&str>| StoreHealth {
            connected,
            endpoint: "http://a:2379".into(),
            last_in_step: None,
            since: jiff::Timestamp::UNIX_EPOCH,
            problem: problem.map(ToOwned::to_owned),
            from_snapshot: false,
            relists: 0,
        };
        let (sender, receiver) = watch::channel(health(false, Some("no answer yet")));
        tokio::spawn(record_store(journal.clone(), receiver));
        for (connected, problem) in [
            (false, Some("no answer")),
            (true, None),
            (false, Some("refused")),
            (false, Some("still refused")),
            (true, None),
        ] {
            recorded(&journal).await;
            sender.send_replace(health(connected, problem));
        }
        let all = recorded(&journal).await;
        assert_eq!(all, ["connected in step", "away what was known runs on: refused", "back in step again"]);
    }
}
