//! The events of the daemon's loop other than changed resources.
//!
//! The wait for an event may be cancelled at any time. The handling may not: half of a drain or of a lifted limit is
//! worse than none.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::net::DynamicConnection;
use routing::limits::PrefixLimitReport;
use timing::{optional, sleep_until};

use crate::daemon::Daemon;
use crate::daemon::drain::DrainRequest;

/// The interval at which dynamic neighbors that are gone are removed.
const NEIGHBOR_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Incoming connections from ranges that are handled at once, before `routectl` sees the new neighbors.
const CONNECTION_BATCH: usize = 64;

/// An event that the daemon handles.
pub(crate) enum DaemonEvent {
    /// All peers have sent their routes, or the wait for them ended.
    RoutesComplete,
    /// This node has caught up with its peers after a restart.
    CaughtUp,
    /// More blocks of the static table become paths.
    StaticsDue,
    /// The next step of the drain is due.
    DrainDue,
    /// A drain is requested.
    DrainRequest(DrainRequest),
    /// A peer has sent as many prefixes as it may, or nearly.
    Limit(PrefixLimitReport),
    /// Connections from a range of dynamic neighbors.
    Connections(Vec<DynamicConnection>),
    /// The check for dynamic neighbors that are gone is due.
    NeighborCheckDue,
}

impl Daemon {
    /// Waits for the next event. Safe to cancel.
    pub(crate) async fn next_event(&mut self) -> DaemonEvent {
        let check_at = Some(self.look_at).filter(|_| !self.neighbours.is_empty());
        let mut connections = Vec::new();
        tokio::select! {
            _ = optional(self.whole.as_mut().map(|whole| whole.recv())) => DaemonEvent::RoutesComplete,
            _ = optional(self.caught_up.as_mut().map(|(end, _)| end.recv())) => DaemonEvent::CaughtUp,
            () = sleep_until(self.statics.deadline()) => DaemonEvent::StaticsDue,
            () = sleep_until(self.drain.deadline()) => DaemonEvent::DrainDue,
            Some(request) = self.drains.recv() => DaemonEvent::DrainRequest(request),
            Some(limit) = optional(self.limits.as_mut().map(|limits| limits.recv())) => DaemonEvent::Limit(limit),
            1.. = self.strangers.1.recv_many(&mut connections, CONNECTION_BATCH) => {
                DaemonEvent::Connections(connections)
            }
            () = sleep_until(check_at) => DaemonEvent::NeighborCheckDue,
        }
    }

    /// Handles an event. Not safe to cancel.
    pub(crate) async fn handle(&mut self, event: DaemonEvent) {
        match event {
            DaemonEvent::RoutesComplete => {
                self.whole = None;
                self.in_sync = true;
                tracing::info!("in sync: all peers have sent their routes");
                let _ = self.sync.try_send(());
                self.roster.send_modify(|roster| Arc::make_mut(roster).in_sync = true);
            }
            DaemonEvent::CaughtUp => {
                self.caught_up = None;
                self.restarted.send_replace(None);
                self.rib.hold_markers(false).await;
            }
            DaemonEvent::StaticsDue => self.originate_statics().await,
            DaemonEvent::DrainDue => self.go_on_draining().await,
            DaemonEvent::DrainRequest(request) => self.begin_drain(request).await,
            DaemonEvent::Limit(limit) => self.limit_reached(limit).await,
            DaemonEvent::Connections(strangers) => self.called(strangers).await,
            DaemonEvent::NeighborCheckDue => {
                self.look_at = Instant::now() + NEIGHBOR_CHECK_INTERVAL;
                self.look_at_neighbours().await;
            }
        }
    }
}
