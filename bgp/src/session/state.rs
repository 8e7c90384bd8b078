//! Session states, each with the data that exists only in it.
//!
//! The transitions of RFC 4271 §8.2.2, for one connection of a [`Peer`](super::Peer). The labels
//! are the inputs; the other inputs do not change the state.
//!
//! ```text
//!                        Start                      TCP connection fails,
//!            +------+  (passive: to Active)         CONNECT_TIMEOUT
//!  Stop  --> | Idle | -----------------> +---------+ --------------> +--------+
//! (from any  +------+                    | Connect |                 | Active |
//!   state)                               +---------+ <-------------- +--------+
//!                                             |      ConnectRetryTimer |   ^
//!                       outgoing or incoming  |                        |   |
//!                       connection: send OPEN |   incoming connection: |   |
//!                                             v              send OPEN |   |
//!                                       +----------+ <-----------------+   |
//!                                       | OpenSent | ----------------------+
//!                                       +----------+                       |
//!                        OPEN accepted:       |                            |
//!                        send KEEPALIVE       v                            |
//!                                      +-------------+                     |
//!                                      | OpenConfirm | --------------------+
//!                                      +-------------+   NOTIFICATION,     |
//!                        KEEPALIVE            |          hold timer,       |
//!                                             v          TCP closed, error,|
//!                                      +-------------+   lost collision    |
//!              KEEPALIVE, UPDATE: +--> | Established | --------------------+
//!              restart hold timer |    +-------------+   (also BFD, send hold timer)
//!                                 +---------|
//! ```
//!
//! Deviation: the three arrows back lead to Idle in RFC 4271, which leaves it again automatically
//! after a delay; see [`fsm`](super::fsm). `bgp/tests/session_table.rs` has every pair of state and
//! input.

use std::fmt;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::negotiate::Negotiated;

/// Session state of RFC 4271 §8.2.2. A peer has the most advanced state of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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
