//! What becomes of a peer's routes when its session ends: graceful restart (RFC 4724), also over
//! NOTIFICATIONs (RFC 8538), and long-lived graceful restart (RFC 9494), as the one that stays up.

use std::time::{Duration, Instant};

use super::graceful::{Retain, Retained, Stale};
use super::negotiate::Negotiated;
use super::peer::{EndReason, Peer, PeerOutput};
use crate::types::{Families, Family};
use crate::wire::error::ErrorCode;
use crate::wire::notification::Notification;

/// How long a peer that is back may take until it has sent all its routes, before those that it has
/// not sent again go: what a million routes take even a slow speaker.
pub const RESYNC_TIME: Duration = Duration::from_secs(360);
/// A peer that asks to be waited for longer, in seconds, is not, unless we ask for as much: its routes may
/// lead nowhere.
const LONGEST_WAIT: u16 = 300;
/// Restart times that a peer which restarts again and again is waited for at most.
const PATIENCE: u32 = 4;

impl Peer {
    /// Whether this node has just restarted, and for which families it still forwards as it did
    /// before; `None` once its peers have told it all they know. Says so in OPENs from now on.
    pub fn set_restarted(&mut self, forwarding: Option<Families>) {
        self.restarted = forwarding;
    }

    /// A session that was Established has ended: what becomes of its routes.
    pub(super) fn retain(&mut self, negotiated: &Negotiated, reason: &EndReason, now: Instant) -> Retain {
        self.refreshing = [None, None];
        let Some(graceful) = negotiated.graceful.filter(|_| self.running) else { return Retain::default() };
        let silent = matches!(
            reason,
            EndReason::HoldTimerExpired | EndReason::SendHoldTimerExpired | EndReason::BfdDown
        );
        let kept = match reason {
            EndReason::ConnectionClosed | EndReason::Reconfigured => true,
            EndReason::HoldTimerExpired
            | EndReason::SendHoldTimerExpired
            | EndReason::BfdDown
            | EndReason::Refused(_) => graceful.notification,
            EndReason::Received(notification) => {
                graceful.notification && notification.code != ErrorCode::HARD_RESET
            }
            EndReason::Stopped(_) | EndReason::Restarting | EndReason::Collision => false,
        };
        if !kept || graceful.families.is_empty() {
            self.retained = None;
            return Retain::default();
        }
        let ours = self.config.restart.map_or(0, |restart| restart.restart_time);
        let wait = graceful.restart_time.min(ours.max(LONGEST_WAIT));
        let wait = Duration::from_secs(u64::from(wait));
        let older = self.retained.filter(|_| graceful.notification);
        let latest = older.map_or(now + wait * PATIENCE, |older| older.latest);
        self.retained = Some(Retained {
            families: older.map_or(graceful.families, |older| older.families.union(graceful.families)),
            until: (now + wait).min(latest.max(now)),
            latest,
            long_lived: graceful.long_lived.stale_time,
        });
        Retain { families: graceful.families, older: graceful.notification, silent }
    }

    /// The peer is back: what it has not kept goes, the rest waits to be sent again.
    pub(super) fn resume_retained(&mut self, negotiated: &Negotiated, now: Instant) {
        let Some(retained) = &mut self.retained else { return };
        let kept = negotiated.graceful.map_or(Families::NONE, |graceful| {
            graceful.families.intersection(graceful.forwarding.union(graceful.long_lived.forwarding))
        });
        let gone = retained.families.without(kept);
        retained.families = retained.families.intersection(kept);
        retained.until = now + RESYNC_TIME;
        retained.long_lived = [0, 0];
        if retained.families.is_empty() {
            self.retained = None;
        }
        if !gone.is_empty() {
            self.push_output(PeerOutput::Stale(Stale::Drop(gone)));
        }
    }

    /// The peer has sent all its routes of a family, so nothing of it is stale any more.
    pub(super) fn resynced(&mut self, family: Family) {
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
        let gone = retained.families.without(lasting);
        if !gone.is_empty() {
            self.push_output(PeerOutput::Stale(Stale::Drop(gone)));
        }
        self.retained = (!lasting.is_empty()).then(|| {
            // Families may differ in their times; those that last longer come round again.
            let more = retained.long_lived.map(|stale_time| stale_time.saturating_sub(time));
            let until = now + Duration::from_secs(u64::from(time));
            Retained { families: lasting, until, latest: until, long_lived: more }
        });
        if !lasting.is_empty() {
            self.push_output(PeerOutput::Stale(Stale::LlgrStale(lasting)));
        }
    }

    /// RFC 7313 §4: what the peer sends between two markers is all that it has of a family.
    pub(super) fn refreshed(&mut self, family: Family, begins: bool, now: Instant) {
        // Until it has sent all after a restart, that is what is waited for.
        if self.retained.is_some_and(|retained| retained.families.contains(family)) {
            return;
        }
        let Some(until) = self.refreshing.get_mut(family.index()) else { return };
        if begins {
            *until = Some(now + RESYNC_TIME);
            self.push_output(PeerOutput::RefreshBegins(family));
        } else if until.take().is_some() {
            self.push_output(PeerOutput::Stale(Stale::Drop(family.into())));
        }
    }

    pub(super) fn refreshing_timer(&mut self, now: Instant) {
        for family in Family::ALL {
            let Some(until) = self.refreshing.get_mut(family.index()) else { continue };
            if until.is_some_and(|until| until <= now) {
                *until = None;
                self.push_output(PeerOutput::Stale(Stale::Drop(family.into())));
            }
        }
    }

    /// Nothing is kept any more.
    pub(super) fn drop_retained(&mut self) {
        if let Some(retained) = self.retained.take() {
            self.push_output(PeerOutput::Stale(Stale::Drop(retained.families)));
        }
    }
}

/// The NOTIFICATION with which a session ends for good: towards a peer that would keep our routes over
/// one, inside a Hard Reset (RFC 8538 §3.1).
pub(super) fn hard_reset(notification: Notification, negotiated: Option<&Negotiated>) -> Notification {
    if !negotiated.and_then(|negotiated| negotiated.graceful).is_some_and(|graceful| graceful.notification) {
        return notification;
    }
    let mut data = vec![notification.code.code, notification.code.subcode];
    data.extend_from_slice(&notification.data);
    Notification { code: ErrorCode::HARD_RESET, data }
}

/// What to say when a session ends and routes are to be kept over that: `soft` to a peer that keeps them
/// over a NOTIFICATION, nothing to one that keeps them only if TCP just ends (RFC 4724 §4), and to others
/// a Cease of this code.
pub(super) fn restart_notification(
    negotiated: Option<&Negotiated>,
    soft: Notification,
    cease: ErrorCode,
) -> Option<Notification> {
    match negotiated.and_then(|negotiated| negotiated.graceful) {
        Some(graceful) if graceful.notification => Some(soft),
        Some(_) => None,
        None => Some(Notification::new(cease)),
    }
}
