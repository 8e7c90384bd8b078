//! Parameters of graceful restart (RFC 4724), also over NOTIFICATIONs (RFC 8538), and of long-lived
//! graceful restart (RFC 9494). See `retention` for how a [`Peer`](super::Peer) applies them.

use std::time::Instant;

use crate::types::Families;
use crate::wire::capability::{GracefulRestart, LongLived};

/// Graceful restart parameters of this speaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartConfig {
    /// Time that peers are asked to keep our routes, in seconds, 0 to 4095.
    pub restart_time: u16,
    /// Additional time that routes may be kept (RFC 9494), in seconds, 24 bits; 0: none.
    pub long_lived_stale_time: u32,
}

/// Graceful restart parameters negotiated for restarts of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GracefulParameters {
    /// Families whose routes the peer asks us to keep.
    pub families: Families,
    /// Families among them whose forwarding state the peer has preserved.
    pub forwarding: Families,
    /// Time that the peer asks us to keep its routes, in seconds.
    pub restart_time: u16,
    /// Both sides keep routes over NOTIFICATIONs too (RFC 8538).
    pub notification: bool,
    /// The peer has just restarted.
    pub restarting: bool,
    /// Parameters of long-lived graceful restart (RFC 9494).
    pub long_lived: LongLived,
}

impl GracefulParameters {
    /// Negotiates the parameters; returns `None` if one side did not announce the capability.
    pub(super) fn settle(
        ours: Option<GracefulRestart>,
        theirs: Option<GracefulRestart>,
        long_lived: [Option<LongLived>; 2],
        families: Families,
    ) -> Option<GracefulParameters> {
        let (ours, theirs) = (ours?, theirs?);
        let mut lasting = LongLived::default();
        if let [Some(ours), Some(theirs)] = long_lived {
            // RFC 9494 §4.2: the sender's time, unless the local configuration has a shorter one.
            for family in families.iter() {
                let at = family.index();
                if let (Some(time), Some(our), Some(their)) =
                    (lasting.stale_time.get_mut(at), ours.stale_time.get(at), theirs.stale_time.get(at))
                {
                    *time = (*our).min(*their);
                }
            }
            lasting.families = theirs.families.intersection(families);
            lasting.forwarding = theirs.forwarding;
        }
        Some(GracefulParameters {
            families: theirs.families.intersection(families),
            forwarding: theirs.forwarding.intersection(families),
            restart_time: theirs.restart_time,
            notification: ours.notification && theirs.notification,
            restarting: theirs.restarting,
            long_lived: lasting,
        })
    }
}

/// Treatment of the routes of a session that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Families whose routes are kept as stale.
    pub families: Families,
    /// Routes that were already stale are kept too (RFC 8538 §4.2); otherwise they are removed (RFC
    /// 4724 §4.2).
    pub older: bool,
    /// The peer stopped responding, so it may have stopped forwarding too.
    pub silent: bool,
}

/// Change in the treatment of stale routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StaleAction {
    /// Remove them: their time is over, or the peer did not preserve its forwarding state.
    Drop(Families),
    /// Treat them as long-lived stale routes from now on (RFC 9494 §4.3).
    LlgrStale(Families),
}

/// State of the retained routes of an earlier session.
#[derive(Clone, Copy, Debug)]
pub(super) struct RetainedRoutes {
    pub(super) families: Families,
    /// End of the current waiting time: the restart time,
    /// [`RESYNC_TIME`](super::retention::RESYNC_TIME) or the long-lived stale time.
    pub(super) until: Instant,
    /// Time at which the routes are removed even if the peer keeps restarting.
    pub(super) latest: Instant,
    /// Remaining long-lived stale time by family, in seconds.
    pub(super) long_lived: [u32; 2],
}
