//! Routes of a peer that are kept when its session ends: graceful restart (RFC 4724), also over
//! NOTIFICATIONs (RFC 8538), and long-lived graceful restart (RFC 9494). The types; see
//! `retention` for what a [`Peer`](super::Peer) does with them.

use std::time::Instant;

use crate::types::Families;
use crate::wire::capability::{GracefulRestart, LongLived};

/// What we tell peers about our own restarts, and what we do about theirs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestartConfig {
    /// How long peers are asked to wait for us, in seconds, 0 to 4095.
    pub restart_time: u16,
    /// How long routes may be kept beyond that (RFC 9494), in seconds, 24 bits; 0: not at all.
    pub long_lived_stale_time: u32,
}

/// What two OPENs settle about restarts of the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Graceful {
    /// The families whose routes it asks to be kept.
    pub families: Families,
    /// Those of them whose forwarding state it has kept.
    pub forwarding: Families,
    /// How long it asks to be waited for, in seconds.
    pub restart_time: u16,
    /// Both keep routes over NOTIFICATIONs too (RFC 8538).
    pub notification: bool,
    /// It has just restarted.
    pub restarting: bool,
    /// How much longer its routes may be kept (RFC 9494).
    pub long_lived: LongLived,
}

impl Graceful {
    /// From what both said; `None` where one said nothing.
    pub(super) fn settle(
        ours: Option<GracefulRestart>,
        theirs: Option<GracefulRestart>,
        long_lived: [Option<LongLived>; 2],
        families: Families,
    ) -> Option<Graceful> {
        let (ours, theirs) = (ours?, theirs?);
        let mut lasting = LongLived::default();
        if let [Some(ours), Some(theirs)] = long_lived {
            // RFC 9494 §4.2: the sender's time, unless the local configuration says less.
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
        Some(Graceful {
            families: theirs.families.intersection(families),
            forwarding: theirs.forwarding.intersection(families),
            restart_time: theirs.restart_time,
            notification: ours.notification && theirs.notification,
            restarting: theirs.restarting,
            long_lived: lasting,
        })
    }
}

/// What to do with the routes of a session that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retain {
    /// The families whose routes are kept, as stale.
    pub families: Families,
    /// Those that were stale already are kept too (RFC 8538 §4.2); else they go (RFC 4724 §4.2).
    pub older: bool,
    /// Nothing was heard of the peer any more, so that it may not forward either.
    pub silent: bool,
}

/// What to do with routes that are stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// They have waited long enough, or the peer did not keep them.
    Drop(Families),
    /// From now on they are a last resort (RFC 9494 §4.3).
    LlgrStale(Families),
}

/// Routes of an earlier session that are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Retained {
    pub(super) families: Families,
    /// Until when; [`RESYNC_TIME`](super::retention::RESYNC_TIME) or the stale time once one is what is waited for.
    pub(super) until: Instant,
    /// When they go even if the peer keeps restarting.
    pub(super) latest: Instant,
    /// How long more they are a last resort, by family, in seconds.
    pub(super) long_lived: [u32; 2],
}
