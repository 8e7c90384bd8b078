//! The events of the daemon's loop other than changed resources.
//!
//! The wait for an event may be cancelled at any time. The handling must not be cancelled: a drain
//! or a lifted limit that is applied by half leaves the daemon in a state that no event repairs.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::net::DynamicConnection;
use routing::limits::PrefixLimitReport;
use timing::{optional, sleep_until};

use crate::daemon::Daemon;
use crate::daemon::drain::DrainRequest;

/// The interval at which dynamic neighbors without a session are checked for expiry.
const NEIGHBOR_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Incoming connections from ranges that are handled at once, before `routectl` sees the new
/// neighbors.
const CONNECTION_BATCH: usize = 64;

/// An event that the daemon handles.
pub(crate) enum DaemonEvent {
    /// All peers have sent their routes, or the wait for them has timed out.
    RoutesComplete,
    /// This node has caught up with its peers after a restart.
    CaughtUp,
    /// More blocks of the static table become paths.
    StaticPathsDue,
    /// The next step of the drain is due.
    DrainDue,
    /// A drain is requested.
    DrainRequest(DrainRequest),
    /// A peer approaches or exceeds its maximum of prefixes.
    PrefixLimit(PrefixLimitReport),
    /// Connections from a range of dynamic neighbors.
    Connections(Vec<DynamicConnection>),
    /// The check for dynamic neighbors without a session is due.
    NeighborCheckDue,
}

impl Daemon {
    /// Waits for the next event. Safe to cancel.
    pub(crate) async fn next_event(&mut self) -> DaemonEvent {
        let check_at = Some(self.neighbor_check_at).filter(|_| !self.neighbors.is_empty());
        let mut connections = Vec::new();
        tokio::select! {
            _ = optional(self.routes_complete.as_mut().map(|complete| complete.recv())) => {
                DaemonEvent::RoutesComplete
            }
            _ = optional(self.caught_up.as_mut().map(|(end, _)| end.recv())) => DaemonEvent::CaughtUp,
            () = sleep_until(self.static_table.deadline()) => DaemonEvent::StaticPathsDue,
            () = sleep_until(self.drain.deadline()) => DaemonEvent::DrainDue,
            Some(request) = self.drain_requests.recv() => DaemonEvent::DrainRequest(request),
            Some(limit) = optional(self.limits.as_mut().map(|limits| limits.recv())) => {
                DaemonEvent::PrefixLimit(limit)
            }
            1.. = self.dynamic_connections.1.recv_many(&mut connections, CONNECTION_BATCH) => {
                DaemonEvent::Connections(connections)
            }
            () = sleep_until(check_at) => DaemonEvent::NeighborCheckDue,
        }
    }

    /// Handles an event. Not safe to cancel.
    pub(crate) async fn handle(&mut self, event: DaemonEvent) {
        match event {
            DaemonEvent::RoutesComplete => {
                self.routes_complete = None;
                self.in_sync = true;
                tracing::info!("in sync: all peers have sent their routes");
                let _ = self.sync.try_send(());
                self.state.send_modify(|state| Arc::make_mut(state).in_sync = true);
            }
            DaemonEvent::CaughtUp => {
                self.caught_up = None;
                self.restarted.send_replace(None);
                self.rib.hold_markers(false).await;
            }
            DaemonEvent::StaticPathsDue => self.originate_static_paths().await,
            DaemonEvent::DrainDue => self.advance_drain().await,
            DaemonEvent::DrainRequest(request) => self.begin_drain(request).await,
            DaemonEvent::PrefixLimit(report) => self.handle_prefix_limit(report).await,
            DaemonEvent::Connections(connections) => self.accept_connections(connections).await,
            DaemonEvent::NeighborCheckDue => {
                self.neighbor_check_at = Instant::now() + NEIGHBOR_CHECK_INTERVAL;
                self.expire_neighbors().await;
            }
        }
    }
}
