//! What the daemon deals with beside changed resources. Waiting for it may be broken off at any time, dealing with it may
//! not: half of what a drain or a withdrawn limit asks for is worse than none of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bgp::net::DynamicConnection;
use routing::limits::PrefixLimitReport;

use super::compose::Daemon;
use super::drain::DrainRequest;
use super::wait::{caught_up, next_of, sleep_until, whole};

/// Between two looks at who of the neighbours that came from a range is gone.
const NEIGHBOURS_LOOKED_AT: Duration = Duration::from_secs(5);
/// Calls from ranges dealt with at once, before `routectl` is told of the new neighbours.
const CALLS: usize = 64;

/// What has happened.
pub(super) enum Happening {
    /// All peers have told their routes, or were waited for long enough.
    Whole,
    /// This node has caught up with its peers after a restart.
    CaughtUp,
    /// More of the static table counts.
    StaticsDue,
    /// The next step of the drain is due.
    DrainDue,
    /// Somebody asks for a drain.
    DrainAsked(DrainRequest),
    /// A peer has sent as many prefixes as it may, or nearly.
    Limit(PrefixLimitReport),
    /// Somebody calls from a range.
    Called(Vec<DynamicConnection>),
    /// It is time to look who of the neighbours is gone.
    NeighboursDue,
}

impl Daemon {
    /// Waits for what is to be dealt with next. May be dropped, which loses nothing.
    pub(super) async fn next(&mut self) -> Happening {
        let look_at = Some(self.look_at).filter(|_| !self.neighbours.is_empty());
        let mut called = Vec::new();
        tokio::select! {
            () = whole(&mut self.whole) => Happening::Whole,
            () = caught_up(&mut self.caught_up) => Happening::CaughtUp,
            () = sleep_until(self.statics.deadline()) => Happening::StaticsDue,
            () = sleep_until(self.drain.deadline()) => Happening::DrainDue,
            Some(request) = self.drains.recv() => Happening::DrainAsked(request),
            Some(limit) = next_of(&mut self.limits) => Happening::Limit(limit),
            1.. = self.strangers.1.recv_many(&mut called, CALLS) => Happening::Called(called),
            () = sleep_until(look_at) => Happening::NeighboursDue,
        }
    }

    /// Deals with it. Not to be dropped half-way.
    pub(super) async fn deal_with(&mut self, happening: Happening) {
        match happening {
            Happening::Whole => {
                self.whole = None;
                self.in_sync = true;
                tracing::info!("in sync: the routes are whole");
                let _ = self.sync.try_send(());
                self.roster.send_modify(|roster| Arc::make_mut(roster).in_sync = true);
            }
            Happening::CaughtUp => {
                self.caught_up = None;
                self.restarted.send_replace(None);
                self.rib.hold_markers(false).await;
            }
            Happening::StaticsDue => self.originate_statics().await,
            Happening::DrainDue => self.go_on_draining().await,
            Happening::DrainAsked(request) => self.begin_drain(request).await,
            Happening::Limit(limit) => self.limit_reached(limit).await,
            Happening::Called(strangers) => self.called(strangers).await,
            Happening::NeighboursDue => {
                self.look_at = Instant::now() + NEIGHBOURS_LOOKED_AT;
                self.look_at_neighbours().await;
            }
        }
    }
}
