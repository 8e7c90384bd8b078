//! Retention of a peer's routes after its session ended, as the receiving speaker: graceful restart
//! (RFC 4724), also over NOTIFICATIONs (RFC 8538), and long-lived graceful restart (RFC 9494).

use std::time::{Duration, Instant};

use super::graceful::{RetainedRoutes, Retention, StaleAction};
use super::negotiate::SessionParameters;
use super::peer::{EndReason, Peer, PeerOutput};
use crate::types::{Families, Family};
use crate::wire::error::ErrorCode;
use crate::wire::notification::Notification;

/// Time that a peer has after a restart to send all its routes, before those not sent again are
/// removed: sufficient for a slow speaker with a million routes.
pub const RESYNC_TIME: Duration = Duration::from_secs(360);
/// Upper limit of the restart time that a peer may request, in seconds, unless our own is longer:
/// stale routes may lead nowhere.
const LONGEST_WAIT: u16 = 300;
/// Maximum retention for a peer that restarts repeatedly, in restart times.
const PATIENCE: u32 = 4;

impl Peer {
    /// Sets whether this node has just restarted, and for which families it has preserved its
    /// forwarding state; `None` ends the restart. The following OPENs announce it.
    pub fn set_restarted(&mut self, forwarding: Option<Families>) {
        self.restarted = forwarding;
    }

    /// Returns the treatment of the routes of an Established session that ended.
    pub(super) fn retain(
        &mut self,
        negotiated: &SessionParameters,
        reason: &EndReason,
        now: Instant,
    ) -> Retention {
        self.refreshing = [None, None];
        let Some(graceful) = negotiated.graceful.filter(|_| self.running) else {
            return Retention::default();
        };
        let silent = matches!(
            reason,
            EndReason::HoldTimerExpired | EndReason::SendHoldTimerExpired | EndReason::BfdDown
        );
        let kept = match reason {
            EndReason::ConnectionClosed | EndReason::Reconfigured => true,
            EndReason::HoldTimerExpired
            | EndReason::SendHoldTimerExpired
            | EndReason::BfdDown
            | EndReason::ProtocolError(_) => graceful.notification,
            EndReason::Received(notification) => {
                graceful.notification && notification.code != ErrorCode::HARD_RESET
            }
            EndReason::Stopped(_) | EndReason::Restarting | EndReason::Collision => false,
        };
        if !kept || graceful.families.is_empty() {
            self.retained = None;
            return Retention::default();
        }
        let ours = self.config.restart.map_or(0, |restart| restart.restart_time);
        let wait = graceful.restart_time.min(ours.max(LONGEST_WAIT));
        let wait = Duration::from_secs(u64::from(wait));
        let older = self.retained.filter(|_| graceful.notification);
        let latest = older.map_or(now + wait * PATIENCE, |older| older.latest);
        self.retained = Some(RetainedRoutes {
            families: older.map_or(graceful.families, |older| older.families.union(graceful.families)),
            until: (now + wait).min(latest.max(now)),
            latest,
            long_lived: graceful.long_lived.stale_time,
        });
        Retention { families: graceful.families, older: graceful.notification, silent }
    }

    /// Continues the retention when the peer is back: routes that it did not preserve are removed,
    /// the others wait to be sent again.
    pub(super) fn resume_retained(&mut self, negotiated: &SessionParameters, now: Instant) {
        let Some(retained) = &mut self.retained else { return };
        let kept = negotiated.graceful.map_or(Families::NONE, |graceful| {
            graceful.families.intersection(graceful.forwarding.union(graceful.long_lived.forwarding))
        });
        let dropped = retained.families.without(kept);
        retained.families = retained.families.intersection(kept);
        retained.until = now + RESYNC_TIME;
        retained.long_lived = [0, 0];
        if retained.families.is_empty() {
            self.retained = None;
        }
        if !dropped.is_empty() {
            self.push_output(PeerOutput::Stale(StaleAction::Drop(dropped)));
        }
    }

