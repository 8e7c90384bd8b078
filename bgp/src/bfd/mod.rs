//! Bidirectional forwarding detection (RFC 5880), asynchronous mode: control packets and the session state
//! machine, without sockets and without a clock. `net::bfd` (feature `driver`) joins them to UDP.

mod packet;
mod session;

pub use packet::{BfdState, ControlPacket, Diagnostic, Discard, PACKET_LEN};
pub use session::{BfdOutput, BfdSession, BfdSessionConfig};
