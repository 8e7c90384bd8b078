//! What a session tells whoever keeps the routes.

use std::future::Future;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::session::{Negotiated, Retain, Stale};
use crate::types::Family;
use crate::wire::update::Update;

/// Chunks of whole messages that may wait for a peer's socket: with chunks of up to 64 KiB this
/// bounds what a slow peer costs to 4 MiB, and half as much again in its socket's queue, and is deep
/// enough to keep a fast one busy.
pub const OUTBOUND_CHUNKS: usize = 64;

/// Where whole, encoded messages for an Established session go; shared bytes, never copied.
pub type Outbound = mpsc::Sender<Bytes>;

/// Takes the routes of one session. `update` and `end_of_rib` only gather; `flush` hands over, and
/// nothing is read from the peer while something waits to be flushed.
pub trait RouteSink: Send + 'static {
    /// The session is Established; what is sent to `outbound` is written to the peer.
    fn established(&mut self, negotiated: Negotiated, outbound: Outbound) -> impl Future<Output = ()> + Send;
    /// Routes announced and withdrawn.
    fn update(&mut self, update: &Update<'_>);
    /// The peer has sent all its routes of a family (RFC 4724 §2).
    fn end_of_rib(&mut self, family: Family);
    /// The peer asks for all our routes of a family (RFC 2918).
    fn refresh(&mut self, family: Family);
    /// The peer will send all its routes of a family anew (RFC 7313); those that it does not are dropped
    /// by [`RouteSink::stale`].
    fn refresh_begins(&mut self, family: Family);
    /// What becomes of routes that wait to be sent again.
    fn stale(&mut self, stale: Stale);
    /// Whether something was gathered.
    fn pending(&self) -> bool;
    /// Hands over what was gathered; may be dropped and called again.
    fn flush(&mut self) -> impl Future<Output = ()> + Send;
    /// All that was sent to `outbound` is written.
    fn drained(&mut self);
    /// The session ended; `retain` says which of its routes are kept.
    fn down(&mut self, retain: Retain) -> impl Future<Output = ()> + Send;
}
