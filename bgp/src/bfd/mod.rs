//! Bidirectional Forwarding Detection (RFC 5880) in asynchronous mode: control packets and the
//! session state machine, without sockets and without a clock. `net::bfd` (feature `driver`)
//! connects them to UDP.
//!
//! Not implemented: demand mode, the echo function and authentication.

mod packet;
mod session;

pub use packet::{BfdState, ControlPacket, Diagnostic, DiscardReason, PACKET_LEN};
pub use session::{BfdOutput, BfdSession, BfdSessionConfig};
