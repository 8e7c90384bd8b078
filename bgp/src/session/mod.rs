//! The session state machine (RFC 4271 §8), without sockets and without a clock.
//!
//! A [`Peer`] has two slots, one for the connection it dialled and one for the connection it was
//! called by, so that a collision (RFC 4271 §6.8) is a matter of one state, not of two machines.

pub mod fsm;
pub mod graceful;
pub mod negotiate;
pub mod peer;
pub mod retention;
pub mod state;
pub mod timers;

pub use fsm::{Admission, ReceivedUpdate};
pub use graceful::{Graceful, RestartConfig, Retain, Stale};
pub use negotiate::Negotiated;
pub use peer::{EndReason, Peer, PeerConfig, PeerInput, PeerOutput};
pub use state::{SessionState, Side};
pub(crate) use timers::TimerJitter;
