//! The BGP-4 protocol (RFC 4271): wire format, session state machine and the TCP driver.
//!
//! * [`wire`] decodes without copying and encodes into buffers that are used again.
//! * [`session`] is the state machine: no sockets, no clock. `Peer::handle(input, now)` takes what
//!   happened, `poll_output()` says what to do, `deadline()` when to call again.
//! * `net` (feature `driver`) joins both to TCP.
//!
//! Knows no RIB and no kernel.

pub mod bfd;
#[cfg(feature = "driver")]
pub mod net;
pub mod session;
pub mod types;
pub mod wire;

pub use types::{AfiSafi, Asn, Families, Family, PeerId, RouterId};
