//! The driver: one task per peer, one for listening, and the trait that receives routes.

mod auth;
mod bfd;
mod event_sources;
mod listener;
mod peer;
mod peer_task;
mod sink;
mod socket;
mod traffic;
mod update_errors;

pub use auth::{Hops, Md5Key, PASSWORD_MAX, Password, Protection};
pub use bfd::{Bfd, BfdError, BfdPeer, BfdReport};
pub use listener::{DynamicConnection, Listener, ListenerError};
pub use peer::{BfdWatch, PeerAddress, PeerHandle, PeerStatus, RestartWatch, SessionError};
pub use peer_task::spawn_peer;
pub use sink::{OUTBOUND_CHUNKS, Outbound, RouteSink};
pub use traffic::{Traffic, TrafficFlow};
pub use update_errors::{UpdateError, UpdateErrors};
