//! The session state machine (RFC 4271 §8), without sockets and without a clock.
//!
//! A [`Peer`] has two connection slots, one for the connection it opened and one for the connection
//! the peer opened. A connection collision (RFC 4271 §6.8) is therefore handled inside one state
//! machine.

pub mod fsm;
pub mod graceful;
pub mod negotiate;
pub mod peer;
pub mod retention;
pub mod state;
pub mod timers;

pub use fsm::{Admission, ReceivedUpdate};
pub use graceful::{GracefulParameters, RestartConfig, Retention, StaleAction};
pub use negotiate::SessionParameters;
pub use peer::{EndReason, Peer, PeerConfig, PeerInput, PeerOutput};
pub use state::{SessionState, Side};