    /// Ends the retention of a family after its End-of-RIB marker.
    pub(super) fn end_of_rib_received(&mut self, family: Family) {
        if let Some(retained) = &mut self.retained {
            retained.families.remove(family);
            if retained.families.is_empty() {
                self.retained = None;
            }
        }
    }

    pub(super) fn retained_timer(&mut self, now: Instant) {
        let Some(retained) = self.retained.filter(|retained| retained.until <= now) else { return };
        let mut lasting = Families::NONE;
        let mut time = u32::MAX;
        for family in retained.families.iter() {
            match retained.long_lived.get(family.index()) {
                Some(stale_time) if *stale_time > 0 => {
                    lasting.insert(family);
                    time = time.min(*stale_time);
                }
                _ => {}
            }
        }
        let dropped = retained.families.without(lasting);
        if !dropped.is_empty() {
            self.push_output(PeerOutput::Stale(StaleAction::Drop(dropped)));
        }
        self.retained = (!lasting.is_empty()).then(|| {
            // Families may have different times; the longer ones continue after this one.
            let more = retained.long_lived.map(|stale_time| stale_time.saturating_sub(time));
            let until = now + Duration::from_secs(u64::from(time));
            RetainedRoutes { families: lasting, until, latest: until, long_lived: more }
        });
        if !lasting.is_empty() {
            self.push_output(PeerOutput::Stale(StaleAction::LlgrStale(lasting)));
        }
    }

    /// Processes a ROUTE-REFRESH marker: the routes between two markers replace all routes of the
    /// family (RFC 7313 §4).
    pub(super) fn refresh_marker(&mut self, family: Family, begins: bool, now: Instant) {
        // The initial exchange after a restart is still in progress, and replaces the routes
        // anyway.
        if self.retained.is_some_and(|retained| retained.families.contains(family)) {
            return;
        }
        let Some(until) = self.refreshing.get_mut(family.index()) else { return };
        if begins {
            *until = Some(now + RESYNC_TIME);
            self.push_output(PeerOutput::RefreshBegins(family));
        } else if until.take().is_some() {
            self.push_output(PeerOutput::Stale(StaleAction::Drop(family.into())));
        }
    }

    pub(super) fn refreshing_timer(&mut self, now: Instant) {
        for family in Family::ALL {
            let Some(until) = self.refreshing.get_mut(family.index()) else { continue };
            if until.is_some_and(|until| until <= now) {
                *until = None;
                self.push_output(PeerOutput::Stale(StaleAction::Drop(family.into())));
            }
        }
    }

    /// Ends the retention of all routes.
    pub(super) fn drop_retained(&mut self) {
        if let Some(retained) = self.retained.take() {
            self.push_output(PeerOutput::Stale(StaleAction::Drop(retained.families)));
        }
    }
}

/// Returns the NOTIFICATION that ends a session for good: inside a Hard Reset for a peer that would
/// keep our routes otherwise (RFC 8538 §3.1).
pub(super) fn hard_reset(notification: Notification, negotiated: Option<&SessionParameters>) -> Notification {
    if !negotiated.and_then(|negotiated| negotiated.graceful).is_some_and(|graceful| graceful.notification) {
        return notification;
    }
    let mut data = vec![notification.code.code, notification.code.subcode];
    data.extend_from_slice(&notification.data);
    Notification { code: ErrorCode::HARD_RESET, data }
}

/// Returns the NOTIFICATION for the end of a session over which routes are to be kept: `soft` for a
/// peer that keeps them over a NOTIFICATION; none for one that keeps them only if TCP just closes
/// (RFC 4724 §4); a Cease with this code for others.
pub(super) fn restart_notification(
    negotiated: Option<&SessionParameters>,
    soft: Notification,
    cease: ErrorCode,
) -> Option<Notification> {
    match negotiated.and_then(|negotiated| negotiated.graceful) {
        Some(graceful) if graceful.notification => Some(soft),
        Some(_) => None,
        None => Some(Notification::new(cease)),
    }
}
