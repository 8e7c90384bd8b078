//! States of BGP and BFD sessions, as JSON names them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The state of a BGP session (RFC 4271 §8.2.2): the furthest state of any of the peer's
/// connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SessionState {
    /// Stopped: no connection is made or accepted.
    Idle,
    /// Waiting for a connection from the peer, or for the next attempt.
    Active,
    /// A connection attempt is under way.
    Connect,
    /// A connection is up and the OPEN is sent.
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

/// The state of a BFD session (RFC 5880 §4.1, `Sta`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BfdState {
    /// Held down by its operator.
    AdminDown,
    /// No packets arrive, or the other side reports that none arrive.
    Down,
    /// Packets arrive, but the other side has not confirmed ours.
    Init,
    /// Both sides receive packets.
    Up,
}

impl fmt::Display for BfdState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BfdState::AdminDown => "AdminDown",
            BfdState::Down => "Down",
            BfdState::Init => "Init",
            BfdState::Up => "Up",
        })
    }
}
