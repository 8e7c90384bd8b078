//! The states, each with the data that exists only in it.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::negotiate::Negotiated;

/// A state of RFC 4271 §8.2.2, as it is shown: the furthest that any connection of the peer got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SessionState {
    /// Stopped: no connection is made or accepted.
    Idle,
    /// Waiting for the peer to call, and for the time to call again.
    Active,
    /// Calling.
    Connect,
    /// A connection is up, our OPEN is sent.
    OpenSent,
    /// The peer's OPEN was accepted.
    OpenConfirm,
    /// Routes are exchanged.
    Established,
}

impl fmt::Display for SessionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Which of the two possible connections with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The one we dialled.
    Outgoing,
    /// The one the peer dialled.
    Incoming,
}

impl Side {
    /// Both.
    pub const ALL: [Side; 2] = [Side::Outgoing, Side::Incoming];

    /// The other one.
    pub const fn other(self) -> Side {
        match self {
            Side::Outgoing => Side::Incoming,
            Side::Incoming => Side::Outgoing,
        }
    }

    pub(super) const fn index(self) -> usize {
        match self {
            Side::Outgoing => 0,
            Side::Incoming => 1,
        }
    }
}

/// Hold and keepalive timers; `None` when the negotiated hold time is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionTimers {
    pub(super) hold: Option<Instant>,
    pub(super) keepalive: Option<Instant>,
}

/// A connection that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    OpenSent { hold: Instant },
    OpenConfirm { negotiated: Negotiated, timers: SessionTimers },
    Established { negotiated: Negotiated, timers: SessionTimers },
}

impl ConnectionState {
    pub(super) fn state(&self) -> SessionState {
        match self {
            ConnectionState::OpenSent { .. } => SessionState::OpenSent,
            ConnectionState::OpenConfirm { .. } => SessionState::OpenConfirm,
            ConnectionState::Established { .. } => SessionState::Established,
        }
    }

    pub(super) fn negotiated(&self) -> Option<&Negotiated> {
        match self {
            ConnectionState::OpenSent { .. } => None,
            ConnectionState::OpenConfirm { negotiated, .. }
            | ConnectionState::Established { negotiated, .. } => Some(negotiated),
        }
    }

    pub(super) fn timers_mut(&mut self) -> Option<&mut SessionTimers> {
        match self {
            ConnectionState::OpenSent { .. } => None,
            ConnectionState::OpenConfirm { timers, .. } | ConnectionState::Established { timers, .. } => {
                Some(timers)
            }
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        match self {
            ConnectionState::OpenSent { hold } => Some(*hold),
            ConnectionState::OpenConfirm { timers, .. } | ConnectionState::Established { timers, .. } => {
                [timers.hold, timers.keepalive].into_iter().flatten().min()
            }
        }
    }
}

/// What our side does about calling the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dial {
    /// Never, or not while another connection is up.
    Off,
    /// At this time (the ConnectRetryTimer).
    At(Instant),
    /// Now; given up at this time.
    Calling { until: Instant },
}
