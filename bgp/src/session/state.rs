//! Session states, each with the data that exists only in it.
//!
//! Transitions of one connection of a [`Peer`](super::Peer) (RFC 4271 §8.2.2):
//!
//! ```text
//!               Start (a passive peer: to Active)
//!   +------+ ----------------------> +-----------+   attempt failed   +--------+
//!   | Idle |                         |  Connect  | -----------------> | Active |
//!   +------+ <-- Stop (any state)    +-----------+ <----------------- +--------+
//!                                          |       ConnectRetryTimer   |    ^
//!               connected: send OPEN       |                           |    |
//!                                          v   connected: send OPEN    |    |
//!                                    +-----------+ <-------------------+    |
//!                                    | OpenSent  | -- error ----------------+
//!                                    +-----------+                          |
//!               OPEN: send KEEPALIVE       |                                |
//!                                          v                                |
//!                                   +-------------+                         |
//!                                   | OpenConfirm | -- error ---------------+
//!                                   +-------------+                         |
//!               KEEPALIVE                  |                                |
//!                                          v                                |
//!               KEEPALIVE, UPDATE,  +-------------+                         |
//!               ROUTE-REFRESH   +-- | Established | -- error ---------------+
//!                               +-> +-------------+
//!                            (the hold timer restarts)
//! ```
//!
//! `error` is a NOTIFICATION, the expiry of the hold timer, the end of the TCP connection, an invalid
//! or unexpected message, or a lost collision; in Established also the expiry of the send hold timer
//! (RFC 9687) and a failure that BFD detects (RFC 5882).
//!
//! Deviation: in RFC 4271 errors lead to Idle, which the speaker leaves again after a delay; see
//! [`fsm`](super::fsm). `bgp/tests/session_table.rs` has the result of every input in every state.

use std::fmt;
use std::time::Instant;

use super::negotiate::SessionParameters;

/// Session state of RFC 4271 §8.2.2. A peer has the most advanced state of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SessionState {
    /// Stopped: no connection is opened or accepted.
    Idle,
    /// Waiting for an incoming connection, and for the ConnectRetryTimer.
    Active,
    /// A connection attempt is in progress.
    Connect,
    /// A connection is open and our OPEN was sent.
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

/// One of the two possible connections with a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The connection that we opened.
    Outgoing,
    /// The connection that the peer opened.
    Incoming,
}

impl Side {
    /// Both sides.
    pub const ALL: [Side; 2] = [Side::Outgoing, Side::Incoming];

    /// Returns the other side.
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

/// Hold timer and keepalive timer; `None` if the negotiated hold time is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionTimers {
    pub(super) hold: Option<Instant>,
    pub(super) keepalive: Option<Instant>,
}

/// State of an open connection, with the data that exists only in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    OpenSent { hold: Instant },
    OpenConfirm { negotiated: SessionParameters, timers: SessionTimers },
    Established { negotiated: SessionParameters, timers: SessionTimers },
}

impl ConnectionState {
    pub(super) fn state(&self) -> SessionState {
        match self {
            ConnectionState::OpenSent { .. } => SessionState::OpenSent,
            ConnectionState::OpenConfirm { .. } => SessionState::OpenConfirm,
            ConnectionState::Established { .. } => SessionState::Established,
        }
    }

    pub(super) fn negotiated(&self) -> Option<&SessionParameters> {
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

/// State of dialing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dial {
    /// Not dialing: the peer is passive or stopped, or a connection is open.
    Off,
    /// Waiting until this time (the ConnectRetryTimer).
    At(Instant),
    /// An attempt is in progress; it is aborted at this time.
    Connecting { until: Instant },
}
