//! Interface between a session and the RIB.

use std::future::Future;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::session::{Retention, SessionParameters, StaleAction};
use crate::types::Family;
use crate::wire::update::UpdateMessage;

/// Capacity of the channel of message chunks for a peer's socket. With chunks of up to 64 KiB this
/// limits the memory of a slow peer to 4 MiB (plus half as much in the socket's queue), and
/// suffices to keep a fast peer busy.
pub const OUTBOUND_CHUNKS: usize = 64;

/// Sender for whole, encoded messages of an Established session; the bytes are shared, never
/// copied.
pub type Outbound = mpsc::Sender<Bytes>;

/// Receiver of the routes of one session. `update` and `end_of_rib` only gather; `flush` hands
/// over, and nothing is read from the peer while something waits to be flushed.
pub trait RouteSink: Send + 'static {
    /// Processes the start of a session; chunks sent to `outbound` are written to the peer.
    fn established(
        &mut self,
        negotiated: SessionParameters,
        outbound: Outbound,
    ) -> impl Future<Output = ()> + Send;
    /// Processes announced and withdrawn routes.
    fn update(&mut self, update: &UpdateMessage<'_>);
    /// Processes an End-of-RIB marker (RFC 4724 §2).
    fn end_of_rib(&mut self, family: Family);
    /// Processes a request for all routes of a family (RFC 2918).
    fn refresh(&mut self, family: Family);
    /// Processes the beginning of an answer with all routes of a family (RFC 7313). Routes that are
    /// not in it are dropped by [`RouteSink::stale`].
    fn refresh_begins(&mut self, family: Family);
    /// Processes a change in the treatment of stale routes.
    fn stale(&mut self, stale: StaleAction);
    /// Returns whether gathered routes wait to be handed over.
    fn pending(&self) -> bool;
    /// Hands over the gathered routes; may be cancelled and called again.
    fn flush(&mut self) -> impl Future<Output = ()> + Send;
    /// Called when all chunks sent to `outbound` are written.
    fn drained(&mut self);
    /// Processes the end of the session; `retain` says which of its routes are kept.
    fn down(&mut self, retain: Retention) -> impl Future<Output = ()> + Send;
}
